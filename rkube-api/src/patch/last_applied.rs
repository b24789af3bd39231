//! The way from client-side to server-side apply. kubectl's client-side apply kept its last configuration in
//! an annotation; what still is as it says is kubectl's to take over without a conflict, and the annotation
//! follows what kubectl applies on the server, so that the way back stays open.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply>

use serde_json::Value;

use super::{FieldSet, compare};
use crate::fields::SchemaRef;

/// The manager to which this applies. Who names another one opts out.
pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations of an object together may have this many bytes.
const LONGEST: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The fields that the last configuration set and that still are as it set them.
pub(super) fn standing(live: &Value, api_version: &str, schema: SchemaRef<'_>) -> FieldSet {
    let last = annotation(live).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(last) = last.filter(|last| last.get("apiVersion").is_some_and(|found| found == api_version))
    else {
        return FieldSet::default();
    };
    let changes = compare(&last, live, schema);
    let set = FieldSet::of(&last, schema);
    set.difference(&changes.modified).difference(&changes.added).difference(&changes.removed)
}

/// Makes the annotation, if there is one, say what was applied.
pub(super) fn follow(object: &mut Value, config: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    let text = Some(format!("{config}\n")).filter(|text| text.len() <= LONGEST).unwrap_or_default();
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(ANNOTATION.into(), text.into());
    }
}
