use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use crate::{Key, Lease, LeaseId};

/// The leases and the keys bound to them. Times count from an origin that the holder chose.
pub(super) struct Leases {
    last: u64,
    by_id: BTreeMap<LeaseId, Granted>,
    deadlines: BTreeSet<(Duration, LeaseId)>,
}

struct Granted {
    time_to_live: Duration,
    deadline: Duration,
    keys: BTreeSet<Key>,
}

impl Granted {
    fn lease(&self, id: LeaseId, now: Duration) -> Lease {
        Lease { id, granted: self.time_to_live, remaining: self.deadline.saturating_sub(now) }
    }
}

/// How long a lease lives, and until when, from the holder's origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) time_to_live: Duration,
    pub(crate) deadline: Duration,
}

impl Leases {
    pub(super) fn all(&self) -> impl Iterator<Item = (LeaseId, Term)> {
        self.by_id.iter().map(|(id, granted)| {
            (*id, Term { time_to_live: granted.time_to_live, deadline: granted.deadline })
        })
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn skip(&mut self, to: u64) {
        self.last = self.last.max(to);
    }

    /// A lease of an earlier life, which may be there already.
    pub(super) fn restore(&mut self, id: LeaseId, term: Term) {
        self.last = self.last.max(id.0.get());
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.by_id.entry(id) {
            self.deadlines.insert((term.deadline, id));
            vacant.insert(Granted {
                time_to_live: term.time_to_live,
                deadline: term.deadline,
                keys: BTreeSet::new(),
            });
        }
    }

    pub(super) fn new() -> Self {
        Self { last: 0, by_id: BTreeMap::new(), deadlines: BTreeSet::new() }
    }

    pub(super) fn grant(&mut self, time_to_live: Duration, now: Duration) -> Lease {
        self.last += 1;
        let id = LeaseId(NonZeroU64::new(self.last).unwrap_or(NonZeroU64::MIN));
        let granted =
            Granted { time_to_live, deadline: now.saturating_add(time_to_live), keys: BTreeSet::new() };
        let lease = granted.lease(id, now);
        self.deadlines.insert((granted.deadline, id));
        self.by_id.insert(id, granted);
        lease
    }

    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Option<Lease> {
        let granted = self.by_id.get_mut(&id)?;
        self.deadlines.remove(&(granted.deadline, id));
        granted.deadline = now.saturating_add(granted.time_to_live);
        self.deadlines.insert((granted.deadline, id));
        Some(granted.lease(id, now))
    }

    pub(super) fn get(&self, id: LeaseId, now: Duration) -> Option<Lease> {
        self.by_id.get(&id).map(|granted| granted.lease(id, now))
    }

    pub(super) fn exists(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The keys bound to a lease, in order.
    pub(super) fn keys(&self, id: LeaseId) -> Option<impl Iterator<Item = &Key>> {
        self.by_id.get(&id).map(|granted| granted.keys.iter())
    }

    pub(super) fn bind(&mut self, id: LeaseId, key: &Key) {
        if let Some(granted) = self.by_id.get_mut(&id) {
            granted.keys.insert(key.clone());
        }
    }

    pub(super) fn unbind(&mut self, id: LeaseId, key: &Key) {
        if let Some(granted) = self.by_id.get_mut(&id) {
            granted.keys.remove(key);
        }
    }

    pub(super) fn end(&mut self, id: LeaseId) {
        if let Some(granted) = self.by_id.remove(&id) {
            self.deadlines.remove(&(granted.deadline, id));
        }
    }

    /// The lease that ends next, and when.
    pub(super) fn next_end(&self) -> Option<(Duration, LeaseId)> {
        self.deadlines.first().copied()
    }
}
