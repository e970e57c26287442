//! What is kept of changes, and that a memory of the past is told as it was or not at all.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{
    apply::{Outcome, Rejection, Reply, Target, apply},
    command::{
        Command, Consolidate, CountUses, Envelope, Expire, Forget, GiveFeedback, Learn,
        ResolveConflict, Restore, SetLink, UndoConsolidation, Update,
        consolidate::{Step, Versioned},
        count_uses::Use,
        learn::Experience,
    },
    embedding::{DIMENSION, Embedding},
    key::Key,
    limits,
    memory::{Link, Memory, Relation, Used},
    moment::Moment,
    name::{Domain, Name, Namespace},
    scope::{Reader, Scope},
    state::{self, HistoryRow, Past, RowKey, Rows, Then, Transaction, What},
    time::{DAY_MS, TimeMs},
};
use proptest::prelude::*;

const START: i64 = 1_700_000_000_000;

/// A log applied entry by entry, with the memories of every position beside it.
struct Log {
    rows: Rows,
    index: u64,
    /// By position: the log's time, and all memories without their uses.
    past: Vec<(TimeMs, BTreeMap<Key, Memory>)>,
    envelopes: Vec<Envelope>,
}

impl Log {
    fn new() -> Self {
        Self {
            rows: Rows::default(),
            index: 0,
            past: vec![(TimeMs(0), BTreeMap::new())],
            envelopes: Vec::new(),
        }
    }

    fn run(&mut self, time: i64, command: Command) -> Result<Outcome, Rejection> {
        self.index += 1;
        let envelope = Envelope {
            time: TimeMs(time),
            request: None,
            command,
        };
        let mut tx = Transaction::new(&self.rows);
        let Reply { result, .. } = apply(&mut tx, self.index, &envelope).unwrap();
        let commit = tx.commit(self.rows.digest());
        self.rows.store(&commit);
        assert_eq!(self.rows.digest(), self.rows.digest_of_all());
        let now = self.memories();
        if let (Command::UndoConsolidation(undone), Ok(_)) = (&envelope.command, &result) {
            // What was undone never was.
            let (before, after) = (self.past.last().unwrap().1.clone(), &now);
            let restored: Vec<Key> = after
                .iter()
                .filter(|(key, memory)| before.get(*key) != Some(memory))
                .map(|(key, _)| *key)
                .collect();
            for (_, memories) in &mut self.past[undone.id as usize..] {
                for key in &restored {
                    memories.insert(*key, after[key].clone());
                }
            }
        }
        let clock = state::clock(&self.rows).unwrap();
        self.past.push((clock, now));
        self.envelopes.push(envelope);
        result
    }

    fn memories(&self) -> BTreeMap<Key, Memory> {
        let mut memories = BTreeMap::new();
        for (row, bytes) in self.rows.iter() {
            if let RowKey::Memory(_, key) = row {
                let mut memory: Memory = state::decode(row, bytes).unwrap();
                memory.used = Used::default();
                memories.insert(*key, memory);
            }
        }
        memories
    }

    fn then(&self, key: Key, moment: Moment) -> Then {
        let namespace = Namespace::default();
        let past = Past::at(&self.rows, moment).unwrap();
        let memory = state::memory(&self.rows, &namespace, key).unwrap().unwrap();
        past.memory(&self.rows, &namespace, key, memory).unwrap()
    }

    /// What the past is told to have been is what it was; what is not told lies outside of what is kept.
    fn check_the_past(&self) {
        let now = self.past.last().unwrap().0;
        for (key, memory) in self.memories() {
            for (position, (at, memories)) in (0_u64..).zip(&self.past) {
                // One that was forgotten and learned anew is another one.
                let was = memories.get(&key);
                let was = was.filter(|was| was.created == memory.created);
                let same_time = self.past.iter().rev().find(|(time, _)| time == at).unwrap();
                let was_last = same_time.1.get(&key);
                let was_last = was_last.filter(|was| was.created == memory.created);
                for (moment, expected) in [
                    (Moment::Position(position), was),
                    (Moment::Time(*at), was_last),
                ] {
                    match (self.then(key, moment), expected) {
                        (Then::NotYet, None) => {}
                        (Then::Was(told), Some(expected)) => {
                            assert_eq!(&*told, expected, "{key} as of {moment:?}");
                        }
                        (Then::Lost(lost), Some(_)) => {
                            assert!(now.since(*at) > limits::HISTORY_KEPT_MS, "{moment:?}");
                            let from = lost.position.unwrap();
                            assert!(from > position);
                            assert_eq!(self.past[from as usize].0, lost.at);
                            let told = self.then(key, Moment::Position(from));
                            assert!(matches!(told, Then::Was(_)), "{told:?}");
                        }
                        (told, expected) => {
                            panic!("{key} as of {moment:?}: {told:?}, expected {expected:?}")
                        }
                    }
                }
            }
        }
    }

    /// Each change is there under both of its keys, and of a memory that is there.
    fn check_the_rows(&self) {
        let (mut of, mut aged) = (BTreeSet::new(), BTreeSet::new());
        for (row, bytes) in self.rows.iter() {
            let RowKey::History(row) = row else { continue };
            match row.clone() {
                HistoryRow::Of {
                    key,
                    position,
                    version,
                    ..
                } => {
                    let event: state::Event = minicbor::decode(bytes).unwrap();
                    of.insert((key, position, version, event.at));
                }
                HistoryRow::Aged {
                    at,
                    position,
                    key,
                    version,
                    ..
                } => {
                    assert!(bytes.is_empty());
                    aged.insert((key, position, version, at));
                }
            }
        }
        assert_eq!(of, aged);
        let memories = self.memories();
        assert!(of.iter().all(|(key, ..)| memories.contains_key(key)));
    }

    fn at(&self, key: Key) -> Versioned {
        let memory = state::memory(&self.rows, &Namespace::default(), key).unwrap();
        let version = memory.map_or(1, |memory| memory.version);
        Versioned { key, version }
    }

    fn history(&self) -> usize {
        let rows = self.rows.iter();
        rows.filter(|(row, _)| matches!(row, RowKey::History(HistoryRow::Of { .. })))
            .count()
    }
}

fn experience(content: &str, agent: Option<&str>) -> Experience {
    Experience {
        scope: Scope::Shared,
        content: content.to_owned(),
        domain: Domain::parse("infrastructure").unwrap(),
        occurred_at: None,
        importance: 0.5,
        metadata: BTreeMap::new(),
        agent: agent.map(|agent| Name::parse(agent).unwrap()),
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
        reader: Reader {
            agent: Some(Name::parse("ada").unwrap()),
            ..Reader::default()
        },
    }
}

fn feedback(key: Key, score: f32, reason: &str) -> Command {
    Command::Feedback(GiveFeedback {
        target: target(key),
        score,
        reason: reason.to_owned(),
        agent: Some(Name::parse("bob").unwrap()),
    })
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

fn consolidate(steps: Vec<Step>) -> Command {
    Command::Consolidate(Consolidate {
        namespace: Namespace::default(),
        steps,
        progress: None,
    })
}

fn undo(id: u64) -> Command {
    Command::UndoConsolidation(UndoConsolidation {
        namespace: Namespace::default(),
        id,
    })
}

fn key_of(content: &str) -> Key {
    Key::of(
        &Namespace::default(),
        &Scope::Shared,
        &Domain::parse("infrastructure").unwrap(),
        content,
    )
}

fn told(log: &Log, key: Key, limit: usize) -> state::Lineage {
    let namespace = Namespace::default();
    let memory = state::memory(&log.rows, &namespace, key).unwrap().unwrap();
    let reader = Reader::operator();
    state::lineage(&log.rows, &namespace, (key, &memory), &reader, None, limit).unwrap()
}

#[test]
fn what_happened_is_told_newest_first_with_who_and_why() {
    let mut log = Log::new();
    let [a, b] = ["disk full", "the disk is full"].map(key_of);
    log.run(START, learn(vec![experience("disk full", Some("ada"))]))
        .unwrap();
    log.run(START + 1, learn(vec![experience("the disk is full", None)]))
        .unwrap();
    log.run(START + 2, feedback(b, -0.5, "was the inode table"))
        .unwrap();
    let change = Update {
        importance: Some(0.75),
        set_metadata: [("pod".to_owned(), "web-1".to_owned())].into(),
        ..update(a)
    };
    log.run(START + 3, Command::Update(change)).unwrap();
    let merge = Step::Merge {
        keep: log.at(a),
        absorb: vec![log.at(b)],
    };
    log.run(START + 4, consolidate(vec![merge])).unwrap();
    let again = experience("the disk is full", Some("cy"));
    log.run(START + 5, learn(vec![again])).unwrap();
    let lineage = told(&log, a, 100);
    assert!(lineage.is_complete && !lineage.has_more);
    let places: Vec<(u64, u64, bool)> = lineage
        .told
        .iter()
        .map(|told| (told.place.position, told.place.version, told.place.key == a))
        .collect();
    // Of one entry and version the greater key comes first.
    let (first, second) = (a > b, a < b);
    assert_eq!(
        places,
        [
            (6, 4, true),
            (5, 3, first),
            (5, 3, second),
            (4, 2, true),
            (3, 2, false),
            (2, 1, false),
            (1, 1, true)
        ]
    );
    let of = |position, key| {
        let mut told = lineage.told.iter();
        told.find(|told| (told.place.position, told.place.key) == (position, key))
            .unwrap()
    };
    let name = |name| Some(Name::parse(name).unwrap());
    assert_eq!((&of(1, a).what, &of(1, a).by), (&None, &name("ada")));
    let rated = of(3, b);
    assert_eq!(rated.by, name("bob"));
    let reason = "was the inode table".to_owned();
    assert_eq!(
        rated.what,
        Some(What::Rated {
            score: -0.5,
            reason
        })
    );
    let changed: Vec<_> = of(4, a)
        .differences
        .iter()
        .map(|d| (d.field.as_str(), d.before.as_deref(), d.after.as_deref()))
        .collect();
    assert_eq!(
        changed,
        [
            ("importance", Some("0.5"), Some("0.75")),
            ("metadata.pod", None, Some("web-1"))
        ]
    );
    assert_eq!(of(5, a).what, Some(What::TookIn { sources: vec![b] }));
    assert_eq!(of(5, b).what, Some(What::Merged { into: a }));
    assert_eq!(of(6, a).by, name("cy"));
    let wording = Some(b);
    assert_eq!(
        of(6, a).what,
        Some(What::LearnedAgain {
            session: None,
            wording
        })
    );
    // Page by page it is the same.
    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let namespace = Namespace::default();
        let memory = state::memory(&log.rows, &namespace, a).unwrap().unwrap();
        let reader = Reader::operator();
        let page = state::lineage(&log.rows, &namespace, (a, &memory), &reader, before, 2).unwrap();
        before = page.told.last().map(|told| told.place);
        paged.extend(page.told);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(paged, lineage.told);
    // For good.
    let forget = Forget {
        target: target(a),
        expected_version: None,
        reason: String::new(),
    };
    log.run(START + 6, Command::Forget(forget)).unwrap();
    assert_eq!(log.history(), 0);
    log.check_the_rows();
}

#[test]
fn of_one_memory_a_bounded_number_of_changes_is_kept_and_what_is_gone_is_noticed() {
    let mut log = Log::new();
    let key = key_of("x");
    log.run(START, learn(vec![experience("x", None)])).unwrap();
    let changes = limits::HISTORY_MAX as u64 + 5;
    for at in 0..changes {
        log.run(START + 1 + at as i64, feedback(key, 0.1, ""))
            .unwrap();
    }
    assert_eq!(log.history(), limits::HISTORY_MAX);
    log.check_the_rows();
    assert!(!told(&log, key, 10).is_complete);
    // The oldest row tells what was before it, which the fifth change had made.
    for (position, is_known) in [(1, false), (5, false), (6, true), (7, true)] {
        let then = log.then(key, Moment::Position(position));
        match then {
            Then::Was(was) => assert_eq!((was.version, is_known), (position, true)),
            Then::Lost(lost) => assert_eq!((lost.position, is_known), (Some(6), false)),
            Then::NotYet => panic!("it was there"),
        }
        let then = log.then(key, Moment::Time(TimeMs(START + position as i64 - 1)));
        assert_eq!(matches!(then, Then::Was(_)), is_known);
    }
    assert_eq!(log.then(key, Moment::Position(0)), Then::NotYet);
}

#[test]
fn what_is_too_long_ago_is_forgotten_step_by_step() {
    let mut log = Log::new();
    let lessons = |times: usize| {
        let all = (0..8).map(|i| experience(&format!("{i}"), None));
        learn(all.cycle().take(8 * times).collect())
    };
    log.run(START, lessons(1)).unwrap();
    for round in 0..10 {
        log.run(START + round, lessons(30)).unwrap();
    }
    assert_eq!(log.history(), 2400);
    let late = START + 9 + limits::HISTORY_KEPT_MS;
    let expire = || Command::Expire(Expire {});
    log.run(late, expire()).unwrap();
    // A bounded number with each entry.
    assert_eq!(log.history(), 2400 - 1024);
    log.run(late, expire()).unwrap();
    log.run(late, expire()).unwrap();
    assert_eq!(log.history(), 240, "of the last 90 days all is kept");
    log.check_the_rows();
    let oldest = state::oldest_change(&log.rows).unwrap();
    assert_eq!(oldest, Some(TimeMs(START + 9)));
}

/// A command over six lessons.
#[derive(Clone, Debug)]
enum Act {
    Learn(Vec<u8>),
    Rate(u8, f32),
    Update(u8, f32, bool),
    Expiry(u8, i64),
    Link(u8, u8, bool),
    Forget(u8),
    Restore(u8),
    Use(u8),
    Merge(u8, u8),
    Fade(u8),
    Contradict(u8, u8),
    Relink(u8, u8, u8),
    Resolve(u8, u8, bool),
    Undo(prop::sample::Index),
    Expire,
}

fn any_act() -> impl Strategy<Value = Act> {
    let one = || 0..6_u8;
    prop_oneof![
        4 => prop::collection::vec(one(), 1..4).prop_map(Act::Learn),
        3 => (one(), -1.0..1.0_f32).prop_map(|(a, score)| Act::Rate(a, score)),
        2 => (one(), 0.0..1.0_f32, any::<bool>()).prop_map(|(a, i, p)| Act::Update(a, i, p)),
        1 => (one(), 0..200_i64).prop_map(|(a, days)| Act::Expiry(a, days)),
        2 => (one(), one(), any::<bool>()).prop_map(|(a, b, remove)| Act::Link(a, b, remove)),
        1 => one().prop_map(Act::Forget),
        2 => one().prop_map(Act::Restore),
        1 => one().prop_map(Act::Use),
        3 => (one(), one()).prop_map(|(a, b)| Act::Merge(a, b)),
        2 => one().prop_map(Act::Fade),
        1 => (one(), one()).prop_map(|(a, b)| Act::Contradict(a, b)),
        1 => (one(), one(), one()).prop_map(|(a, b, c)| Act::Relink(a, b, c)),
        1 => (one(), one(), any::<bool>()).prop_map(|(a, b, both)| Act::Resolve(a, b, both)),
        3 => any::<prop::sample::Index>().prop_map(Act::Undo),
        1 => Just(Act::Expire),
    ]
}

/// The command, by the versions that the log has now.
fn command(log: &Log, act: &Act, epochs: &[u64], now: i64) -> Option<Command> {
    let key = |lesson: u8| key_of(&format!("lesson {lesson}"));
    let link = |target| Link {
        relation: Relation::RelatesTo,
        target,
    };
    Some(match act {
        Act::Learn(lessons) => {
            let agents = [None, Some("ada"), Some("bob")];
            let lessons = lessons.iter().map(|lesson| {
                experience(
                    &format!("lesson {lesson}"),
                    agents[usize::from(*lesson) % agents.len()],
                )
            });
            learn(lessons.collect())
        }
        Act::Rate(lesson, score) => feedback(key(*lesson), *score, "because"),
        Act::Update(lesson, importance, pinned) => Command::Update(Update {
            importance: Some(*importance),
            pinned: Some(*pinned),
            set_metadata: [("importance".to_owned(), importance.to_string())].into(),
            ..update(key(*lesson))
        }),
        Act::Expiry(lesson, days) => Command::Update(Update {
            expiry: Some(memorygate_core::command::update::Expiry::At(TimeMs(
                now + days * DAY_MS,
            ))),
            ..update(key(*lesson))
        }),
        Act::Link(from, to, remove) => Command::Link(SetLink {
            target: target(key(*from)),
            link: link(key(*to)),
            remove: *remove,
        }),
        Act::Forget(lesson) => Command::Forget(Forget {
            target: target(key(*lesson)),
            expected_version: None,
            reason: String::new(),
        }),
        Act::Restore(lesson) => Command::Restore(Restore {
            target: target(key(*lesson)),
        }),
        Act::Use(lesson) => Command::CountUses(CountUses {
            uses: vec![Use {
                namespace: Namespace::default(),
                key: key(*lesson),
                count: 1,
                last_at: TimeMs(now),
            }],
        }),
        Act::Merge(a, b) => consolidate(vec![Step::Merge {
            keep: log.at(key(*a)),
            absorb: vec![log.at(key(*b))],
        }]),
        Act::Fade(lesson) => consolidate(vec![Step::Fade {
            memory: log.at(key(*lesson)),
        }]),
        Act::Contradict(a, b) => consolidate(vec![Step::Conflict {
            a: log.at(key(*a)),
            b: log.at(key(*b)),
        }]),
        Act::Relink(memory, from, to) => consolidate(vec![Step::Relink {
            memory: log.at(key(*memory)),
            relation: Relation::RelatesTo,
            from: key(*from),
            to: key(*to),
        }]),
        Act::Resolve(a, b, both_hold) => Command::ResolveConflict(ResolveConflict {
            target: target(key(*a)),
            other: key(*b),
            both_hold: *both_hold,
        }),
        Act::Undo(_) if epochs.is_empty() => return None,
        Act::Undo(which) => undo(*which.get(epochs)),
        Act::Expire => Command::Expire(Expire {}),
    })
}

/// How far the time goes on: often not at all, sometimes by weeks.
fn any_step_ms() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => Just(0_i64),
        3 => 1..1000_i64,
        2 => 1..20 * DAY_MS,
    ]
}

proptest! {
    /// Every memory that is there is told as it was at every position and every time so far; what was undone
    /// never was. Beyond what is kept it is refused and never told wrong. The same log in batches leaves
    /// the same rows.
    #[test]
    fn the_past_is_told_as_it_was_or_not_at_all(
        acts in prop::collection::vec((any_act(), any_step_ms()), 1..60),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut log = Log::new();
        let (mut now, mut epochs) = (START, Vec::new());
        for (act, step_ms) in &acts {
            now += step_ms;
            let Some(command) = command(&log, act, &epochs, now) else {
                continue;
            };
            if let Ok(Outcome::Consolidated { done: 1.., .. }) = log.run(now, command) {
                epochs.push(log.index);
            }
            log.check_the_rows();
        }
        log.check_the_past();
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(log.envelopes.len().max(1))).collect();
        cuts.extend([0, log.envelopes.len()]);
        cuts.sort_unstable();
        let mut rows = Rows::default();
        for range in cuts.windows(2) {
            let mut tx = Transaction::new(&rows);
            for at in range[0]..range[1] {
                apply(&mut tx, at as u64 + 1, &log.envelopes[at]).unwrap();
            }
            let commit = tx.commit(rows.digest());
            rows.store(&commit);
        }
        prop_assert_eq!(&rows, &log.rows);
    }
}
