//! What was allocated for a claim, and for whom.

use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceAllocationResult, DeviceRequestAllocationResult,
    NetworkDeviceData, ResourceClaim, ResourceClaimConsumerReference, ResourceClaimStatus,
};

use super::{
    CONFIGS, IMMUTABLE, REQUESTS, Stored, binding_conditions, claim::Names, conditions, configuration,
    driver, pool, raw, tolerations, too_many,
};
use crate::{
    kinds::shared::{checks, items, pod::node_selector, seen::Seen, semantic, text},
    meta::{ErrorList, FieldError, FieldPath},
};

const RESERVED: usize = 256;
const ADDRESSES: usize = 16;
const INTERFACE_BYTES: usize = 256;
const HARDWARE_BYTES: usize = 128;

type DeviceId<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Checks a change of a claim's status.
pub(crate) fn validate_status(new: &ResourceClaim, old: &ResourceClaim) -> ErrorList {
    let mut errors = ErrorList::new();
    let none = ResourceClaimStatus::default();
    let (status, before) = (new.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none));
    let (path, names) =
        (FieldPath::new("status"), Names::of(new.spec.as_ref().and_then(|it| it.devices.as_ref())));
    let going = new.metadata.deletion_timestamp.is_some();
    reserved(status, before, going, &path.child("reservedFor"), &mut errors);
    devices(status, &path.child("devices"), &mut errors);
    let path = path.child("allocation");
    match (&status.allocation, &before.allocation) {
        (Some(new), Some(old)) if !semantic::equal(new, old) => {
            errors.push(FieldError::invalid(&path, new, IMMUTABLE));
        }
        (Some(new), None) => allocation(new, &names, &path, &mut errors),
        _ => {}
    }
    errors
}

fn reserved(
    status: &ResourceClaimStatus,
    before: &ResourceClaimStatus,
    going: bool,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let (list, old) = (items(&status.reserved_for), items(&before.reserved_for));
    if too_many(list.len(), RESERVED, path, errors) {
        return;
    }
    let mut seen = Seen::new();
    for (at, consumer) in list.iter().enumerate() {
        let path = path.index(at);
        let ResourceClaimConsumerReference { resource, name, uid, .. } = consumer;
        for (field, value) in [("resource", resource), ("name", name), ("uid", uid)] {
            checks::required(value, &path.child(field), errors);
        }
        if !seen.insert(uid.as_str()) {
            errors.push(FieldError::duplicate(&path, uid));
        }
    }
    if list.is_empty() {
        return;
    }
    if status.allocation.is_none() {
        let detail = "may not be specified when `allocated` is not set";
        errors.push(FieldError::forbidden(path, detail));
    } else if going && list.iter().any(|consumer| !old.contains(consumer)) {
        let detail =
            "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn results(allocation: Option<&AllocationResult>) -> &[DeviceRequestAllocationResult] {
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    devices.map(|devices| items(&devices.results)).unwrap_or_default()
}

fn devices(status: &ResourceClaimStatus, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let allocated: BTreeSet<DeviceId<'_>> = results(status.allocation.as_ref())
        .iter()
        .map(|it| (it.driver.as_str(), it.pool.as_str(), it.device.as_str(), text(&it.share_id)))
        .collect();
    let mut seen = Seen::new();
    for (at, device) in items(&status.devices).iter().enumerate() {
        let path = path.index(at);
        let id =
            (device.driver.as_str(), device.pool.as_str(), device.device.as_str(), text(&device.share_id));
        let name = format!("{}/{}/{}", id.0, id.1, id.2);
        device_status(device, &path, errors);
        if !allocated.contains(&id) {
            errors.push(FieldError::invalid(&path, &name, "must be an allocated device in the claim"));
        }
        if !seen.insert(id) {
            errors.push(FieldError::duplicate(&path, &name));
        }
    }
}

fn device_status(device: &AllocatedDeviceStatus, path: &FieldPath<'_>, errors: &mut ErrorList) {
    driver(&device.driver, &path.child("driver"), errors);
    pool(&device.pool, &path.child("pool"), errors);
    checks::label(&device.device, &path.child("device"), errors);
    conditions(items(&device.conditions), &path.child("conditions"), errors);
    if let Some(data) = device.data.as_ref().filter(|data| !data.0.is_null()) {
        raw(data, Stored(false), &path.child("data"), errors);
    }
    if let Some(data) = &device.network_data {
        network_data(data, &path.child("networkData"), errors);
    }
}

fn network_data(data: &NetworkDeviceData, path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (field, value, most) in [
        ("interfaceName", &data.interface_name, INTERFACE_BYTES),
        ("hardwareAddress", &data.hardware_address, HARDWARE_BYTES),
    ] {
        if text(value).len() > most {
            errors.push(FieldError::too_long(&path.child(field), most));
        }
    }
    let (addresses, path) = (items(&data.ips), path.child("ips"));
    if too_many(addresses.len(), ADDRESSES, &path, errors) {
        return;
    }
    for (at, address) in addresses.iter().enumerate() {
        if checks::parse_cidr(address).is_none() {
            let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            errors.push(FieldError::invalid(&path.index(at), address, detail));
        }
        if addresses[..at].contains(address) {
            errors.push(FieldError::duplicate(&path.index(at), address));
        }
    }
}

fn allocation(new: &AllocationResult, names: &Names<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(devices) = &new.devices {
        allocated(devices, names, &path.child("devices"), errors);
    }
    if let Some(selector) = &new.node_selector {
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
}

fn allocated(
    devices: &DeviceAllocationResult,
    names: &Names<'_>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let (list, at_results) = (items(&devices.results), path.child("results"));
    if !too_many(list.len(), REQUESTS, &at_results, errors) {
        for (at, result) in list.iter().enumerate() {
            let path = at_results.index(at);
            names.check(&result.request, &path.child("request"), errors);
            driver(&result.driver, &path.child("driver"), errors);
            pool(&result.pool, &path.child("pool"), errors);
            checks::label(&result.device, &path.child("device"), errors);
            let (good, bad) = (&result.binding_conditions, &result.binding_failure_conditions);
            binding_conditions(good, bad, &path, errors);
            tolerations(items(&result.tolerations), &path.child("tolerations"), errors);
        }
    }
    let (list, at_configs) = (items(&devices.config), path.child("config"));
    // Those of the class and those of the claim.
    if !too_many(list.len(), 2 * CONFIGS, &at_configs, errors) {
        for (at, config) in list.iter().enumerate() {
            let path = at_configs.index(at);
            checks::one_of(&config.source, &["FromClaim", "FromClass"], &path.child("source"), errors);
            names.check_all(&config.requests, &path.child("requests"), errors);
            configuration(config.opaque.as_ref(), Stored(false), &path, errors);
        }
    }
}
