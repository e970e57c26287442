//! What goes between the members of a cluster: finding each other, and the messages of the replica.
//!
//! ```text
//! replica ─▶ Links (a connection a member) ── memorygate.peer.v1 ──▶ Desk ─▶ the other's replica
//! ```
//!
//! Every call names who asks and who is meant. A node that is not meant, or is of another cluster,
//! refuses and does nothing: an address may have got another owner, and a node that lost its disk
//! is another node.

mod bundles;
pub mod desk;
pub mod forming;
pub mod links;

use memorygate_core::format::{FIRST, Formats};
use memorygate_proto::peer::{Identity, Member, Target};
use memorygate_raft::{ClusterId, Peer};
use prost::Message as _;
use tonic::{
    Status,
    metadata::{BinaryMetadataValue, MetadataMap},
};

use crate::position::GROUP;

const FROM: &str = "memorygate-from-bin";
const TO: &str = "memorygate-to-bin";

/// Bytes of one message, at most: the largest log entry, with what one request may hold beside it.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Who asks, and who is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Envelope {
    cluster_id: ClusterId,
    from: u64,
    incarnation: u64,
    to: u64,
}

impl Envelope {
    fn write(&self, metadata: &mut MetadataMap) {
        let from = Identity {
            cluster_id: self.cluster_id.0.to_be_bytes().to_vec().into(),
            node_id: self.from,
            incarnation: self.incarnation,
            group: GROUP,
        };
        let to = Target { node_id: self.to };
        for (name, bytes) in [(FROM, from.encode_to_vec()), (TO, to.encode_to_vec())] {
            metadata.insert_bin(name, BinaryMetadataValue::from_bytes(&bytes));
        }
    }

    fn read(metadata: &MetadataMap) -> Result<Self, Status> {
        let from = Identity::decode(value(metadata, FROM)?.as_slice());
        let to = Target::decode(value(metadata, TO)?.as_slice());
        let (Ok(from), Ok(to)) = (from, to) else {
            return Err(Status::invalid_argument("identity is malformed"));
        };
        let cluster_id = cluster_id(&from.cluster_id)
            .ok_or_else(|| Status::invalid_argument("cluster id has not 16 bytes"))?;
        if from.group != GROUP {
            return Err(Status::failed_precondition(format!(
                "group is {}, expected {GROUP}",
                from.group
            )));
        }
        Ok(Self {
            cluster_id,
            from: from.node_id,
            incarnation: from.incarnation,
            to: to.node_id,
        })
    }
}

fn value(metadata: &MetadataMap, name: &str) -> Result<Vec<u8>, Status> {
    let value = metadata
        .get_bin(name)
        .and_then(|value| value.to_bytes().ok());
    let bytes = value.ok_or_else(|| {
        Status::invalid_argument(format!("{name} is missing: this port is for members only"))
    })?;
    Ok(bytes.to_vec())
}

pub(crate) fn cluster_id(bytes: &[u8]) -> Option<ClusterId> {
    bytes
        .try_into()
        .ok()
        .map(u128::from_be_bytes)
        .map(ClusterId)
}

/// The formats of the log that another node says it reads; `None` if it does not say.
pub(crate) fn formats(min: u32, max: u32) -> Option<Formats> {
    let newest = u8::try_from(max).unwrap_or(u8::MAX);
    match u8::try_from(min) {
        Ok(oldest) if oldest >= FIRST && oldest <= newest => Some(Formats { oldest, newest }),
        Ok(_) | Err(_) => None,
    }
}

fn member(peer: &Peer) -> Member {
    Member {
        node_id: peer.node_id,
        address: peer.address.clone(),
    }
}

fn peer(member: Member) -> Peer {
    Peer {
        node_id: member.node_id,
        address: member.address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_that_were_said() {
        let check = |min, max, expected: Option<(u8, u8)>| {
            let said = formats(min, max).map(|said| (said.oldest, said.newest));
            assert_eq!(said, expected, "{min} to {max}");
        };
        check(1, 2, Some((1, 2)));
        check(3, 3, Some((3, 3)));
        check(1, 1000, Some((1, 255)));
        // An older version does not say.
        check(0, 0, None);
        check(0, 2, None);
        check(3, 2, None);
        check(256, 300, None);
    }

    #[test]
    fn who_asks_and_who_is_meant_is_read_back() {
        let envelope = Envelope {
            cluster_id: ClusterId(7),
            from: 1,
            incarnation: 2,
            to: 3,
        };
        let mut metadata = MetadataMap::new();
        let missing = Envelope::read(&metadata).unwrap_err();
        assert!(missing.message().contains("members only"), "{missing}");
        envelope.write(&mut metadata);
        assert_eq!(Envelope::read(&metadata).unwrap(), envelope);
        metadata.insert_bin(FROM, BinaryMetadataValue::from_bytes(b"\xff\xff"));
        assert!(Envelope::read(&metadata).is_err());
    }
}
