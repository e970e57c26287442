//! Everything that is derived from the replicated state, so that it can be thrown away and rebuilt:
//! the embedder and the indexes.
//!
//! ```text
//! changes ──▶ per namespace: dense (FAISS + exact vectors) · lexical (BM25) · sessions · pieces
//! query   ──▶ candidates with raw scores; late interaction over their stored token states
//! ```
//!
//! The rule of this crate is that an answer depends on what is indexed, never on how it came there:
//! slot and row numbers, compactions, threads and the CPU at hand are a matter of speed. Sums are
//! made in a stated order, ties are broken by key.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

mod best;
mod bitmap;
pub mod checkpoint;
mod columns;
mod dense;
mod dot;
pub mod embed;
pub mod faiss;
mod ids;
pub mod index;
pub mod late;
mod lexical;
mod logarithm;
pub mod namespace;
mod pieces;
mod postings;
pub mod records;
#[cfg(test)]
mod samples;
pub mod sessions;
pub mod worker;

pub use index::Index;
