//! Which changes a controller cares about. A predicate is any function of a [`Change`]; these are the
//! common ones.
//!
//! ```
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use rkube_api::client::Change;
//! use rkube_controllers::runtime::predicate;
//!
//! let created = Change::Added(std::sync::Arc::new(ConfigMap::default()));
//! let either = predicate::any(predicate::generation_changed(), predicate::labels_changed());
//! assert!(either(&created));
//! ```

use rkube_api::{client::Change, meta::LabelSelector, object::Kind};

/// The spec has changed (as `metadata.generation` tells), or the object is new or gone.
pub fn generation_changed<K: Kind>() -> impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static {
    differs(|object: &K| object.metadata().generation)
}

/// Anything at all has changed: not a resync of what is known.
pub fn version_changed<K: Kind>() -> impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static {
    differs(|object: &K| object.metadata().resource_version.clone())
}

/// The labels have changed, or the object is new or gone.
pub fn labels_changed<K: Kind>() -> impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static {
    differs(|object: &K| object.metadata().labels.clone())
}

/// The annotations have changed, or the object is new or gone.
pub fn annotations_changed<K: Kind>() -> impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static {
    differs(|object: &K| object.metadata().annotations.clone())
}

/// What `part` takes from the object has changed, or the object is new or gone.
pub fn differs<K: Kind, P: PartialEq>(
    part: impl Fn(&K) -> P + Send + Sync + Clone + 'static,
) -> impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static {
    move |change| match change {
        Change::Updated { old, new } => part(old) != part(new),
        Change::Added(_) | Change::Deleted(_) => true,
    }
}

/// The object's labels match, now or before the change.
pub fn labelled<K: Kind>(
    selector: LabelSelector,
) -> impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static {
    move |change| {
        let matches = |object: &K| selector.matches_opt(object.metadata().labels.as_ref());
        match change {
            Change::Updated { old, new } => matches(old) || matches(new),
            Change::Added(object) | Change::Deleted(object) => matches(object),
        }
    }
}

/// The object is gone.
pub fn deleted<K: Kind>() -> impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static {
    |change| matches!(change, Change::Deleted(_))
}

/// Either predicate holds.
pub fn any<K: Kind>(
    a: impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static,
    b: impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static,
) -> impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static {
    move |change| a(change) || b(change)
}

/// Both predicates hold.
pub fn all<K: Kind>(
    a: impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static,
    b: impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static,
) -> impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static {
    move |change| a(change) && b(change)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn map(generation: i64, label: &str) -> Arc<ConfigMap> {
        let mut map = ConfigMap::default();
        map.metadata.generation = Some(generation);
        map.metadata.labels = Some([("app".to_owned(), label.to_owned())].into());
        Arc::new(map)
    }

    #[test]
    fn an_update_passes_if_the_part_differs() {
        let update = |a, b| Change::Updated { old: a, new: b };
        assert!(generation_changed()(&update(map(1, "a"), map(2, "a"))));
        assert!(!generation_changed()(&update(map(1, "a"), map(1, "b"))));
        assert!(labels_changed()(&update(map(1, "a"), map(1, "b"))));
        let selector = LabelSelector::parse("app=b").unwrap();
        assert!(labelled(selector.clone())(&update(map(1, "b"), map(1, "a"))));
        assert!(!all(labelled(selector), deleted())(&update(map(1, "b"), map(1, "a"))));
        assert!(deleted()(&Change::Deleted(map(1, "a"))));
    }
}
