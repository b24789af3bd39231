//! What holds for every object: defaulting once is enough, a default breaks no rule, an object is its
//! encoding's, and no input makes a rule fall over.

use proptest::prelude::*;

use super::*;

/// Texts that are often wrong in interesting ways.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("a".to_owned()),
        Just("../x".to_owned()),
        Just("é-".to_owned()),
        Just("10.0.0.1".to_owned()),
        Just("fd00::1/64".to_owned()),
        Just("metadata.labels['a']".to_owned()),
        Just("hugepages-".to_owned()),
        Just("100%".to_owned()),
        Just("-1".to_owned()),
        Just("Always".to_owned()),
        Just("None".to_owned()),
        "[ -~]{0,8}",
        "\\PC{0,4}",
    ]
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1), Just(-1), Just(i64::from(i32::MAX)), Just(i64::from(i32::MIN)), -10i64..100]
}

/// What stands in a mutated place: another text, another number, nothing, an empty list or object.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(Value::from),
        number().prop_map(Value::from),
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        any::<bool>().prop_map(Value::from),
    ]
}

/// A full object of each kind, in which every part is exercised.
fn samples() -> Vec<(&'static str, Value)> {
    let probe = json!({"httpGet": {"path": "/", "port": "web", "httpHeaders": [{"name": "X", "value": "1"}]}, "periodSeconds": 1});
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]});
    let pod_term = json!({"labelSelector": selector, "topologyKey": "zone", "namespaces": ["x"], "matchLabelKeys": ["k"]});
    let node_term = json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}],
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]});
    let container = json!({
        "name": "a", "image": "b:1", "ports": [{"name": "web", "containerPort": 80, "hostPort": 80}],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}],
        "envFrom": [{"prefix": "X", "configMapRef": {"name": "m"}}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi", "example.com/gpu": "1", "hugepages-2Mi": "4Mi"}, "requests": {"cpu": "500m"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}], "volumeDevices": [{"name": "p", "devicePath": "/dev/x"}],
        "livenessProbe": probe, "readinessProbe": probe, "startupProbe": {"exec": {"command": ["x"]}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}, "postStart": {"tcpSocket": {"port": 1}}},
        "securityContext": {"runAsUser": 1, "seccompProfile": {"type": "Localhost", "localhostProfile": "a"}},
        "restartPolicy": "OnFailure", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]
    });
    let spec = json!({
        "containers": [container],
        "initContainers": [{"name": "i", "image": "b"}, {"name": "s", "image": "b", "restartPolicy": "Always", "livenessProbe": probe}],
        "volumes": [{"name": "v"}, {"name": "p", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "q", "projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}, {"downwardAPI": {"items": [
                {"path": "x", "resourceFieldRef": {"containerName": "a", "resource": "requests.memory"}}]}}]}},
            {"name": "h", "hostPath": {"path": "/", "type": "Directory"}}],
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [node_term]},
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": node_term}]},
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [pod_term]},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": pod_term}]}
        },
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector, "minDomains": 2}],
        "nodeSelector": {"a": "b"}, "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a_b.c"], "options": [{"name": "x"}]},
        "hostAliases": [{"ip": "1.1.1.1", "hostnames": ["a"]}], "securityContext": {"sysctls": [{"name": "net.x", "value": "1"}]},
        "overhead": {"cpu": "10m"}, "readinessGates": [{"conditionType": "a"}], "serviceAccountName": "default"
    });
    let selector_cel = json!({"cel": {"expression": "device.driver == 'example.com'"}});
    let opaque = json!({"opaque": {"driver": "example.com", "parameters": {"a": 1}}});
    let asked = json!({"deviceClassName": "c", "selectors": [selector_cel], "count": 2,
        "tolerations": [{"key": "a", "value": "b", "effect": "NoSchedule"}]});
    let claim = json!({
        "requests": [{"name": "r", "exactly": asked}, {"name": "s", "firstAvailable": [with(asked.clone(), json!({"name": "x"}))]}],
        "constraints": [{"requests": ["r", "s/x"], "matchAttribute": "example.com/a"}, {"distinctAttribute": "example.com/b"}],
        "config": [with(opaque.clone(), json!({"requests": ["r"]}))]
    });
    let workload = json!({"metadata": meta("w"), "spec": {"selector": selector,
        "template": {"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": spec}}});
    vec![
        ("Pod", json!({"metadata": meta("p"), "spec": spec})),
        ("Deployment", workload.clone()),
        ("ReplicaSet", workload),
        (
            "Service",
            json!({"metadata": meta("s"), "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "sessionAffinity": "ClientIP",
            "ports": [{"name": "a", "port": 80, "targetPort": "web", "nodePort": 30000, "appProtocol": "x.io/y"}, {"name": "b", "port": 81}],
            "selector": {"a": "b"}, "externalIPs": ["1.2.3.4"], "loadBalancerSourceRanges": ["10.0.0.0/8"]}}),
        ),
        (
            "EndpointSlice",
            json!({"metadata": meta("e"), "addressType": "IPv4", "ports": [{"name": "a", "port": 1}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "hints": {"forZones": [{"name": "z"}]}, "nodeName": "n"}]}),
        ),
        (
            "ConfigMap",
            json!({"metadata": meta("c"), "data": {"a": "b"}, "binaryData": {"c": "ZA=="}, "immutable": true}),
        ),
        ("Secret", json!({"metadata": meta("s"), "stringData": {"a": "b"}, "data": {"c": "ZA=="}})),
        ("ServiceAccount", json!({"metadata": meta("s"), "secrets": [{"name": "a"}]})),
        (
            "Event",
            json!({"metadata": meta("e"), "involvedObject": {"kind": "Pod", "namespace": "default"}, "reason": "R", "action": "A",
            "eventTime": "2026-01-01T00:00:00.000001Z", "reportingComponent": "x", "reportingInstance": "y"}),
        ),
        (
            "Lease",
            json!({"metadata": meta("l"), "spec": {"holderIdentity": "h", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.5Z"}}),
        ),
        (
            "Node",
            json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/24", "taints": [{"key": "a", "effect": "NoSchedule"}]},
            "status": {"capacity": {"cpu": "1", "pods": "110"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
        ),
        ("Namespace", json!({"metadata": {"name": "n"}})),
        (
            "PodDisruptionBudget",
            json!({"metadata": meta("b"), "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}}),
        ),
        ("PriorityClass", json!({"metadata": {"name": "c"}, "value": 1})),
        (
            "DeviceClass",
            json!({"metadata": {"name": "c"}, "spec": {"selectors": [selector_cel], "config": [opaque], "extendedResourceName": "example.com/gpu"}}),
        ),
        (
            "DeviceTaintRule",
            json!({"metadata": {"name": "r"}, "spec": {"deviceSelector": {"driver": "example.com", "pool": "a/b", "device": "d"},
                "taint": {"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}}}),
        ),
        ("ResourceClaim", json!({"metadata": meta("c"), "spec": {"devices": claim}})),
        (
            "ResourceClaimTemplate",
            json!({"metadata": meta("t"), "spec": {"metadata": {"labels": {"a": "b"}}, "spec": {"devices": claim}}}),
        ),
        (
            "ResourceSlice",
            json!({"metadata": {"name": "s"}, "spec": {"driver": "example.com", "perDeviceNodeSelection": true,
            "pool": {"name": "a/b", "generation": 1, "resourceSliceCount": 1}, "devices": [{
                "name": "d", "nodeSelector": {"nodeSelectorTerms": [node_term]}, "allowMultipleAllocations": true,
                "attributes": {"a": {"int": 1}, "example.com/b": {"versions": ["1.0.0"]}, "c": {"bool": true}, "d": {"string": "x"}},
                "capacity": {"m": {"value": "10Gi", "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "max": "4Gi", "step": "1Gi"}}},
                    "n": {"value": "4", "requestPolicy": {"default": "2", "validValues": ["1", "2"]}}},
                "taints": [{"key": "a", "value": "b", "effect": "NoExecute"}],
                "consumesCounters": [{"counterSet": "s", "counters": {"x": {"value": "1"}}}],
                "bindingConditions": ["a"], "bindingFailureConditions": ["b"]}]}}),
        ),
    ]
    .into_iter()
    .chain(super::volumes::samples())
    .collect()
}

/// Every place in a value, as a JSON pointer.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{key}"), out);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), out));
        }
        _ => {}
    }
}

/// The object, if the mutated JSON still fits its type.
fn typed(kind: &str, mut value: Value) -> Option<Object> {
    let definition = definition(kind);
    let group = &definition.names.group;
    value.as_object_mut()?.insert("kind".into(), json!(kind));
    let version = &definition.hub().name;
    value["apiVersion"] =
        json!(if group.is_empty() { version.clone() } else { format!("{group}/{version}") });
    (definition.hub().decode)(value).ok()
}

fn default(definition: &Definition, object: &mut Object) {
    if let Some(default) = &definition.strategy.default {
        default(object);
    }
}

/// Runs everything that a server would run on it.
fn exercise(kind: &str, value: Value) {
    let Some(mut object) = typed(kind, value) else { return };
    let definition = definition(kind);
    default(&definition, &mut object);
    let mut again = object.clone();
    default(&definition, &mut again);
    assert_eq!(again, object, "a second defaulting changes nothing");
    let encoded = object.encode().unwrap();
    assert_eq!(decode(&encoded).unwrap(), object, "an object is its encoding's");
    let mut prepared = object.clone();
    if let Some(prepare) = &definition.strategy.prepare_create {
        prepare(&mut prepared);
    }
    let valid = definition.validate_create(&prepared).is_empty();
    default(&definition, &mut prepared);
    assert_eq!(
        definition.validate_create(&prepared).is_empty(),
        valid,
        "defaults keep it as valid as it was"
    );
    let mut updated = object.clone();
    if let Some(prepare) = &definition.strategy.prepare_update {
        prepare(&mut updated, &prepared);
    }
    definition.validate_update(&updated, &prepared);
    if let Some(status) = definition.status() {
        status.prepare_update.as_ref().unwrap()(&mut object, &prepared);
        definition.validate_status_update(&object, &prepared);
    }
    let at = Cell { now: Timestamp::UNIX_EPOCH };
    definition.columns.iter().for_each(|column| drop((column.cell)(&prepared, &at)));
    definition.selectable.iter().for_each(|field| drop((field.value)(&prepared)));
}

#[test]
fn samples_are_valid() {
    for (kind, value) in samples() {
        assert_eq!(create_errors(kind, value), [""; 0], "{kind}");
    }
}

#[test]
fn events_survive_the_other_group() {
    let definition = definition("Event");
    let newer = &definition.versions[definition.served("events.k8s.io", "v1").unwrap()];
    let event = read(
        "Event",
        json!({
            "metadata": meta("e"), "action": "A", "count": 3, "eventTime": "2026-01-01T00:00:00.000001Z",
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z",
            "involvedObject": {"kind": "Pod", "name": "p"}, "related": {"kind": "Node"}, "message": "M", "reason": "R",
            "reportingComponent": "c", "reportingInstance": "i", "source": {"component": "s"}, "type": "Normal",
            "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:02.000000Z"}
        }),
    );
    let converted = newer.from_hub.as_ref().unwrap()(event.clone()).unwrap();
    let value = converted.to_value().unwrap();
    assert_eq!(value["apiVersion"], "events.k8s.io/v1");
    assert_eq!((&value["note"], &value["regarding"]["name"]), (&json!("M"), &json!("p")));
    assert_eq!(
        (&value["deprecatedCount"], &value["deprecatedSource"]["component"]),
        (&json!(3), &json!("s"))
    );
    assert_eq!(newer.to_hub.as_ref().unwrap()(converted).unwrap(), event);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_input_makes_a_rule_fall_over(
        which in 0..samples().len(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), odd()), 1..4),
    ) {
        let (kind, mut value) = samples().swap_remove(which);
        for (place, new) in mutations {
            let mut all = Vec::new();
            places(&value, "", &mut all);
            let place = place.get(&all).clone();
            if let Some(slot) = value.pointer_mut(&place).filter(|_| !place.is_empty()) {
                *slot = new;
            }
        }
        exercise(kind, value);
    }
}

/// A body of three mebibytes is checked in a bounded time and space, whatever list it is long in.
#[test]
fn long_lists_cost_no_more_than_they_are_long() {
    let many = |item: fn(usize) -> Value| Value::Array((0..5_000).map(item).collect());
    let container = |fields: Value| json!({"metadata": meta("p"), "spec": {"containers": [with(json!({"name": "a", "image": "b"}), fields)]}});
    let spec = |fields: Value| json!({"metadata": meta("p"), "spec": with(json!({"containers": [{"name": "a", "image": "b"}]}), fields)});
    for (kind, value) in [
        ("Pod", spec(json!({"containers": many(|at| json!({"name": format!("c{at}")}))}))),
        ("Pod", spec(json!({"containers": many(|_| json!({"name": "c"}))}))),
        ("Pod", spec(json!({"initContainers": many(|at| json!({"name": format!("c{at}"), "image": "b"}))}))),
        ("Pod", container(json!({"env": many(|_| json!({"name": "A"}))}))),
        (
            "Pod",
            container(json!({"ports": many(|at| json!({"name": "p", "containerPort": at, "hostPort": at}))})),
        ),
        (
            "Pod",
            container(json!({
                "volumeMounts": many(|at| json!({"name": format!("v{at}"), "mountPath": format!("/{at}")})),
                "volumeDevices": many(|at| json!({"name": format!("d{at}"), "devicePath": format!("/d{at}")}))
            })),
        ),
        ("Pod", spec(json!({"volumes": many(|at| json!({"name": format!("v{at}"), "emptyDir": {}}))}))),
        (
            "Pod",
            spec(json!({"tolerations": many(|at| json!({"key": format!("k{at}"), "operator": "Exists"}))})),
        ),
        ("Pod", spec(json!({"schedulingGates": many(|_| json!({"name": "g"}))}))),
        (
            "Pod",
            with(
                spec(json!({"resourceClaims": many(|at| json!({"name": format!("c{at}")}))})),
                json!({"spec": {"containers": [{"name": "a", "image": "b", "resources": {"claims": many(|at| json!({"name": format!("x{at}")}))}}]}}),
            ),
        ),
        (
            "Pod",
            with(
                spec(json!({})),
                json!({"metadata": {"ownerReferences":
                many(|at| json!({"apiVersion": "v1", "kind": "Pod", "name": format!("o{at}"), "uid": "u", "controller": true}))}}),
            ),
        ),
        (
            "Service",
            json!({"metadata": meta("s"), "spec": {"ports": many(|at| json!({"name": "p", "port": at, "nodePort": at}))}}),
        ),
        (
            "Service",
            json!({"metadata": meta("s"), "spec": {"clusterIPs": many(|_| json!("x")), "externalIPs": many(|_| json!("x"))}}),
        ),
        (
            "Node",
            json!({"metadata": {"name": "n"}, "spec": {"taints": many(|at| json!({"key": format!("k{at}"), "effect": "NoSchedule"}))}}),
        ),
        (
            "StorageClass",
            json!({"metadata": {"name": "c"}, "provisioner": "p", "allowedTopologies": many(|_| json!({}))}),
        ),
        (
            "EndpointSlice",
            json!({"metadata": meta("s"), "addressType": "IPv4", "ports": many(|_| json!({"port": 1}))}),
        ),
    ] {
        exercise(kind, value.clone());
        let object = created(kind, value);
        let definition = definition(kind);
        let errors = definition.validate_update(&object, &object);
        let warnings: Vec<String> =
            definition.strategy.warnings.iter().flat_map(|warn| warn(&object)).collect();
        let said = errors.iter().map(|error| error.to_string().len()).sum::<usize>()
            + warnings.iter().map(String::len).sum::<usize>();
        assert!(said < 5_000 * 4096, "{kind} says {said} bytes");
    }
}
