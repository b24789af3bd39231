//! StorageClass. Semantics: <https://kubernetes.io/docs/concepts/storage/storage-classes/>

use std::sync::Arc;

use k8s_openapi::api::{core::v1::TopologySelectorTerm, storage::v1::StorageClass};
use serde_json::json;

use crate::{
    helpers::volumes::{WAIT_FOR_FIRST_CONSUMER, is_default_class},
    kinds::shared::{checks, fill, items, seen::Seen, semantic, text, volumes::flag},
    meta::{ErrorList, FieldError, FieldPath, names},
    registry::Definition,
};

const RECLAIM_POLICIES: [&str; 2] = ["Delete", "Retain"];
const BINDING_MODES: [&str; 2] = ["Immediate", WAIT_FOR_FIRST_CONSUMER];
const MOST_PARAMETERS: usize = 512;
const MOST_BYTES: usize = 256 * 1024;

/// The definition of StorageClass.
pub fn definition() -> Definition {
    let mut definition = Definition::of::<StorageClass>()
        .cluster()
        .short(&["sc"])
        .returns_deleted()
        .default(|class| {
            fill(&mut class.reclaim_policy, "Delete");
            fill(&mut class.volume_binding_mode, "Immediate");
        })
        .validate(validate)
        .validate_update(validate_update)
        .column("Provisioner", "string", "Who makes its volumes.", |class, _| json!(class.provisioner))
        .column("ReclaimPolicy", "string", "What becomes of a volume that is free again.", |class, _| {
            json!(text(&class.reclaim_policy))
        })
        .column("VolumeBindingMode", "string", "When claims get volumes.", |class, _| {
            json!(text(&class.volume_binding_mode))
        })
        .column("AllowVolumeExpansion", "boolean", "Whether its volumes can grow.", |class, _| {
            flag(&class.allow_volume_expansion)
        })
        .age()
        .build();
    // Its name says whether it is the default.
    if let Some(name) = definition.columns.first_mut() {
        name.cell = Arc::new(|object, _| {
            let default = object.as_kind::<StorageClass>().is_some_and(is_default_class);
            json!(format!("{}{}", object.name(), if default { " (default)" } else { "" }))
        });
    }
    definition
}

fn validate(class: &StorageClass) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("provisioner");
    checks::required(&class.provisioner, &path, &mut errors);
    if !class.provisioner.is_empty() {
        for message in names::qualified_name(&class.provisioner.to_lowercase()) {
            errors.push(FieldError::invalid(&path, &class.provisioner, message));
        }
    }
    parameters(class, &mut errors);
    let policy = text(&class.reclaim_policy);
    checks::supported(policy, &RECLAIM_POLICIES, &FieldPath::new("reclaimPolicy"), &mut errors);
    let mode = text(&class.volume_binding_mode);
    checks::supported(mode, &BINDING_MODES, &FieldPath::new("volumeBindingMode"), &mut errors);
    topologies(items(&class.allowed_topologies), &FieldPath::new("allowedTopologies"), &mut errors);
    errors
}

fn parameters(class: &StorageClass, errors: &mut ErrorList) {
    let path = FieldPath::new("parameters");
    let Some(parameters) = &class.parameters else { return };
    if parameters.len() > MOST_PARAMETERS {
        errors.push(FieldError::too_long(&path, MOST_PARAMETERS));
        return;
    }
    if parameters.contains_key("") {
        errors.push(FieldError::invalid(&path, "", "field can not be empty."));
    }
    if parameters.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_BYTES {
        errors.push(FieldError::too_long(&path, MOST_BYTES));
    }
}

fn topologies(terms: &[TopologySelectorTerm], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut seen = Seen::new();
    for (at, term) in terms.iter().enumerate() {
        let path = path.index(at);
        let (expressions, mut keys) = (path.child("matchLabelExpressions"), Seen::new());
        let mut meaning: Vec<(&str, Vec<&str>)> = Vec::new();
        for (at, expression) in items(&term.match_label_expressions).iter().enumerate() {
            let path = expressions.index(at);
            let values = path.child("values");
            let mut distinct = Seen::new();
            if expression.values.is_empty() {
                errors.push(FieldError::required(&values, ""));
            }
            for (at, value) in expression.values.iter().enumerate() {
                if !distinct.insert(value.as_str()) {
                    errors.push(FieldError::duplicate(&values.index(at), value));
                }
            }
            checks::qualified(&expression.key, &path.child("key"), errors);
            if !keys.insert(expression.key.as_str()) {
                errors.push(FieldError::duplicate(&path.child("key"), &expression.key));
            }
            let mut sorted: Vec<&str> = expression.values.iter().map(String::as_str).collect();
            sorted.sort_unstable();
            meaning.push((&expression.key, sorted));
        }
        meaning.sort_unstable();
        if !seen.insert(meaning) {
            errors.push(FieldError::duplicate(&expressions, ""));
        }
    }
}

fn validate_update(new: &StorageClass, old: &StorageClass) -> ErrorList {
    let mut errors = ErrorList::new();
    for (field, changed) in [
        ("parameters", !semantic::equal(&new.parameters, &old.parameters)),
        ("provisioner", new.provisioner != old.provisioner),
        ("reclaimPolicy", new.reclaim_policy != old.reclaim_policy),
    ] {
        if changed {
            let detail = format!("updates to {field} are forbidden.");
            errors.push(FieldError::forbidden(&FieldPath::new(field), detail));
        }
    }
    let path = FieldPath::new("volumeBindingMode");
    errors.immutable(&path, &new.volume_binding_mode, &old.volume_binding_mode);
    errors
}
