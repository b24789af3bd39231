//! ResourceSlice. Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>

mod device;

use k8s_openapi::api::resource::v1::{CounterSet, ResourcePool, ResourceSlice, ResourceSliceSpec};
use serde_json::json;

use crate::{
    kinds::shared::{
        checks,
        devices::{IMMUTABLE, driver, pool, too_many},
        items,
        pod::node_selector,
        printing,
        seen::Seen,
        semantic, text,
    },
    meta::{ErrorList, FieldError, FieldPath, names},
    registry::Definition,
};

const COUNTER_SETS: usize = 8;
const DEVICES: usize = 128;
/// Devices that are tainted, share counters or have lists for attributes.
const LARGE_DEVICES: usize = 64;

/// The definition of ResourceSlice.
pub fn definition() -> Definition {
    Definition::of::<ResourceSlice>()
        .cluster()
        .validate_create(|slice| validate(&slice.spec, None))
        .validate_update(|new, old| validate(&new.spec, Some(&old.spec)))
        .generation(|new, old| !semantic::equal(&new.spec, &old.spec))
        .selectable("spec.driver", |slice| Some(slice.spec.driver.clone()))
        .selectable("spec.nodeName", |slice| slice.spec.node_name.clone())
        .column("Node", "string", "The node that has the devices.", |slice, _| {
            printing::or(text(&slice.spec.node_name), "<unset>")
        })
        .column("Driver", "string", "The driver that offers the devices.", |slice, _| {
            json!(slice.spec.driver)
        })
        .column("Pool", "string", "The pool to which the devices belong.", |slice, _| {
            json!(slice.spec.pool.name)
        })
        .age()
        .build()
}

fn validate(spec: &ResourceSliceSpec, old: Option<&ResourceSliceSpec>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    driver(&spec.driver, &path.child("driver"), &mut errors);
    resource_pool(&spec.pool, &path.child("pool"), &mut errors);
    if let Some(old) = old {
        errors.immutable(&path.child("pool").child("name"), &spec.pool.name, &old.pool.name);
        errors.immutable(&path.child("driver"), &spec.driver, &old.driver);
        if text(&spec.node_name) != text(&old.node_name) {
            errors.push(FieldError::invalid(&path.child("nodeName"), &spec.node_name, IMMUTABLE));
        }
    }
    where_they_are(spec, &path, &mut errors);
    if spec.shared_counters.is_some() && spec.devices.is_some() {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid(&path, "", detail));
    }
    devices(spec, old, &path.child("devices"), &mut errors);
    let (sets, path) = (items(&spec.shared_counters), path.child("sharedCounters"));
    if !too_many(sets.len(), COUNTER_SETS, &path, &mut errors) {
        for (at, set) in sets.iter().enumerate() {
            counter_set(set, &path.index(at), &mut errors);
            if sets[..at].iter().any(|other| other.name == set.name) {
                errors.push(FieldError::duplicate(&path.index(at), &set.name));
            }
        }
    }
    errors
}

fn resource_pool(it: &ResourcePool, path: &FieldPath<'_>, errors: &mut ErrorList) {
    pool(&it.name, &path.child("name"), errors);
    if it.resource_slice_count <= 0 {
        let path = path.child("resourceSliceCount");
        errors.push(FieldError::invalid(&path, it.resource_slice_count, "must be greater than zero"));
    }
    if it.generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("generation"), it.generation, detail));
    }
}

/// A flag that is there is true.
fn only_true(
    flag: Option<bool>,
    field: &'static str,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) -> Option<&'static str> {
    if flag == Some(false) {
        let detail = "must be either unset or set to true";
        errors.push(FieldError::invalid(&path.child(field), false, detail));
    }
    (flag == Some(true)).then_some(field)
}

/// A node's name that is there is one; what an empty one is told is up to the caller.
fn named_node(
    name: &Option<String>,
    empty: &str,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) -> Option<&'static str> {
    let path = path.child("nodeName");
    match name.as_deref()? {
        "" => errors.push(FieldError::invalid(&path, "", empty)),
        name => {
            errors.push_messages(&path, name, names::dns1123_subdomain(name));
            return Some("nodeName");
        }
    }
    None
}

/// `{`a`, `b`}`.
fn listed(fields: &[&str]) -> String {
    let quoted: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
    format!("{{{}}}", quoted.join(", "))
}

/// On which nodes the devices are is said in exactly one way.
fn where_they_are(spec: &ResourceSliceSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let empty = "must be either unset or set to a non-empty string";
    let mut said: Vec<&str> = named_node(&spec.node_name, empty, path, errors).into_iter().collect();
    if let Some(selector) = &spec.node_selector {
        said.push("nodeSelector");
        let path = path.child("nodeSelector");
        node_selector(selector, &path, errors);
        let terms = &selector.node_selector_terms;
        if terms.len() != 1 {
            let detail = "must have exactly one node selector term";
            errors.push(FieldError::invalid(&path.child("nodeSelectorTerms"), terms, detail));
        }
    }
    said.extend(only_true(spec.all_nodes, "allNodes", path, errors));
    said.extend(only_true(spec.per_device_node_selection, "perDeviceNodeSelection", path, errors));
    let detail =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match said.len() {
        0 => errors.push(FieldError::required(path, detail)),
        1 => {}
        _ => {
            let detail = format!("{detail}, but multiple fields are set");
            errors.push(FieldError::invalid(path, listed(&said), detail));
        }
    }
}

fn devices(
    spec: &ResourceSliceSpec,
    old: Option<&ResourceSliceSpec>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let list = items(&spec.devices);
    let most = if list.iter().any(device::is_large) { LARGE_DEVICES } else { DEVICES };
    if too_many(list.len(), most, path, errors) {
        return;
    }
    let each = spec.per_device_node_selection == Some(true);
    let mut seen = Seen::new();
    for (at, it) in list.iter().enumerate() {
        let before = old.and_then(|old| items(&old.devices).iter().find(|device| device.name == it.name));
        device::validate(it, before, each, &path.index(at), errors);
        if !seen.insert(it.name.as_str()) {
            errors.push(FieldError::duplicate(&path.index(at), &it.name));
        }
    }
}

fn counter_set(set: &CounterSet, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match set.name.as_str() {
        "" => errors.push(FieldError::required(&path.child("name"), "")),
        name => checks::label(name, &path.child("name"), errors),
    }
    device::counters(&set.counters, &path.child("counters"), errors);
}
