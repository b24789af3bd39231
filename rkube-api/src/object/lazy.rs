//! managedFields that are computed when somebody asks.

use std::sync::{Arc, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use parking_lot::Mutex;

use super::{Body, Object};
use crate::codec::length;

pub(super) type Compute = Box<dyn Fn(&dyn Body) -> Vec<ManagedFieldsEntry> + Send + Sync>;

/// The entries of an object, or how to get them.
pub(super) struct LazyManaged {
    /// Taken when it has run, so that what it holds (an earlier state of the object) is let go.
    compute: Mutex<Option<Compute>>,
    entries: OnceLock<Vec<ManagedFieldsEntry>>,
    /// How long the entries are as JSON, once they are known.
    length: OnceLock<usize>,
    /// How long those are at most that the computation starts from.
    start: usize,
    /// How many computations are waiting: this one, and those of the states that it holds.
    depth: usize,
    /// What the states that it holds weigh.
    held: usize,
}

/// An object holds so many earlier states of itself at most; then their managedFields are computed.
const DEEPEST: usize = 4;

/// How often a write's entry is longer than the object that it is about, at most. The shortest field,
/// `"a":1,`, makes half as much more of itself as `"f:a":{},`; worst is a list of keyed numbers: `1,` makes
/// `"v:1":{},`.
const LONGER: usize = 8;
/// How long an entry is without its fields, at most: the names in it are bounded.
const ENTRY: usize = 2048;

impl LazyManaged {
    /// To be computed from nothing but the object and entries of a length.
    pub(super) fn new(compute: Compute, start: usize) -> Arc<Self> {
        Self::pending(compute, start, 1, 0)
    }

    /// To be computed from the state before, too.
    pub(super) fn after(before: &Object, start: usize, compute: Compute) -> Arc<Self> {
        let pending = before.managed.as_ref().filter(|lazy| lazy.is_pending());
        let (depth, held) = match pending {
            Some(lazy) if lazy.depth < DEEPEST => (lazy.depth + 1, lazy.held),
            Some(_) => {
                before.managed_fields();
                (1, 0)
            }
            None => (1, 0),
        };
        let start = start.saturating_add(before.managed_bound());
        Self::pending(compute, start, depth, held + before.body.weight())
    }

    fn pending(compute: Compute, start: usize, depth: usize, held: usize) -> Arc<Self> {
        let (compute, entries, length) = (Mutex::new(Some(compute)), OnceLock::new(), OnceLock::new());
        Arc::new(Self { compute, entries, length, start, depth, held })
    }

    /// Known already.
    pub(super) fn known(entries: Vec<ManagedFieldsEntry>) -> Arc<Self> {
        let (compute, entries, length) = (Mutex::new(None), OnceLock::from(entries), OnceLock::new());
        Arc::new(Self { compute, entries, length, start: 0, depth: 0, held: 0 })
    }

    pub(super) fn entries(&self, body: &dyn Body) -> &[ManagedFieldsEntry] {
        self.entries.get_or_init(|| {
            let compute = self.compute.lock().take();
            compute.map_or_else(Vec::new, |compute| compute(body))
        })
    }

    fn is_pending(&self) -> bool {
        self.entries.get().is_none()
    }

    /// How long the entries are as JSON; they are computed if they were not.
    pub(super) fn length(&self, body: &dyn Body) -> usize {
        let entries = self.entries(body);
        *self.length.get_or_init(|| of_entries(entries))
    }

    /// No less than [`LazyManaged::length`], from the length of the body: nothing is computed.
    pub(super) fn bound(&self, body: usize) -> usize {
        match self.entries.get() {
            Some(entries) => *self.length.get_or_init(|| of_entries(entries)),
            None => body.saturating_mul(LONGER).saturating_add(ENTRY).saturating_add(self.start),
        }
    }

    /// What the earlier states that it needs weigh.
    pub(super) fn held(&self) -> usize {
        if self.is_pending() { self.held } else { 0 }
    }
}

/// How long entries are within an object's metadata.
pub(super) fn of_entries(entries: &[ManagedFieldsEntry]) -> usize {
    if entries.is_empty() {
        return 0;
    }
    // What is no JSON is beyond any bound, so that whoever encodes it is told why.
    length::of(entries).map_or(usize::MAX, |bytes| bytes.saturating_add(r#""managedFields":,"#.len()))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        fields::schema_of,
        patch::managed::{self, Writer},
    };

    /// A pod that is dense in what makes long entries: short keys, sets, keyed lists.
    fn pod() -> impl Strategy<Value = Value> {
        let texts = || prop::collection::btree_set("[a\"\\\\\u{1}é]{0,2}", 0..6);
        (texts(), texts(), texts(), prop::collection::btree_set(0..20u16, 0..6)).prop_map(
            |(finalizers, names, keys, ports)| {
                let ports: Vec<_> =
                    ports.iter().map(|port| json!({"containerPort": port, "protocol": "TCP"})).collect();
                let containers: Vec<_> =
                    names.iter().map(|name| json!({"name": name, "ports": ports, "resources": {}})).collect();
                let labels: serde_json::Map<_, _> = keys.into_iter().map(|key| (key, "".into())).collect();
                json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"finalizers": finalizers, "labels": labels},
                    "spec": {"containers": containers},
                })
            },
        )
    }

    proptest! {
        #[test]
        fn an_entry_is_no_longer_than_its_bound(old in pod(), new in pod(), manager in "\u{1}{1,128}") {
            let schema = schema_of("io.k8s.api.core.v1.Pod").unwrap().root();
            let now = Timestamp::UNIX_EPOCH;
            let by = |manager| Writer { manager, api_version: "v1", subresource: "", now, ignored: None };
            let body = |value: &Value| length::of(value).unwrap();
            let before = managed::update(None, &old, Vec::new(), schema, &by("first"));
            let first = LazyManaged::new(Box::new(|_| Vec::new()), 0);
            prop_assert!(of_entries(&before) <= first.bound(body(&old)));
            let after = managed::update(Some(&old), &new, before.clone(), schema, &by(manager.as_str()));
            let second = LazyManaged::new(Box::new(|_| Vec::new()), of_entries(&before));
            prop_assert!(of_entries(&after) <= second.bound(body(&new)));
        }
    }
}
