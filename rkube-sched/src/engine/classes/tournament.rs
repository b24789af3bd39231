//! The best of many scores, how many have it, and any one of those, kept while single scores change.

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

const NONE: Best = Best { score: OUT, ties: 0 };

/// A tree of blocks over rows of scores. Changing one score costs one block a level, drawing one of the
/// best likewise.
#[derive(Debug, Default)]
pub(super) struct Tournament {
    scores: Vec<i32>,
    /// The bests of blocks of rows, of blocks of those, and so on; the last level has one entry.
    levels: Vec<Vec<Best>>,
}

fn best_of_scores(block: &[i32]) -> Best {
    let score = block.iter().copied().max().unwrap_or(OUT);
    if score == OUT {
        return NONE;
    }
    Best { score, ties: block.iter().map(|other| u32::from(*other == score)).sum() }
}

fn best_of_bests(block: &[Best]) -> Best {
    let score = block.iter().map(|best| best.score).max().unwrap_or(OUT);
    let ties = block.iter().filter(|best| best.score == score).map(|best| best.ties).sum();
    Best { score, ties }
}

/// The entries that one entry of the next level stands for.
fn block<T>(entries: &[T], index: usize) -> &[T] {
    let start = (index * WIDTH).min(entries.len());
    &entries[start..(start + WIDTH).min(entries.len())]
}

impl Tournament {
    pub(super) fn new(scores: Vec<i32>) -> Self {
        let mut levels = vec![scores.chunks(WIDTH).map(best_of_scores).collect::<Vec<_>>()];
        while let Some(last) = levels.last().filter(|last| last.len() > 1) {
            levels.push(last.chunks(WIDTH).map(best_of_bests).collect());
        }
        Self { scores, levels }
    }

    /// Makes room for rows, which do not take part yet.
    pub(super) fn grow(&mut self, rows: usize) {
        let mut scores = std::mem::take(&mut self.scores);
        scores.resize(rows, OUT);
        *self = Self::new(scores);
    }

    /// The best score, and how many rows have it; none have it if no row takes part.
    pub(super) fn best(&self) -> Best {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or(NONE)
    }

    pub(super) fn get(&self, row: usize) -> i32 {
        self.scores[row]
    }

    pub(super) fn set(&mut self, row: usize, score: i32) {
        if std::mem::replace(&mut self.scores[row], score) == score {
            return;
        }
        let mut index = row / WIDTH;
        let mut now = best_of_scores(block(&self.scores, index));
        for level in 0..self.levels.len() {
            if std::mem::replace(&mut self.levels[level][index], now) == now {
                return;
            }
            index /= WIDTH;
            now = best_of_bests(block(&self.levels[level], index));
        }
    }

    /// Among the rows that have the best score, the one at a place below their number, by row.
    pub(super) fn pick(&self, mut place: u32) -> Option<usize> {
        let best = self.best();
        if place >= best.ties {
            return None;
        }
        let mut index = 0;
        for level in self.levels.iter().rev().skip(1) {
            let found = block(level, index).iter().position(|entry| {
                let ties = if entry.score == best.score { entry.ties } else { 0 };
                place.checked_sub(ties).map(|rest| place = rest).is_none()
            });
            index = index * WIDTH + found?;
        }
        let rows = block(&self.scores, index).iter().enumerate();
        let mut rows = rows.filter(|(_, score)| **score == best.score);
        rows.nth(place as usize).map(|(row, _)| index * WIDTH + row)
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
