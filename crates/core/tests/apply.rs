//! What `apply` makes of commands: tables of single effects, and properties over random logs.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::collections::BTreeMap;

use memorygate_core::{
    apply::{Outcome, Rejection, Reply, Target, apply},
    command::{
        Command, Envelope, Expire, Forget, GiveFeedback, Learn, SetFormat, SetLink, Share, Update,
        learn::{Experience, Learned},
        update::Expiry,
    },
    embedding::{DIMENSION, Embedding},
    format::{FIRST, Formats, NEXT},
    key::Key,
    limits,
    memory::{Link, Memory, Relation},
    name::{Domain, Name, Namespace},
    request::RequestId,
    scope::{Reader, Scope},
    state::{self, ChangeKind, Rows, Transaction},
    time::TimeMs,
};
use proptest::prelude::*;

/// A log applied entry by entry to rows in memory.
#[derive(Default)]
struct Log {
    rows: Rows,
    index: u64,
    /// Whether each entry was to remove or change something in the index.
    changes: Vec<state::Change>,
}

impl Log {
    fn append(&mut self, time: i64, request: Option<RequestId>, command: Command) -> Reply {
        self.index += 1;
        let envelope = Envelope {
            time: TimeMs(time),
            request,
            command,
        };
        let bytes = envelope.to_bytes(FIRST);
        let envelope = Envelope::from_bytes(&bytes, Formats::OWN).unwrap();
        let mut tx = Transaction::new(&self.rows);
        let reply = apply(&mut tx, self.index, &envelope).unwrap();
        let commit = tx.commit(self.rows.digest());
        self.rows.store(&commit);
        self.changes = commit.changes;
        assert_eq!(self.rows.digest(), self.rows.digest_of_all());
        reply
    }

    fn run(&mut self, command: Command) -> Result<Outcome, Rejection> {
        let time = i64::try_from(self.index).unwrap() * 1000 + 1000;
        self.append(time, None, command).result
    }

    fn learn(&mut self, experience: Experience) -> Learned {
        match self.run(learn(vec![experience])).unwrap() {
            Outcome::Learned(learned) => learned[0],
            other @ (Outcome::Mutated { .. }
            | Outcome::Expired { .. }
            | Outcome::Marked
            | Outcome::Format { .. }
            | Outcome::Consolidated { .. }
            | Outcome::Undone { .. }
            | Outcome::UsesCounted { .. }
            | Outcome::PolicySet
            | Outcome::TrustSet) => {
                panic!("learned, but got {other:?}")
            }
        }
    }

    fn memory(&self, key: Key) -> Option<Memory> {
        state::memory(&self.rows, &Namespace::default(), key).unwrap()
    }
}

fn experience(content: &str) -> Experience {
    Experience {
        scope: Scope::Shared,
        content: content.to_owned(),
        domain: Domain::parse("infrastructure").unwrap(),
        occurred_at: Some(TimeMs(500)),
        importance: 0.5,
        metadata: BTreeMap::new(),
        agent: None,
        session: None,
        expires_at: None,
        pinned: false,
        links: [].into(),
        embedding: Embedding::given(&[1.0; DIMENSION]).unwrap(),
    }
}

fn learn(experiences: Vec<Experience>) -> Command {
    Command::Learn(Learn {
        namespace: Namespace::default(),
        experiences,
    })
}

fn target(key: Key) -> Target {
    Target {
        namespace: Namespace::default(),
        key,
        reader: Reader::default(),
    }
}

fn update(key: Key) -> Update {
    Update {
        target: target(key),
        expected_version: None,
        importance: None,
        pinned: None,
        expiry: None,
        set_metadata: [].into(),
        remove_metadata: [].into(),
    }
}

fn feedback(key: Key, score: f32) -> Command {
    Command::Feedback(GiveFeedback {
        target: target(key),
        score,
        reason: String::new(),
        agent: None,
    })
}

fn forget(key: Key) -> Command {
    Command::Forget(Forget {
        target: target(key),
        expected_version: None,
        reason: String::new(),
    })
}

fn expire() -> Command {
    Command::Expire(Expire {})
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn the_same_lesson_again_reinforces_one_memory() {
    let mut log = Log::default();
    let first = log.learn(Experience {
        metadata: map(&[("pod", "a")]),
        ..experience("disk full")
    });
    let again = log.learn(Experience {
        occurred_at: Some(TimeMs(900)),
        importance: 0.9,
        metadata: map(&[("pod", "b"), ("zone", "z")]),
        ..experience("disk full \r\n")
    });
    assert_eq!(
        (first.created, first.version, first.occurrences),
        (true, 1, 1)
    );
    assert_eq!(
        (again.created, again.version, again.occurrences),
        (false, 2, 2)
    );
    assert_eq!(first.key, again.key);
    let memory = log.memory(first.key).unwrap();
    assert_eq!(memory.content, "disk full", "as first learned");
    assert_eq!(
        (memory.occurred_at, memory.last_seen_at),
        (TimeMs(500), TimeMs(900))
    );
    assert!(
        (memory.importance - 0.91).abs() < 1e-6,
        "a tenth of the way from 0.9 to 1"
    );
    assert_eq!(memory.metadata, map(&[("pod", "b"), ("zone", "z")]));
    let info = state::namespace_info(&log.rows, &Namespace::default())
        .unwrap()
        .unwrap();
    assert_eq!(info.memories, 1);
}

#[test]
fn reinforcement_never_breaks_a_bound() {
    let mut log = Log::default();
    let many = |prefix: &str| {
        (0..60)
            .map(|i| (format!("{prefix}{i}"), "v".repeat(100)))
            .collect()
    };
    let key = log
        .learn(Experience {
            metadata: many("a"),
            ..experience("x")
        })
        .key;
    log.learn(Experience {
        metadata: many("b"),
        importance: 1.0,
        ..experience("x")
    });
    for _ in 0..50 {
        log.learn(experience("x"));
    }
    let memory = log.memory(key).unwrap();
    assert_eq!(memory.metadata.len(), limits::METADATA_ENTRIES_MAX);
    assert!(memory.importance <= 1.0);
}

#[test]
fn the_same_words_in_two_scopes_are_two_memories() {
    let mut log = Log::default();
    let of = |agent: &str| Experience {
        scope: Scope::Agent(Name::parse(agent).unwrap()),
        ..experience("secret")
    };
    let (ada, bob) = (log.learn(of("ada")).key, log.learn(of("bob")).key);
    assert_ne!(ada, bob);
    assert_eq!(
        log.run(forget(ada)),
        Err(Rejection::NotFound { key: ada }),
        "not bob's to see"
    );
    let reader = Reader {
        agent: Some(Name::parse("ada").unwrap()),
        ..Reader::default()
    };
    let target = Target {
        reader,
        ..target(ada)
    };
    let forget = Forget {
        target,
        expected_version: None,
        reason: String::new(),
    };
    let gone = Outcome::Mutated {
        key: ada,
        version: 0,
        changed: true,
    };
    assert_eq!(log.run(Command::Forget(forget)), Ok(gone));
    assert!(log.memory(ada).is_none() && log.memory(bob).is_some());
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let mut log = Log::default();
    let key = log
        .learn(Experience {
            metadata: map(&[("a", "1"), ("b", "2")]),
            ..experience("x")
        })
        .key;
    let change = Update {
        importance: Some(0.75),
        pinned: Some(true),
        expiry: Some(Expiry::At(TimeMs(10_000))),
        set_metadata: map(&[("c", "3")]),
        remove_metadata: ["a".to_owned()].into(),
        expected_version: Some(1),
        ..update(key)
    };
    let changed = Outcome::Mutated {
        key,
        version: 2,
        changed: true,
    };
    assert_eq!(log.run(Command::Update(change.clone())), Ok(changed));
    let memory = log.memory(key).unwrap();
    assert_eq!((memory.importance, memory.pinned), (0.75, true));
    assert_eq!(memory.expires_at, Some(TimeMs(10_000)));
    assert_eq!(memory.metadata, map(&[("b", "2"), ("c", "3")]));
    let stale = Rejection::Version {
        key,
        expected: 1,
        actual: 2,
    };
    assert_eq!(log.run(Command::Update(change.clone())), Err(stale));
    let same = Command::Update(Update {
        expected_version: None,
        ..change
    });
    assert_eq!(
        log.run(same),
        Ok(Outcome::Mutated {
            key,
            version: 2,
            changed: false
        })
    );
    assert!(log.changes.is_empty(), "the index has nothing to do");
    let never = Update {
        expiry: Some(Expiry::Never),
        ..update(key)
    };
    log.run(Command::Update(never)).unwrap();
    assert_eq!(log.memory(key).unwrap().expires_at, None);
    let too_much = Update {
        set_metadata: map(&[("big", &"v".repeat(16 * 1024))]),
        ..update(key)
    };
    assert!(matches!(
        log.run(Command::Update(too_much)),
        Err(Rejection::Invalid { .. })
    ));
}

#[test]
fn feedback_is_counted_once_a_request() {
    let mut log = Log::default();
    let key = log.learn(experience("x")).key;
    let id = RequestId {
        after: 0,
        nonce: [7; 16],
    };
    let first = log.append(0, Some(id), feedback(key, 1.0));
    let second = log.append(0, Some(id), feedback(key, 1.0));
    assert_eq!(first, second);
    assert_eq!(first.index, 2);
    assert_eq!(log.memory(key).unwrap().feedback.count, 1);
    log.run(feedback(key, -0.5)).unwrap();
    let total = log.memory(key).unwrap().feedback;
    assert_eq!((total.count, total.positive, total.negative), (2, 1.0, 0.5));
    for bad in [f32::NAN, f32::INFINITY, 1.01, -2.0] {
        assert!(
            matches!(log.run(feedback(key, bad)), Err(Rejection::Invalid { .. })),
            "{bad}"
        );
    }
}

#[test]
fn an_old_or_impossible_request_id_is_refused_and_old_answers_are_dropped() {
    let mut log = Log::default();
    let id = |after| RequestId {
        after,
        nonce: [1; 16],
    };
    let future = log.append(0, Some(id(1)), expire());
    assert_eq!(
        future.result,
        Err(Rejection::RequestFromFuture {
            id: id(1),
            index: 1
        })
    );
    log.append(0, Some(id(0)), expire()).result.unwrap();
    log.index = limits::REQUEST_WINDOW_POSITIONS;
    let old = log.append(0, Some(id(0)), learn(vec![experience("x")]));
    assert_eq!(old.result, Err(Rejection::RequestExpired { id: id(0) }));
    let requests = log
        .rows
        .iter()
        .filter(|(k, _)| matches!(k, state::RowKey::Request(_)));
    assert_eq!(requests.count(), 0);
    assert_eq!(
        state::namespace_info(&log.rows, &Namespace::default()).unwrap(),
        None
    );
}

#[test]
fn the_format_rises_and_never_falls() {
    let mut log = Log::default();
    assert_eq!(state::format(&log.rows).unwrap(), FIRST);
    for (format, agreed) in [(1, 1), (3, 3), (2, 3), (3, 3), (4, 4)] {
        let done = log.run(Command::SetFormat(SetFormat { format }));
        assert_eq!(done, Ok(Outcome::Format { format: agreed }));
        assert_eq!(state::format(&log.rows).unwrap(), agreed);
    }
}

#[test]
fn links_lead_to_what_the_caller_may_see() {
    let mut log = Log::default();
    let (a, b) = (
        log.learn(experience("a")).key,
        log.learn(experience("b")).key,
    );
    let private = Experience {
        scope: Scope::Agent(Name::parse("ada").unwrap()),
        ..experience("private")
    };
    let private = log.learn(private).key;
    let set = |end, remove| {
        let link = Link {
            relation: Relation::CausedBy,
            target: end,
        };
        Command::Link(SetLink {
            target: target(a),
            link,
            remove,
        })
    };
    let changed = |version, changed| {
        Ok(Outcome::Mutated {
            key: a,
            version,
            changed,
        })
    };
    assert_eq!(
        log.run(set(private, false)),
        Err(Rejection::NotFound { key: private })
    );
    assert_eq!(log.run(set(b, false)), changed(2, true));
    assert_eq!(log.run(set(b, false)), changed(2, false));
    log.run(forget(b)).unwrap();
    assert_eq!(
        log.run(set(b, true)),
        changed(3, true),
        "a dangling link can be removed"
    );
}

#[test]
fn memories_expire_by_the_time_in_the_log_unless_pinned() {
    let mut log = Log::default();
    let mortal = |content: &str| Experience {
        expires_at: Some(TimeMs(50_000)),
        ..experience(content)
    };
    let key = log.learn(mortal("a")).key;
    let pinned = log
        .learn(Experience {
            pinned: true,
            ..mortal("b")
        })
        .key;
    assert_eq!(
        log.append(49_999, None, expire()).result,
        Ok(Outcome::Expired { removed: 0 })
    );
    // Due, not yet removed: gone for every caller, and the lesson can be learned anew.
    assert_eq!(
        log.append(50_000, None, feedback(key, 1.0)).result,
        Err(Rejection::NotFound { key })
    );
    let fresh = log.append(
        1,
        None,
        learn(vec![Experience {
            expires_at: Some(TimeMs(60_000)),
            ..mortal("a")
        }]),
    );
    let first = Learned {
        key,
        created: true,
        version: 1,
        occurrences: 1,
    };
    assert_eq!(fresh.result, Ok(Outcome::Learned(vec![first])));
    let kinds: Vec<_> = log
        .changes
        .iter()
        .map(|c| matches!(c.kind, ChangeKind::Removed))
        .collect();
    assert_eq!(kinds, [true, false]);
    // The leader's clock may have gone back: the log's time has not.
    assert_eq!(
        log.append(70_000, None, expire()).result,
        Ok(Outcome::Expired { removed: 1 })
    );
    assert_eq!(state::clock(&log.rows).unwrap(), TimeMs(70_000));
    assert!(log.memory(key).is_none() && log.memory(pinned).is_some());
}

#[test]
fn what_breaks_a_bound_is_refused_whole() {
    let mut log = Log::default();
    let good = || experience("good");
    let mut bad = vec![
        Experience {
            content: String::new(),
            ..good()
        },
        Experience {
            content: "x".repeat(limits::CONTENT_BYTES_MAX + 1),
            ..good()
        },
        Experience {
            importance: f32::NAN,
            ..good()
        },
        Experience {
            occurred_at: Some(TimeMs(-1)),
            ..good()
        },
        Experience {
            expires_at: Some(TimeMs(limits::TIME_MS_MAX + 1)),
            ..good()
        },
        Experience {
            metadata: map(&[("", "x")]),
            ..good()
        },
        Experience {
            embedding: Embedding::default(),
            ..good()
        },
    ];
    let mut short = good();
    short.embedding.windows[0].dense.pop();
    bad.push(short);
    let mut long = good();
    long.embedding.windows[0].dense[0] = f32::NAN;
    bad.push(long);
    for bad in bad {
        let before = log.rows.clone();
        let refused = log.append(0, None, learn(vec![good(), bad.clone()]));
        assert!(
            matches!(refused.result, Err(Rejection::Invalid { .. })),
            "{bad:?}"
        );
        let rows = |rows: &Rows| {
            let clock = state::RowKey::Clock;
            rows.iter()
                .filter(|(k, _)| **k != clock)
                .map(|(k, _)| k.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(rows(&log.rows), rows(&before));
    }
    let batch = |n| learn(vec![good(); n]);
    assert!(matches!(log.run(batch(0)), Err(Rejection::Invalid { .. })));
    assert!(matches!(
        log.run(batch(limits::BATCH_MAX + 1)),
        Err(Rejection::Invalid { .. })
    ));
}

/// A small world, so that random commands meet the same memories.
fn any_command() -> impl Strategy<Value = Command> {
    let content = prop::sample::select(vec!["a", "b", "c", "d"]);
    let name = |names: &'static [&'static str]| {
        prop::option::of(prop::sample::select(names).prop_map(|n| Name::parse(n).unwrap()))
    };
    let scope = prop_oneof![
        Just(Scope::Shared),
        Just(Scope::Team(Name::parse("sre").unwrap())),
        Just(Scope::Agent(Name::parse("ada").unwrap())),
    ];
    let experience = (
        content.clone(),
        scope,
        0..40_i64,
        0.0..=1.0_f32,
        name(&["s1", "s2"]),
        prop::option::of(0..60_i64),
        any::<bool>(),
    )
        .prop_map(
            |(content, scope, at, importance, session, expires, pinned)| Experience {
                scope,
                occurred_at: Some(TimeMs(at)),
                importance,
                session,
                expires_at: expires.map(TimeMs),
                pinned,
                ..experience(content)
            },
        );
    let key = content.clone().prop_map(|c| {
        let domain = Domain::parse("infrastructure").unwrap();
        Key::of(&Namespace::default(), &Scope::Shared, &domain, c)
    });
    let sre = || Scope::Team(Name::parse("sre").unwrap());
    let narrow = [sre(), Scope::Agent(Name::parse("ada").unwrap())];
    let share = (
        content.clone(),
        prop::sample::select(narrow.to_vec()),
        prop::sample::select(vec![Scope::Shared, sre()]),
    )
        .prop_map(|(content, scope, with)| {
            let domain = Domain::parse("infrastructure").unwrap();
            let key = Key::of(&Namespace::default(), &scope, &domain, content);
            let reader = Reader {
                agent: Some(Name::parse("ada").unwrap()),
                teams: [Name::parse("sre").unwrap()].into(),
                everything: false,
            };
            Command::Share(Share {
                target: Target {
                    reader,
                    ..target(key)
                },
                expected_version: None,
                with,
            })
        });
    prop_oneof![
        3 => prop::collection::vec(experience, 1..4).prop_map(learn),
        1 => share,
        1 => (key.clone(), -1.0..=1.0_f32).prop_map(|(key, score)| feedback(key, score)),
        1 => key.clone().prop_map(forget),
        1 => (key.clone(), prop::option::of(0..60_i64), any::<bool>()).prop_map(|(key, at, pinned)| {
            let expiry = Some(at.map_or(Expiry::Never, |at| Expiry::At(TimeMs(at))));
            Command::Update(Update { expiry, pinned: Some(pinned), ..update(key) })
        }),
        1 => (key.clone(), key, any::<bool>()).prop_map(|(from, to, remove)| {
            let link = Link { relation: Relation::RelatesTo, target: to };
            Command::Link(SetLink { target: target(from), link, remove })
        }),
        1 => Just(expire()),
    ]
}

/// Everything that must hold between the rows after any log.
fn check_consistency(rows: &Rows) {
    let mut memories = BTreeMap::new();
    let mut expected_expiries = Vec::new();
    let mut expected_places = Vec::new();
    for (row, bytes) in rows.iter() {
        if let state::RowKey::Memory(namespace, key) = row {
            let memory: Memory = state::decode(row, bytes).unwrap();
            assert!(state::embedding(rows, namespace, *key).unwrap().is_some());
            if let (Some(at), false) = (memory.expires_at, memory.pinned) {
                expected_expiries.push((at, *key));
            }
            expected_places.extend(state::SessionPlace::of(namespace, &memory).map(|p| (p, *key)));
            memories.insert(*key, memory);
        }
    }
    let mut expiries = Vec::new();
    let mut places = Vec::new();
    for (row, bytes) in rows.iter() {
        match row {
            state::RowKey::Expiry(at, _, key) => expiries.push((*at, *key)),
            state::RowKey::Session(p) => {
                places.push((p.clone(), state::decode(row, bytes).unwrap()))
            }
            state::RowKey::Embedding(_, key) => assert!(memories.contains_key(key)),
            state::RowKey::Namespace(_) => {
                let info: state::NamespaceInfo = state::decode(row, bytes).unwrap();
                assert_eq!(info.stored(), memories.len() as u64);
                let archived = memories.values().filter(|m| m.is_archived()).count();
                assert_eq!(info.archived, archived as u64);
                assert_eq!(info.by_domain.values().sum::<u64>(), info.memories);
            }
            state::RowKey::Clock
            | state::RowKey::Memory(..)
            | state::RowKey::Request(_)
            | state::RowKey::Format
            | state::RowKey::Policy(_)
            | state::RowKey::Progress(_)
            | state::RowKey::Epoch(..)
            | state::RowKey::Conflict(..)
            | state::RowKey::Trust(..)
            | state::RowKey::History(_) => {}
        }
    }
    expected_expiries.sort();
    expected_places.sort();
    assert_eq!(expiries, expected_expiries);
    assert_eq!(places, expected_places);
}

proptest! {
    #[test]
    fn rows_stay_consistent_and_batching_changes_nothing(
        commands in prop::collection::vec((any_command(), 0..60_i64, prop::option::of(0..6_u8)), 1..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut log = Log::default();
        let mut replies = Vec::new();
        let envelopes: Vec<Envelope> = commands
            .into_iter()
            .map(|(command, time, nonce)| Envelope {
                time: TimeMs(time),
                request: nonce.map(|n| RequestId { after: 0, nonce: [n; 16] }),
                command,
            })
            .collect();
        for envelope in &envelopes {
            replies.push(log.append(envelope.time.0, envelope.request, envelope.command.clone()));
            check_consistency(&log.rows);
        }
        // The same log in batches that share a transaction.
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(envelopes.len())).collect();
        cuts.extend([0, envelopes.len()]);
        cuts.sort_unstable();
        let (mut rows, mut batched) = (Rows::default(), Vec::new());
        for range in cuts.windows(2) {
            let mut tx = Transaction::new(&rows);
            for (i, envelope) in envelopes.iter().enumerate().take(range[1]).skip(range[0]) {
                batched.push(apply(&mut tx, i as u64 + 1, envelope).unwrap());
            }
            let commit = tx.commit(rows.digest());
            rows.store(&commit);
        }
        prop_assert_eq!(&rows, &log.rows);
        prop_assert_eq!(batched, replies);
    }

    #[test]
    fn envelopes_are_read_back(command in any_command(), time in any::<i64>()) {
        let envelope = Envelope { time: TimeMs(time), request: None, command };
        let formats = Formats { oldest: FIRST, newest: NEXT };
        for format in [FIRST, NEXT] {
            let read = Envelope::from_bytes(&envelope.to_bytes(format), formats);
            prop_assert_eq!(read.as_ref(), Ok(&envelope));
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let formats = Formats { oldest: FIRST, newest: NEXT };
        let _ = Envelope::from_bytes(&bytes, formats);
        for format in [FIRST, NEXT] {
            let _ = Envelope::from_bytes(&[&[format], bytes.as_slice()].concat(), formats);
        }
    }
}
