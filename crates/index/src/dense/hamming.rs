//! Hamming distances to chosen rows: what FAISS's flat index cannot be asked for.

#![expect(
    unsafe_code,
    reason = "calls its POPCNT build where the CPU was found to have POPCNT"
)]

use memorygate_core::embedding::DIMENSION;

use crate::faiss::{Bits, Hit};

/// Hits beyond reach that are not worth dropping yet.
const FORGOTTEN_MAX: usize = 1024;

/// Of `rows` all within the smallest distance that holds `count` of them, nearest first; every one
/// if there are fewer. Rows of one distance keep the order in which they came.
pub(super) fn nearest(
    query: &Bits,
    bits: &[Bits],
    rows: impl Iterator<Item = u32>,
    count: usize,
) -> Vec<Hit> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("popcnt") {
        // SAFETY: the CPU has POPCNT, the one feature that `within_popcnt` is compiled for.
        return unsafe { within_popcnt(query, bits, rows, count) };
    }
    within(query, bits, rows, count)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn within_popcnt(
    query: &Bits,
    bits: &[Bits],
    rows: impl Iterator<Item = u32>,
    count: usize,
) -> Vec<Hit> {
    within(query, bits, rows, count)
}

/// Counts by distance, which is one of 385 numbers, and so knows at every row how far the nearest
/// `count` reach so far: of a long scan almost every row costs one comparison.
#[inline(always)]
fn within(query: &Bits, bits: &[Bits], rows: impl Iterator<Item = u32>, count: usize) -> Vec<Hit> {
    let mut by_distance = [0_usize; DIMENSION + 1];
    let (mut reach, mut kept) = (DIMENSION, 0);
    let mut hits = Vec::new();
    rows.for_each(|row| {
        let distance = distance(query, &bits[row as usize]);
        if distance as usize > reach {
            return;
        }
        hits.push(Hit { row, distance });
        by_distance[distance as usize] += 1;
        kept += 1;
        while reach > 0 && kept - by_distance[reach] >= count {
            kept -= by_distance[reach];
            reach -= 1;
        }
        // What was within reach once and is not any more, so that this stays small.
        if hits.len() > 2 * kept + FORGOTTEN_MAX {
            hits.retain(|hit| hit.distance as usize <= reach);
        }
    });
    hits.retain(|hit| hit.distance as usize <= reach);
    hits.sort_by_key(|hit| hit.distance);
    hits
}

#[inline(always)]
fn distance(a: &Bits, b: &Bits) -> u32 {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    words
        .map(|(a, b)| (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)).count_ones())
        .sum()
}

#[cfg(test)]
mod tests {
    use memorygate_core::embedding::STATE_BYTES;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_the_head_of_a_stable_sort_by_differing_bits(
            bits in prop::collection::vec(prop::collection::vec(any::<u8>(), STATE_BYTES), 0..60),
            query in prop::collection::vec(any::<u8>(), STATE_BYTES),
            step in 1_usize..4,
            count in 1_usize..80,
        ) {
            let bits: Vec<Bits> = bits.into_iter().map(|b| b.try_into().unwrap()).collect();
            let query: Bits = query.try_into().unwrap();
            let rows = || (0..bits.len() as u32).step_by(step);
            let mut expected: Vec<Hit> = rows()
                .map(|row| {
                    let differing = |d: &usize| (query[d / 8] ^ bits[row as usize][d / 8]) >> (d % 8) & 1 == 1;
                    Hit { row, distance: (0..DIMENSION).filter(differing).count() as u32 }
                })
                .collect();
            expected.sort_by_key(|h| h.distance);
            if let Some(last) = count.checked_sub(1).and_then(|at| expected.get(at)).copied() {
                expected.retain(|h| h.distance <= last.distance);
            }
            prop_assert_eq!(nearest(&query, &bits, rows(), count), expected.clone());
            prop_assert_eq!(within(&query, &bits, rows(), count), expected);
        }
    }
}
