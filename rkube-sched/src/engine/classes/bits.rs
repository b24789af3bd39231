//! A set of rows.

use crate::snapshot::NodeId;

/// One bit a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn of(rows: usize, ids: &[NodeId]) -> Self {
        let mut bits = Self(vec![0; rows.div_ceil(64)]);
        for id in ids {
            bits.set(id.row(), true);
        }
        bits
    }

    /// Makes room for rows, which are not in the set.
    pub(super) fn grow(&mut self, rows: usize) {
        self.0.resize(rows.div_ceil(64), 0);
    }

    pub(super) fn get(&self, row: usize) -> bool {
        self.0[row / 64] >> (row % 64) & 1 == 1
    }

    pub(super) fn set(&mut self, row: usize, on: bool) {
        let (word, bit) = (&mut self.0[row / 64], 1 << (row % 64));
        *word = if on { *word | bit } else { *word & !bit };
    }

    /// The nodes of the set, by row.
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(NodeId(index as u32 * 64 + bit))
            })
        })
    }
}
