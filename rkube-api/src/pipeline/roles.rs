//! The fixed table: what the components of a control plane may do.

use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::{NonResourceRule, ResourceRule, SubjectRulesReviewStatus};

use super::{Action, Attributes, Authorizer};
use crate::request::{Target, UserInfo, Verb};

/// The fixed rights of the control plane's components, as the roles that Kubernetes bootstraps; members of
/// `system:masters` may do everything, and every authenticated user may read the paths of discovery and ask
/// about themselves. Everyone else is refused.
/// <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedTable;

/// Whom a role is given to.
enum Subject {
    User(&'static str),
    Group(&'static str),
}

impl Subject {
    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => user.name == *name,
            Self::Group(group) => user.in_group(group),
        }
    }
}

/// What a subject may do.
struct Role {
    subject: Subject,
    rules: &'static [Rule],
    /// Paths that are no resources; with a `*` at the end all that begin so.
    paths: &'static [&'static str],
}

impl Role {
    const fn user(name: &'static str, rules: &'static [Rule]) -> Self {
        Self { subject: Subject::User(name), rules, paths: &[] }
    }

    const fn group(name: &'static str, rules: &'static [Rule], paths: &'static [&'static str]) -> Self {
        Self { subject: Subject::Group(name), rules, paths }
    }
}

/// In these groups, on these resources (`*`: all; `pods/status`: a subresource), these verbs.
struct Rule {
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    verbs: &'static [Verb],
}

const fn rule(
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    verbs: &'static [Verb],
) -> Rule {
    Rule { groups, resources, verbs }
}

impl Rule {
    fn covers(&self, verb: Verb, target: &Target) -> bool {
        let group = self.groups.iter().any(|group| *group == "*" || *group == target.group);
        group && self.verbs.contains(&verb) && self.resources.iter().any(|name| names(name, target))
    }

    fn listed(&self) -> ResourceRule {
        let texts = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
        let verbs = match self.verbs.len() == Verb::ALL.len() {
            true => vec!["*".to_owned()],
            false => self.verbs.iter().map(|verb| verb.as_str().to_owned()).collect(),
        };
        ResourceRule {
            api_groups: texts(self.groups),
            resources: texts(self.resources),
            verbs,
            ..ResourceRule::default()
        }
    }
}

fn names(resource: &str, target: &Target) -> bool {
    match (resource.split_once('/'), target.subresource.as_deref()) {
        _ if resource == "*" => true,
        (None, None) => resource == target.resource,
        (Some((main, sub)), Some(asked)) => main == target.resource && sub == asked,
        _ => false,
    }
}

const READ: &[Verb] = &[Verb::Get, Verb::List, Verb::Watch];
const FOLLOW: &[Verb] = &[Verb::List, Verb::Watch];
const CHANGE: &[Verb] = &[Verb::Update, Verb::Patch];
const MAKE: &[Verb] = &[Verb::Create];

const EVERYTHING: Rule = rule(&["*"], &["*"], &Verb::ALL);
const EVENTS: Rule = rule(&["", "events.k8s.io"], &["events"], &[Verb::Create, Verb::Patch, Verb::Update]);
const REVIEW_TOKENS: Rule = rule(&["authentication.k8s.io"], &["tokenreviews"], MAKE);
const REVIEW_ACCESS: Rule = rule(&["authorization.k8s.io"], &["subjectaccessreviews"], MAKE);

const TABLE: &[Role] = &[
    Role::group("system:masters", &[EVERYTHING], &["*"]),
    Role::group("system:authenticated", BASIC_USER, DISCOVERY),
    Role::group("system:monitoring", &[], MONITORING),
    Role::user("system:apiserver", &[EVERYTHING]),
    // All controllers act as one user: this is the sum of their roles, of which those of the garbage
    // collector and the namespace controller are about every resource.
    Role::user("system:kube-controller-manager", &[EVERYTHING]),
    Role::user("system:serviceaccount:kube-system:node-controller", NODE_CONTROLLER),
    Role::user("system:kube-scheduler", SCHEDULER),
    Role::user("system:kube-proxy", PROXY),
    Role::group("system:nodes", NODE, &[]),
];

const BASIC_USER: &[Rule] = &[
    rule(&["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], MAKE),
    rule(&["authentication.k8s.io"], &["selfsubjectreviews"], MAKE),
];

const DISCOVERY: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];

const MONITORING: &[&str] =
    &["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/readyz", "/readyz/*"];

const NODE_CONTROLLER: &[Rule] = &[
    rule(&[""], &["nodes"], &[Verb::Get, Verb::List, Verb::Watch, Verb::Update, Verb::Patch, Verb::Delete]),
    rule(&[""], &["nodes/status", "pods/status"], CHANGE),
    rule(&[""], &["pods"], &[Verb::Get, Verb::List, Verb::Watch, Verb::Delete]),
    EVENTS,
];

const SCHEDULER: &[Rule] = &[
    EVENTS,
    rule(
        &["coordination.k8s.io"],
        &["leases"],
        &[Verb::Create, Verb::Get, Verb::List, Verb::Update, Verb::Watch],
    ),
    rule(&[""], &["nodes", "namespaces", "services", "replicationcontrollers"], READ),
    rule(&[""], &["pods"], &[Verb::Get, Verb::List, Verb::Watch, Verb::Delete]),
    rule(&[""], &["pods/binding", "bindings"], MAKE),
    rule(&[""], &["pods/status"], CHANGE),
    rule(&["apps", "extensions"], &["replicasets"], READ),
    rule(&["apps"], &["statefulsets"], READ),
    rule(&["policy"], &["poddisruptionbudgets"], READ),
    rule(&["scheduling.k8s.io"], &["podgroups"], READ),
    rule(&["scheduling.k8s.io"], &["podgroups/status"], CHANGE),
    rule(&[""], &["persistentvolumeclaims", "persistentvolumes"], READ),
    rule(&[""], &["persistentvolumeclaims", "persistentvolumes"], CHANGE),
    rule(
        &["storage.k8s.io"],
        &["csidrivers", "csinodes", "csistoragecapacities", "storageclasses", "volumeattachments"],
        READ,
    ),
    rule(
        &["resource.k8s.io"],
        &["deviceclasses", "devicetaintrules", "resourceclaims", "resourceslices"],
        READ,
    ),
    rule(&["resource.k8s.io"], &["resourceclaims", "resourceclaims/status"], CHANGE),
    REVIEW_TOKENS,
    REVIEW_ACCESS,
];

const PROXY: &[Rule] = &[
    rule(&[""], &["services", "endpoints"], FOLLOW),
    rule(&[""], &["nodes"], READ),
    rule(&["discovery.k8s.io"], &["endpointslices"], FOLLOW),
    rule(&["networking.k8s.io"], &["servicecidrs"], FOLLOW),
    EVENTS,
];

/// No tokens of service accounts, no pods of a node's own making: as long as no rule says which objects are
/// a node's, either would lend it the rights of any account.
const NODE: &[Rule] = &[
    REVIEW_TOKENS,
    REVIEW_ACCESS,
    rule(&[""], &["services", "configmaps", "secrets", "pods", "nodes"], READ),
    rule(&[""], &["nodes"], &[Verb::Create, Verb::Update, Verb::Patch, Verb::Delete]),
    rule(&[""], &["nodes/status", "pods/status"], CHANGE),
    rule(&[""], &["pods"], &[Verb::Delete]),
    rule(&[""], &["pods/eviction"], MAKE),
    rule(
        &[""],
        &["persistentvolumeclaims", "persistentvolumes", "endpoints", "serviceaccounts"],
        &[Verb::Get],
    ),
    rule(
        &["coordination.k8s.io"],
        &["leases"],
        &[Verb::Create, Verb::Get, Verb::Update, Verb::Patch, Verb::Delete],
    ),
    rule(
        &["storage.k8s.io"],
        &["csinodes"],
        &[Verb::Create, Verb::Get, Verb::Update, Verb::Patch, Verb::Delete],
    ),
    rule(&["storage.k8s.io"], &["csidrivers"], READ),
    rule(&["storage.k8s.io"], &["volumeattachments"], &[Verb::Get]),
    rule(&["node.k8s.io"], &["runtimeclasses"], READ),
    EVENTS,
];

fn is_path(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == pattern,
    }
}

fn roles(user: &UserInfo) -> impl Iterator<Item = &'static Role> {
    TABLE.iter().filter(|role| role.subject.is(user))
}

#[async_trait]
impl Authorizer for FixedTable {
    async fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let mut roles = roles(attributes.user);
        match attributes.action {
            Action::Path(path) => roles.any(|role| role.paths.iter().any(|pattern| is_path(pattern, path))),
            Action::Resource { verb, target } => {
                roles.any(|role| role.rules.iter().any(|rule| rule.covers(verb, target)))
            }
        }
    }

    async fn rules(&self, user: &UserInfo, _namespace: &str) -> SubjectRulesReviewStatus {
        let paths = |role: &Role| NonResourceRule {
            non_resource_urls: Some(role.paths.iter().map(|&path| path.to_owned()).collect()),
            verbs: vec![if role.paths == ["*"] { "*" } else { "get" }.into()],
        };
        SubjectRulesReviewStatus {
            resource_rules: roles(user).flat_map(|role| role.rules).map(Rule::listed).collect(),
            non_resource_rules: roles(user).filter(|role| !role.paths.is_empty()).map(paths).collect(),
            incomplete: false,
            evaluation_error: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get secrets`, `create coordination.k8s.io leases`, `patch pods/status`.
    async fn may(user: &UserInfo, what: &str) -> bool {
        let words: Vec<&str> = what.split(' ').collect();
        let (verb, group, resource) = match words.as_slice() {
            [verb, resource] => (verb, "", resource),
            [verb, group, resource] => (verb, *group, resource),
            _ => panic!("{what}"),
        };
        let verb = *Verb::ALL.iter().find(|known| known.as_str() == *verb).unwrap();
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (*resource, None),
        };
        let target = Target {
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            namespace: Some("default".into()),
            name: Some("x".into()),
            subresource,
        };
        FixedTable.allows(&Attributes { user, action: Action::Resource { verb, target: &target } }).await
    }

    struct Case {
        user: UserInfo,
        allowed: &'static [&'static str],
        refused: &'static [&'static str],
    }

    fn cases() -> Vec<Case> {
        let component = UserInfo::component;
        let all = &["get secrets", "delete apps deployments", "create example.com lamps"];
        vec![
            Case { user: UserInfo::admin("me"), allowed: all, refused: &[] },
            Case { user: component("system:apiserver"), allowed: all, refused: &[] },
            Case { user: component("system:kube-controller-manager"), allowed: all, refused: &[] },
            Case {
                user: component("system:kube-scheduler"),
                allowed: &[
                    "list nodes",
                    "watch namespaces",
                    "watch services",
                    "get replicationcontrollers",
                    "watch apps replicasets",
                    "list extensions replicasets",
                    "list apps statefulsets",
                    "list policy poddisruptionbudgets",
                    "patch persistentvolumeclaims",
                    "watch storage.k8s.io csinodes",
                    "list storage.k8s.io storageclasses",
                    "delete pods",
                    "patch pods/status",
                    "create pods/binding",
                    "update coordination.k8s.io leases",
                    "create events",
                    "patch events.k8s.io events",
                    "create authentication.k8s.io tokenreviews",
                    "create authorization.k8s.io subjectaccessreviews",
                    "create authorization.k8s.io selfsubjectaccessreviews",
                ],
                refused: &[
                    "get secrets",
                    "list secrets",
                    "watch secrets",
                    "get configmaps",
                    "get serviceaccounts",
                    "create pods",
                    "update pods",
                    "create serviceaccounts/token",
                    "patch nodes",
                    "list example.com nodes",
                    "get example.com pods",
                    "create leases",
                    "delete namespaces",
                ],
            },
            Case {
                user: component("system:serviceaccount:kube-system:node-controller"),
                allowed: &[
                    "patch nodes",
                    "update nodes/status",
                    "patch pods/status",
                    "delete pods",
                    "create events",
                ],
                refused: &["get secrets", "create nodes", "create pods", "patch pods"],
            },
            Case {
                user: component("system:kube-proxy"),
                allowed: &[
                    "list services",
                    "watch discovery.k8s.io endpointslices",
                    "get nodes",
                    "create events.k8s.io events",
                ],
                refused: &["get secrets", "list pods", "update services", "watch endpointslices"],
            },
            Case {
                user: UserInfo::node("n1"),
                allowed: &[
                    "create nodes",
                    "patch nodes/status",
                    "patch pods/status",
                    "delete pods",
                    "create pods/eviction",
                    "update coordination.k8s.io leases",
                    "get secrets",
                    "watch configmaps",
                    "get persistentvolumes",
                    "list node.k8s.io runtimeclasses",
                    "create events",
                ],
                refused: &[
                    "create pods",
                    "create pods/binding",
                    "create serviceaccounts/token",
                    "update secrets",
                    "list apps deployments",
                    "get example.com secrets",
                ],
            },
            Case {
                user: component("u"),
                allowed: &[
                    "create authorization.k8s.io selfsubjectaccessreviews",
                    "create authorization.k8s.io selfsubjectrulesreviews",
                    "create authentication.k8s.io selfsubjectreviews",
                ],
                refused: &[
                    "create authorization.k8s.io subjectaccessreviews",
                    "create authentication.k8s.io tokenreviews",
                    "get pods",
                    "list namespaces",
                ],
            },
            Case {
                user: UserInfo { name: "nobody".into(), ..UserInfo::default() },
                allowed: &[],
                refused: &["get pods", "create authorization.k8s.io selfsubjectaccessreviews"],
            },
        ]
    }

    #[tokio::test]
    async fn components_may_do_their_work_and_no_more() {
        for Case { user, allowed, refused } in cases() {
            for what in allowed {
                assert!(may(&user, what).await, "{} may {what}", user.name);
            }
            for what in refused {
                assert!(!may(&user, what).await, "{} may not {what}", user.name);
            }
        }
    }

    #[tokio::test]
    async fn what_is_listed_is_allowed() {
        for Case { user, .. } in cases() {
            let listed = FixedTable.rules(&user, "default").await;
            assert!(!listed.incomplete);
            for rule in listed.resource_rules {
                let (groups, resources) = (rule.api_groups.unwrap(), rule.resources.unwrap());
                for verb in
                    rule.verbs.iter().map(|verb| if verb == "*" { "deletecollection" } else { verb.as_str() })
                {
                    for (group, resource) in
                        groups.iter().flat_map(|group| resources.iter().map(move |it| (group, it)))
                    {
                        let what = format!("{verb} {group} {resource}");
                        assert!(may(&user, &what.replace("  ", " ")).await, "{}: {what}", user.name);
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn paths_are_read_by_those_who_may() {
        let reads = async |user: &UserInfo, path: &str| {
            FixedTable.allows(&Attributes { user, action: Action::Path(path) }).await
        };
        let (user, admin) = (UserInfo::component("u"), UserInfo::admin("a"));
        for path in ["/apis", "/apis/apps/v1", "/openapi/v3", "/version", "/healthz"] {
            assert!(reads(&user, path).await && reads(&admin, path).await, "{path}");
        }
        assert!(!reads(&user, "/metrics").await && reads(&admin, "/metrics").await);
        let monitor = UserInfo { groups: vec!["system:monitoring".into()], ..UserInfo::default() };
        assert!(reads(&monitor, "/metrics").await && !reads(&monitor, "/apis").await);
        assert!(!reads(&UserInfo::default(), "/apis").await);
    }
}
