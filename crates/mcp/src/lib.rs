//! MemoryGate as a memory of any assistant that speaks the Model Context Protocol.
//!
//! It decides which tools a model is offered, in which words, what of a memory a model gets to see and
//! in what form, and how an error tells a model what to do next. It refuses to know how a call gets
//! through to a cluster, and what a command line looks like.
//!
//! ```text
//! assistant ── stdio, or HTTP behind Guard ──▶ Server ──▶ Tool ──▶ one file for each ──▶ Client
//!                                                                        │
//!           text (quoted, within a budget) and JSON  ◀── Reply ◀─────────┘
//!           what was wrong, and what to do next      ◀── Refusal
//! ```
//!
//! Who an assistant acts for is a matter of the server's settings: a model chooses no identity, and of namespaces
//! only among those that the server was told to read.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod http;
mod namespaces;
mod render;
mod reply;
mod schema;
mod server;
pub mod stdio;
mod tools;

pub use crate::{http::Guard, server::Server};

/// Bytes of one message. An experience with its metadata has 80 KiB, six times that if everything in it
/// is escaped; what is larger, but not by far, is still told what is wrong with it.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Calls that run at the same time; further ones are refused.
pub const CALLS_MAX: usize = 64;
