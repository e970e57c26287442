//! The client library of MemoryGate: what an agent, or the program around it, uses to learn and to
//! recall.
//!
//! ```text
//! MemoryGateway ── MemoryAdapter          an agent's view: interactions in, context out
//!       │
//! KnowledgeStore ── InMemoryStore         the same contract without a server
//! KnowledgeHistory                        how memories were, and became what they are
//!       │
//!    Client ── members, retries, request ids, positions ──▶ gRPC
//!       └── Cluster, Consolidation          an operator's view
//! ```
//!
//! Start with [`Client`] for the plain API, with the gateway for an agent's loop.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod adapter;
pub mod client;
pub mod cluster;
pub mod conformance;
pub mod consolidation;
pub mod context;
pub mod error;
pub mod experience;
pub mod feedback;
pub mod filter;
pub mod forget;
pub mod freshness;
pub mod gateway;
pub mod get;
pub mod history;
pub mod in_memory;
pub mod interaction;
pub mod learn;
pub mod link;
pub mod list;
pub mod memory;
pub mod mutation;
mod page;
pub mod position;
pub mod recall;
pub mod record;
pub mod restore;
pub mod scope;
pub mod share;
pub mod stats;
pub mod store;
pub mod time;
pub mod update;

pub use memorygate_core::{
    command::update::Expiry, key::Key, moment::Moment, name::domain, rank::Stage,
    request::RequestId, time::TimeMs,
};

pub use crate::{
    adapter::{MemoryAdapter, PromptAdapter},
    client::{Client, Settings},
    cluster::Cluster,
    consolidation::Consolidation,
    context::LearningContext,
    error::{Error, Kind, Outcome, Violation},
    experience::Experience,
    feedback::GiveFeedback,
    filter::{Archive, Filter},
    forget::Forget,
    freshness::Freshness,
    gateway::{Background, MemoryGateway, Receipt},
    get::Get,
    history::{Event, EventKind, FieldChange, History, HistoryPage},
    in_memory::InMemoryStore,
    interaction::{Interaction, Verdict},
    learn::{Learn, LearnReply, LearnStreamReply, Learned},
    link::SetLink,
    list::{List, Page},
    memory::{Archived, Feedback, Link, Memory, Relation},
    mutation::Mutation,
    position::Position,
    recall::{Recall, RecallReply, Recalled, ScoreParts, Weights},
    restore::Restore,
    scope::{Reader, Scope},
    share::Share,
    stats::{NamespaceStats, Stats},
    store::{KnowledgeHistory, KnowledgeStore},
    update::Update,
};
