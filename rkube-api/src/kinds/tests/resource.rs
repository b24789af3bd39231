//! Classes, claims and slices of devices.

use super::*;

fn check(kind: &str, value: Value, want: &[&str]) {
    assert_eq!(create_errors(kind, value.clone()), want, "{value}");
}

fn claim(devices: Value) -> Value {
    json!({"metadata": meta("c"), "spec": {"devices": devices}})
}

fn exactly(request: Value) -> Value {
    claim(json!({"requests": [{"name": "r", "exactly": with(json!({"deviceClassName": "gpu"}), request)}]}))
}

fn cel(expression: &str) -> Value {
    json!({"cel": {"expression": expression}})
}

#[test]
fn a_request_asks_for_one_device_unless_it_says_otherwise() {
    let object =
        defaulted("ResourceClaim", exactly(json!({"tolerations": [{"key": "a"}]}))).to_value().unwrap();
    let request = &object["spec"]["devices"]["requests"][0]["exactly"];
    assert_eq!((&request["allocationMode"], &request["count"]), (&json!("ExactCount"), &json!(1)));
    assert_eq!(request["tolerations"][0]["operator"], "Equal");
    let object = defaulted("ResourceClaim", exactly(json!({"allocationMode": "All"}))).to_value().unwrap();
    assert_eq!(object["spec"]["devices"]["requests"][0]["exactly"]["count"], Value::Null);
    check("ResourceClaim", exactly(json!({})), &[]);
}

#[test]
fn requests() {
    check("ResourceClaim", exactly(json!({"count": 0})), &[]);
    check(
        "ResourceClaim",
        exactly(json!({"deviceClassName": "", "count": -1, "selectors": [cel("true"), {}]})),
        &[
            "spec.devices.requests[0].exactly.deviceClassName: Required value",
            "spec.devices.requests[0].exactly.selectors[1].cel: Required value",
            "spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero",
        ],
    );
    check(
        "ResourceClaim",
        exactly(json!({"allocationMode": "All", "count": 2})),
        &[
            "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ],
    );
    check(
        "ResourceClaim",
        exactly(
            json!({"allocationMode": "Some", "tolerations": [{"operator": "Exists", "value": "x", "effect": "X"}]}),
        ),
        &[
            "spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
            "spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"x\": must be empty for operator `Exists`",
            "spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: \"X\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ],
    );
    let sub = |name: &str| json!({"name": name, "deviceClassName": "gpu"});
    check(
        "ResourceClaim",
        claim(json!({"requests": [
            {"name": "a"}, {"name": "a", "firstAvailable": [sub("x"), sub("x")]},
            {"name": "b", "exactly": {"deviceClassName": "gpu"}, "firstAvailable": [sub("x")]}
        ]})),
        &[
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
            "spec.devices.requests[1].firstAvailable[1]: Duplicate value: \"x\"",
            "spec.devices.requests[1]: Duplicate value: \"a\"",
            "spec.devices.requests[2]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ],
    );
    let many: Vec<Value> = (0..33).map(|at| json!({"name": format!("r{at}")})).collect();
    check(
        "ResourceClaim",
        claim(json!({ "requests": many })),
        &["spec.devices.requests: Too many: 33: must have at most 32 items"],
    );
}

#[test]
fn constraints_and_configurations_name_requests() {
    let requests = json!([
        {"name": "a", "exactly": {"deviceClassName": "gpu"}},
        {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "gpu"}]}
    ]);
    check(
        "ResourceClaim",
        claim(json!({
            "requests": requests,
            "constraints": [
                {"requests": ["a", "b/x", "b"], "matchAttribute": "example.com/numa"},
                {"requests": ["a/x", "a", "a"], "distinctAttribute": "numa"},
                {}
            ],
            "config": [
                {"requests": ["c"], "opaque": {"driver": "example.com", "parameters": {}}},
                {"opaque": {"driver": "", "parameters": []}}, {}
            ]
        })),
        &[
            "spec.devices.constraints[1].requests[0]: Invalid value: \"a/x\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            "spec.devices.constraints[1].requests[2]: Duplicate value: \"a\"",
            "spec.devices.constraints[1].distinctAttribute: Invalid value: \"numa\": a fully qualified name must be a domain and a name separated by a slash",
            "spec.devices.constraints[2]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required",
            "spec.devices.config[0].requests[0]: Invalid value: \"c\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            "spec.devices.config[1].opaque.driver: Required value",
            "spec.devices.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            "spec.devices.config[2].opaque: Required value",
        ],
    );
}

#[cfg(feature = "cel")]
#[test]
fn expressions_must_compile() {
    let class =
        |expression: &str| json!({"metadata": {"name": "gpu"}, "spec": {"selectors": [cel(expression)]}});
    check("DeviceClass", class("device.driver == 'gpu.example.com'"), &[]);
    let errors = create_errors("DeviceClass", class("device.driver =="));
    assert!(errors[0].starts_with(
        "spec.selectors[0].cel.expression: Invalid value: \"device.driver ==\": compilation failed"
    ));
    check(
        "DeviceClass",
        class("device.name == 'x'"),
        &[
            "spec.selectors[0].cel.expression: Invalid value: \"device.name == 'x'\": compilation failed: ERROR: undefined field 'name'",
        ],
    );
    let list = format!("[{}]", vec!["1"; 100].join(","));
    let costly = format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d > 0))))");
    check(
        "DeviceClass",
        class(&costly),
        &["spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"],
    );
    check(
        "DeviceClass",
        class(&" ".repeat(10 * 1024 + 1)),
        &["spec.selectors[0].cel.expression: Too long: may not be more than 10240 bytes"],
    );
    let errors = create_errors("ResourceClaim", exactly(json!({"selectors": [cel("nobody")]})));
    assert!(errors[0].contains("undeclared reference to 'nobody'"), "{errors:?}");
}

#[test]
fn classes() {
    let class = |spec: Value| json!({"metadata": {"name": "gpu"}, "spec": spec});
    check("DeviceClass", class(json!({"extendedResourceName": "example.com/gpu"})), &[]);
    check(
        "DeviceClass",
        class(json!({"extendedResourceName": "cpu"})),
        &["spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name"],
    );
    let (_, errors) = update(
        "DeviceClass",
        class(json!({"selectors": [cel("true"), {}]})),
        class(json!({"selectors": [cel("true")]})),
    );
    assert_eq!(errors, ["spec.selectors[1].cel: Required value"]);
}

#[test]
fn what_a_claim_asks_for_stays() {
    let (_, errors) = update("ResourceClaim", exactly(json!({"count": 2})), exactly(json!({})));
    assert!(errors.len() == 1 && errors[0].starts_with("spec: Invalid value: "), "{errors:?}");
    assert!(errors[0].ends_with("field is immutable"), "{errors:?}");
    let template = |count: i64| {
        let spec = exactly(json!({"count": count}))["spec"].clone();
        json!({"metadata": meta("t"), "spec": {"metadata": {"labels": {"a": "b"}}, "spec": spec}})
    };
    check("ResourceClaimTemplate", template(1), &[]);
    let (_, errors) = update("ResourceClaimTemplate", template(1), template(2));
    assert!(errors.len() == 1 && errors[0].ends_with("field is immutable"), "{errors:?}");
    let (_, errors) = update("ResourceClaimTemplate", template(1), template(1));
    assert_eq!(errors, [""; 0]);
}

fn allocation(device: &str) -> Value {
    json!({"devices": {"results": [{"request": "r", "driver": "example.com", "pool": "n", "device": device}]}})
}

#[test]
fn an_allocation_is_made_once() {
    let with_status = |status: Value| with(exactly(json!({})), json!({ "status": status }));
    let pod = json!({"resource": "pods", "name": "p", "uid": "u"});
    let check = |new: Value, old: Value, want: &[&str]| {
        let (_, errors) = update_status("ResourceClaim", with_status(new), with_status(old));
        let begins = errors.iter().zip(want).all(|(error, want)| error.starts_with(want));
        assert!(errors.len() == want.len() && begins, "{errors:?} {want:?}");
    };
    let allocated = json!({"allocation": allocation("d"), "reservedFor": [pod]});
    check(allocated.clone(), json!({}), &[]);
    check(json!({}), allocated.clone(), &[]);
    check(
        json!({"allocation": allocation("e"), "reservedFor": [pod]}),
        allocated.clone(),
        &["status.allocation: Invalid value"],
    );
    check(
        json!({"reservedFor": [pod, pod]}),
        json!({}),
        &[
            "status.reservedFor[1]: Duplicate value: \"u\"",
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
        ],
    );
    let mut odd = allocation("D");
    odd["devices"]["results"][0]["request"] = json!("x");
    check(
        json!({"allocation": odd}),
        json!({}),
        &[
            "status.allocation.devices.results[0].request: Invalid value: \"x\": must be the name of a request",
            "status.allocation.devices.results[0].device: Invalid value: \"D\": a lowercase RFC 1123 label",
        ],
    );
    let said = json!({"driver": "example.com", "pool": "n", "device": "e"});
    check(
        with(allocated.clone(), json!({"devices": [said]})),
        allocated.clone(),
        &["status.devices[0]: Invalid value: \"example.com/n/e\": must be an allocated device in the claim"],
    );
    let said = json!({"driver": "example.com", "pool": "n", "device": "d"});
    let (object, errors) = update_status(
        "ResourceClaim",
        with_status(json!({})),
        with_status(with(allocated, json!({"devices": [said]}))),
    );
    assert_eq!((object.to_value().unwrap()["status"].get("devices"), errors.len()), (None, 0));
}

fn slice(spec: Value) -> Value {
    let base = json!({"driver": "example.com", "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1}, "nodeName": "n"});
    json!({"metadata": {"name": "s"}, "spec": with(base, spec)})
}

#[test]
fn slices() {
    check("ResourceSlice", slice(json!({})), &[]);
    check(
        "ResourceSlice",
        json!({"metadata": {"name": "s"}}),
        &[
            "spec.driver: Required value",
            "spec.pool.name: Required value",
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
        ],
    );
    check(
        "ResourceSlice",
        slice(
            json!({"allNodes": true, "perDeviceNodeSelection": false, "pool": {"name": "a/B", "generation": -1}}),
        ),
        &[
            "spec.pool.name: Invalid value: \"B\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
            "spec.perDeviceNodeSelection: Invalid value: false: must be either unset or set to true",
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
        ],
    );
    check(
        "ResourceSlice",
        slice(json!({"devices": [], "sharedCounters": [{"name": "", "counters": {}}]})),
        &[
            "spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed",
            "spec.sharedCounters[0].name: Required value",
            "spec.sharedCounters[0].counters: Required value",
        ],
    );
    let (_, errors) =
        update("ResourceSlice", slice(json!({"nodeName": "m", "driver": "other.com"})), slice(json!({})));
    assert_eq!(
        errors,
        [
            "spec.driver: Invalid value: \"other.com\": field is immutable",
            "spec.nodeName: Invalid value: \"m\": field is immutable",
        ]
    );
    let many = |extra: Value, most: usize| {
        let devices: Vec<Value> =
            (0..=most).map(|at| with(json!({"name": format!("d{at}")}), extra.clone())).collect();
        let want = format!("spec.devices: Too many: {}: must have at most {most} items", most + 1);
        check("ResourceSlice", slice(json!({ "devices": devices })), &[&want]);
    };
    many(json!({}), 128);
    many(json!({"taints": [{"key": "a", "effect": "NoSchedule"}]}), 64);
}

#[test]
fn devices_of_a_slice() {
    let devices = |devices: Value| slice(json!({ "devices": devices }));
    check(
        "ResourceSlice",
        devices(json!([
            {"name": "d", "attributes": {"a": {"int": 1}, "example.com/b": {"version": "1.0.0"}}, "capacity": {"m": {"value": "1Gi"}}},
            {"name": "d", "attributes": {"a/b/c": {"int": 1}, "a-b": {}, "/x": {"int": 1, "bool": true}, "v": {"version": "1"}}},
            {"name": "e", "nodeName": "x", "taints": [{"key": "", "effect": ""}], "consumesCounters": [{"counterSet": "", "counters": {}}]}
        ])),
        &[
            "spec.devices[1].attributes: Invalid value: \"\": the domain must not be empty",
            "spec.devices[1].attributes[/x]: Invalid value: {\"bool\":true,\"int\":1}: exactly one value must be specified",
            "spec.devices[1].attributes: Invalid value: \"a-b\": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
            "spec.devices[1].attributes[a-b]: Invalid value: \"\": exactly one value must be specified",
            "spec.devices[1].attributes: Invalid value: \"a/b/c\": must not contain more than one slash",
            "spec.devices[1].attributes[v].version: Invalid value: \"1\": must be a string compatible with semver.org spec 2.0.0",
            "spec.devices[1]: Duplicate value: \"d\"",
            "spec.devices[2].taints[0].key: Invalid value: \"\": name part must be non-empty",
            "spec.devices[2].taints[0].key: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "spec.devices[2].taints[0].effect: Required value",
            "spec.devices[2].consumesCounters[0].counterSet: Required value",
            "spec.devices[2].consumesCounters[0].counters: Required value",
            "spec.devices[2]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        ],
    );
    let capacity = |shared: bool, policy: Value| {
        devices(
            json!([{"name": "d", "allowMultipleAllocations": shared, "capacity": {"m": {"value": "10", "requestPolicy": policy}}}]),
        )
    };
    let range = json!({"default": "2", "validRange": {"min": "2", "max": "8", "step": "3"}});
    check("ResourceSlice", capacity(true, range.clone()), &[]);
    check(
        "ResourceSlice",
        capacity(false, range.clone()),
        &["spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true"],
    );
    check(
        "ResourceSlice",
        capacity(true, with(range, json!({"default": "3", "validRange": {"max": "11"}}))),
        &[
            "spec.devices[0].capacity[m].requestPolicy.validRange.max: Invalid value: \"11\": max is larger than capacity value: 10",
            "spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: \"3\": value is not a multiple of a given step (3) from (2)",
        ],
    );
    check(
        "ResourceSlice",
        capacity(true, json!({"default": "3", "validValues": ["2", "1", "20"]})),
        &[
            "spec.devices[0].capacity[m].requestPolicy.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
            "spec.devices[0].capacity[m].requestPolicy.validValues[2]: Invalid value: \"20\": option is larger than capacity value: 10",
            "spec.devices[0].capacity[m].requestPolicy.validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy",
        ],
    );
}

#[test]
fn rules_that_taint_devices() {
    let rule = |spec: Value| json!({"metadata": {"name": "r"}, "spec": spec});
    let taint = |effect: &str| json!({"key": "k", "effect": effect});
    check("DeviceTaintRule", rule(json!({"taint": taint("None")})), &[]);
    check(
        "DeviceTaintRule",
        rule(
            json!({"taint": {"key": "k", "value": "a b"}, "deviceSelector": {"driver": "", "pool": "", "device": "A"}}),
        ),
        &[
            "spec.deviceSelector.driver: Required value",
            "spec.deviceSelector.pool: Required value",
            "spec.deviceSelector.device: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.taint.value: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            "spec.taint.effect: Required value",
        ],
    );
    let unknown = "spec.taint.effect: Unsupported value: \"Later\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"";
    check("DeviceTaintRule", rule(json!({"taint": taint("Later")})), &[unknown]);
    // An effect of a later version may stay.
    let later = rule(json!({"taint": taint("Later")}));
    let selecting = rule(json!({"taint": taint("Later"), "deviceSelector": {}}));
    assert_eq!(update("DeviceTaintRule", selecting, later.clone()).1, Vec::<String>::new());
    let time = "2026-01-01T00:00:00Z";
    let said = |status: &str| json!({"type": "EvictionInProgress", "status": status, "reason": "R", "message": "", "lastTransitionTime": time});
    let with_status = |conditions: Value| with(later.clone(), json!({"status": {"conditions": conditions}}));
    let (_, errors) = update_status("DeviceTaintRule", with_status(json!([said("Maybe")])), later.clone());
    assert_eq!(errors.len(), 1, "{errors:?}");
}
