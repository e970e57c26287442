//! Whatever happened, and whatever is asked: nobody is told of a memory that they may not see.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::collections::BTreeSet;

use memorygate_core::{
    apply::{Outcome, Rejection, Target, apply},
    command::{
        Command, Consolidate, Envelope, Forget, GiveFeedback, Learn, ResolveConflict, Restore,
        SetLink, Share, Update,
        consolidate::{Step, Versioned},
        learn::Experience,
    },
    embedding::{DIMENSION, Embedding},
    filter::{Archive, Filter},
    key::Key,
    memory::{Link, Memory, Relation},
    name::{Domain, Name, Namespace},
    scope::{Reader, Scope},
    shown::Shown,
    state::{self, Rows, Transaction},
    time::TimeMs,
};
use proptest::prelude::*;

const CONTENTS: [&str; 3] = ["a", "b", "c"];

fn name(name: &str) -> Name {
    Name::parse(name).unwrap()
}

fn scopes() -> Vec<Scope> {
    let teams = ["sre", "web"].map(|team| Scope::Team(name(team)));
    let agents = ["ada", "bob"].map(|agent| Scope::Agent(name(agent)));
    [Scope::Shared]
        .into_iter()
        .chain(teams)
        .chain(agents)
        .collect()
}

fn key_of(scope: &Scope, content: &str) -> Key {
    let domain = Domain::parse("d").unwrap();
    Key::of(&Namespace::default(), scope, &domain, content)
}

fn any_key() -> impl Strategy<Value = Key> {
    (
        prop::sample::select(scopes()),
        prop::sample::select(CONTENTS.to_vec()),
    )
        .prop_map(|(scope, content)| key_of(&scope, content))
}

fn any_reader() -> impl Strategy<Value = Reader> {
    let agent = prop::option::of(prop::sample::select(vec!["ada", "bob", "sre"]));
    let teams = prop::collection::btree_set(prop::sample::select(vec!["sre", "web", "ada"]), 0..3);
    (agent, teams).prop_map(|(agent, teams)| Reader {
        agent: agent.map(name),
        teams: teams.into_iter().map(name).collect(),
        everything: false,
    })
}

/// Of readers who are someone: what is done in the log is done by those.
fn target() -> impl Strategy<Value = Target> {
    (any_key(), any_reader(), 0..4_u8).prop_map(|(key, reader, who)| Target {
        namespace: Namespace::default(),
        key,
        // An operator now and then: what is done by one must not leak either.
        reader: if who == 0 { Reader::operator() } else { reader },
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let link = || {
        any_key().prop_map(|target| Link {
            relation: Relation::RelatesTo,
            target,
        })
    };
    let experience = (
        prop::sample::select(scopes()),
        prop::sample::select(CONTENTS.to_vec()),
        prop::option::of(prop::sample::select(vec!["ada", "bob"])),
        prop::collection::btree_set(link(), 0..3),
    )
        .prop_map(|(scope, content, agent, links)| Experience {
            scope,
            content: content.to_owned(),
            domain: Domain::parse("d").unwrap(),
            occurred_at: Some(TimeMs(500)),
            importance: 0.5,
            metadata: [("k".to_owned(), content.to_owned())].into(),
            agent: agent.map(name),
            session: None,
            expires_at: None,
            pinned: false,
            links,
            embedding: Embedding::given(&[1.0; DIMENSION]).unwrap(),
        });
    let learn = prop::collection::vec(experience, 1..4).prop_map(|experiences| {
        Command::Learn(Learn {
            namespace: Namespace::default(),
            experiences,
        })
    });
    let step =
        (any_key(), 1..4_u64, any_key(), 1..4_u64, 0..3_u8).prop_map(|(a, of_a, b, of_b, kind)| {
            let (a, b) = (
                Versioned {
                    key: a,
                    version: of_a,
                },
                Versioned {
                    key: b,
                    version: of_b,
                },
            );
            match kind {
                0 => Step::Merge {
                    keep: a,
                    absorb: vec![b],
                },
                1 => Step::Conflict { a, b },
                _ => Step::Fade { memory: a },
            }
        });
    let consolidate = prop::collection::vec(step, 1..6).prop_map(|steps| {
        Command::Consolidate(Consolidate {
            namespace: Namespace::default(),
            steps,
            progress: None,
        })
    });
    let with = prop::sample::select(scopes());
    prop_oneof![
        4 => learn,
        3 => (target(), with).prop_map(|(target, with)| {
            Command::Share(Share { target, expected_version: None, with })
        }),
        2 => consolidate,
        2 => (target(), link(), any::<bool>()).prop_map(|(target, link, remove)| {
            Command::Link(SetLink { target, link, remove })
        }),
        1 => (target(), any_key()).prop_map(|(target, other)| {
            Command::ResolveConflict(ResolveConflict { target, other, both_hold: false })
        }),
        1 => (target(), -1.0..=1.0_f32).prop_map(|(target, score)| {
            let reason = String::new();
            Command::Feedback(GiveFeedback { target, score, reason, agent: None })
        }),
        1 => target().prop_map(|target| Command::Restore(Restore { target })),
        1 => (target(), prop::option::of(1..4_u64)).prop_map(|(target, expected_version)| {
            Command::Update(Update {
                target,
                expected_version,
                importance: Some(0.7),
                pinned: None,
                expiry: None,
                set_metadata: [].into(),
                remove_metadata: [].into(),
            })
        }),
        1 => target().prop_map(|target| {
            Command::Forget(Forget { target, expected_version: None, reason: String::new() })
        }),
    ]
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let agents = prop::collection::btree_set(prop::sample::select(vec!["ada", "bob"]), 0..3);
    let metadata = prop::option::of(prop::sample::select(CONTENTS.to_vec()));
    (agents, metadata, 0..3_u8).prop_map(|(agents, metadata, archive)| Filter {
        agents: agents.into_iter().map(name).collect(),
        metadata: metadata
            .map(|value| ("k".to_owned(), value.to_owned()))
            .into_iter()
            .collect(),
        archive: [Archive::Without, Archive::With, Archive::Only][usize::from(archive)],
        ..Filter::default()
    })
}

/// Keys that the caller of a command named itself.
fn named(command: &Command) -> (Option<&Reader>, BTreeSet<Key>) {
    let (target, others) = match command {
        Command::Share(share) => (&share.target, vec![]),
        Command::Link(link) => (&link.target, vec![link.link.target]),
        Command::ResolveConflict(resolve) => (&resolve.target, vec![resolve.other]),
        Command::Feedback(feedback) => (&feedback.target, vec![]),
        Command::Restore(restore) => (&restore.target, vec![]),
        Command::Update(update) => (&update.target, vec![]),
        Command::Forget(forget) => (&forget.target, vec![]),
        Command::Learn(_)
        | Command::Expire(_)
        | Command::Mark(_)
        | Command::SetFormat(_)
        | Command::Consolidate(_)
        | Command::UndoConsolidation(_)
        | Command::CountUses(_)
        | Command::SetPolicy(_)
        | Command::SetTrust(_) => return (None, BTreeSet::new()),
    };
    (
        Some(&target.reader),
        others.into_iter().chain([target.key]).collect(),
    )
}

/// Keys that the answer to a command names.
fn told(result: &Result<Outcome, Rejection>) -> Vec<Key> {
    match result {
        Ok(Outcome::Mutated { key, .. }) => vec![*key],
        Err(
            Rejection::NotFound { key }
            | Rejection::Version { key, .. }
            | Rejection::Shared { key },
        ) => {
            vec![*key]
        }
        Err(Rejection::Merged { key, into }) => vec![*key, *into],
        Err(Rejection::NoConflict { a, b }) => vec![*a, *b],
        _ => vec![],
    }
}

/// Every key that a shown memory names.
fn names(memory: &Memory) -> impl Iterator<Item = Key> {
    let links = memory.links.iter().map(|link| link.target);
    links
        .chain(memory.merged.iter().copied())
        .chain(memory.replacement())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_answer_names_a_memory_that_the_reader_may_not_see(
        commands in prop::collection::vec(any_command(), 1..60),
        asked in prop::collection::vec((any_reader(), any_filter()), 1..6),
    ) {
        let (namespace, now) = (Namespace::default(), TimeMs(1_000_000));
        let mut rows = Rows::default();
        for (index, command) in (1..).zip(&commands) {
            let envelope = Envelope { time: now, request: None, command: command.clone() };
            let mut tx = Transaction::new(&rows);
            let reply = apply(&mut tx, index, &envelope).unwrap();
            let commit = tx.commit(rows.digest());
            rows.store(&commit);
            if let (Some(reader), named) = named(command) {
                for key in told(&reply.result).into_iter().filter(|key| !named.contains(key)) {
                    let memory = state::memory(&rows, &namespace, key).unwrap();
                    prop_assert!(
                        memory.is_none_or(|m| reader.sees(&m.scope)),
                        "{command:?} was answered with {:?}", reply.result
                    );
                }
            }
        }
        for (reader, filter) in &asked {
            for scope in scopes() {
                for content in CONTENTS {
                    let key = key_of(&scope, content);
                    let memory = state::memory(&rows, &namespace, key).unwrap();
                    let Some(memory) = memory.filter(|m| filter.passes(m, reader, now)) else {
                        continue;
                    };
                    prop_assert!(reader.sees(&memory.scope));
                    let shown = Shown::to(reader, &rows, &namespace, memory.clone()).unwrap();
                    for named in names(shown.memory()) {
                        let named = state::memory(&rows, &namespace, named).unwrap();
                        prop_assert!(named.is_none_or(|n| reader.sees(&n.scope)), "{shown:?}");
                    }
                    for source in memory.shared.keys() {
                        prop_assert!(!shown.memory().shared.contains_key(source));
                    }
                    // What is said besides is all there.
                    let same = (memory.agent.clone(), memory.session.clone(), memory.occurrences);
                    let shown = shown.memory();
                    prop_assert_eq!(same, (shown.agent.clone(), shown.session.clone(), shown.occurrences));
                    prop_assert_eq!(shown.shared.len(), memory.shared.len());
                    prop_assert_eq!(shown.is_archived(), memory.is_archived());
                }
            }
        }
    }
}
