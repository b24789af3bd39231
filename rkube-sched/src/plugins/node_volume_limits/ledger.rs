//! How many volumes are attached to each node by each driver, kept up to date node by node.
//!
//! What is attached to a node follows from its pods and from their claims, volumes and classes, and from the
//! attachments; how many it takes from what it says of its drivers. A ledger notes where it has read each of
//! those, follows the snapshot and the caches by their logs, and counts a node anew only if something of that
//! has changed.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use k8s_openapi::api::storage::v1::CSINode;
use parking_lot::Mutex;
use rkube_api::{
    client::{Cache, ObjectKey},
    object::Kind,
};
use smallvec::SmallVec;

use super::{Attachable, NodeVolumeLimits, Wanted, in_tree, limits};
use crate::snapshot::{Marks, NodeId, Snapshot};

/// How many demands are numbered at a time.
const MOST_DEMANDS: usize = 64;

/// How many volumes of which drivers a pod would have attached, whichever they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Demand {
    /// By driver, and what it must have taken over for that.
    volumes: Vec<(String, Option<&'static str>, usize)>,
    /// The drivers without which a node is none for the pod.
    needed: Vec<String>,
}

impl Demand {
    pub(super) fn of(wanted: &Wanted) -> Self {
        let mut counts = IndexMap::<_, usize, FixedState>::default();
        for volume in &wanted.volumes {
            *counts.entry((&volume.driver, volume.taken_over)).or_default() += 1;
        }
        let volumes = counts.into_iter().map(|((driver, plugin), count)| (driver.clone(), plugin, count));
        Self { volumes: volumes.collect(), needed: wanted.needed.iter().cloned().collect() }
    }
}

/// What a node has to say to a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// There is room.
    Fits,
    /// There is none, if all volumes are new there.
    Exceeds,
    /// It lacks a driver that is needed, the first of the demand's.
    Lacks(usize),
}

/// A driver of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Driver {
    name: String,
    limit: Option<usize>,
    attached: usize,
}

/// What a node says of its drivers, and what is attached to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OnNode {
    drivers: Vec<Driver>,
    /// What they have taken over.
    taken_over: String,
}

impl OnNode {
    fn of(node: &CSINode) -> Self {
        let limits = limits(node);
        let driver =
            |name: &String| Driver { name: name.clone(), limit: limits.get(&**name).copied(), attached: 0 };
        Self {
            drivers: node.spec.drivers.iter().map(|there| driver(&there.name)).collect(),
            taken_over: in_tree::taken_over(node).unwrap_or_default().to_owned(),
        }
    }

    fn says(&self, demand: &Demand) -> Said {
        let has = |name: &str| self.drivers.iter().any(|driver| driver.name == name);
        if let Some(place) = demand.needed.iter().position(|driver| !has(driver)) {
            return Said::Lacks(place);
        }
        for driver in &self.drivers {
            let Some(limit) = driver.limit else { continue };
            let mine = demand.volumes.iter().filter(|(name, plugin, _)| {
                *name == driver.name && plugin.is_none_or(|plugin| in_tree::lists(&self.taken_over, plugin))
            });
            let more: usize = mine.map(|(.., count)| count).sum();
            if more > 0 && driver.attached + more > limit {
                return Said::Exceeds;
            }
        }
        Said::Fits
    }
}

/// Something from which it follows what is attached to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    Claim(ObjectKey),
    Volume(String),
    Attachment(String),
    /// That it is attached there itself.
    Volumes(Attachable),
}

/// The caches' versions.
#[derive(Clone, Copy, Debug, Default)]
struct Versions {
    claims: u64,
    volumes: u64,
    classes: u64,
    nodes: u64,
    attachments: u64,
}

/// What is attached to the nodes of one snapshot.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    snapshot: Arc<()>,
    /// How much of the snapshot's log it knows, and of the caches' changes.
    seen: u64,
    versions: Versions,
    /// By row.
    nodes: Vec<OnNode>,
    /// By row, what was read for it.
    read: Vec<Vec<Arc<Source>>>,
    readers: HashMap<Arc<Source>, SmallVec<[NodeId; 2]>, FixedState>,
    /// How often something has changed of a node that the snapshot's log did not tell.
    changes: u64,
    demands: IndexSet<Arc<Demand>, FixedState>,
    /// The number of the first demand.
    first: u64,
}

impl Ledger {
    /// Whether it is this snapshot's, as it is.
    fn is_of(&self, snapshot: &Snapshot) -> bool {
        snapshot.lineage().is(&self.snapshot) && self.seen == snapshot.log().generation()
    }

    /// What a node has to say, of a snapshot that the ledger has caught up with.
    pub(super) fn says(&self, snapshot: &Snapshot, node: NodeId, demand: &Demand) -> Option<Said> {
        self.is_of(snapshot).then(|| self.nodes.get(node.row()))?.map(|there| there.says(demand))
    }

    /// Whether none of the volumes is attached to any node that has a limit.
    pub(super) fn has_none_of(&self, wanted: &Wanted) -> bool {
        let attached = |volume: &Attachable| self.readers.contains_key(&Source::Volumes(volume.clone()));
        !wanted.volumes.iter().any(attached)
    }

    /// A number for the demand that no other one has, and one that changes with the answers to it.
    pub(super) fn version_of(&mut self, demand: &Arc<Demand>) -> [u64; 2] {
        if self.demands.len() >= MOST_DEMANDS && !self.demands.contains(demand) {
            self.first += self.demands.len() as u64;
            self.demands.clear();
        }
        let (place, _) = self.demands.insert_full(demand.clone());
        [self.first + place as u64, self.changes]
    }

    /// Takes in what has changed.
    pub(super) fn catch_up(&mut self, snapshot: &Snapshot, plugin: &NodeVolumeLimits) {
        let Some(elsewhere) = self.changed_in_caches(snapshot, plugin) else {
            return self.count_anew(snapshot, plugin);
        };
        let log = snapshot.lineage().is(&self.snapshot).then(|| snapshot.log().since(self.seen)).flatten();
        let Some(log) = log else { return self.count_anew(snapshot, plugin) };
        let mut here = SmallVec::<[NodeId; 16]>::new();
        for (id, _) in log {
            if here.len() > snapshot.rows() {
                return self.count_anew(snapshot, plugin);
            }
            here.push(id);
        }
        here.sort_unstable();
        here.dedup();
        self.grow(snapshot.rows());
        here.into_iter().for_each(|id| self.count(id, snapshot, plugin));
        for id in elsewhere {
            let before = self.nodes[id.row()].clone();
            self.count(id, snapshot, plugin);
            self.changes += u64::from(self.nodes[id.row()] != before);
        }
        self.seen = snapshot.log().generation();
    }

    fn grow(&mut self, rows: usize) {
        self.nodes.resize_with(rows, OnNode::default);
        self.read.resize_with(rows, Vec::new);
    }

    /// Counts what is attached to all nodes.
    fn count_anew(&mut self, snapshot: &Snapshot, plugin: &NodeVolumeLimits) {
        let before = std::mem::take(self);
        *self = Self {
            snapshot: snapshot.lineage().mark(),
            seen: snapshot.log().generation(),
            versions: before.versions,
            changes: before.changes + 1,
            demands: before.demands,
            first: before.first,
            ..Self::default()
        };
        self.grow(snapshot.rows());
        snapshot.nodes().iter().for_each(|id| self.count(*id, snapshot, plugin));
    }

    /// Counts what is attached to one node.
    fn count(&mut self, id: NodeId, snapshot: &Snapshot, plugin: &NodeVolumeLimits) {
        let node = snapshot.view(id);
        let known = node.node().and_then(|_| plugin.nodes.get("", node.name()));
        let mut there = known.as_deref().map(OnNode::of).unwrap_or_default();
        let mut read = Vec::new();
        // Where no driver has a limit, nobody asks how much is attached.
        if let Some(known) = known.filter(|_| there.drivers.iter().any(|driver| driver.limit.is_some())) {
            let mut all = plugin.attached(node, &mut |source| read.push(source.into()));
            all.retain(|volume| volume.counts_on(&known));
            for volume in &all {
                let driver = there.drivers.iter_mut().filter(|driver| driver.name == volume.driver);
                driver.for_each(|driver| driver.attached += 1);
            }
            read.extend(all.into_iter().map(Source::Volumes));
        }
        self.nodes[id.row()] = there;
        self.note_read(id, read);
    }

    fn note_read(&mut self, id: NodeId, read: Vec<Source>) {
        let read: Vec<Arc<Source>> = read.into_iter().map(Arc::new).collect();
        for source in std::mem::take(&mut self.read[id.row()]) {
            if let Some(readers) = self.readers.get_mut(&source) {
                readers.retain(|reader| *reader != id);
                if readers.is_empty() {
                    self.readers.remove(&source);
                }
            }
        }
        for source in &read {
            let readers = self.readers.entry(source.clone()).or_default();
            if !readers.contains(&id) {
                readers.push(id);
            }
        }
        self.read[id.row()] = read;
    }

    /// The nodes for which something has changed in the caches. `None`: that may be all.
    fn changed_in_caches(
        &mut self,
        snapshot: &Snapshot,
        plugin: &NodeVolumeLimits,
    ) -> Option<SmallVec<[NodeId; 8]>> {
        let versions = &mut self.versions;
        // All versions are noted, whatever comes of them.
        let claims = changes(&plugin.claims, &mut versions.claims);
        let volumes = changes(&plugin.volumes, &mut versions.volumes);
        let nodes = changes(&plugin.nodes, &mut versions.nodes);
        let attachments = changes(&plugin.attachments, &mut versions.attachments);
        let classes = plugin.classes.version();
        if std::mem::replace(&mut versions.classes, classes) != classes {
            return None;
        }
        let (claims, volumes, nodes, attachments) = (claims?, volumes?, nodes?, attachments?);
        let find = |name: &str| snapshot.find(name);
        let mut changed: SmallVec<[NodeId; 8]> = nodes.iter().filter_map(|key| find(&key.name)).collect();
        let now = attachments.iter().filter_map(|key| plugin.attachments.get_key(key));
        changed.extend(now.filter_map(|attachment| find(&attachment.spec.node_name)));
        let claims = claims.into_iter().map(Source::Claim);
        let volumes = volumes.into_iter().map(|key| Source::Volume(key.name));
        let attached = attachments.into_iter().map(|key| Source::Attachment(key.name));
        for source in claims.chain(volumes).chain(attached) {
            changed.extend(self.readers.get(&source).into_iter().flatten().copied());
        }
        changed.sort_unstable();
        changed.dedup();
        Some(changed)
    }
}

/// What has changed of a cache since a version, which is the newest then.
fn changes<K: Kind>(cache: &Cache<K>, version: &mut u64) -> Option<Vec<ObjectKey>> {
    let (now, changes) = cache.changes_since(*version);
    *version = now;
    changes
}

/// What is read for a node, as it is read.
pub(super) enum Reading<'a> {
    Claim(&'a str, &'a str),
    Volume(&'a str),
    Attachment(&'a str),
}

impl From<Reading<'_>> for Source {
    fn from(reading: Reading<'_>) -> Self {
        match reading {
            Reading::Claim(namespace, name) => Self::Claim(ObjectKey::new(namespace, name)),
            Reading::Volume(name) => Self::Volume(name.to_owned()),
            Reading::Attachment(name) => Self::Attachment(name.to_owned()),
        }
    }
}

/// What the nodes have to say to one demand.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) demand: Arc<Demand>,
    /// The snapshot that is meant.
    pub(super) snapshot: Arc<()>,
}

impl Marks for Answers {
    fn mark(&self, node: NodeId) -> i64 {
        let ledger = self.ledger.lock();
        // Another snapshot's by now: then each node is like no other.
        if !Arc::ptr_eq(&self.snapshot, &ledger.snapshot) {
            return i64::MAX - node.row() as i64;
        }
        match ledger.nodes.get(node.row()).map_or(Said::Fits, |there| there.says(&self.demand)) {
            Said::Fits => 0,
            Said::Exceeds => 1,
            Said::Lacks(place) => 2 + place as i64,
        }
    }
}
