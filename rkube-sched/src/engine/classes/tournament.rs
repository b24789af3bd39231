//! The best of many scores, how many have it, and any one of those, kept while single scores change.

use std::{cmp::Ordering, ops::Range};

/// The score of a row that does not take part.
pub(super) const OUT: i32 = i32::MIN;
/// How many entries one entry of the next level stands for: a block fits a few cache lines.
const WIDTH: usize = 64;

/// The best score of some rows, and how many have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Best {
    pub(super) score: i32,
    pub(super) ties: u32,
}

pub(super) const NONE: Best = Best { score: OUT, ties: 0 };

const fn one(score: i32) -> Best {
    Best { score, ties: if score == OUT { 0 } else { 1 } }
}

/// The better of two, or both together.
fn both(one: Best, other: Best) -> Best {
    match one.score.cmp(&other.score) {
        Ordering::Greater => one,
        Ordering::Less => other,
        Ordering::Equal => Best { score: one.score, ties: one.ties + other.ties },
    }
}

fn best_of(bests: impl Iterator<Item = Best>) -> Best {
    bests.fold(NONE, both)
}

/// A tree of blocks over rows, whose scores somebody else keeps. Changing one score costs one block a level,
/// drawing one of the best likewise.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// The bests of blocks of rows, of blocks of those, and so on; the last level has one entry.
    levels: Vec<Vec<Best>>,
}

/// The entries that one entry of the next level stands for.
fn block<T>(entries: &[T], index: usize) -> &[T] {
    let start = (index * WIDTH).min(entries.len());
    &entries[start..(start + WIDTH).min(entries.len())]
}

impl Tree {
    /// No row takes part.
    pub(super) fn new(rows: usize) -> Self {
        let mut levels = vec![vec![NONE; rows.div_ceil(WIDTH)]];
        while let Some(last) = levels.last().filter(|last| last.len() > 1) {
            levels.push(vec![NONE; last.len().div_ceil(WIDTH)]);
        }
        Self { levels }
    }

    /// A row takes part; nothing else may be asked before [`Tree::finish`].
    pub(super) fn add(&mut self, row: usize, score: i32) {
        let entry = &mut self.levels[0][row / WIDTH];
        *entry = both(*entry, one(score));
    }

    /// Takes in what was added.
    pub(super) fn finish(&mut self) {
        for level in 1..self.levels.len() {
            let (below, above) = self.levels.split_at_mut(level);
            for (index, entry) in above[0].iter_mut().enumerate() {
                *entry = best_of(block(&below[level - 1], index).iter().copied());
            }
        }
    }

    /// The best score, and how many rows have it; none have it if no row takes part.
    pub(super) fn best(&self) -> Best {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or(NONE)
    }

    /// The score of a row has changed; `block` gives the best of the rows that it is among.
    pub(super) fn update(&mut self, row: usize, best: impl FnOnce(Range<usize>) -> Best) {
        let mut index = row / WIDTH;
        let mut now = best(index * WIDTH..(index + 1) * WIDTH);
        for level in 0..self.levels.len() {
            if std::mem::replace(&mut self.levels[level][index], now) == now {
                return;
            }
            index /= WIDTH;
            now = best_of(block(&self.levels[level], index).iter().copied());
        }
    }
}

/// Among the rows of some trees that have the best score of their tree, the one at a place below their
/// number, by row; `has` says whether a row is one of those.
pub(super) fn pick(trees: &[&Tree], mut place: u32, has: impl Fn(usize) -> bool) -> Option<usize> {
    let ties_at = |level: usize, index: usize| -> u32 {
        let ties = |tree: &&Tree| {
            let entry = tree.levels[level].get(index).copied().unwrap_or(NONE);
            if entry.score == tree.best().score { entry.ties } else { 0 }
        };
        trees.iter().map(ties).sum()
    };
    let depth = trees.first()?.levels.len();
    let mut index = 0;
    for level in (0..depth.saturating_sub(1)).rev() {
        let found = (index * WIDTH..(index + 1) * WIDTH)
            .find(|entry| place.checked_sub(ties_at(level, *entry)).map(|rest| place = rest).is_none());
        index = found?;
    }
    (index * WIDTH..(index + 1) * WIDTH).filter(|row| has(*row)).nth(place as usize)
}

/// A tree with the scores of its rows.
#[derive(Debug, Default)]
pub(super) struct Tournament {
    scores: Vec<i32>,
    tree: Tree,
}

fn best_of_scores(block: &[i32]) -> Best {
    let score = block.iter().copied().max().unwrap_or(OUT);
    if score == OUT {
        return NONE;
    }
    Best { score, ties: block.iter().map(|other| u32::from(*other == score)).sum() }
}

impl Tournament {
    pub(super) fn new(scores: Vec<i32>) -> Self {
        let mut tree = Tree::new(scores.len());
        for (entry, block) in tree.levels[0].iter_mut().zip(scores.chunks(WIDTH)) {
            *entry = best_of_scores(block);
        }
        tree.finish();
        Self { scores, tree }
    }

    /// Makes room for rows, which do not take part yet.
    pub(super) fn grow(&mut self, rows: usize) {
        let mut scores = std::mem::take(&mut self.scores);
        scores.resize(rows, OUT);
        *self = Self::new(scores);
    }

    /// The best score, and how many rows have it; none have it if no row takes part.
    pub(super) fn best(&self) -> Best {
        self.tree.best()
    }

    pub(super) fn get(&self, row: usize) -> i32 {
        self.scores[row]
    }

    /// The scores, by row.
    pub(super) fn scores(&self) -> &[i32] {
        &self.scores
    }

    pub(super) fn set(&mut self, row: usize, score: i32) {
        if std::mem::replace(&mut self.scores[row], score) != score {
            self.tree.update(row, |rows| best_of_scores(block(&self.scores, rows.start / WIDTH)));
        }
    }

    /// Among the rows that have the best score, the one at a place below their number, by row.
    pub(super) fn pick(&self, place: u32) -> Option<usize> {
        let best = self.best();
        let has = |row: usize| self.scores.get(row).is_some_and(|score| *score == best.score);
        (place < best.ties).then(|| pick(&[&self.tree], place, has)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(tree: &Tournament, scores: &[i32]) {
        let best = scores.iter().copied().max().filter(|best| *best != OUT);
        let rows: Vec<_> = scores.iter().enumerate().filter(|(_, score)| Some(**score) == best).collect();
        assert_eq!(tree.best().ties as usize, rows.len());
        assert!(rows.is_empty() || Some(tree.best().score) == best);
        for place in 0..=rows.len() {
            assert_eq!(tree.pick(place as u32), rows.get(place).map(|(row, _)| *row));
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_scan(
            mut scores in prop::collection::vec(prop_oneof![Just(OUT), -2..3i32], 0..9000),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(OUT), -2..4i32]), 0..20),
        ) {
            let mut tree = Tournament::new(scores.clone());
            check(&tree, &scores);
            for (index, score) in changes {
                if scores.is_empty() {
                    break;
                }
                let row = index.index(scores.len());
                scores[row] = score;
                tree.set(row, score);
                prop_assert_eq!(tree.get(row), score);
                check(&tree, &scores);
            }
        }
    }
}
