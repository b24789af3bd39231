//! What a terminating namespace still holds, and what its status says of that.
//!
//! Source: KEP-5080 (pods go first) and `namespace/deletion` of Kubernetes.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use rkube_api::{
    meta::{GroupVersion, conditions},
    request::Verb,
};

use crate::resources::ApiResource;

/// The finalizer of a namespace's spec.
pub const FINALIZER: &str = "kubernetes";
/// How long objects that finalizers hold are expected to take.
const FINALIZERS_TAKE: Duration = Duration::from_secs(15);

/// What was found of one resource after its objects were told to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// How many objects are left.
    pub count: usize,
    /// The finalizers that hold them, with the number of objects of each.
    pub finalizers: BTreeMap<String, usize>,
    /// The longest grace period of those left, in seconds.
    pub grace: i64,
    /// What went wrong.
    pub error: Option<String>,
}

impl Remains {
    /// Counts what is left.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a ObjectMeta>) -> Self {
        let mut remains = Self::default();
        for meta in objects {
            remains.count += 1;
            remains.grace = remains.grace.max(meta.deletion_grace_period_seconds.unwrap_or(0));
            for finalizer in meta.finalizers.iter().flatten() {
                *remains.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
        }
        remains
    }
}

/// Why the server's resources, or some of them, could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    /// How many versions of groups are concerned, one if nobody can say.
    pub versions: usize,
    /// For the condition.
    pub message: String,
}

/// What was found in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// What may be there besides, unknown.
    pub discovery_error: Option<Untold>,
    /// What is left, by resource as its messages name it (`pods.`, `deployments.apps`).
    pub remains: BTreeMap<String, Remains>,
}

/// What to do after a look at the contents.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// The namespace with its new conditions, if they changed.
    pub status: Option<Box<Namespace>>,
    /// Whether nothing is left and the namespace may go.
    pub finalize: bool,
    /// When to look again.
    pub look_again: Option<Duration>,
}

/// The resources to empty, in stages: a stage begins when those before it are empty.
pub fn stages(resources: &[ApiResource]) -> Vec<Vec<ApiResource>> {
    let deletable = |resource: &&ApiResource| {
        resource.namespaced && resource.can(Verb::Delete) && resource.can(Verb::List)
    };
    let (pods, rest): (Vec<_>, Vec<_>) = resources
        .iter()
        .filter(deletable)
        .cloned()
        .partition(|resource| resource.group.is_empty() && resource.resource == "pods");
    [pods, rest].into_iter().filter(|stage| !stage.is_empty()).collect()
}

/// A resource's name in the conditions' messages.
pub(crate) fn label(resource: &ApiResource) -> String {
    format!("{}.{}", resource.resource, resource.group)
}

/// What the condition says of versions whose resources nobody could tell. What they have in the namespace
/// must go too, so it stays until they tell.
pub(crate) fn untold(versions: &[GroupVersion]) -> Option<Untold> {
    let stale = |version: &GroupVersion| format!("{version}: stale GroupVersion discovery: {version}");
    let list: Vec<String> = versions.iter().map(stale).collect();
    let message = format!("unable to retrieve the complete list of server APIs: {}", list.join(", "));
    (!list.is_empty()).then_some(Untold { versions: list.len(), message })
}

/// Whether the namespace is to be emptied by this controller.
pub fn is_due(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref());
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.unwrap_or_default().iter().any(|finalizer| finalizer == FINALIZER)
}

/// The namespace without this controller's finalizer.
pub fn finalized(namespace: &Namespace) -> Namespace {
    let mut namespace = namespace.clone();
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    namespace
}

/// Decides by what was found.
pub fn conclude(namespace: &Namespace, survey: &Survey, now: &Time) -> Conclusion {
    let mut changed = namespace.clone();
    let status = changed.status.get_or_insert_default();
    status.phase = Some("Terminating".into());
    let list = status.conditions.get_or_insert_default();
    for condition in found_conditions(survey) {
        conditions::set(list, condition, now.0);
    }
    let left = survey.remains.values().any(|remains| remains.count > 0 || remains.error.is_some());
    let finalize = !left && survey.discovery_error.is_none();
    Conclusion {
        status: (changed != *namespace).then(|| Box::new(changed)),
        finalize,
        look_again: (!finalize).then(|| look_again(survey)),
    }
}

/// Half of the time that what is left is expected to take, and a second.
fn look_again(survey: &Survey) -> Duration {
    let estimate = |remains: &Remains| match u64::try_from(remains.grace) {
        _ if remains.count == 0 => Duration::ZERO,
        Ok(0) | Err(_) => FINALIZERS_TAKE,
        Ok(grace) => Duration::from_secs(grace),
    };
    let untold = if survey.discovery_error.is_some() { FINALIZERS_TAKE } else { Duration::ZERO };
    let longest = survey.remains.values().map(estimate).max().unwrap_or(Duration::ZERO).max(untold);
    longest / 2 + Duration::from_secs(1)
}

fn found_conditions(survey: &Survey) -> Vec<NamespaceCondition> {
    let errors: Vec<&str> = survey.remains.values().filter_map(|remains| remains.error.as_deref()).collect();
    let deletion = (!errors.is_empty()).then(|| {
        let errors = errors.join(", ");
        format!(
            "Failed to delete all resource types, {} remaining: {errors}",
            survey.remains.values().filter(|it| it.error.is_some()).count()
        )
    });
    let discovery = survey.discovery_error.as_ref().map(|Untold { versions, message }| {
        format!("Discovery failed for some groups, {versions} failing: {message}")
    });
    let content = listed(
        survey
            .remains
            .iter()
            .filter(|(_, remains)| remains.count > 0)
            .map(|(resource, remains)| format!("{resource} has {} resource instances", remains.count)),
    );
    let content = content.map(|list| format!("Some resources are remaining: {list}"));
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in survey.remains.values().flat_map(|remains| &remains.finalizers) {
        *holders.entry(finalizer).or_default() += count;
    }
    let holders = listed(holders.iter().map(|(name, count)| format!("{name} in {count} resource instances")));
    let holders =
        holders.map(|list| format!("Some content in the namespace has finalizers remaining: {list}"));
    vec![
        condition(
            "NamespaceDeletionDiscoveryFailure",
            discovery.map(|message| ("DiscoveryFailed", message)),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            deletion.map(|message| ("ContentDeletionFailed", message)),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        condition(
            "NamespaceContentRemaining",
            content.map(|message| ("SomeResourcesRemain", message)),
            ("ContentRemoved", "All content successfully removed"),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            holders.map(|message| ("SomeFinalizersRemain", message)),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}

fn listed(texts: impl Iterator<Item = String>) -> Option<String> {
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn condition(kind: &str, problem: Option<(&str, String)>, fine: (&str, &str)) -> NamespaceCondition {
    let (status, reason, message) = match problem {
        Some((reason, message)) => ("True", reason, message),
        None => ("False", fine.0, fine.1.to_owned()),
    };
    NamespaceCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::NamespaceSpec;

    use super::*;

    fn resource(group: &str, name: &str, namespaced: bool) -> ApiResource {
        ApiResource {
            group: group.into(),
            version: "v1".into(),
            resource: name.into(),
            kind: name.into(),
            namespaced,
            verbs: Verb::ALL.to_vec(),
        }
    }

    fn leaving() -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        namespace.spec = Some(NamespaceSpec { finalizers: Some(vec![FINALIZER.into(), "other".into()]) });
        namespace
    }

    fn now() -> Time {
        Time(Timestamp::from_second(60).unwrap())
    }

    #[test]
    fn pods_go_first_and_cluster_scoped_resources_stay() {
        let all =
            [resource("apps", "deployments", true), resource("", "nodes", false), resource("", "pods", true)];
        assert_eq!(stages(&all), [vec![all[2].clone()], vec![all[0].clone()]]);
    }

    #[test]
    fn a_namespace_stays_while_nobody_can_tell_what_may_be_in_it() {
        let versions = [GroupVersion::new("metrics.k8s.io", "v1beta1")];
        let survey = Survey { discovery_error: untold(&versions), ..Survey::default() };
        let conclusion = conclude(&leaving(), &survey, &now());
        assert_eq!((conclusion.finalize, conclusion.look_again), (false, Some(Duration::from_millis(8500))));
        let list = conclusion.status.unwrap().status.unwrap().conditions.unwrap();
        let told = list.iter().find(|it| it.type_ == "NamespaceDeletionDiscoveryFailure").unwrap();
        assert_eq!((&*told.status, told.reason.as_deref()), ("True", Some("DiscoveryFailed")));
        assert_eq!(
            told.message.as_deref(),
            Some(
                "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: \
                 metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1"
            )
        );
        assert_eq!(untold(&[]), None);
    }

    #[test]
    fn what_is_left_is_told_and_looked_at_again() {
        let meta = |finalizers: &[&str], grace| ObjectMeta {
            finalizers: Some(finalizers.iter().map(|name| (*name).to_owned()).collect()),
            deletion_grace_period_seconds: Some(grace),
            ..Default::default()
        };
        let remains = Remains::of(&[meta(&["a/b"], 0), meta(&["a/b", "c/d"], 30)]);
        let survey = Survey { discovery_error: None, remains: [("pods.".to_owned(), remains)].into() };
        let conclusion = conclude(&leaving(), &survey, &now());
        assert!(!conclusion.finalize);
        assert_eq!(conclusion.look_again, Some(Duration::from_secs(16)));
        let status = conclusion.status.unwrap().status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Terminating"));
        let list = status.conditions.unwrap();
        let texts: Vec<_> =
            list.iter().map(|it| (&*it.type_, &*it.status, it.message.as_deref().unwrap())).collect();
        assert_eq!(
            texts[3..],
            [
                (
                    "NamespaceContentRemaining",
                    "True",
                    "Some resources are remaining: pods. has 2 resource instances"
                ),
                (
                    "NamespaceFinalizersRemaining",
                    "True",
                    "Some content in the namespace has finalizers remaining: a/b in 2 resource instances, c/d in 1 resource instances"
                ),
            ]
        );
        assert!(texts[..3].iter().all(|(_, status, _)| *status == "False"));
    }

    #[test]
    fn an_empty_namespace_is_finalized_without_a_second_write() {
        let survey =
            Survey { discovery_error: None, remains: [("pods.".to_owned(), Remains::default())].into() };
        let first = conclude(&leaving(), &survey, &now());
        assert!(first.finalize && first.look_again.is_none());
        let second = conclude(&first.status.unwrap(), &survey, &now());
        assert_eq!(second.status, None);
        assert_eq!(finalized(&leaving()).spec.unwrap().finalizers.unwrap(), ["other"]);
        assert!(is_due(&leaving()) && !is_due(&finalized(&leaving())) && !is_due(&Namespace::default()));
    }

    #[test]
    fn failures_keep_the_namespace() {
        let down = Some(Untold { versions: 1, message: "down".into() });
        let mut survey = Survey { discovery_error: down, ..Default::default() };
        assert!(!conclude(&leaving(), &survey, &now()).finalize);
        survey.discovery_error = None;
        let failed = Remains { error: Some("refused".into()), ..Default::default() };
        survey.remains.insert("pods.".into(), failed);
        let conclusion = conclude(&leaving(), &survey, &now());
        let list = conclusion.status.unwrap().status.unwrap().conditions.unwrap();
        assert_eq!(
            list[2].message.as_deref(),
            Some("Failed to delete all resource types, 1 remaining: refused")
        );
        assert!(!conclusion.finalize);
    }
}
