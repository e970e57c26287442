//! The replicated log and the durable state: everything that knows openraft or RocksDB.
//!
//! ```text
//!            propose                        committed                     one batch
//! Handle ───────────▶ openraft ──▶ log_store (fsync) ──▶ state_machine ──────────▶ state (RocksDB)
//!                                                             │ core::apply
//!                                                             ▼
//!                                                        EffectsSink (the index)
//! ```
//!
//! A node opens a [`Replica`] (its directory, its log, its state), lets its index catch up with the
//! replica's [`State`], and starts it, which yields a [`Handle`]. Nothing of openraft or RocksDB
//! appears in this crate's public items, so that either can be replaced behind them.
//!
//! What this crate refuses to know: gRPC, models, indexes, and what a command means; that is
//! `memorygate_core::apply`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod backup;
pub mod check;
pub mod clock;
pub mod dir;
pub mod disk;
pub mod effects;
pub mod fatal;
pub mod handle;
pub mod observer;
pub mod recover;
pub mod replica;
pub mod settings;
pub mod state;
pub mod transport;

mod durable;
mod failpoint;
mod kv;
mod log_store;
mod message;
mod network;
#[cfg(feature = "planted-bugs")]
mod planted;
mod quorum;
mod rocks;
mod snapshots;
mod state_machine;
mod types;

pub use self::{
    check::check,
    clock::Clock,
    dir::{ClusterId, Identity, OpenError},
    disk::{FreeSpace, Statvfs, StorageFull},
    effects::{Effects, EffectsSink},
    fatal::{Fatal, FatalKind},
    handle::{
        Applied, BarrierError, Handle, Metrics, ProposeError, Role, SnapshotError, SnapshotInfo,
        Stopped,
        gate::MemberFull,
        members::{Member, MemberChange, MemberError, Membership},
        serving::PeerError,
    },
    observer::{NoObserver, Observer},
    replica::{First, Open, Replica, StartError},
    settings::Settings,
    state::{Changed, DigestError, Journal, State, StateDigests, StateSnapshot, StoredMemory},
    transport::{NoTransport, Peer, Transport, TransportError},
};

#[cfg(test)]
mod tests;
