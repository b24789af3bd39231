//! PriorityClass. Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::json;

use crate::{
    kinds::shared::{fill, text, yes},
    registry::Definition,
};

/// The definition of PriorityClass.
pub fn definition() -> Definition {
    Definition::of::<PriorityClass>()
        .cluster()
        .short(&["pc"])
        .default(|class| fill(&mut class.preemption_policy, "PreemptLowerPriority"))
        .generation(|_, _| false)
        .column("Value", "integer", "The priority that pods of this class get.", |class, _| {
            json!(class.value.unwrap_or(0))
        })
        .column("Global-Default", "boolean", "Whether pods that name no class get this one.", |class, _| {
            json!(yes(&class.global_default))
        })
        .age()
        .column("PreemptionPolicy", "string", "Whether its pods may displace others.", |class, _| {
            json!(text(&class.preemption_policy))
        })
        .build()
}
