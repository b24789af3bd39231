//! Stage 2: whether they may.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::{NonResourceRule, ResourceRule, SubjectRulesReviewStatus};

use crate::{
    error::ApiError,
    request::{Target, UserInfo, Verb},
};

/// What is asked, as far as authorization sees it.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// What is asked.
    pub action: Action<'a>,
}

/// An action on a resource, or on a path that is none.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// On a resource.
    Resource {
        /// The verb.
        verb: Verb,
        /// The resource, perhaps one object, perhaps a subresource.
        target: &'a Target,
    },
    /// On a path such as `/apis` or `/healthz`; only reads.
    Path(&'a str),
}

/// Decides who may do what.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Whether it is allowed. What is not allowed is refused.
    async fn allows(&self, attributes: &Attributes<'_>) -> bool;

    /// What a user may do in a namespace (and everywhere), as a list for people. All that it names is
    /// allowed; if it cannot name all that is, it says that it is incomplete. It decides nothing.
    async fn rules(&self, user: &UserInfo, namespace: &str) -> SubjectRulesReviewStatus;
}

/// Refuses with 403 what the authorizer does not allow.
pub(super) async fn check(
    authorizer: &Arc<dyn Authorizer>,
    user: &UserInfo,
    action: Action<'_>,
) -> Result<(), ApiError> {
    if authorizer.allows(&Attributes { user, action }).await {
        return Ok(());
    }
    Err(forbidden(user, action))
}

/// Kubernetes' sentence on who may not do what.
fn forbidden(user: &UserInfo, action: Action<'_>) -> ApiError {
    let who = &user.name;
    match action {
        Action::Path(path) => ApiError::Forbidden {
            group: String::new(),
            resource: String::new(),
            name: String::new(),
            message: format!("forbidden: User {who:?} cannot get path {path:?}"),
            causes: Vec::new(),
        },
        Action::Resource { verb, target } => {
            let Target { group, resource, .. } = target;
            let resource = match &target.subresource {
                Some(subresource) => format!("{resource}/{subresource}"),
                None => resource.clone(),
            };
            let qualified = if group.is_empty() {
                target.resource.clone()
            } else {
                format!("{}.{group}", target.resource)
            };
            let name = target.name.clone().unwrap_or_default();
            let subject = if name.is_empty() { qualified } else { format!("{qualified} {name:?}") };
            let place = match target.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
                Some(namespace) => format!("in the namespace {namespace:?}"),
                None => "at the cluster scope".to_owned(),
            };
            ApiError::Forbidden {
                group: group.clone(),
                resource: target.resource.clone(),
                message: format!(
                    "{subject} is forbidden: User {who:?} cannot {verb} resource {resource:?} in API group \
                     {group:?} {place}"
                ),
                name,
                causes: Vec::new(),
            }
        }
    }
}

/// Allows everything; for a test, or a host that authorizes elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

#[async_trait]
impl Authorizer for AllowAll {
    async fn allows(&self, _: &Attributes<'_>) -> bool {
        true
    }

    async fn rules(&self, _: &UserInfo, _: &str) -> SubjectRulesReviewStatus {
        let all = || vec!["*".to_owned()];
        let (groups, resources) = (Some(all()), Some(all()));
        SubjectRulesReviewStatus {
            resource_rules: vec![ResourceRule {
                api_groups: groups,
                resources,
                verbs: all(),
                ..ResourceRule::default()
            }],
            non_resource_rules: vec![NonResourceRule { non_resource_urls: Some(all()), verbs: all() }],
            ..SubjectRulesReviewStatus::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::FixedTable;

    fn pods(subresource: Option<&str>) -> Target {
        Target {
            version: "v1".into(),
            resource: "pods".into(),
            namespace: Some("default".into()),
            name: Some("x".into()),
            subresource: subresource.map(Into::into),
            ..Target::default()
        }
    }

    async fn may(user: &UserInfo, verb: Verb, target: &Target) -> Result<(), ApiError> {
        let table: Arc<dyn Authorizer> = Arc::new(FixedTable);
        check(&table, user, Action::Resource { verb, target }).await
    }

    #[tokio::test]
    async fn strangers_are_refused_in_kubernetes_words() {
        let stranger = UserInfo::component("u");
        let refused = may(&stranger, Verb::Get, &pods(None)).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "pods \"x\" is forbidden: User \"u\" cannot get resource \"pods\" in API group \"\" in the namespace \
             \"default\""
        );
        let mut target = Target { group: "apps".into(), resource: "deployments".into(), ..Target::default() };
        target.subresource = Some("scale".into());
        assert_eq!(
            may(&stranger, Verb::List, &target).await.unwrap_err().to_string(),
            "deployments.apps is forbidden: User \"u\" cannot list resource \"deployments/scale\" in API group \
             \"apps\" at the cluster scope"
        );
        let table: Arc<dyn Authorizer> = Arc::new(FixedTable);
        assert!(check(&table, &stranger, Action::Path("/apis")).await.is_ok());
        let nobody = UserInfo { name: "n".into(), ..UserInfo::default() };
        let refused = check(&table, &nobody, Action::Path("/apis")).await.unwrap_err();
        assert_eq!(refused.to_string(), "forbidden: User \"n\" cannot get path \"/apis\"");
    }
}
