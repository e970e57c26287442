//! One head of the attention, for each of the sequences that are stacked in its rows.
//!
//! Both products are [`multiply`]'s, with keys and values packed as its weights. A sequence's
//! columns are filled up with zeros to whole panels; the keys' never weigh anything, the values'
//! add nothing.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::aligned::Aligned;
use super::layer_norm::sum;
use super::nonlinear::exp;
use super::product::{PANEL, multiply, tile_width};

/// Dot products of two heads' rows are divided by the root of their 32 columns.
const SCALE: f32 = 0.176_776_7;

const NO_BIAS: [f32; PANEL] = [0.0; PANEL];

/// Room for one head at a time, reused.
#[derive(Default)]
pub(super) struct Attention {
    keys: Aligned,
    values: Aligned,
    scores: Aligned,
    /// One over the sum of each row's weights.
    inverse: Vec<f32>,
}

/// The panels of one head.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) queries: &'a [f32],
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
}

impl Attention {
    /// Lets each row of a sequence attend to all rows of the same sequence; `out` is one panel.
    /// `sequences` are the rows of each.
    pub(super) fn attend(
        &mut self,
        arch: Arch,
        sequences: &[Range<usize>],
        head: Head<'_>,
        out: &mut [f32],
    ) {
        let width = tile_width(arch);
        for rows in sequences {
            let len = rows.len();
            let panels = len.div_ceil(PANEL);
            let of_rows = rows.start * PANEL..rows.end * PANEL;
            let out = &mut out[of_rows.clone()];

            let keys = self.keys.of_len(panels * PANEL * PANEL);
            pack_transposed(&head.keys[of_rows.clone()], width, keys);
            let scores = self.scores.of_len(panels * len * PANEL);
            let queries = &head.queries[of_rows.clone()];
            let parts = keys
                .chunks_exact(PANEL * PANEL)
                .zip(scores.chunks_exact_mut(len * PANEL));
            for (keys, scores) in parts {
                multiply(arch, len, queries, (keys, &NO_BIAS), scores);
            }

            self.inverse.resize(len, 0.0);
            weigh(arch, len, scores, &mut self.inverse);

            let values = self.values.of_len(panels * PANEL * PANEL);
            pack(&head.values[of_rows], width, values);
            multiply(arch, len, scores, (values, &NO_BIAS), out);
            for (row, inverse) in out.as_chunks_mut::<PANEL>().0.iter_mut().zip(&self.inverse) {
                row.iter_mut().for_each(|x| *x *= inverse);
            }
        }
    }
}

/// Packs rows (32 columns each) as weights of as many outputs, 32 inputs: the rows transposed.
fn pack_transposed(rows: &[f32], width: usize, packed: &mut [f32]) {
    packed.fill(0.0);
    let tiles = rows
        .chunks(PANEL * width)
        .zip(packed.chunks_exact_mut(PANEL * width));
    for (rows, packed) in tiles {
        for (at, row) in rows.as_chunks::<PANEL>().0.iter().enumerate() {
            for (packed, x) in packed[at..].iter_mut().step_by(width).zip(row) {
                *packed = *x;
            }
        }
    }
}

/// Packs rows (32 columns each) as weights of 32 outputs, as many inputs.
fn pack(rows: &[f32], width: usize, packed: &mut [f32]) {
    let inputs = packed.len() / PANEL;
    for (part, packed) in packed.chunks_exact_mut(inputs * width).enumerate() {
        let (used, rest) = packed.split_at_mut(rows.len() / PANEL * width);
        for (packed, row) in used
            .chunks_exact_mut(width)
            .zip(rows.as_chunks::<PANEL>().0)
        {
            packed.copy_from_slice(&row[part * width..][..width]);
        }
        rest.fill(0.0);
    }
}

/// Turns a sequence's scores into weights (a softmax without its division), and `inverse` into what
/// each row must be multiplied by to make them sum to one.
fn weigh(arch: Arch, len: usize, scores: &mut [f32], inverse: &mut [f32]) {
    struct Weigh<'a> {
        len: usize,
        scores: &'a mut [[f32; PANEL]],
        inverse: &'a mut [f32],
    }

    impl WithSimd for Weigh<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Self {
                len,
                scores,
                inverse,
            } = self;
            let last = scores.len() - len;
            for (row, inverse) in inverse.iter_mut().enumerate() {
                // The columns that only fill the last panel up get the weight e^-87, which the sum
                // does not notice, and the values there are zero.
                let filled = scores.len() / len * PANEL - len;
                scores[last + row][PANEL - filled..].fill(f32::NEG_INFINITY);

                let mut lanes = [f32::NEG_INFINITY; PANEL];
                for part in scores[row..].iter().step_by(len) {
                    for (lane, x) in lanes.iter_mut().zip(part) {
                        *lane = if *x > *lane { *x } else { *lane };
                    }
                }
                let largest = lanes
                    .into_iter()
                    .fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m });
                let mut lanes = [0.0; PANEL];
                for part in scores[row..].iter_mut().step_by(len) {
                    for (lane, x) in lanes.iter_mut().zip(part) {
                        *x = exp((*x - largest) * SCALE);
                        *lane += *x;
                    }
                }
                *inverse = 1.0 / sum(lanes);
            }
        }
    }

    arch.dispatch(Weigh {
        len,
        scores: scores.as_chunks_mut().0,
        inverse,
    });
}
