//! The parts of the cluster that a node label makes: zones, racks, or every node its own.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;

use super::{Dirty, NodeId, Snapshot};

/// Instead of a label's key: every node is a part of its own, whatever its labels.
pub(crate) const EACH_NODE: &str = "";

/// The number of a part that a node without the label is in.
const NOWHERE: u32 = u32::MAX;

/// Which part of the cluster each node is in, by one label. Parts have small numbers, of which some may
/// belong to no node any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    of_row: Vec<u32>,
    parts: HashMap<u32, u32, FixedState>,
    /// By part: the number of the label's value, and how many nodes are there.
    members: Vec<(u32, u32)>,
    /// How many parts have more than one node.
    shared: usize,
    /// Changes when parts are numbered anew.
    epoch: u64,
}

impl Topology {
    /// The part that a node is in.
    pub fn of(&self, node: NodeId) -> Option<usize> {
        let part = self.of_row.get(node.row()).copied().filter(|part| *part != NOWHERE)?;
        Some(part as usize)
    }

    /// Parts have numbers below this.
    pub fn bound(&self) -> usize {
        self.members.len()
    }

    /// Whether no two nodes are in one part.
    pub(crate) fn parts_nodes(&self) -> bool {
        self.shared == 0
    }

    /// A number that no other numbering of parts has.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The value of the label in a part, as a number of the snapshot's interner.
    pub fn value(&self, part: usize) -> u32 {
        self.members[part].0
    }

    /// The part of a value, by its number, and how many nodes are there.
    pub(crate) fn part_of(&self, value: u32) -> Option<(usize, usize)> {
        let part = *self.parts.get(&value)? as usize;
        Some((part, self.members[part].1 as usize))
    }

    /// The nodes of some parts, by number.
    pub(crate) fn nodes_in(&self, parts: &[usize]) -> impl Iterator<Item = NodeId> {
        let rows = self.of_row.iter().enumerate();
        let there = rows.filter(|(_, part)| parts.contains(&(**part as usize)));
        there.map(|(row, _)| NodeId(row as u32))
    }

    fn set(&mut self, row: usize, value: Option<u32>) {
        let part = value.map_or(NOWHERE, |value| {
            let members = &mut self.members;
            *self.parts.entry(value).or_insert_with(|| {
                members.push((value, 0));
                (members.len() - 1) as u32
            })
        });
        if self.of_row.len() <= row {
            self.of_row.resize(row + 1, NOWHERE);
        }
        let before = std::mem::replace(&mut self.of_row[row], part);
        for (part, by) in [(before, -1), (part, 1)] {
            if let Some((_, members)) = self.members.get_mut(part as usize) {
                let before = std::mem::replace(members, members.saturating_add_signed(by));
                self.shared += usize::from((before, by) == (1, 1));
                self.shared -= usize::from((before, by) == (2, -1));
            }
        }
        if let Some((value, 0)) = self.members.get(before as usize) {
            // The number of the value may come to mean another one.
            self.parts.remove(value);
        }
    }

    /// Whether most parts belong to no node any more.
    fn is_sparse(&self) -> bool {
        self.members.len() > 2 * self.parts.len() + 64
    }
}

/// A topology that follows a snapshot by its log.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    topology: Arc<Topology>,
    seen: u64,
}

impl Followed {
    pub(super) fn new(snapshot: &Snapshot, key: &str, epoch: u64) -> Self {
        let mut topology = Topology { epoch, ..Topology::default() };
        for &id in snapshot.nodes() {
            topology.set(id.row(), value(snapshot, key, id));
        }
        Self { topology: Arc::new(topology), seen: snapshot.log().generation() }
    }

    /// The topology as it is now. `None`: it is to be made anew.
    pub(super) fn catch_up(&mut self, snapshot: &Snapshot, key: &str) -> Option<Arc<Topology>> {
        let changed = snapshot.log().since(self.seen)?.filter(|(_, dirty)| *dirty == Dirty::Node);
        for (id, _) in changed {
            let now = value(snapshot, key, id);
            if self.topology.of(id).map(|part| self.topology.value(part)) != now {
                Arc::make_mut(&mut self.topology).set(id.row(), now);
            }
        }
        self.seen = snapshot.log().generation();
        (!self.topology.is_sparse()).then(|| self.topology.clone())
    }
}

fn value(snapshot: &Snapshot, key: &str, id: NodeId) -> Option<u32> {
    if key == EACH_NODE {
        return snapshot.view(id).node().map(|_| id.0);
    }
    let key = snapshot.label_keys().find(key)?;
    let labels = snapshot.view(id).label_ids();
    labels.binary_search_by_key(&key, |label| label.key).ok().map(|place| labels[place].value)
}
