//! Services: their rules, and what an update keeps.

use super::*;

fn service(spec: Value) -> Value {
    json!({"metadata": meta("s"), "spec": with(json!({"ports": [{"port": 80}]}), spec)})
}

fn check(spec: Value, want: &[&str]) {
    assert_eq!(create_errors("Service", service(spec.clone())), want, "{spec}");
}

#[test]
fn rules() {
    check(json!({}), &[]);
    check(json!({"clusterIP": "None", "ports": null}), &[]);
    check(json!({"ports": null}), &["spec.ports: Required value"]);
    check(
        json!({"ports": [{"port": 80}, {"name": "a", "port": 0, "targetPort": 1}, {"name": "a", "port": 80}]}),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[2].name: Duplicate value: \"a\"",
            "spec.ports[2]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
        ],
    );
    check(
        json!({"type": "x", "sessionAffinity": "y", "internalTrafficPolicy": "z", "selector": {"a b": "c"}}),
        &[
            "spec.selector: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "spec.sessionAffinity: Unsupported value: \"y\": supported values: \"ClientIP\", \"None\"",
            "spec.type: Unsupported value: \"x\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            "spec.internalTrafficPolicy: Unsupported value: \"z\": supported values: \"Cluster\", \"Local\"",
        ],
    );
    check(json!({"type": "ExternalName"}), &["spec.externalName: Required value"]);
    check(
        json!({"type": "NodePort", "clusterIP": "None"}),
        &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
    );
    check(
        json!({"clusterIP": "x", "externalIPs": ["127.0.0.1"]}),
        &[
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    check(
        json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]}),
        &["spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`"],
    );
    check(
        json!({"clusterIPs": ["10.0.0.2"]}),
        &["spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: must be empty when `clusterIP` is not specified"],
    );
    check(
        json!({"loadBalancerSourceRanges": ["x"], "loadBalancerClass": "a/b", "ports": [{"port": 1, "nodePort": 30000}]}),
        &[
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.LoadBalancerSourceRanges[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ],
    );
    let errors = create_errors("Service", with(service(json!({})), json!({"metadata": {"name": "1a"}})));
    assert!(
        errors[0].starts_with("metadata.name: Invalid value: \"1a\": a DNS-1035 label must"),
        "{errors:?}"
    );
}

#[test]
fn families() {
    let families = |spec: Value| {
        let spec = created("Service", service(spec)).to_value().unwrap()["spec"].clone();
        (spec["ipFamilyPolicy"].clone(), spec["ipFamilies"].clone())
    };
    assert_eq!(families(json!({})), (json!("SingleStack"), json!(["IPv4"])));
    assert_eq!(families(json!({"clusterIP": "fd00::1"})), (json!("SingleStack"), json!(["IPv6"])));
    assert_eq!(
        families(json!({"clusterIP": "None", "selector": {"a": "b"}})),
        (json!("SingleStack"), json!(["IPv4"]))
    );
    assert_eq!(families(json!({"clusterIP": "None"})), (json!("RequireDualStack"), json!(["IPv4", "IPv6"])));
    assert_eq!(families(json!({"type": "ExternalName"})), (Value::Null, Value::Null));
}

#[test]
fn an_update_keeps_what_the_cluster_gave() {
    let given =
        |spec: Value| service(with(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}), spec));
    let spec = |new: Value, old: Value| {
        let (kept, errors) = update("Service", new, old);
        assert_eq!(errors, [""; 0]);
        kept.to_value().unwrap()["spec"].clone()
    };
    let kept = spec(service(json!({})), given(json!({})));
    assert_eq!(kept["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(kept["ipFamilies"], json!(["IPv4"]));
    let ports =
        json!([{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]);
    let new_ports = json!([{"name": "b", "port": 81}, {"name": "c", "port": 82}]);
    let kept = spec(
        service(json!({"type": "NodePort", "ports": new_ports})),
        given(json!({"type": "NodePort", "ports": ports})),
    );
    assert_eq!(kept["ports"][0]["nodePort"], 30002);
    assert_eq!(kept["ports"][1].get("nodePort"), None);
    let kept = spec(
        given(json!({"type": "ClusterIP", "ports": ports, "externalTrafficPolicy": "Cluster"})),
        given(json!({"type": "NodePort", "ports": ports})),
    );
    assert_eq!(kept["ports"][0].get("nodePort"), None);
    assert_eq!(kept.get("externalTrafficPolicy"), None);
    let external = given(json!({"type": "ExternalName", "externalName": "a.example", "ports": null,
        "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}));
    let kept = spec(external, given(json!({})));
    for gone in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
        assert_eq!(kept.get(gone), None, "{gone}");
    }
}

#[test]
fn an_address_is_for_life() {
    let with_address = |address: &str| service(json!({"clusterIP": address, "clusterIPs": [address]}));
    assert_eq!(
        update("Service", with_address("10.0.0.2"), with_address("10.0.0.1")).1,
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
    assert_eq!(
        update("Service", service(json!({"clusterIP": "10.0.0.2"})), with_address("10.0.0.1")).1,
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
}

#[test]
fn a_status_is_a_load_balancer_s() {
    let status =
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "1.2.3.4"}]}}});
    assert_eq!(
        update_status("Service", with(service(json!({})), status.clone()), service(json!({}))).1,
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]
    );
    let balanced = service(json!({"type": "LoadBalancer"}));
    let (kept, errors) = update_status("Service", with(balanced.clone(), status), balanced);
    assert_eq!(
        errors,
        [
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"
        ]
    );
    assert_eq!(kept.to_value().unwrap()["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
}
