//! The product of activations and packed weights, which is where nine tenths of the time go.
//!
//! Weights are packed once at load, in the order in which the inner loop reads them. Activations
//! are kept in **panels** of 32 columns, all rows of one panel together:
//!
//! ```text
//! activations  [columns / 32][rows][32]            one panel of an output is written by one thread
//! weights      [outputs / 32][32 / W][inputs][W]   W = columns that one tile computes: 32, 16, ...
//!
//!            panel of the weights (W wide)
//!                ┌──┐
//!  rows × inputs │  │     a tile: up to 12 rows × W columns of the output, held in registers while
//!  ┌────────┐    │  │     all inputs go by; each row's 32 numbers of a panel lie side by side
//!  │        │ ×  └──┘
//!  └────────┘
//! ```
//!
//! **Every output element is one chain of fused multiply-adds over the inputs in their order**,
//! starting from the bias. So its bits depend neither on the rows it is computed with, nor on
//! threads, nor on the width of the processor's registers: a text embedded on one machine is the
//! same on another, whatever it is batched with. Libraries do not promise that, and the best of
//! those tried was slower. All products of a pass, weights packed once, one thread of an AMD EPYC
//! with AVX-512 at 2.6 GHz, Gflop/s with 20, 64 and 2,048 rows: `rten-gemm` 0.27 106, 154 and 163;
//! this module 159, 195 and 208; with its AVX2 code 84, 101 and 102.
//!
//! The code is safe Rust: `pulp` chooses the instruction set at run time, and lengths are constants
//! or checked once per 32 inputs.

use pulp::{Arch, Simd, WithSimd};

use super::aligned::Aligned;

/// Columns of a panel. A head of the attention is one panel, too.
pub(super) const PANEL: usize = 32;

/// A matrix (`outputs` × `inputs`, both multiples of [`PANEL`]) with a bias, packed for [`multiply`].
pub(super) struct Weights {
    data: Aligned,
    bias: Aligned,
    inputs: usize,
}

impl Weights {
    /// Packs a row-major matrix, one row an output.
    pub(super) fn pack(arch: Arch, matrix: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = matrix.len() / outputs;
        assert_eq!(matrix.len(), outputs * inputs);
        assert!(outputs.is_multiple_of(PANEL) && inputs.is_multiple_of(PANEL));
        let width = tile_width(arch);
        let mut data = Aligned::zeros(matrix.len());
        let packed = data.of_len(matrix.len());
        for (tile, packed) in packed.chunks_exact_mut(inputs * width).enumerate() {
            for (column, row) in matrix[tile * width * inputs..]
                .chunks_exact(inputs)
                .take(width)
                .enumerate()
            {
                for (input, weight) in row.iter().enumerate() {
                    packed[input * width + column] = *weight;
                }
            }
        }
        let mut aligned_bias = Aligned::zeros(outputs);
        aligned_bias.of_len(outputs).copy_from_slice(bias);
        Self {
            data,
            bias: aligned_bias,
            inputs,
        }
    }

    /// The weights and the bias of 32 outputs.
    pub(super) fn panel(&self, index: usize) -> (&[f32], &[f32]) {
        let weights = &self.data.as_slice()[index * self.inputs * PANEL..][..self.inputs * PANEL];
        (weights, &self.bias.as_slice()[index * PANEL..][..PANEL])
    }
}

/// Columns that one tile computes at this level: a panel of weights is packed in parts this wide.
pub(super) fn tile_width(arch: Arch) -> usize {
    struct Width;

    impl WithSimd for Width {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            match S::F32_LANES {
                16 => 16 * AVX_512.1,
                8 => 8 * AVX_2.1,
                4 => 4 * NEON.1,
                _ => S::F32_LANES * PORTABLE.1,
            }
        }
    }

    arch.dispatch(Width)
}

/// Rows and registers a row of a tile, by the number of lanes of a register. The sums, one row of
/// weights and one input must fit into the registers: 12 × 2 + 2 + 1 of 32 of AVX-512, 6 × 2 + 2 + 1
/// of 16 of AVX2, 6 × 4 + 4 + 1 of 32 of NEON.
const AVX_512: (usize, usize) = (12, 2);
const AVX_2: (usize, usize) = (6, 2);
const NEON: (usize, usize) = (6, 4);
const PORTABLE: (usize, usize) = (4, 4);

/// One panel of an output: `out = inputs · weights + bias`.
///
/// `inputs` are panels of `rows` rows each; `weights` (one panel, packed for the same level) has 32
/// columns of as many inputs as the panels have columns; `out` is one panel.
pub(super) fn multiply(
    arch: Arch,
    rows: usize,
    inputs: &[f32],
    (weights, bias): (&[f32], &[f32]),
    out: &mut [f32],
) {
    // Both can only be wrong by a mistake in this module's callers.
    assert_eq!(
        inputs.len(),
        rows * (weights.len() / PANEL),
        "inputs and weights must agree"
    );
    assert_eq!(
        (out.len(), bias.len()),
        (rows * PANEL, PANEL),
        "the output must be one panel"
    );
    arch.dispatch(Multiply {
        rows,
        inputs: inputs.as_chunks().0,
        weights,
        bias,
        out: out.as_chunks_mut().0,
    });
}

/// Adds `more` to `sum`, element by element.
pub(super) fn add(arch: Arch, sum: &mut [f32], more: &[f32]) {
    struct Add<'a>(&'a mut [f32], &'a [f32]);

    impl WithSimd for Add<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (sum, more) in self.0.iter_mut().zip(self.1) {
                *sum += more;
            }
        }
    }

    arch.dispatch(Add(sum, more));
}

struct Multiply<'a> {
    rows: usize,
    inputs: &'a [[f32; PANEL]],
    weights: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [[f32; PANEL]],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, { AVX_512.0 }, { AVX_512.1 }>(simd),
            8 => self.run::<S, { AVX_2.0 }, { AVX_2.1 }>(simd),
            4 => self.run::<S, { NEON.0 }, { NEON.1 }>(simd),
            _ => self.run::<S, { PORTABLE.0 }, { PORTABLE.1 }>(simd),
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const REGISTERS: usize>(self, simd: S) {
        let Self {
            rows,
            inputs,
            weights,
            bias,
            out,
        } = self;
        if rows == 0 {
            return;
        }
        let width = REGISTERS * S::F32_LANES;
        let parts = weights
            .chunks_exact(weights.len() / PANEL * width)
            .zip(bias.chunks_exact(width));
        // The rows are shared out evenly, since a last tile of one row would cost almost a full one.
        let tiles = rows.div_ceil(ROWS);
        let (each, longer) = (rows / tiles, rows % tiles);
        for (part, (weights, bias)) in parts.enumerate() {
            let weights = S::as_simd_f32s(weights).0.as_chunks::<REGISTERS>().0;
            let bias = S::as_simd_f32s(bias)
                .0
                .try_into()
                .expect("a part is REGISTERS wide");
            let mut first = 0;
            for at in 0..tiles {
                let count = each + usize::from(at < longer);
                macro_rules! of_rows {
                    ($($n:literal)*) => {
                        match count {
                            $($n if $n <= ROWS => {
                                tile::<S, $n, REGISTERS>(simd, rows, first, inputs, weights, bias, out, part * width);
                            })*
                            _ => unreachable!("a tile has 1 to {ROWS} rows, not {count}"),
                        }
                    };
                }
                of_rows!(1 2 3 4 5 6 7 8 9 10 11 12);
                first += count;
            }
        }
    }
}

/// Rows `first..first + ROWS` of the output, columns `column..` as many as the registers hold.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined: they are all registers and constants"
)]
fn tile<S: Simd, const ROWS: usize, const REGISTERS: usize>(
    simd: S,
    rows: usize,
    first: usize,
    inputs: &[[f32; PANEL]],
    weights: &[[S::f32s; REGISTERS]],
    bias: [S::f32s; REGISTERS],
    out: &mut [[f32; PANEL]],
    column: usize,
) {
    let mut sums = [bias; ROWS];
    for (panel, weights) in weights.as_chunks::<PANEL>().0.iter().enumerate() {
        let inputs: &[[f32; PANEL]; ROWS] = inputs[panel * rows + first..][..ROWS]
            .try_into()
            .expect("ROWS rows were taken");
        for k in 0..PANEL {
            for r in 0..ROWS {
                let input = simd.splat_f32s(inputs[r][k]);
                for j in 0..REGISTERS {
                    sums[r][j] = simd.mul_add_f32s(input, weights[k][j], sums[r][j]);
                }
            }
        }
    }
    for (out, sums) in out[first..][..ROWS].iter_mut().zip(sums) {
        let out = &mut out[column..][..REGISTERS * S::F32_LANES];
        S::as_mut_simd_f32s(out).0.copy_from_slice(&sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::levels;

    /// Numbers that look random, from the golden ratio's multiples.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| (i as f64 * 0.618_033_988_749_895).fract() as f32 - 0.5)
            .collect()
    }

    #[test]
    fn every_element_is_one_chain_at_every_level_and_with_any_rows() {
        let (inputs, outputs) = (96, 64);
        let matrix = numbers(inputs * outputs);
        let bias = numbers(outputs);
        for arch in levels() {
            let weights = Weights::pack(arch, &matrix, &bias);
            for rows in (0..=40).chain([61, 100]) {
                let x = numbers(rows * inputs);
                for panel in 0..outputs / PANEL {
                    let mut out = vec![f32::NAN; rows * PANEL];
                    multiply(arch, rows, &x, weights.panel(panel), &mut out);
                    for (at, y) in out.iter().enumerate() {
                        let (row, output) = (at / PANEL, panel * PANEL + at % PANEL);
                        let expected = (0..inputs).fold(bias[output], |sum, k| {
                            let x = x[(k / PANEL * rows + row) * PANEL + k % PANEL];
                            x.mul_add(matrix[output * inputs + k], sum)
                        });
                        assert_eq!(
                            y.to_bits(),
                            expected.to_bits(),
                            "{arch:?}, {rows} rows, {row}, {output}"
                        );
                    }
                }
            }
        }
    }
}
