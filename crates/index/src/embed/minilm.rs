//! all-MiniLM-L6-v2 as an [`Embedder`]: what is read with what, and what is kept of it.
//!
//! ```text
//! [CLS] │ what was learned before, oldest first │ this text │ [SEP]     at most 250 pieces between
//!       └── cut from the left to fit ───────────┴─ own span ┘           one forward pass
//!                                                    ├─ mean of its states → dense, unit length
//!                                                    └─ each state, rotated → 384 sign bits
//! ```
//!
//! A text that is read alone and in one window is pooled over all its states, those of \[CLS\] and
//! \[SEP\] included, as the original implementation does: its vector is the original's.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use memorygate_core::embedding::{
    DIMENSION, Embedder, Embedding, Error, ModelId, Passage, QueryEmbedding, QueryPiece,
    STATE_BYTES, TokenStates, Window, unit,
};
use pulp::Arch;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::encoder::{Encoder, HIDDEN, States, WeightError};
use super::files::{FileError, ModelFiles, WEIGHTS};
use super::product::PANEL;
use super::rotation::{Rotation, sign_bits};
use super::threads::Threads;
use super::tokens::{CLS, SEP, Tokens};
use super::windows::{PIECES_MAX, kept_states, of_memory, of_query};

const _: () = assert!(HIDDEN == DIMENSION);

/// The model, loaded. The same text gives the same bits whatever it is batched with, and whatever
/// the number of threads or the kind of processor.
pub struct MiniLm {
    id: ModelId,
    tokens: Tokens,
    encoder: Encoder,
    rotation: Arc<Rotation>,
    /// Memories and queries have threads of their own, so that a query shares the cores with a
    /// long batch of memories instead of waiting behind it.
    for_memories: Threads,
    for_queries: Threads,
}

impl MiniLm {
    /// Reads, verifies and packs the model in this folder, to run on so many threads (at least
    /// one). Holds some 110 MiB, and 290 while it loads.
    pub fn open(folder: &Path, threads: usize) -> Result<Self, OpenError> {
        let arch = Arch::new();
        if matches!(arch, Arch::Scalar) {
            tracing::warn!(
                "this processor has no vector unit with fused multiply-add (AVX2 and FMA, or \
                 NEON): embedding is right, but very slow"
            );
        }
        Self::at_level(arch, &ModelFiles::open(folder)?, threads)
    }

    /// As [`Self::open`], for a given instruction set.
    pub(super) fn at_level(
        arch: Arch,
        files: &ModelFiles,
        threads: usize,
    ) -> Result<Self, OpenError> {
        let tensors = candle_core::safetensors::load_buffer(&files.weights, &Device::Cpu)
            .map_err(WeightError::from)?;
        let rotation = Arc::clone(Rotation::shared());
        let hash = Sha256::new()
            .chain_update(WEIGHTS.sha256)
            .chain_update(rotation.bytes());
        let hash = hash.finalize();
        Ok(Self {
            id: ModelId(u64::from_be_bytes(
                *hash.first_chunk().expect("a SHA-256 has 32 bytes"),
            )),
            tokens: Tokens::new(&files.tokenizer)
                .map_err(|e| OpenError::Tokenizer(e.to_string()))?,
            encoder: Encoder::new(arch, &tensors)?,
            rotation,
            for_memories: Threads::new("embed-memory", threads)?,
            for_queries: Threads::new("embed-query", threads)?,
        })
    }

    /// What of a memory's text is read in which window, the first one after what was before it.
    fn plan_memory(&self, passage: &Passage) -> Result<Vec<Read>, Error> {
        let pieces = self.tokens.pieces(&passage.text)?;
        let windows = of_memory(pieces.len());
        let kept = kept_states(&pieces, &windows);
        let mut context = Vec::new();
        // A text without pieces has no span of its own to keep; it is read alone.
        let mut room = if pieces.is_empty() {
            0
        } else {
            PIECES_MAX - windows[0].len()
        };
        for text in passage.before.iter().rev() {
            if room == 0 {
                break;
            }
            let mut longer = self.tokens.last_pieces(text, room)?;
            room -= longer.len();
            longer.append(&mut context);
            context = longer;
        }
        let alone = context.is_empty() && windows.len() == 1;
        let reads = windows.into_iter().zip(kept).map(|(window, kept)| {
            let context = std::mem::take(&mut context);
            Read::new(&context, &pieces, window, &kept, alone)
        });
        Ok(reads.collect())
    }

    /// As [`Self::plan_memory`], for a query: nothing before it, every state once.
    fn plan_query(&self, text: &str) -> Result<Vec<Read>, Error> {
        let pieces = self.tokens.pieces(text)?;
        let mut done = 0;
        let reads = of_query(pieces.len()).into_iter().map(|window| {
            let kept: Vec<usize> = (done..window.end).collect();
            done = window.end;
            Read::new(&[], &pieces, window, &kept, true)
        });
        Ok(reads.collect())
    }

    /// The window that was read as `read`, from its states.
    fn window(&self, read: &Read, states: States<'_>) -> Result<Window, Error> {
        let sum = sum_of_rows(states, read.pooled.clone());
        let rotated = self.rotated(states, &read.kept, |row| row);
        let mut signs = Vec::with_capacity(read.kept.len() * STATE_BYTES);
        for state in &rotated {
            signs.extend(sign_bits(state));
        }
        let pieces = read.kept.iter().map(|row| read.ids[*row]).collect();
        Ok(Window {
            dense: direction(&sum)?,
            states: TokenStates { pieces, signs },
        })
    }

    /// The states of these rows, each mapped and then rotated.
    fn rotated(
        &self,
        states: States<'_>,
        rows: &[usize],
        map: impl Fn([f32; DIMENSION]) -> [f32; DIMENSION],
    ) -> Vec<[f32; DIMENSION]> {
        let states: Vec<[f32; DIMENSION]> = rows
            .iter()
            .map(|row| {
                let mut state = [0.0; DIMENSION];
                for (part, panel) in state.as_chunks_mut().0.iter_mut().zip(states.row(*row)) {
                    *part = *panel;
                }
                map(state)
            })
            .collect();
        let states: Vec<&[f32; DIMENSION]> = states.iter().collect();
        self.rotation.rotate_all(&states)
    }

    /// Plans all items, reads all their windows together, and gives each item's results back.
    fn read<I: Sync, T: Send>(
        &self,
        threads: &Threads,
        items: &[I],
        plan: impl Fn(&I) -> Result<Vec<Read>, Error> + Sync + Send,
        finish: impl Fn(&Read, States<'_>) -> T + Sync + Send,
    ) -> Result<Vec<Vec<T>>, Error> {
        threads.run(|| {
            let plans: Vec<Vec<Read>> = if threads.count() > 1 && items.len() > 1 {
                items.par_iter().map(&plan).collect::<Result<_, _>>()?
            } else {
                items.iter().map(&plan).collect::<Result<_, _>>()?
            };
            let counts: Vec<usize> = plans.iter().map(Vec::len).collect();
            let reads = plans.concat();
            let sequences: Vec<&[u16]> = reads.iter().map(|read| &*read.ids).collect();
            let mut results = self
                .encoder
                .read(threads.count(), &sequences, |i, states| {
                    finish(&reads[i], states)
                })
                .into_iter();
            Ok(counts
                .into_iter()
                .map(|n| results.by_ref().take(n).collect())
                .collect())
        })
    }
}

impl Embedder for MiniLm {
    fn model(&self) -> ModelId {
        self.id
    }

    fn embed(&self, passages: &[Passage]) -> Result<Vec<Embedding>, Error> {
        let windows = self.read(
            &self.for_memories,
            passages,
            |passage| self.plan_memory(passage),
            |read, states| self.window(read, states),
        )?;
        let embeddings = windows.into_iter().map(|windows| {
            let windows = windows.into_iter().collect::<Result<_, _>>()?;
            let embedding = Embedding {
                model: self.id,
                windows,
            };
            embedding.check()?;
            Ok(embedding)
        });
        embeddings.collect()
    }

    fn embed_queries(&self, texts: &[String]) -> Result<Vec<QueryEmbedding>, Error> {
        let windows = self.read(
            &self.for_queries,
            texts,
            |text| self.plan_query(text),
            |read, states| {
                let rotated = self.rotated(states, &read.kept, of_unit_length);
                let pieces = read
                    .kept
                    .iter()
                    .zip(rotated)
                    .map(|(row, state)| QueryPiece {
                        piece: read.ids[*row],
                        state: state.to_vec(),
                    });
                (
                    sum_of_rows(states, read.pooled.clone()),
                    pieces.collect::<Vec<_>>(),
                )
            },
        )?;
        let queries = windows.into_iter().map(|windows| {
            let mut sum = [0.0; DIMENSION];
            let mut pieces = Vec::new();
            for (of_window, mut of_pieces) in windows {
                sum.iter_mut().zip(of_window).for_each(|(sum, x)| *sum += x);
                pieces.append(&mut of_pieces);
            }
            Ok(QueryEmbedding {
                model: self.id,
                dense: direction(&sum)?,
                pieces,
            })
        });
        queries.collect()
    }
}

/// One sequence to read, and what to keep of it. Rows are positions in `ids`.
#[derive(Clone)]
struct Read {
    /// \[CLS\], the context, the window's own pieces, \[SEP\].
    ids: Vec<u16>,
    /// The rows whose mean is the dense vector.
    pooled: Range<usize>,
    /// The rows whose states are kept.
    kept: Vec<usize>,
}

impl Read {
    /// A window of `pieces`, of which `kept` are kept, after `context`.
    fn new(
        context: &[u16],
        pieces: &[u16],
        window: Range<usize>,
        kept: &[usize],
        pool_all: bool,
    ) -> Self {
        let mut ids = Vec::with_capacity(context.len() + window.len() + 2);
        ids.push(CLS);
        ids.extend(context);
        let own = ids.len();
        ids.extend(&pieces[window.clone()]);
        let pooled = if pool_all {
            0..ids.len() + 1
        } else {
            own..ids.len()
        };
        ids.push(SEP);
        Self {
            ids,
            pooled,
            kept: kept.iter().map(|at| own + at - window.start).collect(),
        }
    }
}

/// The sum of some rows of the states, in their order and in double precision.
fn sum_of_rows(states: States<'_>, rows: Range<usize>) -> [f64; DIMENSION] {
    let mut sum = [0.0; DIMENSION];
    for row in rows {
        for (sum, part) in sum
            .as_chunks_mut::<PANEL>()
            .0
            .iter_mut()
            .zip(states.row(row))
        {
            sum.iter_mut()
                .zip(part)
                .for_each(|(sum, x)| *sum += f64::from(*x));
        }
    }
    sum
}

/// A sum of states scaled to unit length, which is what their mean becomes, too.
fn direction(sum: &[f64; DIMENSION]) -> Result<Vec<f32>, Error> {
    unit(&sum.map(|x| x as f32))
}

fn of_unit_length(state: [f32; DIMENSION]) -> [f32; DIMENSION] {
    let square: f64 = state.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let length = square.sqrt();
    state.map(|x| (f64::from(x) / length) as f32)
}

/// Why the model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot load the model's weights: {0}")]
    Weights(#[from] WeightError),
    #[error("cannot load the model's tokenizer: {0}")]
    Tokenizer(String),
    #[error("cannot start the embedding threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::{levels, model_folder, reference};

    /// A text read after two others, put together from the reference's states.
    #[test]
    fn a_window_keeps_its_own_span_of_the_reference_states() {
        let files = ModelFiles::open(&model_folder()).unwrap();
        let tensors = candle_core::safetensors::load_buffer(&files.weights, &Device::Cpu).unwrap();
        let tokens = Tokens::new(&files.tokenizer).unwrap();
        let before = [
            "The ingest pod was OOMKilled twice.",
            "Its memory limit was 512 MiB.",
        ];
        let text = "It was restarted with a higher limit and has been quiet since.";

        let context = before.map(|text| tokens.pieces(text).unwrap()).concat();
        let own = tokens.pieces(text).unwrap();
        let ids = [&[CLS][..], &context, &own, &[SEP]].concat();
        let states = reference::states(&tensors, &ids).unwrap();
        let states = &states[1 + context.len()..][..own.len()];
        let mean: Vec<f32> = (0..DIMENSION)
            .map(|d| states.iter().map(|s| s[d]).sum())
            .collect();
        let dense = unit(&mean).unwrap();
        let rotated = states.iter().map(|state| Rotation::shared().rotate(state));
        let signs: Vec<u8> = rotated.flat_map(|state| sign_bits(&state)).collect();

        let passage = Passage {
            text: text.to_owned(),
            before: before.map(str::to_owned).to_vec(),
        };
        let mut embeddings = Vec::new();
        for arch in levels() {
            let model = MiniLm::at_level(arch, &files, 2).unwrap();
            embeddings.push(
                model
                    .embed(std::slice::from_ref(&passage))
                    .unwrap()
                    .remove(0),
            );
        }
        let window = &embeddings[0].windows[0];
        let cosine: f32 = window.dense.iter().zip(&dense).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.999_999, "cosine {cosine}");
        assert_eq!(window.states.pieces, own);
        let different = window
            .states
            .signs
            .iter()
            .zip(&signs)
            .map(|(a, b)| (a ^ b).count_ones());
        let (different, all) = (different.sum::<u32>(), own.len() * DIMENSION);
        // Only those of numbers that rounding moves over zero.
        assert!(different <= 4, "{different} of {all} bits differ");
        assert!(
            embeddings
                .iter()
                .all(|embedding| *embedding == embeddings[0])
        );
    }
}
