//! Which service accounts a namespace lacks.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::facts;

/// The accounts that every active namespace has.
pub const ACCOUNTS: [&str; 1] = ["default"];

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make an account.
    Create(Box<ServiceAccount>),
}

/// Makes what is missing, unless the namespace goes away.
pub fn plan(namespace: &Namespace, present: &BTreeSet<&str>) -> Vec<Action> {
    if !facts::is_active_namespace(namespace) {
        return Vec::new();
    }
    let missing = ACCOUNTS.iter().filter(|name| !present.contains(*name));
    missing
        .map(|name| {
            Action::Create(Box::new(ServiceAccount {
                metadata: ObjectMeta {
                    name: Some((*name).to_owned()),
                    namespace: namespace.metadata.name.clone(),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn an_active_namespace_has_its_account() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("a".into());
        let [Action::Create(account)] = &plan(&namespace, &BTreeSet::new())[..] else { panic!() };
        assert_eq!(account.metadata.name.as_deref(), Some("default"));
        assert_eq!(account.metadata.namespace.as_deref(), Some("a"));
        assert_eq!(plan(&namespace, &BTreeSet::from(["default"])), []);
        namespace.metadata.deletion_timestamp = Some(Time(Default::default()));
        assert_eq!(plan(&namespace, &BTreeSet::new()), []);
    }
}
