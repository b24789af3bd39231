//! VolumeAttachment: a volume that is to be, or is, attached to a node.
//! Semantics: <https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume-attachment-v1/>

use k8s_openapi::{api::storage::v1::VolumeAttachment, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::json;

use crate::{
    kinds::shared::{
        checks, semantic, text,
        volumes::{self, driver_name},
    },
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

const MOST_BYTES: usize = 256 * 1024;

/// The definition of VolumeAttachment.
pub fn definition() -> Definition {
    Definition::of::<VolumeAttachment>()
        .cluster()
        .returns_deleted()
        .unconditional_update(false)
        .prepare_create(|new| new.status = None)
        .prepare_update(|new, old| new.status.clone_from(&old.status))
        .validate(validate)
        .validate_update(validate_update)
        .status(keep_all_but_status, |new, _| validate(new))
        .column("Attacher", "string", "Who attaches it.", |attachment, _| json!(attachment.spec.attacher))
        .column("PV", "string", "The volume.", |attachment, _| {
            json!(text(&attachment.spec.source.persistent_volume_name))
        })
        .column("Node", "string", "The node.", |attachment, _| json!(attachment.spec.node_name))
        .column("Attached", "boolean", "Whether it is.", |attachment, _| {
            json!(attachment.status.as_ref().is_some_and(|status| status.attached))
        })
        .age()
        .build()
}

/// A status write changes the status alone, not even labels or finalizers.
fn keep_all_but_status(new: &mut VolumeAttachment, old: &VolumeAttachment) {
    new.spec.clone_from(&old.spec);
    let was = &old.metadata;
    new.metadata = ObjectMeta {
        labels: was.labels.clone(),
        annotations: was.annotations.clone(),
        finalizers: was.finalizers.clone(),
        owner_references: was.owner_references.clone(),
        deletion_timestamp: was.deletion_timestamp.clone(),
        ..std::mem::take(&mut new.metadata)
    };
}

fn validate(attachment: &VolumeAttachment) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (&attachment.spec, FieldPath::new("spec"));
    driver_name(&spec.attacher, &path.child("attacher"), &mut errors);
    let source = path.child("source");
    let both = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&spec.source.inline_volume_spec, &spec.source.persistent_volume_name) {
        (None, None) => errors.push(FieldError::required(&source, both)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(&source, both)),
        (None, Some(name)) if name.is_empty() => {
            let detail = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required(&source.child("persistentVolumeName"), detail));
        }
        (None, Some(name)) => checks::subdomain(name, &source.child("persistentVolumeName"), &mut errors),
        (Some(inline), None) => {
            volumes::validate(inline, true, &source.child("inlineVolumeSpec"), &mut errors);
        }
    }
    checks::subdomain(&spec.node_name, &path.child("nodeName"), &mut errors);
    let Some(status) = &attachment.status else { return errors };
    let path = FieldPath::new("status");
    let metadata = status.attachment_metadata.iter().flatten();
    if metadata.map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_BYTES {
        errors.push(FieldError::too_long(&path.child("attachmentMetadata"), MOST_BYTES));
    }
    errors
}

fn validate_update(new: &VolumeAttachment, old: &VolumeAttachment) -> ErrorList {
    let mut errors = ErrorList::new();
    if !semantic::equal(&new.spec, &old.spec) {
        errors.push(FieldError::invalid(&FieldPath::new("spec"), &new.spec, "field is immutable"));
    }
    errors
}
