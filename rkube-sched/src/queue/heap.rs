//! A heap whose items can be found by UID, changed and removed.

use std::{cmp::Ordering, collections::HashMap};

use foldhash::fast::FixedState;

use super::QueuedPod;
use crate::snapshot::Uid;

/// The order of a heap: the least comes out first.
pub(super) type Order<'a> = &'a dyn Fn(&QueuedPod, &QueuedPod) -> Ordering;

/// A pod, and where its number is in the heap.
#[derive(Debug)]
struct Item {
    pod: QueuedPod,
    place: usize,
}

/// A binary heap. The order is passed to each call, because it belongs to the profile; it must be the
/// same in all.
#[derive(Debug, Default)]
pub(super) struct Heap {
    /// By number: pods keep theirs while they move up and down, so that a move costs neither a copy of the pod nor
    /// a search for its UID.
    items: Vec<Option<Item>>,
    free: Vec<u32>,
    numbers: HashMap<Uid, u32, FixedState>,
    /// The numbers, heaped.
    order: Vec<u32>,
}

impl Heap {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn peek(&self) -> Option<&QueuedPod> {
        self.at(0)
    }

    pub(super) fn get(&self, uid: &str) -> Option<&QueuedPod> {
        self.item(*self.numbers.get(uid)?).map(|item| &item.pod)
    }

    pub(super) fn uids(&self) -> impl Iterator<Item = &Uid> {
        self.numbers.keys()
    }

    fn item(&self, number: u32) -> Option<&Item> {
        self.items.get(number as usize)?.as_ref()
    }

    fn at(&self, place: usize) -> Option<&QueuedPod> {
        self.item(*self.order.get(place)?).map(|item| &item.pod)
    }

    pub(super) fn push(&mut self, pod: QueuedPod, order: Order<'_>) {
        self.remove(&pod.info.uid.clone(), order);
        let (uid, place) = (pod.info.uid.clone(), self.order.len());
        let item = Some(Item { pod, place });
        let number = match self.free.pop() {
            Some(number) => {
                self.items[number as usize] = item;
                number
            }
            None => {
                self.items.push(item);
                (self.items.len() - 1) as u32
            }
        };
        self.numbers.insert(uid, number);
        self.order.push(number);
        self.rise(place, order);
    }

    pub(super) fn pop(&mut self, order: Order<'_>) -> Option<QueuedPod> {
        self.take(0, order)
    }

    pub(super) fn remove(&mut self, uid: &str, order: Order<'_>) -> Option<QueuedPod> {
        let place = self.item(*self.numbers.get(uid)?)?.place;
        self.take(place, order)
    }

    fn take(&mut self, place: usize, order: Order<'_>) -> Option<QueuedPod> {
        let number = *self.order.get(place)?;
        let Item { pod, .. } = self.items.get_mut(number as usize)?.take()?;
        self.order.swap_remove(place);
        self.numbers.remove(&pod.info.uid);
        self.free.push(number);
        if place < self.order.len() {
            self.settle(place);
            let place = self.rise(place, order);
            self.sink(place, order);
        }
        Some(pod)
    }

    /// Notes what is at a place now.
    fn settle(&mut self, place: usize) {
        if let Some(Some(item)) = self.items.get_mut(self.order[place] as usize) {
            item.place = place;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.order.swap(a, b);
        self.settle(a);
        self.settle(b);
    }

    fn is_before(&self, a: usize, b: usize, order: Order<'_>) -> bool {
        self.at(a).zip(self.at(b)).is_some_and(|(a, b)| order(a, b) == Ordering::Less)
    }

    fn rise(&mut self, mut place: usize, order: Order<'_>) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.is_before(place, parent, order) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
        place
    }

    fn sink(&mut self, mut place: usize, order: Order<'_>) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            if left >= self.order.len() {
                break;
            }
            let least =
                if right < self.order.len() && self.is_before(right, left, order) { right } else { left };
            if !self.is_before(least, place, order) {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }
}
