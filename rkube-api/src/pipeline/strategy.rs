//! Stage 5: what the server makes of an object, by the rules of its kind. Pure functions over values.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::{
    object::Object,
    registry::{Definition, Hook2},
};

/// How many names are tried where one is to be generated (KEP-4420).
pub(super) const NAME_ATTEMPTS: usize = 8;

/// A generated name is cut so that its random suffix fits (Kubernetes' limit for generated names).
const LONGEST_PREFIX: usize = 63 - SUFFIX;
const SUFFIX: usize = 5;

/// A name made of `generateName` and a random suffix.
pub(super) fn generated_name(prefix: &str, suffix: impl Fn(usize) -> String) -> String {
    let mut end = prefix.len().min(LONGEST_PREFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &prefix[..end], suffix(SUFFIX))
}

/// Whether the object wants a name generated.
pub(super) fn wants_name(meta: &ObjectMeta) -> bool {
    meta.name.as_deref().unwrap_or_default().is_empty()
        && meta.generate_name.as_deref().is_some_and(|prefix| !prefix.is_empty())
}

/// Prepares a new object: what only the server sets is set, what a create may not set is cleared.
pub(super) fn prepare_create(definition: &Definition, object: &mut Object, uid: String, now: Time) {
    if let Some(prepare) = &definition.strategy.prepare_create {
        prepare(object);
    }
    let generation = definition.strategy.generation_moves.is_some().then_some(1);
    let meta = object.meta_mut();
    meta.uid = Some(uid);
    meta.creation_timestamp = Some(now);
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.self_link = None;
    meta.generation = generation;
    drop_empty(meta);
}

/// Lists and maps that hold nothing are absent.
fn drop_empty(meta: &mut ObjectMeta) {
    for map in [&mut meta.labels, &mut meta.annotations] {
        if map.as_ref().is_some_and(BTreeMap::is_empty) {
            *map = None;
        }
    }
    if meta.finalizers.as_ref().is_some_and(Vec::is_empty) {
        meta.finalizers = None;
    }
    if meta.owner_references.as_ref().is_some_and(Vec::is_empty) {
        meta.owner_references = None;
    }
}

/// Prepares a replacement: what only the server sets is taken from the old object, then `prepare` does the
/// same for what this kind of update may not change.
pub(super) fn prepare_update(
    definition: &Definition,
    object: &mut Object,
    old: &Object,
    prepare: Option<&Hook2>,
) {
    if let Some(prepare) = prepare {
        prepare(object, old);
    }
    let was = old.meta();
    let meta = object.meta_mut();
    meta.resource_version.clone_from(&was.resource_version);
    meta.generation = was.generation;
    meta.self_link = None;
    drop_empty(meta);
    if meta.uid.as_deref().unwrap_or_default().is_empty() {
        meta.uid.clone_from(&was.uid);
    }
    meta.creation_timestamp.clone_from(&was.creation_timestamp);
    if was.deletion_timestamp.is_some() {
        meta.deletion_timestamp.clone_from(&was.deletion_timestamp);
    }
    if meta.deletion_grace_period_seconds.is_none() {
        meta.deletion_grace_period_seconds = was.deletion_grace_period_seconds;
    }
    // A name that was generated stays; its prefix is of interest only then.
    if meta.generate_name.is_none() {
        meta.generate_name.clone_from(&was.generate_name);
    }
    if let Some(moves) = &definition.strategy.generation_moves
        && moves(object, old)
    {
        object.meta_mut().generation = Some(was.generation.unwrap_or_default() + 1);
    }
}

/// Tells the user what the kind has to say of the object; once, however often the write is tried.
pub(super) fn warn(definition: &Definition, object: &Object, warnings: &mut Vec<String>) {
    let Some(warn) = &definition.strategy.warnings else { return };
    for warning in warn(object) {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

/// Whether the object itself (a namespace's spec) says that it must stay.
pub(super) fn held(definition: &Definition, object: &Object) -> bool {
    definition.strategy.holds_deletion.as_ref().is_some_and(|holds| holds(object))
}

/// Whether an object that is being deleted has nothing left that holds it.
pub(super) fn released(definition: &Definition, object: &Object) -> bool {
    let meta = object.meta();
    meta.deletion_timestamp.is_some()
        && !held(definition, object)
        && meta.finalizers.as_deref().unwrap_or_default().is_empty()
        && meta.deletion_grace_period_seconds.unwrap_or_default() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_is_cut_at_a_character() {
        let suffix = |length: usize| "x".repeat(length);
        assert_eq!(generated_name("web-", suffix), "web-xxxxx");
        assert_eq!(generated_name(&"a".repeat(100), suffix).len(), 63);
        assert_eq!(generated_name(&"é".repeat(100), suffix).len(), 63);
    }
}
