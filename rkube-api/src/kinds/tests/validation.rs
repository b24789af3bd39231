//! What is wrong with objects of the smaller kinds.

use super::*;

fn check(kind: &str, value: Value, want: &[&str]) {
    assert_eq!(create_errors(kind, value.clone()), want, "{value}");
}

fn workload(patch: Value) -> Value {
    let base = json!({
        "metadata": meta("w"),
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
        }
    });
    with(base, json!({ "spec": patch }))
}

#[test]
fn workloads() {
    for kind in ["Deployment", "ReplicaSet"] {
        check(kind, workload(json!({})), &[]);
        check(
            kind,
            workload(json!({"replicas": -1, "selector": {"matchLabels": {"app": "b"}}})),
            &[
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
            ],
        );
        check(
            kind,
            workload(json!({"selector": {"matchLabels": null}})),
            &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        );
        check(
            kind,
            workload(
                json!({"template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 1, "containers": []}}}),
            ),
            &[
                "spec.template.spec.containers: Required value",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ],
        );
    }
}

#[test]
fn rollouts() {
    let strategy = |strategy: Value| workload(json!({ "strategy": strategy }));
    check(
        "Deployment",
        strategy(json!({"type": "Recreate", "rollingUpdate": {}})),
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    );
    check(
        "Deployment",
        strategy(json!({"type": "x"})),
        &["spec.strategy.type: Unsupported value: \"x\": supported values: \"Recreate\", \"RollingUpdate\""],
    );
    check(
        "Deployment",
        strategy(json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}})),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ],
    );
    check(
        "Deployment",
        strategy(json!({"rollingUpdate": {"maxSurge": "x", "maxUnavailable": "101%"}})),
        &[
            "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ],
    );
    check(
        "Deployment",
        workload(json!({"minReadySeconds": 600, "revisionHistoryLimit": -1})),
        &[
            "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
            "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
        ],
    );
}

#[test]
fn maps_and_secrets() {
    check(
        "ConfigMap",
        json!({"metadata": meta("m"), "data": {"a": "b", "/": ""}, "binaryData": {"a": "Yg=="}}),
        &[
            "data[/]: Invalid value: \"/\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
        ],
    );
    let big = "x".repeat(1024 * 1024 + 1);
    check(
        "ConfigMap",
        json!({"metadata": meta("m"), "data": {"a": big}}),
        &[": Too long: may not be more than 1048576 bytes"],
    );
    let secret = |kind: &str, data: Value| json!({"metadata": meta("m"), "type": kind, "stringData": data});
    for (kind, data, want) in [
        ("Opaque", json!({}), vec![]),
        ("kubernetes.io/tls", json!({"tls.crt": ""}), vec!["data[tls.key]: Required value"]),
        (
            "kubernetes.io/basic-auth",
            json!({}),
            vec!["data[username]: Required value", "data[password]: Required value"],
        ),
        ("kubernetes.io/ssh-auth", json!({}), vec!["data[ssh-privatekey]: Required value"]),
        ("kubernetes.io/dockercfg", json!({}), vec!["data[.dockercfg]: Required value"]),
        (
            "kubernetes.io/dockerconfigjson",
            json!({".dockerconfigjson": "{secret"}),
            vec![
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid JSON at line 1, column 2",
            ],
        ),
        ("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "{}"}), vec![]),
        (
            "kubernetes.io/service-account-token",
            json!({}),
            vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
    ] {
        check("Secret", secret(kind, data), &want);
    }
}

#[test]
fn nodes() {
    check("Node", json!({"metadata": {"name": "n"}}), &[]);
    check(
        "Node",
        json!({
            "metadata": {"name": "n"},
            "spec": {"taints": [{"key": "a", "effect": "x"}, {"key": "b", "effect": "NoSchedule"},
                {"key": "b", "effect": "NoSchedule"}], "podCIDRs": ["x", "10.0.0.0/8"]},
            "status": {"capacity": {"pods": "1.5", "cpu": "-1"}}
        }),
        &[
            "metadata.taints[0].effect: Unsupported value: \"x\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            "metadata.taints[2]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"b\"}: taints must be unique by key and effect pair",
            "spec.podCIDRs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            "spec.podCIDRs: Invalid value: [\"x\",\"10.0.0.0/8\"]: may specify no more than one CIDR for each IP family",
            "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
            "status.allocatable.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            "status.allocatable.pods: Invalid value: \"1500m\": must be an integer",
        ],
    );
}

#[test]
fn slices() {
    let slice = |kind: &str, endpoints: Value, ports: Value| json!({"metadata": meta("s"), "addressType": kind, "endpoints": endpoints, "ports": ports});
    check("EndpointSlice", slice("IPv4", json!([{"addresses": ["10.0.0.1"]}]), json!([{"port": 1}])), &[]);
    check(
        "EndpointSlice",
        slice("x", json!([{"addresses": []}]), json!([{"name": "a"}, {"name": "a", "protocol": "x"}])),
        &[
            "addressType: Unsupported value: \"x\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            "endpoints[0].addresses: Required value: must contain at least 1 address",
            "ports[1].name: Duplicate value: \"a\"",
            "ports[1].protocol: Unsupported value: \"x\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
    check(
        "EndpointSlice",
        slice("IPv4", json!([{"addresses": ["::1"], "hostname": "A"}]), json!([])),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
            "endpoints[0].hostname: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    let many: Vec<Value> = (0..1001).map(|_| json!({"addresses": ["10.0.0.1"]})).collect();
    check(
        "EndpointSlice",
        slice("IPv4", json!(many), json!([])),
        &["endpoints: Too many: 1001: must have at most 1000 items"],
    );
}

#[test]
fn events() {
    let event = |namespace: &str, patch: Value| {
        let base = json!({"metadata": meta("e"), "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace}});
        with(base, patch)
    };
    check("Event", event("default", json!({})), &[]);
    check(
        "Event",
        event("other", json!({})),
        &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
    );
    check(
        "Event",
        event(
            "default",
            json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "x.io/y", "action": "x".repeat(129)}),
        ),
        &[
            "reportingInstance: Required value",
            "action: Invalid value: \"\": can have at most 128 characters",
            "reason: Required value",
        ],
    );
}

#[test]
fn disruption_budgets() {
    let budget = |spec: Value| json!({"metadata": meta("b"), "spec": spec});
    check("PodDisruptionBudget", budget(json!({"minAvailable": 1, "selector": {}})), &[]);
    check(
        "PodDisruptionBudget",
        budget(json!({"minAvailable": "101%", "unhealthyPodEvictionPolicy": "Never"})),
        &[
            "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
            "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
        ],
    );
    check(
        "PodDisruptionBudget",
        budget(json!({"maxUnavailable": -1})),
        &["spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"],
    );
    let both = create_errors("PodDisruptionBudget", budget(json!({"minAvailable": 1, "maxUnavailable": 1})));
    assert!(both[0].ends_with("minAvailable and maxUnavailable cannot be both set"), "{both:?}");
}

#[test]
fn leases_and_classes_and_namespaces() {
    check(
        "Lease",
        json!({"metadata": meta("l"), "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "a"}}),
        &[
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
        ],
    );
    let class = |name: &str, value: i32| json!({"metadata": {"name": name}, "value": value});
    check("PriorityClass", class("system-node-critical", 2_000_001_000), &[]);
    check("PriorityClass", class("a", 1_000_000_000), &[]);
    check(
        "PriorityClass",
        class("a", 1_000_000_001),
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    check(
        "PriorityClass",
        class("system-x", 1),
        &[
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
        ],
    );
    check(
        "Namespace",
        json!({"metadata": {"name": "a.b"}}),
        &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
    );
    check(
        "Namespace",
        json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["x"]}}),
        &[
            "spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    check(
        "ServiceAccount",
        json!({"metadata": {"name": "a", "namespace": ""}}),
        &["metadata.namespace: Required value"],
    );
}

#[test]
fn groups_of_pods() {
    let group = |spec: Value| json!({"metadata": meta("g"), "spec": spec});
    let gang = json!({"gang": {"minCount": 2}});
    check("PodGroup", group(json!({"schedulingPolicy": gang})), &[]);
    check("PodGroup", group(json!({"schedulingPolicy": {"basic": {}}})), &[]);
    check(
        "PodGroup",
        group(
            json!({"schedulingPolicy": {"basic": {}, "gang": {"minCount": 0}}, "preemptionPolicy": "Never"}),
        ),
        &[
            "spec.schedulingPolicy: Invalid value: {\"basic\":{},\"gang\":{\"minCount\":0}}: must specify exactly one of: `basic`, `gang`",
            "spec.schedulingPolicy.gang.minCount: Invalid value: 0: must be greater than or equal to 1",
            "spec.preemptionPolicy: Forbidden: the feature of this field is not enabled",
        ],
    );
    let old = group(json!({"schedulingPolicy": gang, "priorityClassName": "a"}));
    let larger = group(json!({"schedulingPolicy": {"gang": {"minCount": 3}}, "priorityClassName": "a"}));
    assert!(update("PodGroup", larger, old.clone()).1.is_empty());
    let other = group(json!({"schedulingPolicy": {"basic": {}}, "priorityClassName": "a"}));
    let errors = update("PodGroup", other, old).1;
    assert!(errors.len() == 1 && errors[0].starts_with("spec.schedulingPolicy: Invalid value"), "{errors:?}");
    let template = json!({"name": "t", "schedulingPolicy": gang});
    let workload =
        |templates: Value| json!({"metadata": meta("w"), "spec": {"podGroupTemplates": templates}});
    check("Workload", workload(json!([template])), &[]);
    check(
        "Workload",
        workload(json!([template, template])),
        &["spec.podGroupTemplates[1].name: Duplicate value: \"t\""],
    );
    check(
        "Workload",
        workload(json!([])),
        &["spec.podGroupTemplates: Required value: must have at least one item"],
    );
}
