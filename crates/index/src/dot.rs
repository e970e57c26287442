//! The exact score of two dense vectors: a dot product that has the same bits on every CPU.
//!
//! Floating-point sums depend on their order, so the order is part of the definition: 32 lanes,
//! lane `l` adding up the products of dimensions `l`, `l + 32`, …, one after the other; then the
//! lanes are halved into each other. No product is fused with its sum. The same plain Rust is
//! compiled a second time for wider registers: Rust never contracts or reorders floating-point
//! operations, so that changes the speed and not the result.

#![expect(
    unsafe_code,
    reason = "calls its AVX2 build where the CPU was found to have AVX2"
)]

use memorygate_core::embedding::DIMENSION;

/// A dense vector in the fixed dimension.
pub(crate) type Vector = [f32; DIMENSION];

const LANES: usize = 32;

/// `a · b`, bit for bit the same on every machine.
#[inline]
pub(crate) fn dot(a: &Vector, b: &Vector) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, the one feature that `dot_avx2` is compiled for.
        return unsafe { dot_avx2(a, b) };
    }
    in_lanes(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dot_avx2(a: &Vector, b: &Vector) -> f32 {
    in_lanes(a, b)
}

#[inline(always)]
fn in_lanes(a: &Vector, b: &Vector) -> f32 {
    const { assert!(DIMENSION.is_multiple_of(LANES)) }
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(b.as_chunks::<LANES>().0)
    {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, written without a thought for speed.
    fn by_definition(a: &Vector, b: &Vector) -> f32 {
        let mut sums: Vec<f32> = (0..LANES)
            .map(|lane| {
                (lane..DIMENSION)
                    .step_by(LANES)
                    .fold(0.0, |sum, d| sum + a[d] * b[d])
            })
            .collect();
        while sums.len() > 1 {
            let half = sums.split_off(sums.len() / 2);
            sums.iter_mut().zip(half).for_each(|(a, b)| *a += b);
        }
        sums[0]
    }

    proptest! {
        #[test]
        fn every_build_has_the_bits_of_the_definition(
            a in prop::collection::vec(-1.0_f32..1.0, DIMENSION),
            b in prop::collection::vec(-1.0_f32..1.0, DIMENSION),
        ) {
            let (a, b): (Vector, Vector) = (a.try_into().unwrap(), b.try_into().unwrap());
            prop_assert_eq!(dot(&a, &b).to_bits(), by_definition(&a, &b).to_bits());
            prop_assert_eq!(in_lanes(&a, &b).to_bits(), by_definition(&a, &b).to_bits());
            prop_assert_eq!(dot(&a, &b).to_bits(), dot(&b, &a).to_bits());
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-4);
        }
    }
}
