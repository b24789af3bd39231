//! Pods counted by parts of the cluster, kept up to date pod by pod.
//!
//! A tally is made when it is first asked for and follows the snapshot by its log: a pod that comes or goes
//! costs a look at its node. Tallies are working memory, bounded in number: whatever they say follows from
//! the nodes and pods alone.

use std::{
    any::Any,
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
};

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    NodeId, PlacedPod, Snapshot,
    topology::{Followed, Topology},
};

/// How many tallies are kept.
const MOST_TALLIES: usize = 256;
/// How many topologies are kept.
const MOST_TOPOLOGIES: usize = 64;

/// What is counted. Equal values count the same.
pub(crate) trait Count: Clone + Hash + Eq + Send + Sync + 'static {
    /// Tells by which labels of its node a pod counts, and for how much.
    fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64));

    /// Whether only pods with terms of pod affinity can count.
    fn only_with_terms(&self) -> bool {
        false
    }
}

/// Numbers by part, in pieces: whoever keeps a clone shares with it all but the pieces that change after.
#[derive(Clone, Debug, Default)]
struct Pieces(Arc<Vec<Arc<[i64; Pieces::LEN]>>>);

impl Pieces {
    const LEN: usize = 128;

    fn at(&self, part: usize) -> i64 {
        self.0.get(part / Self::LEN).map_or(0, |piece| piece[part % Self::LEN])
    }

    fn add(&mut self, part: usize, by: i64) {
        let pieces = Arc::make_mut(&mut self.0);
        if pieces.len() <= part / Self::LEN {
            pieces.resize_with(part / Self::LEN + 1, || Arc::new([0; Self::LEN]));
        }
        let sum = &mut Arc::make_mut(&mut pieces[part / Self::LEN])[part % Self::LEN];
        *sum = sum.wrapping_add(by);
    }
}

/// Sums by the parts that one label makes.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    /// The label.
    pub(crate) key: Arc<str>,
    pub(crate) topology: Arc<Topology>,
    by_part: Pieces,
    /// How much counts in all parts together.
    pub(crate) total: i64,
    epoch: u64,
}

impl Sums {
    pub(crate) fn at(&self, part: usize) -> i64 {
        self.by_part.at(part)
    }

    /// A label by which nothing counts yet.
    pub(crate) fn none(key: &str, topology: Arc<Topology>) -> Self {
        Self { key: key.into(), topology, by_part: Pieces::default(), total: 0, epoch: 0 }
    }

    fn add(&mut self, part: usize, by: i64) {
        self.by_part.add(part, by);
        self.total = self.total.wrapping_add(by);
    }
}

/// What one node adds: the label's place, the part, and how much.
type Share = SmallVec<[(usize, usize, i64); 2]>;

#[derive(Clone, Debug, Default)]
struct Tally {
    sums: Vec<Sums>,
    shares: HashMap<NodeId, Share, FixedState>,
    seen: u64,
}

impl Tally {
    fn new(count: &impl Count, snapshot: &Snapshot, topologies: &mut Topologies) -> Self {
        let mut tally = Self { seen: snapshot.log().generation(), ..Self::default() };
        if count.only_with_terms() {
            snapshot.nodes_with_terms().for_each(|node| tally.look(count, node.id(), snapshot, topologies));
        } else {
            snapshot.nodes().iter().for_each(|&id| tally.look(count, id, snapshot, topologies));
        }
        tally
    }

    /// Takes in what has changed. `None`: it is to be made anew.
    fn catch_up(
        &mut self,
        count: &impl Count,
        snapshot: &Snapshot,
        topologies: &mut Topologies,
    ) -> Option<()> {
        let generation = snapshot.log().generation();
        for sums in &mut self.sums {
            let (topology, epoch) = topologies.get(&sums.key, snapshot);
            if epoch != sums.epoch {
                return None;
            }
            sums.topology = topology;
        }
        if generation == self.seen {
            return Some(());
        }
        let mut changed: SmallVec<[NodeId; 16]> = SmallVec::new();
        for (id, _) in snapshot.log().since(self.seen)? {
            // Above this, counting all nodes at once is quicker.
            if changed.len() > snapshot.rows() {
                return None;
            }
            changed.push(id);
        }
        changed.sort_unstable();
        changed.dedup();
        changed.into_iter().for_each(|id| self.look(count, id, snapshot, topologies));
        self.seen = generation;
        Some(())
    }

    /// Counts one node anew.
    fn look(&mut self, count: &impl Count, id: NodeId, snapshot: &Snapshot, topologies: &mut Topologies) {
        let mut share = Share::new();
        for pod in snapshot.pods_of(id) {
            count.tell(pod, &mut |key, by| {
                let place = self.place(key, snapshot, topologies);
                let Some(part) = self.sums[place].topology.of(id) else { return };
                match share.iter_mut().find(|(of, at, _)| (*of, *at) == (place, part)) {
                    Some((.., sum)) => *sum = sum.wrapping_add(by),
                    None => share.push((place, part, by)),
                }
            });
        }
        let before = match share.is_empty() {
            true => self.shares.remove(&id),
            false => self.shares.insert(id, share.clone()),
        };
        for (place, part, by) in before.into_iter().flatten() {
            self.sums[place].add(part, by.wrapping_neg());
        }
        for (place, part, by) in share {
            self.sums[place].add(part, by);
        }
    }

    fn place(&mut self, key: &str, snapshot: &Snapshot, topologies: &mut Topologies) -> usize {
        self.sums.iter().position(|sums| *sums.key == *key).unwrap_or_else(|| {
            let (topology, epoch) = topologies.get(key, snapshot);
            self.sums.push(Sums { epoch, ..Sums::none(key, topology) });
            self.sums.len() - 1
        })
    }
}

#[derive(Debug, Default)]
struct Topologies {
    by_key: HashMap<Arc<str>, Followed, FixedState>,
    epochs: u64,
}

impl Topologies {
    fn get(&mut self, key: &str, snapshot: &Snapshot) -> (Arc<Topology>, u64) {
        if let Some(followed) = self.by_key.get_mut(key)
            && let Some(topology) = followed.catch_up(snapshot, key)
        {
            return (topology, followed.epoch);
        }
        if self.by_key.len() >= MOST_TOPOLOGIES {
            // Those who use one notice by its epoch.
            self.by_key.clear();
        }
        self.epochs += 1;
        let mut followed = Followed::new(snapshot, key, self.epochs);
        let topology = followed.catch_up(snapshot, key).unwrap_or_default();
        self.by_key.insert(key.into(), followed);
        (topology, self.epochs)
    }
}

/// A kept tally, and what it counts.
struct Kept {
    count: Box<dyn Any + Send + Sync>,
    tally: Tally,
    used: u64,
}

#[derive(Default)]
struct Inner {
    topologies: Topologies,
    by_hash: HashMap<u64, SmallVec<[Kept; 1]>, FixedState>,
    len: usize,
    clock: u64,
}

/// The tallies of a snapshot. A clone begins with none.
#[derive(Default)]
pub(super) struct Tallies(Mutex<Inner>);

impl Clone for Tallies {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Tallies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tallies({})", self.0.lock().len)
    }
}

impl Inner {
    fn drop_oldest(&mut self) {
        let uses = self.by_hash.values().flatten().map(|kept| kept.used);
        let Some(oldest) = uses.min() else { return };
        self.by_hash.retain(|_, bucket| {
            bucket.retain(|kept| kept.used != oldest);
            !bucket.is_empty()
        });
        self.len -= 1;
    }

    fn get<C: Count>(&mut self, count: &C, snapshot: &Snapshot) -> Vec<Sums> {
        self.clock += 1;
        let mut hasher = FixedState::default().build_hasher();
        std::any::TypeId::of::<C>().hash(&mut hasher);
        count.hash(&mut hasher);
        let hash = hasher.finish();
        let same = |kept: &&mut Kept| kept.count.downcast_ref::<C>() == Some(count);
        if let Some(kept) = self.by_hash.get_mut(&hash).and_then(|bucket| bucket.iter_mut().find(same)) {
            kept.used = self.clock;
            if kept.tally.catch_up(count, snapshot, &mut self.topologies).is_none() {
                kept.tally = Tally::new(count, snapshot, &mut self.topologies);
            }
            return kept.tally.sums.clone();
        }
        if self.len >= MOST_TALLIES {
            self.drop_oldest();
        }
        let tally = Tally::new(count, snapshot, &mut self.topologies);
        let sums = tally.sums.clone();
        let kept = Kept { count: Box::new(count.clone()), tally, used: self.clock };
        self.by_hash.entry(hash).or_default().push(kept);
        self.len += 1;
        sums
    }
}

impl Snapshot {
    /// Pods counted, by the labels that they count by.
    pub(crate) fn tally(&self, count: &impl Count) -> Vec<Sums> {
        self.tallies.0.lock().get(count, self)
    }

    /// The parts that a label of nodes makes.
    pub(crate) fn topology(&self, key: &str) -> Arc<Topology> {
        self.tallies.0.lock().topologies.get(key, self).0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::EACH_NODE, *};
    use crate::testing::{as_node, labelled};

    /// Pods of a label that stay, by zone and by node.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct OfApp(&'static str);

    impl Count for OfApp {
        fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64)) {
            if !pod.terminating && pod.labels.get("app").is_some_and(|app| app == self.0) {
                tell("zone", 1);
                tell(EACH_NODE, 2);
            }
        }
    }

    /// What is counted, by label and value.
    fn counted(snapshot: &Snapshot, app: &'static str) -> BTreeMap<(Arc<str>, String), i64> {
        let mut counted = BTreeMap::new();
        for sums in snapshot.tally(&OfApp(app)) {
            for &id in snapshot.nodes() {
                let Some(part) = sums.topology.of(id).filter(|part| sums.at(*part) != 0) else { continue };
                let node = snapshot.view(id);
                let value = if &*sums.key == EACH_NODE { Some(node.name()) } else { node.label(&sums.key) };
                counted.insert((sums.key.clone(), value.unwrap_or_default().to_owned()), sums.at(part));
            }
            let all: i64 = (0..sums.topology.bound()).map(|part| sums.at(part)).sum();
            assert_eq!(all, sums.total);
        }
        counted
    }

    fn set_node(snapshot: &mut Snapshot, node: u8, zone: u8) {
        let labels = if zone == 0 { json!({}) } else { json!({"zone": zone.to_string()}) };
        snapshot.set_node(as_node(json!({"metadata": {"name": format!("n{node}"), "labels": labels}})));
    }

    fn set_pod(snapshot: &mut Snapshot, pod: u8, app: u8, node: u8, terminating: bool) {
        let app = ["a", "b"][usize::from(app % 2)];
        let info = labelled(&format!("p{pod}"), json!({"app": app}), json!({}));
        snapshot.set_pod(PlacedPod { terminating, ..PlacedPod::from(&info) }, &format!("n{node}"));
    }

    proptest! {
        /// A clone begins without tallies: it counts everything anew.
        #[test]
        fn what_follows_the_log_is_what_is_counted_anew(
            steps in prop::collection::vec((0..5u8, 0..6u8, 0..4u8, 0..3u8, any::<bool>()), 0..60),
        ) {
            let mut snapshot = Snapshot::default();
            for (what, pod, node, other, ending) in steps {
                match what {
                    0 => set_node(&mut snapshot, node, other),
                    1 if ending => drop(snapshot.remove_node(&format!("n{node}"))),
                    2 => drop(snapshot.remove_pod(&format!("uid-p{pod}"))),
                    _ => set_pod(&mut snapshot, pod, other, node, ending),
                }
                for app in ["a", "b"] {
                    prop_assert_eq!(counted(&snapshot, app), counted(&snapshot.clone(), app));
                }
            }
        }
    }

    #[test]
    fn tallies_are_bounded_and_shared_by_equal_questions() {
        #[derive(Clone, PartialEq, Eq, Hash)]
        struct Nothing(usize);
        impl Count for Nothing {
            fn tell(&self, _: &PlacedPod, _: &mut dyn FnMut(&str, i64)) {}
        }
        let snapshot = Snapshot::default();
        for index in 0..3 * MOST_TALLIES {
            assert!(snapshot.tally(&Nothing(index / 2)).is_empty());
        }
        assert_eq!(snapshot.tallies.0.lock().len, MOST_TALLIES);
    }
}
