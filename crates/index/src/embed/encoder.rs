//! The forward pass of all-MiniLM-L6-v2: a BERT of six layers, twelve heads and 384 columns.
//!
//! Sequences of different lengths are stacked, so nothing is padded. A few rows (one text, say) are
//! one group, whose panels the threads share out in every step; many rows are cut into groups of
//! whole sequences, each of which one thread takes through all layers:
//!
//! ```text
//! rows x 384 ─┬─ head 0: queries, keys, values → attention ─┐
//!             ├─ head 1 …                                   ├─ output, + rows, normalise ─┐
//!             └─ head 11 …                                  ┘                             │
//!        ┌────────────────────────────────────────────────────────────────────────────────┘
//!        └─ widen to 1536, GELU ── narrow to 384, + rows, normalise ── next of 6 layers
//! ```
//!
//! candle reads the weights, and its tensors are the reference that this path is tested against.
//! Its own products lay the weights out anew at every call, which made the same pass 2.5 times
//! slower than onnxruntime's; ours are packed once (see [`super::product`]).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use pulp::Arch;
use rayon::prelude::*;

use super::aligned::Aligned;
use super::attention::{Attention, Head};
use super::layer_norm::LayerNorm;
use super::nonlinear::gelu;
use super::product::{PANEL, Weights, add, multiply};

/// Columns of a state.
pub(super) const HIDDEN: usize = 384;
/// Columns between the two products of a layer's second half.
const WIDE: usize = 1536;
pub(super) const LAYERS: usize = 6;
/// Heads of [`PANEL`] columns each.
const HEADS: usize = HIDDEN / PANEL;
/// Word pieces of a sequence for which there are position embeddings.
pub(super) const POSITIONS: usize = 512;

/// Rows of a group when there are several: enough that reading the 42 MB of weights once is little
/// beside the work (128 rows need 2.7 Gflop, some 14 ms), few enough that the activations,
/// 10 KiB a row, stay near the core.
const GROUP_ROWS: usize = 256;

pub(super) struct Encoder {
    arch: Arch,
    /// One row a piece.
    words: Vec<f32>,
    /// One row a position, the embedding of token type 0 added, since there is no other.
    positions: Vec<f32>,
    embedded: LayerNorm,
    layers: Vec<Layer>,
    /// Room to work in, kept since large allocations go back to the system when they are freed.
    rooms: Mutex<Vec<Room>>,
    head_rooms: Mutex<Vec<HeadRoom>>,
}

struct Layer {
    /// All heads' queries, then keys, then values.
    attention: Weights,
    attended: Weights,
    attended_norm: LayerNorm,
    widen: Weights,
    narrow: Weights,
    narrowed_norm: LayerNorm,
}

#[derive(Default)]
struct Room {
    states: Aligned,
    sums: Aligned,
    attended: Aligned,
    wide: Aligned,
}

#[derive(Default)]
struct HeadRoom {
    queries: Aligned,
    keys: Aligned,
    values: Aligned,
    attention: Attention,
}

/// The last layer's states of one sequence.
#[derive(Clone, Copy)]
pub(super) struct States<'a> {
    /// Panels of all sequences of the group.
    panels: &'a [f32],
    /// Rows of the group.
    group: usize,
    first: usize,
    len: usize,
}

impl States<'_> {
    /// The state of the piece at `at`, in parts of 32 columns.
    pub(super) fn row(&self, at: usize) -> impl Iterator<Item = &[f32; PANEL]> {
        assert!(at < self.len);
        self.panels.as_chunks().0[self.first + at..]
            .iter()
            .step_by(self.group)
    }
}

impl Encoder {
    /// Packs the named tensors of the model file for this level.
    pub(super) fn new(arch: Arch, tensors: &HashMap<String, Tensor>) -> Result<Self, WeightError> {
        let read = |name: &str, shape: &[usize]| -> Result<Vec<f32>, WeightError> {
            let tensor = tensors.get(name).ok_or_else(|| WeightError::Missing {
                name: name.to_owned(),
            })?;
            if tensor.dims() != shape {
                return Err(WeightError::Shape {
                    name: name.to_owned(),
                    expected: shape.to_vec(),
                    actual: tensor.dims().to_vec(),
                });
            }
            Ok(tensor.flatten_all()?.to_vec1()?)
        };
        let norm = |name: &str| -> Result<LayerNorm, WeightError> {
            Ok(LayerNorm {
                scale: read(&format!("{name}.weight"), &[HIDDEN])?,
                shift: read(&format!("{name}.bias"), &[HIDDEN])?,
            })
        };
        // Several matrices with the same inputs are stacked into one.
        let product =
            |names: &[String], inputs: usize, outputs: usize| -> Result<Weights, WeightError> {
                let (mut matrix, mut bias) = (Vec::new(), Vec::new());
                for name in names {
                    matrix.extend(read(&format!("{name}.weight"), &[outputs, inputs])?);
                    bias.extend(read(&format!("{name}.bias"), &[outputs])?);
                }
                Ok(Weights::pack(arch, &matrix, &bias))
            };

        let mut positions = read(
            "embeddings.position_embeddings.weight",
            &[POSITIONS, HIDDEN],
        )?;
        let types = read("embeddings.token_type_embeddings.weight", &[2, HIDDEN])?;
        for row in positions.chunks_exact_mut(HIDDEN) {
            row.iter_mut()
                .zip(&types)
                .for_each(|(position, of_type)| *position += of_type);
        }
        let layers = (0..LAYERS)
            .map(|layer| {
                let name = |part: &str| format!("encoder.layer.{layer}.{part}");
                let heads =
                    ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
                Ok(Layer {
                    attention: product(&heads, HIDDEN, HIDDEN)?,
                    attended: product(&[name("attention.output.dense")], HIDDEN, HIDDEN)?,
                    attended_norm: norm(&name("attention.output.LayerNorm"))?,
                    widen: product(&[name("intermediate.dense")], HIDDEN, WIDE)?,
                    narrow: product(&[name("output.dense")], WIDE, HIDDEN)?,
                    narrowed_norm: norm(&name("output.LayerNorm"))?,
                })
            })
            .collect::<Result<_, WeightError>>()?;
        Ok(Self {
            arch,
            words: read(
                "embeddings.word_embeddings.weight",
                &[super::VOCABULARY, HIDDEN],
            )?,
            positions,
            embedded: norm("embeddings.LayerNorm")?,
            layers,
            rooms: Mutex::default(),
            head_rooms: Mutex::default(),
        })
    }

    /// Runs all sequences (ids of word pieces, 1 to [`POSITIONS`] each) through the model and gives
    /// each one's index and states to `finish`; its results, in order. With more than one thread it
    /// must be called in a rayon pool of so many.
    pub(super) fn read<T: Send>(
        &self,
        threads: usize,
        sequences: &[&[u16]],
        finish: impl Fn(usize, States<'_>) -> T + Sync,
    ) -> Vec<T> {
        let rows: usize = sequences.iter().map(|sequence| sequence.len()).sum();
        if sequences.is_empty() {
            return Vec::new();
        }
        if rows <= GROUP_ROWS {
            return self.read_group(sequences, 0, threads > 1, &finish);
        }
        // As many groups as the threads can share out evenly.
        let count = rows.div_ceil(GROUP_ROWS).next_multiple_of(threads);
        let groups: Vec<Range<usize>> = share_out(sequences, rows.div_ceil(count));
        let read = |group: &Range<usize>| {
            self.read_group(&sequences[group.clone()], group.start, false, &finish)
        };
        if threads == 1 {
            groups.iter().flat_map(read).collect()
        } else {
            groups
                .par_iter()
                .with_max_len(1)
                .flat_map_iter(read)
                .collect()
        }
    }

    /// Takes stacked sequences, of which the first is number `first`, through all layers.
    fn read_group<T: Send>(
        &self,
        sequences: &[&[u16]],
        first: usize,
        parallel: bool,
        finish: &(impl Fn(usize, States<'_>) -> T + Sync),
    ) -> Vec<T> {
        let mut spans = Vec::with_capacity(sequences.len());
        let mut rows = 0;
        for sequence in sequences {
            spans.push(rows..rows + sequence.len());
            rows += sequence.len();
        }
        let mut room = take(&self.rooms);
        let mut states = room.states.of_len(rows * HIDDEN);
        let mut sums = room.sums.of_len(rows * HIDDEN);
        let attended = room.attended.of_len(rows * HIDDEN);
        let wide = room.wide.of_len(rows * WIDE);

        self.embed(sequences, rows, states);
        for layer in &self.layers {
            panels(attended, rows, parallel, |head, out| {
                self.attend(layer, head, states, &spans, out)
            });
            self.add_product(&layer.attended, rows, parallel, attended, states, sums);
            layer.attended_norm.apply(self.arch, rows, sums);
            std::mem::swap(&mut states, &mut sums);

            panels(wide, rows, parallel, |panel, out| {
                multiply(self.arch, rows, states, layer.widen.panel(panel), out);
                gelu(self.arch, out);
            });
            self.add_product(&layer.narrow, rows, parallel, wide, states, sums);
            layer.narrowed_norm.apply(self.arch, rows, sums);
            std::mem::swap(&mut states, &mut sums);
        }

        let states = &*states;
        let results = spans.iter().enumerate().map(|(i, span)| {
            let states = States {
                panels: states,
                group: rows,
                first: span.start,
                len: span.len(),
            };
            finish(first + i, states)
        });
        let results = results.collect();
        give_back(&self.rooms, room);
        results
    }

    /// `out = inputs · weights + bias + before`.
    fn add_product(
        &self,
        weights: &Weights,
        rows: usize,
        parallel: bool,
        inputs: &[f32],
        before: &[f32],
        out: &mut [f32],
    ) {
        panels(out, rows, parallel, |panel, out| {
            multiply(self.arch, rows, inputs, weights.panel(panel), out);
            add(
                self.arch,
                out,
                &before[panel * rows * PANEL..][..rows * PANEL],
            );
        });
    }

    /// The sum of each piece's and position's embedding, normalised.
    fn embed(&self, sequences: &[&[u16]], rows: usize, states: &mut [f32]) {
        let mut row = 0;
        for sequence in sequences {
            assert!(
                sequence.len() <= POSITIONS,
                "{} pieces, at most {POSITIONS}",
                sequence.len()
            );
            for (position, piece) in sequence.iter().enumerate() {
                let word = &self.words[usize::from(*piece) * HIDDEN..][..HIDDEN];
                let position = &self.positions[position * HIDDEN..][..HIDDEN];
                for (panel, (word, position)) in word
                    .chunks_exact(PANEL)
                    .zip(position.chunks_exact(PANEL))
                    .enumerate()
                {
                    let out = &mut states[(panel * rows + row) * PANEL..][..PANEL];
                    for ((out, word), position) in out.iter_mut().zip(word).zip(position) {
                        *out = word + position;
                    }
                }
                row += 1;
            }
        }
        self.embedded.apply(self.arch, rows, states);
    }

    /// One head of a layer's attention, from its queries to its panel of the output.
    fn attend(
        &self,
        layer: &Layer,
        head: usize,
        states: &[f32],
        spans: &[Range<usize>],
        out: &mut [f32],
    ) {
        let rows = states.len() / HIDDEN;
        let mut room = take(&self.head_rooms);
        let parts = [&mut room.queries, &mut room.keys, &mut room.values];
        for (part, of_part) in parts.into_iter().enumerate() {
            let weights = layer.attention.panel(part * HEADS + head);
            multiply(
                self.arch,
                rows,
                states,
                weights,
                of_part.of_len(rows * PANEL),
            );
        }
        let head = Head {
            queries: room.queries.as_slice(),
            keys: room.keys.as_slice(),
            values: room.values.as_slice(),
        };
        room.attention.attend(self.arch, spans, head, out);
        give_back(&self.head_rooms, room);
    }
}

/// Consecutive sequences in groups of about so many rows.
fn share_out(sequences: &[&[u16]], rows: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut taken) = (0, 0);
    for (i, sequence) in sequences.iter().enumerate() {
        // A sequence goes where the greater half of it fits.
        if taken > 0 && taken + sequence.len() / 2 > rows {
            groups.push(start..i);
            (start, taken) = (i, 0);
        }
        taken += sequence.len();
    }
    groups.push(start..sequences.len());
    groups
}

/// Computes each panel of `out`, on the threads of the current pool if `parallel`.
fn panels(
    out: &mut [f32],
    rows: usize,
    parallel: bool,
    compute: impl Fn(usize, &mut [f32]) + Sync,
) {
    if parallel {
        out.par_chunks_exact_mut(rows * PANEL)
            .enumerate()
            .for_each(|(i, out)| compute(i, out));
    } else {
        out.chunks_exact_mut(rows * PANEL)
            .enumerate()
            .for_each(|(i, out)| compute(i, out));
    }
}

/// Takes a room that is free, or a new one. What a thread that panicked left in it is overwritten
/// before it is read, so a poisoned lock does not matter.
fn take<T: Default>(rooms: &Mutex<Vec<T>>) -> T {
    rooms
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop()
        .unwrap_or_default()
}

fn give_back<T>(rooms: &Mutex<Vec<T>>, room: T) {
    rooms
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(room);
}

/// The model file is not the one expected.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    #[error("tensor {name} is missing")]
    Missing { name: String },
    #[error("tensor {name} has shape {actual:?}, expected {expected:?}")]
    Shape {
        name: String,
        expected: Vec<usize>,
        actual: Vec<usize>,
    },
    #[error(transparent)]
    Read(#[from] candle_core::Error),
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::embed::{ModelFiles, levels, model_folder, reference};

    fn tensors() -> HashMap<String, Tensor> {
        let files = ModelFiles::open(&model_folder()).unwrap();
        candle_core::safetensors::load_buffer(&files.weights, &Device::Cpu).unwrap()
    }

    /// Sequences of these lengths, of pieces from all over the vocabulary.
    fn sequences(lengths: &[usize]) -> Vec<Vec<u16>> {
        let mut piece = 0_u16;
        let mut next = || {
            piece = (piece + 7919) % super::super::VOCABULARY as u16;
            piece
        };
        lengths
            .iter()
            .map(|len| (0..*len).map(|_| next()).collect())
            .collect()
    }

    fn read(encoder: &Encoder, threads: usize, sequences: &[Vec<u16>]) -> Vec<Vec<Vec<f32>>> {
        let sequences: Vec<&[u16]> = sequences.iter().map(Vec::as_slice).collect();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            encoder.read(threads, &sequences, |i, states| {
                let rows = 0..sequences[i].len();
                rows.map(|row| states.row(row).flatten().copied().collect())
                    .collect()
            })
        })
    }

    #[test]
    fn states_are_close_to_candles() {
        let tensors = tensors();
        let sequences = sequences(&[1, 2, 3, 31, 32, 33, 252, 512]);
        let encoder = Encoder::new(Arch::new(), &tensors).unwrap();
        for (sequence, actual) in sequences.iter().zip(read(&encoder, 1, &sequences)) {
            let expected = reference::states(&tensors, sequence).unwrap();
            let off = |(a, b): (&f32, &f32)| (a - b).abs();
            let largest = actual
                .iter()
                .flatten()
                .zip(expected.iter().flatten())
                .map(off);
            let largest = largest.fold(0.0, f32::max);
            assert!(
                largest < 2e-5,
                "{} pieces: off by {largest}",
                sequence.len()
            );
        }
    }

    #[test]
    fn states_have_the_same_bits_in_any_batch_with_any_threads_at_any_level() {
        let tensors = tensors();
        let lengths = [5, 70, 1, 13, 128, 33, 2, 64, 252, 9, 20, 100];
        let sequences = sequences(&lengths);
        let best = Encoder::new(Arch::new(), &tensors).unwrap();
        let alone: Vec<_> = sequences
            .iter()
            .flat_map(|s| read(&best, 1, std::slice::from_ref(s)))
            .collect();
        for threads in 1..=4 {
            for count in [2, 5, 8, lengths.len()] {
                for start in [0, lengths.len() - count] {
                    let part = start..start + count;
                    let together = read(&best, threads, &sequences[part.clone()]);
                    assert!(
                        together == alone[part],
                        "{count} from {start} on {threads} threads"
                    );
                }
            }
        }
        for arch in levels() {
            let encoder = Encoder::new(arch, &tensors).unwrap();
            // The portable level is slow where it has to multiply and add in software.
            let some = [0, 3, 5, 6];
            let chosen = some.map(|i| sequences[i].clone());
            assert!(
                read(&encoder, 2, &chosen) == some.map(|i| alone[i].clone()),
                "{arch:?}"
            );
        }
    }
}
