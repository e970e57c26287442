//! What readers ask of the state, and that no history of batches and restarts shows in it.

use std::{path::Path, sync::Arc};

use memorygate_core::{
    apply::{Outcome, Target},
    command::{Command, Envelope, Forget, GiveFeedback, Learn, learn::Experience},
    format::{FIRST, Formats},
    key::Key,
    name::Name,
    request::RequestId,
    scope::{Reader, Scope},
    state::{Read as _, RowKey, StateDigest, namespace_info},
    time::TimeMs,
};
use openraft::EntryPayload;
use proptest::prelude::*;

use super::{Bench, experience, expire, learn, learn_in, namespace, request, run};
use crate::{
    ClusterId, Handle, Journal, NoObserver, Settings, State, StateSnapshot,
    dir::DataDir,
    failpoint::Failpoints,
    fatal::Alarm,
    rocks::Memory,
    state,
    types::{Entry, LeaderId, LogId, Proposal},
};

fn with(content: &str, change: impl FnOnce(&mut Experience)) -> Command {
    let mut experience = experience(content);
    change(&mut experience);
    Command::Learn(Learn {
        namespace: namespace("n"),
        experiences: vec![experience],
    })
}

async fn propose(handle: &Handle, command: Command) -> Outcome {
    let applied = handle.propose(command, None).await.unwrap();
    applied.reply.result.unwrap()
}

#[test]
fn memories_are_listed_in_pages_in_the_order_of_their_keys() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        for n in 0..10 {
            propose(&handle, learn_in("b", &format!("b{n}"))).await;
            propose(&handle, learn_in("a", &format!("a{n}"))).await;
        }
        propose(&handle, learn_in("ab", "x")).await;
        let snapshot = handle.state().snapshot();
        let all = snapshot.memories(None, 99).unwrap();
        assert_eq!(all.len(), 21);
        assert!(all.is_sorted_by_key(|m| (m.namespace.clone(), m.key)));
        let mut paged = Vec::new();
        let mut after = None;
        loop {
            let from = after.as_ref().map(|(namespace, key)| (namespace, *key));
            let page = snapshot.memories(from, 4).unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.namespace.clone(), last.key));
            paged.extend(page);
        }
        assert_eq!(paged, all);
        for stored in &all {
            let expected = experience(&stored.memory.content).embedding;
            assert_eq!(stored.embedding, expected);
        }
        let list = snapshot.list(&namespace("a"), None, 99).unwrap();
        assert_eq!(list.len(), 10);
        let rest = snapshot.list(&namespace("a"), Some(list[3].0), 99).unwrap();
        assert_eq!(rest, list[4..]);
        assert_eq!(snapshot.list(&namespace("a"), None, 2).unwrap(), list[..2]);
        assert_eq!(snapshot.list(&namespace("a"), None, 0).unwrap(), []);
        assert_eq!(snapshot.list(&namespace("c"), None, 9).unwrap(), []);
        let names: Vec<_> = snapshot
            .namespaces()
            .unwrap()
            .into_iter()
            .map(|(name, info)| (name.to_string(), info.memories))
            .collect();
        assert_eq!(
            names,
            [
                ("a".to_owned(), 10),
                ("ab".to_owned(), 1),
                ("b".to_owned(), 10)
            ]
        );
        let info = namespace_info(&*snapshot, &namespace("b")).unwrap();
        assert_eq!(info.unwrap().memories, 10);
        handle.shutdown().await;
    });
}

#[test]
fn a_session_is_read_backwards_from_a_time() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        let at = |time: i64| move |e: &mut Experience| e.occurred_at = Some(TimeMs(time));
        for (content, time) in [("c", 30), ("a", 10), ("b", 20), ("b again", 20)] {
            propose(&handle, with(content, at(time))).await;
        }
        let agent = Scope::Agent(Name::parse("x").unwrap());
        let private = agent.clone();
        propose(&handle, with("private", |e| e.scope = private)).await;
        propose(
            &handle,
            with("other", |e| e.session = Name::parse("s2").ok()),
        )
        .await;
        propose(&handle, with("none", |e| e.session = None)).await;
        let snapshot = handle.state().snapshot();
        let before = |scope: &Scope, session: &str, until: i64, count: usize| -> Vec<String> {
            let session = Name::parse(session).unwrap();
            let until = TimeMs(until);
            let found =
                snapshot.previous_in_session(&namespace("n"), scope, &session, until, count);
            let found = found.unwrap();
            found
                .into_iter()
                .map(|(_, memory)| memory.content)
                .collect()
        };
        let shared = &Scope::Shared;
        assert_eq!(before(shared, "s", 20, 2), ["b", "b again"]);
        assert_eq!(before(shared, "s", 20, 9), ["a", "b", "b again"]);
        assert_eq!(before(shared, "s", 19, 2), ["a"]);
        assert_eq!(before(shared, "s", i64::MAX, 1), ["c"]);
        assert_eq!(before(shared, "s", 9, 2), [""; 0]);
        assert_eq!(before(shared, "s", 99, 0), [""; 0]);
        assert_eq!(before(&agent, "s", 9_999, 9), ["private"]);
        assert_eq!(before(shared, "s2", 9_999, 9), ["other"]);
        handle.shutdown().await;
    });
}

#[test]
fn the_next_expiry_is_known() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        let next = || handle.state().snapshot().next_expiry().unwrap();
        propose(&handle, learn("stays")).await;
        assert_eq!(next(), None);
        for (content, at) in [("b", 3_000), ("a", 2_000)] {
            propose(&handle, with(content, |e| e.expires_at = Some(TimeMs(at)))).await;
        }
        assert_eq!(next(), Some(TimeMs(2_000)));
        bench.now.store(2_500, std::sync::atomic::Ordering::SeqCst);
        let outcome = propose(&handle, expire()).await;
        assert_eq!(outcome, Outcome::Expired { removed: 1 });
        assert_eq!(next(), Some(TimeMs(3_000)));
        handle.shutdown().await;
    });
}

#[test]
fn a_scan_of_rows_goes_across_their_kinds() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        let id = request(0, 1);
        handle.propose(learn("x"), Some(id)).await.unwrap();
        let snapshot = handle.state().snapshot();
        let last = RowKey::Request(RequestId {
            after: u64::MAX,
            nonce: [255; 16],
        });
        let rows = snapshot.scan(&RowKey::Clock, &last, 99).unwrap();
        let kinds: Vec<String> = rows
            .iter()
            .map(|(key, _)| format!("{key:?}"))
            .map(|text| text.split('(').next().unwrap().to_owned())
            .collect();
        let expected = [
            "Clock",
            "Namespace",
            "Memory",
            "Embedding",
            "Session",
            "Request",
        ];
        assert_eq!(kinds, expected);
        for (key, value) in &rows {
            assert_eq!(snapshot.get(key).unwrap().as_ref(), Some(value));
        }
        assert_eq!(snapshot.scan(&RowKey::Clock, &last, 3).unwrap(), rows[..3]);
        assert_eq!(
            snapshot.scan(&rows[2].0, &rows[4].0, 99).unwrap(),
            rows[2..4]
        );
        assert_eq!(snapshot.scan(&last, &RowKey::Clock, 99).unwrap(), []);
        handle.shutdown().await;
    });
}

#[test]
fn the_journal_reaches_back_to_its_floor() {
    let mut bench = Bench::new();
    bench.settings.journal_positions_max = 64;
    run(async {
        let handle = bench.start().await;
        let journal = |after| handle.state().snapshot().journal(after, 1_000).unwrap();
        for n in 0..10 {
            propose(&handle, learn(&format!("{n}"))).await;
        }
        let Journal::Changes { changes, .. } = journal(0) else {
            panic!("the journal is complete");
        };
        assert_eq!(changes.len(), 10);
        handle.state().journal_trim(5);
        propose(&handle, learn("next")).await;
        assert_eq!(journal(4), Journal::Gap { floor: 5 });
        assert!(matches!(journal(5), Journal::Changes { .. }));
        assert_eq!(
            journal(10_000),
            Journal::Gap { floor: 5 },
            "it never was there"
        );
        // What was just done is kept, whoever says that it is not needed.
        handle.state().journal_trim(u64::MAX);
        propose(&handle, learn("one more")).await;
        let last = handle.position();
        let Journal::Changes { changes, through } = journal(last - 1) else {
            panic!("the last change is there");
        };
        assert_eq!((changes.len(), through), (1, last));
        handle.shutdown().await;
    });
}

/// Applies entries in batches of the sizes given, the state reopened where it says so.
fn digest_of(entries: &[Entry], batches: &[(usize, bool)]) -> StateDigest {
    let temporary = tempfile::tempdir().unwrap();
    let mut state = open_state(temporary.path(), false);
    let mut rest = entries;
    let mut batches = batches.iter().cycle();
    while !rest.is_empty() {
        let (size, reopen) = batches.next().unwrap();
        let (batch, after) = rest.split_at((*size).min(rest.len()));
        state.apply(batch).unwrap();
        rest = after;
        if *reopen {
            drop(state);
            state = open_state(temporary.path(), true);
        }
    }
    check_whole(&state.snapshot(), entries)
}

fn open_state(path: &Path, is_formed: bool) -> State {
    let settings = Settings {
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 20,
        ..Settings::default()
    };
    let dir = DataDir::open(path, None).unwrap();
    let parts = state::Parts {
        path: &dir.group().join("state"),
        cluster_id: ClusterId(1),
        settings: &settings,
        formats: Formats::OWN,
        memory: Memory::new(&settings),
        observer: Arc::new(NoObserver),
        alarm: Alarm::new(),
        failpoints: Failpoints::default(),
        lock: dir.lock(),
    };
    State::open(parts, is_formed).unwrap()
}

fn check_whole(snapshot: &StateSnapshot, entries: &[Entry]) -> StateDigest {
    assert_eq!(snapshot.recompute_digest().unwrap(), snapshot.digest());
    let last = entries.last().map_or(0, |entry| entry.log_id.index);
    assert_eq!(snapshot.position(), last);
    // The journal names every memory that there is.
    let Journal::Changes { changes, through } = snapshot.journal(0, usize::MAX).unwrap() else {
        panic!("the journal is complete");
    };
    assert_eq!(through, last);
    for stored in snapshot.memories(None, usize::MAX).unwrap() {
        let is_it = |c: &crate::Changed| (&c.namespace, c.key) == (&stored.namespace, stored.key);
        assert!(changes.iter().any(is_it));
    }
    snapshot.digest()
}

fn commands() -> impl Strategy<Value = Command> {
    let content = || (0_u8..6).prop_map(|n| format!("lesson {n}"));
    let target = || {
        content().prop_map(|content| {
            let of = experience(&content);
            Target {
                namespace: namespace("n"),
                key: Key::of(&namespace("n"), &of.scope, &of.domain, &content),
                reader: Reader::default(),
            }
        })
    };
    prop_oneof![
        4 => (content(), proptest::option::of(900_i64..1_100)).prop_map(|(content, expires)| {
            with(&content, |e| e.expires_at = expires.map(TimeMs))
        }),
        1 => target().prop_map(|target| Command::Forget(Forget {
            target,
            expected_version: None,
            reason: String::new(),
        })),
        1 => (target(), -1.0_f32..1.0).prop_map(|(target, score)| {
            Command::Feedback(GiveFeedback {
                target,
                score,
                agent: None,
                reason: String::new(),
            })
        }),
        1 => Just(expire()),
    ]
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let id = proptest::option::of((0_u64..4, 0_u8..4).prop_map(|(a, n)| request(a, n)));
    (commands(), id, 900_i64..1_100).prop_map(|(command, request, time)| Envelope {
        time: TimeMs(time),
        request,
        command,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn batches_and_restarts_leave_no_trace_in_the_state(
        envelopes in proptest::collection::vec(envelopes(), 1..40),
        batches in proptest::collection::vec((1_usize..8, proptest::bool::weighted(0.2)), 1..8),
    ) {
        let entries: Vec<Entry> = (5..).zip(&envelopes).map(|(index, envelope)| Entry {
            log_id: LogId {
                leader_id: LeaderId { term: 1, node_id: 1 },
                index,
            },
            payload: EntryPayload::Normal(Proposal(envelope.to_bytes(FIRST).into())),
        }).collect();
        let one_by_one = digest_of(&entries, &[(1, false)]);
        prop_assert_eq!(digest_of(&entries, &[(entries.len(), false)]), one_by_one);
        prop_assert_eq!(digest_of(&entries, &batches), one_by_one);
    }
}
