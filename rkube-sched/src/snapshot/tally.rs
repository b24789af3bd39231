//! Pods counted by parts of the cluster, kept up to date pod by pod.
//!
//! A tally is made when it is first asked for and follows the snapshot by its log: a pod that comes or goes
//! costs a look at its node. Tallies are working memory, bounded in number: whatever they say follows from
//! the nodes and pods alone.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
};

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    NodeId, NodeView, PlacedPod, Snapshot,
    topology::{Followed, Topology},
};

/// How many tallies are kept.
const MOST_TALLIES: usize = 256;
/// How many topologies are kept.
const MOST_TOPOLOGIES: usize = 64;

/// What is counted. Equal values count the same.
pub(crate) trait Count: Clone + Hash + Eq + Send + Sync + 'static {
    /// What the nodes are looked at through, made for one state of the snapshot.
    type Lens;

    /// Makes it.
    fn lens(&self, snapshot: &Snapshot) -> Self::Lens;

    /// Whether a node counts, and its pods with it.
    fn sees(&self, _lens: &Self::Lens, _node: NodeView<'_>) -> bool {
        true
    }

    /// The label by whose parts nodes are counted too, of those that it [sees](Count::sees).
    fn nodes_by(&self) -> Option<&str> {
        None
    }

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
    /// How many nodes there are in each part, if they are counted.
    nodes: Pieces,
    /// How many of the parts with nodes have each sum.
    levels: Arc<BTreeMap<i64, usize>>,
    /// How much counts in all parts together.
    pub(crate) total: i64,
    /// The tally's number: no other one has it.
    tally: u64,
}

impl Sums {
    pub(crate) fn at(&self, part: usize) -> i64 {
        self.by_part.at(part)
    }

    /// A label by which nothing counts yet.
    pub(crate) fn none(key: &str, topology: Arc<Topology>) -> Self {
        Self {
            key: key.into(),
            topology,
            by_part: Pieces::default(),
            nodes: Pieces::default(),
            levels: Arc::default(),
            total: 0,
            tally: 0,
        }
    }

    /// The number of the tally that they are of.
    pub(super) fn tally(&self) -> u64 {
        self.tally
    }

    /// How many of the parts with nodes have each sum, if nodes are counted.
    pub(crate) fn levels(&self) -> &BTreeMap<i64, usize> {
        &self.levels
    }

    /// The parts with nodes, if nodes are counted.
    pub(crate) fn parts(&self) -> impl Iterator<Item = usize> {
        (0..self.topology.bound()).filter(|part| self.nodes.at(*part) > 0)
    }

    fn add(&mut self, part: usize, by: i64, nodes: i64) {
        let (sum, there) = (self.at(part), self.nodes.at(part));
        let (sum_now, there_now) = (sum.wrapping_add(by), there + nodes);
        if (there > 0 || there_now > 0) && (sum, there > 0) != (sum_now, there_now > 0) {
            let levels = Arc::make_mut(&mut self.levels);
            if there > 0
                && let Some(parts) = levels.get_mut(&sum)
            {
                *parts -= 1;
                if *parts == 0 {
                    levels.remove(&sum);
                }
            }
            if there_now > 0 {
                *levels.entry(sum_now).or_default() += 1;
            }
        }
        if nodes != 0 {
            self.nodes.add(part, nodes);
        }
        if by != 0 {
            self.by_part.add(part, by);
            self.total = self.total.wrapping_add(by);
        }
    }
}

/// What one node adds: the label's place, the part, how much, and itself.
type Share = SmallVec<[(usize, usize, i64, i64); 2]>;

#[derive(Clone, Debug, Default)]
struct Tally {
    number: u64,
    sums: Vec<Sums>,
    shares: HashMap<NodeId, Share, FixedState>,
    seen: u64,
}

impl Tally {
    fn new(count: &impl Count, snapshot: &Snapshot, topologies: &mut Topologies) -> Self {
        let (seen, number) = (snapshot.log().generation(), topologies.number());
        let (mut tally, lens) = (Self { seen, number, ..Self::default() }, count.lens(snapshot));
        let mut look = |node: NodeView<'_>| tally.look(count, &lens, node, topologies);
        if count.only_with_terms() {
            snapshot.nodes_with_terms().for_each(&mut look);
        } else {
            snapshot.nodes().iter().for_each(|&id| look(snapshot.view(id)));
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
            let topology = topologies.get(&sums.key, snapshot);
            if topology.epoch() != sums.topology.epoch() {
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
        let lens = count.lens(snapshot);
        changed.into_iter().for_each(|id| self.look(count, &lens, snapshot.view(id), topologies));
        self.seen = generation;
        Some(())
    }

    /// Counts one node anew.
    fn look<C: Count>(&mut self, count: &C, lens: &C::Lens, node: NodeView<'_>, topologies: &mut Topologies) {
        let (id, mut share) = (node.id(), Share::new());
        let mut add = |key: &str, by, nodes| {
            let place = self.place(key, node.snapshot(), topologies);
            let Some(part) = self.sums[place].topology.of(id) else { return };
            match share.iter_mut().find(|(of, at, ..)| (*of, *at) == (place, part)) {
                Some((.., sum, count)) => (*sum, *count) = (i64::wrapping_add(*sum, by), *count + nodes),
                None => share.push((place, part, by, nodes)),
            }
        };
        if count.sees(lens, node) {
            if let Some(key) = count.nodes_by() {
                add(key, 0, 1);
            }
            node.snapshot().pods_of(id).for_each(|pod| count.tell(pod, &mut |key, by| add(key, by, 0)));
        }
        let before = match share.is_empty() {
            true => self.shares.remove(&id),
            false => self.shares.insert(id, share.clone()),
        };
        for (place, part, by, nodes) in before.into_iter().flatten() {
            self.sums[place].add(part, by.wrapping_neg(), -nodes);
        }
        for (place, part, by, nodes) in share {
            self.sums[place].add(part, by, nodes);
        }
    }

    fn place(&mut self, key: &str, snapshot: &Snapshot, topologies: &mut Topologies) -> usize {
        self.sums.iter().position(|sums| *sums.key == *key).unwrap_or_else(|| {
            let topology = topologies.get(key, snapshot);
            self.sums.push(Sums { tally: self.number, ..Sums::none(key, topology) });
            self.sums.len() - 1
        })
    }
}

#[derive(Debug, Default)]
struct Topologies {
    by_key: HashMap<Arc<str>, Followed, FixedState>,
    numbers: u64,
}

impl Topologies {
    /// One that nothing has yet.
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn get(&mut self, key: &str, snapshot: &Snapshot) -> Arc<Topology> {
        if let Some(topology) = self.by_key.get_mut(key).and_then(|followed| followed.catch_up(snapshot, key))
        {
            return topology;
        }
        if self.by_key.len() >= MOST_TOPOLOGIES {
            // Those who use one notice by its epoch.
            self.by_key.clear();
        }
        let mut followed = Followed::new(snapshot, key, self.number());
        let topology = followed.catch_up(snapshot, key).unwrap_or_default();
        self.by_key.insert(key.into(), followed);
        topology
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
        self.tallies.0.lock().topologies.get(key, self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::EACH_NODE, *};
    use crate::testing::{as_node, labelled};

    /// Pods of a label that stay, by zone and by node.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct OfApp(&'static str);

    impl Count for OfApp {
        type Lens = ();
        fn lens(&self, _: &Snapshot) {}
        fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64)) {
            if !pod.terminating && pod.labels.get("app").is_some_and(|app| app == self.0) {
                tell("zone", 1);
                tell(EACH_NODE, 2);
            }
        }
        fn nodes_by(&self) -> Option<&str> {
            Some("zone")
        }
    }

    /// What is counted, by label and value.
    fn counted(snapshot: &Snapshot, app: &'static str) -> BTreeMap<(Arc<str>, String), i64> {
        let mut counted = BTreeMap::new();
        for sums in snapshot.tally(&OfApp(app)) {
            for &id in snapshot.nodes() {
                let Some(part) = sums.topology.of(id) else { continue };
                assert!(&*sums.key != "zone" || sums.parts().any(|other| other == part));
                if sums.at(part) == 0 {
                    continue;
                }
                let node = snapshot.view(id);
                let value = if &*sums.key == EACH_NODE { Some(node.name()) } else { node.label(&sums.key) };
                counted.insert((sums.key.clone(), value.unwrap_or_default().to_owned()), sums.at(part));
            }
            let all: i64 = (0..sums.topology.bound()).map(|part| sums.at(part)).sum();
            assert_eq!(all, sums.total);
            let mut levels = BTreeMap::new();
            sums.parts().for_each(|part| *levels.entry(sums.at(part)).or_default() += 1);
            assert_eq!(sums.levels(), &levels);
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
            type Lens = ();
            fn lens(&self, _: &Snapshot) {}
            fn tell(&self, _: &PlacedPod, _: &mut dyn FnMut(&str, i64)) {}
        }
        let snapshot = Snapshot::default();
        for index in 0..3 * MOST_TALLIES {
            assert!(snapshot.tally(&Nothing(index / 2)).is_empty());
        }
        assert_eq!(snapshot.tallies.0.lock().len, MOST_TALLIES);
    }
}
