//! What openraft is told about our types. Private to this crate.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use memorygate_core::apply::Reply;
use openraft::{
    EntryPayload, RaftTypeConfig,
    alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf},
    impls::{BoxedErrorSource, InlineBatch, leader_id_adv},
    raft::responder::Responder,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The names of this crate's types for openraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Answer;
    type NodeId = u64;
    type Node = Node;
    type Term = u64;
    // With the node in it, votes are totally ordered: two candidates of one term do not block
    // each other.
    type LeaderId = leader_id_adv::LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Proposal, u64, Node>;
    type Entry = openraft::Entry<Self::LeaderId, Self::Payload>;
    type AsyncRuntime = openraft::TokioRuntime;
    type Responder<T>
        = Waiter<T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = BoxedErrorSource;
}

pub(crate) type LeaderId = leader_id_adv::LeaderId<u64, u64>;
pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type Entry = EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Node>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = SnapshotOf<TypeConfig, Arc<crate::snapshots::SnapshotFiles>>;

/// An encoded command envelope. Cheap to clone: entries go to the disk, to peers and to `apply`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal(pub(crate) Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|bytes| Self(bytes.into()))
    }
}

/// What applying an entry answered: nothing for entries of the consensus itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) Option<Arc<Reply>>);

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self
            .0
            .as_deref()
            .map(|reply| minicbor::to_vec(reply).expect("writing to a vector cannot fail"));
        bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Option::<Vec<u8>>::deserialize(deserializer)?;
        let reply = bytes.map(|bytes| minicbor::decode(&bytes).map(Arc::new));
        reply.transpose().map(Self).map_err(D::Error::custom)
    }
}

/// How another member is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) address: String,
}

/// Waits for a proposal's answer, and holds its share of the in-flight bound until it has come,
/// even when the caller went away.
pub(crate) struct Waiter<T> {
    answer: oneshot::Sender<T>,
    _share: Option<Shares>,
}

/// What one proposal takes of the bounds on proposals and on their bytes.
pub(crate) struct Shares {
    pub(crate) _proposal: OwnedSemaphorePermit,
    pub(crate) _bytes: OwnedSemaphorePermit,
}

impl<T> Waiter<T> {
    pub(crate) fn new(share: Option<Shares>) -> (Self, oneshot::Receiver<T>) {
        let (answer, receiver) = oneshot::channel();
        (
            Self {
                answer,
                _share: share,
            },
            receiver,
        )
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Waiter<T> {
    fn on_complete(self, result: T) {
        // Nobody listens any more if the caller gave up: its outcome is unknown to it.
        let _ = self.answer.send(result);
    }
}

/// `T12-N1f-34`: term, node and index, for directory names and messages.
pub(crate) fn display(log_id: &LogId) -> String {
    let LeaderId { term, node_id } = log_id.leader_id;
    format!("T{term}-N{node_id:x}-{}", log_id.index)
}

#[cfg(test)]
mod tests {
    use memorygate_core::apply::Outcome;

    use super::*;

    #[test]
    fn what_openraft_serialises_is_read_back() {
        let proposal = Proposal(Bytes::from_static(b"abc"));
        assert_eq!(format!("{proposal:?}"), "command of 3 bytes");
        let text = serde_json::to_string(&proposal).unwrap();
        assert_eq!(serde_json::from_str::<Proposal>(&text).unwrap(), proposal);
        let reply = Reply {
            index: 7,
            result: Ok(Outcome::Expired { removed: 2 }),
        };
        for answer in [Answer(None), Answer(Some(Arc::new(reply)))] {
            let text = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
        }
        assert!(serde_json::from_str::<Answer>("[1]").is_err());
    }
}
