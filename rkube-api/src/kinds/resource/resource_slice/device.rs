//! Rules of one device.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::resource::v1::{
        CapacityRequestPolicy, CapacityRequestPolicyRange, Counter, Device, DeviceAttribute, DeviceCapacity,
        DeviceTaint,
    },
    apimachinery::pkg::api::resource::Quantity as Api,
};

use super::{listed, named_node, only_true};
use crate::{
    kinds::shared::{
        checks,
        devices::{TAINTS, binding_conditions, qualified, taint as validate_taint, too_many},
        items,
        pod::node_selector,
        semantic,
    },
    meta::{ErrorList, FieldError, FieldPath, Quantity},
};

const ATTRIBUTES_AND_CAPACITIES: usize = 32;
const VALUES: usize = 48;
const VALUE_BYTES: usize = 64;
const CONSUMED_SETS: usize = 2;
const COUNTERS: usize = 32;
const OPTIONS: usize = 10;

/// Whether it says so much that fewer fit into a slice.
pub(super) fn is_large(device: &Device) -> bool {
    let lists = |attribute: &DeviceAttribute| {
        let DeviceAttribute { bools, ints, strings, versions, .. } = attribute;
        bools.is_some() || ints.is_some() || strings.is_some() || versions.is_some()
    };
    !items(&device.taints).is_empty()
        || !items(&device.consumes_counters).is_empty()
        || device.attributes.iter().flatten().any(|(_, attribute)| lists(attribute))
}

/// Checks a device; `each` says where it is, if the slice does not.
pub(super) fn validate(
    device: &Device,
    old: Option<&Device>,
    each: bool,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    checks::label(&device.name, &path.child("name"), errors);
    let none = BTreeMap::new();
    let attributes = device.attributes.as_ref().unwrap_or(&none);
    let no_capacity = BTreeMap::new();
    let capacity = device.capacity.as_ref().unwrap_or(&no_capacity);
    how_many(attributes, capacity.len(), path, errors);
    let at_attributes = path.child("attributes");
    for (name, attribute) in attributes {
        qualified(name, &at_attributes, errors);
        validate_attribute(attribute, &at_attributes.key(name), errors);
    }
    if old.is_none_or(|old| !semantic::equal(&old.capacity, &device.capacity)) {
        let (path, shared) = (path.child("capacity"), device.allow_multiple_allocations == Some(true));
        for (name, capacity) in capacity {
            qualified(name, &path, errors);
            validate_capacity(capacity, shared, &path.key(name), errors);
        }
    }
    if old.is_none_or(|old| !semantic::equal(&old.taints, &device.taints)) {
        taints(items(&device.taints), &path.child("taints"), errors);
    }
    let (consumed, at_consumed) = (items(&device.consumes_counters), path.child("consumesCounters"));
    if !too_many(consumed.len(), CONSUMED_SETS, &at_consumed, errors) {
        for (at, it) in consumed.iter().enumerate() {
            let path = at_consumed.index(at);
            match it.counter_set.as_str() {
                "" => errors.push(FieldError::required(&path.child("counterSet"), "")),
                name => checks::label(name, &path.child("counterSet"), errors),
            }
            counters(&it.counters, &path.child("counters"), errors);
            if consumed[..at].iter().any(|other| other.counter_set == it.counter_set) {
                errors.push(FieldError::duplicate(&path, &it.counter_set));
            }
        }
    }
    where_it_is(device, each, path, errors);
    let (good, bad) = (&device.binding_conditions, &device.binding_failure_conditions);
    binding_conditions(good, bad, path, errors);
}

fn how_many(
    attributes: &BTreeMap<String, DeviceAttribute>,
    capacities: usize,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let names = attributes.len() + capacities;
    if names > ATTRIBUTES_AND_CAPACITIES {
        let detail = format!(
            "the total number of attributes and capacities must not exceed {ATTRIBUTES_AND_CAPACITIES}"
        );
        errors.push(FieldError::invalid(path, names, detail));
    }
    let values = |attribute: &DeviceAttribute| {
        let DeviceAttribute { bools, ints, strings, versions, .. } = attribute;
        let listed = items(bools).len() + items(ints).len() + items(strings).len() + items(versions).len();
        listed.max(1)
    };
    let values: usize = attributes.values().map(values).sum();
    if values > VALUES {
        let detail = format!("the total number of attribute values must not exceed {VALUES}");
        errors.push(FieldError::invalid(path, values, detail));
    }
}

fn validate_attribute(attribute: &DeviceAttribute, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let DeviceAttribute { bool, bools, int, ints, string, strings, version, versions } = attribute;
    let lists = [
        ("bools", bools.as_ref().map(Vec::len)),
        ("ints", ints.as_ref().map(Vec::len)),
        ("strings", strings.as_ref().map(Vec::len)),
        ("versions", versions.as_ref().map(Vec::len)),
    ];
    let singles = [bool.is_some(), int.is_some(), string.is_some(), version.is_some()];
    if let Some(value) = string {
        short(value, &path.child("string"), errors);
    }
    if let Some(value) = version {
        semver(value, &path.child("version"), errors);
    }
    for (field, _) in lists.iter().filter(|(_, len)| *len == Some(0)) {
        let detail = "must not be empty if specified";
        errors.push(FieldError::invalid(&path.child(field), [(); 0], detail));
    }
    let (at_strings, at_versions) = (path.child("strings"), path.child("versions"));
    for (at, value) in items(strings).iter().enumerate() {
        short(value, &at_strings.index(at), errors);
    }
    for (at, value) in items(versions).iter().enumerate() {
        semver(value, &at_versions.index(at), errors);
    }
    let given = singles.iter().filter(|given| **given).count()
        + lists.iter().filter(|(_, len)| len.is_some()).count();
    let detail = "exactly one value must be specified";
    match given {
        0 => errors.push(FieldError::invalid(path, "", detail)),
        1 => {}
        _ => errors.push(FieldError::invalid(path, attribute, detail)),
    }
}

fn short(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if value.len() > VALUE_BYTES {
        errors.push(FieldError::too_long(path, VALUE_BYTES));
    }
}

fn semver(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if !is_semver(value) {
        let detail = "must be a string compatible with semver.org spec 2.0.0";
        errors.push(FieldError::invalid(path, value, detail));
    }
    short(value, path, errors);
}

/// `1.2.3-alpha.1+build`, <https://semver.org>.
fn is_semver(value: &str) -> bool {
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = |text: &str| digits(text) && (text == "0" || !text.starts_with('0'));
    let (value, build) = value.split_once('+').map_or((value, None), |(value, build)| (value, Some(build)));
    let (core, pre) = value.split_once('-').map_or((value, None), |(core, pre)| (core, Some(pre)));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre
            .is_none_or(|pre| pre.split('.').all(|part| if digits(part) { number(part) } else { word(part) }))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn validate_capacity(capacity: &DeviceCapacity, shared: bool, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Some(most) = quantity(&capacity.value, &path.child("value"), errors) else { return };
    let Some(policy) = &capacity.request_policy else { return };
    let path = path.child("requestPolicy");
    if !shared {
        errors.push(FieldError::forbidden(&path, "allowMultipleAllocations must be true"));
        return;
    }
    request_policy(policy, most, &path, errors);
}

fn quantity(value: &Api, path: &FieldPath<'_>, errors: &mut ErrorList) -> Option<Quantity> {
    let parsed = Quantity::try_from(value);
    if let Err(error) = &parsed {
        errors.push(FieldError::invalid(path, &value.0, error.to_string()));
    }
    parsed.ok()
}

fn request_policy(
    policy: &CapacityRequestPolicy,
    most: Quantity,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let values = items(&policy.valid_values);
    let usual = policy.default.as_ref().and_then(|it| quantity(it, &path.child("default"), errors));
    let needs_default = |what: &str, errors: &mut ErrorList| {
        if policy.default.is_none() {
            let detail = format!("required when {what} is defined");
            errors.push(FieldError::required(&path.child("default"), detail));
        }
    };
    match (values, &policy.valid_range) {
        ([], None) => {}
        ([], Some(range)) => {
            needs_default("validRange", errors);
            if let Some(usual) = usual {
                policy_range(range, usual, most, &path.child("validRange"), errors);
            }
        }
        (values, None) => {
            needs_default("validValues", errors);
            if let Some(usual) = usual {
                policy_values(values, usual, most, &path.child("validValues"), errors);
            }
        }
        (_, Some(_)) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.push(FieldError::forbidden(path, detail));
        }
    }
}

fn policy_values(
    values: &[Api],
    usual: Quantity,
    most: Quantity,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    if too_many(values.len(), OPTIONS, path, errors) {
        return;
    }
    let parsed: Vec<Quantity> = values
        .iter()
        .enumerate()
        .filter_map(|(at, value)| quantity(value, &path.index(at), errors))
        .collect();
    for (at, value) in parsed.iter().enumerate() {
        let path = path.index(at);
        if at > 0 && parsed[at - 1] > *value {
            let detail = "values must be sorted in ascending order";
            errors.push(FieldError::invalid(&path, value.to_string(), detail));
        }
        if *value > most {
            let detail = format!("option is larger than capacity value: {most}");
            errors.push(FieldError::invalid(&path, value.to_string(), detail));
        }
        if parsed[..at].contains(value) {
            errors.push(FieldError::duplicate(&path, value.to_string()));
        }
    }
    if !parsed.contains(&usual) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(path, usual.to_string(), detail));
    }
}

fn policy_range(
    range: &CapacityRequestPolicyRange,
    usual: Quantity,
    most: Quantity,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let Some(least) = quantity(&range.min, &path.child("min"), errors) else { return };
    let highest = range.max.as_ref().and_then(|max| quantity(max, &path.child("max"), errors));
    let step = range.step.as_ref().and_then(|step| quantity(step, &path.child("step"), errors));
    let mut refuse = |wrong: bool, field: &str, value: Quantity, detail: String| {
        if wrong {
            errors.push(FieldError::invalid(&path.child(field), value.to_string(), detail));
        }
    };
    refuse(least > most, "min", least, format!("min is larger than capacity value: {most}"));
    refuse(usual < least, "default", usual, format!("default is less than min: {least}"));
    if let Some(highest) = highest {
        refuse(least > highest, "max", least, format!("min is larger than max: {highest}"));
        refuse(highest > most, "max", highest, format!("max is larger than capacity value: {most}"));
        refuse(usual > highest, "default", usual, format!("default is more than max: {highest}"));
    }
    let Some(step) = step else { return };
    if step <= Quantity::ZERO {
        return refuse(true, "step", step, "must be greater than zero".into());
    }
    let first = least + step;
    refuse(first > most, "step", step, format!("one step {first} is larger than capacity value: {most}"));
    for value in [Some(usual), highest].into_iter().flatten() {
        let off = (value.nanos() - least.nanos()) % step.nanos() != 0;
        let detail = format!("value is not a multiple of a given step ({step}) from ({least})");
        refuse(off, "step", value, detail);
    }
}

/// Counters: some, each with the name of a label and a quantity.
pub(super) fn counters(counters: &BTreeMap<String, Counter>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if counters.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if too_many(counters.len(), COUNTERS, path, errors) {
        return;
    }
    for (name, counter) in counters {
        checks::label(name, path, errors);
        quantity(&counter.value, &path.key(name).child("value"), errors);
    }
}

fn taints(list: &[DeviceTaint], path: &FieldPath<'_>, errors: &mut ErrorList) {
    if too_many(list.len(), TAINTS, path, errors) {
        return;
    }
    for (at, taint) in list.iter().enumerate() {
        validate_taint(taint, None, &path.index(at), errors);
    }
}

fn where_it_is(device: &Device, each: bool, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Device { node_name, node_selector: selector, all_nodes, .. } = device;
    if !each {
        if node_name.is_some() || selector.is_some() || all_nodes.is_some() {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.push(FieldError::invalid(path, (), detail));
        }
        return;
    }
    let mut said: Vec<&str> = named_node(node_name, "must not be empty", path, errors).into_iter().collect();
    if let Some(selector) = selector {
        said.push("nodeSelector");
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
    said.extend(only_true(*all_nodes, "allNodes", path, errors));
    let detail = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match said.len() {
        0 => errors.push(FieldError::required(path, detail)),
        1 => {}
        _ => errors.push(FieldError::invalid(path, listed(&said), detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_semver;

    #[test]
    fn versions() {
        for good in ["1.2.3", "0.0.0", "1.0.0-alpha.1", "1.0.0-0a.b-c+5.build", "10.20.30+x-y"] {
            assert!(is_semver(good), "{good}");
        }
        for bad in [
            "", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3", "1.2.x", "1.2.3-é",
        ] {
            assert!(!is_semver(bad), "{bad}");
        }
    }
}
