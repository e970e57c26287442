//! What consolidation does to the state, and that undoing it leaves no trace.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::collections::BTreeMap;

use memorygate_core::{
    apply::{Outcome, Rejection, Reply, Target, apply},
    command::{
        Command, Consolidate, CountUses, Envelope, Forget, GiveFeedback, Learn, ResolveConflict,
        Restore, UndoConsolidation,
        consolidate::{Step, Versioned},
        count_uses::Use,
        learn::{Experience, Learned},
    },
    embedding::{DIMENSION, Embedding},
    key::Key,
    memory::{Memory, Reason},
    name::{Domain, Namespace},
    scope::{Reader, Scope},
    state::{self, Rows, StateDigest, Transaction},
    time::TimeMs,
};
use proptest::prelude::*;

/// Applied at one moment, so that the log's time changes no row.
#[derive(Default)]
struct Log {
    rows: Rows,
    index: u64,
}

impl Log {
    fn run(&mut self, command: Command) -> Result<Outcome, Rejection> {
        self.index += 1;
        let envelope = Envelope {
            time: TimeMs(1_000_000),
            request: None,
            command,
        };
        let mut tx = Transaction::new(&self.rows);
        let Reply { result, .. } = apply(&mut tx, self.index, &envelope).unwrap();
        let commit = tx.commit(self.rows.digest());
        self.rows.store(&commit);
        assert_eq!(self.rows.digest(), self.rows.digest_of_all());
        result
    }

    fn learn(&mut self, content: &str) -> Learned {
        let experience = Experience {
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
        };
        let learned = self.run(Command::Learn(Learn {
            namespace: Namespace::default(),
            experiences: vec![experience],
        }));
        match learned {
            Ok(Outcome::Learned(learned)) => learned[0],
            other => panic!("learned, but got {other:?}"),
        }
    }

    fn memory(&self, key: Key) -> Memory {
        let found = state::memory(&self.rows, &Namespace::default(), key).unwrap();
        found.unwrap()
    }

    fn at(&self, key: Key) -> Versioned {
        Versioned {
            key,
            version: self.memory(key).version,
        }
    }

    fn consolidate(&mut self, steps: Vec<Step>) -> (u32, u32) {
        let done = self.run(Command::Consolidate(Consolidate {
            namespace: Namespace::default(),
            steps,
            progress: None,
        }));
        match done {
            Ok(Outcome::Consolidated { done, refused }) => (done, refused),
            other => panic!("consolidated, but got {other:?}"),
        }
    }

    fn undo(&mut self, id: u64) -> Result<Outcome, Rejection> {
        self.run(Command::UndoConsolidation(UndoConsolidation {
            namespace: Namespace::default(),
            id,
        }))
    }

    fn merge(&self, keep: Key, absorb: &[Key]) -> Step {
        Step::Merge {
            keep: self.at(keep),
            absorb: absorb.iter().map(|key| self.at(*key)).collect(),
        }
    }

    fn digest(&self) -> StateDigest {
        self.rows.digest()
    }

    fn counts(&self) -> (u64, u64) {
        let info = state::namespace_info(&self.rows, &Namespace::default()).unwrap();
        let info = info.unwrap_or_default();
        (info.memories, info.archived)
    }
}

fn target(key: Key) -> Target {
    Target {
        namespace: Namespace::default(),
        key,
        reader: Reader::default(),
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

fn used(key: Key) -> Command {
    Command::CountUses(CountUses {
        uses: vec![Use {
            namespace: Namespace::default(),
            key,
            count: 2,
            last_at: TimeMs(900),
        }],
    })
}

#[test]
fn a_merge_keeps_all_evidence_and_undoing_it_leaves_no_trace() {
    let mut log = Log::default();
    let [a, b, c] =
        ["disk full", "the disk is full", "disk full again"].map(|text| log.learn(text).key);
    log.run(feedback(b, 1.0)).unwrap();
    log.run(used(c)).unwrap();
    let before = log.digest();
    assert_eq!(log.consolidate(vec![log.merge(a, &[b, c])]), (1, 0));
    let id = log.index;
    let merged = log.memory(a);
    assert_eq!(
        (merged.occurrences, merged.feedback.count, merged.used.count),
        (3, 1, 2)
    );
    assert_eq!(merged.merged, [b, c].into());
    assert_eq!(log.counts(), (1, 2));
    let reason = log.memory(b).archived.unwrap().reason;
    assert_eq!(reason, Reason::Merged { into: a });

    // What is said of a source reaches the memory in its place.
    let other = log.undo(id + 100).unwrap_err();
    assert_eq!(other, Rejection::NoEpoch { id: id + 100 });
    log.undo(id).unwrap();
    assert_eq!(log.digest(), before);
    assert_eq!(log.undo(id).unwrap_err(), Rejection::NoEpoch { id });

    log.consolidate(vec![log.merge(a, &[b, c])]);
    let id = log.index;
    let Ok(Outcome::Mutated { key, .. }) = log.run(feedback(c, 1.0)) else {
        panic!("feedback on what was merged counts");
    };
    assert_eq!((key, log.memory(a).feedback.count), (a, 2));
    let again = log.learn("the disk is full");
    assert_eq!((again.key, again.created, again.occurrences), (a, false, 4));
    let refused = log.undo(id).unwrap_err();
    assert_eq!(refused, Rejection::ChangedSince { id, keys: vec![a] });
    // Whoever forgets the lesson forgets all of its wordings.
    log.run(forget(a)).unwrap();
    assert_eq!(log.counts(), (0, 0));
}

/// Its versions count from 1 again, so that they say nothing of whether it is the one that was merged.
#[test]
fn an_undo_does_not_take_what_was_forgotten_and_learned_anew_for_what_it_left() {
    let mut log = Log::default();
    let [a, b] = ["disk full", "the disk is full"].map(|text| log.learn(text).key);
    log.consolidate(vec![log.merge(a, &[b])]);
    let id = log.index;
    log.run(forget(b)).unwrap();
    assert!(log.learn("the disk is full").created);
    log.run(feedback(b, 1.0)).unwrap();
    let refused = log.undo(id).unwrap_err();
    assert_eq!(refused, Rejection::ChangedSince { id, keys: vec![b] });
    assert_eq!(log.memory(b).feedback.count, 1);
}

#[test]
fn forgetting_a_lesson_spares_the_wording_that_was_learned_anew() {
    let mut log = Log::default();
    let [a, b, c] =
        ["disk full", "the disk is full", "disk full again"].map(|text| log.learn(text).key);
    log.consolidate(vec![log.merge(a, &[b, c])]);
    log.run(forget(b)).unwrap();
    assert!(log.learn("the disk is full").created);
    log.run(forget(a)).unwrap();
    assert_eq!(log.counts(), (1, 0), "c went with a");
    assert_eq!(log.memory(b).occurrences, 1);
}

#[test]
fn uses_go_on_over_an_undo() {
    let mut log = Log::default();
    let [a, b] = ["disk full", "the disk is full"].map(|text| log.learn(text).key);
    log.run(used(b)).unwrap();
    log.consolidate(vec![log.merge(a, &[b])]);
    let id = log.index;
    log.run(used(b)).unwrap();
    assert_eq!(log.memory(a).used.count, 4);
    log.undo(id).unwrap();
    assert_eq!((log.memory(a).used.count, log.memory(b).used.count), (2, 2));
}

#[test]
fn what_changed_since_the_plan_is_left_alone() {
    let mut log = Log::default();
    let [a, b, c] = ["disk full", "the disk is full", "disk slow"].map(|text| log.learn(text).key);
    let merge = log.merge(a, &[b]);
    let fade = Step::Fade { memory: log.at(c) };
    log.run(feedback(b, 1.0)).unwrap();
    let before = (log.memory(a), log.memory(b));
    assert_eq!(log.consolidate(vec![merge, fade.clone()]), (1, 1));
    assert_eq!((log.memory(a), log.memory(b)), before);
    assert_eq!(log.consolidate(vec![fade]), (0, 1), "it is done once");
    // A faded memory comes back when it is asked for, proves useful or is learned again.
    log.run(feedback(c, -1.0)).unwrap();
    assert!(log.memory(c).is_archived());
    log.run(Command::Restore(Restore { target: target(c) }))
        .unwrap();
    assert!(!log.memory(c).is_archived());
    let fade = Step::Fade { memory: log.at(c) };
    log.consolidate(vec![fade]);
    log.run(feedback(c, 1.0)).unwrap();
    assert!(!log.memory(c).is_archived());
    assert_eq!(log.counts(), (3, 0));
}

#[test]
fn a_conflict_is_decided_once() {
    let mut log = Log::default();
    let [a, b] = ["raise the limit", "do not raise the limit"].map(|text| log.learn(text).key);
    let before = log.digest();
    let step = Step::Conflict {
        a: log.at(a),
        b: log.at(b),
    };
    assert_eq!(log.consolidate(vec![step.clone()]), (1, 0));
    log.undo(log.index).unwrap();
    assert_eq!(log.digest(), before);
    log.consolidate(vec![step.clone()]);
    assert_eq!(log.consolidate(vec![step]), (0, 1), "it is known");
    let resolve = |target_key, other| {
        Command::ResolveConflict(ResolveConflict {
            target: target(target_key),
            other,
            both_hold: false,
        })
    };
    log.run(resolve(b, a)).unwrap();
    let reason = log.memory(a).archived.unwrap().reason;
    assert_eq!(reason, Reason::Superseded { by: b });
    let pair = state::conflict(&log.rows, &Namespace::default(), (b, a)).unwrap();
    assert!(pair.unwrap().resolved_at.is_some());
}

/// A step over some of six memories, by versions that may be right.
fn any_step() -> impl Strategy<Value = (u8, Vec<prop::sample::Index>, bool)> {
    (
        0..3_u8,
        prop::collection::vec(any::<prop::sample::Index>(), 1..5),
        any::<bool>(),
    )
}

proptest! {
    /// Plan, apply, undo: the same state hash, whatever was consolidated before.
    #[test]
    fn undoing_in_reverse_restores_every_hash(
        entries in prop::collection::vec(prop::collection::vec(any_step(), 1..5), 1..8),
    ) {
        let mut log = Log::default();
        let keys: Vec<Key> = (0..6).map(|i| log.learn(&format!("lesson {i}")).key).collect();
        let mut past = Vec::new();
        for steps in entries {
            let steps = steps.into_iter().filter_map(|(kind, picked, is_stale)| {
                let mut picked: Vec<Key> = picked.iter().map(|i| *i.get(&keys)).collect();
                picked.sort();
                picked.dedup();
                let at = |key: Key| {
                    let Versioned { key, version } = log.at(key);
                    Versioned { key, version: version - u64::from(is_stale) }
                };
                let (first, rest) = picked.split_first()?;
                match (kind, rest.first()) {
                    (0, Some(_)) => Some(Step::Merge {
                        keep: at(*first),
                        absorb: rest.iter().map(|key| at(*key)).collect(),
                    }),
                    (1, Some(other)) => Some(Step::Conflict { a: at(*first), b: at(*other) }),
                    _ => Some(Step::Fade { memory: at(*first) }),
                }
            });
            let steps: Vec<Step> = steps.collect();
            let before = log.digest();
            if log.consolidate(steps).0 > 0 {
                past.push((log.index, before));
            } else {
                prop_assert_eq!(log.digest(), before);
            }
        }
        while let Some((id, before)) = past.pop() {
            log.undo(id).unwrap();
            prop_assert_eq!(log.digest(), before);
        }
        prop_assert_eq!(log.counts(), (6, 0));
    }
}
