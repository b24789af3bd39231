//! Objects that the scheduler has changed and that the API does not show so yet.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use rkube_api::{
    client::{Cache, ObjectKey},
    object::Kind,
};

/// A cache with decisions laid over it. A decision counts until the API shows something newer.
#[derive(Debug)]
pub(super) struct Assumed<K> {
    shown: Cache<K>,
    ahead: Mutex<BTreeMap<ObjectKey, Arc<K>>>,
}

/// How new an object is; 0 outside of any API.
pub(super) fn version(object: &impl Kind) -> u64 {
    let version = object.metadata().resource_version.as_deref();
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl<K: Kind> Assumed<K> {
    pub(super) fn over(shown: Cache<K>) -> Self {
        Self { shown, ahead: Mutex::default() }
    }

    /// What the API shows.
    pub(super) fn shown(&self) -> &Cache<K> {
        &self.shown
    }

    /// The object as it will be.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.shown.get(namespace, name).map(|shown| self.newest(shown))
    }

    /// What was decided of the object, if the API does not show it yet, else the object.
    pub(super) fn newest(&self, shown: Arc<K>) -> Arc<K> {
        let mut ahead = self.ahead.lock();
        if ahead.is_empty() {
            return shown;
        }
        let key = ObjectKey::of(&*shown);
        match ahead.get(&key) {
            Some(decided) if version(&*decided.clone()) >= version(&*shown) => decided.clone(),
            Some(_) => {
                ahead.remove(&key);
                shown
            }
            None => shown,
        }
    }

    /// Decides: it is so from now on.
    pub(super) fn assume(&self, decided: Arc<K>) {
        self.ahead.lock().insert(ObjectKey::of(&*decided), decided);
    }

    /// Takes a decision back.
    pub(super) fn revert(&self, key: &ObjectKey) {
        self.ahead.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolume;
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_decision_counts_until_there_is_newer_news() {
        let volume = |version: &str, class: &str| -> Arc<PersistentVolume> {
            let meta = json!({"name": "v", "resourceVersion": version});
            Arc::new(from_value(json!({"metadata": meta, "spec": {"storageClassName": class}})).unwrap())
        };
        let assumed = Assumed::<PersistentVolume>::over(Cache::default());
        let class = || assumed.get("", "v").and_then(|volume| volume.spec.clone()?.storage_class_name);
        assumed.assume(volume("9", "mine"));
        assert_eq!(class(), None, "it is gone");
        assumed.shown().insert(volume("9", "theirs"));
        assert_eq!(class().as_deref(), Some("mine"));
        assumed.shown().insert(volume("10", "theirs"));
        assert_eq!(class().as_deref(), Some("theirs"), "numbers, not texts");
        assumed.shown().insert(volume("9", "old"));
        assert_eq!(class().as_deref(), Some("old"), "the decision is forgotten");
        assumed.assume(volume("9", "mine"));
        assumed.revert(&ObjectKey::new("", "v"));
        assert_eq!(class().as_deref(), Some("old"));
    }
}
