//! How members reach each other, as this crate asks it of whoever carries its messages.
//!
//! What is carried is opaque: only this crate reads it, see `message`. The carrier knows addresses,
//! connections and deadlines, and shows each end who the other is. It may lose what it carries, or
//! break off; it must not alter it, and must keep the order within a stream.

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

/// Another member of the cluster.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Peer {
    pub node_id: u64,
    /// `host:port`.
    pub address: String,
}

/// What is asked of a member once, with one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    Vote,
    PreVote,
    TransferLeader,
    /// To propose a command as the leader.
    Propose,
    /// To confirm leadership, and say what a linearizable read has to wait for.
    ReadIndex,
    /// To change who the members are, as the leader.
    ChangeMembers,
    /// To have another member lead, as the leader.
    HandOver,
}

impl Call {
    pub const ALL: [Self; 7] = [
        Self::Vote,
        Self::PreVote,
        Self::TransferLeader,
        Self::Propose,
        Self::ReadIndex,
        Self::ChangeMembers,
        Self::HandOver,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::PreVote => "pre_vote",
            Self::TransferLeader => "transfer_leader",
            Self::Propose => "propose",
            Self::ReadIndex => "read_index",
            Self::ChangeMembers => "change_members",
            Self::HandOver => "hand_over",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What goes both ways for as long as it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Log entries, and the answers in the same order.
    Append,
    /// The files of a snapshot.
    Snapshot,
}

impl Channel {
    pub const ALL: [Self; 2] = [Self::Append, Self::Snapshot];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Snapshot => "snapshot",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The messages of one direction.
pub type Messages = BoxStream<'static, Bytes>;

/// The answers on a channel; it ends after the first error.
pub type Answers<E> = BoxStream<'static, Result<Bytes, E>>;

/// Carries messages to other members.
pub trait Transport: Send + Sync + 'static {
    /// Asks `to` once, and waits for the answer no longer than `within`.
    fn call(
        &self,
        to: &Peer,
        call: Call,
        request: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;

    /// Opens a channel to `to` within `within`. It lasts until `requests` end and all are answered,
    /// or the answers are dropped.
    fn open(
        &self,
        to: &Peer,
        channel: Channel,
        requests: Messages,
        within: Duration,
    ) -> BoxFuture<'static, Result<Answers<TransportError>, TransportError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nothing of the request was seen by the other.
    #[error("cannot reach {address}: {reason}")]
    Unreachable { address: String, reason: String },
    /// The other is not who was asked, or will not talk with this node. It did nothing.
    #[error("{address} refused: {reason}")]
    Refused { address: String, reason: String },
    /// The request may have been seen, and done.
    #[error("connection to {address} broke off: {reason}")]
    Broken { address: String, reason: String },
}

impl TransportError {
    /// Whether the other is sure to have done nothing.
    pub fn is_undelivered(&self) -> bool {
        !matches!(self, Self::Broken { .. })
    }
}

/// The transport of a node that has no others.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTransport;

impl NoTransport {
    fn unreachable(to: &Peer) -> TransportError {
        TransportError::Unreachable {
            address: to.address.clone(),
            reason: "this node has no connection to others".to_owned(),
        }
    }
}

impl Transport for NoTransport {
    fn call(
        &self,
        to: &Peer,
        _call: Call,
        _request: Bytes,
        _within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let error = Self::unreachable(to);
        Box::pin(async move { Err(error) })
    }

    fn open(
        &self,
        to: &Peer,
        _channel: Channel,
        _requests: Messages,
        _within: Duration,
    ) -> BoxFuture<'static, Result<Answers<TransportError>, TransportError>> {
        let error = Self::unreachable(to);
        Box::pin(async move { Err(error) })
    }
}
