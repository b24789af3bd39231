//! What an informer knows: objects by key, and by the values of indexes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use parking_lot::RwLock;

use super::{ObjectKey, informer::contained};
use crate::object::Kind;

/// How many changes are remembered, where any are.
const MOST_CHANGES: usize = 4096;

type IndexFn<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

struct Index<K> {
    name: &'static str,
    values: IndexFn<K>,
    keys: BTreeMap<String, BTreeSet<ObjectKey>>,
}

struct State<K> {
    objects: BTreeMap<String, BTreeMap<String, Arc<K>>>,
    count: usize,
    indexes: Vec<Index<K>>,
    version: u64,
    /// What the last versions changed, the newest last, if that is remembered.
    changes: Option<VecDeque<ObjectKey>>,
}

/// Objects of a kind, most often those of an informer, which alone changes them then; clones share them.
/// Lists come in the order of their keys.
pub struct Cache<K>(Arc<RwLock<State<K>>>);

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> std::fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} objects)", self.0.read().count)
    }
}

impl<K: Kind> Index<K> {
    /// What the user's function gives; nothing if it panics.
    fn values_of(&self, object: &K) -> Vec<String> {
        contained(K::KIND, || (self.values)(object))
    }

    fn insert(&mut self, key: &ObjectKey, object: &K) {
        for value in self.values_of(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &ObjectKey, object: &K) {
        for value in self.values_of(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

impl<K> State<K> {
    fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.objects.get(namespace)?.get(name)
    }

    fn note_change(&mut self, key: &ObjectKey) {
        self.version += 1;
        let Some(changes) = &mut self.changes else { return };
        if changes.len() == MOST_CHANGES {
            changes.pop_front();
        }
        changes.push_back(key.clone());
    }
}

impl<K: Kind> Default for Cache<K> {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(State {
            objects: BTreeMap::new(),
            count: 0,
            indexes: Vec::new(),
            version: 0,
            changes: None,
        })))
    }
}

impl<K: Kind> Cache<K> {
    /// The object of this key. The namespace of cluster-scoped objects is empty.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.read().get(namespace, name).cloned()
    }

    /// The object of this key.
    pub fn get_key(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.get(&key.namespace, &key.name)
    }

    /// All objects.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.read().objects.values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// The objects of one namespace.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.0.read().objects.get(namespace).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.0.read().count
    }

    /// A number that grows with every change: what was derived from the objects at one version still holds
    /// at the same one.
    pub fn version(&self) -> u64 {
        self.0.read().version
    }

    /// Remembers from now on, for a while, which objects change: see [`Cache::changes_since`].
    pub fn remember_changes(&self) {
        self.0.write().changes.get_or_insert_default();
    }

    /// The version, and the keys of the objects that came, went or changed after an earlier one, oldest first, each
    /// as often as it did. `None` instead of the keys: that is too long ago, or changes are not
    /// [remembered](Cache::remember_changes).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use k8s_openapi::api::core::v1::Service;
    /// # use rkube_api::client::{Cache, ObjectKey};
    /// let cache = Cache::<Service>::default();
    /// cache.remember_changes();
    /// cache.insert(Arc::new(Service::default()));
    /// assert_eq!(cache.changes_since(0), (1, Some(vec![ObjectKey::new("", "")])));
    /// assert_eq!(cache.changes_since(1), (1, Some(vec![])));
    /// ```
    pub fn changes_since(&self, version: u64) -> (u64, Option<Vec<ObjectKey>>) {
        let state = self.0.read();
        let kept = state.changes.as_ref();
        let changes = kept.and_then(|changes| {
            let count = usize::try_from(state.version.checked_sub(version)?).ok()?;
            let from = changes.len().checked_sub(count)?;
            Some(changes.range(from..).cloned().collect())
        });
        (state.version, changes)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps, from now on, the objects by the values that `values` gives. A second index of the same
    /// name is ignored, so that components which share an informer may each ask for it.
    pub fn add_index(&self, name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        let state = &mut *self.0.write();
        if state.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, values: Box::new(values), keys: BTreeMap::new() };
        for object in state.objects.values().flat_map(BTreeMap::values) {
            index.insert(&ObjectKey::of(&**object), object);
        }
        state.indexes.push(index);
    }

    /// The objects for which the index `name` gave `value`; none if there is no such index.
    pub fn by_index(&self, name: &'static str, value: &str) -> Vec<Arc<K>> {
        let state = self.0.read();
        let Some(keys) =
            state.indexes.iter().find(|index| index.name == name).and_then(|index| index.keys.get(value))
        else {
            return Vec::new();
        };
        keys.iter().filter_map(|key| state.get(&key.namespace, &key.name)).cloned().collect()
    }

    /// How many objects [`Cache::by_index`] would give.
    pub fn count_by_index(&self, name: &'static str, value: &str) -> usize {
        let state = self.0.read();
        let keys = state.indexes.iter().find(|index| index.name == name);
        keys.and_then(|index| index.keys.get(value)).map_or(0, BTreeSet::len)
    }

    /// Puts an object in; gives the one it replaces. For caches that no informer keeps (a what-if run, a
    /// test): an informer undoes it at its next list.
    pub fn insert(&self, object: Arc<K>) -> Option<Arc<K>> {
        let key = ObjectKey::of(&*object);
        let state = &mut *self.0.write();
        let old =
            state.objects.entry(key.namespace.clone()).or_default().insert(key.name.clone(), object.clone());
        state.count += usize::from(old.is_none());
        state.note_change(&key);
        for index in &mut state.indexes {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &object);
        }
        old
    }

    /// Takes an object out, of a cache that no informer keeps.
    pub fn remove(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let state = &mut *self.0.write();
        let names = state.objects.get_mut(&key.namespace)?;
        let old = names.remove(&key.name)?;
        if names.is_empty() {
            state.objects.remove(&key.namespace);
        }
        state.count -= 1;
        state.note_change(key);
        for index in &mut state.indexes {
            index.remove(key, &old);
        }
        Some(old)
    }

    /// The keys of all objects.
    pub(super) fn keys(&self) -> BTreeSet<ObjectKey> {
        let state = self.0.read();
        let keys = state.objects.iter().flat_map(|(namespace, names)| {
            names.keys().map(move |name| ObjectKey::new(namespace.clone(), name.clone()))
        });
        keys.collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
    use proptest::prelude::*;

    use super::*;

    fn pod(namespace: u8, name: u8, label: u8) -> Arc<Pod> {
        Arc::new(Pod {
            metadata: ObjectMeta {
                namespace: Some(format!("ns{namespace}")),
                name: Some(format!("p{name}")),
                labels: Some([("l".to_owned(), label.to_string())].into()),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        })
    }

    fn label(pod: &Pod) -> Vec<String> {
        pod.metadata.labels.iter().flat_map(|labels| labels.values().cloned()).collect()
    }

    proptest! {
        #[test]
        fn indexes_agree_with_a_scan(steps in prop::collection::vec((0..3u8, 0..5u8, 0..4u8, any::<bool>()), 0..60)) {
            let cache = Cache::<Pod>::default();
            cache.add_index("early", label);
            cache.remember_changes();
            let mut model = BTreeMap::new();
            for (namespace, name, value, insert) in steps {
                let object = pod(namespace, name, value);
                let key = ObjectKey::of(&*object);
                let (version, changes) = (cache.version(), insert || model.contains_key(&key));
                let changed = changes.then(|| key.clone());
                if insert {
                    prop_assert_eq!(cache.insert(object.clone()), model.insert(key, object));
                } else {
                    prop_assert_eq!(cache.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(cache.version() > version, changes);
                let keys = Some(changed.into_iter().collect());
                prop_assert_eq!(cache.changes_since(version), (cache.version(), keys));
            }
            cache.add_index("late", label);
            prop_assert_eq!(cache.list(), model.values().cloned().collect::<Vec<_>>());
            prop_assert_eq!(cache.len(), model.len());
            for value in 0..4u8 {
                let value = value.to_string();
                let scan: Vec<_> =
                    model.values().filter(|pod| label(pod).contains(&value)).cloned().collect();
                prop_assert_eq!(&cache.by_index("early", &value), &scan);
                prop_assert_eq!(&cache.by_index("late", &value), &scan);
            }
        }
    }

    #[test]
    fn changes_are_remembered_for_a_while() {
        let cache = Cache::<Pod>::default();
        assert_eq!(cache.changes_since(0), (0, None));
        cache.insert(pod(0, 0, 0));
        cache.remember_changes();
        assert_eq!(cache.changes_since(0), (1, None), "that was before");
        for _ in 0..MOST_CHANGES {
            cache.insert(pod(0, 1, 0));
        }
        let last = 1 + MOST_CHANGES as u64;
        assert_eq!(cache.changes_since(1).1.map(|keys| keys.len()), Some(MOST_CHANGES));
        cache.insert(pod(0, 1, 0));
        assert_eq!(cache.changes_since(1), (last + 1, None));
        assert_eq!(cache.changes_since(last).1.map(|keys| keys.len()), Some(1));
    }
}
