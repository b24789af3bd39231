//! Small facts about objects that several plans ask for.

use std::{cmp::Ordering, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::{
    api::core::v1::{Namespace, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
pub(crate) use rkube_api::helpers::pod::{is_active, is_ready, is_terminal as is_finished, phase};
use rkube_api::{
    client::Cache,
    error::ApiError,
    helpers::pod as pods,
    meta::{conditions, owners},
    object::Kind,
};

/// The name, empty if absent.
pub(crate) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The namespace, empty if absent.
pub(crate) fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// The UID, empty if absent.
pub(crate) fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// Older objects first; names decide between equals.
pub(crate) fn age_order(a: &ObjectMeta, b: &ObjectMeta) -> Ordering {
    // An object that isn't stored yet has no time and is the newest.
    let known = |meta: &ObjectMeta| (meta.creation_timestamp.is_none(), meta.creation_timestamp.clone());
    known(a).cmp(&known(b)).then_with(|| name(a).cmp(name(b)))
}

/// A count as Kubernetes writes it: zero is absent.
pub(crate) fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// A count of things as Kubernetes' types hold it.
pub(crate) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The node, empty while the pod is unscheduled.
pub(crate) fn node(pod: &Pod) -> &str {
    pods::node_name(pod).unwrap_or_default()
}

/// The condition Ready.
pub(crate) fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    conditions::get(pod.status.as_ref()?.conditions.as_deref()?, "Ready")
}

/// How long until the pod has been ready for `seconds`: zero if it has, `None` if it isn't ready.
pub(crate) fn until_available(pod: &Pod, seconds: i32, now: &Time) -> Option<Duration> {
    let ready = ready_condition(pod).filter(|condition| condition.status == "True")?;
    if seconds <= 0 {
        return Some(Duration::ZERO);
    }
    let since = ready.last_transition_time.as_ref()?;
    let end = since.0.checked_add(SignedDuration::from_secs(seconds.into())).ok()?;
    Some(Duration::try_from(end.duration_since(now.0)).unwrap_or(Duration::ZERO))
}

/// Whether the pod has been ready for `seconds`.
pub(crate) fn is_available(pod: &Pod, seconds: i32, now: &Time) -> bool {
    until_available(pod, seconds, now).is_some_and(|left| left.is_zero())
}

/// The name of the index that [`index_by_controller`] keeps.
pub(crate) const CONTROLLER_INDEX: &str = "controller";

/// Keeps objects by the UID of what manages them, and by [`orphans_of`] if nothing does.
pub(crate) fn index_by_controller<K: Kind>(cache: &Cache<K>) {
    cache.add_index(CONTROLLER_INDEX, |object: &K| {
        let meta = object.metadata();
        vec![
            owners::controller_of(meta)
                .map_or_else(|| orphans_of(namespace(meta)), |owner| owner.uid.clone()),
        ]
    });
}

/// The value of the controller index for objects of a namespace that nothing manages. No UID has a slash.
pub(crate) fn orphans_of(namespace: &str) -> String {
    format!("{namespace}/")
}

/// Whether a create failed because the namespace is going away (cause NamespaceTerminating).
pub(crate) fn is_namespace_terminating(error: &ApiError) -> bool {
    matches!(error, ApiError::Forbidden { causes, .. }
        if causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// Whether the namespace is not going away.
pub(crate) fn is_active_namespace(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

/// The name of the index that [`index_by_node`] keeps.
pub(crate) const NODE_INDEX: &str = "node";

/// Keeps pods by the node that they are bound to.
pub(crate) fn index_by_node(cache: &Cache<Pod>) {
    cache.add_index(NODE_INDEX, |pod: &Pod| pods::node_name(pod).map(str::to_owned).into_iter().collect());
}

/// The pod with the condition that tells why it is ended before its time (KEP-3329); `None` if it has it
/// already.
pub(crate) fn disrupted(pod: &Pod, reason: &str, message: &str, now: &Time) -> Option<Pod> {
    let condition = PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        ..PodCondition::default()
    };
    with_condition(pod, condition, now)
}

/// The pod with a condition set; `None` if it has it already.
pub(crate) fn with_condition(pod: &Pod, condition: PodCondition, now: &Time) -> Option<Pod> {
    let mut pod = pod.clone();
    let list = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions::set(list, condition, now.0).then_some(pod)
}
