//! What a model makes of a text: dense vectors and token states, and the trait of whoever makes them.
//!
//! An [`Embedding`] is computed before the proposal and travels in the command, because `apply`
//! must not depend on a model (invariant 1). A text is read in one or more overlapping windows;
//! each window has one unit-length dense vector and the sign bits of its token states:
//!
//! ```text
//! text ── word pieces ── window 0 ── dense [384 × f32, unit length]
//!                     │           └─ states: (piece id, 384 sign bits after the fixed rotation) …
//!                     └─ window 1 ── …
//! ```
//!
//! This module refuses to know how the model works; that lives in `crates/index`.

use minicbor::{Decode, Encode};

use crate::limits;

/// Length of a dense vector and of a token state: the hidden size of all-MiniLM-L6-v2.
pub const DIMENSION: usize = 384;

/// Bytes of one token state: one bit a dimension.
pub const STATE_BYTES: usize = DIMENSION / 8;

/// Names the weights and the fixed rotation that made an embedding: vectors of different models
/// must never be compared. The first 8 bytes (big endian) of a SHA-256 over both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct ModelId(#[n(0)] pub u64);

impl ModelId {
    /// Marks a dense vector that the caller supplied; it has no token states.
    pub const GIVEN: Self = Self(0);
}

/// The word pieces of one window and, for each, the sign bits of its state.
///
/// Bit `d % 8` of byte `d / 8` of a state is set where the rotated, unit-length state is `>= 0` in
/// dimension `d`. Piece `i` owns `signs[i * STATE_BYTES..][..STATE_BYTES]`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct TokenStates {
    /// Ids of the word pieces in the model's vocabulary, in text order.
    #[n(0)]
    pub pieces: Vec<u16>,
    /// `pieces.len() * STATE_BYTES` bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub signs: Vec<u8>,
}

impl TokenStates {
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The pieces with their states.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8; STATE_BYTES])> {
        let states = self.signs.as_chunks::<STATE_BYTES>().0;
        self.pieces.iter().copied().zip(states)
    }
}

/// One window of a text.
#[derive(Clone, Debug, PartialEq, Default, Encode, Decode)]
pub struct Window {
    /// [`DIMENSION`] numbers, unit length. Stored as little-endian `f32`.
    #[cbor(n(0), with = "dense_bytes")]
    pub dense: Vec<f32>,
    #[n(1)]
    pub states: TokenStates,
}

/// All that a model made of one memory's text: at least one window, at most
/// [`limits::WINDOWS_MAX`], with at most [`limits::STATES_MAX`] token states together.
#[derive(Clone, Debug, PartialEq, Default, Encode, Decode)]
pub struct Embedding {
    #[n(0)]
    pub model: ModelId,
    #[n(1)]
    pub windows: Vec<Window>,
}

impl Embedding {
    /// An embedding of a vector that the caller computed. The vector is brought to unit length.
    pub fn given(vector: &[f32]) -> Result<Self, Error> {
        let embedding = Self {
            model: ModelId::GIVEN,
            windows: vec![Window {
                dense: unit(vector)?,
                states: TokenStates::default(),
            }],
        };
        embedding.check()?;
        Ok(embedding)
    }

    pub fn state_count(&self) -> usize {
        self.windows.iter().map(|w| w.states.len()).sum()
    }

    /// Refuses what `apply` must never store: a wrong dimension, a vector that is not of unit
    /// length (within 1e-3), too many windows or states, states that do not match their pieces.
    pub fn check(&self) -> Result<(), Error> {
        if self.windows.is_empty() || self.windows.len() > limits::WINDOWS_MAX {
            return Err(Error::Windows {
                actual: self.windows.len(),
            });
        }
        if self.state_count() > limits::STATES_MAX {
            return Err(Error::States {
                actual: self.state_count(),
            });
        }
        for window in &self.windows {
            if window.dense.len() != DIMENSION {
                return Err(Error::Dimension {
                    actual: window.dense.len(),
                });
            }
            let norm = norm(&window.dense);
            if norm.is_nan() || (norm - 1.0).abs() > 1e-3 {
                return Err(Error::NotUnit { norm });
            }
            if window.states.signs.len() != window.states.pieces.len() * STATE_BYTES {
                return Err(Error::StateBytes {
                    expected: window.states.pieces.len() * STATE_BYTES,
                    actual: window.states.signs.len(),
                });
            }
        }
        Ok(())
    }
}

/// One word piece of a query with its state: unit length, rotated, full precision.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryPiece {
    pub piece: u16,
    pub state: Vec<f32>,
}

/// What a model makes of a query. A vector that the caller supplied has no pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryEmbedding {
    pub model: ModelId,
    /// [`DIMENSION`] numbers, unit length.
    pub dense: Vec<f32>,
    pub pieces: Vec<QueryPiece>,
}

/// A text to embed and what was learned just before it in the same session and scope, oldest
/// first (late chunking: the model reads it in that context, only its own span is kept).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Passage {
    pub text: String,
    pub before: Vec<String>,
}

/// Turns text into vectors. The same text gives the same bits, whatever it is batched with.
///
/// Calls block and compute; callers keep them off asynchronous threads.
pub trait Embedder: Send + Sync + 'static {
    /// Which weights and rotation this embedder stands for.
    fn model(&self) -> ModelId;

    /// One embedding a passage, in order, each passing [`Embedding::check`].
    fn embed(&self, passages: &[Passage]) -> Result<Vec<Embedding>, Error>;

    /// Queries are read alone, without context; one result a text, in order.
    fn embed_queries(&self, texts: &[String]) -> Result<Vec<QueryEmbedding>, Error>;
}

/// Why a vector cannot be used or made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("vector has {actual} dimensions, expected {DIMENSION}")]
    Dimension { actual: usize },
    #[error("vector holds a value that is not finite at dimension {at}")]
    NotFinite { at: usize },
    #[error("vector has length zero, so it has no direction")]
    Zero,
    #[error("vector has length {norm}, expected 1")]
    NotUnit { norm: f32 },
    #[error(
        "embedding has {actual} windows, expected 1 to {}",
        limits::WINDOWS_MAX
    )]
    Windows { actual: usize },
    #[error(
        "embedding has {actual} token states, expected at most {}",
        limits::STATES_MAX
    )]
    States { actual: usize },
    #[error("token states take {actual} bytes, expected {expected}")]
    StateBytes { expected: usize, actual: usize },
    /// The model could not run; the text was not embedded and nothing was stored.
    #[error("embedding failed: {0}")]
    Model(String),
}

/// `vector` scaled to length one.
pub fn unit(vector: &[f32]) -> Result<Vec<f32>, Error> {
    if vector.len() != DIMENSION {
        return Err(Error::Dimension {
            actual: vector.len(),
        });
    }
    if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
        return Err(Error::NotFinite { at });
    }
    let largest = vector.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    if largest == 0.0 {
        return Err(Error::Zero);
    }
    // Scaled by the largest value first, so that squares neither overflow nor vanish.
    let scaled: Vec<f32> = vector.iter().map(|x| x / largest).collect();
    let norm = norm(&scaled);
    Ok(scaled.iter().map(|x| x / norm).collect())
}

/// Summed up in lanes, always the same way: one sum after the other would wait for each addition.
fn norm(vector: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0_f64; LANES];
    let (chunks, rest) = vector.as_chunks::<LANES>();
    for numbers in chunks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
        for (sum, x) in sums.iter_mut().zip(numbers) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
    sums.iter().sum::<f64>().sqrt() as f32
}

/// Dense vectors as little-endian bytes: four bytes a number instead of CBOR's five.
mod dense_bytes {
    use minicbor::{Decoder, Encoder};

    pub(super) fn encode<C, W: minicbor::encode::Write>(
        vector: &[f32],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let mut bytes = vec![0; 4 * vector.len()];
        for (bytes, x) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(vector) {
            *bytes = x.to_le_bytes();
        }
        e.bytes(&bytes)?.ok()
    }

    pub(super) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Vec<f32>, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(minicbor::decode::Error::message(
                "vector bytes are not a multiple of 4",
            ));
        }
        Ok(numbers.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}
