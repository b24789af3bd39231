//! Rules that classes, claims and slices of devices share.

pub(crate) mod allocation;
pub(crate) mod claim;

use k8s_openapi::{
    api::resource::v1::{DeviceSelector, DeviceTaint, DeviceToleration, OpaqueDeviceConfiguration},
    apimachinery::pkg::{apis::meta::v1::Condition, runtime::RawExtension},
};
use serde_json::Value;

use super::{checks, items, text};
use crate::meta::{ErrorList, FieldError, FieldPath, names};

/// The text for what may never change.
pub(crate) use crate::meta::validation::IMMUTABLE;

/// Requests in a claim, and devices in its allocation.
pub(crate) const REQUESTS: usize = 32;
/// Configurations of a class, and of a claim.
pub(crate) const CONFIGS: usize = 32;
/// Taints of a device.
pub(crate) const TAINTS: usize = 16;
/// Conditions of an allocated device, and of a rule.
const CONDITIONS: usize = 8;
const SELECTORS: usize = 32;
const EXPRESSION_BYTES: usize = 10 * 1024;
const RAW_BYTES: usize = 10 * 1024;
const DRIVER_BYTES: usize = 63;
const POOL_BYTES: usize = 253;
const ID_BYTES: usize = 32;
/// What a taint of a device can do.
pub(crate) const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Whether it was there before, so that it was found fine already.
#[derive(Clone, Copy)]
pub(crate) struct Stored(pub(crate) bool);

/// Whether a list is longer than allowed; then its items are not looked at.
pub(crate) fn too_many(len: usize, most: usize, path: &FieldPath<'_>, errors: &mut ErrorList) -> bool {
    if len > most {
        errors.push(FieldError::too_many(path, len, most));
    }
    len > most
}

/// The name of a driver: a DNS name in any case.
pub(crate) fn driver(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if value.len() > DRIVER_BYTES {
        errors.push(FieldError::too_long(path, DRIVER_BYTES));
    }
    errors.push_messages(path, value, names::dns1123_subdomain(&value.to_lowercase()));
}

/// The name of a pool: DNS names between slashes.
pub(crate) fn pool(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if value.len() > POOL_BYTES {
        errors.push(FieldError::too_long(path, POOL_BYTES));
    }
    for part in value.split('/') {
        checks::subdomain(part, path, errors);
    }
}

/// The name of an attribute or capacity, with its domain or without.
pub(crate) fn qualified(name: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(id, path, errors),
        [domain, id] => {
            match domain {
                "" => errors.push(FieldError::invalid(path, "", "the domain must not be empty")),
                domain => driver(domain, path, errors),
            }
            match id {
                "" => errors.push(FieldError::invalid(path, "", "the name must not be empty")),
                id => identifier(id, path, errors),
            }
        }
        _ => errors.push(FieldError::invalid(path, name, "must not contain more than one slash")),
    }
}

/// The name of an attribute with its domain.
pub(crate) fn fully_qualified(name: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    qualified(name, path, errors);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn identifier(id: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if id.len() > ID_BYTES {
        errors.push(FieldError::too_long(path, ID_BYTES));
    }
    errors.push_messages(path, id, names::c_identifier(id));
}

/// Expressions that select devices.
pub(crate) fn selectors(
    list: &[DeviceSelector],
    stored: Stored,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    if too_many(list.len(), SELECTORS, path, errors) {
        return;
    }
    for (at, selector) in list.iter().enumerate() {
        let path = path.index(at);
        let cel = path.child("cel");
        match &selector.cel {
            None => errors.push(FieldError::required(&cel, "")),
            Some(_) if stored.0 => {}
            Some(it) => expression(&it.expression, &cel.child("expression"), errors),
        }
    }
}

fn expression(text: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let fits = text.len() <= EXPRESSION_BYTES;
    if !fits {
        errors.push(FieldError::too_long(path, EXPRESSION_BYTES));
    }
    #[cfg(feature = "cel")]
    if fits {
        match crate::helpers::device_selector::DeviceSelector::compile(text) {
            Ok(_) => {}
            Err(error @ crate::helpers::device_selector::SelectorError::TooCostly) => {
                errors.push(FieldError::forbidden(path, error.to_string()));
            }
            Err(error) => errors.push(FieldError::invalid(path, text, error.to_string())),
        }
    }
}

/// What a driver is told beside a device.
pub(crate) fn configuration(
    opaque: Option<&OpaqueDeviceConfiguration>,
    stored: Stored,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let path = path.child("opaque");
    let Some(opaque) = opaque else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    driver(&opaque.driver, &path.child("driver"), errors);
    raw(&opaque.parameters, stored, &path.child("parameters"), errors);
}

/// A JSON object of whatever content.
pub(crate) fn raw(data: &RawExtension, stored: Stored, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match &data.0 {
        Value::Null => errors.push(FieldError::required(path, "")),
        value if !stored.0 && value.to_string().len() > RAW_BYTES => {
            errors.push(FieldError::too_long(path, RAW_BYTES));
        }
        Value::Object(_) => {}
        _ => errors.push(FieldError::invalid(path, "<value omitted>", "must be a valid JSON object")),
    }
}

/// A taint of a device; an effect that it had before was fine when it came.
pub(crate) fn taint(
    taint: &DeviceTaint,
    old: Option<&DeviceTaint>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    checks::qualified(&taint.key, &path.child("key"), errors);
    let value = text(&taint.value);
    errors.push_messages(&path.child("value"), value, names::label_value(value));
    if old.is_none_or(|old| old.effect != taint.effect) {
        checks::one_of(&taint.effect, &EFFECTS, &path.child("effect"), errors);
    }
}

/// Conditions, each type once.
pub(crate) fn conditions(list: &[Condition], path: &FieldPath<'_>, errors: &mut ErrorList) {
    if too_many(list.len(), CONDITIONS, path, errors) {
        return;
    }
    for (at, condition) in list.iter().enumerate() {
        let path = path.index(at);
        if list[..at].iter().any(|other| other.type_ == condition.type_) {
            errors.push(FieldError::duplicate(&path.child("type"), &condition.type_));
        }
        checks::qualified(&condition.type_, &path.child("type"), errors);
        let known = ["False", "True", "Unknown"];
        checks::supported(&condition.status, &known, &path.child("status"), errors);
        checks::required(&condition.reason, &path.child("reason"), errors);
    }
}

/// Tolerations of taints of devices.
pub(crate) fn tolerations(list: &[DeviceToleration], path: &FieldPath<'_>, errors: &mut ErrorList) {
    if too_many(list.len(), TAINTS, path, errors) {
        return;
    }
    for (at, toleration) in list.iter().enumerate() {
        let path = path.index(at);
        let (key, value, effect) = (text(&toleration.key), text(&toleration.value), text(&toleration.effect));
        if !key.is_empty() {
            checks::qualified(key, &path.child("key"), errors);
        }
        match text(&toleration.operator) {
            "Exists" if !value.is_empty() => {
                let detail = "must be empty for operator `Exists`";
                errors.push(FieldError::invalid(&path.child("value"), value, detail));
            }
            "Exists" => {}
            "Equal" => errors.push_messages(&path.child("value"), value, names::label_value(value)),
            other => checks::one_of(other, &["Equal", "Exists"], &path.child("operator"), errors),
        }
        if !effect.is_empty() {
            checks::supported(effect, &EFFECTS, &path.child("effect"), errors);
        }
    }
}

/// The conditions that a device must reach, or must not, before a pod is bound.
pub(crate) fn binding_conditions(
    good: &Option<Vec<String>>,
    bad: &Option<Vec<String>>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    const MOST: usize = 4;
    let (good, bad) = (items(good), items(bad));
    for (field, list) in [("bindingConditions", good), ("bindingFailureConditions", bad)] {
        let path = path.child(field);
        if too_many(list.len(), MOST, &path, errors) {
            return;
        }
        for (at, condition) in list.iter().enumerate() {
            checks::qualified(condition, &path.index(at), errors);
            if list[..at].contains(condition) {
                errors.push(FieldError::duplicate(&path.index(at), condition));
            }
        }
    }
    let (good_path, bad_path) = (path.child("bindingConditions"), path.child("bindingFailureConditions"));
    for (at, condition) in bad.iter().enumerate().filter(|(_, condition)| good.contains(condition)) {
        let detail = "bindingFailureConditions must not overlap with bindingConditions";
        errors.push(FieldError::invalid(&bad_path.index(at), condition, detail));
    }
    match (good.is_empty(), bad.is_empty()) {
        (true, false) => {
            let detail = "bindingConditions are required to use bindingFailureConditions";
            errors.push(FieldError::invalid(&good_path, good, detail));
        }
        (false, true) => {
            let detail = "bindingFailureConditions are required to use bindingConditions";
            errors.push(FieldError::invalid(&bad_path, bad, detail));
        }
        _ => {}
    }
}
