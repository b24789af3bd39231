//! What is wrong with pods, in Kubernetes' words.

use super::*;

fn pod(spec: Value) -> Value {
    let containers = json!([{"name": "a", "image": "b"}]);
    json!({"metadata": meta("p"), "spec": with(json!({"containers": containers}), spec)})
}

fn container(fields: Value) -> Value {
    pod(json!({"containers": [with(json!({"name": "a", "image": "b"}), fields)]}))
}

fn check(value: Value, want: &[&str]) {
    assert_eq!(create_errors("Pod", value.clone()), want, "{value}");
}

#[test]
fn a_good_pod_is_good() {
    check(pod(json!({})), &[]);
    check(json!({"metadata": meta("p")}), &["spec.containers: Required value"]);
    check(pod(json!({"containers": []})), &["spec.containers: Required value"]);
}

#[test]
fn containers() {
    check(
        pod(json!({"containers": [{"name": "a"}, {"name": "a", "image": " b"}, {"name": "", "image": "b"}]})),
        &[
            "spec.containers[0].image: Required value",
            "spec.containers[1].name: Duplicate value: \"a\"",
            "spec.containers[1].image: Invalid value: \" b\": must not have leading or trailing whitespace",
            "spec.containers[2].name: Required value",
        ],
    );
    check(
        container(json!({"imagePullPolicy": "x", "terminationMessagePolicy": "y"})),
        &[
            "spec.containers[0].terminationMessagePolicy: Unsupported value: \"y\": supported values: \"File\", \"FallbackToLogsOnError\"",
            "spec.containers[0].imagePullPolicy: Unsupported value: \"x\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ],
    );
    check(
        container(json!({"ports": [
            {"name": "web", "containerPort": 80, "hostPort": 80},
            {"name": "web", "containerPort": 80, "hostPort": 80},
            {"containerPort": 0}, {"containerPort": 70000, "protocol": "X"}
        ]})),
        &[
            "spec.containers[0].ports[1].name: Duplicate value: \"web\"",
            "spec.containers[0].ports[2].containerPort: Required value",
            "spec.containers[0].ports[3].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[3].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\"",
        ],
    );
    check(
        pod(
            json!({"initContainers": [{"name": "a", "image": "b", "livenessProbe": {"exec": {"command": ["x"]}}}]}),
        ),
        &[
            "spec.initContainers[0].name: Duplicate value: \"a\"",
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
    check(
        pod(json!({"ephemeralContainers": [{"name": "d", "image": "b", "targetContainerName": "x",
            "ports": [{"containerPort": 1}]}]})),
        &[
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ],
    );
}

#[test]
fn environment() {
    check(
        container(json!({"env": [
            {"name": ""}, {"name": "a=b"},
            {"name": "a", "valueFrom": {}},
            {"name": "a", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b/c']"}}},
            {"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}},
            {"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}},
            {"name": "a", "valueFrom": {"configMapKeyRef": {"name": "m", "key": ""}}}
        ], "envFrom": [{}]})),
        &[
            "spec.containers[0].env[0].name: Required value",
            "spec.containers[0].env[1].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            "spec.containers[0].env[2].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            "spec.containers[0].env[3].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            "spec.containers[0].env[4].valueFrom.fieldRef: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            "spec.containers[0].env[5].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x",
            "spec.containers[0].env[6].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.labels\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            "spec.containers[0].env[7].valueFrom.configMapKeyRef.key: Required value",
            "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ],
    );
}

#[test]
fn volumes_and_mounts() {
    check(
        pod(json!({
            "containers": [{"name": "a", "image": "b", "volumeMounts": [
                {"name": "v", "mountPath": "/x"}, {"name": "w", "mountPath": "/x"}, {"name": "v", "mountPath": "", "subPath": "../a"}
            ]}],
            "volumes": [
                {"name": "v"}, {"name": "v", "emptyDir": {}}, {"name": "X", "emptyDir": {}},
                {"name": "z", "emptyDir": {}, "hostPath": {"path": "/a/.."}},
                {"name": "m", "configMap": {"name": "", "items": [{"key": "", "path": "..x", "mode": 512}]}}
            ]
        })),
        &[
            "spec.volumes[1].name: Duplicate value: \"v\"",
            "spec.volumes[2].name: Invalid value: \"X\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.volumes[3].hostPath: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[4].configMap.name: Required value",
            "spec.volumes[4].configMap.items[0].key: Required value",
            "spec.volumes[4].configMap.items[0].path: Invalid value: \"..x\": must not start with '..'",
            "spec.volumes[4].configMap.items[0].mode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
            "spec.containers[0].volumeMounts[1].name: Not found: \"w\"",
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
            "spec.containers[0].volumeMounts[2].mountPath: Required value",
            "spec.containers[0].volumeMounts.subPath: Invalid value: \"../a\": must not contain '..'",
        ],
    );
}

#[test]
fn resources() {
    check(
        container(json!({"resources": {
            "limits": {"cpu": "1", "foo": "1", "example.com/gpu": "2", "memory": "-1"},
            "requests": {"cpu": "2", "example.com/gpu": "1", "memory": "x", "hugepages-2Mi": "3Mi"}
        }})),
        &[
            "spec.containers[0].resources.limits[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.limits[foo]: Invalid value: \"foo\": must be a standard resource for containers",
            "spec.containers[0].resources.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2",
            "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource for containers",
            "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            "spec.containers[0].resources.requests[memory]: Invalid value: \"x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ],
    );
}

#[test]
fn probes() {
    check(
        container(json!({
            "livenessProbe": {"tcpSocket": {"port": 0}, "exec": {"command": ["x"]}, "successThreshold": 2, "periodSeconds": -1},
            "readinessProbe": {"terminationGracePeriodSeconds": 1, "httpGet": {"port": "A", "scheme": "x"}},
            "startupProbe": {},
            "lifecycle": {"preStop": {"sleep": {"seconds": 31}}}
        })),
        &[
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            "spec.containers[0].readinessProbe.httpGet.port: Invalid value: \"A\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            "spec.containers[0].readinessProbe.httpGet.port: Invalid value: \"A\": must contain at least one letter (a-z)",
            "spec.containers[0].readinessProbe.httpGet.scheme: Unsupported value: \"x\": supported values: \"HTTP\", \"HTTPS\"",
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
            "spec.containers[0].startupProbe: Required value: must specify a handler type",
        ],
    );
}

#[test]
fn scheduling() {
    check(
        pod(json!({
            "nodeName": "n",
            "schedulingGates": [{"name": "x.io/a"}, {"name": "x.io/a"}],
            "tolerations": [
                {"operator": "Equal"}, {"key": "a", "operator": "Exists", "value": "b"},
                {"key": "a", "tolerationSeconds": 1, "effect": "NoSchedule"}, {"key": "a", "operator": "In"}
            ],
            "topologySpreadConstraints": [
                {"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "x"},
                {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1},
                {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}
            ]
        })),
        &[
            "spec.schedulingGates[1]: Duplicate value: \"x.io/a\"",
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than 0",
            "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"x\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
            "spec.topologySpreadConstraints[1].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
            "spec.topologySpreadConstraints[2].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{z, ScheduleAnyway}\"",
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            "spec.tolerations[1].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
            "spec.tolerations[2].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            "spec.tolerations[3].operator: Unsupported value: \"In\": supported values: \"Equal\", \"Exists\"",
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ],
    );
    check(
        pod(json!({"affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []},
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "preference": {"matchExpressions": [
                    {"key": "a", "operator": "In"}, {"key": "a", "operator": "Gt", "values": []}, {"key": "a", "operator": "x"}
                ]}}]
            },
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}
            ]}
        }})),
        &[
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[2].operator: Invalid value: \"x\": not a valid selector operator",
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"\": name part must be non-empty",
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ],
    );
}

#[test]
fn the_rest_of_the_spec() {
    check(
        pod(json!({
            "restartPolicy": "x", "dnsPolicy": "None", "activeDeadlineSeconds": 0, "hostname": "a.b",
            "preemptionPolicy": "x", "os": {"name": "dos"}, "hostUsers": false, "hostPID": true,
            "securityContext": {"runAsUser": -1, "sysctls": [{"name": "A", "value": ""}]},
            "hostAliases": [{"ip": "x"}]
        })),
        &[
            "spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            "spec.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            "spec.os: Unsupported value: \"dos\": supported values: \"linux\", \"windows\"",
            "spec.HostPID: Forbidden: when `hostUsers` is false",
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            "spec.hostname: Invalid value: \"a.b\": must not contain dots",
            "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "spec.preemptionPolicy: Unsupported value: \"x\": supported values: \"PreemptLowerPriority\", \"Never\"",
        ],
    );
    check(
        pod(json!({"hostNetwork": true, "containers": [
            {"name": "a", "image": "b", "ports": [{"containerPort": 80, "hostPort": 81}]}
        ]})),
        &[
            "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
        ],
    );
}

#[test]
fn metadata_is_checked_too() {
    let mut pod = pod(json!({}));
    pod["metadata"] = json!({"name": "A", "namespace": "default", "labels": {"a b": "c"},
        "annotations": {"controller.kubernetes.io/pod-deletion-cost": "+1"}});
    let errors = create_errors("Pod", pod);
    assert_eq!(errors.len(), 3);
    assert!(errors[0].starts_with("metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain"));
    assert!(errors[1].starts_with("metadata.labels: Invalid value: \"a b\": name part must consist"));
    assert_eq!(
        errors[2],
        "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+1\": must be a 32bit integer"
    );
}

#[test]
fn how_long_a_pod_may_take_to_go() {
    let grace = definition("Pod").strategy.grace_period.unwrap();
    let pod = |node: Value, phase: &str| {
        read(
            "Pod",
            json!({"metadata": {}, "spec": {"containers": [], "nodeName": node,
            "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}}),
        )
    };
    let running = pod(json!("n"), "Running");
    assert_eq!(grace(&running, None), 30);
    assert_eq!(grace(&running, Some(5)), 5);
    assert_eq!(grace(&running, Some(-1)), 1);
    assert_eq!(grace(&pod(json!(null), "Pending"), Some(5)), 0);
    assert_eq!(grace(&pod(json!("n"), "Succeeded"), None), 0);
    assert_eq!(grace(&pod(json!("n"), "Failed"), None), 0);
}

#[test]
fn what_looks_like_a_mistake() {
    let warn = |kind: &str, value: Value| definition(kind).strategy.warnings.unwrap()(&created(kind, value));
    assert_eq!(warn("Pod", pod(json!({}))), [""; 0]);
    let mut odd = pod(json!({
        "terminationGracePeriodSeconds": -1,
        "nodeSelector": {"beta.kubernetes.io/os": "linux"},
        "containers": [{
            "name": "a", "image": "b", "env": [{"name": "A"}, {"name": "A"}],
            "ports": [{"containerPort": 1}, {"containerPort": 1}], "resources": {"limits": {"memory": "100m"}}
        }],
        "volumes": [{"name": "g", "gitRepo": {"repository": "r"}}]
    }));
    odd["metadata"]["name"] = json!("a.b");
    odd["metadata"]["finalizers"] = json!(["x"]);
    assert_eq!(
        warn("Pod", odd),
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            "metadata.finalizers: \"x\": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers",
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ]
    );
    let deployment = json!({"metadata": meta("d"), "spec": {"selector": {}, "template": {"spec": {
        "containers": [{"name": "a", "env": [{"name": "A"}, {"name": "A"}]}]
    }}}});
    assert_eq!(
        warn("Deployment", deployment),
        [
            "spec.template.spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply"
        ]
    );
}

#[test]
fn keys_of_a_pod_s_own_labels_are_written_out() {
    let term = |patch: Value| {
        let base = json!({"topologyKey": "z", "labelSelector": {"matchLabels": {"a": "1"}}, "matchLabelKeys": ["k"]});
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [with(base, patch)]}}})
    };
    let mut labelled = pod(term(json!({"mismatchLabelKeys": ["m"]})));
    labelled["metadata"]["labels"] = json!({"k": "v", "m": "w"});
    labelled["spec"]["topologySpreadConstraints"] = json!([
        {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}, "matchLabelKeys": ["k"]}
    ]);
    check(labelled.clone(), &[]);
    let spec = created("Pod", labelled).to_value().unwrap()["spec"].clone();
    let (is, is_not) = (
        json!({"key": "k", "operator": "In", "values": ["v"]}),
        json!({"key": "m", "operator": "NotIn", "values": ["w"]}),
    );
    let terms = &spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(terms[0]["labelSelector"]["matchExpressions"], json!([is, is_not]));
    assert_eq!(spec["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"], json!([is]));
    let mut twice = pod(term(json!({"labelSelector": {"matchLabels": {"k": "x"}}})));
    twice["metadata"]["labels"] = json!({"k": "v"});
    check(
        twice,
        &[
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0][0]: Invalid value: \"k\": exists in both matchLabelKeys and labelSelector",
        ],
    );
}

#[test]
fn a_mirror_is_on_a_node_for_life() {
    let mirror = |spec: Value| {
        with(pod(spec), json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "h"}}}))
    };
    check(
        mirror(json!({})),
        &[
            "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"\": must set spec.nodeName if mirror pod annotation is set",
        ],
    );
    check(mirror(json!({"nodeName": "n"})), &[]);
    let plain = || pod(json!({"nodeName": "n"}));
    assert_eq!(
        update("Pod", plain(), mirror(json!({"nodeName": "n"}))).1,
        [
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation"
        ]
    );
    assert_eq!(
        update("Pod", mirror(json!({"nodeName": "n"})), plain()).1,
        ["metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation"]
    );
}
