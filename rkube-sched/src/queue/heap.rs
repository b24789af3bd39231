//! A heap whose items can be found by UID, changed and removed.

use std::{cmp::Ordering, collections::HashMap};

use foldhash::fast::FixedState;

use super::QueuedPod;
use crate::snapshot::Uid;

/// The order of a heap: the least comes out first.
pub(super) type Order<'a> = &'a dyn Fn(&QueuedPod, &QueuedPod) -> Ordering;

/// A binary heap. The order is passed to each call, because it belongs to the profile; it must be the
/// same in all.
#[derive(Debug, Default)]
pub(super) struct Heap {
    items: Vec<QueuedPod>,
    places: HashMap<Uid, usize, FixedState>,
}

impl Heap {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn peek(&self) -> Option<&QueuedPod> {
        self.items.first()
    }

    pub(super) fn get(&self, uid: &str) -> Option<&QueuedPod> {
        self.places.get(uid).map(|&place| &self.items[place])
    }

    pub(super) fn push(&mut self, item: QueuedPod, order: Order<'_>) {
        self.remove(&item.info.uid.clone(), order);
        self.places.insert(item.info.uid.clone(), self.items.len());
        self.items.push(item);
        self.rise(self.items.len() - 1, order);
    }

    pub(super) fn pop(&mut self, order: Order<'_>) -> Option<QueuedPod> {
        (!self.items.is_empty()).then(|| self.take(0, order))
    }

    pub(super) fn remove(&mut self, uid: &str, order: Order<'_>) -> Option<QueuedPod> {
        let place = *self.places.get(uid)?;
        Some(self.take(place, order))
    }

    fn take(&mut self, place: usize, order: Order<'_>) -> QueuedPod {
        let item = self.items.swap_remove(place);
        self.places.remove(&item.info.uid);
        if place < self.items.len() {
            self.places.insert(self.items[place].info.uid.clone(), place);
            let place = self.rise(place, order);
            self.sink(place, order);
        }
        item
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.items.swap(a, b);
        for place in [a, b] {
            if let Some(known) = self.places.get_mut(&self.items[place].info.uid) {
                *known = place;
            }
        }
    }

    fn rise(&mut self, mut place: usize, order: Order<'_>) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if order(&self.items[place], &self.items[parent]) != Ordering::Less {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
        place
    }

    fn sink(&mut self, mut place: usize, order: Order<'_>) {
        loop {
            let children = 2 * place + 1..(2 * place + 3).min(self.items.len());
            let Some(least) = children.min_by(|&a, &b| order(&self.items[a], &self.items[b])) else { break };
            if order(&self.items[least], &self.items[place]) != Ordering::Less {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }
}
