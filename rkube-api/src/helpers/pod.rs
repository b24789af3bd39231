//! What a pod asks for and how it stands.
//!
//! ```
//! use k8s_openapi::api::core::v1::Pod;
//! use rkube_api::helpers::pod;
//! let p: Pod = serde_json::from_value(serde_json::json!({
//!     "spec": {"containers": [
//!         {"name": "a", "resources": {"requests": {"cpu": "1"}}},
//!         {"name": "b", "resources": {"requests": {"cpu": "500m"}}},
//!     ]},
//! }))?;
//! assert_eq!(pod::requests(&p)["cpu"].to_string(), "1500m");
//! assert!(!pod::is_terminal(&p) && !pod::is_scheduled(&p));
//! # Ok::<(), serde_json::Error>(())
//! ```

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerStatus, Pod, PodCondition, PodSpec, ResourceRequirements,
};

use super::resources::{Resources, add, raise_to, read};
use crate::meta::{Quantity, conditions};

/// A pod's phases.
pub mod phase {
    /// Accepted, not all containers started.
    pub const PENDING: &str = "Pending";
    /// Bound to a node and at least one container runs.
    pub const RUNNING: &str = "Running";
    /// All containers ended well.
    pub const SUCCEEDED: &str = "Succeeded";
    /// All containers ended, at least one badly.
    pub const FAILED: &str = "Failed";
    /// The node can't be asked.
    pub const UNKNOWN: &str = "Unknown";
}

/// The phase; a pod without one is pending.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    if phase.is_empty() { phase::PENDING } else { phase }
}

/// Has it succeeded or failed for good?
#[must_use]
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), phase::SUCCEEDED | phase::FAILED)
}

/// Is its deletion under way?
#[must_use]
pub fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Does it count as a replica: neither finished nor going?
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleting(pod)
}

/// The node it is bound to.
#[must_use]
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// Is it bound to a node?
#[must_use]
pub fn is_scheduled(pod: &Pod) -> bool {
    node_name(pod).is_some()
}

/// Its conditions.
#[must_use]
pub fn conditions_of(pod: &Pod) -> &[PodCondition] {
    pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default()
}

/// Is its condition `Ready` true?
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    conditions::is_true(conditions_of(pod), "Ready")
}

/// Has it been ready for as long as asked?
#[must_use]
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    let since = conditions::get(conditions_of(pod), "Ready").and_then(|c| c.last_transition_time.as_ref());
    min_ready_seconds <= 0
        || since.is_some_and(|t| t.0.as_second() + i64::from(min_ready_seconds) <= now.as_second())
}

/// Its priority; zero if it has none.
#[must_use]
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

/// The ports it takes on its node, those of sidecars among them.
pub fn host_ports(spec: &PodSpec) -> impl Iterator<Item = &ContainerPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter(|p| p.host_port.is_some_and(|p| p > 0))
}

/// Is an init container a sidecar: started in its turn, then kept running (KEP-753)?
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What the pod asks of its node: containers and sidecars together, or an init container with the sidecars
/// before it if that is more; pod-level amounts instead where given (KEP-2837); plus overhead. While a
/// resize is under way, the most of what is wanted, allocated and in force (KEP-1287).
#[must_use]
pub fn requests(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::new() };
    let infeasible = conditions_of(pod)
        .iter()
        .find(|c| c.type_ == "PodResizePending")
        .is_some_and(|c| c.reason.as_deref() == Some("Infeasible"));
    let wanted = |c: &Container| read(c.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let fallback = |c: &Container| if infeasible { Resources::new() } else { wanted(c) };
    let allocated = |c: &Container| match status_of(pod, &c.name).and_then(|s| s.allocated_resources.as_ref())
    {
        Some(list) => read(Some(list)),
        None => fallback(c),
    };
    let in_force = |c: &Container| {
        let status = status_of(pod, &c.name);
        match status.and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref()) {
            Some(list) => read(Some(list)),
            None => allocated(c),
        }
    };
    let mut sum = aggregate(spec, allocated);
    if pod.status.is_some() {
        raise_to(&mut sum, &aggregate(spec, in_force));
    }
    if !infeasible {
        raise_to(&mut sum, &aggregate(spec, wanted));
    }
    pod_level(&mut sum, spec, |r| r.requests.as_ref());
    add(&mut sum, &read(spec.overhead.as_ref()));
    sum
}

/// What the pod may use at most; what has no limit is absent.
#[must_use]
pub fn limits(spec: &PodSpec) -> Resources {
    let mut sum = aggregate(spec, |c| read(c.resources.as_ref().and_then(|r| r.limits.as_ref())));
    pod_level(&mut sum, spec, |r| r.limits.as_ref());
    for (name, amount) in read(spec.overhead.as_ref()) {
        if let Some(limit) = sum.get_mut(&name).filter(|l| !l.is_zero()) {
            *limit += amount;
        }
    }
    sum
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses);
    all.flatten().find(|s| s.name == name)
}

/// Containers and sidecars run together; each init container runs with the sidecars before it.
fn aggregate(spec: &PodSpec, amounts: impl Fn(&Container) -> Resources) -> Resources {
    let mut sum = Resources::new();
    for container in &spec.containers {
        add(&mut sum, &amounts(container));
    }
    let mut sidecars = Resources::new();
    let mut init = Resources::new();
    for container in spec.init_containers.iter().flatten() {
        let own = amounts(container);
        if is_sidecar(container) {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise_to(&mut init, &sidecars);
        } else {
            let mut together = own;
            add(&mut together, &sidecars);
            raise_to(&mut init, &together);
        }
    }
    raise_to(&mut sum, &init);
    sum
}

type Amounts = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// Amounts given for the pod as a whole stand instead of the containers' sums.
fn pod_level(sum: &mut Resources, spec: &PodSpec, of: impl Fn(&ResourceRequirements) -> Option<&Amounts>) {
    for (name, amount) in read(spec.resources.as_ref().and_then(of)) {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            sum.insert(name, amount);
        }
    }
}

/// What containers and sidecars ask for together, or an init container with the sidecars before it if that
/// is more: what counts where the pod as a whole says nothing.
#[must_use]
pub fn containers_request(spec: &PodSpec) -> Resources {
    aggregate(spec, |c| read(c.resources.as_ref().and_then(|r| r.requests.as_ref())))
}

/// The quality of service: `Guaranteed`, `Burstable` or `BestEffort`. It is asked of every new pod, so it
/// allocates nothing.
/// Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
#[must_use]
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let (mut requests, mut limits, mut bounded) = ([Quantity::ZERO; 2], [Quantity::ZERO; 2], true);
    let amount = |list: &Option<Amounts>, name: &str| {
        let amount = list.as_ref().and_then(|list| list.get(name));
        let amount = amount.and_then(|amount| Quantity::try_from(amount).ok());
        amount.filter(|amount| !amount.is_negative()).unwrap_or(Quantity::ZERO)
    };
    let mut count = |resources: Option<&ResourceRequirements>| {
        for (at, name) in ["cpu", "memory"].into_iter().enumerate() {
            let limit = resources.map_or(Quantity::ZERO, |r| amount(&r.limits, name));
            bounded &= !limit.is_zero();
            limits[at] += limit;
            requests[at] += resources.map_or(Quantity::ZERO, |r| amount(&r.requests, name));
        }
    };
    match spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some()) {
        Some(whole) => count(Some(whole)),
        None => {
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            all.for_each(|c| count(c.resources.as_ref()));
        }
    }
    let nothing = requests.iter().chain(&limits).all(|amount| amount.is_zero());
    match (nothing, bounded && requests == limits) {
        (true, _) => "BestEffort",
        (_, true) => "Guaranteed",
        _ => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    fn container(name: &str, cpu: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(name: &str, cpu: &str) -> Value {
        json!({"name": name, "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
    }

    fn cpu(spec: Value) -> String {
        requests(&pod(json!({"spec": spec})))["cpu"].to_string()
    }

    #[test]
    fn what_a_pod_asks_for() {
        let c = container;
        for (spec, want) in [
            (json!({"containers": [c("a", "1"), c("b", "500m")]}), "1500m"),
            (json!({"containers": [c("a", "1")], "initContainers": [c("i", "3"), c("j", "2")]}), "3"),
            (json!({"containers": [c("a", "1")], "initContainers": [sidecar("s", "1")]}), "2"),
            // An init container runs beside the sidecars before it, not those after.
            (json!({"containers": [c("a", "1")], "initContainers": [sidecar("s", "1"), c("i", "3")]}), "4"),
            (json!({"containers": [c("a", "1")], "initContainers": [c("i", "3"), sidecar("s", "1")]}), "3"),
            (json!({"containers": [c("a", "1")], "overhead": {"cpu": "250m"}}), "1250m"),
            (
                json!({"containers": [c("a", "1")], "resources": {"requests": {"cpu": "5"}}, "overhead": {"cpu": "1"}}),
                "6",
            ),
        ] {
            assert_eq!(cpu(spec.clone()), want, "{spec}");
        }
    }

    #[test]
    fn a_resize_under_way_counts_the_most() {
        let mut p = pod(json!({
            "spec": {"containers": [container("a", "3")]},
            "status": {"containerStatuses": [{
                "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "2"}},
            }]},
        }));
        assert_eq!(requests(&p)["cpu"].to_string(), "3");
        let pending = json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
        p.status.as_mut().unwrap().conditions = serde_json::from_value(pending).unwrap();
        assert_eq!(requests(&p)["cpu"].to_string(), "2");
    }

    #[test]
    fn limits_take_overhead_only_where_there_is_one() {
        let p = pod(json!({"spec": {"overhead": {"cpu": "1", "memory": "1Gi"},
            "containers": [{"name": "a", "resources": {"limits": {"cpu": "2"}}}]}}));
        let limits = limits(p.spec.as_ref().unwrap());
        assert_eq!(limits["cpu"].to_string(), "3");
        assert!(!limits.contains_key("memory"));
    }

    #[test]
    fn quality_of_service() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let full = json!({"name": "a", "resources": {"requests": both, "limits": both}});
        let bare = json!({"name": "b"});
        for (spec, want) in [
            (json!({"containers": [bare]}), "BestEffort"),
            (json!({"containers": [full]}), "Guaranteed"),
            (json!({"containers": [full, bare]}), "Burstable"),
            (json!({"containers": [container("a", "1")]}), "Burstable"),
            (json!({"containers": [{"name": "a", "resources": {"requests": {"x/y": "1"}}}]}), "BestEffort"),
            (json!({"containers": [bare], "resources": {"requests": both, "limits": both}}), "Guaranteed"),
        ] {
            assert_eq!(qos_class(pod(json!({"spec": spec})).spec.as_ref().unwrap()), want);
        }
    }

    #[test]
    fn how_it_stands() {
        let p = pod(json!({
            "spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 2}, {"containerPort": 3}]}],
                "nodeName": "n", "priority": 5},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:10Z"}]},
        }));
        let at = |s| Timestamp::from_second(s).unwrap();
        assert!(is_ready(&p) && is_active(&p) && is_scheduled(&p));
        assert!(is_available(&p, 0, at(0)) && !is_available(&p, 5, at(14)) && is_available(&p, 5, at(15)));
        assert_eq!((priority(&p), host_ports(p.spec.as_ref().unwrap()).count()), (5, 1));
        let done = pod(json!({"status": {"phase": "Failed"}}));
        assert!(is_terminal(&done) && !is_active(&done) && !is_ready(&done));
        assert_eq!(phase(&Pod::default()), "Pending");
    }
}
