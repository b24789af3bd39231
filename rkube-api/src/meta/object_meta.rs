//! Validation of the metadata that all objects share.
//!
//! ```
//! use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
//! use rkube_api::meta::{names, validate_object_meta, FieldPath};
//! let meta = ObjectMeta { name: Some("Web".into()), namespace: Some("default".into()), ..Default::default() };
//! let errors = validate_object_meta(&meta, true, names::name_is_subdomain, &FieldPath::new("metadata"));
//! assert!(errors.to_string().starts_with("metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain"));
//! ```

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, ManagedFieldsEntry, ObjectMeta, OwnerReference,
};

use super::gvk::GroupVersion;
use super::names;
use super::validation::{ErrorList, FieldError, FieldPath};

/// All annotations of an object together may have this many bytes.
pub const MAX_ANNOTATION_BYTES: usize = 256 * 1024;
/// Finalizer: the content of a namespace goes before it.
pub const FINALIZER_KUBERNETES: &str = "kubernetes";
/// Finalizer: dependents stay and lose their owner.
pub const FINALIZER_ORPHAN: &str = "orphan";
/// Finalizer: dependents go before the owner.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";
/// The longest name of a field manager, in bytes.
pub const MAX_FIELD_MANAGER_BYTES: usize = 128;

/// Checks an object's metadata before it is created.
#[must_use]
pub fn validate_object_meta(
    meta: &ObjectMeta,
    namespaced: bool,
    name_check: names::NameCheck,
    path: &FieldPath<'_>,
) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(prefix) = meta.generate_name.as_deref().filter(|n| !n.is_empty()) {
        errors.push_messages(&path.child("generateName"), prefix, name_check(prefix, true));
    }
    match meta.name.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(&path.child("name"), "name or generateName is required")),
        name => errors.push_messages(&path.child("name"), name, name_check(name, false)),
    }
    let namespace = path.child("namespace");
    match (namespaced, meta.namespace.as_deref().unwrap_or_default()) {
        (true, "") => errors.push(FieldError::required(&namespace, "")),
        (true, name) => errors.push_messages(&namespace, name, names::name_is_label(name, false)),
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden(&namespace, "not allowed on this type")),
    }
    errors.non_negative(&path.child("generation"), meta.generation.unwrap_or(0));
    common(meta, path, &mut errors);
    finalizers(meta.finalizers.as_deref().unwrap_or_default(), &path.child("finalizers"), &mut errors);
    errors
}

/// Checks an object's metadata against what it was.
#[must_use]
pub fn validate_object_meta_update(new: &ObjectMeta, old: &ObjectMeta, path: &FieldPath<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    if old.deletion_timestamp.is_some() {
        no_new_finalizers(new, old, &path.child("finalizers"), &mut errors);
    }
    if new.resource_version.as_deref().unwrap_or_default().is_empty() {
        let field = path.child("resourceVersion");
        errors.push(FieldError::invalid(&field, "", "must be specified for an update"));
    }
    let (generation, was) = (new.generation.unwrap_or(0), old.generation.unwrap_or(0));
    errors.non_negative(&path.child("generation"), generation);
    if generation < was {
        let field = path.child("generation");
        errors.push(FieldError::invalid(&field, generation, "must not be decremented"));
    }
    let text = |v: &Option<String>| v.clone().unwrap_or_default();
    errors.immutable(&path.child("name"), &text(&new.name), &text(&old.name));
    errors.immutable(&path.child("namespace"), &text(&new.namespace), &text(&old.namespace));
    errors.immutable(&path.child("uid"), &text(&new.uid), &text(&old.uid));
    errors.immutable(&path.child("creationTimestamp"), &new.creation_timestamp, &old.creation_timestamp);
    errors.immutable(&path.child("deletionTimestamp"), &new.deletion_timestamp, &old.deletion_timestamp);
    errors.immutable(
        &path.child("deletionGracePeriodSeconds"),
        &new.deletion_grace_period_seconds,
        &old.deletion_grace_period_seconds,
    );
    common(new, path, &mut errors);
    errors
}

fn common(meta: &ObjectMeta, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(labels) = &meta.labels {
        validate_labels(labels, &path.child("labels"), errors);
    }
    if let Some(annotations) = &meta.annotations {
        validate_annotations(annotations, &path.child("annotations"), errors);
    }
    owner_references(
        meta.owner_references.as_deref().unwrap_or_default(),
        &path.child("ownerReferences"),
        errors,
    );
    managed_fields(meta.managed_fields.as_deref().unwrap_or_default(), &path.child("managedFields"), errors);
}

/// Checks the keys and values of labels.
pub fn validate_labels(labels: &BTreeMap<String, String>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (key, value) in labels {
        errors.push_messages(path, key, names::qualified_name(key));
        errors.push_messages(path, value, names::label_value(value));
    }
}

/// Checks the keys of annotations and the size of them all.
pub fn validate_annotations(
    annotations: &BTreeMap<String, String>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    for key in annotations.keys() {
        let lower = if key.bytes().any(|b| !b.is_ascii() || b.is_ascii_uppercase()) {
            std::borrow::Cow::Owned(key.to_lowercase())
        } else {
            std::borrow::Cow::Borrowed(key.as_str())
        };
        errors.push_messages(path, key, names::qualified_name(&lower));
    }
    if annotations.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > MAX_ANNOTATION_BYTES {
        errors.push(FieldError::too_long(path, MAX_ANNOTATION_BYTES));
    }
}

/// Checks a label selector of a spec.
pub fn validate_label_selector(selector: &LabelSelector, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(labels) = &selector.match_labels {
        validate_labels(labels, &path.child("matchLabels"), errors);
    }
    let expressions = path.child("matchExpressions");
    for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = expressions.index(i);
        let values = expression.values.as_deref().unwrap_or_default();
        let values_path = path.child("values");
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &values_path,
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                &values_path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                &path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        errors.push_messages(&path.child("key"), &expression.key, names::qualified_name(&expression.key));
        for (i, value) in values.iter().enumerate() {
            errors.push_messages(&values_path.index(i), value, names::label_value(value));
        }
    }
}

fn owner_references(references: &[OwnerReference], path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (i, reference) in references.iter().enumerate() {
        owner_reference(reference, &path.index(i), errors);
    }
    // One such error is enough: it shows the whole list.
    let mut controllers = references.iter().filter(|reference| reference.controller == Some(true));
    if let (Some(first), Some(second)) = (controllers.next(), controllers.next()) {
        let name = |reference: &OwnerReference| format!("{}/{}", reference.kind, reference.name);
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            name(first),
            name(second)
        );
        errors.push(FieldError::invalid(path, references, detail));
    }
}

fn owner_reference(reference: &OwnerReference, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let version = GroupVersion::parse(&reference.api_version).ok();
    if reference.api_version.is_empty() {
        errors.push(FieldError::required(&path.child("apiVersion"), "must not be empty"));
    } else if version.as_ref().is_none_or(|v| v.version.is_empty()) {
        let field = path.child("apiVersion");
        let detail = "must be <group>/<version> or <version>";
        errors.push(FieldError::invalid(&field, &reference.api_version, detail));
    }
    for (name, value) in [("kind", &reference.kind), ("name", &reference.name), ("uid", &reference.uid)] {
        if value.is_empty() {
            errors.push(FieldError::required(&path.child(name), "must not be empty"));
        }
    }
    if reference.api_version == "v1" && reference.kind == "Event" {
        errors.push(FieldError::invalid(
            path,
            reference,
            "/v1, Kind=Event is disallowed from being an owner",
        ));
    }
}

fn finalizers(finalizers: &[String], path: &FieldPath<'_>, errors: &mut ErrorList) {
    for finalizer in finalizers {
        errors.push_messages(path, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has(FINALIZER_ORPHAN) && has(FINALIZER_FOREGROUND) {
        let detail = format!("finalizer {FINALIZER_ORPHAN} and {FINALIZER_FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(path, finalizers, detail));
    }
}

/// Checks that finalizers are Kubernetes' own or qualified by a domain. Built-in kinds demand that;
/// of custom resources the name alone is checked.
#[must_use]
pub fn validate_finalizers_qualified(meta: &ObjectMeta, path: &FieldPath<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = path.child("finalizers");
    for (i, finalizer) in meta.finalizers.iter().flatten().enumerate() {
        check_finalizer_qualified(finalizer, &path.index(i), &mut errors);
    }
    errors
}

/// Checks that one finalizer is Kubernetes' own or qualified by a domain.
pub(crate) fn check_finalizer_qualified(finalizer: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let standard = [FINALIZER_KUBERNETES, FINALIZER_ORPHAN, FINALIZER_FOREGROUND];
    if !finalizer.contains('/') && !standard.contains(&finalizer) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, finalizer, detail));
    }
}

fn no_new_finalizers(new: &ObjectMeta, old: &ObjectMeta, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let old: BTreeSet<&String> = old.finalizers.iter().flatten().collect();
    let extra: BTreeSet<&String> = new.finalizers.iter().flatten().filter(|f| !old.contains(f)).collect();
    if !extra.is_empty() {
        let list: Vec<String> = extra.iter().map(|f| super::validation::go_quoted(f)).collect();
        errors.push(FieldError::forbidden(
            path,
            format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            ),
        ));
    }
}

fn managed_fields(entries: &[ManagedFieldsEntry], path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (i, entry) in entries.iter().enumerate() {
        let path = path.index(i);
        match entry.operation.as_deref().unwrap_or_default() {
            "" => errors.push(FieldError::required(&path.child("operation"), "must not be empty")),
            "Apply" | "Update" => {}
            other => {
                errors.push(FieldError::not_supported(&path.child("operation"), other, &["Apply", "Update"]))
            }
        }
        if let Some(kind) = entry.fields_type.as_deref().filter(|t| !t.is_empty() && *t != "FieldsV1") {
            errors.push(FieldError::invalid(&path.child("fieldsType"), kind, "must be `FieldsV1`"));
        }
        validate_field_manager(entry.manager.as_deref().unwrap_or_default(), &path.child("manager"), errors);
        if entry.subresource.as_deref().unwrap_or_default().len() > 256 {
            errors.push(FieldError::too_long(&path.child("subresource"), 256));
        }
    }
}

/// Checks the name of a field manager.
pub fn validate_field_manager(manager: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if manager.len() > MAX_FIELD_MANAGER_BYTES {
        errors.push(FieldError::too_long(path, MAX_FIELD_MANAGER_BYTES));
    }
    for (i, c) in manager.char_indices() {
        if c.is_control() || (c.is_whitespace() && c != ' ') {
            let detail = format!("invalid character U+{:04X} (at position {i})", c as u32);
            errors.push(FieldError::invalid(path, manager, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn meta() -> ObjectMeta {
        ObjectMeta {
            name: Some("a".into()),
            namespace: Some("b".into()),
            resource_version: Some("1".into()),
            ..Default::default()
        }
    }

    fn create(meta: &ObjectMeta, namespaced: bool) -> Vec<String> {
        validate_object_meta(meta, namespaced, names::name_is_subdomain, &FieldPath::new("metadata"))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn update(new: &ObjectMeta, old: &ObjectMeta) -> Vec<String> {
        validate_object_meta_update(new, old, &FieldPath::new("metadata"))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn names_and_namespaces() {
        assert!(create(&meta(), true).is_empty());
        assert_eq!(create(&meta(), false), ["metadata.namespace: Forbidden: not allowed on this type"]);
        assert_eq!(
            create(&ObjectMeta::default(), true),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value"
            ]
        );
    }

    #[test]
    fn labels_annotations_and_owners() {
        let mut m = meta();
        m.labels = Some([("a b".to_string(), "!".to_string())].into());
        let errors = create(&m, true);
        assert!(errors[0].starts_with("metadata.labels: Invalid value: \"a b\": name part must consist of"));
        assert!(errors[1].starts_with("metadata.labels: Invalid value: \"!\": a valid label must be"));
        let mut m = meta();
        m.annotations = Some([("UPPER/ok".to_string(), "x".repeat(MAX_ANNOTATION_BYTES))].into());
        assert_eq!(create(&m, true), ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
        let mut m = meta();
        let owner = OwnerReference {
            api_version: "a/b/c".into(),
            kind: "K".into(),
            name: "n".into(),
            controller: Some(true),
            ..Default::default()
        };
        m.owner_references = Some(vec![owner.clone(), owner]);
        let errors = create(&m, true);
        assert_eq!(
            errors[0],
            "metadata.ownerReferences[0].apiVersion: Invalid value: \"a/b/c\": must be <group>/<version> or <version>"
        );
        assert_eq!(errors[1], "metadata.ownerReferences[0].uid: Required value: must not be empty");
        assert!(errors[4].contains("Found \"true\" in references for K/n and K/n"));
    }

    #[test]
    fn finalizers_are_standard_or_qualified() {
        let mut m = meta();
        m.finalizers =
            Some(["kubernetes", "orphan", "foregroundDeletion", "a.io/b", "x"].map(Into::into).into());
        let errors = validate_finalizers_qualified(&m, &FieldPath::new("metadata"));
        assert_eq!(
            errors.to_string(),
            "metadata.finalizers[4]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified"
        );
    }

    #[test]
    fn what_an_update_may_not_do() {
        let old = ObjectMeta {
            uid: Some("u".into()),
            generation: Some(2),
            deletion_timestamp: Some(Time(Default::default())),
            ..meta()
        };
        assert!(update(&old, &old).is_empty());
        let mut new = old.clone();
        new.uid = Some("v".into());
        new.generation = Some(1);
        new.resource_version = None;
        new.finalizers = Some(vec!["x/y".into()]);
        new.deletion_timestamp = None;
        assert_eq!(
            update(&new, &old),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x/y\"}",
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.generation: Invalid value: 1: must not be decremented",
                "metadata.uid: Invalid value: \"v\": field is immutable",
                "metadata.deletionTimestamp: Invalid value: null: field is immutable",
            ]
        );
    }
}
