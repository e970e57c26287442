//! The dense vectors of one namespace: a coarse search over sign bits, then exact scores.
//!
//! ```text
//! query bits ── nearest rows by Hamming distance ──▶ a ball ── exact dot products ──▶ the n best
//!                 FAISS, or a scan of passing rows      (rows)        in fixed order      (slots)
//! ```
//!
//! A memory has one row for each window of its text and is as good as its best row.
//!
//! **What is found depends on what is there, never on how it came there.** The ball is defined
//! without rows: it reaches to the smallest Hamming distance within which there are at least
//! [`Dense::coarse_rows`] passing rows of at least `n` memories, and holds all rows at that
//! distance. FAISS cuts equal distances by row number, which is history; so its answer counts only
//! where the cut lies beyond the ball, and otherwise the rows are scanned. How many rows FAISS is
//! asked for, and whether it is asked at all, is a matter of speed alone.
//!
//! A filter is part of the definition: with one, the answer is what it would be if only passing
//! memories existed. FAISS's binary index takes no filter, so it is asked for as many more rows as
//! the filter drops, and where it drops most the passing rows are scanned instead.
//!
//! Removed rows stay as tombstones until they are a quarter of all; then the rest moves together.

mod hamming;
mod rows;
pub(crate) mod stored;

pub(crate) use rows::Rows;

use crate::{
    best::{Best, Scored},
    bitmap::Bitmap,
    dot::{Vector, dot},
    embed::{Rotation, sign_bits},
    faiss::{BinaryFlat, Bits, Error, Hit},
};

/// Rows looked at exactly for each result asked for. Measured on 111,000 sentences of source
/// comments: the best 400 by Hamming distance hold .991 of the exact best 10 and .948 of the exact
/// best 50, the best 800 .998 and .980.
const COARSE_PER_RESULT: usize = 4;

/// Rows looked at exactly at least.
const COARSE_MIN: usize = 400;

/// FAISS is asked for this many more rows than should do, so that the ball's last distance seldom
/// lies at the cut.
const SPARE_ROWS: usize = 64;

/// FAISS keeps what it found in a heap, which gets slow as it grows. Where it would have to give
/// more than this share of its rows, scanning the rows is faster.
const FAISS_SHARE_MAX: f64 = 1.0 / 64.0;

/// Share of rows that must pass for FAISS to be asked: it reads them all, and a scan only these.
const FAISS_PASSING_MIN: f64 = 0.75;

/// Tombstones that are not worth a compaction.
const TOMBSTONES_FREE: usize = 1024;

/// No memory: the row is a tombstone.
const NONE: u32 = u32::MAX;

/// A query's dense vector and the sign bits of it after the rotation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) vector: &'a Vector,
    pub(crate) bits: &'a Bits,
}

/// What the coarse search compares: the sign bits of a vector after the fixed rotation.
pub(crate) fn signs(vector: &Vector) -> Bits {
    sign_bits(&Rotation::shared().rotate(vector))
}

/// [`signs`] of each vector, sooner than one by one.
pub(crate) fn signs_of_all(vectors: &[&Vector]) -> Vec<Bits> {
    let rotated = Rotation::shared().rotate_all(vectors);
    rotated.iter().map(|vector| sign_bits(vector)).collect()
}

/// The vectors of one namespace, by slot.
#[derive(Debug)]
pub(crate) struct Dense {
    coarse: BinaryFlat,
    /// By row.
    vectors: Rows,
    /// By row; the same as in `coarse`.
    bits: Vec<Bits>,
    /// By row: the memory it belongs to, or [`NONE`].
    slots: Vec<u32>,
    /// By slot: its rows, which lie together.
    spans: Vec<Span>,
    memories: usize,
    tombstones: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    first: u32,
    count: u32,
}

impl Span {
    fn rows(self) -> std::ops::Range<u32> {
        self.first..self.first + self.count
    }
}

impl Dense {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            coarse: BinaryFlat::new()?,
            vectors: Rows::default(),
            bits: Vec::new(),
            slots: Vec::new(),
            spans: Vec::new(),
            memories: 0,
            tombstones: 0,
        })
    }

    /// Rows of memories that live.
    pub(crate) fn rows(&self) -> usize {
        self.slots.len() - self.tombstones
    }

    /// Rows that wait for a compaction.
    pub(crate) fn tombstones(&self) -> usize {
        self.tombstones
    }

    /// Gives a slot, which must have none, the vectors of its windows. On an error nothing has
    /// changed.
    pub(crate) fn insert(&mut self, slot: u32, windows: &[(&Vector, Bits)]) -> Result<(), Error> {
        assert!(!windows.is_empty(), "a memory has at least one window");
        assert!(
            slot != NONE && self.span(slot).count == 0,
            "slot {slot} has vectors already"
        );
        let bits: Vec<Bits> = windows.iter().map(|(_, bits)| *bits).collect();
        self.coarse.add(&bits)?;
        let span = Span {
            first: self.next_row(),
            count: windows.len() as u32,
        };
        if slot as usize >= self.spans.len() {
            self.spans.resize(slot as usize + 1, Span::default());
        }
        self.spans[slot as usize] = span;
        self.bits.extend(bits);
        self.slots.resize(self.slots.len() + windows.len(), slot);
        windows
            .iter()
            .for_each(|(vector, _)| self.vectors.push(vector));
        self.memories += 1;
        Ok(())
    }

    /// Takes a slot's vectors away; `false` if it has none. After an error they are gone, and
    /// tombstones remain that a later removal may clear.
    pub(crate) fn remove(&mut self, slot: u32) -> Result<bool, Error> {
        let span = self.span(slot);
        if span.count == 0 {
            return Ok(false);
        }
        for row in span.rows() {
            self.slots[row as usize] = NONE;
        }
        self.spans[slot as usize] = Span::default();
        self.memories -= 1;
        self.tombstones += span.count as usize;
        if self.tombstones > TOMBSTONES_FREE && self.tombstones * 4 > self.slots.len() {
            self.compact()?;
        }
        Ok(true)
    }

    /// The vectors of a slot's windows; none if it has none.
    pub(crate) fn vectors(&self, slot: u32) -> impl Iterator<Item = &Vector> {
        self.span(slot).rows().map(|row| self.vectors.get(row))
    }

    /// The exact score of a slot: the dot product with its best window.
    pub(crate) fn score(&self, query: &Vector, slot: u32) -> Option<f32> {
        self.vectors(slot)
            .map(|vector| dot(query, vector))
            .max_by(f32::total_cmp)
    }

    /// The `n` best passing slots by exact score, equal ones by key; all of them if they are fewer.
    /// Without a filter every slot passes. See the module's documentation for what is left out.
    pub(crate) fn search<K: Ord>(
        &self,
        query: Query<'_>,
        n: usize,
        passing: Option<&Bitmap>,
        key: impl Fn(u32) -> K,
    ) -> Result<Vec<Scored>, Error> {
        if n == 0 || self.memories == 0 {
            return Ok(Vec::new());
        }
        let ball = match self.ball_by_faiss(query.bits, n, passing)? {
            Some(ball) => ball,
            None => self.ball_by_scan(query.bits, n, passing),
        };
        let mut scored: Vec<(u32, f32)> = ball
            .iter()
            .map(|hit| {
                (
                    self.slots[hit.row as usize],
                    dot(query.vector, self.vectors.get(hit.row)),
                )
            })
            .collect();
        scored.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        scored.dedup_by_key(|(slot, _)| *slot);
        let mut best = Best::new(n, key);
        for (slot, score) in scored {
            best.offer(slot, f64::from(score));
        }
        Ok(best.into_sorted())
    }

    /// Rows that a ball holds at least, if there are as many.
    fn coarse_rows(n: usize) -> usize {
        n.saturating_mul(COARSE_PER_RESULT).max(COARSE_MIN)
    }

    /// `None` where FAISS is not the way to find the ball, or did not find all of it.
    fn ball_by_faiss(
        &self,
        query: &Bits,
        n: usize,
        passing: Option<&Bitmap>,
    ) -> Result<Option<Vec<Hit>>, Error> {
        let rows = self.slots.len();
        let passing_share = passing.map_or(1.0, |p| f64::from(p.count()) / self.memories as f64);
        let live_share = self.rows() as f64 / rows as f64;
        let share = passing_share * live_share;
        let wanted = Self::coarse_rows(n) as f64 / share * 1.125 + SPARE_ROWS as f64;
        if share < FAISS_PASSING_MIN || wanted > rows as f64 * FAISS_SHARE_MAX {
            return Ok(None);
        }
        let hits = self.coarse.search(query, wanted as u32)?;
        // Rows at the last distance may be missing, so only those before it are certain.
        let last = hits.last().map_or(0, |h| h.distance);
        let certain = hits.into_iter().take_while(|h| h.distance < last);
        let mut hits: Vec<Hit> = certain.filter(|h| self.passes(h.row, passing)).collect();
        Ok(self.cut_to_ball(&mut hits, n).then_some(hits))
    }

    fn ball_by_scan(&self, query: &Bits, n: usize, passing: Option<&Bitmap>) -> Vec<Hit> {
        let mut count = Self::coarse_rows(n);
        loop {
            let mut hits = match passing {
                Some(passing) => {
                    let mut rows = Vec::with_capacity(passing.count() as usize);
                    passing.for_each(|slot| rows.extend(self.span(slot).rows()));
                    hamming::nearest(query, &self.bits, rows.into_iter(), count)
                }
                None => {
                    let rows = (0_u32..)
                        .zip(&self.slots)
                        .filter(|(_, slot)| **slot != NONE);
                    hamming::nearest(query, &self.bits, rows.map(|(row, _)| row), count)
                }
            };
            // Fewer than asked for: that is all there are.
            if self.cut_to_ball(&mut hits, n) || hits.len() < count {
                return hits;
            }
            count = hits.len().saturating_mul(4);
        }
    }

    /// Drops what lies beyond the ball. `hits` are passing rows, nearest first, without a gap;
    /// `false` if they do not reach the ball's last distance, and then they stay as they are.
    fn cut_to_ball(&self, hits: &mut Vec<Hit>, n: usize) -> bool {
        let coarse_rows = Self::coarse_rows(n);
        let mut seen = Bitmap::none(if hits.len() < coarse_rows {
            0
        } else {
            self.spans.len() as u32
        });
        let mut memories = 0;
        for at in 0..hits.len() {
            let slot = self.slots[hits[at].row as usize];
            if memories < n && hits.len() >= coarse_rows && !seen.contains(slot) {
                seen.insert(slot);
                memories += 1;
            }
            if at + 1 >= coarse_rows && memories >= n {
                let last = hits[at].distance;
                let beyond = hits.partition_point(|h| h.distance <= last);
                hits.truncate(beyond);
                return true;
            }
        }
        false
    }

    fn passes(&self, row: u32, passing: Option<&Bitmap>) -> bool {
        let slot = self.slots[row as usize];
        slot != NONE && passing.is_none_or(|p| p.contains(slot))
    }

    fn span(&self, slot: u32) -> Span {
        self.spans.get(slot as usize).copied().unwrap_or_default()
    }

    fn next_row(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("FAISS has as many rows and counts them in 32 bits")
    }

    /// Moves the rows that live together. On an error nothing has changed.
    fn compact(&mut self) -> Result<(), Error> {
        let live = |(row, slot): (u32, &u32)| (*slot != NONE).then_some(row);
        let kept: Vec<u32> = (0..).zip(&self.slots).filter_map(live).collect();
        let bits: Vec<Bits> = kept.iter().map(|row| self.bits[*row as usize]).collect();
        let mut coarse = BinaryFlat::new()?;
        coarse.add(&bits)?;
        self.slots = kept.iter().map(|row| self.slots[*row as usize]).collect();
        self.spans
            .iter_mut()
            .for_each(|span| *span = Span::default());
        for (row, slot) in (0..).zip(&self.slots) {
            let span = &mut self.spans[*slot as usize];
            span.first = if span.count == 0 { row } else { span.first };
            span.count += 1;
        }
        self.vectors = std::mem::take(&mut self.vectors).keep(&kept);
        (self.coarse, self.bits, self.tombstones) = (coarse, bits, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use memorygate_core::embedding::{DIMENSION, STATE_BYTES, unit};
    use proptest::prelude::*;

    use super::*;

    type Memory = Vec<(Vector, Bits)>;

    /// A vector of few directions, so that distances and scores are often equal.
    fn vector(seed: u64) -> Vector {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut values = vec![0.0_f32; DIMENSION];
        for value in &mut values {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *value = (state % 3) as f32 - 0.9;
        }
        unit(&values).unwrap().try_into().unwrap()
    }

    /// Stands in for the rotation's sign bits: coarser than the vector's own signs.
    fn bits(vector: &Vector) -> Bits {
        let mut bits = [0; STATE_BYTES];
        for d in (0..DIMENSION).step_by(16) {
            bits[d / 8] |= u8::from(vector[d] + vector[d + 1] >= 0.0);
        }
        bits
    }

    fn memory(seeds: &[u64]) -> Memory {
        seeds
            .iter()
            .map(|seed| (vector(*seed), bits(&vector(*seed))))
            .collect()
    }

    fn insert(dense: &mut Dense, slot: u32, memory: &Memory) {
        let windows: Vec<(&Vector, Bits)> = memory.iter().map(|(v, b)| (v, *b)).collect();
        dense.insert(slot, &windows).unwrap();
    }

    /// Keys run against slots, so that a tie that is broken by slot shows.
    fn key(slot: u32) -> u32 {
        u32::MAX - slot
    }

    fn search(
        dense: &Dense,
        query: &Vector,
        n: usize,
        passing: Option<&Bitmap>,
    ) -> Vec<(u32, f64)> {
        let query = Query {
            vector: query,
            bits: &bits(query),
        };
        let found = dense.search(query, n, passing, key).unwrap();
        found.into_iter().map(|s| (s.slot, s.score)).collect()
    }

    /// The definition in the module's documentation, over the memories that pass.
    fn by_definition(live: &BTreeMap<u32, Memory>, query: &Vector, n: usize) -> Vec<(u32, f64)> {
        let distance = |b: &Bits| -> u32 {
            b.iter()
                .zip(&bits(query))
                .map(|(a, b)| (a ^ b).count_ones())
                .sum()
        };
        let within = |radius: u32| {
            let near = |m: &Memory| m.iter().filter(|(_, b)| distance(b) <= radius).count();
            let counts: Vec<usize> = live.values().map(near).collect();
            (
                counts.iter().sum::<usize>(),
                counts.iter().filter(|c| **c > 0).count(),
            )
        };
        let enough = |(rows, memories)| rows >= Dense::coarse_rows(n) && memories >= n;
        let radius = (0..=384).find(|r| enough(within(*r))).unwrap_or(384);
        let mut scored: Vec<(u32, f64)> = live
            .iter()
            .filter_map(|(slot, memory)| {
                let near = memory.iter().filter(|(_, b)| distance(b) <= radius);
                let best = near.map(|(v, _)| dot(query, v)).max_by(f32::total_cmp)?;
                Some((*slot, f64::from(best)))
            })
            .collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(key(a.0).cmp(&key(b.0))));
        scored.truncate(n);
        scored
    }

    fn passing(
        live: &BTreeMap<u32, Memory>,
        slots: u32,
        share: u32,
    ) -> (Bitmap, BTreeMap<u32, Memory>) {
        let set = Bitmap::where_true(slots, |slot| slot % 16 < share);
        let some = live.iter().filter(|(slot, _)| set.contains(**slot));
        let some = some.map(|(slot, m)| (*slot, m.clone())).collect();
        (set, some)
    }

    #[test]
    fn an_empty_index_and_a_filter_that_nothing_passes_find_nothing() {
        let mut dense = Dense::new().unwrap();
        assert_eq!(search(&dense, &vector(1), 3, None), []);
        insert(&mut dense, 5, &memory(&[1]));
        assert_eq!(search(&dense, &vector(1), 0, None), []);
        assert_eq!(search(&dense, &vector(1), 3, Some(&Bitmap::none(6))), []);
        assert_eq!(search(&dense, &vector(1), 3, None)[0].0, 5);
        assert_eq!(dense.score(&vector(1), 4), None);
        assert!(!dense.remove(4).unwrap() && dense.remove(5).unwrap() && dense.memories == 0);
        assert_eq!(search(&dense, &vector(1), 3, None), []);
    }

    #[test]
    fn a_memory_counts_by_its_best_window_and_once() {
        let mut dense = Dense::new().unwrap();
        insert(&mut dense, 0, &memory(&[1, 2, 3]));
        insert(&mut dense, 1, &memory(&[4]));
        let found = search(&dense, &vector(2), 9, None);
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(found[0].1, f64::from(dense.score(&vector(2), 0).unwrap()));
        assert!((found[0].1 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn many_windows_of_few_memories_do_not_crowd_out_the_others() {
        let mut dense = Dense::new().unwrap();
        let mut live = BTreeMap::new();
        for slot in 0..8 {
            live.insert(slot, memory(&[7; 100]));
        }
        for slot in 8..1000 {
            live.insert(slot, memory(&[u64::from(slot)]));
        }
        live.iter()
            .for_each(|(slot, memory)| insert(&mut dense, *slot, memory));
        let found = search(&dense, &vector(7), 50, None);
        assert_eq!(found.len(), 50);
        assert_eq!(found, by_definition(&live, &vector(7), 50));
    }

    #[test]
    fn identical_vectors_are_found_by_key_and_not_by_row() {
        let mut dense = Dense::new().unwrap();
        for slot in 0..36_000 {
            insert(&mut dense, slot, &memory(&[7]));
        }
        let found: Vec<u32> = search(&dense, &vector(7), 3, None)
            .iter()
            .map(|f| f.0)
            .collect();
        assert_eq!(found, [35_999, 35_998, 35_997]);
    }

    /// Large enough for FAISS's cut, the over-fetch behind a filter and a compaction to matter.
    #[test]
    fn history_does_not_show_in_what_is_found() {
        let slots = 40_000;
        let mut lived = Dense::new().unwrap();
        let mut live = BTreeMap::new();
        for slot in 0..slots {
            let memory = memory(&[u64::from(slot), u64::from(slot / 2)][..1 + slot as usize % 2]);
            insert(&mut lived, slot, &memory);
            live.insert(slot, memory);
        }
        let check = |lived: &Dense, live: &BTreeMap<u32, Memory>| {
            let mut fresh = Dense::new().unwrap();
            live.iter()
                .rev()
                .for_each(|(slot, memory)| insert(&mut fresh, *slot, memory));
            assert_eq!(
                (lived.memories, lived.rows()),
                (fresh.memories, fresh.rows())
            );
            for seed in [1, 2, 100_000] {
                let query = vector(seed);
                let expected = by_definition(live, &query, 10);
                assert_eq!(search(lived, &query, 10, None), expected);
                assert_eq!(search(&fresh, &query, 10, None), expected);
                for share in [1, 8, 15] {
                    let (set, some) = passing(live, slots, share);
                    let expected = by_definition(&some, &query, 10);
                    assert_eq!(
                        search(lived, &query, 10, Some(&set)),
                        expected,
                        "{share}/16"
                    );
                    assert_eq!(
                        search(&fresh, &query, 10, Some(&set)),
                        expected,
                        "{share}/16"
                    );
                }
            }
        };
        check(&lived, &live);
        for slot in (0..slots).filter(|slot| slot % 7 == 3) {
            assert!(lived.remove(slot).unwrap());
            live.remove(&slot);
        }
        assert!(lived.tombstones() > 0);
        check(&lived, &live);
        for slot in (0..slots).filter(|slot| slot % 7 == 4 || slot % 7 == 5) {
            lived.remove(slot).unwrap();
            live.remove(&slot);
        }
        assert!(
            lived.tombstones() * 4 <= lived.rows() + lived.tombstones(),
            "compacted"
        );
        check(&lived, &live);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn is_what_the_definition_says_after_any_history(
            history in prop::collection::vec(
                (0_u32..1200, prop::collection::vec(0_u64..300, 1..4), any::<bool>()), 0..1800),
            query in 0_u64..400,
            n in 1_usize..150,
            share in 0_u32..17,
        ) {
            let (mut dense, mut live) = (Dense::new().unwrap(), BTreeMap::new());
            for (slot, seeds, put) in history {
                prop_assert_eq!(dense.remove(slot).unwrap(), live.remove(&slot).is_some());
                if put {
                    insert(&mut dense, slot, &memory(&seeds));
                    live.insert(slot, memory(&seeds));
                }
            }
            let query = vector(query);
            prop_assert_eq!(search(&dense, &query, n, None), by_definition(&live, &query, n));
            let (set, some) = passing(&live, 1200, share);
            let found = search(&dense, &query, n, Some(&set));
            prop_assert_eq!(found.len(), n.min(some.len()));
            prop_assert_eq!(found, by_definition(&some, &query, n));
        }
    }
}
