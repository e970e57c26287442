//! Where one term occurs: slots in ascending order, each with its count.
//!
//! The list is kept in blocks so that putting in or taking out an entry in the middle moves one
//! block and not the whole list. Nothing dead stays in it: what a list says depends only on the
//! documents that live, not on those that came and went.

use smallvec::{SmallVec, smallvec};

/// Entries of the largest block: 4 KiB. A full one is split in two.
const BLOCK_MAX: usize = 512;

/// One document that holds the term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    pub slot: u32,
    /// How often the document holds the term.
    pub count: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Postings {
    /// None is empty; slots ascend within and across blocks. Most terms are rare, and have one.
    blocks: SmallVec<[Vec<Posting>; 1]>,
    len: u32,
}

impl Postings {
    /// A list from entries in ascending order of slots.
    pub(crate) fn from_sorted(entries: Vec<Posting>) -> Self {
        assert!(
            entries.is_sorted_by_key(|p| p.slot),
            "entries of a list are out of order"
        );
        let len = u32::try_from(entries.len()).expect("one entry a slot, and slots are 32 bits");
        let blocks = match entries.len() {
            0 => SmallVec::new(),
            1..=BLOCK_MAX => smallvec![entries],
            _ => entries.chunks(BLOCK_MAX).map(<[Posting]>::to_vec).collect(),
        };
        Self { blocks, len }
    }

    /// Documents that hold the term.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &[Posting]> {
        self.blocks.iter().map(Vec::as_slice)
    }

    /// Puts in a document that the list does not hold yet.
    pub(crate) fn insert(&mut self, posting: Posting) {
        self.len += 1;
        // Slots are mostly given in ascending order: then the last block is filled, not split.
        let last = self.blocks.last().and_then(|b| b.last());
        if last.is_none_or(|p| p.slot < posting.slot) {
            match self.blocks.last_mut().filter(|b| b.len() < BLOCK_MAX) {
                Some(block) => block.push(posting),
                None => self.blocks.push(vec![posting]),
            }
            return;
        }
        let at = self.block_of(posting.slot);
        let block = &mut self.blocks[at];
        let within = block.partition_point(|p| p.slot < posting.slot);
        assert!(
            block.get(within).is_none_or(|p| p.slot != posting.slot),
            "slot {} is in the list already",
            posting.slot
        );
        block.insert(within, posting);
        if block.len() > BLOCK_MAX {
            let upper = block.split_off(block.len() / 2);
            self.blocks.insert(at + 1, upper);
        }
    }

    /// Takes out a document that the list holds.
    pub(crate) fn remove(&mut self, slot: u32) {
        let at = self.block_of(slot);
        let block = &mut self.blocks[at];
        let within = block.binary_search_by_key(&slot, |p| p.slot);
        block.remove(within.expect("a document is in the lists of its terms"));
        self.len -= 1;
        if block.is_empty() {
            self.blocks.remove(at);
        }
    }

    /// The first block that ends at `slot` or beyond.
    fn block_of(&self, slot: u32) -> usize {
        let at = self
            .blocks
            .partition_point(|b| b.last().is_some_and(|p| p.slot < slot));
        at.min(self.blocks.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entries(list: &Postings) -> Vec<(u32, u32)> {
        list.blocks().flatten().map(|p| (p.slot, p.count)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn holds_what_a_map_holds(
            start in 0_u32..2000,
            changes in prop::collection::vec((0_u32..3000, any::<bool>()), 0..1500),
        ) {
            let sorted: Vec<_> = (0..start).map(|slot| Posting { slot, count: 1 }).collect();
            let mut expected: BTreeMap<u32, u32> = (0..start).map(|slot| (slot, 1)).collect();
            let mut list = Postings::from_sorted(sorted);
            for (slot, put) in changes {
                let held = expected.contains_key(&slot);
                if put && !held {
                    list.insert(Posting { slot, count: slot + 1 });
                    expected.insert(slot, slot + 1);
                } else if held && !put {
                    list.remove(slot);
                    expected.remove(&slot);
                }
            }
            prop_assert_eq!(list.len() as usize, expected.len());
            prop_assert_eq!(entries(&list), expected.into_iter().collect::<Vec<_>>());
            prop_assert!(list.blocks().all(|b| !b.is_empty() && b.len() <= BLOCK_MAX));
        }
    }
}
