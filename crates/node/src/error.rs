//! Why a call failed, in terms of what to do next: fix the request, retry, go elsewhere, report.
//!
//! `grpc/status.rs` maps it to the wire and is the only place that does.

use memorygate_core::{
    apply::Rejection,
    key::Key,
    name::Namespace,
    request::RequestId,
    state::{Lost, ReadError},
    time::TimeMs,
};
use memorygate_raft::{MemberError, MemberFull};

use crate::wire::write;

/// A field of a request that breaks its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path from the request's root, such as `experiences[3].metadata`.
    pub field: String,
    /// What is wrong: expected, then actual.
    pub description: String,
}

impl Violation {
    pub fn at(field: &str, reason: impl ToString) -> Self {
        Self {
            field: field.to_owned(),
            description: reason.to_string(),
        }
    }

    /// The same violation seen from the message that holds `parent`.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = if self.field.is_empty() {
            parent.to_owned()
        } else {
            format!("{parent}.{}", self.field)
        };
        self
    }
}

/// Whether a write that failed may have been done all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not done and will not be.
    Failed,
    /// It may or may not be done, now or later: repeat it under the same request id.
    Unknown,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {}", .0.field, .0.description)]
    Invalid(Violation),
    #[error("request was refused: {reason}")]
    Refused { reason: String },
    #[error("no memory {key} in this namespace for this reader")]
    NotFound { key: Key },
    #[error("memory {key} has version {actual}, expected {expected}")]
    Version {
        key: Key,
        expected: u64,
        actual: u64,
    },
    #[error("{0}")]
    RequestExpired(Rejection),
    #[error("{0}")]
    RequestFromFuture(Rejection),
    #[error(
        "position is of cluster {actual}, group {actual_group}; this is cluster {expected}, group 0"
    )]
    OtherCluster {
        expected: String,
        actual: String,
        actual_group: u32,
    },
    #[error("{}", not_kept(.0))]
    NotKept(Lost),
    #[error(
        "position {asked} is not reached, this node is at {reached}: hand it as `at_least`, too, to wait for it"
    )]
    NotReached { asked: u64, reached: u64 },
    #[error("{} is still to come, it is {} now", shown(.time), shown(.now))]
    ToCome { time: TimeMs, now: TimeMs },
    #[error("command has {actual} bytes once embedded, expected at most {max}: send fewer at once")]
    CommandTooLarge { actual: usize, max: usize },
    #[error("answer has {actual} bytes, expected at most {max}: ask for fewer results at once")]
    AnswerTooLarge { actual: usize, max: usize },
    #[error(
        "disk is nearly full ({free_bytes} bytes free, {reserve_bytes} are kept in reserve): writes are refused, reads go on"
    )]
    StorageFull { free_bytes: u64, reserve_bytes: u64 },
    #[error("writes are refused, reads go on: {0}")]
    MemberFull(MemberFull),
    #[error("consolidation of namespace {namespace} is paused: resume it first, or set its policy")]
    Paused { namespace: Namespace },
    #[error("{0}")]
    Consolidation(Rejection),
    #[error("node is draining: it takes no writes, ask another")]
    Draining,
    #[error("no leader is confirmed by a majority now: {reason}")]
    NoQuorum { reason: String },
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error("nobody answers as a node at {address}: {reason}")]
    NobodyThere { address: String, reason: String },
    #[error("the node at {address} cannot be a member: {reason}")]
    Foreign { address: String, reason: String },
    #[error("member {node_id:016x} does not answer: {reason}")]
    Unanswered { node_id: u64, reason: String },
    #[error("too much at once: {what}")]
    Overloaded { what: String },
    #[error("this node is not the leader{}", .leader.as_ref().map(|l| format!(", try {l}")).unwrap_or_default())]
    NotLeader { leader: Option<String> },
    #[error("node is not ready: {reason}")]
    NotReady { reason: String },
    #[error("node has stopped serving: {reason}")]
    Stopped { reason: String },
    #[error("outcome of the write is not known: {reason}")]
    Unknown { reason: String },
    #[error("deadline passed while {waiting}")]
    Deadline {
        waiting: &'static str,
        outcome: Outcome,
    },
    #[error("embedding failed: {reason}")]
    Embedding { reason: String },
    #[error("stored data cannot be read: {0}")]
    Storage(#[from] ReadError),
    #[error("internal error: {reason}")]
    Internal { reason: String },
}

fn not_kept(lost: &Lost) -> String {
    let position = lost
        .position
        .map(|position| format!("position {position}, or "));
    format!(
        "how memory {} was then is not kept any more: ask as of {}{} or later",
        lost.key,
        position.unwrap_or_default(),
        shown(&lost.at)
    )
}

fn shown(time: &TimeMs) -> String {
    write::time(*time).to_string()
}

impl Error {
    /// Meaningful for mutating calls.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unknown { .. } => Outcome::Unknown,
            Self::Deadline { outcome, .. } => *outcome,
            Self::Member(MemberError::Outcome { .. }) => Outcome::Unknown,
            Self::Invalid(_)
            | Self::Refused { .. }
            | Self::NotFound { .. }
            | Self::Version { .. }
            | Self::RequestExpired(_)
            | Self::RequestFromFuture(_)
            | Self::OtherCluster { .. }
            | Self::NotKept(_)
            | Self::NotReached { .. }
            | Self::ToCome { .. }
            | Self::CommandTooLarge { .. }
            | Self::AnswerTooLarge { .. }
            | Self::StorageFull { .. }
            | Self::MemberFull(_)
            | Self::Paused { .. }
            | Self::Consolidation(_)
            | Self::Draining
            | Self::NoQuorum { .. }
            | Self::Member(_)
            | Self::NobodyThere { .. }
            | Self::Foreign { .. }
            | Self::Unanswered { .. }
            | Self::Overloaded { .. }
            | Self::NotLeader { .. }
            | Self::NotReady { .. }
            | Self::Stopped { .. }
            | Self::Embedding { .. }
            | Self::Storage(_)
            | Self::Internal { .. } => Outcome::Failed,
        }
    }
}

impl Error {
    /// An id was used before, for another kind of call: its answer is no answer to this one.
    pub fn other_call() -> Self {
        Self::Invalid(Violation::at(
            "request_id",
            "was used before for another kind of call",
        ))
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Invalid(violation)
    }
}

/// What `apply` refused, it did not do.
impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::NotFound { key } => Self::NotFound { key },
            Rejection::Version {
                key,
                expected,
                actual,
            } => Self::Version {
                key,
                expected,
                actual,
            },
            Rejection::Invalid { reason } => Self::Refused { reason },
            Rejection::NoEpoch { .. }
            | Rejection::ChangedSince { .. }
            | Rejection::NoConflict { .. }
            | Rejection::Merged { .. }
            | Rejection::Shared { .. } => Self::Consolidation(rejection),
            Rejection::RequestExpired {
                id: RequestId { .. },
            } => Self::RequestExpired(rejection),
            Rejection::RequestFromFuture { .. } => Self::RequestFromFuture(rejection),
        }
    }
}
