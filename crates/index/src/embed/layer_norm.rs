//! Layer normalisation of rows kept in panels: mean 0 and variance 1 over a row's columns, then a
//! scale and a shift for each column.

use pulp::{Arch, Simd, WithSimd};

use super::product::PANEL;

/// Keeps a constant row from being divided by zero (the model's `layer_norm_eps`).
const EPSILON: f32 = 1e-12;

pub(super) struct LayerNorm {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl LayerNorm {
    /// Normalises `rows` rows of as many columns as there are scales, in place.
    pub(super) fn apply(&self, arch: Arch, rows: usize, values: &mut [f32]) {
        assert_eq!(values.len(), rows * self.scale.len());
        arch.dispatch(Apply {
            rows,
            values: values.as_chunks_mut().0,
            scale: self.scale.as_chunks().0,
            shift: self.shift.as_chunks().0,
        });
    }
}

struct Apply<'a> {
    rows: usize,
    values: &'a mut [[f32; PANEL]],
    scale: &'a [[f32; PANEL]],
    shift: &'a [[f32; PANEL]],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            rows,
            values,
            scale,
            shift,
        } = self;
        let columns = (scale.len() * PANEL) as f32;
        for row in 0..rows {
            let mut lanes = [0.0; PANEL];
            for part in values[row..].iter().step_by(rows) {
                for (lane, x) in lanes.iter_mut().zip(part) {
                    *lane += x;
                }
            }
            let mean = sum(lanes) / columns;
            let mut lanes = [0.0_f32; PANEL];
            for part in values[row..].iter().step_by(rows) {
                for (lane, x) in lanes.iter_mut().zip(part) {
                    let off = x - mean;
                    *lane = off.mul_add(off, *lane);
                }
            }
            let inverse = 1.0 / (sum(lanes) / columns + EPSILON).sqrt();
            let parts = values[row..].iter_mut().step_by(rows);
            for ((part, scale), shift) in parts.zip(scale).zip(shift) {
                for ((x, scale), shift) in part.iter_mut().zip(scale).zip(shift) {
                    *x = ((*x - mean) * inverse).mul_add(*scale, *shift);
                }
            }
        }
    }
}

/// The sum of a panel's lanes, halved pairwise: a fixed order, whatever the registers are.
#[inline(always)]
pub(super) fn sum(lanes: [f32; PANEL]) -> f32 {
    let mut lanes = lanes;
    let mut width = PANEL;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}
