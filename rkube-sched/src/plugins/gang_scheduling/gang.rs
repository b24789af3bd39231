//! What is known of a gang while it is being scheduled, and what its group is told.

use std::collections::BTreeSet;

use k8s_openapi::{api::scheduling::v1beta1::PodGroup, apimachinery::pkg::apis::meta::v1::Condition};
use rkube_api::client::{Api, Cache, ObjectKey, Patch, PatchParams};
use serde_json::json;

use crate::{framework::Handle, snapshot::Uid};

/// The condition that says whether the group was scheduled once.
const CONDITION: &str = "PodGroupInitiallyScheduled";

/// A gang under way.
#[derive(Debug, Default)]
pub(super) struct Gang {
    /// They have a node, and Permit holds them.
    pub(super) held: BTreeSet<Uid>,
    /// They have a node and may be bound; forgotten once the server shows it.
    pub(super) let_through: BTreeSet<Uid>,
    /// In their last try they found no node.
    pub(super) without_node: BTreeSet<Uid>,
}

impl Gang {
    /// Whether nothing of it is under way. What is forgotten then is found out anew.
    pub(super) fn is_over(&self) -> bool {
        self.held.is_empty() && self.let_through.is_empty()
    }
}

/// Tells the group how it stands, unless it has been told: that it was scheduled, or why not yet. The first is
/// final.
pub(super) fn tell(handle: &Handle, groups: &Cache<PodGroup>, key: &ObjectKey, outcome: Result<(), String>) {
    let (Some(client), Some(context), Some(group)) = (&handle.client, &handle.context, groups.get_key(key))
    else {
        return;
    };
    let mut conditions =
        group.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let before = conditions.iter().find(|condition| condition.type_ == CONDITION);
    let (status, reason, message) = match outcome {
        Ok(()) => ("True", "Scheduled", String::new()),
        Err(message) => ("False", "Unschedulable", message),
    };
    let told = |before: &Condition| {
        before.status == "True" || (before.status == status && before.message == message)
    };
    if before.is_some_and(told) {
        return;
    }
    conditions.retain(|condition| condition.type_ != CONDITION);
    conditions.push(Condition {
        type_: CONDITION.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: group.metadata.generation,
        last_transition_time: context.clock.now(),
    });
    let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
    let (api, name) = (Api::<PodGroup>::namespaced(client.clone(), &key.namespace), key.name.clone());
    context.spawner.spawn("pod-group-status", async move {
        // A group that is gone needs no word, and a failed one is made good with the next change.
        let _ = api.patch_status(&name, &PatchParams::default(), &patch).await;
    });
}
