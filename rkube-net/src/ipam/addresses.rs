//! The addresses of one node's pods.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use super::Cidr;

/// The network's own address and the gateway's.
const RESERVED: u64 = 2;

/// Gives out the addresses of a range, one an owner. Addresses that were never used come first, then
/// those that have been free for the longest time, so that nobody who still remembers an address talks
/// to its next owner. The network's address, the gateway's (the first) and, for IPv4, the broadcast
/// address are not given out.
///
/// ```
/// use rkube_net::ipam::AddressPool;
/// let mut pool = AddressPool::new("10.244.0.0/29".parse().unwrap());
/// let given: Vec<String> = ["a", "b"].iter().map(|uid| pool.allocate(uid).unwrap().to_string()).collect();
/// assert_eq!(given, ["10.244.0.2", "10.244.0.3"]);
/// pool.release("a");
/// assert_eq!(pool.allocate("c").unwrap().to_string(), "10.244.0.4");
/// ```
#[derive(Clone, Debug)]
pub struct AddressPool {
    range: Cidr,
    owners: BTreeMap<Arc<str>, u64>,
    held: BTreeMap<u64, Arc<str>>,
    /// Every offset from here on was never given out.
    fresh: u64,
    /// Given back, oldest first; all of them before `fresh`.
    freed: VecDeque<u64>,
}

impl AddressPool {
    /// All of a range's addresses, free.
    pub fn new(range: Cidr) -> Self {
        Self {
            range,
            owners: BTreeMap::new(),
            held: BTreeMap::new(),
            fresh: RESERVED,
            freed: VecDeque::new(),
        }
    }

    /// The range.
    pub fn range(&self) -> Cidr {
        self.range
    }

    /// How many addresses are taken.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is taken.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The last offset that may be given out.
    fn last(&self) -> u64 {
        let last = self.range.last_offset();
        let last = if self.range.is_v6() { last } else { last.saturating_sub(1) };
        // More than a node will ever need.
        u64::try_from(last).unwrap_or(u64::MAX - 1)
    }

    fn ip(&self, offset: u64) -> Option<IpAddr> {
        self.range.nth(u128::from(offset))
    }

    /// The owner's address: the one it has, or a new one. `None`: all are taken.
    pub fn allocate(&mut self, owner: &str) -> Option<IpAddr> {
        if let Some(offset) = self.owners.get(owner) {
            return self.ip(*offset);
        }
        let offset = self.next()?;
        self.hold(owner, offset);
        self.ip(offset)
    }

    fn next(&mut self) -> Option<u64> {
        while self.fresh <= self.last() {
            let offset = self.fresh;
            self.fresh += 1;
            if !self.held.contains_key(&offset) {
                return Some(offset);
            }
        }
        while let Some(offset) = self.freed.pop_front() {
            if !self.held.contains_key(&offset) {
                return Some(offset);
            }
        }
        None
    }

    fn hold(&mut self, owner: &str, offset: u64) {
        let owner: Arc<str> = owner.into();
        self.owners.insert(owner.clone(), offset);
        self.held.insert(offset, owner);
    }

    /// Notes that an owner has an address already. `false`: it is another's, or not of this range; nothing
    /// changes then.
    pub fn reserve(&mut self, owner: &str, ip: IpAddr) -> bool {
        let Some(offset) = self.range.offset_of(ip).and_then(|offset| u64::try_from(offset).ok()) else {
            return false;
        };
        match self.held.get(&offset) {
            Some(holder) => return **holder == *owner,
            None if offset > self.last() || offset < RESERVED => return false,
            None => {}
        }
        self.release(owner);
        self.hold(owner, offset);
        true
    }

    /// Takes an owner's address back; gives it if there was one.
    pub fn release(&mut self, owner: &str) -> Option<IpAddr> {
        let offset = self.owners.remove(owner)?;
        self.held.remove(&offset);
        if offset < self.fresh {
            self.freed.push_back(offset);
        }
        self.ip(offset)
    }
}
