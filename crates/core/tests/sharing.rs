//! What sharing does to the state, and who may do it.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::collections::BTreeMap;

use memorygate_core::{
    apply::{Outcome, Rejection, Reply, Target, apply},
    command::{
        Command, Consolidate, Envelope, Expire, Forget, GiveFeedback, Learn, Restore, Share,
        UndoConsolidation, Update,
        consolidate::{Step, Versioned},
        learn::{Experience, Learned},
    },
    embedding::{DIMENSION, Embedding},
    key::Key,
    limits,
    memory::{Link, Memory, Reason, Relation},
    name::{Domain, Name, Namespace},
    request::RequestId,
    scope::{Reader, Scope},
    state::{self, ChangeKind, Rows, Transaction},
    time::TimeMs,
};

#[derive(Default)]
struct Log {
    rows: Rows,
    index: u64,
    now: i64,
    changes: Vec<state::Change>,
}

impl Log {
    fn append(&mut self, request: Option<RequestId>, command: Command) -> Reply {
        self.index += 1;
        let envelope = Envelope {
            time: TimeMs(1_000_000 + self.now),
            request,
            command,
        };
        let mut tx = Transaction::new(&self.rows);
        let reply = apply(&mut tx, self.index, &envelope).unwrap();
        let commit = tx.commit(self.rows.digest());
        self.rows.store(&commit);
        self.changes = commit.changes;
        assert_eq!(self.rows.digest(), self.rows.digest_of_all());
        reply
    }

    fn run(&mut self, command: Command) -> Result<Outcome, Rejection> {
        self.append(None, command).result
    }

    fn learn(&mut self, experience: Experience) -> Learned {
        let learned = self.run(Command::Learn(Learn {
            namespace: Namespace::default(),
            experiences: vec![experience],
        }));
        let Ok(Outcome::Learned(learned)) = learned else {
            panic!("learned, but got {learned:?}");
        };
        learned[0]
    }

    fn share(&mut self, key: Key, reader: &Reader, with: &Scope) -> Result<(Key, bool), Rejection> {
        let outcome = self.run(share(key, reader, with))?;
        let Outcome::Mutated { key, changed, .. } = outcome else {
            panic!("shared, but got {outcome:?}");
        };
        Ok((key, changed))
    }

    fn found(&self, key: Key) -> Option<Memory> {
        state::memory(&self.rows, &Namespace::default(), key).unwrap()
    }

    fn memory(&self, key: Key) -> Memory {
        self.found(key).unwrap()
    }

    fn at(&self, key: Key) -> Versioned {
        let version = self.memory(key).version;
        Versioned { key, version }
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
}

fn name(name: &str) -> Name {
    Name::parse(name).unwrap()
}

fn of_agent(agent: &str) -> Scope {
    Scope::Agent(name(agent))
}

fn of_team(team: &str) -> Scope {
    Scope::Team(name(team))
}

fn reader(agent: &str, teams: &[&str]) -> Reader {
    Reader {
        agent: Name::parse_optional(agent).unwrap(),
        teams: teams.iter().map(|team| name(team)).collect(),
        everything: false,
    }
}

fn experience(content: &str, scope: Scope) -> Experience {
    Experience {
        scope,
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

fn target(key: Key, reader: &Reader) -> Target {
    Target {
        namespace: Namespace::default(),
        key,
        reader: reader.clone(),
    }
}

fn share(key: Key, reader: &Reader, with: &Scope) -> Command {
    Command::Share(Share {
        target: target(key, reader),
        expected_version: None,
        with: with.clone(),
    })
}

fn feedback(key: Key, reader: &Reader, score: f32) -> Command {
    Command::Feedback(GiveFeedback {
        target: target(key, reader),
        score,
        reason: String::new(),
        agent: None,
    })
}

fn forget(key: Key, reader: &Reader) -> Command {
    Command::Forget(Forget {
        target: target(key, reader),
        expected_version: None,
        reason: String::new(),
    })
}

#[test]
fn a_shared_memory_has_all_that_the_narrower_one_had_and_the_old_key_leads_there() {
    let mut log = Log::default();
    let ada = reader("ada", &["sre"]);
    let other = log.learn(experience("the cause", Scope::Shared)).key;
    let link = Link {
        relation: Relation::CausedBy,
        target: other,
    };
    let said = Experience {
        metadata: [("pod".to_owned(), "web-1".to_owned())].into(),
        agent: Some(name("ada")),
        session: Some(name("s")),
        expires_at: Some(TimeMs(9_000_000)),
        pinned: true,
        links: [link].into(),
        ..experience("disk full", of_agent("ada"))
    };
    let own = log.learn(said.clone()).key;
    log.learn(said);
    log.run(feedback(own, &ada, 1.0)).unwrap();
    let before = log.memory(own);
    log.now = 7;
    let (shared, changed) = log.share(own, &ada, &Scope::Shared).unwrap();
    assert!(changed && shared != own);
    let after = log.memory(shared);
    let domain = Domain::parse("infrastructure").unwrap();
    let key = Key::of(&Namespace::default(), &Scope::Shared, &domain, "disk full");
    assert_eq!(
        shared, key,
        "the key of a lesson is the same, however it came"
    );
    let sharing = &after.shared[&own];
    assert_eq!((&sharing.by, sharing.at.0), (&Some(name("ada")), 1_000_007));
    assert_eq!(sharing.learned_at, before.created.at);
    let expected = Memory {
        scope: Scope::Shared,
        version: 1,
        created: after.created,
        updated_at: after.updated_at,
        shared: after.shared.clone(),
        changed_index: 0,
        ..before.clone()
    };
    assert_eq!(after, expected);
    assert_eq!(after.created.index, log.index);
    let embedding = |key| state::embedding(&log.rows, &Namespace::default(), key).unwrap();
    assert_eq!(embedding(shared), embedding(own));
    let kinds: Vec<bool> = log
        .changes
        .iter()
        .map(|c| matches!(c.kind, ChangeKind::Created { .. }))
        .collect();
    assert_eq!(
        kinds,
        [true, false],
        "the index learns of the new one before the old one goes"
    );

    let old = log.memory(own);
    assert_eq!(old.archived.unwrap().reason, Reason::Shared { to: shared });
    assert_eq!(old.replacement(), Some(shared));
    // What is said of the old key reaches the new one.
    let Ok(Outcome::Mutated { key, .. }) = log.run(feedback(own, &ada, 1.0)) else {
        panic!("feedback on what was shared counts");
    };
    assert_eq!((key, log.memory(shared).feedback.count), (shared, 2));
    let restore = Command::Restore(Restore {
        target: target(own, &ada),
    });
    assert_eq!(
        log.run(restore).unwrap_err(),
        Rejection::Shared { key: own }
    );
    // Again, and under either key, there is nothing left to do.
    assert_eq!(log.share(own, &ada, &Scope::Shared), Ok((shared, false)));
    assert_eq!(log.share(shared, &ada, &Scope::Shared), Ok((shared, false)));
}

#[test]
fn only_the_owner_shares_and_only_with_more() {
    let mut log = Log::default();
    let key = log.learn(experience("disk full", of_agent("ada"))).key;
    let team = log.learn(experience("disk slow", of_team("sre"))).key;
    let all = log.learn(experience("disk gone", Scope::Shared)).key;
    let reason = |result: Result<(Key, bool), Rejection>| result.unwrap_err().to_string();
    let nobody = Reader::default();
    let missing = |key| Err(Rejection::NotFound { key });
    assert_eq!(log.share(key, &nobody, &Scope::Shared), missing(key));
    assert_eq!(
        log.share(key, &reader("bob", &["ada"]), &Scope::Shared),
        missing(key)
    );
    assert_eq!(
        log.share(team, &reader("ada", &[]), &Scope::Shared),
        missing(team)
    );
    let absent = Key([9; 16]);
    assert_eq!(
        log.share(absent, &reader("ada", &[]), &Scope::Shared),
        missing(absent)
    );

    let operator = Reader::operator();
    let refused = reason(log.share(key, &operator, &Scope::Shared));
    assert!(
        refused.starts_with("only the agent that the memory belongs to"),
        "{refused}"
    );
    let refused = reason(log.share(team, &operator, &Scope::Shared));
    assert!(
        refused.starts_with("only a member of the team that the memory"),
        "{refused}"
    );
    let refused = reason(log.share(key, &reader("ada", &[]), &of_team("sre")));
    assert!(
        refused.starts_with("only a member of a team can share"),
        "{refused}"
    );
    let both = reader("ada", &["sre", "web"]);
    let refused = reason(log.share(team, &both, &of_team("web")));
    assert!(
        refused.starts_with("memory is for another team"),
        "{refused}"
    );
    let refused = reason(log.share(all, &both, &of_team("web")));
    assert!(refused.starts_with("memory is for everyone"), "{refused}");
    let refused = reason(log.share(key, &both, &of_agent("bob")));
    assert!(refused.contains("not with one agent"), "{refused}");

    let stale = Command::Share(Share {
        target: target(key, &both),
        expected_version: Some(7),
        with: Scope::Shared,
    });
    assert!(matches!(
        log.run(stale).unwrap_err(),
        Rejection::Version { actual: 1, .. }
    ));
    for key in [key, team, all] {
        assert_eq!(
            (log.memory(key).version, log.memory(key).archived),
            (1, None)
        );
    }
    let (shared, _) = log
        .share(team, &reader("", &["sre"]), &Scope::Shared)
        .unwrap();
    assert_eq!(log.memory(shared).shared[&team].by, None);
}

#[test]
fn what_is_shared_by_steps_is_one_memory_and_is_forgotten_as_one() {
    let mut log = Log::default();
    let ada = reader("ada", &["sre"]);
    let own = log.learn(experience("disk full", of_agent("ada"))).key;
    let words = log
        .learn(experience("the disk is full", of_agent("ada")))
        .key;
    let merge = Step::Merge {
        keep: log.at(own),
        absorb: vec![log.at(words)],
    };
    assert_eq!(log.consolidate(vec![merge]), (1, 0));
    let (team, _) = log.share(words, &ada, &of_team("sre")).unwrap();
    let (all, _) = log.share(own, &ada, &Scope::Shared).unwrap();
    let shared = log.memory(all);
    assert_eq!(shared.occurrences, 2);
    assert!(
        shared.merged.is_empty(),
        "wordings of a narrower scope stay there"
    );
    assert_eq!(shared.shared.keys().copied().collect::<Vec<_>>(), {
        let mut keys = vec![own, team];
        keys.sort();
        keys
    });
    for key in [own, words, team] {
        let Ok(Outcome::Mutated { key: reached, .. }) = log.run(feedback(key, &ada, 0.5)) else {
            panic!("feedback reaches what took its place");
        };
        assert_eq!(reached, all);
    }
    let counts = |log: &Log| {
        let info = state::namespace_info(&log.rows, &Namespace::default()).unwrap();
        info.map_or((0, 0), |info| (info.memories, info.archived))
    };
    assert_eq!(counts(&log), (1, 3));
    log.run(forget(all, &Reader::default())).unwrap();
    assert_eq!(counts(&log), (0, 0));

    // One that was forgotten by itself and learned anew stays.
    let own = log.learn(experience("disk full", of_agent("ada"))).key;
    let (all, _) = log.share(own, &ada, &Scope::Shared).unwrap();
    log.run(forget(own, &ada)).unwrap();
    assert!(log.found(own).is_none() && log.found(all).is_some());
    let again = log.learn(experience("disk full", of_agent("ada")));
    assert!(again.created && again.key == own);
    log.run(forget(all, &ada)).unwrap();
    assert!(log.found(own).is_some());
}

#[test]
fn several_agents_share_one_lesson_and_all_evidence_counts_once() {
    let mut log = Log::default();
    let (ada, bob) = (reader("ada", &[]), reader("bob", &[]));
    let said = |agent: &str| Experience {
        metadata: [(agent.to_owned(), "said".to_owned())].into(),
        agent: Some(name(agent)),
        ..experience("disk full", of_agent(agent))
    };
    let [of_ada, of_bob] = ["ada", "bob"].map(|agent| log.learn(said(agent)).key);
    log.run(feedback(of_bob, &bob, 1.0)).unwrap();
    let (all, _) = log.share(of_ada, &ada, &Scope::Shared).unwrap();
    let id = RequestId {
        after: 0,
        nonce: [7; 16],
    };
    let first = log.append(Some(id), share(of_bob, &bob, &Scope::Shared));
    let repeated = log.append(Some(id), share(of_bob, &bob, &Scope::Shared));
    assert_eq!(first, repeated);
    let shared = log.memory(all);
    assert_eq!(
        (shared.occurrences, shared.feedback.count, shared.version),
        (2, 1, 2)
    );
    assert_eq!(
        shared.agent,
        Some(name("ada")),
        "who learned it first stays"
    );
    assert_eq!(shared.metadata.len(), 2);
    assert_eq!(shared.shared.len(), 2);
}

#[test]
fn what_is_learned_again_in_private_counts_and_is_not_published() {
    let mut log = Log::default();
    let ada = reader("ada", &["sre"]);
    let own = log.learn(experience("disk full", of_agent("ada"))).key;
    let (all, _) = log.share(own, &ada, &Scope::Shared).unwrap();
    let secret = Experience {
        metadata: [("token".to_owned(), "hunter2".to_owned())].into(),
        links: [Link {
            relation: Relation::RelatesTo,
            target: Key([1; 16]),
        }]
        .into(),
        pinned: true,
        ..experience("disk full", of_agent("ada"))
    };
    let again = log.learn(secret);
    assert_eq!(
        (again.key, again.created, again.occurrences),
        (own, false, 2)
    );
    let shared = log.memory(all);
    assert_eq!(shared.occurrences, 2);
    assert!(shared.metadata.is_empty() && shared.links.is_empty() && !shared.pinned);
    let kept = log.memory(own);
    assert_eq!(kept.metadata["token"], "hunter2");
    assert_eq!(kept.replacement(), Some(all));

    // A lesson that everyone knows already gets nothing of what is meant for a team.
    let of_team_too = Experience {
        metadata: [("ticket".to_owned(), "4711".to_owned())].into(),
        ..experience("disk full", of_agent("bob"))
    };
    let team = log.learn(experience("disk full", of_team("sre"))).key;
    log.share(team, &ada, &Scope::Shared).unwrap();
    let of_bob = log.learn(of_team_too).key;
    let bob = reader("bob", &["sre"]);
    assert_eq!(log.share(of_bob, &bob, &of_team("sre")), Ok((all, true)));
    assert!(log.memory(all).metadata.is_empty());
}

#[test]
fn a_shared_lesson_that_expired_is_learned_and_shared_anew() {
    let mut log = Log::default();
    let ada = reader("ada", &[]);
    let passing = || Experience {
        expires_at: Some(TimeMs(1_000_100)),
        ..experience("disk full", of_agent("ada"))
    };
    let own = log.learn(passing()).key;
    let (all, _) = log.share(own, &ada, &Scope::Shared).unwrap();
    log.now = 200;
    let again = log.learn(experience("disk full", of_agent("ada")));
    assert_eq!((again.key, again.created), (own, true));
    assert!(log.found(all).is_none());
    let of_bob = Experience {
        expires_at: Some(TimeMs(1_000_300)),
        ..experience("disk full", of_agent("bob"))
    };
    let of_bob = log.learn(of_bob).key;
    log.share(of_bob, &reader("bob", &[]), &Scope::Shared)
        .unwrap();
    log.now = 400;
    assert_eq!(log.share(own, &ada, &Scope::Shared), Ok((all, true)));
    let shared = log.memory(all);
    assert_eq!((shared.occurrences, shared.shared.len()), (1, 1));
    assert!(log.found(of_bob).is_none());
    log.run(Command::Expire(Expire {})).unwrap();
    assert!(log.found(all).is_some());
}

#[test]
fn consolidation_and_sharing_keep_out_of_each_others_way() {
    let mut log = Log::default();
    let ada = reader("ada", &[]);
    let [a, b] = ["disk full", "the disk is full"]
        .map(|text| log.learn(experience(text, of_agent("ada"))).key);
    let stale = Step::Merge {
        keep: log.at(a),
        absorb: vec![log.at(b)],
    };
    let (all, _) = log.share(a, &ada, &Scope::Shared).unwrap();
    assert_eq!(
        log.consolidate(vec![stale]),
        (0, 1),
        "what was planned before is refused"
    );
    let fade = Step::Fade { memory: log.at(a) };
    let across = Step::Merge {
        keep: log.at(all),
        absorb: vec![log.at(b)],
    };
    assert_eq!(
        log.consolidate(vec![fade, across]),
        (0, 2),
        "archived, and of another scope"
    );

    // An epoch that consumed what was shared since is not undone.
    let c = log
        .learn(experience("disk full again", of_agent("ada")))
        .key;
    let merge = Step::Merge {
        keep: log.at(b),
        absorb: vec![log.at(c)],
    };
    assert_eq!(log.consolidate(vec![merge]), (1, 0));
    let id = log.index;
    let undo = Command::UndoConsolidation(UndoConsolidation {
        namespace: Namespace::default(),
        id,
    });
    log.share(c, &ada, &Scope::Shared).unwrap();
    assert_eq!(
        log.run(undo).unwrap_err(),
        Rejection::ChangedSince { id, keys: vec![b] }
    );

    // One that consumed the shared memory is undone exactly.
    let wording = log.learn(experience("disk is full", Scope::Shared)).key;
    let before = log.rows.digest();
    let merge = Step::Merge {
        keep: log.at(wording),
        absorb: vec![log.at(all)],
    };
    assert_eq!(log.consolidate(vec![merge]), (1, 0));
    let id = log.index;
    assert_eq!(log.memory(wording).shared, log.memory(all).shared);
    let undo = Command::UndoConsolidation(UndoConsolidation {
        namespace: Namespace::default(),
        id,
    });
    log.run(undo).unwrap();
    assert_eq!(log.rows.digest(), before);
}

#[test]
fn as_many_are_shared_as_one_as_a_memory_has_room_for() {
    let mut log = Log::default();
    let mut last = Ok((Key([0; 16]), true));
    for agent in 0..=limits::SHARINGS_MAX {
        let agent = format!("agent-{agent}");
        let own = log.learn(experience("disk full", of_agent(&agent))).key;
        let before = log.rows.digest();
        last = log.share(own, &reader(&agent, &[]), &Scope::Shared);
        if last.is_err() {
            assert_eq!(
                (log.rows.digest(), log.memory(own).archived),
                (before, None)
            );
        }
    }
    let reason = last.unwrap_err().to_string();
    assert_eq!(
        reason,
        "memory would be shared from 65 narrower scopes, expected at most 64"
    );
}

#[test]
fn a_faded_memory_is_shared_as_a_live_one() {
    let mut log = Log::default();
    let ada = reader("ada", &[]);
    let own = log.learn(experience("disk full", of_agent("ada"))).key;
    let fade = Step::Fade {
        memory: log.at(own),
    };
    assert_eq!(log.consolidate(vec![fade]), (1, 0));
    let (all, _) = log.share(own, &ada, &Scope::Shared).unwrap();
    assert_eq!(log.memory(all).archived, None);
    let update = Command::Update(Update {
        target: target(own, &ada),
        expected_version: Some(1),
        importance: Some(0.9),
        pinned: None,
        expiry: None,
        set_metadata: [].into(),
        remove_metadata: [].into(),
    });
    log.run(update).unwrap();
    assert_eq!(log.memory(all).importance, 0.9);
}
