//! Tables as `kubectl get -o wide` shows them. It is one hour into 2026.

use super::*;

fn headings(kind: &str) -> Vec<String> {
    let definition = definition(kind);
    let columns = definition.columns.iter();
    columns.map(|c| format!("{}{}", c.name, if c.priority > 0 { "*" } else { "" })).collect()
}

#[test]
fn headings_are_those_of_kubectl() {
    for (kind, want) in [
        ("Pod", "Name,Ready,Status,Restarts,Age,IP*,Node*,Nominated Node*,Readiness Gates*"),
        (
            "Node",
            "Name,Status,Roles,Age,Version,Internal-IP*,External-IP*,OS-Image*,Kernel-Version*,Container-Runtime*",
        ),
        ("Service", "Name,Type,Cluster-IP,External-IP,Port(s),Age,Selector*"),
        ("Deployment", "Name,Ready,Up-to-date,Available,Age,Containers*,Images*,Selector*"),
        ("ReplicaSet", "Name,Desired,Current,Ready,Age,Containers*,Images*,Selector*"),
        ("Event", "Last Seen,Type,Reason,Object,Subobject*,Source*,Message,First Seen*,Count*,Name*"),
        ("EndpointSlice", "Name,AddressType,Ports,Endpoints,Age"),
        ("Secret", "Name,Type,Data,Age"),
        ("ConfigMap", "Name,Data,Age"),
        ("Lease", "Name,Holder,Age"),
        ("ServiceAccount", "Name,Age"),
        ("Namespace", "Name,Status,Age"),
        ("PodDisruptionBudget", "Name,Min Available,Max Unavailable,Allowed Disruptions,Age"),
        ("DeviceClass", "Name,Age"),
        ("DeviceTaintRule", "Name,Age"),
        ("ResourceClaim", "Name,State,Age"),
        ("ResourceClaimTemplate", "Name,Age"),
        ("ResourceSlice", "Name,Node,Driver,Pool,Age"),
        ("PriorityClass", "Name,Value,Global-Default,Age,PreemptionPolicy"),
        (
            "PersistentVolume",
            "Name,Capacity,Access Modes,Reclaim Policy,Status,Claim,StorageClass,VolumeAttributesClass,Reason,Age,VolumeMode*",
        ),
        (
            "PersistentVolumeClaim",
            "Name,Status,Volume,Capacity,Access Modes,StorageClass,VolumeAttributesClass,Age,VolumeMode*",
        ),
        ("StorageClass", "Name,Provisioner,ReclaimPolicy,VolumeBindingMode,AllowVolumeExpansion,Age"),
        ("CSINode", "Name,Drivers,Age"),
        (
            "CSIDriver",
            "Name,AttachRequired,PodInfoOnMount,StorageCapacity,TokenRequests,RequiresRepublish,Modes,Age",
        ),
        ("CSIStorageCapacity", "Name,StorageClassName,Capacity"),
        ("VolumeAttachment", "Name,Attacher,PV,Node,Attached,Age"),
    ] {
        assert_eq!(headings(kind).join(","), want);
    }
}

fn pod_row(patch: Value) -> Vec<String> {
    let base = json!({
        "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:55:00Z"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}]}
    });
    row("Pod", with(base, patch))
}

fn status(name: &str, ready: bool, restarts: i32, state: Value) -> Value {
    json!({"name": name, "image": "", "imageID": "", "ready": ready, "restartCount": restarts, "state": state})
}

#[test]
fn a_running_pod() {
    let mut second = status("b", false, 3, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    second["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:58:00Z"}});
    let row = pod_row(json!({
        "spec": {"nodeName": "n", "readinessGates": [{"conditionType": "x.io/a"}]},
        "status": {
            "phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
            "containerStatuses": [status("a", true, 0, json!({"running": {}})), second]
        }
    }));
    assert_eq!(row, ["p", "1/2", "CrashLoopBackOff", "3 (2m ago)", "5m", "10.0.0.1", "n", "<none>", "0/1"]);
}

#[test]
fn what_a_pod_s_status_says() {
    let terminated =
        |code: i32, fields: Value| json!({"terminated": with(json!({"exitCode": code}), fields)});
    let main = |a: Value, b: Value| json!([status("a", false, 0, a), status("b", true, 0, b)]);
    let running = json!({"running": {}});
    let init = json!([{"name": "i"}, {"name": "j"}]);
    for (patch, ready, want) in [
        (json!({}), "0/2", ""),
        (json!({"status": {"phase": "Pending"}}), "0/2", "Pending"),
        (json!({"status": {"phase": "Failed", "reason": "Evicted"}}), "0/2", "Evicted"),
        (
            json!({"status": {"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}}),
            "0/2",
            "SchedulingGated",
        ),
        (
            json!({"status": {"phase": "Pending", "containerStatuses":
                main(json!({"waiting": {"reason": "ContainerCreating"}}), json!({"waiting": {"reason": "ContainerCreating"}}))}}),
            "0/2",
            "ContainerCreating",
        ),
        (
            json!({"status": {"phase": "Running", "containerStatuses":
                main(terminated(0, json!({"reason": "Completed"})), running.clone()),
                "conditions": [{"type": "Ready", "status": "True"}]}}),
            "1/2",
            "Running",
        ),
        (
            json!({"status": {"phase": "Running", "containerStatuses":
                main(terminated(0, json!({"reason": "Completed"})), running.clone())}}),
            "1/2",
            "NotReady",
        ),
        (
            json!({"status": {"phase": "Running", "containerStatuses": main(terminated(3, json!({})), running.clone())}}),
            "1/2",
            "ExitCode:3",
        ),
        (
            json!({"status": {"phase": "Running", "containerStatuses":
                main(terminated(0, json!({"signal": 9})), running.clone())}}),
            "1/2",
            "Signal:9",
        ),
        (
            json!({"spec": {"initContainers": init}, "status": {"phase": "Pending", "initContainerStatuses":
                [status("i", false, 0, terminated(0, json!({}))), status("j", false, 0, running.clone())]}}),
            "0/2",
            "Init:1/2",
        ),
        (
            json!({"spec": {"initContainers": init}, "status": {"phase": "Pending", "initContainerStatuses":
                [status("i", false, 0, json!({"waiting": {"reason": "ImagePullBackOff"}}))]}}),
            "0/2",
            "Init:ImagePullBackOff",
        ),
        (
            json!({"spec": {"initContainers": init}, "status": {"phase": "Pending", "initContainerStatuses":
                [status("i", false, 0, terminated(1, json!({})))]}}),
            "0/2",
            "Init:ExitCode:1",
        ),
        (
            json!({"spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}]}, "status": {"phase": "Running",
                "initContainerStatuses": [with(status("s", true, 0, running.clone()), json!({"started": true}))],
                "containerStatuses": main(running.clone(), running.clone())}}),
            "2/3",
            "Running",
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}, "status": {"phase": "Running"}}),
            "0/2",
            "Terminating",
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}, "status": {"phase": "Succeeded"}}),
            "0/2",
            "Succeeded",
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"},
                "status": {"phase": "Running", "reason": "NodeLost"}}),
            "0/2",
            "Unknown",
        ),
    ] {
        let row = pod_row(patch.clone());
        assert_eq!((row[1].as_str(), row[2].as_str()), (ready, want), "{patch}");
    }
}

#[test]
fn restarts_of_init_containers_count_until_the_others_start() {
    let row = pod_row(json!({
        "spec": {"initContainers": [{"name": "i"}]},
        "status": {"phase": "Pending", "initContainerStatuses": [status("i", false, 2, json!({"running": {}}))]}
    }));
    assert_eq!(row[3], "2");
}

#[test]
fn nodes() {
    let node = json!({
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "z"}},
        "spec": {"unschedulable": true},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n"}],
            "nodeInfo": {"architecture": "", "bootID": "", "containerRuntimeVersion": "containerd://2.0",
                "kernelVersion": "6.1", "kubeProxyVersion": "", "kubeletVersion": "v1.37.0", "machineID": "",
                "operatingSystem": "linux", "osImage": "Debian", "systemUUID": ""}
        }
    });
    assert_eq!(
        row("Node", node),
        [
            "n",
            "Ready,SchedulingDisabled",
            "control-plane,z",
            "<unknown>",
            "v1.37.0",
            "10.0.0.1",
            "<none>",
            "Debian",
            "6.1",
            "containerd://2.0"
        ]
    );
    let bare = row("Node", json!({"metadata": {"name": "n"}}));
    assert_eq!(bare[1..3], ["Unknown", "<none>"]);
    let lost = json!({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    assert_eq!(row("Node", lost)[1], "NotReady");
}

#[test]
fn services() {
    let service = |spec: Value, status: Value| {
        row("Service", json!({"metadata": {"name": "s"}, "spec": spec, "status": status}))
    };
    assert_eq!(
        service(
            json!({"type": "NodePort", "clusterIPs": ["10.0.0.1"], "selector": {"b": "2", "a": "1"}, "ports": [
                {"port": 80, "protocol": "TCP", "nodePort": 30000}, {"port": 53, "protocol": "UDP"}]}),
            json!({})
        ),
        ["s", "NodePort", "10.0.0.1", "<none>", "80:30000/TCP,53/UDP", "<unknown>", "a=1,b=2"]
    );
    let balanced = json!({"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]});
    assert_eq!(service(balanced.clone(), json!({}))[3], "<pending>");
    let ingress = json!({"loadBalancer": {"ingress": [{"hostname": "x"}, {"ip": "1.2.3.4"}]}});
    assert_eq!(service(balanced, ingress)[3], "1.2.3.4,x");
    let external = service(json!({"type": "ExternalName", "externalName": "a.example"}), json!({}));
    assert_eq!(external[2..5], ["<none>", "a.example", "<none>"]);
    assert_eq!(
        service(json!({"type": "ClusterIP", "externalIPs": ["1.1.1.1", "2.2.2.2"]}), json!({}))[3],
        "1.1.1.1,2.2.2.2"
    );
}

#[test]
fn workloads() {
    let spec = json!({
        "replicas": 3,
        "selector": {"matchLabels": {"app": "a"}},
        "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}}
    });
    let status = json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2});
    let object = json!({"metadata": {"name": "w"}, "spec": spec, "status": status});
    assert_eq!(
        row("Deployment", object.clone()),
        ["w", "2/3", "1", "2", "<unknown>", "a,b", "x:1,y", "app=a"]
    );
    assert_eq!(row("ReplicaSet", object), ["w", "3", "3", "2", "<unknown>", "a,b", "x:1,y", "app=a"]);
}

#[test]
fn events() {
    let event = json!({
        "metadata": {"name": "e"}, "type": "Warning", "reason": "Failed", "message": " m\n",
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
        "source": {"component": "kubelet", "host": "n"}, "count": 4,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:59:30Z"
    });
    assert_eq!(
        row("Event", event),
        ["30s", "Warning", "Failed", "pod/p", "spec.containers{a}", "kubelet, n", "m", "60m", "4", "e"]
    );
    let new = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Node"}, "reportingComponent": "x",
        "eventTime": "2026-01-01T00:59:00.000000Z"
    });
    let cells = row("Event", new.clone());
    assert_eq!(
        (cells[0].as_str(), cells[3].as_str(), cells[5].as_str(), cells[8].as_str()),
        ("60s", "node", "x", "1")
    );
    let series =
        with(new, json!({"series": {"count": 7, "lastObservedTime": "2026-01-01T00:59:50.000000Z"}}));
    let cells = row("Event", series);
    assert_eq!((cells[0].as_str(), cells[7].as_str(), cells[8].as_str()), ("10s", "60s", "7"));
}

#[test]
fn the_rest() {
    let slice = json!({
        "metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"port": 80}, {"name": "web"}, {}],
        "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": ["10.0.0.3", "10.0.0.4"]}]
    });
    assert_eq!(
        row("EndpointSlice", slice),
        ["s", "IPv4", "80,web,*", "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...", "<unknown>"]
    );
    let none = json!({"metadata": {"name": "s"}, "addressType": "IPv4"});
    assert_eq!(row("EndpointSlice", none)[2..4], ["<unset>", "<unset>"]);
    assert_eq!(
        row("Secret", json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": ""}})),
        ["s", "Opaque", "1", "<unknown>"]
    );
    assert_eq!(row("Lease", json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "h"}}))[1], "h");
    assert_eq!(
        row("Namespace", json!({"metadata": {"name": "n"}, "status": {"phase": "Active"}}))[1],
        "Active"
    );
    let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": "20%"}, "status": {"disruptionsAllowed": 3}});
    assert_eq!(row("PodDisruptionBudget", budget), ["b", "N/A", "20%", "3", "<unknown>"]);
    assert_eq!(
        row("PriorityClass", json!({"metadata": {"name": "c"}, "value": 5, "preemptionPolicy": "Never"})),
        ["c", "5", "false", "<unknown>", "Never"]
    );
}

#[test]
fn claims_and_slices_of_devices() {
    let state = |patch: Value| {
        let base = json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:55:00Z"}});
        row("ResourceClaim", with(base, patch))[1].clone()
    };
    let pod = json!({"resource": "pods", "name": "p", "uid": "u"});
    let gone = json!({"deletionTimestamp": "2026-01-01T00:59:00Z"});
    assert_eq!(state(json!({})), "pending");
    assert_eq!(state(json!({"status": {"allocation": {}}})), "allocated");
    assert_eq!(state(json!({"status": {"allocation": {}, "reservedFor": [pod]}})), "allocated,reserved");
    assert_eq!(state(json!({"metadata": gone})), "deleted");
    assert_eq!(state(json!({"metadata": gone, "status": {"allocation": {}}})), "deleted,allocated");
    let spec = |node: Value| {
        json!({"metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:55:00Z"}, "spec": {
            "driver": "example.com", "nodeName": node, "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}
        }})
    };
    assert_eq!(row("ResourceSlice", spec(json!("n"))), ["s", "n", "example.com", "p", "5m"]);
    assert_eq!(row("ResourceSlice", spec(Value::Null))[1], "<unset>");
}
