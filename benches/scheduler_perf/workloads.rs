//! What each workload is made of.

use rkube::prelude::*;
use serde_json::{Value, json};

use crate::volumes::Backing;

/// The zones of a workload's nodes; none have no zone.
type Zones = &'static [&'static str];

/// One of upstream's workloads.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    zones: Zones,
    /// Pods that are there before, in equal shares.
    first: Vec<Value>,
    /// Pods that are measured.
    measured: Value,
    counts: fn(usize) -> Sizes,
    /// What is created among the measured pods, and after how many of those.
    pub(crate) beside: Option<(usize, Value)>,
    /// Whether a node comes and goes with it.
    pub(crate) churns_nodes: bool,
    /// Pods that wait behind a gate all the time.
    pub(crate) gated: usize,
    /// Whether the first node takes any number of pods.
    roomy: bool,
    /// What stands behind the claim of each pod, if it has one.
    pub(crate) backing: Option<Backing>,
    /// Bound pods a second that upstream's own test asks for, at its largest size.
    pub(crate) threshold: Option<u32>,
}

/// How many pods.
pub(crate) struct Sizes {
    pub(crate) first: usize,
    pub(crate) measured: usize,
}

/// Those whose pods form classes: what they ask of a node does not depend on other pods.
pub(crate) const CLASSED: [&str; 5] = [
    "SchedulingBasic",
    "SchedulingNodeAffinity",
    "SchedulingSecrets",
    "Unschedulable",
    "SchedulingWhileGated",
];
/// The first half of upstream's two namespaces; measured pods are in the other.
pub(crate) const NAMESPACES: [&str; 2] = ["sched-0", "sched-1"];
/// The class of pods that come before others.
pub(crate) const HIGH: &str = "high";
/// Its priority.
pub(crate) const HIGH_PRIORITY: i32 = 10;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

impl Workload {
    fn new(name: &'static str, measured: Value, counts: fn(usize) -> Sizes, threshold: u32) -> Self {
        Self {
            name,
            zones: &[],
            first: vec![measured.clone()],
            measured,
            counts,
            beside: None,
            churns_nodes: false,
            gated: 0,
            roomy: false,
            backing: None,
            threshold: Some(threshold),
        }
    }

    fn zones(self, zones: Zones) -> Self {
        Self { zones, ..self }
    }

    fn first(self, first: Vec<Value>) -> Self {
        Self { first, ..self }
    }

    fn beside(self, every: usize, shape: Value) -> Self {
        Self { beside: Some((every, shape)), ..self }
    }

    pub(crate) fn sizes(&self, nodes: usize) -> Sizes {
        (self.counts)(nodes)
    }

    /// The nodes of upstream's default template.
    pub(crate) fn nodes(&self, count: usize) -> impl Iterator<Item = Node> {
        (0..count).map(|number| {
            let mut node = node(number, self.zones);
            if self.roomy && number == 0 {
                let pods =
                    node.status.as_mut().unwrap().allocatable.as_mut().unwrap().get_mut("pods").unwrap();
                pods.0 = "100000".into();
            }
            node
        })
    }

    /// The pods that are there before.
    pub(crate) fn first_pods(&self, nodes: usize) -> impl Iterator<Item = Pod> {
        let shapes: Vec<Pod> = self.first.iter().map(parsed).collect();
        let count = self.sizes(nodes).first;
        (0..count).map(move |number| named(&shapes[number * shapes.len() / count], "first", number, 0))
    }

    /// The pods that are measured.
    pub(crate) fn measured_pods(&self, nodes: usize) -> impl Iterator<Item = Pod> + Send + use<> {
        let shape = parsed(&self.measured);
        (0..self.sizes(nodes).measured).map(move |number| named(&shape, "measured", number, 1))
    }

    /// The pods that wait behind a gate.
    pub(crate) fn gated_pods(&self) -> impl Iterator<Item = Pod> {
        let mut shape = light();
        shape["spec"]["schedulingGates"] = json!([{"name": "test.k8s.io/hold"}]);
        let shape = parsed(&shape);
        (0..self.gated).map(move |number| named(&shape, "gated", number, 0))
    }
}

pub(crate) fn parsed(shape: &Value) -> Pod {
    serde_json::from_value(shape.clone()).unwrap()
}

pub(crate) fn named(shape: &Pod, prefix: &str, number: usize, namespace: usize) -> Pod {
    let mut pod = shape.clone();
    pod.metadata.name = Some(format!("{prefix}-{number:06}"));
    pod.metadata.namespace = Some(NAMESPACES[namespace].into());
    let volumes = pod.spec.iter_mut().flat_map(|spec| spec.volumes.iter_mut().flatten());
    for claim in volumes.filter_map(|volume| volume.persistent_volume_claim.as_mut()) {
        claim.claim_name = pod.metadata.name.clone().unwrap_or_default();
    }
    pod
}

pub(crate) fn node(number: usize, zones: Zones) -> Node {
    let name = format!("node-{number:06}");
    let mut labels = json!({HOSTNAME: name});
    if !zones.is_empty() {
        labels[ZONE] = json!(zones[number % zones.len()]);
    }
    let amounts = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "status": {
            "capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]
        }
    }))
    .unwrap()
}

fn light() -> Value {
    json!({"metadata": {}, "spec": {
        "containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.10.2"}],
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false
    }})
}

fn asking_for(cpu: &str) -> Value {
    let mut pod = light();
    let amounts = json!({"cpu": cpu, "memory": "500Mi"});
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": amounts, "limits": amounts});
    pod
}

fn basic() -> Value {
    asking_for("100m")
}

fn high_priority(cpu: &str) -> Value {
    let mut pod = asking_for(cpu);
    pod["spec"]["priorityClassName"] = json!(HIGH);
    pod["spec"]["priority"] = json!(HIGH_PRIORITY);
    pod
}

fn of_color(color: &str) -> Value {
    let mut pod = basic();
    pod["metadata"]["labels"] = json!({"color": color});
    pod
}

fn selecting(color: &str) -> Value {
    json!({"matchLabels": {"color": color}})
}

fn term(color: &str, key: &str) -> Value {
    json!({"labelSelector": selecting(color), "topologyKey": key, "namespaces": NAMESPACES})
}

fn with_affinity(color: &str, kind: &str, how: &str, terms: Value) -> Value {
    let mut pod = of_color(color);
    pod["spec"]["affinity"] = json!({kind: {format!("{how}DuringSchedulingIgnoredDuringExecution"): terms}});
    pod
}

fn required_affinity() -> Value {
    with_affinity("blue", "podAffinity", "required", json!([term("blue", ZONE)]))
}

fn required_anti_affinity() -> Value {
    with_affinity("green", "podAntiAffinity", "required", json!([term("green", HOSTNAME)]))
}

fn preferred_affinity() -> Value {
    let terms = json!([{"weight": 1, "podAffinityTerm": term("red", HOSTNAME)}]);
    with_affinity("red", "podAffinity", "preferred", terms)
}

fn preferred_anti_affinity() -> Value {
    let terms = json!([{"weight": 1, "podAffinityTerm": term("yellow", HOSTNAME)}]);
    with_affinity("yellow", "podAntiAffinity", "preferred", terms)
}

fn on_nodes(selector: Value) -> Value {
    let mut pod = basic();
    pod["spec"]["affinity"] = json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [selector]}
    }});
    pod
}

fn in_zones() -> Value {
    on_nodes(json!({"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["zone1", "zone2"]}]}))
}

fn of_daemon() -> Value {
    let mut pod = light();
    let field = json!({"key": "metadata.name", "operator": "In", "values": ["node-000000"]});
    pod["spec"]["affinity"] = on_nodes(json!({"matchFields": [field]}))["spec"]["affinity"].take();
    pod
}

fn spread(action: &str) -> Value {
    let mut pod = of_color("blue");
    pod["spec"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": action, "labelSelector": selecting("blue")
    }]);
    pod
}

/// Upstream's sizes at 500 nodes, and at 5,000; larger clusters get the pods of the latter.
fn sizes(nodes: usize, small: (usize, usize), large: (usize, usize)) -> Sizes {
    let (first, measured) = if nodes < 5_000 { small } else { large };
    Sizes { first, measured }
}

/// The nodes of the largest workload.
pub(crate) const MOST_NODES: usize = 100_000;

/// Ours: ten small pods on each of a hundred thousand nodes.
pub(crate) fn million() -> Workload {
    let ten_each: fn(usize) -> Sizes = |nodes| Sizes { first: 0, measured: 10 * nodes };
    Workload { threshold: None, ..Workload::new("Million", basic(), ten_each, 0) }
}

const ONE_ZONE: Zones = &["zone1"];
const THREE_ZONES: Zones = &["moon-1", "moon-2", "moon-3"];

/// All of them.
pub(crate) fn all() -> Vec<Workload> {
    let mut all = vec![Workload::new(
        "SchedulingBasic",
        basic(),
        |nodes| sizes(nodes, (500, 1_000), (5_000, 50_000)),
        810,
    )];
    all.extend(of_terms());
    all.extend(of_other_features());
    all.extend(with_volumes());
    all.extend(with_company());
    all
}

fn of_terms() -> [Workload; 5] {
    let affine: fn(usize) -> Sizes = |nodes| sizes(nodes, (500, 1_000), (5_000, 5_000));
    let apart: fn(usize) -> Sizes = |nodes| sizes(nodes, (100, 400), (1_000, 2_000));
    let mixed = vec![
        basic(),
        required_affinity(),
        required_anti_affinity(),
        preferred_affinity(),
        preferred_anti_affinity(),
    ];
    let to_mixed: fn(usize) -> Sizes = |nodes| sizes(nodes, (1_000, 1_000), (10_000, 5_000));
    [
        Workload::new("SchedulingPodAntiAffinity", required_anti_affinity(), apart, 60),
        Workload::new("SchedulingPodAffinity", required_affinity(), affine, 35).zones(ONE_ZONE),
        Workload::new("SchedulingPreferredPodAffinity", preferred_affinity(), affine, 90),
        Workload::new("SchedulingPreferredPodAntiAffinity", preferred_anti_affinity(), affine, 90),
        Workload::new("MixedSchedulingBasePod", basic(), to_mixed, 140).zones(ONE_ZONE).first(mixed),
    ]
}

fn of_other_features() -> [Workload; 4] {
    let spreading: fn(usize) -> Sizes = |nodes| sizes(nodes, (1_000, 1_000), (5_000, 5_000));
    let to_zone: fn(usize) -> Sizes = |nodes| sizes(nodes, (500, 1_000), (5_000, 10_000));
    let to_one_node: fn(usize) -> Sizes = |_| Sizes { first: 0, measured: 30_000 };
    let mut daemons = Workload::new("SchedulingDaemonset", of_daemon(), to_one_node, 1_100);
    daemons.roomy = true;
    [
        Workload::new("SchedulingNodeAffinity", in_zones(), to_zone, 220).zones(ONE_ZONE),
        Workload::new("TopologySpreading", spread("DoNotSchedule"), spreading, 460)
            .zones(THREE_ZONES)
            .first(vec![basic()]),
        Workload::new("PreferredTopologySpreading", spread("ScheduleAnyway"), spreading, 340)
            .zones(THREE_ZONES)
            .first(vec![basic()]),
        daemons,
    ]
}

fn with_volume(source: Value) -> Value {
    let mut pod = basic();
    let mut volume = source;
    volume["name"] = json!("vol");
    pod["spec"]["volumes"] = json!([volume]);
    pod
}

/// Those whose pods have volumes: a secret, or a claim of their own.
fn with_volumes() -> [Workload; 4] {
    let secrets: fn(usize) -> Sizes = |nodes| sizes(nodes, (500, 1_000), (1_000, 10_000));
    let in_tree: fn(usize) -> Sizes = |nodes| sizes(nodes, (500, 1_000), (1_000, 2_000));
    let of_driver: fn(usize) -> Sizes = |nodes| sizes(nodes, (500, 1_000), (5_000, 5_000));
    let claiming = |name, counts, threshold, backing| {
        let pod = with_volume(json!({"persistentVolumeClaim": {"claimName": ""}}));
        Workload { backing: Some(backing), ..Workload::new(name, pod, counts, threshold) }
    };
    [
        Workload::new(
            "SchedulingSecrets",
            with_volume(json!({"secret": {"secretName": "secret"}})),
            secrets,
            790,
        ),
        claiming("SchedulingInTreePVs", in_tree, 290, Backing::InTree),
        claiming("SchedulingMigratedInTreePVs", of_driver, 100, Backing::Migrated),
        claiming("SchedulingCSIPVs", of_driver, 100, Backing::Csi),
    ]
}

/// Those in which something else goes on.
fn with_company() -> [Workload; 4] {
    let beside: fn(usize) -> Sizes = |nodes| sizes(nodes, (10, 1_000), (100, 10_000));
    let alone: fn(usize) -> Sizes = |nodes| sizes(nodes, (0, 1_000), (0, 10_000));
    // Four low pods a node, of which three have to go; upstream has it at 1,000 nodes only, without a
    // threshold.
    let full: fn(usize) -> Sizes = |nodes| Sizes { first: 4 * nodes, measured: nodes.min(1_000) };
    let mut preemption =
        Workload::new("PreemptionBasic", high_priority("3"), full, 0).first(vec![asking_for("900m")]);
    preemption.threshold = None;
    // Upstream makes one that fits nowhere every 200 ms, at 590 pods a second.
    let hopeless = Workload::new("Unschedulable", basic(), beside, 590).beside(118, high_priority("9"));
    let mut churn = Workload::new("SchedulingWithMixedChurn", basic(), alone, 710);
    (churn.beside, churn.churns_nodes) = (Some((710, high_priority("9"))), true);
    let while_gated: fn(usize) -> Sizes = |_| Sizes { first: 0, measured: 20_000 };
    let mut gated = Workload::new("SchedulingWhileGated", light(), while_gated, 910);
    gated.gated = 10_000;
    [preemption, hopeless, churn, gated]
}
