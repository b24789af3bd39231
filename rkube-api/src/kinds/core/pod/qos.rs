//! A pod's quality of service: <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

use crate::{
    kinds::shared::{items, quantities::amount},
    meta::Quantity,
};

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(super) fn class(spec: &PodSpec) -> &'static str {
    let mut requests = [Quantity::ZERO; 2];
    let mut limits = [Quantity::ZERO; 2];
    let mut all_limited = true;
    let mut count = |resources: &ResourceRequirements| {
        for (at, name) in COUNTED.iter().enumerate() {
            requests[at] += amount(&resources.requests, name);
            let limit = amount(&resources.limits, name);
            all_limited &= !limit.is_zero();
            limits[at] += limit;
        }
    };
    let nothing = ResourceRequirements::default();
    match &spec.resources {
        Some(whole) if whole.limits.is_some() || whole.requests.is_some() => count(whole),
        _ => spec
            .containers
            .iter()
            .chain(items(&spec.init_containers))
            .for_each(|container| count(container.resources.as_ref().unwrap_or(&nothing))),
    }
    if requests.iter().chain(&limits).all(|amount| amount.is_zero()) {
        "BestEffort"
    } else if all_limited && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let spec = |resources: &[serde_json::Value]| -> PodSpec {
            let containers: Vec<_> =
                resources.iter().map(|resources| json!({"name": "a", "resources": resources})).collect();
            serde_json::from_value(json!({"containers": containers})).unwrap()
        };
        let full =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        let half = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}});
        let less =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}});
        let other = json!({"limits": {"example.com/gpu": "1"}, "requests": {"example.com/gpu": "1"}});
        assert_eq!(class(&spec(std::slice::from_ref(&full))), "Guaranteed");
        assert_eq!(class(&spec(&[full.clone(), json!({})])), "Burstable");
        assert_eq!(class(&spec(&[half])), "Burstable");
        assert_eq!(class(&spec(&[less])), "Burstable");
        assert_eq!(class(&spec(&[json!({}), json!({})])), "BestEffort");
        assert_eq!(class(&spec(&[other])), "BestEffort");
        let mut whole = spec(&[json!({})]);
        whole.resources = serde_json::from_value(full).unwrap();
        assert_eq!(class(&whole), "Guaranteed");
    }
}
