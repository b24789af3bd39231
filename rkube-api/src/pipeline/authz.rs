//! Stage 2: whether they may.

use std::sync::Arc;

use async_trait::async_trait;

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
}

/// The fixed rights of the control plane's components; `system:masters` may do everything, and every
/// authenticated user may read the paths of discovery. Everyone else is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedTable;

/// Whom a row of the table is about.
enum Subject {
    User(&'static str),
    Group(&'static str),
}

/// What a row allows: on these resources (`*`: all; `pods/status`: a subresource) these verbs.
type Rights = &'static [(&'static [&'static str], &'static [Verb])];

const READ: &[Verb] = &[Verb::Get, Verb::List, Verb::Watch];
const EVERYTHING: Rights = &[(&["*"], &Verb::ALL)];
const EVENTS: &[Verb] = &[Verb::Create, Verb::Patch, Verb::Update];
const CHANGE: &[Verb] = &[Verb::Update, Verb::Patch];

/// As the roles that Kubernetes bootstraps (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/>).
const TABLE: &[(Subject, Rights)] = &[
    (Subject::Group("system:masters"), EVERYTHING),
    (Subject::User("system:apiserver"), EVERYTHING),
    (Subject::User("system:kube-controller-manager"), EVERYTHING),
    (
        Subject::User("system:serviceaccount:kube-system:node-controller"),
        &[(&["nodes"], READ), (&["nodes", "nodes/status"], CHANGE), (&["events"], EVENTS)],
    ),
    (
        Subject::User("system:kube-scheduler"),
        &[
            (&["*"], READ),
            (&["events"], EVENTS),
            (&["pods/binding", "bindings"], &[Verb::Create]),
            (&["pods/status"], CHANGE),
            (&["pods"], &[Verb::Delete]),
            (&["leases"], &[Verb::Create, Verb::Update, Verb::Patch]),
            (
                &["persistentvolumeclaims", "persistentvolumes", "resourceclaims", "resourceclaims/status"],
                CHANGE,
            ),
        ],
    ),
    (Subject::User("system:kube-proxy"), NETWORK),
    (
        Subject::Group("system:nodes"),
        &[
            (NODE_READS, READ),
            (&["nodes"], &[Verb::Create, Verb::Update, Verb::Patch, Verb::Delete]),
            (&["nodes/status", "pods/status"], CHANGE),
            (&["pods"], &[Verb::Delete]),
            // No tokens of service accounts, no pods of its own making: either would lend a node the rights
            // of any account.
            (&["pods/eviction"], &[Verb::Create]),
            (&["leases", "csinodes"], &[Verb::Create, Verb::Update, Verb::Patch, Verb::Delete]),
            (&["events"], EVENTS),
        ],
    ),
];

const NETWORK: Rights = &[
    (
        &["services", "endpoints", "endpointslices", "nodes", "networkpolicies", "namespaces", "ingresses"],
        READ,
    ),
    (&["events"], EVENTS),
];

const NODE_READS: &[&str] = &[
    "nodes",
    "pods",
    "services",
    "endpointslices",
    "configmaps",
    "secrets",
    "serviceaccounts",
    "namespaces",
    "leases",
    "persistentvolumeclaims",
    "persistentvolumes",
    "csinodes",
    "csidrivers",
    "runtimeclasses",
    "priorityclasses",
];

impl Subject {
    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => user.name == *name,
            Self::Group(group) => user.in_group(group),
        }
    }
}

fn covers(resource: &str, target: &Target) -> bool {
    if resource == "*" {
        return true;
    }
    match (resource.split_once('/'), target.subresource.as_deref()) {
        (None, None) => resource == target.resource,
        (Some((main, sub)), Some(asked)) => main == target.resource && sub == asked,
        _ => false,
    }
}

#[async_trait]
impl Authorizer for FixedTable {
    async fn allows(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.action {
            Action::Path(_) => attributes.user.in_group("system:authenticated"),
            Action::Resource { verb, target } => {
                TABLE.iter().filter(|(subject, _)| subject.is(attributes.user)).any(|(_, rights)| {
                    rights.iter().any(|(resources, verbs)| {
                        verbs.contains(&verb) && resources.iter().any(|resource| covers(resource, target))
                    })
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn components_may_do_their_work_and_no_more() {
        let scheduler = UserInfo::component("system:kube-scheduler");
        assert!(may(&scheduler, Verb::Create, &pods(Some("binding"))).await.is_ok());
        assert!(may(&scheduler, Verb::Create, &pods(None)).await.is_err());
        assert!(may(&scheduler, Verb::Update, &pods(None)).await.is_err());
        let node = UserInfo::node("n1");
        assert!(may(&node, Verb::Patch, &pods(Some("status"))).await.is_ok());
        assert!(may(&node, Verb::Create, &pods(Some("binding"))).await.is_err());
        assert!(may(&UserInfo::admin("me"), Verb::Delete, &pods(None)).await.is_ok());
    }
}
