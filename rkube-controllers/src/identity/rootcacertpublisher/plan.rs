//! What the config map of a namespace should hold.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::facts;

/// The config map's name.
pub const NAME: &str = "kube-root-ca.crt";
/// The key of the certificates.
pub const KEY: &str = "ca.crt";

/// The annotation that says what the config map is for, and what it says.
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such \
     as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions \
     of Kubernetes clusters.",
);

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make it.
    Create(Box<ConfigMap>),
    /// Set it right.
    Update(Box<ConfigMap>),
}

/// Makes what is missing and undoes what others have changed, unless the namespace goes away.
pub fn plan(namespace: &Namespace, found: Option<&ConfigMap>, authority: &str) -> Option<Action> {
    if !facts::is_active_namespace(namespace) {
        return None;
    }
    let mut wanted = found.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: namespace.metadata.name.clone(),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    wanted.data = Some(BTreeMap::from([(KEY.into(), authority.into())]));
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    annotations.insert(DESCRIPTION.0.into(), DESCRIPTION.1.into());
    match found {
        None => Some(Action::Create(Box::new(wanted))),
        Some(found) => (*found != wanted).then(|| Action::Update(Box::new(wanted))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn namespace(phase: &str) -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("a".into());
        namespace.status.get_or_insert_default().phase = Some(phase.into());
        namespace
    }

    proptest! {
        /// Whatever others make of it, one step sets it right, and then it rests; what is theirs stays.
        #[test]
        fn one_step_sets_it_right(
            data in prop::option::of(prop::collection::btree_map("[a-c]|ca.crt", "[x-z]", 0..3)),
            notes in prop::option::of(prop::collection::btree_map("[a-c]|kubernetes.io/description", "[x-z]", 0..3)),
            exists in any::<bool>(),
        ) {
            let mut map = ConfigMap { data, ..ConfigMap::default() };
            map.metadata.annotations = notes.clone();
            let found = exists.then_some(&map);
            let Some(Action::Create(after) | Action::Update(after)) = plan(&namespace("Active"), found, "pem") else {
                panic!("nothing to do for {map:?}")
            };
            prop_assert_eq!(after.data.as_ref().unwrap(), &BTreeMap::from([(KEY.to_owned(), "pem".to_owned())]));
            prop_assert_eq!(plan(&namespace("Active"), Some(&after), "pem"), None);
            let kept = after.metadata.annotations.unwrap();
            let theirs = notes.filter(|_| exists).unwrap_or_default();
            prop_assert!(theirs.iter().all(|(key, value)| key == DESCRIPTION.0 || kept.get(key) == Some(value)));
        }
    }

    #[test]
    fn a_namespace_that_goes_away_gets_none() {
        assert_eq!(plan(&namespace("Terminating"), None, "pem"), None);
    }
}
