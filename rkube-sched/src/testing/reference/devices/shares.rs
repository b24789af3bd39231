//! What is taken of devices that several claims may have.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::resource::v1::{
        CapacityRequestPolicy, CapacityRequirements, Device, DeviceCapacity, DeviceRequestAllocationResult,
    },
    apimachinery::pkg::api::resource::Quantity as Api,
};
use rkube_api::meta::Quantity;

use super::amount;

pub(super) fn is_shared(device: &Device) -> bool {
    device.allow_multiple_allocations == Some(true)
}

pub(super) fn names(device: &Device) -> impl Iterator<Item = &str> {
    device.capacity.iter().flatten().map(|(name, _)| &**name)
}

fn capacity<'a>(device: &'a Device, name: &str) -> Option<&'a DeviceCapacity> {
    device.capacity.as_ref()?.get(name)
}

/// How much a device has of a capacity.
pub(super) fn size(device: &Device, name: &str) -> i128 {
    capacity(device, name).map_or(0, |capacity| amount(&capacity.value))
}

pub(super) fn add<'a>(sums: &mut BTreeMap<&'a str, i128>, it: &'a DeviceRequestAllocationResult) {
    for (name, taken) in it.consumed_capacity.iter().flatten() {
        *sums.entry(name).or_default() += amount(taken);
    }
}

/// What a request takes of each capacity; `None` if the device has none of it, or not so much at once.
pub(super) fn wants<'a>(
    device: &'a Device,
    asked: Option<&CapacityRequirements>,
) -> Option<BTreeMap<&'a str, i128>> {
    let asked = asked.and_then(|asked| asked.requests.clone()).unwrap_or_default();
    if asked.keys().any(|name| capacity(device, name).is_none()) {
        return None;
    }
    let mut wants = BTreeMap::new();
    for name in names(device) {
        let of = capacity(device, name)?;
        let policy = of.request_policy.clone().unwrap_or_default();
        let wanted = match asked.get(name) {
            None => amount(policy.default.as_ref().unwrap_or(&of.value)),
            Some(asked) => *allowed(&policy, amount(asked), amount(&of.value)).iter().min()?,
        };
        wants.insert(name, wanted);
    }
    Some(wants)
}

/// The amounts that a policy allows, as far as they are enough and the device has them.
fn allowed(policy: &CapacityRequestPolicy, asked: i128, size: i128) -> Vec<i128> {
    let mut all = match (&policy.valid_range, &policy.valid_values) {
        (None, None) => vec![asked],
        (None, Some(values)) => values.iter().map(amount).collect(),
        (Some(range), _) => {
            let (least, most) = (amount(&range.min), range.max.as_ref().map_or(size, amount));
            match &range.step {
                None => vec![asked.max(least)],
                Some(step) => {
                    let above = |value: &i128| Some(value + amount(step));
                    std::iter::successors(Some(least), above).take_while(|value| *value <= most).collect()
                }
            }
        }
    };
    let most = policy.valid_range.as_ref().and_then(|range| range.max.as_ref()).map_or(size, amount);
    all.retain(|value| *value >= asked && *value <= most);
    all
}

/// The same as it is written down; nothing of a device that is not shared.
pub(super) fn consumed(
    device: &Device,
    asked: Option<&CapacityRequirements>,
) -> Option<BTreeMap<String, Api>> {
    let wants = wants(device, asked).filter(|wants| is_shared(device) && !wants.is_empty())?;
    // The devices that it is tried with have whole numbers.
    let whole = |nanos: i128| {
        Quantity::new(i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX), Default::default())
    };
    Some(wants.into_iter().map(|(name, amount)| (name.to_owned(), Api(whole(amount).to_string()))).collect())
}
