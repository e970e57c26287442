//! Hamming distances to chosen rows: what FAISS's flat index cannot be asked for.

#![expect(
    unsafe_code,
    reason = "calls its POPCNT build where the CPU was found to have POPCNT"
)]

use memorygate_core::embedding::DIMENSION;

use crate::faiss::{Bits, Hit};

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
        // SAFETY: the CPU has POPCNT, the one feature that `distances_popcnt` is compiled for.
        return cut(unsafe { distances_popcnt(query, bits, rows) }, count);
    }
    cut(distances(query, bits, rows), count)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn distances_popcnt(query: &Bits, bits: &[Bits], rows: impl Iterator<Item = u32>) -> Vec<Hit> {
    distances(query, bits, rows)
}

#[inline(always)]
fn distances(query: &Bits, bits: &[Bits], rows: impl Iterator<Item = u32>) -> Vec<Hit> {
    let mut hits = Vec::with_capacity(rows.size_hint().0);
    rows.for_each(|row| {
        hits.push(Hit {
            row,
            distance: distance(query, &bits[row as usize]),
        })
    });
    hits
}

#[inline(always)]
fn distance(a: &Bits, b: &Bits) -> u32 {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    words
        .map(|(a, b)| (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)).count_ones())
        .sum()
}

/// Counts first, for a distance is one of 385 numbers, so that only what is kept is sorted.
fn cut(mut hits: Vec<Hit>, count: usize) -> Vec<Hit> {
    let mut within = [0_usize; DIMENSION + 1];
    hits.iter()
        .for_each(|hit| within[hit.distance as usize] += 1);
    let mut sum = 0;
    let reaches = |here: &usize| {
        sum += here;
        sum >= count
    };
    let last = within.iter().position(reaches).unwrap_or(DIMENSION) as u32;
    hits.retain(|hit| hit.distance <= last);
    hits.sort_by_key(|hit| hit.distance);
    hits
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
            prop_assert_eq!(cut(distances(&query, &bits, rows()), count), expected);
        }
    }
}
