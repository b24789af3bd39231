//! Whether a volume is protected, as a pure function.

use k8s_openapi::api::core::v1::PersistentVolume;
use rkube_api::helpers::volumes::{VOLUME_PROTECTION, volume_phase};

/// The volume with its finalizer added or taken off; `None` if it is right as it is.
pub fn plan(volume: &PersistentVolume) -> Option<PersistentVolume> {
    let finalizers = volume.metadata.finalizers.as_deref().unwrap_or_default();
    let protected = finalizers.iter().any(|finalizer| finalizer == VOLUME_PROTECTION);
    let going = volume.metadata.deletion_timestamp.is_some();
    let mut changed = volume.clone();
    let finalizers = changed.metadata.finalizers.get_or_insert_default();
    if !going && !protected {
        finalizers.push(VOLUME_PROTECTION.into());
    } else if going && protected && volume_phase(volume) != "Bound" {
        finalizers.retain(|finalizer| finalizer != VOLUME_PROTECTION);
    } else {
        return None;
    }
    Some(changed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_volume_goes_when_it_is_not_bound() {
        let finalizers = |deleted: bool, protected: bool, phase: &str| {
            let time = if deleted { json!("2026-01-01T00:00:00Z") } else { Value::Null };
            let finalizers = if protected { json!([VOLUME_PROTECTION]) } else { json!([]) };
            let meta = json!({"name": "v", "deletionTimestamp": time, "finalizers": finalizers});
            let volume = from_value(json!({"metadata": meta, "status": {"phase": phase}})).unwrap();
            plan(&volume).map(|changed| changed.metadata.finalizers.unwrap().len())
        };
        assert_eq!(finalizers(false, false, "Available"), Some(1));
        assert_eq!(finalizers(false, true, "Available"), None);
        assert_eq!(finalizers(true, true, "Bound"), None);
        assert_eq!(finalizers(true, true, "Released"), Some(0));
        assert_eq!(finalizers(true, false, "Bound"), None);
    }
}
