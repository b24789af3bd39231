//! Parts of a device's capacity (KEP-5075): what a request takes of a device that others may share.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::resource::v1::{CapacityRequestPolicy, Device, DeviceCapacity},
    apimachinery::pkg::api::resource::Quantity as Api,
};
use rkube_api::meta::Quantity;

/// Amounts by the name of the capacity.
pub(super) type Amounts<'a> = BTreeMap<&'a str, Quantity>;

/// Whether several claims may have the device.
pub(super) fn is_shared(device: &Device) -> bool {
    device.allow_multiple_allocations == Some(true)
}

pub(super) fn capacities(device: &Device) -> impl Iterator<Item = (&str, &DeviceCapacity)> {
    device.capacity.iter().flatten().map(|(name, capacity)| (&**name, capacity))
}

/// A quantity that does not read is none: the API server lets none pass.
pub(super) fn quantity(value: &Api) -> Quantity {
    Quantity::try_from(value).unwrap_or(Quantity::ZERO)
}

/// What a request takes of each capacity of a device. `None`: the device does not have what is asked for, or not
/// in such amounts.
pub(super) fn consumption<'a>(device: &'a Device, asked: &BTreeMap<String, Quantity>) -> Option<Amounts<'a>> {
    let has = |name: &String| device.capacity.as_ref().is_some_and(|all| all.contains_key(name));
    if !asked.keys().all(has) {
        return None;
    }
    capacities(device)
        .map(|(name, capacity)| Some((name, consumed(capacity, asked.get(name).copied())?)))
        .collect()
}

/// What is asked for, rounded up to what the policy allows; if nothing is asked for, the default or all of it.
fn consumed(capacity: &DeviceCapacity, asked: Option<Quantity>) -> Option<Quantity> {
    let Some(policy) = &capacity.request_policy else {
        return Some(asked.unwrap_or_else(|| quantity(&capacity.value)));
    };
    match asked {
        Some(asked) => rounded_up(policy, asked),
        None => Some(quantity(policy.default.as_ref().unwrap_or(&capacity.value))),
    }
}

fn rounded_up(policy: &CapacityRequestPolicy, asked: Quantity) -> Option<Quantity> {
    if let Some(range) = &policy.valid_range {
        let (least, step) = (quantity(&range.min), range.step.as_ref().map(quantity));
        let missing = asked.nanos() - least.nanos();
        let amount = match step.filter(|step| *step > Quantity::ZERO) {
            _ if missing <= 0 => least,
            None => asked,
            Some(step) => {
                // Rounded up; both are above zero.
                let steps = (missing + step.nanos() - 1) / step.nanos();
                least + step.scaled_by(i64::try_from(steps).ok()?)
            }
        };
        return range.max.as_ref().is_none_or(|most| amount <= quantity(most)).then_some(amount);
    }
    match policy.valid_values.as_deref().unwrap_or_default() {
        [] => Some(asked),
        values => values.iter().map(quantity).find(|value| *value >= asked),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn takes(policy: Value, asked: Option<&str>) -> Option<String> {
        let capacity = json!({"value": "10Gi", "requestPolicy": policy});
        let device: Device =
            serde_json::from_value(json!({"name": "d", "capacity": {"m": capacity}})).unwrap();
        let asked = asked.map(|asked| ("m".to_owned(), asked.parse().unwrap())).into_iter().collect();
        consumption(&device, &asked).map(|amounts| amounts["m"].to_string())
    }

    #[test]
    fn a_request_is_rounded_up_to_what_the_policy_allows() {
        let some = |amount: &str| Some(amount.to_owned());
        assert_eq!(takes(Value::Null, None), some("10Gi"), "all of it");
        assert_eq!(takes(Value::Null, Some("1")), some("1"));
        let range = json!({"default": "2Gi", "validRange": {"min": "1Gi", "max": "4Gi", "step": "1Gi"}});
        let ranged = |asked| takes(range.clone(), asked);
        assert_eq!(ranged(None), some("2Gi"));
        assert_eq!(ranged(Some("1")), some("1Gi"));
        assert_eq!(ranged(Some("3Gi")), some("3Gi"));
        assert_eq!(ranged(Some("3073Mi")), some("4Gi"));
        assert_eq!(ranged(Some("4097Mi")), None);
        let unbounded = json!({"default": "2Gi", "validRange": {"min": "1Gi"}});
        assert_eq!(takes(unbounded, Some("1025Mi")), some("1025Mi"));
        let values = json!({"default": "1Gi", "validValues": ["1Gi", "4Gi"]});
        let listed = |asked| takes(values.clone(), asked);
        assert_eq!(listed(None), some("1Gi"));
        assert_eq!((listed(Some("2Gi")), listed(Some("5Gi"))), (some("4Gi"), None));
        assert_eq!(takes(json!({"default": "3Gi"}), Some("2Gi")), some("2Gi"));
    }

    #[test]
    fn what_a_device_does_not_have_it_cannot_offer() {
        let device: Device = serde_json::from_value(json!({"name": "d"})).unwrap();
        assert_eq!(consumption(&device, &BTreeMap::from([("m".into(), Quantity::ZERO)])), None);
        assert_eq!(consumption(&device, &BTreeMap::new()), Some(BTreeMap::new()));
    }
}
