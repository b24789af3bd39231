//! Groups of nodes that plugins which look at the whole cluster cannot tell apart.
//!
//! A pod that others spread by, seek or shun changes what such a plugin says of many nodes at once, a whole
//! zone perhaps; but it says the same of all nodes that are alike in their [facets](Facet). So those form a
//! group with a tree of its own over the class's totals, the plugin is asked about one node of each, and the
//! best node is the best of the best groups. A node moves from one group to another only when it changes.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::{
    class::Class,
    tournament::{self, Best, NONE, OUT, Tree},
};
use crate::snapshot::{Facet, NodeId, Origin, Snapshot};

/// Above so many groups, asking about every node is as good.
const MOST: usize = 256;
/// A row that is in no group.
const NOWHERE: u16 = u16::MAX;

type Marks = SmallVec<[i64; 6]>;

#[derive(Debug)]
struct Group {
    members: usize,
    tree: Tree,
}

/// The feasible nodes of a class by what they are to one question.
#[derive(Debug)]
pub(super) struct Groups {
    /// What the marks go on from.
    origins: Vec<Origin>,
    /// How much of the snapshot's log it knows.
    seen: u64,
    /// Which of the class's countings of totals it knows.
    counted: u64,
    of_row: Vec<u16>,
    by_marks: HashMap<Marks, u16, FixedState>,
    groups: Vec<Group>,
    /// There are too many.
    useless: bool,
}

/// One group, as it is offered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// Its number.
    pub(super) group: u16,
    /// One of its nodes.
    pub(super) node: NodeId,
    /// How many there are.
    pub(super) members: usize,
    /// Their best total.
    pub(super) best: i32,
}

fn marks(facets: &[Facet], id: NodeId) -> Marks {
    facets.iter().map(|facet| facet.mark(id)).collect()
}

impl Groups {
    pub(super) fn new(origins: Vec<Origin>, facets: &[Facet], class: &Class, snapshot: &Snapshot) -> Self {
        let mut groups = Self {
            origins,
            seen: 0,
            counted: 0,
            of_row: Vec::new(),
            by_marks: HashMap::default(),
            groups: Vec::new(),
            useless: false,
        };
        groups.make(facets, class, snapshot);
        groups
    }

    /// Whether it answers the same question.
    pub(super) fn is_of(&self, origins: &[Origin]) -> bool {
        self.origins == origins
    }

    fn make(&mut self, facets: &[Facet], class: &Class, snapshot: &Snapshot) {
        (self.seen, self.counted) = (snapshot.log().generation(), class.counted());
        self.of_row.clear();
        self.of_row.resize(class.scores().len(), NOWHERE);
        self.by_marks.clear();
        self.groups.clear();
        self.useless = false;
        for (row, &score) in class.scores().iter().enumerate().filter(|(_, score)| **score != OUT) {
            let Some(group) = self.group_of(facets, NodeId(row as u32)) else { return };
            self.of_row[row] = group;
            let group = &mut self.groups[usize::from(group)];
            group.members += 1;
            group.tree.add(row, score);
        }
        self.groups.iter_mut().for_each(|group| group.tree.finish());
    }

    fn group_of(&mut self, facets: &[Facet], id: NodeId) -> Option<u16> {
        let marks = marks(facets, id);
        if let Some(group) = self.by_marks.get(&marks) {
            return Some(*group);
        }
        if self.groups.len() == MOST {
            self.useless = true;
            return None;
        }
        self.groups.push(Group { members: 0, tree: Tree::new(self.of_row.len()) });
        let group = (self.groups.len() - 1) as u16;
        self.by_marks.insert(marks, group);
        Some(group)
    }

    /// Takes in what has changed since it was last asked. `None`: there are too many groups.
    pub(super) fn catch_up(&mut self, facets: &[Facet], class: &Class, snapshot: &Snapshot) -> Option<()> {
        let generation = snapshot.log().generation();
        let whole = self.counted != class.counted() || self.of_row.len() != class.scores().len();
        if whole || (self.seen != generation && !self.useless) {
            let changed = self.changed(snapshot).filter(|_| !whole);
            let followed =
                changed.and_then(|ids| ids.into_iter().try_for_each(|id| self.look(facets, id, class)));
            if followed.is_none() {
                // Groups that nobody is in any more may have been too many.
                self.make(facets, class, snapshot);
            }
        }
        self.seen = generation;
        (!self.useless).then_some(())
    }

    fn changed(&self, snapshot: &Snapshot) -> Option<SmallVec<[NodeId; 16]>> {
        let mut changed = SmallVec::new();
        for (id, _) in snapshot.log().since(self.seen)? {
            if changed.len() > snapshot.rows() / 2 + 16 {
                return None;
            }
            changed.push(id);
        }
        changed.sort_unstable();
        changed.dedup();
        Some(changed)
    }

    fn look(&mut self, facets: &[Facet], id: NodeId, class: &Class) -> Option<()> {
        let row = id.row();
        let now = match class.scores()[row] {
            OUT => NOWHERE,
            _ => self.group_of(facets, id)?,
        };
        let before = std::mem::replace(&mut self.of_row[row], now);
        if let Some(group) = self.groups.get_mut(usize::from(before)) {
            group.members -= 1;
        }
        if let Some(group) = self.groups.get_mut(usize::from(now)) {
            group.members += 1;
        }
        let of_row = &self.of_row;
        for number in [before, now] {
            let Some(group) = self.groups.get_mut(usize::from(number)) else { continue };
            group.tree.update(row, |rows| {
                let end = rows.end.min(of_row.len());
                let pairs = of_row[rows.start..end].iter().zip(&class.scores()[rows.start..end]);
                best_of(pairs.filter(|(group, _)| **group == number).map(|(_, score)| *score))
            });
        }
        Some(())
    }

    /// The groups that have nodes.
    pub(super) fn offers(&self) -> impl Iterator<Item = Offer> {
        let groups = self.groups.iter().enumerate().filter(|(_, group)| group.members > 0);
        groups.filter_map(|(number, group)| {
            let (group_number, best) = (number as u16, group.tree.best());
            let row = tournament::pick(&[&group.tree], 0, |row| self.is_in(row, group_number))?;
            let node = NodeId(row as u32);
            Some(Offer { group: group_number, node, members: group.members, best: best.score })
        })
    }

    /// The nodes that are in a group, and in which.
    pub(super) fn members(&self) -> impl Iterator<Item = (NodeId, u16)> {
        let rows = self.of_row.iter().enumerate().filter(|(_, group)| **group != NOWHERE);
        rows.map(|(row, group)| (NodeId(row as u32), *group))
    }

    /// Groups have numbers below this.
    pub(super) fn bound(&self) -> usize {
        self.groups.len()
    }

    fn is_in(&self, row: usize, group: u16) -> bool {
        self.of_row.get(row) == Some(&group)
    }

    /// How many nodes have the best total of their group, of some groups.
    pub(super) fn ties(&self, winners: &[Offer]) -> u32 {
        winners.iter().map(|offer| self.groups[usize::from(offer.group)].tree.best().ties).sum()
    }

    /// Of those nodes the one at a place, by number.
    pub(super) fn pick(&self, winners: &[Offer], place: u32, class: &Class) -> Option<NodeId> {
        let trees: SmallVec<[&Tree; 8]> =
            winners.iter().map(|offer| &self.groups[usize::from(offer.group)].tree).collect();
        let has = |row: usize| {
            winners.iter().any(|offer| self.is_in(row, offer.group) && class.scores()[row] == offer.best)
        };
        tournament::pick(&trees, place, has).map(|row| NodeId(row as u32))
    }
}

fn best_of(scores: impl Iterator<Item = i32>) -> Best {
    scores.fold(NONE, |best, score| match score.cmp(&best.score) {
        std::cmp::Ordering::Greater => Best { score, ties: 1 },
        std::cmp::Ordering::Less => best,
        std::cmp::Ordering::Equal => Best { score, ties: best.ties + 1 },
    })
}
