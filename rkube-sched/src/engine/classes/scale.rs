//! Raw scores of one plugin, and what normalization makes of them.

use foldhash::fast::FixedState;
use indexmap::IndexMap;

use crate::{
    framework::{CycleState, MAX_NODE_SCORE, Weighted},
    snapshot::{NodeId, PodInfo},
};

/// The raw score of each row as a number of the list of distinct ones, how many feasible nodes have each,
/// and what each counts for. Only a raw score that appears or disappears can change what others count
/// for.
#[derive(Debug)]
pub(super) struct Scale {
    of: Vec<u16>,
    counts: IndexMap<i64, u32, FixedState>,
    worth: Vec<i32>,
    stale: bool,
}

/// A score as it counts, or `None` if it is out of range: the plain engine says what is wrong.
pub(super) fn weighted(score: i64, weight: i64) -> Option<i32> {
    let valid = (0..=MAX_NODE_SCORE).contains(&score);
    valid.then(|| i32::try_from(score.checked_mul(weight)?).ok()).flatten()
}

/// What distinct raw scores count for.
fn worths(values: &mut [i64], plugin: &Weighted, state: &CycleState, pod: &PodInfo) -> Option<Vec<i32>> {
    let status = plugin.plugin.normalize(state, pod, values);
    let valid = status.is_success();
    valid.then(|| values.iter().map(|score| weighted(*score, plugin.weight)).collect()).flatten()
}

impl Scale {
    pub(super) fn new(rows: usize) -> Self {
        Self { of: vec![0; rows], counts: IndexMap::default(), worth: Vec::new(), stale: true }
    }

    /// Makes room for rows, of which none is feasible yet.
    pub(super) fn grow(&mut self, rows: usize) {
        self.of.resize(rows, 0);
    }

    /// Notes a row's raw score. `None`: there are more distinct ones than can be numbered.
    pub(super) fn note(&mut self, row: usize, raw: i64) -> Option<()> {
        let (number, _) = match self.counts.get_full(&raw) {
            Some((number, ..)) => (number, None),
            None => self.counts.insert_full(raw, 0),
        };
        self.of[row] = u16::try_from(number).ok()?;
        Some(())
    }

    /// A row has become feasible.
    pub(super) fn enter(&mut self, row: usize) {
        if let Some((_, count)) = self.counts.get_index_mut(self.of[row].into()) {
            *count += 1;
            self.stale |= *count == 1;
        }
    }

    /// A row is no longer feasible.
    pub(super) fn leave(&mut self, row: usize) {
        if let Some((_, count)) = self.counts.get_index_mut(self.of[row].into()) {
            *count -= 1;
            self.stale |= *count == 0;
        }
    }

    /// What a feasible row's score counts for.
    pub(super) fn worth(&self, row: usize) -> i32 {
        self.worth[usize::from(self.of[row])]
    }

    /// Whether all feasible rows have the same raw score.
    pub(super) fn is_even(&self) -> bool {
        self.counts.values().filter(|count| **count > 0).count() < 2
    }

    /// Normalizes anew if a raw score has appeared or disappeared. True: rows that have not changed count
    /// for something else now.
    pub(super) fn refresh(&mut self, plugin: &Weighted, state: &CycleState, pod: &PodInfo) -> Option<bool> {
        if !std::mem::take(&mut self.stale) {
            return Some(false);
        }
        self.worth.resize(self.counts.len(), 0);
        let present = self.counts.values().enumerate().filter(|(_, count)| **count > 0);
        let present: Vec<usize> = present.map(|(number, _)| number).collect();
        let mut values: Vec<i64> =
            present.iter().filter_map(|number| self.counts.get_index(*number)).map(|(raw, _)| *raw).collect();
        let mut changed = false;
        for (number, worth) in present.iter().zip(worths(&mut values, plugin, state, pod)?) {
            changed |= std::mem::replace(&mut self.worth[*number], worth) != worth;
        }
        Some(changed)
    }

    /// What some rows' scores count for when only they are feasible, added to their totals.
    pub(super) fn add_among(
        &self,
        ids: &[NodeId],
        totals: &mut [i64],
        plugin: &Weighted,
        state: &CycleState,
        pod: &PodInfo,
    ) -> Option<()> {
        let mut places = vec![None; self.counts.len()];
        let mut values = Vec::new();
        for id in ids {
            let number = usize::from(self.of[id.row()]);
            if places[number].is_none() {
                places[number] = Some(values.len());
                values.push(*self.counts.get_index(number)?.0);
            }
        }
        let worths = worths(&mut values, plugin, state, pod)?;
        for (total, id) in totals.iter_mut().zip(ids) {
            *total += i64::from(worths[places[usize::from(self.of[id.row()])]?]);
        }
        Some(())
    }
}
