//! CSINode: the CSI drivers of a node. Semantics: <https://kubernetes-csi.github.io/docs/csi-node-object.html>

use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver};
use serde_json::json;

use crate::{
    kinds::shared::{checks, items, seen::Seen, semantic, volumes::driver_name},
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

const LONGEST_NODE_ID: usize = 192;

/// The definition of CSINode.
pub fn definition() -> Definition {
    Definition::of::<CSINode>()
        .cluster()
        .returns_deleted()
        .unconditional_update(false)
        .validate(validate)
        .validate_update(validate_update)
        .column("Drivers", "integer", "How many drivers the node has.", |node, _| {
            json!(node.spec.drivers.len())
        })
        .age()
        .build()
}

fn validate(node: &CSINode) -> ErrorList {
    let (mut errors, mut names) = (ErrorList::new(), Seen::new());
    let path = FieldPath::new("spec");
    let path = path.child("drivers");
    for (at, driver) in node.spec.drivers.iter().enumerate() {
        let path = path.index(at);
        let id = path.child("nodeID");
        driver_name(&driver.name, &path.child("name"), &mut errors);
        checks::required(&driver.node_id, &id, &mut errors);
        if driver.node_id.len() > LONGEST_NODE_ID {
            let detail = format!("must be {LONGEST_NODE_ID} characters or less");
            errors.push(FieldError::invalid(&id, &driver.node_id, detail));
        }
        if let Some(count) = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count) {
            let allocatable = path.child("allocatable");
            errors.non_negative(&allocatable.child("count"), i64::from(count));
        }
        if !names.insert(driver.name.as_str()) {
            errors.push(FieldError::duplicate(&path.child("name"), &driver.name));
        }
        let (keys, mut seen) = (path.child("topologyKeys"), Seen::new());
        for key in items(&driver.topology_keys) {
            if !seen.insert(key.as_str()) {
                errors.push(FieldError::duplicate(&keys, key));
            }
            checks::qualified(key, &keys, &mut errors);
        }
    }
    errors
}

/// A driver may come and go and say anew how many volumes it takes; the rest of what it says stays.
fn validate_update(new: &CSINode, old: &CSINode) -> ErrorList {
    let mut errors = ErrorList::new();
    let fixed = |driver: &CSINodeDriver| CSINodeDriver { allocatable: None, ..driver.clone() };
    for was in &old.spec.drivers {
        let now = new.spec.drivers.iter().find(|driver| driver.name == was.name);
        if let Some(now) = now.filter(|now| !semantic::equal(&fixed(now), &fixed(was))) {
            let path = FieldPath::new("CSINodeDriver");
            errors.push(FieldError::invalid(&path, now, "field is immutable"));
        }
    }
    errors
}
