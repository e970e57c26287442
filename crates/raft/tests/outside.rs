//! The replica as a node uses it: through public items alone.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, mpsc},
};

use memorygate_core::{
    command::{Command, Learn, learn::Experience},
    embedding::{DIMENSION, Embedding},
    format::Formats,
    name::{Domain, Namespace},
    scope::Scope,
    time::TimeMs,
};
use memorygate_raft::{
    Changed, Effects, EffectsSink, First, Handle, Journal, NoObserver, NoTransport, Open, Replica,
    Settings, StateSnapshot, Statvfs, check,
};

struct Queue(mpsc::SyncSender<Effects>);

impl EffectsSink for Queue {
    fn publish(&self, effects: Effects) {
        // Full or gone: whoever reads it catches up from the journal.
        let _ = self.0.try_send(effects);
    }

    fn replaced(&self, _: Arc<StateSnapshot>) {}
}

fn open(dir: &Path) -> Replica {
    let opened = Replica::open(Open {
        dir: dir.to_owned(),
        settings: Settings {
            disk_reserve_bytes: 0,
            ..Settings::default()
        },
        clock: Arc::new(|| TimeMs(1)),
        observer: Arc::new(NoObserver),
        disk: Arc::new(Statvfs),
        formats: Formats::OWN,
    });
    opened.unwrap()
}

async fn start(dir: &Path) -> (Handle, mpsc::Receiver<Effects>) {
    let (sender, receiver) = mpsc::sync_channel(2);
    let replica = open(dir);
    let sink = Arc::new(Queue(sender));
    let first = First::Alone {
        address: "localhost:1".to_owned(),
    };
    let started = replica.start(sink, first, Arc::new(NoTransport)).await;
    let handle = started.unwrap();
    (handle, receiver)
}

fn learn(content: &str) -> Command {
    Command::Learn(Learn {
        namespace: Namespace::default(),
        experiences: vec![Experience {
            scope: Scope::Shared,
            content: content.to_owned(),
            domain: Domain::parse("deployment").unwrap(),
            occurred_at: None,
            importance: 1.0,
            metadata: BTreeMap::new(),
            agent: None,
            session: None,
            expires_at: None,
            pinned: false,
            links: BTreeSet::new(),
            embedding: Embedding::given(&[1.0; DIMENSION]).unwrap(),
        }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_missed_effects_catches_up_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, effects) = start(dir.path()).await;
    for n in 0..10 {
        handle.propose(learn(&format!("{n}")), None).await.unwrap();
    }
    assert_eq!(handle.linearizable().await.unwrap(), handle.position());
    assert!(handle.is_leader() && handle.storage_full().is_none());
    let seen = effects.try_iter().last().unwrap();
    assert!(seen.position < handle.position(), "the queue was too short");
    drop(seen);

    let mut index = BTreeSet::<Changed>::new();
    let mut position = 0;
    let snapshot = handle.state().snapshot();
    while position < snapshot.position() {
        let Journal::Changes { changes, through } = snapshot.journal(position, 3).unwrap() else {
            panic!("the journal is complete");
        };
        index.extend(changes);
        position = through;
    }
    let stored = snapshot.memories(None, 100).unwrap();
    let stored: BTreeSet<Changed> = stored
        .into_iter()
        .map(|memory| Changed {
            namespace: memory.namespace,
            key: memory.key,
        })
        .collect();
    assert_eq!(index, stored);
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_can_be_checked_and_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, effects) = start(dir.path()).await;
    handle.propose(learn("x"), None).await.unwrap();
    handle.snapshot_now().await.unwrap();
    assert!(check(dir.path()).is_err(), "a running node is let alone");
    let position = handle.position();
    handle.shutdown().await;
    // Effects hold the state open.
    drop((handle, effects));
    let report = check(dir.path()).unwrap();
    assert_eq!(report.damage, [""; 0]);
    assert_eq!((report.position, report.snapshots), (position, 1));
    let digest = open(dir.path()).state().snapshot().digest().to_string();
    assert_eq!(
        (&report.digest, &report.expected_digest),
        (&digest, &digest)
    );
    let (handle, _effects) = start(dir.path()).await;
    handle.propose(learn("y"), None).await.unwrap();
    handle.shutdown().await;
}
