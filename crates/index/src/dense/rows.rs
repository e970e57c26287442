//! Vectors in blocks: appended without moving what is there, and shared with a checkpoint that is
//! being written without copying it.

use std::sync::Arc;

use crate::dot::Vector;

/// Rows of a block: 1.5 MiB.
const BLOCK_ROWS: usize = 1024;

/// Rows of vectors, numbered from 0. A clone shares the blocks; whoever changes one first gets its
/// own copy of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// All but the last are full.
    blocks: Vec<Arc<Vec<Vector>>>,
}

impl Rows {
    #[inline]
    pub(crate) fn get(&self, row: u32) -> &Vector {
        let row = row as usize;
        &self.blocks[row / BLOCK_ROWS][row % BLOCK_ROWS]
    }

    pub(crate) fn push(&mut self, vector: &Vector) {
        match self.blocks.last_mut().filter(|b| b.len() < BLOCK_ROWS) {
            Some(block) => Arc::make_mut(block).push(*vector),
            None => {
                let mut block = Vec::with_capacity(BLOCK_ROWS);
                block.push(*vector);
                self.blocks.push(Arc::new(block));
            }
        }
    }

    /// Only the rows that are named, in ascending order, renumbered from 0. Blocks are given back as
    /// they are read, so that this needs no room for a second set.
    pub(crate) fn keep(self, rows: &[u32]) -> Self {
        let mut kept = Self::default();
        let mut left = rows;
        for (at, block) in self.blocks.into_iter().enumerate() {
            let end = (at + 1) * BLOCK_ROWS;
            let (here, later) = left.split_at(left.partition_point(|row| (*row as usize) < end));
            here.iter()
                .for_each(|row| kept.push(&block[*row as usize % BLOCK_ROWS]));
            left = later;
        }
        assert!(left.is_empty(), "row {left:?} of too few is to be kept");
        kept
    }
}

#[cfg(test)]
mod tests {
    use memorygate_core::embedding::DIMENSION;

    use super::*;

    #[test]
    fn a_clone_does_not_see_what_is_added_later() {
        let mut rows = Rows::default();
        for i in 0..BLOCK_ROWS + 2 {
            rows.push(&[i as f32; DIMENSION]);
        }
        let before = rows.clone();
        rows.push(&[7.0; DIMENSION]);
        assert_eq!(before.get(1025)[0], 1025.0);
        assert_eq!(rows.get(1026)[383], 7.0);
        assert_eq!((before.blocks[1].len(), rows.blocks[1].len()), (2, 3));
    }

    #[test]
    fn rows_that_are_kept_close_up() {
        let mut rows = Rows::default();
        for i in 0..3 * BLOCK_ROWS {
            rows.push(&[i as f32; DIMENSION]);
        }
        let kept: Vec<u32> = (0..3 * BLOCK_ROWS as u32)
            .filter(|row| row % 3 != 1)
            .collect();
        let closed = rows.keep(&kept);
        assert_eq!(closed.blocks.len(), 2);
        for (row, from) in (0..).zip(&kept) {
            assert_eq!(closed.get(row)[0], *from as f32);
        }
    }
}
