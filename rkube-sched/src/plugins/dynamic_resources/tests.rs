//! What the plugin says at its points, and what it writes down.

use k8s_openapi::api::core::v1::Pod;
use rkube_api::client::{Change, ObjectKey};
use serde_json::{Value, json};

use super::*;
use crate::{
    engine::{Decision, Engine, Unfit},
    framework::{Listers, Profile, ProfileConfig, Profiles},
    queue::Nominator,
    testing,
};

const DRIVER: &str = "gpu.example.com";

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Slices, classes and claims, and the plugin that looks at them.
struct World {
    listers: Listers,
    plugin: DynamicResources,
}

impl World {
    fn new() -> Self {
        let handle = Handle::default();
        let listers = handle.listers.clone();
        let world = Self { plugin: DynamicResources::new(&handle), listers };
        world.class("gpu", json!({}));
        world
    }

    fn class(&self, name: &str, spec: Value) {
        let class: DeviceClass = read(json!({"metadata": {"name": name}, "spec": spec}));
        self.listers.get::<DeviceClass>().insert(Arc::new(class));
    }

    /// A slice of a node's own pool.
    fn slice(&self, node: &str, devices: Value) {
        let pool = json!({"name": node, "generation": 1, "resourceSliceCount": 1});
        let spec = json!({"driver": DRIVER, "nodeName": node, "pool": pool, "devices": devices});
        let slice: ResourceSlice = read(json!({"metadata": {"name": node}, "spec": spec}));
        self.listers.get::<ResourceSlice>().insert(Arc::new(slice));
    }

    fn claim(&self, name: &str, devices: Value, status: Value) {
        let meta = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1"});
        let claim: ResourceClaim =
            read(json!({"metadata": meta, "spec": {"devices": devices}, "status": status}));
        self.listers.get::<ResourceClaim>().insert(Arc::new(claim));
    }

    fn profile(&self) -> Profile {
        let config = ProfileConfig::standard();
        let handle = Handle { listers: self.listers.clone(), ..Handle::default() };
        Profile::build(&config, &crate::plugins::all(), &handle).unwrap()
    }

    fn message(&self, pod: &PodInfo, snapshot: &Snapshot) -> String {
        match self.decide(pod, snapshot) {
            Decision::Unfit(unfit) => {
                let Unfit { diagnosis, .. } = *unfit;
                diagnosis.message()
            }
            Decision::Fail(status) => status.message(),
            Decision::Place(placement) => snapshot.view(placement.node).name().to_owned(),
        }
    }

    fn decide(&self, pod: &PodInfo, snapshot: &Snapshot) -> Decision {
        let (nominator, rng) = (Nominator::default(), rkube_api::context::Rng::seeded(1));
        Engine { snapshot, nominator: &nominator, rng: &rng }.decide(pod, &self.profile()).decision
    }
}

fn exactly(request: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu"});
    for (key, value) in request.as_object().unwrap() {
        exactly[key] = value.clone();
    }
    json!({"requests": [{"name": "r", "exactly": exactly}]})
}

/// A pod that uses claims.
fn pod(name: &str, claims: &[&str]) -> PodInfo {
    let claims: Vec<_> = claims.iter().map(|it| json!({"name": it, "resourceClaimName": it})).collect();
    testing::pod(name, json!({ "resourceClaims": claims }))
}

fn nodes(names: &[&str]) -> Snapshot {
    testing::snapshot(names.iter().map(|name| testing::node(name, json!({"cpu": "8", "memory": "8Gi"}))))
}

fn allocated(device: &str, users: Value) -> Value {
    json!({
        "allocation": {
            "devices": {"results": [{"request": "r", "driver": DRIVER, "pool": "a", "device": device}]},
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["a"]}
            ]}]}
        },
        "reservedFor": users
    })
}

#[test]
fn a_pod_goes_where_its_devices_are() {
    let world = World::new();
    let snapshot = nodes(&["a", "b", "c"]);
    world.slice("b", json!([{"name": "d"}]));
    world.claim("c", exactly(json!({})), Value::Null);
    assert_eq!(world.message(&pod("p", &["c"]), &snapshot), "b");
    world.claim("c", exactly(json!({"count": 2})), Value::Null);
    assert_eq!(
        world.message(&pod("p", &["c"]), &snapshot),
        "0/3 nodes are available: 3 cannot allocate all claims. still not schedulable, preemption: 0/3 nodes are \
         available: 3 Preemption is not helpful for scheduling."
    );
    let plain = testing::pod_asking("p", json!({"cpu": "9"}));
    assert_eq!(
        world.message(&plain, &snapshot),
        "0/3 nodes are available: 3 Insufficient cpu. no new claims to deallocate, preemption: 0/3 nodes are \
         available: 3 Preemption is not helpful for scheduling."
    );
}

#[test]
fn a_pod_waits_for_its_claims() {
    let world = World::new();
    let from_template = |status: Value| {
        let claims = json!([{"name": "mine", "resourceClaimTemplateName": "t"}]);
        let meta = json!({"name": "p", "namespace": "default", "uid": "uid-p"});
        let pod: Pod = read(json!({
            "metadata": meta, "spec": {"containers": [], "resourceClaims": claims}, "status": status
        }));
        PodInfo::new(Arc::new(pod))
    };
    let says = |pod: &PodInfo| world.plugin.pre_enqueue(pod).message();
    let recorded = |name: Value| {
        from_template(json!({"resourceClaimStatuses": [{"name": "mine", "resourceClaimName": name}]}))
    };
    assert_eq!(says(&from_template(Value::Null)), "pod \"default/p\": ResourceClaim not created yet");
    assert_eq!(says(&recorded(json!("x"))), "could not find ResourceClaim \"default/x\"");
    assert_eq!(says(&recorded(Value::Null)), "", "none is needed");
    world.claim("x", exactly(json!({})), Value::Null);
    assert_eq!(
        says(&recorded(json!("x"))),
        "ResourceClaim default/x was not created for Pod default/p (Pod is not owner)"
    );
    assert_eq!(says(&pod("p", &["x"])), "");
    assert_eq!(says(&testing::pod("p", json!({}))), "");

    let told = ClusterEvent::waiting_pod_updated(
        &Arc::new(from_template(Value::Null)),
        &Arc::new(recorded(Value::Null)),
    );
    let told = told.unwrap();
    assert!(world.plugin.events().iter().any(|interest| interest.matches(&told)));
    assert_eq!(world.plugin.hint(&from_template(Value::Null), &told), Hint::Queue);
    let early = ClusterEvent::waiting_pod_updated(
        &Arc::new(from_template(Value::Null)),
        &Arc::new(recorded(json!("y"))),
    );
    assert_eq!(world.plugin.hint(&from_template(Value::Null), &early.unwrap()), Hint::Skip);
}

#[test]
fn what_no_node_can_help_is_said_once() {
    let world = World::new();
    let snapshot = nodes(&["a"]);
    let refused = |devices: Value, status: Value| {
        world.claim("c", devices, status);
        world.plugin.pre_filter(&mut CycleState::default(), &pod("p", &["c"]), &snapshot).status.message()
    };
    assert_eq!(
        refused(exactly(json!({"deviceClassName": "tpu"})), Value::Null),
        "request r: device class tpu does not exist"
    );
    let list =
        json!({"requests": [{"name": "r", "firstAvailable": [{"name": "x", "deviceClassName": "tpu"}]}]});
    assert_eq!(refused(list, Value::Null), "request r/x: device class tpu does not exist");
    assert_eq!(
        refused(json!({"requests": [{"name": "r"}]}), Value::Null),
        "resource claim default/c, request r: unknown request type"
    );
    assert_eq!(
        refused(exactly(json!({"selectors": [{"cel": {"expression": "x"}}]})), Value::Null),
        "claim default/c: selector #0: CEL compile error: compilation failed: ERROR: undeclared reference to 'x' (in container '')"
    );
    assert_eq!(refused(exactly(json!({})), Value::Null), "");
}

#[test]
fn what_is_wrong_with_an_expression_or_a_pool_ends_the_search() {
    let world = World::new();
    let snapshot = nodes(&["a", "b"]);
    world.slice("a", json!([{"name": "d", "attributes": {"numa": {"int": 1}}}]));
    let says = |devices: Value| {
        world.claim("c", devices, Value::Null);
        world.message(&pod("p", &["c"]), &snapshot)
    };
    let expression = format!("device.attributes['{DRIVER}'].model == 'x'");
    assert_eq!(
        says(exactly(json!({"selectors": [{"cel": {"expression": expression}}]}))),
        "claim default/c: selector #0 on device gpu.example.com/a/d: CEL runtime error: no such key: model. consider using CEL optional chaining (.? followed by orValue()) or guarding the check with has() for optional fields"
    );
    world.class("gpu", json!({"selectors": [{"cel": {"expression": "device.driver"}}]}));
    assert_eq!(
        says(exactly(json!({}))),
        "class gpu: selector #0 on device gpu.example.com/a/d: CEL runtime error: CEL result of type string could not be converted to bool: type conversion error from 'string' to 'bool'"
    );
    world.class("gpu", json!({}));
    assert_eq!(
        says(exactly(json!({"count": 33}))),
        "claim default/c: number of requested devices 33 exceeds the claim limit of 32"
    );
    world.slice("a", json!([{"name": "d"}, {"name": "d"}]));
    assert_eq!(
        says(exactly(json!({"allocationMode": "All"}))),
        "claim default/c, request r: asks for all devices, but resource pool gpu.example.com/a is currently invalid"
    );
    let message = says(exactly(json!({})));
    assert!(
        message.starts_with("0/2 nodes are available: 1 cannot allocate all claims, 1 invalid resource pools were encountered."),
        "{message}"
    );
}

#[test]
fn rules_taint_devices() {
    let world = World::new();
    let snapshot = nodes(&["a", "b"]);
    world.slice("a", json!([{"name": "d"}, {"name": "e"}]));
    world.claim("c", exactly(json!({"count": 2})), Value::Null);
    let tolerating = json!({"count": 2, "tolerations": [{"key": "ill", "operator": "Exists"}]});
    world.claim("brave", exactly(tolerating), Value::Null);
    let rules = world.listers.get::<DeviceTaintRule>();
    let places = |selector: Value, effect: &str| {
        let spec = json!({"deviceSelector": selector, "taint": {"key": "ill", "effect": effect}});
        let rule: DeviceTaintRule = read(json!({"metadata": {"name": "r"}, "spec": spec}));
        rules.insert(Arc::new(rule));
        assert_eq!(world.message(&pod("q", &["brave"]), &snapshot), "a", "what is tolerated keeps nobody");
        world.message(&pod("p", &["c"]), &snapshot) == "a"
    };
    assert!(!places(json!({}), "NoSchedule"), "all devices");
    assert!(!places(json!({"driver": DRIVER, "pool": "a", "device": "e"}), "NoExecute"));
    assert!(places(json!({}), "None"), "one that informs only");
    assert!(places(Value::Null, "NoSchedule"), "none at all");
    for other in [json!({"driver": "x"}), json!({"pool": "b"}), json!({"device": "f"})] {
        assert!(places(other, "NoSchedule"));
    }
    assert!(!places(json!({"device": "d"}), "NoSchedule"));
    let rule = rules.get("", "r").unwrap();
    rules.remove(&ObjectKey::new("", "r"));
    assert_eq!(world.message(&pod("p", &["c"]), &snapshot), "a");
    let wakes = |change: Change<DeviceTaintRule>| {
        let event = ClusterEvent::other(&change);
        world.plugin.events().iter().any(|interest| interest.matches(&event))
            && world.plugin.hint(&pod("p", &["c"]), &event) == Hint::Queue
    };
    assert!(wakes(Change::Deleted(rule.clone())));
    assert!(wakes(Change::Updated { old: rule.clone(), new: rule.clone() }));
    assert!(!wakes(Change::Added(rule)), "it only keeps devices from pods");
}

#[test]
fn claims_share_a_device_as_long_as_its_capacity_lasts() {
    let world = World::new();
    let snapshot = nodes(&["a"]);
    let policy = json!({"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}});
    let capacity = json!({"memory": {"value": "10Gi", "requestPolicy": policy}});
    world.slice("a", json!([{"name": "d", "allowMultipleAllocations": true, "capacity": capacity}]));
    let asks = |amount: &str| exactly(json!({"capacity": {"requests": {"memory": amount}}}));
    let view = snapshot.view(snapshot.nodes()[0]);
    let reserve = |name: &str| {
        let (pod, mut state) = (pod(name, &[name]), CycleState::default());
        assert!(world.plugin.pre_filter(&mut state, &pod, &snapshot).status.is_success());
        let status = world.plugin.filter(&state, &pod, view);
        if !status.is_success() {
            return Err(status.message());
        }
        assert!(world.plugin.reserve(&mut state, &pod, view).is_success());
        let claim = world.plugin.claims.get("default", name).unwrap();
        let result = world.plugin.claims.pending(&claim).unwrap().devices.unwrap().results.unwrap().remove(0);
        Ok((result.consumed_capacity.unwrap()["memory"].0.clone(), result.share_id.unwrap(), state))
    };
    world.claim("five", asks("4097Mi"), Value::Null);
    world.claim("four", asks("4Gi"), Value::Null);
    world.claim("two", asks("2Gi"), Value::Null);
    world.claim("usual", exactly(json!({})), Value::Null);
    world.claim("speed", exactly(json!({"capacity": {"requests": {"speed": "1"}}})), Value::Null);
    let (amount, five, _) = reserve("five").unwrap();
    assert_eq!(amount, "5Gi");
    let (amount, four, mut state) = reserve("four").unwrap();
    assert_eq!(amount, "4Gi");
    assert_ne!(five, four, "each share has an ID of its own");
    assert_eq!(reserve("two").map(drop), Err(CANNOT.to_owned()));
    assert_eq!(reserve("usual").unwrap().0, "1Gi");
    assert_eq!(reserve("speed").map(drop), Err(CANNOT.to_owned()), "it has no such capacity");
    world.plugin.unreserve(&mut state, &pod("four", &["four"]), "a");
    assert_eq!(reserve("two").unwrap().0, "2Gi");
}

#[test]
fn a_claim_whose_devices_failed_is_in_the_way() {
    let world = World::new();
    let snapshot = nodes(&["a"]);
    let device = json!({"name": "d", "bindsToNode": true, "bindingConditions": ["Ready"], "bindingFailureConditions": ["Broken"]});
    world.slice("a", json!([device]));
    world.claim("new", exactly(json!({})), Value::Null);
    let result = found(&world, "new", json!({"metadata": {"name": "a"}})).unwrap();
    let written = result.devices.unwrap().results.unwrap().remove(0);
    assert_eq!(written.binding_conditions, Some(vec!["Ready".to_owned()]));
    assert_eq!(written.binding_failure_conditions, Some(vec!["Broken".to_owned()]));
    let says = |type_: &str| {
        let mut status = allocated("d", json!([]));
        status["allocation"]["devices"]["results"][0]["bindingConditions"] = json!(["Ready"]);
        status["allocation"]["devices"]["results"][0]["bindingFailureConditions"] = json!(["Broken"]);
        let condition = json!({"type": type_, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        status["devices"] =
            json!([{"driver": DRIVER, "pool": "a", "device": "d", "conditions": [condition]}]);
        world.claim("c", exactly(json!({})), status);
        world.message(&pod("p", &["c"]), &snapshot)
    };
    assert_eq!(says("Ready"), "a");
    assert_eq!(says("Other"), "a", "it may still become ready");
    let message = says("Broken");
    assert!(message.contains("1 resourceclaim not available on the node"), "{message}");
}

#[test]
fn arguments() {
    let made = |args: Value| make(&Args(args), &Handle::default()).map(drop);
    assert!(made(json!({"filterTimeout": "0s", "bindingTimeout": "1m30s"})).is_ok());
    let wrong = made(json!({"filterTimeout": "-1s", "bindingTimeout": "500ms"})).unwrap_err().to_string();
    assert!(wrong.contains("filterTimeout: Invalid value: \"-1s\": must be zero or positive"), "{wrong}");
    assert!(wrong.contains("bindingTimeout: Invalid value: \"500ms\": must be at least 1 second"), "{wrong}");
    assert!(made(json!({"bindTimeout": "1s"})).is_err());
}

#[test]
fn a_search_that_leads_nowhere_ends() {
    let world = World::new();
    let snapshot = nodes(&["a"]);
    let devices: Vec<_> =
        (0..64).map(|at| json!({"name": format!("d{at}"), "attributes": {"x": {"int": at % 8}}})).collect();
    world.slice("a", json!(devices));
    // Nine different ones of eight, in every order.
    let attribute = format!("{DRIVER}/x");
    let mut devices = exactly(json!({"count": 9}));
    devices["constraints"] = json!([{"distinctAttribute": attribute}]);
    world.claim("c", devices, Value::Null);
    let message = world.message(&pod("p", &["c"]), &snapshot);
    assert!(
        message.starts_with("0/1 nodes are available: 1 timed out trying to allocate devices."),
        "{message}"
    );
}

#[test]
fn devices_are_taken_from_the_decision_on() {
    let mut world = World::new();
    // As where there is a server, to which it is written after a while.
    world.plugin.claims.at_once = false;
    let snapshot = nodes(&["a"]);
    world.slice("a", json!([{"name": "d"}]));
    world.claim("one", exactly(json!({})), Value::Null);
    world.claim("two", exactly(json!({})), Value::Null);
    let view = snapshot.view(snapshot.nodes()[0]);
    let (first, second) = (pod("p", &["one"]), pod("q", &["two"]));
    let mut state = CycleState::default();
    let prepare =
        |state: &mut CycleState, pod: &PodInfo| world.plugin.pre_filter(state, pod, &snapshot).status;
    assert!(prepare(&mut state, &first).is_success());
    assert!(world.plugin.filter(&state, &first, view).is_success());
    assert!(world.plugin.reserve(&mut state, &first, view).is_success());
    assert_eq!(world.plugin.filter(&CycleState::default(), &second, view).message(), CANNOT);
    assert_eq!(
        prepare(&mut CycleState::default(), &pod("r", &["one"])).message(),
        "resource claim default/one is in the process of being allocated"
    );
    world.plugin.unreserve(&mut state, &first, "a");
    assert!(world.plugin.filter(&CycleState::default(), &second, view).is_success());
}

#[test]
fn an_allocated_claim_holds_its_pods_to_its_node() {
    let world = World::new();
    let snapshot = nodes(&["a", "b"]);
    world.slice("a", json!([{"name": "d"}]));
    world.claim(
        "c",
        exactly(json!({})),
        allocated("d", json!([{"resource": "pods", "name": "x", "uid": "x"}])),
    );
    assert_eq!(world.message(&pod("p", &["c"]), &snapshot), "a");
    let elsewhere = testing::pod(
        "p",
        json!({"nodeName": "b", "resourceClaims": [{"name": "c", "resourceClaimName": "c"}]}),
    );
    let message = world.message(&elsewhere, &snapshot);
    assert!(message.contains("1 resourceclaim not available on the node"), "{message}");
    assert!(message.contains("still not schedulable"), "somebody uses it: {message}");
}

#[test]
fn the_first_alternative_that_a_node_has_counts() {
    let world = World::new();
    let mut snapshot = nodes(&["a", "b"]);
    world.slice("a", json!([{"name": "small"}]));
    world.slice("b", json!([{"name": "large", "attributes": {"large": {"bool": true}}}]));
    let large = format!("device.attributes['{DRIVER}'].?large.orValue(false)");
    let list = json!({"requests": [{"name": "r", "firstAvailable": [
        {"name": "large", "deviceClassName": "gpu", "selectors": [{"cel": {"expression": large}}]},
        {"name": "any", "deviceClassName": "gpu"}
    ]}]});
    world.claim("c", list, Value::Null);
    for _ in 0..4 {
        // Emptier, but it has the second choice only.
        snapshot
            .set_pod(crate::snapshot::PlacedPod::from(&testing::pod_asking("x", json!({"cpu": "1"}))), "b");
        assert_eq!(world.message(&pod("p", &["c"]), &snapshot), "b");
    }
}

fn found(world: &World, claim: &str, node: Value) -> Option<AllocationResult> {
    let claim = world.plugin.claims.get("default", claim).unwrap();
    let Search { inventory, taken, wanted, memo } = world.plugin.search(vec![claim]).unwrap();
    allocate(&inventory, &taken, &wanted, &memo, &read(node))
        .unwrap()
        .map(|mut found| found.results.remove(0))
}

#[test]
fn the_result_says_what_drivers_and_nodes_need_to_know() {
    let world = World::new();
    let config = |value: i64| json!({"opaque": {"driver": DRIVER, "parameters": {"n": value}}});
    world.class("gpu", json!({"config": [config(1)]}));
    let zone = json!({"key": "zone", "operator": "In", "values": ["z"]});
    let slice: ResourceSlice = read(json!({"metadata": {"name": "s"}, "spec": {
        "driver": DRIVER, "pool": {"name": "net", "generation": 1, "resourceSliceCount": 1},
        "nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]},
        "devices": [{"name": "d", "taints": [{"key": "k", "effect": "NoExecute"}]}, {"name": "e"}]
    }}));
    world.listers.get::<ResourceSlice>().insert(Arc::new(slice));
    let mut for_one = config(2);
    for_one["requests"] = json!(["r"]);
    let mut for_none = config(3);
    for_none["requests"] = json!(["s/y"]);
    world.claim(
        "c",
        json!({
            "requests": [
                {"name": "r", "exactly": {"deviceClassName": "gpu", "tolerations": [{"operator": "Exists"}]}},
                {"name": "s", "firstAvailable": [{"name": "x", "deviceClassName": "gpu"}, {"name": "y", "deviceClassName": "gpu"}]}
            ],
            "config": [for_one, for_none, config(4)]
        }),
        Value::Null,
    );
    let node = |zone: &str| json!({"metadata": {"name": "n", "labels": {"zone": zone}}});
    assert_eq!(found(&world, "c", node("y")), None);
    let result = serde_json::to_value(found(&world, "c", node("z")).unwrap()).unwrap();
    let device = |request: &str, name: &str| json!({"request": request, "driver": DRIVER, "pool": "net", "device": name});
    let mut tolerated = device("r", "d");
    tolerated["tolerations"] = json!([{"operator": "Exists"}]);
    assert_eq!(result["devices"]["results"], json!([tolerated, device("s/x", "e")]));
    let told = |source: &str, n: i64| json!({"source": source, "opaque": {"driver": DRIVER, "parameters": {"n": n}}});
    let mut one = told("FromClaim", 2);
    one["requests"] = json!(["r"]);
    assert_eq!(result["devices"]["config"], json!([told("FromClass", 1), one, told("FromClaim", 4)]));
    assert_eq!(result["nodeSelector"], json!({"nodeSelectorTerms": [{"matchExpressions": [zone]}]}));

    world.slice("n", json!([{"name": "f"}]));
    let result = serde_json::to_value(found(&world, "c", node("z")).unwrap()).unwrap();
    let name = json!({"key": "metadata.name", "operator": "In", "values": ["n"]});
    assert_eq!(
        result["nodeSelector"],
        json!({"nodeSelectorTerms": [{"matchFields": [name]}]}),
        "one is the node's own"
    );
}

#[test]
fn only_what_may_free_a_device_wakes_a_pod() {
    let world = World::new();
    let waiting = pod("p", &["mine"]);
    world.claim("mine", exactly(json!({})), Value::Null);
    let claim = |name: &str, held: bool| {
        let status = if held { allocated("d", json!([])) } else { Value::Null };
        world.claim(name, exactly(json!({})), status);
        world.listers.get::<ResourceClaim>().get("default", name).unwrap()
    };
    let hint = |change: Change<ResourceClaim>| world.plugin.hint(&waiting, &ClusterEvent::other(&change));
    let (free, held) = (|name| claim(name, false), |name| claim(name, true));
    let updated = |old, new| Change::Updated { old, new };
    assert_eq!(hint(updated(held("theirs"), held("theirs"))), Hint::Skip);
    assert_eq!(hint(updated(free("theirs"), free("theirs"))), Hint::Skip);
    assert_eq!(hint(Change::Deleted(held("gone"))), Hint::Queue);
    assert_eq!(hint(Change::Deleted(free("gone"))), Hint::Skip, "it held nothing");
    assert_eq!(hint(updated(held("theirs"), free("theirs"))), Hint::Queue, "given back");
    assert_eq!(hint(Change::Added(free("theirs"))), Hint::Skip, "one more that wants some");
    assert_eq!(hint(Change::Added(free("mine"))), Hint::Queue);
    assert_eq!(hint(updated(free("mine"), free("mine"))), Hint::Queue);
    let gone =
        |pod: PodInfo| world.plugin.hint(&waiting, &ClusterEvent::assigned_pod_deleted(testing::placed(pod)));
    assert_eq!(gone(pod("q", &["theirs"])), Hint::Queue);
    assert_eq!(gone(testing::pod("q", json!({}))), Hint::Skip);
}

#[test]
fn pods_without_claims_stay_in_their_class() {
    let world = World::new();
    let snapshot = nodes(&["a"]);
    let plain = testing::pod("p", json!({}));
    assert_eq!(world.plugin.locality(&plain, &snapshot), Locality::Node);
    assert_eq!(world.plugin.locality(&pod("p", &["c"]), &snapshot), Locality::Cluster);
    assert!(world.plugin.pre_filter(&mut CycleState::default(), &plain, &snapshot).status.is_skip());
    let profiles = Profiles::standard();
    let names: Vec<_> = profiles.iter().next().unwrap().plugin_names().collect();
    let at = |name: &str| names.iter().position(|it| *it == name).unwrap();
    assert!(at(NAME) < at("DefaultPreemption"));
}
