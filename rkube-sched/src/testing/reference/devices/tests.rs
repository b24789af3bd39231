//! The allocator finds devices if and only if there are some, and what it finds is in order.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::plugins::dynamic_resources::{Expressions, Inventory, Memo, Wanted, allocate};

const DRIVER: &str = "gpu.example.com";

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pick<T: Clone>(from: &[T], choice: u8) -> T {
    from[usize::from(choice) % from.len()].clone()
}

/// What a device is made of: a choice a feature.
type Choices = [u8; 7];

fn device(at: usize, [model, numa, taint, counter, place, name, shares]: Choices) -> Value {
    let mut attributes = json!({});
    if let Some(model) = pick(&[Some("a"), Some("b"), None], model) {
        attributes["model"] = json!({"string": model});
    }
    if let Some(numa) = pick(&[Some(0), Some(1), Some(2), None], numa) {
        // With the domain or without is the same.
        let key = if model % 2 == 0 { "numa".to_owned() } else { format!("{DRIVER}/numa") };
        attributes[key] = json!({"int": numa});
    }
    // Seldom, two devices have one name.
    let name = if name == 0 { "d0".into() } else { format!("d{at}") };
    let mut device = json!({"name": name, "attributes": attributes});
    match taint % 8 {
        0 => device["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]),
        1 => device["taints"] = json!([{"key": "k", "effect": "None"}]),
        _ => {}
    }
    match counter % 4 {
        0 => device["consumesCounters"] = json!([{"counterSet": "c", "counters": {"m": {"value": "1"}}}]),
        1 => device["consumesCounters"] = json!([{"counterSet": "c", "counters": {"m": {"value": "2"}}}]),
        _ => {}
    }
    let range = json!({"default": "2", "validRange": {"min": "2", "step": "2", "max": "4"}});
    let values = json!({"default": "1", "validValues": ["1", "3"]});
    match shares % 8 {
        0 | 1 => {
            let policy = pick(&[Value::Null, range, values], model);
            device["allowMultipleAllocations"] = json!(true);
            device["capacity"] = json!({"m": {"value": "5", "requestPolicy": policy}});
        }
        2 => device["allowMultipleAllocations"] = json!(true),
        3 => device["capacity"] = json!({"m": {"value": "2"}}),
        _ => {}
    }
    match place % 3 {
        0 => device["nodeName"] = json!("n"),
        1 => device["nodeName"] = json!("other"),
        _ => device["allNodes"] = json!(true),
    }
    device
}

/// The slices of a pool; `odd` says what is wrong with it, if anything.
fn pool(name: &str, place: u8, odd: u8, mut devices: Vec<Value>) -> Vec<ResourceSlice> {
    let consumes = devices.iter().any(|device| device.get("consumesCounters").is_some());
    let wanted = 1 + i64::from(consumes) + i64::from(odd == 1);
    let pool = json!({"name": name, "generation": 3, "resourceSliceCount": wanted});
    let mut spec = json!({"driver": DRIVER, "pool": pool});
    let zone = json!([{"key": "zone", "operator": "In", "values": [pick(&["a", "a", "b"], place / 8)]}]);
    let at = match place % 4 {
        0 => json!({"nodeName": "n"}),
        1 => json!({"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": zone}]}}),
        2 => json!({"allNodes": true}),
        _ => json!({"perDeviceNodeSelection": true}),
    };
    for (key, value) in at.as_object().unwrap() {
        spec[key] = value.clone();
    }
    if place % 4 != 3 {
        for device in &mut devices {
            device.as_object_mut().unwrap().retain(|key, _| key != "nodeName" && key != "allNodes");
        }
    }
    let mut slices = Vec::new();
    if consumes && odd != 2 {
        let mut counters = spec.clone();
        counters["sharedCounters"] = json!([{"name": "c", "counters": {"m": {"value": "3"}}}]);
        if place % 4 == 3 {
            // Where counters are is said by the slice: it has no devices.
            counters.as_object_mut().unwrap().remove("perDeviceNodeSelection");
            counters["allNodes"] = json!(true);
        }
        slices.push(json!({"metadata": {"name": format!("{name}-counters")}, "spec": counters}));
    }
    spec["devices"] = json!(devices);
    let newest = json!({"metadata": {"name": format!("{name}-1")}, "spec": spec});
    if odd == 3 {
        let mut old = newest.clone();
        (old["metadata"]["name"], old["spec"]["pool"]["generation"]) = (json!(format!("{name}-0")), json!(2));
        slices.push(old);
    }
    slices.push(newest);
    slices.into_iter().map(read).collect()
}

fn ask([class, mode, admin, selector, toleration, capacity, _]: Choices) -> Value {
    let mut ask = json!({"deviceClassName": pick(&["any", "any", "a"], class)});
    match mode % 6 {
        0 => ask["allocationMode"] = json!("All"),
        1 | 2 => ask["count"] = json!(2),
        _ => ask["count"] = json!(1),
    }
    if admin % 6 == 0 {
        ask["adminAccess"] = json!(true);
    }
    let expression = format!("device.attributes['{DRIVER}'].?numa.orValue(0) == {}", selector % 2);
    if selector % 4 < 2 {
        ask["selectors"] = json!([{"cel": {"expression": expression}}]);
    }
    if let Some(amount) = pick(&[Some("1"), Some("2"), Some("3"), None, None, None, None, None], capacity) {
        ask["capacity"] = json!({"requests": {"m": amount}});
    }
    match toleration % 4 {
        0 => ask["tolerations"] = json!([{"key": "k", "operator": "Equal", "value": "v"}]),
        1 => ask["tolerations"] = json!([{"operator": "Exists", "effect": "NoExecute"}]),
        _ => {}
    }
    ask
}

fn request(at: usize, list: bool, one: Choices, other: Choices) -> Value {
    if !list {
        return json!({"name": format!("r{at}"), "exactly": ask(one)});
    }
    let alternative = |name: &str, choices| {
        let mut ask = ask(choices);
        ask.as_object_mut().unwrap().remove("adminAccess");
        ask["name"] = json!(name);
        ask
    };
    json!({"name": format!("r{at}"), "firstAvailable": [alternative("x", one), alternative("y", other)]})
}

fn claim(
    name: &str,
    requests: &[(bool, Choices, Choices)],
    [kind, attribute, whom]: [u8; 3],
) -> ResourceClaim {
    let requests: Vec<_> = requests
        .iter()
        .enumerate()
        .map(|(at, (list, one, other))| request(at, *list, *one, *other))
        .collect();
    let mut constraint = json!({});
    let attribute = format!("{DRIVER}/{}", pick(&["numa", "model"], attribute));
    match kind % 3 {
        0 => constraint["matchAttribute"] = json!(attribute),
        1 => constraint["distinctAttribute"] = json!(attribute),
        _ => {}
    }
    match whom % 3 {
        0 => constraint["requests"] = json!(["r0"]),
        1 if requests[0].get("firstAvailable").is_some() => constraint["requests"] = json!(["r0/x"]),
        _ => {}
    }
    let constraints = if kind % 3 == 2 { json!([]) } else { json!([constraint]) };
    read(json!({"metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"devices": {"requests": requests, "constraints": constraints}}}))
}

/// Somebody else's claim on a device, or on a share of it.
fn theirs(pool: &str, device: usize, admin: bool, share: u8) -> ResourceClaim {
    let mut result = json!({"request": "r", "driver": DRIVER, "pool": pool, "device": format!("d{device}"), "adminAccess": admin});
    if share.is_multiple_of(2) {
        result["shareID"] = json!("theirs");
        result["consumedCapacity"] = json!({"m": pick(&["1", "2"], share / 2)});
    }
    read(
        json!({"metadata": {"name": format!("theirs-{pool}-{device}"), "namespace": "default"}, "spec": {}, "status": {
            "allocation": {"devices": {"results": [result]}}
        }}),
    )
}

/// A rule that taints all, or what some choices select.
fn rule([driver, pool, device, effect]: [u8; 4]) -> DeviceTaintRule {
    let mut selector = json!({});
    let choices = [
        ("driver", pick(&[None, Some(DRIVER), Some("other")], driver)),
        ("pool", pick(&[None, Some("p"), Some("q")], pool)),
        ("device", pick(&[None, Some("d0"), Some("d1")], device)),
    ];
    for (field, name) in choices {
        if let Some(name) = name {
            selector[field] = json!(name);
        }
    }
    let effect = pick(&["NoSchedule", "NoExecute", "None"], effect);
    let mut spec = json!({"taint": {"key": "k", "value": "v", "effect": effect}});
    if effect != "None" || driver % 2 == 0 {
        spec["deviceSelector"] = selector;
    }
    read(json!({"metadata": {"name": "r"}, "spec": spec}))
}

fn classes() -> Vec<DeviceClass> {
    let expression = format!("device.attributes['{DRIVER}'].?model.orValue('') == 'a'");
    vec![
        read(json!({"metadata": {"name": "any"}, "spec": {}})),
        read(
            json!({"metadata": {"name": "a"}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}),
        ),
    ]
}

fn choices() -> impl Strategy<Value = Choices> {
    any::<Choices>()
}

fn a_pool(most: usize) -> impl Strategy<Value = (u8, u8, Vec<Choices>)> {
    (any::<u8>(), 0u8..16, prop::collection::vec(choices(), 1..=most))
}

fn a_claim(most: usize) -> impl Strategy<Value = (Vec<(bool, Choices, Choices)>, [u8; 3])> {
    let request = (prop::bool::weighted(0.3), choices(), choices());
    (prop::collection::vec(request, 1..=most), any::<[u8; 3]>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn devices_are_found_if_and_only_if_there_are_some(
        first in a_pool(4), second in a_pool(2), one in a_claim(2), other in prop::option::of(a_claim(1)),
        taken in prop::collection::vec((any::<bool>(), 0usize..4, prop::bool::weighted(0.2), any::<u8>()), 0..2),
        rules in prop::collection::vec(any::<[u8; 4]>(), 0..2),
    ) {
        let devices = |choices: Vec<Choices>| choices.into_iter().enumerate().map(|(at, it)| device(at, it)).collect();
        let mut slices = pool("p", first.0, first.1, devices(first.2));
        slices.extend(pool("q", second.0, second.1, devices(second.2)));
        let claims = taken.into_iter().map(|(p, device, admin, share)| {
            theirs(if p { "p" } else { "q" }, device, admin, share)
        });
        let offers = Offers { slices, classes: classes(), claims: claims.collect(), rules: rules.into_iter().map(rule).collect() };
        let wanted: Vec<ResourceClaim> = [Some(one), other].into_iter().flatten().enumerate()
            .map(|(at, (requests, constraint))| claim(&format!("c{at}"), &requests, constraint)).collect();
        let node: Node = read(json!({"metadata": {"name": "n", "labels": {"zone": "a"}}}));

        let rules: Vec<_> = offers.rules.iter().cloned().map(Arc::new).collect();
        let inventory = Inventory::new(offers.slices.iter().cloned().map(Arc::new).collect()).tainted_by(&rules);
        let taken = inventory.taken_by(offers.claims.iter());
        let class = |name: &str| {
            let class = offers.classes.iter().find(|class| class.metadata.name.as_deref() == Some(name));
            class.cloned().map(Arc::new)
        };
        let compiled = Wanted::new(wanted.iter().cloned().map(Arc::new), class, &Expressions::default()).unwrap();
        let found = allocate(&inventory, &taken, &compiled, &Memo::default(), &node);
        let again = allocate(&inventory, &taken, &compiled, &Memo::default(), &node);
        prop_assert_eq!(&found, &again, "the same question has the same answer");
        match found {
            Ok(Some(found)) => {
                let mut ids = 0..;
                let results = found.identified(|| format!("share-{:?}", ids.next()));
                let wrong = offers.wrong_with(&node, &wanted, &results);
                prop_assert!(wrong.is_empty(), "{:?} in {:#?}", wrong, found);
            }
            Ok(None) => prop_assert!(!offers.can_allocate(&node, &wanted)),
            // All of something that is not there, or that a constraint keeps apart, ends the search.
            Err(error) if !error.is_of_node() => {
                let all = wanted.iter().flat_map(asks).flatten().any(|ask| ask.count.is_none());
                prop_assert!(all, "{}", error);
            }
            Err(_) => {
                prop_assert!(offers.has_unusable_pools(&node) && !offers.can_allocate(&node, &wanted));
            }
        }
    }
}
