//! The pure domain of MemoryGate: what a memory is, what can be asked of it, and what `apply` makes
//! of a log.
//!
//! ```text
//! command ──▶ apply ──▶ Transaction (state) ──▶ rows for storage, changes for the index, digest
//! candidates (index) ──▶ rank ──▶ ordered, explained results
//! ```
//!
//! Nothing here reads a clock, a file, a model or a random number, and nothing iterates a hash map:
//! two replicas that apply the same log hold the same bytes. `clippy.toml` bans the means.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod apply;
pub mod command;
pub mod consolidation;
pub mod embedding;
pub mod filter;
pub mod format;
pub mod key;
pub mod limits;
pub mod memory;
pub mod moment;
pub mod name;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod rank;
pub mod request;
pub mod scope;
pub mod shown;
pub mod state;
pub mod time;
pub mod trust;
