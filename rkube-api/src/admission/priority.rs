//! Priority: a pod gets the number and the preemption policy of its priority class.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use async_trait::async_trait;
use k8s_openapi::api::{core::v1::Pod, scheduling::v1::PriorityClass};

use super::{Admission, AdmissionRequest, Operation, undo};
use crate::{error::ApiError, pipeline::Followed};

/// The classes that exist whether or not somebody made them.
const SYSTEM: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const PREEMPT: &str = "PreemptLowerPriority";

/// The plugin, for one server.
#[derive(Debug, Default)]
pub struct Priority {
    classes: Followed<PriorityClass>,
}

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        match request.operation() {
            Operation::Create => request.is("", "pods") || request.is("scheduling.k8s.io", "priorityclasses"),
            Operation::Update => request.is("scheduling.k8s.io", "priorityclasses"),
            Operation::Delete => false,
        }
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(pod) = request.as_kind::<Pod>() else { return Ok(()) };
        let spec = pod.spec.as_ref();
        let named = spec.and_then(|spec| spec.priority_class_name.clone()).filter(|name| !name.is_empty());
        let (number, policy) =
            spec.map_or((None, None), |spec| (spec.priority, spec.preemption_policy.clone()));
        let class = match &named {
            Some(name) => class(request, name).await?,
            None => self.default_class(request).await?,
        };
        if let Some(priority) = number.filter(|priority| *priority != class.value) {
            return Err(request.forbidden(&format!(
                "the integer value of priority ({priority}) must not be provided in pod spec; priority \
                 admission controller computed {} from the given PriorityClass name",
                class.value
            )));
        }
        if let Some(policy) = policy.filter(|policy| *policy != class.policy) {
            return Err(request.forbidden(&format!(
                "the string value of PreemptionPolicy ({policy}) must not be provided in pod spec; priority \
                 admission controller computed {} from the given PriorityClass name",
                class.policy
            )));
        }
        let defaulted = named.is_none() && !class.name.is_empty();
        if let Some(pod) = request.as_kind_mut::<Pod>() {
            let spec = pod.spec.get_or_insert_default();
            spec.priority = Some(class.value);
            spec.preemption_policy = Some(class.policy);
            if defaulted {
                spec.priority_class_name = Some(class.name);
            }
        }
        request.unowned(move |pod| {
            undo::fields(pod, "/spec", &["priority", "preemptionPolicy"]);
            if defaulted {
                undo::fields(pod, "/spec", &["priorityClassName"]);
            }
        });
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(class) = request.as_kind::<PriorityClass>() else { return Ok(()) };
        if class.global_default != Some(true) {
            return Ok(());
        }
        let name = request.name();
        let classes = request.reader().list::<PriorityClass>("").await?;
        let other = classes
            .iter()
            .find(|class| class.global_default == Some(true) && class.metadata.name.as_deref() != Some(name));
        match other {
            Some(other) => Err(request.forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.metadata.name.as_deref().unwrap_or_default()
            ))),
            None => Ok(()),
        }
    }
}

impl Priority {
    /// The class of pods that name none. Were there several defaults, the lowest counts.
    async fn default_class(&self, request: &AdmissionRequest<'_>) -> Result<Class, ApiError> {
        let classes = self.classes.list(request.reader()).await?;
        let defaults = classes.iter().filter(|class| class.global_default == Some(true));
        Ok(defaults
            .min_by_key(|class| class.value)
            .map_or_else(|| Class::builtin("", 0), |class| Class::of(class)))
    }
}

/// What a pod takes from its class.
struct Class {
    name: String,
    value: i32,
    policy: String,
}

impl Class {
    fn of(class: &PriorityClass) -> Self {
        Self {
            name: class.metadata.name.clone().unwrap_or_default(),
            value: class.value.unwrap_or_default(),
            policy: class.preemption_policy.clone().unwrap_or_else(|| PREEMPT.into()),
        }
    }

    fn builtin(name: &str, value: i32) -> Self {
        Self { name: name.into(), value, policy: PREEMPT.into() }
    }
}

async fn class(request: &AdmissionRequest<'_>, name: &str) -> Result<Class, ApiError> {
    if let Some(class) = request.reader().get::<PriorityClass>("", name).await? {
        return Ok(Class::of(&class));
    }
    match SYSTEM.iter().find(|(system, _)| *system == name) {
        Some((system, value)) => Ok(Class::builtin(system, *value)),
        None => Err(request.forbidden(&format!("no PriorityClass with name {name} was found"))),
    }
}
