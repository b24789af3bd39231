//! Namespace. Semantics: <https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/>

use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use serde_json::json;

use crate::{
    kinds::shared::{checks, items, text},
    meta::{
        ErrorList, FieldError, FieldPath, names,
        object_meta::{FINALIZER_KUBERNETES, check_finalizer_qualified},
    },
    registry::Definition,
    request::Verb,
};

/// The finalizer of a namespace's spec, held until its contents are gone.
pub const FINALIZER: &str = FINALIZER_KUBERNETES;
/// The label by which selectors can find a namespace by name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

const VERBS: [Verb; 7] =
    [Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

/// The definition of Namespace.
pub fn definition() -> Definition {
    Definition::of::<Namespace>()
        .cluster()
        .short(&["ns"])
        .verbs(&VERBS)
        .validate_name(names::name_is_label)
        .default(label_with_name)
        .prepare_create(prepare_create)
        .prepare_update(prepare_update)
        .validate(validate)
        .deletion(is_held, terminate)
        .status(|new, old| new.spec.clone_from(&old.spec), validate_status)
        .handler("finalize", ("", "v1", "Namespace"), &[Verb::Update])
        .selectable("status.phase", |namespace| Some(phase(namespace).to_owned()))
        .column("Status", "string", "Whether the namespace is active or going away.", |namespace, _| {
            json!(phase(namespace))
        })
        .age()
        .build()
}

/// Whether the contents are still to be removed.
fn is_held(namespace: &Namespace) -> bool {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref()).is_some_and(|held| !held.is_empty())
}

fn terminate(namespace: &mut Namespace) {
    namespace.status.get_or_insert_default().phase = Some("Terminating".into());
}

fn phase(namespace: &Namespace) -> &str {
    namespace.status.as_ref().map_or("", |status| text(&status.phase))
}

fn label_with_name(namespace: &mut Namespace) {
    if let Some(name) = namespace.metadata.name.as_ref().filter(|name| !name.is_empty()) {
        let labels = namespace.metadata.labels.get_or_insert_default();
        if labels.get(NAME_LABEL) != Some(name) {
            labels.insert(NAME_LABEL.into(), name.clone());
        }
    }
}

fn prepare_create(namespace: &mut Namespace) {
    label_with_name(namespace);
    namespace.status = Some(NamespaceStatus { phase: Some("Active".into()), ..Default::default() });
    let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
}

fn prepare_update(new: &mut Namespace, old: &Namespace) {
    new.spec.clone_from(&old.spec);
    new.status.clone_from(&old.status);
}

fn validate(namespace: &Namespace) -> ErrorList {
    let mut errors = ErrorList::new();
    let finalizers = namespace.spec.as_ref().map_or(&[][..], |spec| items(&spec.finalizers));
    let path = FieldPath::new("spec");
    let path = path.child("finalizers");
    for finalizer in finalizers {
        if finalizer != FINALIZER {
            checks::qualified(finalizer, &path, &mut errors);
            check_finalizer_qualified(finalizer, &path, &mut errors);
        }
    }
    errors
}

fn validate_status(new: &Namespace, _old: &Namespace) -> ErrorList {
    let mut errors = ErrorList::new();
    let status = FieldPath::new("status");
    let deleted = new.metadata.deletion_timestamp.is_some();
    match (deleted, phase(new)) {
        (false, "Active") | (true, "Terminating") => {}
        (false, phase) => errors.push(FieldError::invalid(
            &status.child("Phase"),
            phase,
            "may only be 'Active' if `deletionTimestamp` is empty",
        )),
        (true, phase) => errors.push(FieldError::invalid(
            &status.child("Phase"),
            phase,
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        )),
    }
    errors
}
