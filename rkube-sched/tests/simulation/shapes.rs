//! The nodes and pods of a run, drawn from its seed.

use rkube_api::context::Rng;
use serde_json::{Value, json};

use crate::{devices, probe::POINTS, storage};

pub(crate) fn pick<T: Copy>(rng: &Rng, from: &[T]) -> T {
    from[rng.below(from.len())]
}

/// Whether something is so that is so in `count` cases of `of`.
pub(crate) fn chance(rng: &Rng, count: usize, of: usize) -> bool {
    rng.below(of) < count
}

pub(crate) fn capacity(rng: &Rng) -> Value {
    json!({
        "cpu": pick(rng, &["1", "2", "4", "8", "0", "1500m"]),
        "memory": pick(rng, &["1Gi", "4Gi", "16Gi"]),
        "ephemeral-storage": "10Gi",
        "pods": pick(rng, &["2", "5", "20", "110"]),
        "example.com/gpu": pick(rng, &["0", "1", "4"])
    })
}

pub(crate) fn taints(rng: &Rng) -> Value {
    match rng.below(5) {
        0 => json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]),
        1 => json!([{"key": "k", "effect": "PreferNoSchedule"}]),
        _ => Value::Null,
    }
}

/// The labels that follow from a node's name: what others count by is always the same.
pub(crate) fn fixed_labels(node: &str) -> Value {
    let number: usize = node.trim_start_matches('n').parse().unwrap();
    let mut labels = json!({"kubernetes.io/hostname": node});
    if number % 4 < 3 {
        labels["zone"] = json!(format!("z{}", number % 4));
    }
    labels
}

/// A node.
pub(crate) fn node(rng: &Rng, number: usize) -> Value {
    let name = format!("n{number}");
    let mut labels = fixed_labels(&name);
    labels["disk"] = json!(pick(rng, &["ssd", "hdd"]));
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints(rng), "unschedulable": chance(rng, 1, 10)},
        "status": {"allocatable": capacity(rng)}
    })
}

/// The pods that a seed asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    /// Whether pods panic somewhere.
    pub(crate) panics: bool,
    /// Whether pods are absurd at times.
    pub(crate) absurd: bool,
    /// Whether some are to be scheduled together.
    pub(crate) gangs: bool,
    /// Whether some have volumes.
    pub(crate) volumes: bool,
    /// Whether some have devices.
    pub(crate) devices: bool,
}

/// A pod. One in three is plain, so that many are alike.
pub(crate) fn pod(rng: &Rng, palette: Palette, name: &str, schedulers: &[&str]) -> Value {
    let mut spec = json!({
        "containers": [container(rng)], "schedulerName": pick(rng, schedulers),
        "terminationGracePeriodSeconds": pick(rng, &[0, 5, 30])
    });
    let mut labels = json!({"app": pick(rng, &["a", "b", "c"]), "version": pick(rng, &["1", "2"])});
    if chance(rng, 1, 3) {
        spec["priorityClassName"] = json!(pick(rng, &["low", "middle", "high", "patient"]));
    }
    if chance(rng, 2, 3) {
        adorn(rng, &mut spec);
    }
    if chance(rng, 1, 12) {
        labels["permit"] = json!("asks");
    }
    if palette.panics && chance(rng, 1, 10) {
        labels["panic"] = json!(pick(rng, &POINTS));
    }
    if palette.absurd && chance(rng, 1, 25) {
        exaggerate(rng, &mut spec);
    }
    let namespace = pick(rng, &["default", "default", "other"]);
    let mut pod = json!({"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec});
    if palette.volumes && chance(rng, 1, 4) {
        storage::adorn(rng, &mut pod);
    }
    if palette.devices && chance(rng, 1, 4) {
        devices::adorn(rng, &mut pod);
    }
    pod
}

fn container(rng: &Rng) -> Value {
    let mut requests = json!({});
    if chance(rng, 4, 5) {
        requests["cpu"] = json!(pick(rng, &["0", "100m", "500m", "1", "2", "3"]));
    }
    if chance(rng, 1, 2) {
        requests["memory"] = json!(pick(rng, &["0", "256Mi", "1Gi", "3Gi"]));
    }
    let mut resources = json!({});
    if chance(rng, 1, 8) {
        requests["example.com/gpu"] = json!("1");
        resources["limits"] = json!({"example.com/gpu": "1"});
    }
    resources["requests"] = requests;
    let mut container = json!({"name": "c", "image": "i", "resources": resources});
    if chance(rng, 1, 10) {
        container["ports"] = json!([{"containerPort": 80, "hostPort": pick(rng, &[80, 81])}]);
    }
    container
}

/// One or two of the things that a pod can ask for.
fn adorn(rng: &Rng, spec: &mut Value) {
    for _ in 0..1 + rng.below(2) {
        match rng.below(9) {
            0 => spec["nodeSelector"] = json!({"disk": pick(rng, &["ssd", "hdd"])}),
            1 => spec["tolerations"] = json!([{"key": "k", "operator": "Exists"}]),
            2 => spec["schedulingGates"] = json!([{"name": "example.com/gate"}]),
            3 => spec["topologySpreadConstraints"] = json!([spread(rng)]),
            4 => {
                spec["affinity"]["podAffinity"] = json!({
                    "requiredDuringSchedulingIgnoredDuringExecution": [term(rng)]
                })
            }
            5 => {
                spec["affinity"]["podAffinity"] = json!({
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "podAffinityTerm": term(rng)}]
                })
            }
            6 => {
                spec["affinity"]["nodeAffinity"] = json!({
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [
                        {"key": "zone", "operator": "In", "values": [pick(rng, &["z0", "z1", "z2"])]}
                    ]}]}
                })
            }
            _ => {
                spec["affinity"]["podAntiAffinity"] = json!({
                    "requiredDuringSchedulingIgnoredDuringExecution": [term(rng)]
                })
            }
        }
    }
}

fn app(rng: &Rng) -> Value {
    json!({"matchLabels": {"app": pick(rng, &["a", "b", "c"])}})
}

fn term(rng: &Rng) -> Value {
    let mut term =
        json!({"topologyKey": pick(rng, &["zone", "kubernetes.io/hostname"]), "labelSelector": app(rng)});
    match rng.below(6) {
        0 => term["namespaces"] = json!(["other"]),
        1 => term["namespaceSelector"] = json!({"matchLabels": {"team": "x"}}),
        _ => {}
    }
    term
}

fn spread(rng: &Rng) -> Value {
    let mut constraint = json!({
        "topologyKey": pick(rng, &["zone", "kubernetes.io/hostname"]), "labelSelector": app(rng),
        "maxSkew": 1 + rng.below(2), "whenUnsatisfiable": pick(rng, &["DoNotSchedule", "ScheduleAnyway"])
    });
    match rng.below(5) {
        0 => constraint["nodeTaintsPolicy"] = json!("Honor"),
        1 => constraint["matchLabelKeys"] = json!(["version"]),
        2 if constraint["whenUnsatisfiable"] == "DoNotSchedule" => constraint["minDomains"] = json!(2),
        _ => {}
    }
    constraint
}

/// Valid, but nobody would write it.
fn exaggerate(rng: &Rng, spec: &mut Value) {
    let most = i64::MAX.to_string();
    match rng.below(9) {
        0 => {
            let toleration =
                |at| json!({"key": format!("k{at}"), "operator": "Exists", "effect": "NoSchedule"});
            spec["tolerations"] = (0..1000).map(toleration).collect();
        }
        1 => {
            let container = |at| {
                json!({"name": format!("c{at}"), "image": "i", "resources": {
                    "requests": {"cpu": "1m", "memory": "1"}
                }})
            };
            spec["containers"] = (0..200).map(container).collect();
        }
        2 => ask(spec, "cpu", &most),
        3 => ask(spec, "memory", &most),
        4 => ask(spec, "memory", "8000000000Gi"),
        5 => {
            // The first does not fit beside the sum of others, if sums run over.
            let container = |at| {
                json!({"name": format!("c{at}"), "image": "i", "resources": {
                    "requests": {"cpu": most, "memory": most}
                }})
            };
            spec["containers"] = (0..3).map(container).collect();
        }
        6 => {
            let way = pick(rng, &["ScheduleAnyway", "DoNotSchedule"]);
            let constraint = |at| {
                json!({
                    "topologyKey": format!("example.com/k{at}"), "whenUnsatisfiable": way, "maxSkew": i32::MAX,
                    "labelSelector": {"matchLabels": {"app": "a"}}
                })
            };
            spec["topologySpreadConstraints"] = (0..2000).map(constraint).collect();
        }
        7 => {
            let term = |at: usize| {
                json!({
                    "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": format!("nobody{at}")}}
                })
            };
            spec["affinity"] = json!({"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": (0..300).map(term).collect::<Vec<_>>()
            }});
        }
        _ => {
            let expression = |at| json!({"key": format!("k{at}"), "operator": "DoesNotExist"});
            let term = json!({"matchExpressions": (0..50).map(expression).collect::<Vec<_>>()});
            spec["affinity"] = json!({"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": vec![term; 40]}
            }});
        }
    }
}

fn ask(spec: &mut Value, resource: &str, amount: &str) {
    spec["containers"][0]["resources"]["requests"][resource] = json!(amount);
}
