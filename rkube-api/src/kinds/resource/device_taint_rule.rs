//! DeviceTaintRule. Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>
//!
//! When a taint was added is said by whoever writes the rule, if anybody: nothing here acts on it.

use k8s_openapi::api::resource::v1::{
    DeviceTaintRule, DeviceTaintRuleSpec, DeviceTaintRuleStatus, DeviceTaintSelector,
};

use crate::{
    kinds::shared::{
        checks,
        devices::{conditions, driver, pool, taint},
        items, semantic,
    },
    meta::{ErrorList, FieldPath},
    registry::Definition,
};

/// The definition of DeviceTaintRule.
pub fn definition() -> Definition {
    Definition::of::<DeviceTaintRule>()
        .cluster()
        .prepare_create(|rule| rule.status = Some(DeviceTaintRuleStatus::default()))
        .prepare_update(|new, old| new.status.clone_from(&old.status))
        .validate_create(|rule| validate(&rule.spec, None))
        .validate_update(|new, old| validate(&new.spec, Some(&old.spec)))
        .generation(|new, old| !semantic::equal(&new.spec, &old.spec))
        .status(|new, old| new.spec.clone_from(&old.spec), validate_status)
        .build()
}

fn validate(spec: &DeviceTaintRuleSpec, old: Option<&DeviceTaintRuleSpec>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    if let Some(selector) = &spec.device_selector {
        validate_selector(selector, &path.child("deviceSelector"), &mut errors);
    }
    taint(&spec.taint, old.map(|old| &old.taint), &path.child("taint"), &mut errors);
    errors
}

fn validate_selector(selector: &DeviceTaintSelector, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(name) = &selector.driver {
        driver(name, &path.child("driver"), errors);
    }
    if let Some(name) = &selector.pool {
        pool(name, &path.child("pool"), errors);
    }
    if let Some(name) = &selector.device {
        checks::label(name, &path.child("device"), errors);
    }
}

fn validate_status(new: &DeviceTaintRule, _: &DeviceTaintRule) -> ErrorList {
    let mut errors = ErrorList::new();
    let list = new.status.as_ref().map(|status| items(&status.conditions)).unwrap_or_default();
    conditions(list, &FieldPath::new("status").child("conditions"), &mut errors);
    errors
}
