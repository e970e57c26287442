//! The MemoryGate server.
//!
//! ```text
//! gRPC ─▶ grpc::guard ─▶ wire::read ─▶ learn · recall · get · list · mutate · stats ─▶ wire::write
//!                                          │        │ one view of index and state
//!                                          ▼        ▼
//!                              memorygate-raft   projection ◀── effects of every applied batch
//! ```
//!
//! Entry points: [`cli::main`] (the binary `memorygate`) and [`node::Node`] (a server within a
//! process). Everything that is decided about memories is in `memorygate-core`; everything durable
//! in `memorygate-raft`; everything derived in `memorygate-index`. This crate connects them to the
//! network, to clocks and to settings.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod backend;
pub mod backup;
pub mod catch_up;
pub mod cli;
pub mod cluster;
pub mod compute;
pub mod consolidation;
pub mod deadline;
pub mod error;
mod expiry;
pub mod get;
pub mod grpc;
pub mod health;
pub mod history;
mod hooks;
mod http;
pub mod learn;
pub mod list;
mod model;
pub mod mutate;
pub mod node;
mod past;
pub mod peer;
pub mod position;
pub mod projection;
pub mod recall;
pub mod settings;
pub mod stats;
mod stored;
pub mod telemetry;
pub mod wire;
