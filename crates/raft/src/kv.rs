//! How rows are laid out on disk: one file per key type, each with its order-preserving codec.
//!
//! A key is its tag byte and its fields; the order of the bytes is the order of [`RowKey`]. What is
//! in a replicated row's value is the core's business, so only the rows of this crate alone (the
//! lower half of the list) have value codecs here.
//!
//! ```text
//! state   default     applied, membership, journal floor, owner
//!         rows        clock, namespace, session, expiry, request, format, policy, progress, epoch,
//!                     conflict, trust, history
//!         memories    memory
//!         embeddings  embedding
//!         journal     journal
//! log     default     vote, purged, committed, owner
//!         entries     entry
//! ```

pub(crate) mod applied;
pub(crate) mod clock;
pub(crate) mod committed;
pub(crate) mod conflict;
pub(crate) mod embedding;
pub(crate) mod entry;
pub(crate) mod epoch;
pub(crate) mod expiry;
pub(crate) mod format;
pub(crate) mod history;
pub(crate) mod journal;
pub(crate) mod journal_floor;
pub(crate) mod membership;
pub(crate) mod memory;
pub(crate) mod namespace;
pub(crate) mod order;
pub(crate) mod owner;
pub(crate) mod policy;
pub(crate) mod progress;
pub(crate) mod purged;
pub(crate) mod request;
pub(crate) mod session;
pub(crate) mod trust;
pub(crate) mod vote;

use memorygate_core::state::RowKey;

use self::order::Malformed;

/// First byte of every key. Persisted: a number is never used for anything else again.
pub(crate) mod tag {
    pub(crate) const CLOCK: u8 = 0x01;
    pub(crate) const NAMESPACE: u8 = 0x02;
    pub(crate) const MEMORY: u8 = 0x03;
    pub(crate) const EMBEDDING: u8 = 0x04;
    pub(crate) const SESSION: u8 = 0x05;
    pub(crate) const EXPIRY: u8 = 0x06;
    pub(crate) const REQUEST: u8 = 0x07;
    pub(crate) const FORMAT: u8 = 0x08;
    pub(crate) const POLICY: u8 = 0x09;
    pub(crate) const PROGRESS: u8 = 0x0a;
    pub(crate) const EPOCH: u8 = 0x0b;
    pub(crate) const CONFLICT: u8 = 0x0c;
    pub(crate) const TRUST: u8 = 0x0d;
    pub(crate) const HISTORY: u8 = 0x0e;

    pub(crate) const APPLIED: u8 = 0x40;
    pub(crate) const MEMBERSHIP: u8 = 0x41;
    pub(crate) const JOURNAL: u8 = 0x42;
    pub(crate) const JOURNAL_FLOOR: u8 = 0x43;
    pub(crate) const OWNER: u8 = 0x44;

    pub(crate) const ENTRY: u8 = 0x80;
    pub(crate) const VOTE: u8 = 0x81;
    pub(crate) const PURGED: u8 = 0x82;
    pub(crate) const COMMITTED: u8 = 0x83;
}

/// The column family that a row lives in. Names are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Rows of this crate alone.
    Local,
    /// Small replicated rows.
    Rows,
    Memories,
    Embeddings,
    Journal,
    /// Of the log.
    Entries,
}

impl Family {
    pub(crate) const STATE: [Self; 5] = [
        Self::Local,
        Self::Rows,
        Self::Memories,
        Self::Embeddings,
        Self::Journal,
    ];
    pub(crate) const LOG: [Self; 2] = [Self::Local, Self::Entries];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "default",
            Self::Rows => "rows",
            Self::Memories => "memories",
            Self::Embeddings => "embeddings",
            Self::Journal => "journal",
            Self::Entries => "entries",
        }
    }
}

/// The tags of replicated rows, in their order, with where they live.
pub(crate) const REPLICATED: [(u8, Family); 14] = [
    (tag::CLOCK, Family::Rows),
    (tag::NAMESPACE, Family::Rows),
    (tag::MEMORY, Family::Memories),
    (tag::EMBEDDING, Family::Embeddings),
    (tag::SESSION, Family::Rows),
    (tag::EXPIRY, Family::Rows),
    (tag::REQUEST, Family::Rows),
    (tag::FORMAT, Family::Rows),
    (tag::POLICY, Family::Rows),
    (tag::PROGRESS, Family::Rows),
    (tag::EPOCH, Family::Rows),
    (tag::CONFLICT, Family::Rows),
    (tag::TRUST, Family::Rows),
    (tag::HISTORY, Family::Rows),
];

/// Where a replicated row is stored, and under which bytes.
pub(crate) fn encode(key: &RowKey) -> (Family, Vec<u8>) {
    match key {
        RowKey::Clock => (Family::Rows, clock::encode()),
        RowKey::Namespace(name) => (Family::Rows, namespace::encode(name)),
        RowKey::Memory(namespace, key) => (Family::Memories, memory::encode(namespace, *key)),
        RowKey::Embedding(namespace, key) => {
            (Family::Embeddings, embedding::encode(namespace, *key))
        }
        RowKey::Session(place) => (Family::Rows, session::encode(place)),
        RowKey::Expiry(at, namespace, key) => (Family::Rows, expiry::encode(*at, namespace, *key)),
        RowKey::Request(id) => (Family::Rows, request::encode(id)),
        RowKey::Format => (Family::Rows, format::encode()),
        RowKey::Policy(namespace) => (Family::Rows, policy::encode(namespace)),
        RowKey::Progress(namespace) => (Family::Rows, progress::encode(namespace)),
        RowKey::Epoch(namespace, id) => (Family::Rows, epoch::encode(namespace, *id)),
        RowKey::Conflict(namespace, a, b) => (Family::Rows, conflict::encode(namespace, *a, *b)),
        RowKey::Trust(namespace, agent) => (Family::Rows, trust::encode(namespace, agent)),
        RowKey::History(row) => (Family::Rows, history::encode(row)),
    }
}

/// Reads a replicated row's key back.
pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    match bytes.first() {
        Some(&tag::CLOCK) => clock::decode(bytes),
        Some(&tag::NAMESPACE) => namespace::decode(bytes),
        Some(&tag::MEMORY) => memory::decode(bytes),
        Some(&tag::EMBEDDING) => embedding::decode(bytes),
        Some(&tag::SESSION) => session::decode(bytes),
        Some(&tag::EXPIRY) => expiry::decode(bytes),
        Some(&tag::REQUEST) => request::decode(bytes),
        Some(&tag::FORMAT) => format::decode(bytes),
        Some(&tag::POLICY) => policy::decode(bytes),
        Some(&tag::PROGRESS) => progress::decode(bytes),
        Some(&tag::EPOCH) => epoch::decode(bytes),
        Some(&tag::CONFLICT) => conflict::decode(bytes),
        Some(&tag::TRUST) => trust::decode(bytes),
        Some(&tag::HISTORY) => history::decode(bytes),
        Some(_) | None => Err(Malformed::new(bytes, "unknown tag")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use memorygate_core::{
        key::Key,
        name::{Name, Namespace},
        request::RequestId,
        scope::Scope,
        state::{HistoryRow, SessionPlace},
        time::TimeMs,
    };
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn key_of(byte: u8) -> Key {
        Key([byte; 16])
    }

    /// The bytes of a key are frozen, and read back as the same key.
    pub(crate) fn check_frozen(key: &RowKey, expected: &str) {
        let (_, bytes) = encode(key);
        assert_eq!(hex(&bytes), expected);
        assert_eq!(decode(&bytes).as_ref(), Ok(key));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut to {cut} bytes");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(decode(&longer).is_err(), "one byte too many");
    }

    fn namespaces() -> impl Strategy<Value = Namespace> {
        "[a-c.-]{1,3}".prop_map(|name| Namespace::parse(&name).unwrap())
    }

    fn names() -> impl Strategy<Value = Name> {
        "[a-bé😀 ]{1,3}".prop_map(|name| Name::parse(&name).unwrap())
    }

    fn scopes() -> impl Strategy<Value = Scope> {
        prop_oneof![
            Just(Scope::Shared),
            names().prop_map(Scope::Team),
            names().prop_map(Scope::Agent)
        ]
    }

    fn keys() -> impl Strategy<Value = Key> {
        prop_oneof![
            any::<u8>().prop_map(key_of),
            any::<[u8; 16]>().prop_map(Key)
        ]
    }

    fn times() -> impl Strategy<Value = TimeMs> {
        prop_oneof![-2_i64..3, any::<i64>()].prop_map(TimeMs)
    }

    pub(crate) fn row_keys() -> impl Strategy<Value = RowKey> {
        let place = (namespaces(), scopes(), names(), times(), 0_u64..3, 0_u32..3).prop_map(
            |(namespace, scope, session, occurred_at, created_index, created_offset)| {
                SessionPlace {
                    namespace,
                    scope,
                    session,
                    occurred_at,
                    created_index,
                    created_offset,
                }
            },
        );
        let id = (prop_oneof![0_u64..3, any::<u64>()], any::<[u8; 16]>())
            .prop_map(|(after, nonce)| RequestId { after, nonce });
        prop_oneof![
            Just(RowKey::Clock),
            namespaces().prop_map(RowKey::Namespace),
            (namespaces(), keys()).prop_map(|(n, k)| RowKey::Memory(n, k)),
            (namespaces(), keys()).prop_map(|(n, k)| RowKey::Embedding(n, k)),
            place.prop_map(RowKey::Session),
            (times(), namespaces(), keys()).prop_map(|(t, n, k)| RowKey::Expiry(t, n, k)),
            id.prop_map(RowKey::Request),
            Just(RowKey::Format),
            namespaces().prop_map(RowKey::Policy),
            namespaces().prop_map(RowKey::Progress),
            (namespaces(), any::<u64>()).prop_map(|(n, id)| RowKey::Epoch(n, id)),
            (namespaces(), keys(), keys()).prop_map(|(n, a, b)| RowKey::Conflict(n, a, b)),
            (namespaces(), names()).prop_map(|(n, agent)| RowKey::Trust(n, agent)),
            (namespaces(), keys(), 0_u64..3, any::<u64>()).prop_map(
                |(namespace, key, position, version)| RowKey::History(HistoryRow::Of {
                    namespace,
                    key,
                    position,
                    version,
                })
            ),
            (times(), 0_u64..3, namespaces(), keys(), any::<u64>()).prop_map(
                |(at, position, namespace, key, version)| RowKey::History(HistoryRow::Aged {
                    at,
                    position,
                    namespace,
                    key,
                    version,
                })
            ),
        ]
    }

    proptest! {
        #[test]
        fn every_key_is_read_back(key in row_keys()) {
            let (_, bytes) = encode(&key);
            prop_assert_eq!(decode(&bytes), Ok(key));
        }

        #[test]
        fn bytes_are_ordered_as_keys_are(a in row_keys(), b in row_keys()) {
            prop_assert_eq!(encode(&a).1.cmp(&encode(&b).1), a.cmp(&b));
        }

        #[test]
        fn any_bytes_are_a_key_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(key) = decode(&bytes) {
                prop_assert_eq!(encode(&key).1, bytes);
            }
        }
    }

    #[test]
    fn replicated_tags_are_in_the_order_of_row_keys() {
        assert!(REPLICATED.is_sorted_by_key(|(tag, _)| tag));
    }
}
