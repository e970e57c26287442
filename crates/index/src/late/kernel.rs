//! The inner loop of late interaction: integers in, integers out.
//!
//! A query piece is 384 numbers `q` of eight bits, a state 384 bits that stand for +1 and −1. So
//!
//! ```text
//! q · state = Σ(bit set) q − Σ(bit clear) q = 2 Σ(bit set) q − Σ q
//! Σ(bit set) q = Σ(bit set) (q + 128) − 128 × bits set
//! ```
//!
//! and the sum over unsigned bytes under a mask is what CPUs do best: AND, then the sum of absolute
//! differences from zero. Wider registers give the same integers sooner; the build for the CPU at
//! hand is chosen at run time.

#![expect(unsafe_code, reason = "vector instructions of the CPU that was found")]

use memorygate_core::embedding::DIMENSION;

use super::State;

/// A query piece in eight bits a dimension.
#[derive(Clone, Debug)]
pub(super) struct Quantised {
    /// `q + 128`.
    raised: [u8; DIMENSION],
    /// `Σ q`.
    sum: i32,
}

impl Quantised {
    pub(super) fn new(steps: &[i8; DIMENSION]) -> Self {
        Self {
            raised: steps.map(|q| q.wrapping_add_unsigned(128) as u8),
            sum: steps.iter().map(|q| i32::from(*q)).sum(),
        }
    }
}

/// For each piece the largest dot product with any of the states, of which there is at least one.
/// The answer replaces what is in `best`.
pub(super) fn best(pieces: &[Quantised], states: &[State], best: &mut Vec<i32>) {
    assert!(!states.is_empty(), "the best of no states");
    best.clear();
    best.resize(pieces.len(), i32::MIN);
    under_mask(pieces, states, best);
    for (best, piece) in best.iter_mut().zip(pieces) {
        *best = 2 * *best - piece.sum;
    }
}

/// For each piece the largest `Σ(bit set) q` over the states.
fn under_mask(pieces: &[Quantised], states: &[State], best: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("popcnt") {
            // SAFETY: the CPU has the two features that this function is compiled for.
            return unsafe { x86::under_mask_avx512(pieces, states, best) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            // SAFETY: the CPU has the two features that this function is compiled for.
            return unsafe { x86::under_mask_avx2(pieces, states, best) };
        }
    }
    under_mask_portable(pieces, states, best);
}

/// Plain Rust, for other CPUs and as the definition that the others are tested against.
fn under_mask_portable(pieces: &[Quantised], states: &[State], best: &mut [i32]) {
    for state in states {
        let mut mask = [0_u8; DIMENSION];
        for (mask, byte) in mask.as_chunks_mut::<8>().0.iter_mut().zip(state) {
            for (bit, mask) in mask.iter_mut().enumerate() {
                *mask = 0_u8.wrapping_sub(byte >> bit & 1);
            }
        }
        let raised = raised_by(state);
        for (piece, best) in pieces.iter().zip(&mut *best) {
            let masked = piece
                .raised
                .iter()
                .zip(&mask)
                .map(|(q, m)| i32::from(q & m));
            // 384 × 255 is far from wrapping; a sum that checks is not vectorised.
            *best = (*best).max(masked.fold(0, i32::wrapping_add) - raised);
        }
    }
}

/// By how much the sum over `q + 128` exceeds that over `q`: 128 for each set bit.
#[inline(always)]
fn raised_by(state: &State) -> i32 {
    let ones: u32 = state
        .as_chunks::<8>()
        .0
        .iter()
        .map(|w| u64::from_le_bytes(*w).count_ones())
        .sum();
    128 * ones as i32
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Quantised, State, raised_by};

    #[target_feature(enable = "avx512bw,avx512f,popcnt")]
    pub(super) fn under_mask_avx512(pieces: &[Quantised], states: &[State], best: &mut [i32]) {
        for state in states {
            let raised = raised_by(state);
            let words = state.as_chunks::<8>().0;
            for (piece, best) in pieces.iter().zip(&mut *best) {
                let mut sum = _mm512_setzero_si512();
                for (q, word) in piece.raised.as_chunks::<64>().0.iter().zip(words) {
                    // SAFETY: reads the 64 bytes of `q`; the load needs no alignment.
                    let q = unsafe { _mm512_loadu_si512(q.as_ptr().cast()) };
                    let masked = _mm512_maskz_mov_epi8(u64::from_le_bytes(*word), q);
                    sum = _mm512_add_epi64(sum, _mm512_sad_epu8(masked, _mm512_setzero_si512()));
                }
                *best = (*best).max(_mm512_reduce_add_epi64(sum) as i32 - raised);
            }
        }
    }

    #[target_feature(enable = "avx2,popcnt")]
    pub(super) fn under_mask_avx2(pieces: &[Quantised], states: &[State], best: &mut [i32]) {
        // Each byte of a 32-bit word goes to the eight lanes that its bits mask.
        let spread = _mm256_setr_epi8(
            0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3,
            3, 3, 3,
        );
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
        for state in states {
            let raised = raised_by(state);
            let mut masks = [_mm256_setzero_si256(); 12];
            for (mask, word) in masks.iter_mut().zip(state.as_chunks::<4>().0) {
                let bytes =
                    _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(*word)), spread);
                *mask = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
            }
            for (piece, best) in pieces.iter().zip(&mut *best) {
                let mut sum = _mm256_setzero_si256();
                for (q, mask) in piece.raised.as_chunks::<32>().0.iter().zip(&masks) {
                    // SAFETY: reads the 32 bytes of `q`; the load needs no alignment.
                    let q = unsafe { _mm256_loadu_si256(q.as_ptr().cast()) };
                    let masked = _mm256_and_si256(q, *mask);
                    sum = _mm256_add_epi64(sum, _mm256_sad_epu8(masked, _mm256_setzero_si256()));
                }
                let half = _mm_add_epi64(
                    _mm256_castsi256_si128(sum),
                    _mm256_extracti128_si256::<1>(sum),
                );
                let total = _mm_add_epi64(half, _mm_unpackhi_epi64(half, half));
                *best = (*best).max(_mm_cvtsi128_si64(total) as i32 - raised);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use memorygate_core::embedding::STATE_BYTES;
    use proptest::prelude::*;

    use super::*;

    fn dot(steps: &[i8], state: &State) -> i32 {
        let sign = |d: usize| {
            if state[d / 8] >> (d % 8) & 1 == 1 {
                1
            } else {
                -1
            }
        };
        steps
            .iter()
            .enumerate()
            .map(|(d, q)| sign(d) * i32::from(*q))
            .sum()
    }

    fn state() -> impl Strategy<Value = State> {
        prop::collection::vec(any::<u8>(), STATE_BYTES).prop_map(|s| s.try_into().unwrap())
    }

    proptest! {
        #[test]
        fn every_build_counts_the_same(
            queries in prop::collection::vec(prop::collection::vec(any::<i8>(), DIMENSION), 1..5),
            states in prop::collection::vec(state(), 1..9),
        ) {
            let pieces: Vec<_> =
                queries.iter().map(|q| Quantised::new(&q.clone().try_into().unwrap())).collect();
            let expected: Vec<i32> = queries
                .iter()
                .map(|q| states.iter().map(|s| dot(q, s)).max().unwrap())
                .collect();
            let mut actual = vec![7];
            best(&pieces, &states, &mut actual);
            prop_assert_eq!(&actual, &expected);

            type Build = fn(&[Quantised], &[State], &mut [i32]);
            let mut builds: Vec<(&str, Build)> = vec![("portable", under_mask_portable)];
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
                    // SAFETY: the CPU was just found to have both features.
                    builds.push(("avx2", |p, s, b| unsafe { x86::under_mask_avx2(p, s, b) }));
                }
                if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("popcnt") {
                    // SAFETY: the CPU was just found to have both features.
                    builds.push(("avx512", |p, s, b| unsafe { x86::under_mask_avx512(p, s, b) }));
                }
            }
            for (name, build) in builds {
                let mut best = vec![i32::MIN; pieces.len()];
                build(&pieces, &states, &mut best);
                let dots: Vec<i32> = best.iter().zip(&pieces).map(|(b, p)| 2 * b - p.sum).collect();
                prop_assert_eq!(&dots, &expected, "{}", name);
            }
        }
    }
}
