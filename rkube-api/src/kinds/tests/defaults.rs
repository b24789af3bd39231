//! Defaults, compared with what a real API server answers.

use super::*;

fn default_value(kind: &str, value: Value) -> Value {
    let mut value = defaulted(kind, value).to_value().unwrap();
    let object = value.as_object_mut().unwrap();
    object.remove("apiVersion");
    object.remove("kind");
    value
}

/// The defaults of a container with this image.
fn container(image: &str, policy: &str) -> Value {
    json!({
        "name": "a", "image": image, "imagePullPolicy": policy, "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"
    })
}

#[test]
fn a_pod_of_one_line() {
    let pod =
        default_value("Pod", json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": "b"}]}}));
    assert_eq!(
        pod,
        json!({
            "metadata": {},
            "spec": {
                "containers": [container("b", "Always")],
                "dnsPolicy": "ClusterFirst",
                "enableServiceLinks": true,
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
            }
        })
    );
}

#[test]
fn a_pod_with_everything() {
    let pod = default_value(
        "Pod",
        json!({"metadata": {}, "spec": {
            "hostNetwork": true,
            "serviceAccount": "robot",
            "initContainers": [{"name": "a", "image": "b:1", "resources": {"limits": {"cpu": "1000m"}}}],
            "containers": [{
                "name": "a", "image": "b:1",
                "ports": [{"containerPort": 80}],
                "env": [
                    {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}
                ],
                "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "readinessProbe": {"grpc": {"port": 80}, "periodSeconds": 3},
                "lifecycle": {"preStop": {"httpGet": {"port": 80, "scheme": "HTTPS"}}}
            }],
            "volumes": [
                {"name": "a"},
                {"name": "b", "configMap": {"name": "x"}},
                {"name": "c", "secret": {"secretName": "x"}},
                {"name": "d", "hostPath": {"path": "/"}},
                {"name": "e", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
                {"name": "f", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "g", "image": {"reference": "x:1"}}
            ]
        }}),
    );
    let limits = json!({"cpu": "500m", "memory": "1Gi"});
    let main = with(
        container("b:1", "IfNotPresent"),
        json!({
            "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
            "env": [
                {"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                {"name": "B", "valueFrom": {"resourceFieldRef": {"divisor": "0", "resource": "limits.cpu"}}}
            ],
            "resources": {"limits": limits, "requests": {"cpu": "100m", "memory": "1Gi"}},
            "livenessProbe": {
                "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3
            },
            "readinessProbe": {
                "grpc": {"port": 80, "service": ""},
                "timeoutSeconds": 1, "periodSeconds": 3, "successThreshold": 1, "failureThreshold": 3
            },
            "lifecycle": {"preStop": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTPS"}}}
        }),
    );
    let init = with(
        container("b:1", "IfNotPresent"),
        json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}),
    );
    assert_eq!(pod["spec"]["containers"], json!([main]));
    assert_eq!(pod["spec"]["initContainers"], json!([init]));
    assert_eq!(pod["spec"]["serviceAccountName"], "robot");
    assert_eq!(pod["spec"]["serviceAccount"], "robot");
    assert_eq!(
        pod["spec"]["volumes"],
        json!([
            {"name": "a", "emptyDir": {}},
            {"name": "b", "configMap": {"name": "x", "defaultMode": 420}},
            {"name": "c", "secret": {"secretName": "x", "defaultMode": 420}},
            {"name": "d", "hostPath": {"path": "/", "type": ""}},
            {"name": "e", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}
            ]}},
            {"name": "f", "downwardAPI": {"defaultMode": 420, "items": [
                {"path": "l", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}}
            ]}},
            {"name": "g", "image": {"reference": "x:1", "pullPolicy": "IfNotPresent"}}
        ])
    );
}

#[test]
fn a_pod_s_own_resources_follow_its_containers() {
    let pod = default_value(
        "Pod",
        json!({"metadata": {}, "spec": {
            "resources": {"limits": {"cpu": "4", "memory": "1Gi"}},
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"name": "i", "resources": {"requests": {"cpu": "2"}}}
            ],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "500m"}}}]
        }}),
    );
    assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu": "3", "memory": "1Gi"}));
}

#[test]
fn a_new_pod_is_pending_and_gated_if_it_says_so() {
    let pod = created(
        "Pod",
        json!({"metadata": meta("a"), "spec": {
        "containers": [{"name": "a", "image": "b"}], "schedulingGates": [{"name": "x.io/a"}]
    }, "status": {"phase": "Running"}}),
    );
    assert_eq!(
        pod.to_value().unwrap()["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates"
        }]})
    );
}

#[test]
fn a_deployment() {
    let deployment = default_value(
        "Deployment",
        json!({"metadata": {}, "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [
                {"name": "a", "image": "b:1", "resources": {"limits": {"cpu": "1"}}}
            ]}}
        }}),
    );
    let with_limits = with(container("b:1", "IfNotPresent"), json!({"resources": {"limits": {"cpu": "1"}}}));
    assert_eq!(
        deployment["spec"],
        json!({
            "progressDeadlineSeconds": 600,
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "a"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                // A template gets neither service links nor requests: those are a pod's defaults.
                "spec": {
                    "containers": [with_limits],
                    "dnsPolicy": "ClusterFirst",
                    "restartPolicy": "Always",
                    "schedulerName": "default-scheduler",
                    "securityContext": {},
                    "terminationGracePeriodSeconds": 30
                }
            }
        })
    );
}

#[test]
fn a_recreating_deployment_has_no_rolling_update() {
    let spec = json!({"selector": {}, "template": {}, "strategy": {"type": "Recreate"}});
    let deployment = default_value("Deployment", json!({"metadata": {}, "spec": spec}));
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn services_of_each_type() {
    let service =
        |spec: Value| default_value("Service", json!({"metadata": {}, "spec": spec}))["spec"].clone();
    assert_eq!(
        service(json!({"ports": [{"port": 80}, {"port": 81, "targetPort": "web", "protocol": "UDP"}]})),
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [
                {"port": 80, "protocol": "TCP", "targetPort": 80},
                {"port": 81, "protocol": "UDP", "targetPort": "web"}
            ]
        })
    );
    assert_eq!(
        service(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"})),
        json!({
            "type": "LoadBalancer", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
            "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true,
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}
        })
    );
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "a.example"})),
        json!({"type": "ExternalName", "externalName": "a.example", "sessionAffinity": "None"})
    );
}

#[test]
fn a_namespace_is_labelled_with_its_name_and_finalized() {
    let namespace = created("Namespace", json!({"metadata": {"name": "a"}})).to_value().unwrap();
    assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "a"}));
    assert_eq!(namespace["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(namespace["status"], json!({"phase": "Active"}));
}

#[test]
fn small_kinds() {
    let secret = json!({"metadata": {}, "data": {"a": "b2xk", "b": "Yg=="}, "stringData": {"a": "new"}});
    assert_eq!(
        default_value("Secret", secret),
        json!({"metadata": {}, "type": "Opaque", "data": {"a": "bmV3", "b": "Yg=="}})
    );
    assert_eq!(
        default_value("PriorityClass", json!({"metadata": {}, "value": 1})),
        json!({"metadata": {}, "value": 1, "preemptionPolicy": "PreemptLowerPriority"})
    );
    let slice = json!({"metadata": {}, "addressType": "IPv4", "endpoints": [], "ports": [{"port": 80}]});
    assert_eq!(
        default_value("EndpointSlice", slice)["ports"],
        json!([{"name": "", "port": 80, "protocol": "TCP"}])
    );
    let node =
        json!({"metadata": {}, "spec": {"podCIDR": "10.0.0.0/24"}, "status": {"capacity": {"cpu": "2000m"}}});
    assert_eq!(
        default_value("Node", node),
        json!({
            "metadata": {},
            "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]},
            "status": {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}}
        })
    );
    let account = json!({"metadata": {}, "secrets": [{"name": "a", "namespace": "b"}]});
    assert_eq!(created("ServiceAccount", account).to_value().unwrap()["secrets"], json!([{"name": "a"}]));
}
