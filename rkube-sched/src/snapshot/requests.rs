//! What a pod asks for.
//!
//! Semantics: kube-scheduler's `PodRequests`, with sidecars (KEP-753), pod-level resources (KEP-2837),
//! overhead (KEP-688) and in-place resize (KEP-1287).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use rkube_api::meta::Quantity;

/// What scoring takes a container to need that asks for no CPU: 100 m.
pub const DEFAULT_CPU_MILLI: i64 = 100;
/// What scoring takes a container to need that asks for no memory: 200 Mi.
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// No amount counts for more than this, 64 Pi: percentages of it, and sums over the pods of a node, still
/// fit into 64 bits.
pub const MOST: i64 = 1 << 56;

/// An amount within what can be reckoned with.
pub(super) fn bounded(amount: i64) -> i64 {
    amount.clamp(0, MOST)
}

/// The resources that a pod asks for, in the units of the snapshot's columns.
///
/// ```
/// use k8s_openapi::api::core::v1::Pod;
/// use rkube_sched::snapshot::Requests;
///
/// let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"containers": [
///     {"name": "a", "resources": {"requests": {"cpu": "250m", "example.com/gpu": "2"}}}
/// ]}})).unwrap();
/// let requests = Requests::of_pod(&pod);
/// assert_eq!((requests.cpu_milli, requests.memory, requests.scalar("example.com/gpu")), (250, 0, 2));
/// assert_eq!(requests.nonzero_memory, 200 * 1024 * 1024);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// CPU in thousandths.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Ephemeral storage in bytes.
    pub ephemeral: i64,
    /// CPU in thousandths, with the default for containers that do not say.
    pub nonzero_cpu: i64,
    /// Memory in bytes, with the default for containers that do not say.
    pub nonzero_memory: i64,
    /// Every other countable resource, sorted by name.
    pub scalars: Vec<(Box<str>, i64)>,
}

impl Requests {
    /// What a pod asks for.
    pub fn of_pod(pod: &Pod) -> Self {
        let mut plain = total(pod, false);
        // Most pods say what they need of both.
        let assumed = if is_complete(pod) { plain.clone() } else { total(pod, true) };
        let (cpu, memory, ephemeral) =
            (plain.remove("cpu"), plain.remove("memory"), plain.remove("ephemeral-storage"));
        let value = |quantity: Option<Quantity>| quantity.map_or(0, |quantity| bounded(quantity.value()));
        let milli =
            |quantity: Option<Quantity>| quantity.map_or(0, |quantity| bounded(quantity.milli_value()));
        let scalars = plain
            .into_iter()
            .filter(|(name, _)| is_scalar(name))
            .map(|(name, quantity)| (name.into(), bounded(quantity.value())));
        Self {
            cpu_milli: milli(cpu),
            memory: value(memory),
            ephemeral: value(ephemeral),
            nonzero_cpu: milli(assumed.get("cpu").copied()),
            nonzero_memory: value(assumed.get("memory").copied()),
            scalars: scalars.collect(),
        }
    }

    /// How much of a scalar resource is asked for.
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars.binary_search_by(|(mine, _)| (**mine).cmp(name)).map_or(0, |index| self.scalars[index].1)
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.cpu_milli == 0 && self.memory == 0 && self.ephemeral == 0 && self.scalars.is_empty()
    }
}

/// Whether a resource is counted by its own column: extended, huge pages, attachable volumes, or one of
/// Kubernetes' own names with a domain.
pub fn is_scalar(name: &str) -> bool {
    is_extended(name)
        || name.starts_with("hugepages-")
        || name.contains("kubernetes.io/")
        || name.starts_with("attachable-volumes-")
}

/// Whether a resource belongs to neither Kubernetes' domain nor to none.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

type Amounts<'a> = BTreeMap<&'a str, Quantity>;

fn amount(quantity: &ApiQuantity) -> Quantity {
    // The API server admits no other; what cannot be read counts as nothing.
    Quantity::try_from(quantity).unwrap_or_default()
}

/// Whether each container asks for CPU and memory, so that no default counts.
fn is_complete(pod: &Pod) -> bool {
    let Some(spec) = pod.spec.as_ref() else { return true };
    let complete = |container: &Container| {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requests.is_some_and(|requests| requests.contains_key("cpu") && requests.contains_key("memory"))
    };
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).all(complete)
}

fn total(pod: &Pod, with_defaults: bool) -> Amounts<'_> {
    let Some(spec) = pod.spec.as_ref() else { return Amounts::new() };
    let status = pod.status.as_ref();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();

    let mut sum = Amounts::new();
    for container in &spec.containers {
        add(&mut sum, &of_container(container, main, with_defaults));
    }
    // Sidecars run on beside what follows them; other init containers run alone beside those started.
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container, init, with_defaults);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut alone = own;
            add(&mut alone, &sidecars);
            raise(&mut peak, &alone);
        }
    }
    raise(&mut sum, &peak);
    let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    for (name, quantity) in whole.into_iter().flatten() {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            sum.insert(name, amount(quantity));
        }
    }
    for (name, quantity) in spec.overhead.iter().flatten() {
        *sum.entry(name).or_default() += amount(quantity);
    }
    sum
}

fn of_container<'a>(
    container: &'a Container,
    statuses: &'a [ContainerStatus],
    with_defaults: bool,
) -> Amounts<'a> {
    let mut amounts = Amounts::new();
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    for (name, quantity) in requests.into_iter().flatten() {
        amounts.insert(name, amount(quantity));
    }
    // While a resize is under way the larger of what was asked, allocated and actuated counts.
    if let Some(status) = statuses.iter().find(|status| status.name == container.name) {
        let actual = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        for (name, quantity) in
            actual.into_iter().flatten().chain(status.allocated_resources.iter().flatten())
        {
            let entry = amounts.entry(name).or_default();
            *entry = (*entry).max(amount(quantity));
        }
    }
    if with_defaults {
        amounts.entry("cpu").or_insert(Quantity::from_milli(DEFAULT_CPU_MILLI));
        amounts.entry("memory").or_insert(Quantity::from_milli(DEFAULT_MEMORY * 1000));
    }
    amounts
}

fn add<'a>(to: &mut Amounts<'a>, from: &Amounts<'a>) {
    for (name, quantity) in from {
        *to.entry(name).or_default() += *quantity;
    }
}

fn raise<'a>(to: &mut Amounts<'a>, from: &Amounts<'a>) {
    for (name, quantity) in from {
        let entry = to.entry(name).or_default();
        *entry = (*entry).max(*quantity);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The requests; what is shared with others who ask is checked against their common source.
    fn of(spec: serde_json::Value) -> Requests {
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        let (requests, common) = (Requests::of_pod(&pod), rkube_api::helpers::pod::requests(&pod));
        let of = |name: &str| common.get(name).copied().unwrap_or_default();
        assert_eq!(requests.cpu_milli, of("cpu").milli_value());
        assert_eq!(requests.memory, of("memory").value());
        for (name, amount) in &requests.scalars {
            assert_eq!(*amount, of(name).value());
        }
        requests
    }

    #[test]
    fn init_containers_count_by_their_peak_and_sidecars_beside_all() {
        let requests = of(json!({
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
            ],
            "initContainers": [
                {"name": "i", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}},
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"name": "j", "resources": {"requests": {"cpu": "500m", "memory": "3Gi"}}}
            ],
            "overhead": {"cpu": "100m"}
        }));
        // Sum 3 + sidecar 1 = 4 CPU; peak of j is 1.5; memory: the peak of j, 3 Gi, exceeds 2 Gi.
        assert_eq!(requests.cpu_milli, 4100);
        assert_eq!(requests.memory, 3 << 30);
        // The sidecar asks for no memory: 200 Mi are taken for it beside j.
        assert_eq!(requests.nonzero_memory, (3 << 30) + DEFAULT_MEMORY);
    }

    #[test]
    fn pod_level_resources_take_precedence() {
        let requests = of(json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "2"}}}],
            "resources": {"requests": {"cpu": "3", "memory": "1Gi"}}
        }));
        assert_eq!((requests.cpu_milli, requests.memory, requests.nonzero_memory), (3000, 1 << 30, 1 << 30));
    }

    #[test]
    fn an_explicit_zero_is_no_default_and_unknown_names_do_not_count() {
        let requests = of(json!({"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "0", "memory": "0", "storage": "1", "hugepages-2Mi": "4Mi"}}}
        ]}));
        assert_eq!((requests.nonzero_cpu, requests.nonzero_memory), (0, 0));
        assert_eq!(requests.scalars, vec![("hugepages-2Mi".into(), 4 << 20)]);
    }

    #[test]
    fn a_resize_under_way_counts_the_larger() {
        let pod = serde_json::from_value(json!({
            "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"containerStatuses": [{
                "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "2"}
            }]}
        }));
        assert_eq!(Requests::of_pod(&pod.unwrap()).cpu_milli, 2000);
    }
}
