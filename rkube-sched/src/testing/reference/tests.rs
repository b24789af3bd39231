//! The engine decides as the reference does, by way of classes and without them, while the cluster changes.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use proptest::prelude::*;
use rkube_api::context::Rng;
use serde_json::{Value, json};

use super::*;
use crate::{
    engine::{Classes, Decision, Engine, Unfit},
    framework::{Handle, Nomination, ProfileConfig, Profiles},
    queue::Nominator,
    snapshot::{PlacedPod, PodInfo, Snapshot},
};

/// What one pod is made of: a choice a feature.
pub(crate) type Choices = [u8; 19];
/// What one node is made of.
pub(crate) type NodeChoices = [u8; 7];

fn pick<T: Clone>(from: &[T], choice: u8) -> T {
    from[usize::from(choice) % from.len()].clone()
}

pub(crate) fn app(choice: u8) -> Value {
    json!({"matchLabels": {"app": pick(&["a", "b", "c"], choice)}})
}

/// A term of pod affinity; `None` for three choices of four.
fn term(choice: u8) -> Option<Value> {
    let key = pick(&["zone", "kubernetes.io/hostname", "zone"], choice / 4);
    let mut term = json!({"topologyKey": key, "labelSelector": app(choice / 12)});
    match choice / 36 {
        1 => term["namespaces"] = json!(["other"]),
        2 => term["namespaceSelector"] = json!({"matchLabels": {"team": "x"}}),
        3 => term["matchLabelKeys"] = json!(["version"]),
        4 => term["mismatchLabelKeys"] = json!(["version"]),
        5 => term["labelSelector"] = json!({}),
        6 => (term["namespaces"], term["namespaceSelector"]) = (json!(["default"]), json!({})),
        _ => {}
    }
    choice.is_multiple_of(4).then_some(term)
}

fn spread(choice: u8, other: u8) -> Option<Value> {
    let key = pick(&["zone", "kubernetes.io/hostname"], choice / 6);
    let mut constraint = json!({
        "topologyKey": key, "labelSelector": app(choice / 12), "maxSkew": 1 + other % 2,
        "whenUnsatisfiable": pick(&["DoNotSchedule", "ScheduleAnyway"], choice / 36)
    });
    match other / 2 % 6 {
        1 => constraint["nodeTaintsPolicy"] = json!("Honor"),
        2 => constraint["nodeAffinityPolicy"] = json!("Ignore"),
        3 if (choice / 36).is_multiple_of(2) => constraint["minDomains"] = json!(3),
        4 => constraint["matchLabelKeys"] = json!(["version"]),
        _ => {}
    }
    choice.is_multiple_of(3).then_some(constraint)
}

/// What a pod asks of the node itself; none for half of the choices.
fn required_node(choice: u8) -> Option<Value> {
    let expression = match choice % 14 {
        0 => json!({"key": "zone", "operator": "In", "values": ["z0", "z1"]}),
        1 => json!({"key": "zone", "operator": "NotIn", "values": ["z1"]}),
        2 => json!({"key": "zone", "operator": "Exists"}),
        3 => json!({"key": "zone", "operator": "DoesNotExist"}),
        4 => json!({"key": "rank", "operator": "Gt", "values": ["2"]}),
        5 => json!({"key": "rank", "operator": "Lt", "values": ["4"]}),
        6 => {
            let here = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
            return Some(json!({"nodeSelectorTerms": [
                {"matchFields": [here]}, {"matchExpressions": [{"key": "rank", "operator": "In", "values": ["3"]}]}
            ]}));
        }
        _ => return None,
    };
    Some(json!({"nodeSelectorTerms": [{"matchExpressions": [expression]}, {}]}))
}

/// What runs beside the one container, and how the pod treats others.
fn shape(spec: &mut Value, choice: u8) {
    let container =
        |cpu: &str| json!({"name": "d", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}});
    match choice % 12 {
        0 => spec["initContainers"] = json!([container("3")]),
        1 => {
            let mut sidecar = container("1");
            sidecar["restartPolicy"] = json!("Always");
            spec["initContainers"] = json!([sidecar, container("2")]);
        }
        2 => spec["overhead"] = json!({"cpu": "500m", "memory": "64Mi"}),
        3 => spec["containers"] = json!([spec["containers"][0], container("1")]),
        4 => spec["preemptionPolicy"] = json!("Never"),
        _ => {}
    }
}

fn tolerations(choice: u8) -> Value {
    let lists = [
        json!([]),
        json!([{"key": "k", "operator": "Exists"}]),
        json!([]),
        json!([{"key": "l", "value": "v", "effect": "NoExecute"}, {"key": "k", "operator": "Exists"}]),
        json!([{"operator": "Exists"}]),
        json!([{"key": "l", "value": "other"}]),
        json!([{"key": "k", "operator": "Exists", "effect": "PreferNoSchedule"}]),
    ];
    pick(&lists, choice)
}

/// The container of a pod: what it asks for, its port and its image.
fn container([cpu, memory, gadget, port, image]: [u8; 5]) -> Value {
    let mut container = json!({"name": "c", "resources": {"requests": {"cpu": (cpu % 4).to_string()}}});
    container["image"] = json!(pick(&["i", "j:1", "k"], image));
    if memory % 3 == 0 {
        container["resources"]["requests"]["memory"] = json!(pick(&["1Gi", "3Gi"], memory / 3));
    }
    if gadget % 6 == 0 {
        container["resources"]["requests"]["example.com/gpu"] = json!("1");
    }
    if port % 4 == 0 {
        let mut taken = json!({"containerPort": 1, "hostPort": 80 + port / 4 % 2});
        match port / 8 % 4 {
            0 => taken["protocol"] = json!("UDP"),
            1 => taken["hostIP"] = json!("127.0.0.1"),
            2 => taken["hostIP"] = json!("0.0.0.0"),
            _ => {}
        }
        container["ports"] = json!([taken]);
    }
    container
}

pub(crate) fn pod(name: &str, choices: Choices) -> Pod {
    let [
        space,
        label,
        priority,
        cpu,
        port,
        selector,
        toleration,
        image,
        near,
        far,
        likes,
        one,
        two,
        policy,
        rest @ ..,
    ] = choices;
    let [memory, second, place, kind, gadget] = rest;
    let list = |items: [Option<Value>; 2]| items.into_iter().flatten().collect::<Vec<_>>();
    let weighted = |term: Value| json!({"weight": 1 + likes % 3, "podAffinityTerm": term});
    let mut spec = json!({
        "priority": pick(&[0, 5, 10], priority), "containers": [container([cpu, memory, gadget, port, image])],
        "tolerations": tolerations(toleration),
        "topologySpreadConstraints": list([spread(one, policy), spread(two, policy / 12)]),
        "affinity": {
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": list([term(near), term(second)]),
                "preferredDuringSchedulingIgnoredDuringExecution": list([term(likes).map(weighted), None])
            },
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": list([term(far), term(second / 2)]),
                "preferredDuringSchedulingIgnoredDuringExecution": list([term(likes / 2).map(weighted), None])
            }
        }
    });
    match selector % 6 {
        0 => spec["nodeSelector"] = json!({"zone": "z1"}),
        1 => {
            let zone = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z0"]}]});
            spec["affinity"]["nodeAffinity"] = json!({"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 2, "preference": zone}
            ]});
        }
        _ => {}
    }
    if let Some(required) = required_node(place) {
        spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = required;
    }
    shape(&mut spec, kind);
    let value = json!({
        "metadata": {
            "name": name, "namespace": pick(&["default", "default", "other"], space), "uid": format!("uid-{name}"),
            "labels": {"app": pick(&["a", "b", "c"], label), "version": (label / 3 % 2).to_string()}
        },
        "spec": spec
    });
    serde_json::from_value(value).unwrap()
}

pub(crate) fn node(number: u8, choices: NodeChoices) -> Node {
    let [zone, cpu, taint, image, pods, other, more] = choices;
    let name = format!("n{number}");
    let mut labels = json!({"kubernetes.io/hostname": name, "rank": number.to_string()});
    if zone % 5 == 4 {
        labels = json!({});
    } else if zone % 5 < 3 {
        labels["zone"] = json!(format!("z{}", zone % 5));
        labels["topology.kubernetes.io/zone"] = labels["zone"].clone();
    }
    let effect = pick(&["", "", "", "NoSchedule", "PreferNoSchedule"], taint);
    let second = pick(&["", "", "", "", "NoExecute", "PreferNoSchedule"], other);
    let taints: Vec<Value> =
        [json!({"key": "k", "effect": effect}), json!({"key": "l", "value": "v", "effect": second})]
            .into_iter()
            .filter(|taint| taint["effect"] != "")
            .collect();
    // An image is as large on one node as on another.
    let (image, size) = pick(&[("i:latest", 9_i64 << 28), ("j:1", 3 << 28)], image);
    let image = json!({"names": [image], "sizeBytes": size});
    let value = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": taint / 5 % 9 == 8},
        "status": {
            "allocatable": {
                "cpu": (cpu % 7).to_string(), "memory": pick(&["4Gi", "4Gi", "2Gi"], more),
                "pods": (1 + pods % 5).to_string(), "example.com/gpu": (more / 3 % 3).to_string()
            },
            "images": [image]
        }
    });
    serde_json::from_value(value).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Node(u8, NodeChoices),
    NodeGone(u8),
    PodGone(u8),
    Terminate(u8),
    Relabel(u8, u8),
    /// A volume that nobody has is another.
    Volume(u8, [u8; 4]),
    /// A pod of a kind, and what is done with who has to go for it.
    Pod(u8, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..7u8, any::<NodeChoices>()).prop_map(|(number, choices)| Step::Node(number, choices)),
        1 => (0..7u8).prop_map(Step::NodeGone),
        1 => any::<u8>().prop_map(Step::PodGone),
        1 => any::<u8>().prop_map(Step::Terminate),
        1 => any::<(u8, u8)>().prop_map(|(number, label)| Step::Relabel(number, label)),
        1 => (0..6u8, any::<[u8; 4]>()).prop_map(|(number, choices)| Step::Volume(number, choices)),
        12 => (0..4u8, any::<bool>()).prop_map(|(kind, evict)| Step::Pod(kind, evict)),
    ];
    prop::collection::vec(step, 1..40)
}

/// The cluster as its objects, and as the engine sees it.
struct World {
    cluster: Cluster,
    snapshot: Snapshot,
    profiles: Profiles,
    classes: Classes,
    handle: Handle,
}

impl World {
    fn new(nodes: Vec<NodeChoices>, allowed: u8, choices: [u8; 20]) -> Self {
        let space = |name: &str, team: &str| -> Namespace {
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"team": team}}})).unwrap()
        };
        let budget = |name: &str, space: &str, selector: Value, allowed: u8| -> PodDisruptionBudget {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": space}, "spec": {"selector": selector},
                "status": {"disruptionsAllowed": allowed % 3}
            }))
            .unwrap()
        };
        let versions = json!({"matchLabels": {"version": "1"}});
        let budgets = vec![
            budget("b", "default", app(0), allowed),
            budget("c", "default", versions, allowed / 3),
            budget("d", "other", app(1), allowed / 9),
        ];
        let namespaces = vec![space("default", "y"), space("other", "x")];
        let handle = Handle::default();
        for space in &namespaces {
            handle.listers.get().insert(Arc::new(space.clone()));
        }
        for budget in &budgets {
            handle.listers.get().insert(Arc::new(budget.clone()));
        }
        let profiles =
            Profiles::build(&[ProfileConfig::standard()], &crate::plugins::all(), &handle).unwrap();
        let storage = storage::storage(choices);
        storage::show(&storage, &handle);
        let cluster = Cluster { namespaces, budgets, storage, ..Cluster::default() };
        let (snapshot, classes) = (Snapshot::default(), Classes::default());
        let mut world = Self { cluster, snapshot, profiles, classes, handle };
        for (number, choices) in nodes.into_iter().enumerate() {
            world.set_node(node(number as u8, choices));
        }
        world
    }

    fn set_node(&mut self, node: Node) {
        self.cluster.nodes.retain(|other| name(other) != name(&node));
        self.snapshot.set_node(Arc::new(node.clone()));
        self.cluster.nodes.push(node);
    }

    fn set_pod(&mut self, pod: Pod) {
        self.cluster.pods.retain(|other| other.metadata.uid != pod.metadata.uid);
        self.snapshot.set_pod(PlacedPod::of(&pod), node_of(&pod).unwrap());
        self.cluster.pods.push(pod);
    }

    fn remove_pod(&mut self, uid: &str) {
        self.cluster.pods.retain(|pod| pod.metadata.uid.as_deref() != Some(uid));
        self.snapshot.remove_pod(uid);
    }

    fn some_pod(&self, choice: u8) -> Option<Pod> {
        let pods = &self.cluster.pods;
        (!pods.is_empty()).then(|| pods[usize::from(choice) % pods.len()].clone())
    }

    fn change(&mut self, step: &Step) {
        match step {
            Step::Node(number, choices) => self.set_node(node(*number, *choices)),
            Step::NodeGone(number) => {
                let gone = format!("n{number}");
                self.cluster.nodes.retain(|node| name(node) != gone);
                self.snapshot.remove_node(&gone);
            }
            Step::PodGone(choice) => {
                if let Some(pod) = self.some_pod(*choice) {
                    self.remove_pod(pod.metadata.uid.as_deref().unwrap());
                }
            }
            // One that is on its way out and may have to go besides is counted twice, as kube-scheduler does.
            Step::Terminate(choice) => {
                if let Some(mut pod) = self.some_pod(*choice)
                    && pod.spec.as_ref().unwrap().priority == Some(10)
                {
                    pod.metadata.deletion_timestamp =
                        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
                    self.set_pod(pod);
                }
            }
            Step::Relabel(choice, label) => {
                if let Some(mut pod) = self.some_pod(*choice) {
                    pod.metadata.labels = Some([("app".into(), pick(&["a", "b"], *label).into())].into());
                    self.set_pod(pod);
                }
            }
            Step::Volume(number, choices) => {
                storage::replace(&mut self.cluster.storage, *number, *choices);
                storage::show(&self.cluster.storage, &self.handle);
            }
            Step::Pod(..) => {}
        }
    }

    /// Decides for a pod, checks the decision, and carries it out.
    fn try_pod(&mut self, pod: Pod, evict: bool, seed: u64) -> Result<(), TestCaseError> {
        let info = Arc::new(PodInfo::new(Arc::new(pod.clone())));
        let profile = self.profiles.of(&info).unwrap().clone();
        let nominator = Nominator::default();
        let (one, other, third) = (Rng::seeded(seed), Rng::seeded(seed), Rng::seeded(seed));
        let engine = |rng| Engine { snapshot: &self.snapshot, nominator: &nominator, rng };
        let plain = engine(&one).decide(&info, &profile).decision;
        let quick = engine(&other).decide_in(&mut self.classes, &info, &profile).decision;
        prop_assert_eq!(format!("{plain:?}"), format!("{quick:?}"));
        let expected = totals(&self.cluster, &pod);
        let said = engine(&third).totals(&info, &profile);
        let said: BTreeMap<String, i64> =
            said.into_iter().map(|(id, score)| (self.snapshot.view(id).name().to_owned(), score)).collect();
        prop_assert_eq!(&said, &expected);
        match plain {
            Decision::Place(placement) => {
                let node = self.snapshot.view(placement.node).name().to_owned();
                prop_assert_eq!(placement.feasible, expected.len());
                prop_assert_eq!(expected.get(&node), expected.values().max());
                let there = self.cluster.nodes.iter().find(|it| name(it) == node).unwrap();
                let volumes = volumes_on(&self.cluster, &pod, there).unwrap();
                storage::bind(&mut self.cluster.storage, volumes, &node);
                storage::show(&self.cluster.storage, &self.handle);
                let mut pod = pod;
                let minute = seed % 60;
                pod.spec.as_mut().unwrap().node_name = Some(node);
                if !seed.is_multiple_of(3) {
                    let started = json!({"startTime": format!("2026-01-01T00:{minute:02}:00Z")});
                    pod.status = serde_json::from_value(started).unwrap();
                }
                self.set_pod(pod);
            }
            Decision::Unfit(unfit) => {
                prop_assert!(expected.is_empty());
                let victims = self.check_victims(&pod, &unfit)?;
                victims.iter().filter(|_| evict).for_each(|uid| self.remove_pod(uid));
            }
            Decision::Fail(status) => prop_assert!(false, "{}", status),
        }
        Ok(())
    }

    fn check_victims(&self, pod: &Pod, unfit: &Unfit) -> Result<Vec<String>, TestCaseError> {
        let best = best_sacrifices(&self.cluster, pod);
        let uids: Vec<String> = unfit.plan.victims.iter().map(|victim| victim.uid.clone()).collect();
        let Nomination::Node(node) = &unfit.plan.nomination else {
            prop_assert!(best.is_empty(), "{:?}", best);
            return Ok(uids);
        };
        let chosen = best.iter().find(|sacrifice| sacrifice.node == *node);
        let expected: Option<Vec<String>> =
            chosen.map(|chosen| chosen.victims.iter().filter_map(|pod| pod.metadata.uid.clone()).collect());
        prop_assert_eq!(Some(&uids), expected.as_ref());
        Ok(uids)
    }
}

proptest! {
    #[test]
    fn the_engine_decides_as_the_reference_does(
        nodes in prop::collection::vec(any::<NodeChoices>(), 1..7),
        kinds in any::<[Choices; 4]>(),
        allowed in any::<u8>(),
        storage in any::<[u8; 20]>(),
        volumes in any::<[[u8; 2]; 4]>(),
        steps in steps(),
        seed in 0..1000u64,
    ) {
        let mut world = World::new(nodes, allowed, storage);
        for (at, step) in steps.iter().enumerate() {
            world.change(step);
            if let Step::Pod(kind, evict) = step {
                let kind = usize::from(*kind);
                let mut pod = pod(&format!("p{at}"), kinds[kind]);
                pod.spec.as_mut().unwrap().volumes = Some(storage::volumes(&volumes[kind]));
                world.try_pod(pod, *evict, seed + at as u64)?;
            }
        }
    }
}
