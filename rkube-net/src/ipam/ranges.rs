//! The ranges of nodes out of the cluster's.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::Cidr;

/// At most so many ranges of nodes in one of the cluster: a bit each.
const MOST_BITS: u8 = 24;

/// Why a cluster's range cannot be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeSetError {
    /// Nodes would get more than there is, or less than one address.
    #[error("ranges of /{prefix} do not fit into {cidr}")]
    Prefix {
        /// The cluster's range.
        cidr: Cidr,
        /// The prefix of a node's range.
        prefix: u8,
    },
    /// There would be more than 2^24 of them.
    #[error("{cidr} has more ranges of /{prefix} than can be kept track of")]
    TooMany {
        /// The cluster's range.
        cidr: Cidr,
        /// The prefix of a node's range.
        prefix: u8,
    },
}

/// One range of the cluster, divided into equal parts that are free or taken.
#[derive(Clone, Debug)]
pub struct RangeSet {
    cidr: Cidr,
    prefix: u8,
    /// A bit a part: taken.
    taken: Vec<u64>,
    count: u64,
    /// Where the search goes on: a part that was given back is not given out again at once.
    next: u64,
}

impl RangeSet {
    /// All parts free.
    pub fn new(cidr: Cidr, prefix: u8) -> Result<Self, RangeSetError> {
        if cidr.subnet(prefix, 0).is_none() {
            return Err(RangeSetError::Prefix { cidr, prefix });
        }
        let bits = prefix - cidr.prefix();
        if bits > MOST_BITS {
            return Err(RangeSetError::TooMany { cidr, prefix });
        }
        let count = 1 << bits;
        Ok(Self {
            cidr,
            prefix,
            taken: vec![0; usize::try_from(count / 64 + 1).unwrap_or_default()],
            count,
            next: 0,
        })
    }

    /// How many parts there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn free_count(&self) -> u64 {
        let taken: u64 = self.taken.iter().map(|word| u64::from(word.count_ones())).sum();
        self.count.saturating_sub(taken)
    }

    fn place(index: u64) -> (usize, u64) {
        // Indexes are below 2^24.
        (usize::try_from(index / 64).unwrap_or(usize::MAX), 1 << (index % 64))
    }

    fn is_taken(&self, index: u64) -> bool {
        let (word, bit) = Self::place(index);
        self.taken.get(word).is_none_or(|word| word & bit != 0)
    }

    fn mark(&mut self, index: u64, taken: bool) {
        let (word, bit) = Self::place(index);
        if let Some(word) = self.taken.get_mut(word) {
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }

    /// The first free part from `from` on, before `to`.
    fn free(&self, from: u64, to: u64) -> Option<u64> {
        let mut index = from;
        while index < to {
            let (word, _) = Self::place(index);
            if index.is_multiple_of(64) && self.taken.get(word) == Some(&u64::MAX) {
                index += 64;
                continue;
            }
            if !self.is_taken(index) {
                return Some(index);
            }
            index += 1;
        }
        None
    }

    /// Takes a free part.
    pub fn allocate(&mut self) -> Option<Cidr> {
        let index = self.free(self.next, self.count).or_else(|| self.free(0, self.next))?;
        self.mark(index, true);
        self.next = (index + 1) % self.count;
        self.cidr.subnet(self.prefix, u128::from(index))
    }

    /// The parts that a range covers, fully or not.
    fn parts(&self, range: &Cidr) -> Option<std::ops::RangeInclusive<u64>> {
        if !self.cidr.overlaps(range) {
            return None;
        }
        if range.prefix() <= self.cidr.prefix() {
            return Some(0..=self.count - 1);
        }
        let prefix = range.prefix().min(self.prefix);
        let around = Cidr::around(range.first(), prefix)?;
        let width = self.prefix - prefix;
        let first = u64::try_from(self.cidr.index_of(&around)?).ok()? << width;
        Some(first..=first + ((1 << width) - 1))
    }

    /// Takes all parts that a range touches. `false`: it is not of this range.
    pub fn occupy(&mut self, range: &Cidr) -> bool {
        let Some(parts) = self.parts(range) else { return false };
        parts.for_each(|index| self.mark(index, true));
        true
    }

    /// Gives back all parts that a range touches. `false`: it is not of this range.
    pub fn release(&mut self, range: &Cidr) -> bool {
        let Some(parts) = self.parts(range) else { return false };
        parts.for_each(|index| self.mark(index, false));
        true
    }
}

/// One range of the cluster, and how large the part of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRange {
    /// The cluster's range.
    pub cidr: Cidr,
    /// The prefix of a node's range.
    pub node_prefix: u8,
}

/// The ranges from which nodes get theirs. The default is Kubernetes' usual one: 10.244.0.0/16 with a /24
/// for each of 256 nodes.
///
/// ```
/// use rkube_net::ipam::RangeConfig;
/// assert_eq!(RangeConfig::default().ranges[0].cidr.to_string(), "10.244.0.0/16");
/// let large = RangeConfig::for_nodes(100_000);
/// assert_eq!((large.ranges[0].cidr.to_string().as_str(), large.ranges[0].node_prefix), ("10.0.0.0/8", 25));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RangeConfig {
    /// One for each family; a node gets a part of each.
    pub ranges: Vec<ClusterRange>,
    /// Never given out though they lie in those: the addresses of services.
    pub excluded: Vec<Cidr>,
}

fn v4(a: u8, b: u8, prefix: u8) -> Option<Cidr> {
    Cidr::around(std::net::Ipv4Addr::new(a, b, 0, 0).into(), prefix)
}

impl Default for RangeConfig {
    fn default() -> Self {
        let ranges = v4(10, 244, 16).map(|cidr| ClusterRange { cidr, node_prefix: 24 });
        Self { ranges: ranges.into_iter().collect(), excluded: Vec::new() }
    }
}

impl RangeConfig {
    /// Room for so many nodes: the default if that will do, else 10.0.0.0/8 without the usual range of
    /// services, 10.96.0.0/12, with as large a part for each as there is, but no larger than /24.
    pub fn for_nodes(nodes: u32) -> Self {
        let default = Self::default();
        if nodes <= 256 {
            return default;
        }
        // Of 16 parts the services' is one.
        let enough = |prefix: &u8| (15_u64 << (prefix - 12)) >= u64::from(nodes);
        let node_prefix = (24..=30).find(enough).unwrap_or(30);
        let ranges = v4(10, 0, 8).map(|cidr| ClusterRange { cidr, node_prefix });
        Self { ranges: ranges.into_iter().collect(), excluded: v4(10, 96, 12).into_iter().collect() }
    }
}

impl RangeConfig {
    /// For how many nodes there is room.
    ///
    /// ```
    /// use rkube_net::ipam::RangeConfig;
    /// assert_eq!(RangeConfig::default().room().unwrap(), 256);
    /// assert_eq!(RangeConfig::for_nodes(5000).room().unwrap(), 65536 - 4096);
    /// ```
    ///
    /// # Errors
    /// When the ranges cannot be divided so.
    pub fn room(&self) -> Result<u64, RangeSetError> {
        Ok(NodeRanges::new(self)?.sets.iter().map(RangeSet::free_count).min().unwrap_or_default())
    }

    /// Whether all ranges of another configuration lie in these: what nodes have of those they can keep.
    pub fn covers(&self, other: &Self) -> bool {
        let covered = |part: &ClusterRange| {
            self.ranges
                .iter()
                .any(|range| range.cidr.overlaps(&part.cidr) && range.cidr.prefix() <= part.cidr.prefix())
        };
        other.ranges.iter().all(covered)
    }
}

impl fmt::Display for RangeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.ranges.iter().enumerate() {
            let and = if at == 0 { "" } else { " and " };
            write!(f, "{and}{} with a /{} for each node", range.cidr, range.node_prefix)?;
        }
        for (at, range) in self.excluded.iter().enumerate() {
            write!(f, "{}{range}", if at == 0 { ", without " } else { ", " })?;
        }
        Ok(())
    }
}

/// What became of a node's wish for ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These are its ranges: to be written.
    Assigned(Vec<Cidr>),
    /// It has its ranges.
    Known,
    /// None are left.
    Exhausted,
}

/// Which node has which ranges: the controller's state, without the controller.
#[derive(Clone, Debug)]
pub struct NodeRanges {
    sets: Vec<RangeSet>,
    excluded: Vec<Cidr>,
    /// By name: the UID and what it has or was assigned.
    nodes: BTreeMap<String, (String, Vec<Cidr>)>,
}

fn exclude(sets: &mut [RangeSet], excluded: &[Cidr]) {
    for set in sets {
        for range in excluded {
            set.occupy(range);
        }
    }
}

impl NodeRanges {
    /// No node has any.
    pub fn new(config: &RangeConfig) -> Result<Self, RangeSetError> {
        let sets = config.ranges.iter().map(|range| RangeSet::new(range.cidr, range.node_prefix));
        let mut sets = sets.collect::<Result<Vec<_>, _>>()?;
        exclude(&mut sets, &config.excluded);
        Ok(Self { sets, excluded: config.excluded.clone(), nodes: BTreeMap::new() })
    }

    /// What a node has already; `ranges` is empty if it has none.
    fn learn(&mut self, name: &str, uid: &str, ranges: &[Cidr]) {
        for range in ranges {
            let known = self.sets.iter_mut().any(|set| set.occupy(range));
            if !known {
                tracing::info!(node = name, %range, "a node's range is not of the cluster's");
            }
        }
        self.nodes.insert(name.to_owned(), (uid.to_owned(), ranges.to_vec()));
    }

    /// A node as it is now: its name, its UID, the ranges that its spec has.
    pub fn node(&mut self, name: &str, uid: &str, ranges: &[Cidr]) -> Outcome {
        match self.nodes.get(name) {
            // What was assigned may not be seen in the node yet: it is written again.
            Some((known, assigned)) if known == uid && ranges.is_empty() => {
                return Outcome::Assigned(assigned.clone());
            }
            Some((known, assigned)) if known == uid && assigned == ranges => return Outcome::Known,
            // Another node of the name, or someone else wrote other ranges.
            Some(_) => {
                self.remove(name);
            }
            None => {}
        }
        if !ranges.is_empty() {
            self.learn(name, uid, ranges);
            return Outcome::Known;
        }
        let mut given = Vec::new();
        for at in 0..self.sets.len() {
            let Some(range) = self.sets.get_mut(at).and_then(RangeSet::allocate) else {
                self.give_back(&given);
                return Outcome::Exhausted;
            };
            given.push(range);
        }
        self.nodes.insert(name.to_owned(), (uid.to_owned(), given.clone()));
        Outcome::Assigned(given)
    }

    fn give_back(&mut self, ranges: &[Cidr]) {
        for range in ranges {
            self.sets.iter_mut().for_each(|set| {
                set.release(range);
            });
        }
        // Someone may have written a range that touches one of these.
        exclude(&mut self.sets, &self.excluded);
    }

    /// A node is gone. `true`: ranges became free.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some((_, ranges)) = self.nodes.remove(name) else { return false };
        // A range that two nodes were given by someone else stays taken as long as one is there.
        let free: Vec<Cidr> = ranges
            .into_iter()
            .filter(|range| {
                !self.nodes.values().any(|(_, others)| others.iter().any(|other| other.overlaps(range)))
            })
            .collect();
        self.give_back(&free);
        !free.is_empty()
    }

    /// The ranges of a node.
    pub fn get(&self, name: &str) -> Option<&[Cidr]> {
        self.nodes.get(name).map(|(_, ranges)| ranges.as_slice())
    }
}
