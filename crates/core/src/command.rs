//! What can be asked of the state: one file per command, each with the check of its bounds and its
//! `apply`.
//!
//! A [`Command`] is finished before it is proposed: keys, vectors and times are in it. Its numbers
//! are persisted in the log and never reused.

pub mod expire;
pub mod feedback;
pub mod forget;
pub mod learn;
pub mod link;
pub mod mark;
pub mod update;

use minicbor::{Decode, Encode};

pub use self::{
    expire::Expire, feedback::GiveFeedback, forget::Forget, learn::Learn, link::SetLink,
    mark::Mark, update::Update,
};
use crate::{memory::Invalid, request::RequestId, time::TimeMs};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Command {
    #[n(0)]
    Learn(#[n(0)] Learn),
    #[n(1)]
    Update(#[n(0)] Update),
    #[n(2)]
    Feedback(#[n(0)] GiveFeedback),
    #[n(3)]
    Forget(#[n(0)] Forget),
    #[n(4)]
    Link(#[n(0)] SetLink),
    #[n(5)]
    Expire(#[n(0)] Expire),
    #[n(6)]
    Mark(#[n(0)] Mark),
}

impl Command {
    /// A word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Learn(_) => "learn",
            Self::Update(_) => "update",
            Self::Feedback(_) => "feedback",
            Self::Forget(_) => "forget",
            Self::Link(_) => "link",
            Self::Expire(_) => "expire",
            Self::Mark(_) => "mark",
        }
    }

    /// Whether every bound holds. Checked before the proposal, and again by `apply`.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Learn(command) => command.check(),
            Self::Update(command) => command.check(),
            Self::Feedback(command) => command.check(),
            Self::Forget(command) => command.check(),
            Self::Link(_) | Self::Expire(_) | Self::Mark(_) => Ok(()),
        }
    }
}

/// A command as it stands in the log: stamped by the leader.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Envelope {
    /// The leader's clock at the proposal. The log's time never goes back, whatever this says.
    #[n(0)]
    pub time: TimeMs,
    /// Absent for what the cluster itself proposes.
    #[n(1)]
    pub request: Option<RequestId>,
    #[n(2)]
    pub command: Command,
}

/// Version of the bytes that [`Envelope::to_bytes`] writes.
pub const ENVELOPE_VERSION: u8 = 1;

impl Envelope {
    /// One byte of version, then CBOR.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![ENVELOPE_VERSION];
        minicbor::encode(self, &mut bytes).expect("writing to a vector cannot fail");
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        if *version != ENVELOPE_VERSION {
            return Err(DecodeError::Version { actual: *version });
        }
        minicbor::decode(body).map_err(|error| DecodeError::Malformed {
            reason: error.to_string(),
        })
    }
}

/// A log entry that this program cannot read. It must not skip it: the node stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("command is empty")]
    Empty,
    #[error("command has format version {actual}, this program reads {ENVELOPE_VERSION}")]
    Version { actual: u8 },
    #[error("command is malformed: {reason}")]
    Malformed { reason: String },
}
