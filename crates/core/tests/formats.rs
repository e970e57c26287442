//! Bytes that are in users' logs and stores. A change that breaks one of these needs a new format
//! version and a test that still reads the old one.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use memorygate_core::{
    apply::{Outcome, Rejection, Reply, Target},
    command::{
        Command, DecodeError, Envelope, GiveFeedback, Mark, SetFormat, SetTrust, Share,
        learn::Learned,
    },
    embedding::{DIMENSION, Embedding, ModelId, STATE_BYTES, TokenStates, Window},
    format::{FIRST, Formats, NEXT},
    key::Key,
    memory::{Archived, Created, Feedback, Link, Memory, Reason, Relation, Sharing, Used},
    name::{Domain, Name, Namespace},
    request::RequestId,
    scope::{Reader, Scope},
    state::{
        Agreed, Clock, Digests, Event, HistoryRow, NamespaceInfo, RowKey, SessionPlace,
        StateDigest, What,
    },
    time::TimeMs,
    trust::Trust,
};
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Encodes to exactly `frozen` and decodes from it to the same value.
fn check<T>(value: &T, frozen: &str)
where
    T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + std::fmt::Debug,
{
    let bytes = minicbor::to_vec(value).unwrap();
    assert_eq!(hex(&bytes), frozen, "{value:?}");
    assert_eq!(&minicbor::decode::<T>(&bytes).unwrap(), value);
}

fn name(name: &str) -> Name {
    Name::parse(name).unwrap()
}

fn memory() -> Memory {
    Memory {
        scope: Scope::Team(name("sre")),
        content: "disk full".to_owned(),
        domain: Domain::parse("infrastructure").unwrap(),
        occurred_at: TimeMs(1_700_000_000_000),
        importance: 0.5,
        metadata: [("pod".to_owned(), "web-1".to_owned())].into(),
        agent: Some(name("ada")),
        session: None,
        links: [Link {
            relation: Relation::ResolvedBy,
            target: Key([1; 16]),
        }]
        .into(),
        expires_at: Some(TimeMs(5)),
        pinned: true,
        version: 3,
        occurrences: 2,
        last_seen_at: TimeMs(1_700_000_000_001),
        feedback: Feedback {
            count: 1,
            positive: 0.5,
            negative: 0.0,
        },
        created: Created {
            index: 9,
            offset: 1,
            at: TimeMs(7),
        },
        updated_at: TimeMs(8),
        used: Used::default(),
        archived: None,
        merged: [].into(),
        shared: [].into(),
        changed_index: 0,
    }
}

/// In a format that is read, whatever newer ones are read as well.
fn check_envelope(envelope: &Envelope, format: u8, frozen: &str) {
    let bytes = envelope.to_bytes(format);
    assert_eq!(hex(&bytes), frozen);
    for newest in format..=NEXT {
        let oldest = FIRST;
        let read = Envelope::from_bytes(&bytes, Formats { oldest, newest });
        assert_eq!(read.as_ref(), Ok(envelope));
    }
}

#[test]
fn the_envelope() {
    let target = Target {
        namespace: Namespace::default(),
        key: Key([0xab; 16]),
        reader: Reader::default(),
    };
    let feedback = GiveFeedback {
        target,
        score: 0.5,
        reason: String::new(),
        agent: None,
    };
    let envelope = Envelope {
        time: TimeMs(1_700_000_000_000),
        request: Some(RequestId {
            after: 5,
            nonce: [1; 16],
        }),
        command: Command::Feedback(feedback),
    };
    let frozen = "01831b0000018bcfe568008205500101010101010101010101010101010182028183836764\
                  656661756c7450abababababababababababababababab83f680f4fa3f00000060";
    check_envelope(&envelope, FIRST, frozen);
    // The same, as a map.
    let next = "02a3001b0000018bcfe56800018205500101010101010101010101010101010102820281838367\
                64656661756c7450abababababababababababababababab83f680f4fa3f00000060";
    check_envelope(&envelope, NEXT, next);
    let old = Formats {
        oldest: FIRST,
        newest: FIRST,
    };
    let refused = |bytes: &[u8], formats| Envelope::from_bytes(bytes, formats).unwrap_err();
    assert_eq!(
        refused(&envelope.to_bytes(NEXT), old).to_string(),
        "command has format 2, this program reads 1 to 1"
    );
    let later = Formats { newest: 9, ..old };
    assert_eq!(
        refused(&[9, 0], later).to_string(),
        "command has format 9, this program reads 1 to 9"
    );
    assert_eq!(refused(&[], old), DecodeError::Empty);
    for format in [FIRST, NEXT] {
        let error = refused(&[format, 0xff, 0xff], later);
        assert!(matches!(error, DecodeError::Malformed { .. }), "{error}");
    }
}

#[test]
fn the_records() {
    check(
        &memory(),
        "9182018163737265696469736b2066756c6c6e696e6672617374727563747572651b0000018bcfe56800fa3f000000a163706f64657765622d3163616461f6818201500101010101010101010101010101010105f503021b0000018bcfe568018301fb3fe0000000000000fb00000000000000008309010708",
    );
    let shared = Memory {
        archived: Some(Archived {
            reason: Reason::Shared { to: Key([2; 16]) },
            at: TimeMs(9),
        }),
        shared: [(
            Key([1; 16]),
            Sharing {
                by: Some(name("ada")),
                at: TimeMs(8),
                learned_at: TimeMs(7),
            },
        )]
        .into(),
        ..memory()
    };
    let bytes = minicbor::to_vec(&shared).unwrap();
    // What is not there before it, such as merged memories, is written as empty.
    let tail = &bytes[bytes.len() - 49..];
    let frozen = "008282038150020202020202020202020202020202020980a1500101010101010101010101010101010183636164610807";
    assert_eq!(hex(tail), frozen);
    assert_eq!(minicbor::decode::<Memory>(&bytes).unwrap(), shared);
    check(&Clock { now: TimeMs(5) }, "8105");
    let by_domain = [(Domain::parse("deployment").unwrap(), 2)].into();
    check(
        &NamespaceInfo {
            memories: 2,
            by_domain,
            archived: 0,
        },
        "8202a16a6465706c6f796d656e7402",
    );
    let learned = Learned {
        key: Key([2; 16]),
        created: true,
        version: 1,
        occurrences: 1,
    };
    check(
        &Reply {
            index: 4,
            result: Ok(Outcome::Learned(vec![learned])),
        },
        "8204820082008181845002020202020202020202020202020202f50101",
    );
    let key = Key([3; 16]);
    check(
        &Reply {
            index: 4,
            result: Err(Rejection::NotFound { key }),
        },
        "820482018200815003030303030303030303030303030303",
    );
    check(&StateDigest::default(), "818400000000");
}

#[test]
fn the_history() {
    let key = Key([4; 16]);
    let (namespace, position, version) = (Namespace::default(), 258, 3);
    let of = HistoryRow::Of {
        namespace: namespace.clone(),
        key,
        position,
        version,
    };
    check(
        &RowKey::History(of),
        "820d818200846764656661756c74500404040404040404040404040404040419010203",
    );
    let aged = HistoryRow::Aged {
        at: TimeMs(5),
        position,
        namespace,
        key,
        version,
    };
    check(
        &RowKey::History(aged),
        "820d81820185051901026764656661756c74500404040404040404040404040404040403",
    );
    let before = "9182018163737265696469736b2066756c6c6e696e6672617374727563747572651b0000018bcfe56800fa3f000000a163706f64657765622d3163616461f6818201500101010101010101010101010101010105f503021b0000018bcfe568018301fb3fe0000000000000fb00000000000000008309010708";
    let event = Event {
        at: TimeMs(5),
        what: What::Rated {
            score: 0.5,
            reason: "x".to_owned(),
        },
        by: None,
        before: memory(),
    };
    check(&event, &format!("8405820282fa3f0000006178f6{before}"));
    // A record that was changed names the entry that did it, far behind what others may add before.
    let changed = Memory {
        changed_index: 9,
        ..memory()
    };
    let fields = before.strip_prefix("91").unwrap();
    let (never_used, not_archived, merged, shared) = ("820000", "f6", "80", "a0");
    let unused = "f6".repeat(9);
    let frozen = format!("981f{fields}{never_used}{not_archived}{merged}{shared}{unused}09");
    check(&changed, &frozen);
}

#[test]
fn the_row_keys() {
    let (namespace, key) = (Namespace::default(), Key([4; 16]));
    check(&RowKey::Clock, "820080");
    check(
        &RowKey::Namespace(namespace.clone()),
        "8201816764656661756c74",
    );
    check(
        &RowKey::Memory(namespace.clone(), key),
        "8202826764656661756c745004040404040404040404040404040404",
    );
    check(
        &RowKey::Embedding(namespace.clone(), key),
        "8203826764656661756c745004040404040404040404040404040404",
    );
    check(
        &RowKey::Session(
            SessionPlace::of(
                &namespace,
                &Memory {
                    session: Some(name("s")),
                    ..memory()
                },
            )
            .unwrap(),
        ),
        "820481866764656661756c748201816373726561731b0000018bcfe568000901",
    );
    check(
        &RowKey::Expiry(TimeMs(1), namespace, key),
        "820583016764656661756c745004040404040404040404040404040404",
    );
    check(
        &RowKey::Request(RequestId {
            after: 1,
            nonce: [0; 16],
        }),
        "82068182015000000000000000000000000000000000",
    );
    check(&RowKey::Format, "820780");
}

#[test]
fn the_commands_that_share_and_set_trust() {
    let target = Target {
        namespace: Namespace::default(),
        key: Key([0xab; 16]),
        reader: Reader::default(),
    };
    let share = Share {
        target,
        expected_version: None,
        with: Scope::Team(name("sre")),
    };
    let frozen =
        "820e8183836764656661756c7450abababababababababababababababab83f680f4f682018163737265";
    check(&Command::Share(share), frozen);
    let key = Key([3; 16]);
    check(
        &Rejection::Shared { key },
        "8209815003030303030303030303030303030303",
    );
    let trust = SetTrust {
        namespace: Namespace::default(),
        agent: name("ada"),
        trust: Some(0.5),
    };
    let frozen = "820f81836764656661756c7463616461fa3f000000";
    check(&Command::SetTrust(trust), frozen);
    check(&Outcome::TrustSet, "820980");
    let row = RowKey::Trust(Namespace::default(), name("ada"));
    check(&row, "820c826764656661756c7463616461");
    let trust = Trust {
        count: 1,
        positive: 0.5,
        negative: 0.0,
        set: Some(0.5),
    };
    check(&trust, "8401fb3fe0000000000000fb0000000000000000fa3f000000");
}

#[test]
fn the_marker() {
    let envelope = Envelope {
        time: TimeMs(5),
        request: None,
        command: Command::Mark(Mark {}),
    };
    check_envelope(&envelope, FIRST, "018305f682068180");
    let result = Ok(Outcome::Marked);
    check(&Reply { index: 4, result }, "82048200820380");
}

#[test]
fn the_command_that_raises_the_format() {
    let envelope = Envelope {
        time: TimeMs(5),
        request: None,
        command: Command::SetFormat(SetFormat { format: 2 }),
    };
    // All that were members before read it, so it is written in their format.
    check_envelope(&envelope, FIRST, "018305f68207818102");
    let result = Ok(Outcome::Format { format: 2 });
    check(&Reply { index: 4, result }, "8204820082048102");
    check(&Agreed { format: 2 }, "8102");
}

#[test]
fn digests_tell_namespaces_apart_and_sum_up() {
    let named = |name: &str| Namespace::parse(name).unwrap();
    let rows = [
        (RowKey::Clock, "1"),
        (RowKey::Namespace(named("a")), "2"),
        (RowKey::Memory(named("a"), Key([1; 16])), "3"),
        (RowKey::Memory(named("b"), Key([1; 16])), "3"),
    ];
    let of = |rows: &[(RowKey, &str)]| {
        let mut digests = Digests::default();
        for (key, value) in rows {
            digests.add(key, value.as_bytes());
        }
        digests
    };
    let (before, mut flipped) = (of(&rows), rows.clone());
    assert_eq!(before.rows, 4);
    let mut sum = StateDigest::default();
    before.by_name().values().for_each(|part| sum.merge(*part));
    assert_eq!(sum, before.all);
    flipped[3].1 = "2";
    let after = of(&flipped);
    let differ = |name: &str| before.by_name()[name] != after.by_name()[name];
    assert!(differ("b") && !differ("a") && !differ(Digests::OUTSIDE));
    assert_ne!(before.all, after.all);
    assert!(Namespace::parse(Digests::OUTSIDE).is_err());
}

/// Long, so its hash is frozen instead.
#[test]
fn the_embedding() {
    let states = TokenStates {
        pieces: vec![7, 30_521],
        signs: vec![0x5a; 2 * STATE_BYTES],
    };
    let mut dense = vec![0.0; DIMENSION];
    dense[3] = 1.0;
    let embedding = Embedding {
        model: ModelId(9),
        windows: vec![Window { dense, states }],
    };
    let bytes = minicbor::to_vec(&embedding).unwrap();
    assert_eq!(bytes.len(), 1647);
    assert_eq!(hex(&Sha256::digest(&bytes)[..8]), "430d59630cdb6dcb");
    assert_eq!(minicbor::decode::<Embedding>(&bytes).unwrap(), embedding);
}

#[test]
fn a_digest_does_not_depend_on_history() {
    let (a, b) = (RowKey::Clock, RowKey::Namespace(Namespace::default()));
    let mut one = StateDigest::default();
    one.add(&a, b"1");
    one.add(&b, b"2");
    let mut other = StateDigest::default();
    other.add(&b, b"x");
    other.add(&a, b"1");
    other.remove(&b, b"x");
    assert_ne!(one, other);
    other.add(&b, b"2");
    assert_eq!(one, other);
    assert_eq!(
        one.to_string(),
        "5765e875f620f8b06075c36960feb9132a41b0ae8c8e87d12dcc4f79d6e5a2e8"
    );
}
