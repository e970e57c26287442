//! What can be asked of the state: one file per command, each with the check of its bounds and its
//! `apply`.
//!
//! A [`Command`] is finished before it is proposed: keys, vectors and times are in it. Its numbers
//! are persisted in the log and never reused.

pub mod consolidate;
pub mod count_uses;
mod evidence;
pub mod expire;
pub mod feedback;
pub mod forget;
pub mod learn;
pub mod link;
pub mod mark;
pub mod resolve_conflict;
pub mod restore;
pub mod set_format;
pub mod set_policy;
pub mod set_trust;
pub mod share;
pub mod undo_consolidation;
pub mod update;

use minicbor::{Decode, Encode};

pub use self::{
    consolidate::Consolidate, count_uses::CountUses, expire::Expire, feedback::GiveFeedback,
    forget::Forget, learn::Learn, link::SetLink, mark::Mark, resolve_conflict::ResolveConflict,
    restore::Restore, set_format::SetFormat, set_policy::SetPolicy, set_trust::SetTrust,
    share::Share, undo_consolidation::UndoConsolidation, update::Update,
};
use crate::{
    format::{FIRST, Formats, NEXT},
    memory::Invalid,
    request::RequestId,
    time::TimeMs,
};

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
    #[n(7)]
    SetFormat(#[n(0)] SetFormat),
    #[n(8)]
    Consolidate(#[n(0)] Consolidate),
    #[n(9)]
    UndoConsolidation(#[n(0)] UndoConsolidation),
    #[n(10)]
    CountUses(#[n(0)] CountUses),
    #[n(11)]
    ResolveConflict(#[n(0)] ResolveConflict),
    #[n(12)]
    Restore(#[n(0)] Restore),
    #[n(13)]
    SetPolicy(#[n(0)] SetPolicy),
    #[n(14)]
    Share(#[n(0)] Share),
    #[n(15)]
    SetTrust(#[n(0)] SetTrust),
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
            Self::SetFormat(_) => "set_format",
            Self::Consolidate(_) => "consolidate",
            Self::UndoConsolidation(_) => "undo_consolidation",
            Self::CountUses(_) => "count_uses",
            Self::ResolveConflict(_) => "resolve_conflict",
            Self::Restore(_) => "restore",
            Self::SetPolicy(_) => "set_policy",
            Self::Share(_) => "share",
            Self::SetTrust(_) => "set_trust",
        }
    }

    /// Whether every bound holds. Checked before the proposal, and again by `apply`.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Learn(command) => command.check(),
            Self::Update(command) => command.check(),
            Self::Feedback(command) => command.check(),
            Self::Forget(command) => command.check(),
            Self::Consolidate(command) => command.check(),
            Self::CountUses(command) => command.check(),
            Self::SetPolicy(command) => command.check(),
            Self::Share(command) => command.check(),
            Self::SetTrust(command) => command.check(),
            Self::Link(_)
            | Self::Expire(_)
            | Self::Mark(_)
            | Self::SetFormat(_)
            | Self::UndoConsolidation(_)
            | Self::ResolveConflict(_)
            | Self::Restore(_) => Ok(()),
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

/// The same in the format after the first.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Next {
    #[n(0)]
    time: TimeMs,
    #[n(1)]
    request: Option<RequestId>,
    #[n(2)]
    command: Command,
}

impl Envelope {
    /// One byte that names the format, then CBOR: an array in the first format, a map in the next.
    ///
    /// # Panics
    /// If there is no such format.
    pub fn to_bytes(&self, format: u8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.about_bytes());
        bytes.push(format);
        let written = match format {
            FIRST => minicbor::encode(self, &mut bytes),
            NEXT => {
                let Self {
                    time,
                    request,
                    command,
                } = self.clone();
                let next = Next {
                    time,
                    request,
                    command,
                };
                minicbor::encode(&next, &mut bytes)
            }
            _ => panic!("there is no format {format}"),
        };
        written.expect("writing to a vector cannot fail");
        bytes
    }

    /// About how many bytes it takes, so that they are not copied as they grow.
    fn about_bytes(&self) -> usize {
        const REST: usize = 512;
        if let Command::Learn(learn) = &self.command {
            let of = |experience: &learn::Experience| REST + experience.about_bytes();
            learn.experiences.iter().map(of).sum()
        } else {
            REST
        }
    }

    /// Reads any of `formats`.
    pub fn from_bytes(bytes: &[u8], formats: Formats) -> Result<Self, DecodeError> {
        let (&actual, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        if !formats.reads(actual) {
            return Err(DecodeError::Format { actual, formats });
        }
        let read = match actual {
            FIRST => minicbor::decode(body),
            NEXT => minicbor::decode(body).map(|next: Next| Self {
                time: next.time,
                request: next.request,
                command: next.command,
            }),
            _ => return Err(DecodeError::Format { actual, formats }),
        };
        read.map_err(|error| DecodeError::Malformed {
            reason: error.to_string(),
        })
    }
}

/// A log entry that this program cannot read. It must not skip it: the node stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("command is empty")]
    Empty,
    #[error("command has format {actual}, this program reads {formats}")]
    Format { actual: u8, formats: Formats },
    #[error("command is malformed: {reason}")]
    Malformed { reason: String },
}
