//! Volumes, claims, and the kinds of `storage.k8s.io`.

use super::*;

pub(super) fn volume(fields: Value) -> Value {
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/data"}});
    json!({"metadata": {"name": "v"}, "spec": with(spec, fields)})
}

fn claim(fields: Value) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    json!({"metadata": meta("c"), "spec": with(spec, fields)})
}

fn class(fields: Value) -> Value {
    with(json!({"metadata": {"name": "c"}, "provisioner": "example.com/disks"}), fields)
}

/// A full object of each kind.
pub(super) fn samples() -> Vec<(&'static str, Value)> {
    let nodes = json!({"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}});
    let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    vec![
        (
            "PersistentVolume",
            volume(json!({
                "hostPath": null, "local": {"path": "/disk"}, "nodeAffinity": nodes, "storageClassName": "c",
                "claimRef": {"namespace": "d", "name": "c", "uid": "1"}, "mountOptions": ["ro"]
            })),
        ),
        (
            "PersistentVolumeClaim",
            claim(json!({
                "selector": {"matchLabels": {"a": "b"}}, "storageClassName": "c", "volumeName": "v",
                "dataSource": source, "dataSourceRef": source
            })),
        ),
        (
            "StorageClass",
            class(json!({
                "parameters": {"a": "b"}, "mountOptions": ["ro"], "allowVolumeExpansion": true,
                "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]
            })),
        ),
        (
            "CSINode",
            json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "example.com", "nodeID": "n1",
                "topologyKeys": ["zone"], "allocatable": {"count": 3}}]}}),
        ),
        (
            "CSIDriver",
            json!({"metadata": {"name": "example.com"}, "spec": {"storageCapacity": true,
                "tokenRequests": [{"audience": "a", "expirationSeconds": 600}]}}),
        ),
        (
            "CSIStorageCapacity",
            json!({"metadata": meta("c"), "storageClassName": "c", "capacity": "1024Mi",
                "nodeTopology": {"matchLabels": {"zone": "a"}}}),
        ),
        (
            "VolumeAttachment",
            json!({"metadata": {"name": "a"}, "spec": {"attacher": "example.com", "nodeName": "n",
                "source": {"persistentVolumeName": "v"}}}),
        ),
    ]
}

fn check(kind: &str, value: Value, want: &[&str]) {
    assert_eq!(create_errors(kind, value), want, "{kind}");
}

#[test]
fn what_a_volume_must_say() {
    check("PersistentVolume", volume(json!({})), &[]);
    check(
        "PersistentVolume",
        volume(
            json!({"hostPath": null, "capacity": null, "accessModes": ["x", "ReadWriteOncePod", "ReadWriteOnce"]}),
        ),
        &[
            "spec.accessModes: Unsupported value: \"x\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            "spec.capacity: Required value",
            "spec.capacity: Unsupported value: {}: supported values: \"storage\"",
            "spec: Required value: must specify a volume type",
        ],
    );
    check(
        "PersistentVolume",
        volume(json!({"local": {"path": "../x"}, "hostPath": null, "capacity": {"storage": "0"},
            "volumeMode": "x"})),
        &[
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
            "spec.local.path: Invalid value: \"../x\": must not contain '..'",
            "spec.nodeAffinity: Required value: Local volume requires node affinity",
            "spec.volumeMode: Unsupported value: \"x\": supported values: \"Block\", \"Filesystem\"",
        ],
    );
    check(
        "PersistentVolume",
        volume(json!({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle",
            "csi": {"driver": "", "volumeHandle": ""}})),
        &[
            "spec.csi: Forbidden: may not specify more than 1 volume type",
            "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
        ],
    );
}

#[test]
fn what_a_claim_must_say() {
    check(
        "PersistentVolumeClaim",
        claim(json!({"accessModes": null, "resources": null, "dataSource": {"kind": "X", "name": ""}})),
        &[
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources[storage]: Required value",
            "spec.dataSource.name: Required value",
            "spec.dataSource: Invalid value: \"X\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            "spec.dataSourceRef.name: Required value",
            "spec.dataSourceRef: Invalid value: \"X\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ],
    );
    let made = created(
        "PersistentVolumeClaim",
        claim(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}})),
    );
    let made = made.to_value().unwrap();
    assert_eq!(made["spec"]["dataSourceRef"], json!({"kind": "PersistentVolumeClaim", "name": "x"}));
    assert_eq!(made["status"], json!({"phase": "Pending"}));
    assert_eq!(made["spec"]["volumeMode"], "Filesystem");
}

#[test]
fn what_the_other_kinds_must_say() {
    check(
        "StorageClass",
        class(json!({"provisioner": "", "reclaimPolicy": "Recycle", "volumeBindingMode": "x",
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "a", "values": ["b", "b"]}, {"key": "a", "values": []}]}, {}, {}]})),
        &[
            "provisioner: Required value",
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            "volumeBindingMode: Unsupported value: \"x\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
            "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"b\"",
            "allowedTopologies[0].matchLabelExpressions[1].values: Required value",
            "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"a\"",
            "allowedTopologies[2].matchLabelExpressions: Duplicate value: \"\"",
        ],
    );
    let driver =
        |name: &str, count: i32| json!({"name": name, "nodeID": "n", "allocatable": {"count": count}});
    check(
        "CSINode",
        json!({"metadata": {"name": "n"}, "spec": {"drivers": [driver("a", -1), driver("a", 1)]}}),
        &[
            "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            "spec.drivers[1].name: Duplicate value: \"a\"",
        ],
    );
    check(
        "CSIDriver",
        json!({"metadata": {"name": "a"}, "spec": {"fsGroupPolicy": "x", "volumeLifecycleModes": ["y"]}}),
        &[
            "spec.fsGroupPolicy: Unsupported value: \"x\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            "spec.volumeLifecycleModes: Unsupported value: \"y\": supported values: \"Ephemeral\", \"Persistent\"",
        ],
    );
    check(
        "VolumeAttachment",
        json!({"metadata": {"name": "a"}, "spec": {"attacher": "a", "nodeName": "n", "source": {}}}),
        &[
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    let inline = |spec: Value| {
        json!({"metadata": {"name": "a"}, "spec": {"attacher": "a", "nodeName": "n",
        "source": {"inlineVolumeSpec": with(json!({"accessModes": ["ReadWriteOnce"], "csi": {"driver": "d", "volumeHandle": "h"}}), spec)}}})
    };
    check("VolumeAttachment", inline(json!({})), &[]);
    check(
        "VolumeAttachment",
        inline(json!({"capacity": {"storage": "1"}, "volumeMode": "Block"})),
        &[
            "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
            "spec.source.inlineVolumeSpec.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of inline volumes",
        ],
    );
}

#[test]
fn what_a_volume_may_change() {
    let free = |fields: Value| update("PersistentVolume", volume(fields), volume(json!({}))).1;
    assert_eq!(
        free(json!({"claimRef": {"name": "c"}, "capacity": {"storage": "2Gi"}, "storageClassName": "x"})),
        [""; 0]
    );
    assert_eq!(
        free(json!({"hostPath": {"path": "/other"}, "volumeMode": "Block"})),
        [
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n  hostPath.path: \"/data\" -> \"/other\"",
            "volumeMode: Invalid value: \"Block\": field is immutable",
        ]
    );
    let status = with(volume(json!({})), json!({"status": {"phase": "Available"}}));
    let (stored, errors) = update_status("PersistentVolume", status, volume(json!({})));
    assert_eq!(
        (stored.to_value().unwrap()["status"].clone(), errors),
        (json!({"phase": "Available"}), vec![])
    );
}

#[test]
fn what_a_claim_may_change() {
    let change = |new: Value, old: Value, phase: &str| {
        let (new, mut old) = (claim(new), created("PersistentVolumeClaim", claim(old)).to_value().unwrap());
        old["status"] = json!({"phase": phase, "capacity": {"storage": "1Gi"}});
        let old = read("PersistentVolumeClaim", old);
        let definition = definition("PersistentVolumeClaim");
        let mut new = defaulted("PersistentVolumeClaim", new);
        new.meta_mut().resource_version = Some("1".into());
        definition.strategy.prepare_update.as_ref().unwrap()(&mut new, &old);
        let errors = definition.validate_update(&new, &old);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let size = |size: &str| json!({"resources": {"requests": {"storage": size}}});
    let fixed = |difference: &str| {
        vec![format!(
            "spec: Forbidden: spec is immutable after creation except resources.requests and \
             volumeAttributesClassName for bound claims\n  {difference}"
        )]
    };
    let none: [String; 0] = [];
    assert_eq!(change(json!({"volumeName": "v"}), json!({}), "Pending"), none);
    assert_eq!(
        change(json!({"volumeName": "w"}), json!({"volumeName": "v"}), "Pending"),
        fixed("volumeName: \"v\" -> \"w\"")
    );
    assert_eq!(change(json!({"storageClassName": "a"}), json!({}), "Pending"), none);
    assert_eq!(
        change(json!({"storageClassName": "a"}), json!({"storageClassName": "b"}), "Pending"),
        fixed("storageClassName: \"b\" -> \"a\"")
    );
    assert_eq!(change(size("2Gi"), size("1Gi"), "Bound"), none);
    assert_eq!(
        change(size("2Gi"), size("1Gi"), "Pending"),
        fixed("resources.requests.storage: \"1Gi\" -> \"2Gi\"")
    );
    assert_eq!(change(size("2Gi"), size("3Gi"), "Bound"), none);
    assert_eq!(
        change(size("1Gi"), size("3Gi"), "Bound"),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
}

#[test]
fn what_the_other_kinds_may_change() {
    let new = class(
        json!({"reclaimPolicy": "Retain", "volumeBindingMode": "WaitForFirstConsumer", "parameters": {"a": "b"}}),
    );
    assert_eq!(
        update("StorageClass", new, class(json!({}))).1,
        [
            "parameters: Forbidden: updates to parameters are forbidden.",
            "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
            "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
        ]
    );
    let node = |id: &str, count: i32| json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "a", "nodeID": id, "allocatable": {"count": count}}]}});
    assert_eq!(update("CSINode", node("x", 2), node("x", 1)).1, [""; 0]);
    assert_eq!(update("CSINode", node("y", 1), node("x", 1)).1.len(), 1);
}

#[test]
fn tables() {
    let old = json!({"creationTimestamp": "2026-01-01T00:55:00Z"});
    let bound = with(
        volume(
            json!({"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem", "storageClassName": "disk",
            "claimRef": {"namespace": "d", "name": "c"}}),
        ),
        json!({"metadata": old, "status": {"phase": "Bound"}}),
    );
    assert_eq!(
        row("PersistentVolume", bound.clone()),
        ["v", "1Gi", "RWO", "Retain", "Bound", "d/c", "disk", "<unset>", "", "5m", "Filesystem"]
    );
    let going = with(bound, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:56:00Z"}}));
    assert_eq!(row("PersistentVolume", going)[4], "Terminating");
    let waiting = with(claim(json!({})), json!({"metadata": old, "status": {"phase": "Pending"}}));
    assert_eq!(
        row("PersistentVolumeClaim", waiting.clone()),
        ["c", "Pending", "", "", "", "", "<unset>", "5m", "<unset>"]
    );
    let has = with(
        waiting,
        json!({"spec": {"volumeName": "v", "storageClassName": "disk"}, "status": {"phase": "Bound",
            "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce", "ReadWriteMany"]}}),
    );
    assert_eq!(row("PersistentVolumeClaim", has)[..6], ["c", "Bound", "v", "2Gi", "RWO,RWX", "disk"]);
    let default = class(
        json!({"metadata": with(old.clone(), json!({"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}})),
        "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
    );
    assert_eq!(
        row("StorageClass", default),
        ["c (default)", "example.com/disks", "Delete", "Immediate", "false", "5m"]
    );
    let driver = json!({"metadata": with(old, json!({"name": "d"})), "spec": {"volumeLifecycleModes": ["Persistent"]}});
    assert_eq!(
        row("CSIDriver", driver),
        ["d", "true", "false", "false", "<unset>", "false", "Persistent", "5m"]
    );
}
