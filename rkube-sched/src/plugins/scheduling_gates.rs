//! Keeps pods with scheduling gates out of the queue (KEP-3521).

use crate::{
    framework::{
        Actions, Args, ClusterEvent, ConfigError, Handle, Hint, Interest, Plugin, PointSet, Points,
        PreEnqueue, Resource, Status, is_own_update,
    },
    snapshot::PodInfo,
};

/// The plugin's name.
pub const NAME: &str = "SchedulingGates";

/// Holds gated pods. See the module's documentation.
#[derive(Debug)]
pub struct SchedulingGates;

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(SchedulingGates).pre_enqueue().done())
}

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![Interest::new(Resource::PendingPod, Actions::UPDATE_POD_GATES_ELIMINATED)]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        is_own_update(pod, event).into()
    }
}

impl PreEnqueue for SchedulingGates {
    fn pre_enqueue(&self, pod: &PodInfo) -> Status {
        let gates = pod.spec().and_then(|spec| spec.scheduling_gates.as_deref()).unwrap_or_default();
        if gates.is_empty() {
            return Status::success();
        }
        let names: Vec<_> = gates.iter().map(|gate| gate.name.as_str()).collect();
        Status::unresolvable(format!("waiting for scheduling gates: [{}]", names.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn gates_hold_and_only_the_pods_own_last_gate_helps() {
        let gated = Arc::new(testing::pod("a", json!({"schedulingGates": [{"name": "x"}, {"name": "y"}]})));
        let free = Arc::new(testing::pod("a", json!({})));
        let other = testing::pod("b", json!({"schedulingGates": [{"name": "x"}]}));
        assert_eq!(SchedulingGates.pre_enqueue(&gated).message(), "waiting for scheduling gates: [x y]");
        assert!(SchedulingGates.pre_enqueue(&free).is_success());
        let event = ClusterEvent::waiting_pod_updated(&gated, &free).unwrap();
        assert!(SchedulingGates.events()[0].matches(&event));
        assert_eq!(SchedulingGates.hint(&gated, &event), Hint::Queue);
        assert_eq!(SchedulingGates.hint(&other, &event), Hint::Skip);
    }
}
