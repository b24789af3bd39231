//! The rules of custom resources.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{fields, whole};
use crate::{
    fields::Schema,
    object::{Dynamic, Object},
    registry::{StatusStrategy, Strategy, ValidateFn},
};

/// The rules of the main resource.
pub(super) fn of(schema: &Arc<Schema>, has_status: bool) -> Strategy {
    Strategy {
        prepare_create: has_status.then(|| -> crate::registry::Hook { Arc::new(drop_status) }),
        prepare_update: has_status.then(|| -> crate::registry::Hook2 { Arc::new(keep_status) }),
        validate: Some(validate(schema.clone())),
        generation_moves: Some(Arc::new(move |new, old| {
            spec_of(new, has_status) != spec_of(old, has_status)
        })),
        unconditional_update: false,
        ..Strategy::default()
    }
}

/// The rules of the status: it alone changes.
pub(super) fn status(schema: &Arc<Schema>) -> StatusStrategy {
    let check = validate(schema.clone());
    StatusStrategy {
        prepare_update: Some(Arc::new(only_status)),
        validate_update: Some(Arc::new(move |new, _| check(new))),
    }
}

fn validate(schema: Arc<Schema>) -> ValidateFn {
    Arc::new(move |object| schema.validate(&whole(object)))
}

/// All that counts as spec: every field but the status, if that has its own way in.
fn spec_of(object: &Object, has_status: bool) -> Option<Map<String, Value>> {
    let mut fields = fields(object)?.clone();
    if has_status {
        fields.remove("status");
    }
    Some(fields)
}

fn drop_status(object: &mut Object) {
    set_status(object, None);
}

fn keep_status(new: &mut Object, old: &Object) {
    let status = fields(old).and_then(|fields| fields.get("status")).cloned();
    set_status(new, status);
}

fn only_status(new: &mut Object, old: &Object) {
    let status = fields(new).and_then(|fields| fields.get("status")).cloned();
    let (Some(new), Some(old)) = (new.as_kind_mut::<Dynamic>(), old.as_kind::<Dynamic>()) else { return };
    *new = old.clone();
    match status {
        Some(status) => new.fields.insert("status".into(), status),
        None => new.fields.remove("status"),
    };
}

fn set_status(object: &mut Object, status: Option<Value>) {
    let Some(dynamic) = object.as_kind_mut::<Dynamic>() else { return };
    match status {
        Some(status) => dynamic.fields.insert("status".into(), status),
        None => dynamic.fields.remove("status"),
    };
}
