//! What may change, and what a change moves.

use super::*;

fn pod(spec: Value) -> Value {
    let containers = json!([{"name": "a", "image": "b"}]);
    json!({"metadata": meta("p"), "spec": with(json!({"containers": containers}), spec)})
}

#[test]
fn a_pod_s_image_may_change_and_little_else() {
    let old = pod(json!({"tolerations": [{"key": "a", "operator": "Exists"}], "activeDeadlineSeconds": 10}));
    let same = |patch: Value| with(old.clone(), json!({ "spec": patch }));
    for good in [
        json!({"containers": [{"name": "a", "image": "c", "imagePullPolicy": "Always"}]}),
        json!({"tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 1, "effect": null}, {"key": "b"}]}),
        json!({"activeDeadlineSeconds": 5}),
        json!({"initContainers": []}),
    ] {
        let errors = update("Pod", same(good.clone()), old.clone()).1;
        let errors: Vec<&String> =
            errors.iter().filter(|error| !error.contains("tolerationSeconds` is set")).collect();
        assert!(errors.is_empty(), "{good}: {errors:?}");
    }
    let errors = update("Pod", same(json!({"nodeName": "n"})), old.clone()).1;
    assert_eq!(
        errors,
        [
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n  nodeName: null -> \"n\""
        ]
    );
    for (patch, want) in [
        (
            json!({"containers": [{"name": "a", "image": "b"}, {"name": "b", "image": "b"}]}),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            json!({"tolerations": []}),
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ),
        (
            json!({"activeDeadlineSeconds": 11}),
            "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value",
        ),
        (
            json!({"activeDeadlineSeconds": null}),
            "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
        ),
        (
            json!({"schedulingGates": [{"name": "a.io/b"}]}),
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a.io/b'",
        ),
    ] {
        assert_eq!(update("Pod", same(patch.clone()), old.clone()).1, [want], "{patch}");
    }
}

#[test]
fn a_gated_pod_may_be_narrowed() {
    let term = |values: Value| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": values}
        ]}}})
    };
    let first = json!({"key": "a", "operator": "Exists"});
    let old = pod(json!({
        "schedulingGates": [{"name": "x.io/a"}], "nodeSelector": {"a": "1"}, "affinity": term(json!([first]))
    }));
    let same = |patch: Value| with(old.clone(), json!({ "spec": patch }));
    let second = json!({"key": "b", "operator": "Exists"});
    for good in [
        json!({"nodeSelector": {"b": "2"}}),
        json!({"affinity": term(json!([first, second]))}),
        json!({"schedulingGates": []}),
    ] {
        assert_eq!(update("Pod", same(good.clone()), old.clone()).1, [""; 0], "{good}");
    }
    assert_eq!(
        update("Pod", same(json!({"nodeSelector": {"a": "2"}})), old.clone()).1,
        [
            "spec.nodeSelector: Invalid value: {\"a\":\"2\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        ]
    );
    let errors = update("Pod", same(json!({"affinity": term(json!([second]))})), old.clone()).1;
    assert!(errors[0].ends_with("only additions are allowed (no mutations or deletions)"), "{errors:?}");
}

#[test]
fn a_status_leaves_the_spec_alone_and_the_spec_the_status() {
    let (kept, errors) =
        update("Pod", with(pod(json!({})), json!({"status": {"phase": "Running"}})), pod(json!({})));
    assert_eq!(errors, [""; 0]);
    assert_eq!(kept.to_value().unwrap()["status"]["phase"], "Pending");
    let (kept, errors) = update_status(
        "Pod",
        with(pod(json!({"nodeName": "n"})), json!({"status": {"phase": "Running", "podIP": "10.0.0.1"}})),
        pod(json!({})),
    );
    assert_eq!(errors, [""; 0]);
    let kept = kept.to_value().unwrap();
    assert_eq!(kept["spec"].get("nodeName"), None);
    assert_eq!(kept["status"]["phase"], "Running");
    assert_eq!(kept["status"]["qosClass"], "BestEffort");
    assert_eq!(kept["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
}

#[test]
fn a_pod_s_status_has_rules() {
    let status = |status: Value| with(pod(json!({"restartPolicy": "Never"})), json!({ "status": status }));
    let ended = json!([{"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1}}}]);
    let mut runs = ended.clone();
    runs[0]["state"] = json!({"running": {}});
    let old = status(json!({"qosClass": "BestEffort", "containerStatuses": ended}));
    let new = status(json!({
        "qosClass": "Burstable", "containerStatuses": runs, "podIPs": [{"ip": "x"}],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "!", "status": "True"}]
    }));
    let errors = update_status("Pod", new, old).1;
    assert!(errors[0].starts_with("status.conditions[1].Type: Invalid value: \"!\": name part"));
    assert_eq!(
        errors[1..],
        [
            "status.qosClass: Invalid value: \"Burstable\": field is immutable",
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
            "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ]
    );
}

fn workload(kind: &str) -> Value {
    let mut value = json!({
        "metadata": meta("w"),
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
        }
    });
    value["kind"] = json!(kind);
    value
}

#[test]
fn a_selector_is_for_life() {
    for kind in ["Deployment", "ReplicaSet"] {
        let new = with(
            workload(kind),
            json!({"spec": {"selector": {"matchLabels": {"b": "c"}}, "template": {"metadata": {"labels": {"b": "c"}}}}}),
        );
        assert_eq!(
            update(kind, new, workload(kind)).1,
            [
                "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\",\"b\":\"c\"}}: field is immutable"
            ]
        );
        assert_eq!(update(kind, workload(kind), workload(kind)).1, [""; 0]);
    }
}

#[test]
fn what_moves_the_generation() {
    let moves = |kind: &str, new: Value, old: Value| {
        let definition = definition(kind);
        definition.strategy.generation_moves.as_ref().unwrap()(&defaulted(kind, new), &defaulted(kind, old))
    };
    let scaled = || json!({"spec": {"replicas": 2}});
    let noted = || json!({"metadata": {"annotations": {"a": "b"}}});
    let labelled = || json!({"metadata": {"labels": {"a": "b"}}});
    for (kind, patch, want) in [
        ("Deployment", scaled(), true),
        ("Deployment", noted(), true),
        ("Deployment", labelled(), false),
        ("Deployment", json!({"status": {"replicas": 1}}), false),
        ("ReplicaSet", scaled(), true),
        ("ReplicaSet", noted(), false),
    ] {
        assert_eq!(moves(kind, with(workload(kind), patch.clone()), workload(kind)), want, "{kind} {patch}");
    }
    assert!(moves("Pod", pod(json!({"nodeName": "n"})), pod(json!({}))));
    assert!(!moves("Pod", pod(json!({"initContainers": []})), pod(json!({}))));
    let slice = || json!({"metadata": meta("s"), "addressType": "IPv4", "endpoints": []});
    assert!(moves("EndpointSlice", with(slice(), labelled()), slice()));
    assert!(!moves("EndpointSlice", with(slice(), noted()), slice()));
    for kind in ["Node", "Namespace", "Service", "ConfigMap", "Secret", "Lease", "Event", "ServiceAccount"] {
        assert!(definition(kind).strategy.generation_moves.is_none(), "{kind}");
    }
}

#[test]
fn what_is_immutable_stays() {
    let map =
        |data: Value, immutable: bool| json!({"metadata": meta("m"), "data": data, "immutable": immutable});
    assert_eq!(
        update("ConfigMap", map(json!({"a": "c"}), false), map(json!({"a": "b"}), true)).1,
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ]
    );
    assert_eq!(update("ConfigMap", map(json!({"a": "c"}), false), map(json!({"a": "b"}), false)).1, [""; 0]);
    let secret = |kind: &str| json!({"metadata": meta("m"), "type": kind});
    assert_eq!(
        update("Secret", secret("b"), secret("a")).1,
        ["type: Invalid value: \"b\": field is immutable"]
    );
    let class = |value: i32, policy: &str| json!({"metadata": {"name": "c"}, "value": value, "preemptionPolicy": policy});
    assert_eq!(
        update("PriorityClass", class(2, "Never"), class(1, "PreemptLowerPriority")).1,
        [
            "value: Forbidden: may not be changed in an update.",
            "preemptionPolicy: Invalid value: \"Never\": field is immutable",
        ]
    );
    let slice = |kind: &str| json!({"metadata": meta("s"), "addressType": kind, "endpoints": []});
    assert_eq!(
        update("EndpointSlice", slice("IPv6"), slice("IPv4")).1,
        ["addressType: Invalid value: \"IPv6\": field is immutable"]
    );
    let node = |range: &str, id: &str| json!({"metadata": {"name": "n"}, "spec": {"podCIDR": range, "podCIDRs": [range], "providerID": id}});
    assert_eq!(
        update("Node", node("10.0.1.0/24", "b"), node("10.0.0.0/24", "a")).1,
        [
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
            "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
        ]
    );
}

#[test]
fn statuses_of_workloads_and_namespaces() {
    let status = json!({"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3, "observedGeneration": -1}});
    assert_eq!(
        update_status("Deployment", with(workload("Deployment"), status.clone()), workload("Deployment")).1,
        [
            "status.observedGeneration: Invalid value: -1: must be greater than or equal to 0",
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
        ]
    );
    let errors = update_status("ReplicaSet", with(workload("ReplicaSet"), status), workload("ReplicaSet")).1;
    assert_eq!(errors.len(), 4);
    let namespace = |phase: &str| json!({"metadata": {"name": "n"}, "status": {"phase": phase}});
    assert_eq!(
        update_status("Namespace", namespace("Terminating"), namespace("Active")).1,
        [
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
        ]
    );
}

#[test]
fn a_namespace_s_finalizers_are_not_a_client_s() {
    let namespace = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["x.io/a"]}});
    let (kept, errors) =
        update("Namespace", with(namespace.clone(), json!({"spec": {"finalizers": []}})), namespace);
    assert_eq!(errors, [""; 0]);
    assert_eq!(kept.to_value().unwrap()["spec"]["finalizers"], json!(["x.io/a", "kubernetes"]));
}

#[test]
fn ephemeral_containers_are_only_added() {
    use k8s_openapi::api::core::v1::Pod;

    use crate::kinds::core::pod::{prepare_ephemeral_containers, validate_ephemeral_containers};

    let typed = |list: Value| -> Pod {
        defaulted("Pod", pod(json!({ "ephemeralContainers": list }))).as_kind::<Pod>().unwrap().clone()
    };
    let debug = |name: &str, image: &str| json!({"name": name, "image": image});
    let old = typed(json!([debug("d", "x")]));
    let mut new = typed(json!([debug("d", "x"), debug("e", "y")]));
    new.spec.as_mut().unwrap().node_name = Some("elsewhere".into());
    prepare_ephemeral_containers(&mut new, &old);
    assert_eq!(new.spec.as_ref().unwrap().node_name, None);
    assert_eq!(new.spec.as_ref().unwrap().ephemeral_containers.as_ref().unwrap().len(), 2);
    assert!(validate_ephemeral_containers(&new, &old).is_empty());
    let errors = validate_ephemeral_containers(&typed(json!([])), &old);
    assert_eq!(
        errors.to_string(),
        "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n"
    );
    let errors = validate_ephemeral_containers(&typed(json!([debug("d", "z")])), &old);
    assert!(errors.to_string().contains("existing ephemeral containers \"d\" may not be changed\n"));
}
