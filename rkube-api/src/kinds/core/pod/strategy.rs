//! What a pod gets and keeps when it is written, and how it goes away.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};

use super::match_labels;
use crate::{
    helpers::pod::qos_class,
    kinds::shared::{items, pod, text},
};

/// A new pod is pending, and held back if it has gates (KEP-3521).
pub(super) fn prepare_create(pod: &mut Pod) {
    let mut status = PodStatus { phase: Some("Pending".into()), ..PodStatus::default() };
    if let Some(spec) = &mut pod.spec {
        pod::defaults::service_account(spec);
        status.qos_class = Some(qos_class(spec).into());
        if !items(&spec.scheduling_gates).is_empty() {
            status.conditions = Some(vec![PodCondition {
                type_: "PodScheduled".into(),
                status: "False".into(),
                reason: Some("SchedulingGated".into()),
                message: Some("Scheduling is blocked due to non-empty scheduling gates".into()),
                ..PodCondition::default()
            }]);
        }
    }
    pod.status = Some(status);
    match_labels::write_out(pod);
}

/// The status has its own way in.
pub(super) fn prepare_update(new: &mut Pod, old: &Pod) {
    new.status.clone_from(&old.status);
    if let Some(spec) = &mut new.spec {
        pod::defaults::service_account(spec);
    }
}

/// A write of the status changes neither the spec nor who owns the pod; the class is for life.
pub(super) fn prepare_status(new: &mut Pod, old: &Pod) {
    new.spec.clone_from(&old.spec);
    new.metadata.deletion_timestamp.clone_from(&old.metadata.deletion_timestamp);
    new.metadata.owner_references.clone_from(&old.metadata.owner_references);
    let class = old.status.as_ref().and_then(|status| status.qos_class.as_ref());
    if let (Some(status), Some(class)) = (&mut new.status, class)
        && text(&status.qos_class).is_empty()
    {
        status.qos_class = Some(class.clone());
    }
}

/// How long a pod may take to go: at once if it never ran or has finished, else as asked, else as it says.
pub(super) fn grace_period(pod: &Pod, asked: Option<i64>) -> i64 {
    let spec = pod.spec.as_ref();
    let unscheduled = spec.is_none_or(|spec| text(&spec.node_name).is_empty());
    let phase = pod.status.as_ref().map_or("", |status| text(&status.phase));
    if unscheduled || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    let own = || spec.and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(0);
    match asked.unwrap_or_else(own) {
        // An old way to say: as soon as possible.
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}
