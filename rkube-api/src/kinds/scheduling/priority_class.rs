//! PriorityClass. Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::json;

use crate::{
    kinds::shared::{fill, pod::preemption_policy, text, yes},
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

/// The most that a class of a user may have; what is above is the system's.
pub const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;
/// The classes that every cluster has, and their values.
pub const SYSTEM_CLASSES: [(&str, i32); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
const SYSTEM_PREFIX: &str = "system-";

/// The definition of PriorityClass.
pub fn definition() -> Definition {
    Definition::of::<PriorityClass>()
        .cluster()
        .short(&["pc"])
        .default(|class| fill(&mut class.preemption_policy, "PreemptLowerPriority"))
        .validate_create(validate_create)
        .validate_update(validate_update)
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

fn validate_create(class: &PriorityClass) -> ErrorList {
    let mut errors = ErrorList::new();
    let value = class.value.unwrap_or(0);
    if text(&class.metadata.name).starts_with(SYSTEM_PREFIX) {
        if let Err(why) = is_system_class(class, value) {
            let metadata = FieldPath::new("metadata");
            let detail = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
            );
            errors.push(FieldError::forbidden(&metadata.child("name"), detail));
        }
    } else if value > HIGHEST_USER_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        errors.push(FieldError::forbidden(&FieldPath::new("value"), detail));
    }
    if let Some(policy) = &class.preemption_policy {
        preemption_policy(policy, &FieldPath::new("preemptionPolicy"), &mut errors);
    }
    errors
}

fn is_system_class(class: &PriorityClass, value: i32) -> Result<(), String> {
    let name = text(&class.metadata.name);
    match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
        None => Err(format!("{name} is not a known system priority class")),
        Some(&(_, known)) if known != value => Err(format!("value of {name} PriorityClass must be {known}")),
        Some(_) if yes(&class.global_default) => {
            Err(format!("globalDefault of {name} PriorityClass must be false"))
        }
        Some(_) => Ok(()),
    }
}

fn validate_update(new: &PriorityClass, old: &PriorityClass) -> ErrorList {
    let mut errors = ErrorList::new();
    if new.value.unwrap_or(0) != old.value.unwrap_or(0) {
        errors.push(FieldError::forbidden(&FieldPath::new("value"), "may not be changed in an update."));
    }
    let path = FieldPath::new("preemptionPolicy");
    errors.immutable(&path, &new.preemption_policy, &old.preemption_policy);
    errors
}
