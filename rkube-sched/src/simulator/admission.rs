//! What an API server does to a pod that comes: defaults, its priority, and whether it is valid at all.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::api::{core::v1::Pod, scheduling::v1::PriorityClass};
use rkube_api::{
    client::ObjectKey,
    kinds::{self, scheduling::priority_class::SYSTEM_CLASSES},
    meta::validation::ErrorList,
    object::Object,
    registry::Definition,
};

use crate::framework::Listers;

/// Why a pod is not taken in.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PodError {
    /// An API server would not take it either.
    #[error("pod {pod} is invalid: {errors}")]
    Invalid {
        /// The pod.
        pod: ObjectKey,
        /// What is wrong with it.
        errors: ErrorList,
    },
    /// It names a priority class that is not there.
    #[error("pod {pod}: no PriorityClass with name {class} was found")]
    NoPriorityClass {
        /// The pod.
        pod: ObjectKey,
        /// The class.
        class: String,
    },
    /// There is a pod of that name.
    #[error("pod {pod} already exists")]
    Exists {
        /// The pod.
        pod: ObjectKey,
    },
}

/// The rules of the kinds that have some, by kind.
static RULES: LazyLock<BTreeMap<String, Definition>> = LazyLock::new(|| {
    kinds::all().into_iter().map(|definition| (definition.names.kind.clone(), definition)).collect()
});

/// Fills what was left out.
pub(super) fn default(kind: &str, object: &mut Object) {
    if let Some(default) = RULES.get(kind).and_then(|rules| rules.strategy.default.as_ref()) {
        default(object);
    }
}

/// Takes in a new pod: what an API server stores of it.
pub(super) fn admit(mut pod: Pod, listers: &Listers) -> Result<Pod, PodError> {
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    let key = ObjectKey::of(&pod);
    let mut object = Object::new(pod);
    default("Pod", &mut object);
    if let Some(rules) = RULES.get("Pod") {
        if let Some(prepare) = &rules.strategy.prepare_create {
            prepare(&mut object);
        }
        let checked = rules.validate_create(&object).into_result();
        checked.map_err(|errors| PodError::Invalid { pod: key.clone(), errors })?;
    }
    let mut pod = object.as_kind::<Pod>().cloned().unwrap_or_default();
    match prioritize(&mut pod, listers) {
        Ok(()) => Ok(pod),
        Err(class) => Err(PodError::NoPriorityClass { pod: key, class }),
    }
}

/// Gives a pod the priority of its class, if it has none; the error is the class that is not there.
pub(super) fn prioritize(pod: &mut Pod, listers: &Listers) -> Result<(), String> {
    let Some(spec) = pod.spec.as_mut().filter(|spec| spec.priority.is_none()) else { return Ok(()) };
    let classes = listers.get::<PriorityClass>();
    let named = spec.priority_class_name.as_deref().filter(|name| !name.is_empty());
    let (value, policy) = match named {
        Some(name) => match (classes.get("", name), SYSTEM_CLASSES.iter().find(|class| class.0 == name)) {
            (Some(class), _) => (class.value, class.preemption_policy.clone()),
            (None, Some((_, value))) => (Some(*value), None),
            (None, None) => return Err(name.to_owned()),
        },
        None => {
            // Were there several defaults, the lowest counts.
            let classes = classes.list();
            let defaults = classes.iter().filter(|class| class.global_default == Some(true));
            let class = defaults.min_by_key(|class| class.value);
            class.map_or((None, None), |class| (class.value, class.preemption_policy.clone()))
        }
    };
    spec.priority = value.or(Some(0));
    if spec.preemption_policy.is_none() {
        spec.preemption_policy = policy;
    }
    Ok(())
}
