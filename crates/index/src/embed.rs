//! Text to vectors: all-MiniLM-L6-v2, and the threads that run it.
//!
//! | module | decides |
//! | --- | --- |
//! | [`minilm`] | what is read with what, and what is kept of it |
//! | `windows` | how long texts are cut, which states are kept (pure) |
//! | `encoder` | the forward pass over stacked sequences |
//! | `product` | the inner loop, and why it gives the same bits everywhere |
//! | [`rotation`] | the fixed rotation before sign bits |
//! | [`files`] | which files the model is |
//! | [`pool`] | micro-batching for concurrent callers, off their threads |
//! | [`stub`] | an embedder without a model, for tests of other things |
//!
//! It knows nothing of memories, indexes or requests; an [`Embedder`] is all that others see.
//!
//! # Speed
//! Milliseconds from the text to the vector, tokenising included, ours (which also makes the token
//! states' sign bits) against onnxruntime 1.32 (`benches/peers/onnxruntime_embed.py`), the best of
//! many turns, each after one that was not counted, on two cores of an AMD EPYC with AVX-512 at
//! 2.6 GHz:
//!
//! | texts × word pieces | 1 thread | 2 threads |
//! | --- | --- | --- |
//! | 1 × 20 | 3.0 against 4.6 | 1.8 against 2.6 |
//! | 1 × 64 | 7.7 against 10.4 | 4.2 against 5.4 |
//! | 32 × 64 | 219 against 293 | 110 against 152 |
//!
//! Where each turn finds the other program's 42 MB of weights in the caches, the single texts on two
//! threads take 2.1 against 2.5 and 5.0 against 5.7.
//!
//! [`Embedder`]: memorygate_core::embedding::Embedder

mod aligned;
mod attention;
mod encoder;
pub mod files;
mod layer_norm;
pub mod minilm;
mod nonlinear;
pub mod pool;
mod product;
#[cfg(test)]
mod reference;
pub mod rotation;
pub mod stub;
mod threads;
mod tokens;
mod windows;

pub use files::ModelFiles;
pub use minilm::MiniLm;
pub use pool::Pool;
pub use rotation::{Rotation, sign_bits};
pub use stub::Stub;

/// Word pieces that the model knows.
const VOCABULARY: usize = 30_522;

/// All instruction sets that this machine can run, the portable one first.
#[cfg(test)]
fn levels() -> Vec<pulp::Arch> {
    let mut levels = vec![pulp::Arch::Scalar, pulp::Arch::new()];
    #[cfg(target_arch = "x86_64")]
    levels.extend(pulp::x86::V3::try_new().map(pulp::Arch::V3));
    levels
}

/// The folder that `make setup` puts the model into.
#[cfg(test)]
fn model_folder() -> std::path::PathBuf {
    let folder = std::env::var_os("MEMORYGATE_MODEL_DIR").map_or_else(
        || {
            let crate_folder =
                std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
            crate_folder.join("../../.model/all-MiniLM-L6-v2")
        },
        std::path::PathBuf::from,
    );
    assert!(
        folder.is_dir(),
        "no model in {}; run `make setup`",
        folder.display()
    );
    folder
}
