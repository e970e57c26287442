//! `exp`, the error function and GELU, the same bits on every processor.
//!
//! The standard library's `exp` comes from the platform's mathematics library, so two machines
//! may differ in the last bit, and it is not vectorised. These are straight lines of IEEE
//! operations that every processor rounds alike (`mul_add` is one rounding everywhere), without a
//! branch, so that the compiler turns a loop over them into vector instructions where the caller
//! was compiled for such.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};
use std::f64::consts::LN_2;

use pulp::{Arch, Simd, WithSimd};

/// `e` to the `x`, for `x <= 0`; relative error below 2e-7. Below -87 it is that of -87, 1.6e-38,
/// which is not yet subnormal.
///
/// `x = n ln 2 + r` with a whole `n` and `|r| <= ln 2 / 2`; `e^r` by its Taylor series, whose
/// remainder there is below `.35^8 / 8! = 6e-9`; then `n` is added to the exponent's bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 × 2^23: a float near it has no fraction bits, so adding it rounds to a whole number,
    /// which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts. The first has nine significant bits, so that `n` times it is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = (LN_2 - 355.0 / 512.0) as f32;

    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x.mul_add(LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let mut series = 1.0 / 5040.0_f32;
    series = series.mul_add(r, 1.0 / 720.0);
    series = series.mul_add(r, 1.0 / 120.0);
    series = series.mul_add(r, 1.0 / 24.0);
    series = series.mul_add(r, 1.0 / 6.0);
    series = series.mul_add(r, 0.5);
    series = series.mul_add(r, 1.0);
    series = series.mul_add(r, 1.0);
    // 2^n: the shift leaves n's low bits where the exponent stands; 127 is the exponent's bias.
    series * f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23))
}

/// The error function; absolute error below 3e-7. Abramowitz and Stegun, Handbook of Mathematical
/// Functions, 7.1.26.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / size.mul_add(0.327_591_1, 1.0);
    let mut series = 1.061_405_4_f32;
    series = series.mul_add(t, -1.453_152);
    series = series.mul_add(t, 1.421_413_7);
    series = series.mul_add(t, -0.284_496_74);
    series = series.mul_add(t, 0.254_829_6);
    (series * t).mul_add(-exp(-(size * size)), 1.0).copysign(x)
}

/// Applies the Gaussian error linear unit, `x Φ(x)` with the exact normal distribution `Φ`, to each
/// element.
pub(super) fn gelu(arch: Arch, values: &mut [f32]) {
    struct Gelu<'a>(&'a mut [f32]);

    impl WithSimd for Gelu<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for x in self.0 {
                *x *= erf(*x * FRAC_1_SQRT_2).mul_add(0.5, 0.5);
            }
        }
    }

    arch.dispatch(Gelu(values));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::levels;

    /// The error function by its Taylor series in double precision, for small `x`; 1 beyond.
    fn exact_erf(x: f64) -> f64 {
        if x.abs() > 5.5 {
            return x.signum();
        }
        // Sum of (-1)^n x^(2n+1) / (n! (2n+1)); its terms reach 1e12 at 5.5, so about 1e-4 of
        // that is lost, unless the smooth form is used: erf x = 2/√π e^(-x²) Σ 2^n x^(2n+1)/(2n+1)!!.
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
    }

    #[test]
    fn exp_is_close_to_the_exact_one() {
        for i in 0..=870_000 {
            let x = i as f32 * -1e-4;
            let exact = f64::from(x).exp();
            assert!(
                (f64::from(exp(x)) - exact).abs() <= 2e-7 * exact,
                "exp({x})"
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), exp(-87.0));
    }

    #[test]
    fn gelu_is_close_to_the_exact_one_and_the_same_at_every_level() {
        let inputs: Vec<f32> = (-120_000..=120_000).map(|i| i as f32 * 1e-4).collect();
        let mut expected = inputs.clone();
        gelu(Arch::Scalar, &mut expected);
        for (x, y) in inputs.iter().zip(&expected) {
            let x = f64::from(*x);
            let exact = x * 0.5 * (1.0 + exact_erf(x * std::f64::consts::FRAC_1_SQRT_2));
            assert!(
                (f64::from(*y) - exact).abs() <= 4e-7 * x.abs().max(1.0),
                "gelu({x}) = {y}"
            );
        }
        for arch in levels() {
            let mut values = inputs.clone();
            gelu(arch, &mut values);
            assert!(
                values
                    .iter()
                    .zip(&expected)
                    .all(|(a, b)| a.to_bits() == b.to_bits()),
                "{arch:?}"
            );
        }
    }
}
