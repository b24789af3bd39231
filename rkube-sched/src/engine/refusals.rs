//! What each node has against a pod.

use foldhash::fast::FixedState;
use indexmap::IndexMap;

use crate::{framework::Status, snapshot::NodeId};

/// A node that refuses nothing.
const NONE: u32 = u32::MAX;

/// The refusals of nodes, one a node. Most nodes have one of a few things to say, so what is said is kept once:
/// an account of them costs as much as there are differences.
///
/// ```
/// use rkube_sched::engine::Refusals;
///
/// let none = Refusals::default();
/// assert!(none.is_empty() && none.distinct().next().is_none());
/// ```
#[derive(Clone, Default)]
pub struct Refusals {
    /// What is said, and by how many nodes; by none any more, perhaps.
    said: IndexMap<Status, usize, FixedState>,
    of_row: Vec<u32>,
    len: usize,
}

impl Refusals {
    /// How many nodes refuse.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What a node has said, if it refuses.
    pub fn get(&self, node: NodeId) -> Option<&Status> {
        let place = *self.of_row.get(node.row()).filter(|place| **place != NONE)?;
        self.said.get_index(place as usize).map(|(status, _)| status)
    }

    /// The nodes that refuse, by number, with what each has said.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Status)> {
        let rows = (0..self.of_row.len() as u32).map(NodeId);
        rows.filter_map(|node| Some((node, self.get(node)?)))
    }

    /// What is said, each thing once, and by how many nodes.
    pub fn distinct(&self) -> impl Iterator<Item = (&Status, usize)> {
        self.said.iter().filter(|(_, count)| **count > 0).map(|(status, count)| (status, *count))
    }

    /// What a node says from now on; `None` if it no longer refuses.
    pub(crate) fn set(&mut self, node: NodeId, said: Option<Status>) {
        let place = said.map_or(NONE, |status| self.place(status));
        self.set_place(node, place);
    }

    /// What many nodes say from now on, each one of a few things, by number.
    pub(crate) fn set_all(&mut self, said: Vec<Status>, nodes: impl Iterator<Item = (NodeId, usize)>) {
        let places: Vec<u32> = said.into_iter().map(|status| self.place(status)).collect();
        nodes.for_each(|(node, number)| self.set_place(node, places[number]));
    }

    fn set_place(&mut self, node: NodeId, place: u32) {
        let row = node.row();
        if self.of_row.len() <= row {
            self.of_row.resize(row + 1, NONE);
        }
        let before = std::mem::replace(&mut self.of_row[row], place);
        if let Some((_, count)) = self.said.get_index_mut(before as usize) {
            *count -= 1;
            self.len -= 1;
        }
        if let Some((_, count)) = self.said.get_index_mut(place as usize) {
            *count += 1;
            self.len += 1;
        }
    }

    fn place(&mut self, status: Status) -> u32 {
        // Neighbours often say the same as the last one who spoke.
        match self.said.last() {
            Some((last, _)) if *last == status => (self.said.len() - 1) as u32,
            _ => {
                let entry = self.said.entry(status);
                let place = entry.index();
                entry.or_default();
                place as u32
            }
        }
    }

    /// Whether most of what is kept is said by nobody any more.
    pub(crate) fn is_sparse(&self) -> bool {
        self.said.len() > 2 * self.len + 64
    }
}

impl FromIterator<(NodeId, Status)> for Refusals {
    fn from_iter<T: IntoIterator<Item = (NodeId, Status)>>(refusals: T) -> Self {
        let mut all = Self::default();
        refusals.into_iter().for_each(|(node, status)| all.set(node, Some(status)));
        all
    }
}

impl std::fmt::Debug for Refusals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_each_node_said_last(
            steps in prop::collection::vec((0..20u32, prop::option::of(0..4u8)), 0..60),
        ) {
            let (mut refusals, mut model) = (Refusals::default(), BTreeMap::new());
            for (node, said) in steps {
                let status = said.map(|said| Status::unschedulable(said.to_string()));
                refusals.set(NodeId(node), status.clone());
                match status {
                    Some(status) => model.insert(NodeId(node), status),
                    None => model.remove(&NodeId(node)),
                };
                let all: BTreeMap<NodeId, Status> =
                    refusals.iter().map(|(node, status)| (node, status.clone())).collect();
                prop_assert_eq!(&all, &model);
                prop_assert_eq!((refusals.len(), refusals.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(refusals.get(NodeId(node)), model.get(&NodeId(node)));
                for (status, count) in refusals.distinct() {
                    prop_assert_eq!(model.values().filter(|other| *other == status).count(), count);
                }
                prop_assert_eq!(refusals.distinct().map(|(_, count)| count).sum::<usize>(), model.len());
            }
        }
    }
}
