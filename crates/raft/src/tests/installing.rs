//! Snapshots: built beside writes, verified, installed whole or not at all.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use memorygate_core::{
    command::Envelope,
    format::{FIRST, Formats},
    state::StateDigest,
    time::TimeMs,
};
use openraft::{
    EntryPayload,
    storage::{RaftSnapshotBuilder as _, RaftStateMachine as _},
};
use tempfile::TempDir;

use super::{Told, learn, run};
use crate::{
    ClusterId, NoObserver, Settings, State,
    dir::DataDir,
    failpoint::Failpoints,
    fatal::Alarm,
    rocks::Memory,
    snapshots::{SnapshotFiles, Snapshots, manifest::Manifest},
    state,
    state_machine::StateMachine,
    types::{Entry, LeaderId, LogId, Proposal, Snapshot},
};

/// A state machine without a log.
struct Node {
    dir: TempDir,
    cluster_id: ClusterId,
    failpoints: Failpoints,
    is_formed: bool,
}

struct Opened {
    state: State,
    snapshots: Arc<Snapshots>,
    machine: StateMachine,
    told: Arc<Told>,
}

impl Node {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            cluster_id: ClusterId(1),
            failpoints: Failpoints::default(),
            is_formed: false,
        }
    }

    fn open(&self) -> Opened {
        let settings = Settings::default();
        let dir = DataDir::open(self.dir.path(), None).unwrap();
        let memory = Memory::new(&settings);
        let state = State::open(
            state::Parts {
                path: &dir.group().join("state"),
                cluster_id: self.cluster_id,
                settings: &settings,
                formats: Formats::OWN,
                memory: memory.clone(),
                observer: Arc::new(NoObserver),
                alarm: Alarm::new(),
                failpoints: self.failpoints.clone(),
                lock: dir.lock(),
            },
            self.is_formed,
        )
        .unwrap();
        let snapshots = Snapshots::open(
            &dir.group(),
            self.cluster_id,
            settings.snapshots_kept,
            memory,
            Arc::new(NoObserver),
            self.failpoints.clone(),
        )
        .unwrap();
        let snapshots = Arc::new(snapshots);
        let told = Arc::new(Told::default());
        state.set_sink(told.clone());
        let (machine, _) = StateMachine::new(state.clone(), snapshots.clone(), Alarm::new());
        Opened {
            state,
            snapshots,
            machine,
            told,
        }
    }

    fn dirs(&self, of: &str) -> Vec<String> {
        let group = self.dir.path().join("group-0").join(of);
        let mut names: Vec<String> = fs::read_dir(group)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Opened {
    fn apply(&self, indexes: std::ops::RangeInclusive<u64>) {
        let entries: Vec<Entry> = indexes
            .map(|index| Entry {
                log_id: log_id(index),
                payload: EntryPayload::Normal(Proposal(
                    Envelope {
                        time: TimeMs(1_000),
                        request: None,
                        command: learn(&format!("lesson {index}")),
                    }
                    .to_bytes(FIRST)
                    .into(),
                )),
            })
            .collect();
        self.state.apply(&entries).unwrap();
    }

    fn digest(&self) -> StateDigest {
        let snapshot = self.state.snapshot();
        assert_eq!(snapshot.recompute_digest().unwrap(), snapshot.digest());
        snapshot.digest()
    }

    async fn build(&mut self) -> Snapshot {
        let builder = self.machine.try_create_snapshot_builder(true).await;
        builder.unwrap().build_snapshot().await.unwrap()
    }

    /// Copies a snapshot to where this node receives them.
    fn receive(&self, from: &SnapshotFiles) -> Arc<SnapshotFiles> {
        let to = self.snapshots.stage();
        super::copy_tree(from.path(), &to);
        self.snapshots.received(&to).unwrap()
    }
}

fn log_id(index: u64) -> LogId {
    LogId {
        leader_id: LeaderId {
            term: 1,
            node_id: 1,
        },
        index,
    }
}

#[test]
fn a_snapshot_makes_another_node_the_same() {
    run(async {
        let (leader, follower) = (Node::new(), Node::new());
        let mut from = leader.open();
        from.apply(1..=20);
        let snapshot = from.build().await;
        assert_eq!(snapshot.meta.last_log_id, Some(log_id(20)));
        let at_20 = from.digest();
        from.apply(21..=30);

        let mut to = follower.open();
        to.apply(1..=3);
        let old = to.state.snapshot();
        let received = to.receive(&snapshot.snapshot);
        to.machine
            .install_snapshot(&snapshot.meta, received)
            .await
            .unwrap();
        assert_eq!((to.digest(), to.state.applied()), (at_20, 20));
        assert_eq!(*to.told.replaced.lock().unwrap(), [20]);
        let current = to.machine.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(current.meta, snapshot.meta);
        assert_eq!(old.position(), 3);
        assert_eq!(old.memories(None, 99).unwrap().len(), 3, "still readable");
        assert_eq!(
            follower.dirs("state"),
            ["0000000001", "0000000002", "current"]
        );
        drop(old);
        to.told.effects.lock().unwrap().clear();
        assert_eq!(follower.dirs("state"), ["0000000002", "current"]);
        to.apply(21..=30);
        assert_eq!(to.digest(), from.digest());
        drop(to);
        let again = follower.open();
        assert_eq!(again.digest(), from.digest());
    });
}

#[test]
fn tables_are_shared_and_old_snapshots_go() {
    run(async {
        let node = Node::new();
        let mut opened = node.open();
        opened.apply(1..=5);
        let first = opened.build().await.snapshot;
        opened.apply(6..=9);
        let second = opened.build().await.snapshot;
        let shared = |part: &&crate::snapshots::manifest::Part| {
            first.manifest().parts.contains(part) && part.name.ends_with(".sst")
        };
        assert!(second.manifest().parts.iter().filter(shared).count() > 0);
        assert_eq!(
            node.dirs("snapshots"),
            ["T1-N1-5", "T1-N1-9"],
            "one is in use"
        );
        drop(first);
        assert_eq!(node.dirs("snapshots"), ["T1-N1-9"]);
        let same = opened.build().await.snapshot;
        assert_eq!(same.path(), second.path(), "nothing is new");
        drop(opened);
        let mut again = node.open();
        let latest = again.machine.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(latest.snapshot.manifest(), second.manifest());
        assert_eq!(node.dirs("staging"), [""; 0]);
    });
}

#[test]
fn a_snapshot_is_of_one_moment_while_entries_are_applied() {
    run(async {
        let node = Node::new();
        let opened = node.open();
        opened.apply(1..=1);
        let state = opened.state.clone();
        let is_done = Arc::new(AtomicBool::new(false));
        let writer = {
            let (opened, is_done) = (opened, is_done.clone());
            std::thread::spawn(move || {
                let mut index = 2;
                while !is_done.load(Ordering::SeqCst) {
                    opened.apply(index..=index + 2);
                    index += 3;
                }
                opened
            })
        };
        let mut built = Vec::new();
        let other = Node::new();
        let to = other.open();
        for _ in 0..5 {
            let copy = to.snapshots.stage();
            state.checkpoint(&copy).unwrap();
            built.push(copy);
        }
        is_done.store(true, Ordering::SeqCst);
        writer.join().unwrap();
        for copy in built {
            let names: Vec<String> = fs::read_dir(&copy)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !name.starts_with("LOG"))
                .collect();
            let target = Node::new();
            let target_opened = target.open();
            let described = to.snapshots.describe(&copy).unwrap();
            target_opened
                .state
                .install(&copy, &names, described.log_id)
                .unwrap();
            assert_eq!(target_opened.digest().to_string(), described.digest);
        }
    });
}

#[test]
fn an_install_that_is_killed_anywhere_leaves_the_old_state_or_the_new() {
    let steps = [
        "install: before the files",
        "install: after the files",
        "state: before the pointer",
        "state: after the pointer",
    ];
    run(async {
        let leader = Node::new();
        let mut from = leader.open();
        from.apply(1..=20);
        let snapshot = from.build().await;
        for step in steps {
            let mut follower = Node::new();
            let mut to = follower.open();
            to.apply(1..=3);
            let old = to.digest();
            drop(to);

            let armed = Arc::new(AtomicBool::new(true));
            let is_armed = armed.clone();
            follower.is_formed = true;
            follower.failpoints = Failpoints::new(move |at| {
                if at == step && is_armed.load(Ordering::SeqCst) {
                    Err(io::Error::other("killed"))
                } else {
                    Ok(())
                }
            });
            to = follower.open();
            let received = to.receive(&snapshot.snapshot);
            let killed = to.machine.install_snapshot(&snapshot.meta, received).await;
            assert!(killed.is_err(), "{step}");
            drop(to);

            armed.store(false, Ordering::SeqCst);
            to = follower.open();
            let expected = if step == "state: after the pointer" {
                from.digest()
            } else {
                old
            };
            assert_eq!(to.digest(), expected, "{step}");
            assert_eq!(
                follower.dirs("state").len(),
                2,
                "{step}: nothing is left over"
            );
            let received = to.receive(&snapshot.snapshot);
            to.machine
                .install_snapshot(&snapshot.meta, received)
                .await
                .unwrap();
            assert_eq!(to.digest(), from.digest(), "{step}");
        }
    });
}

#[test]
fn a_build_that_fails_leaves_nothing_and_can_be_repeated() {
    for step in [
        "snapshot: after the checkpoint",
        "snapshot: before the rename",
    ] {
        let mut node = Node::new();
        let armed = Arc::new(AtomicBool::new(true));
        let is_armed = armed.clone();
        node.failpoints = Failpoints::new(move |at| {
            if at == step && is_armed.load(Ordering::SeqCst) {
                Err(io::Error::other("no room"))
            } else {
                Ok(())
            }
        });
        run(async {
            let opened = node.open();
            opened.apply(1..=3);
            let error = opened.snapshots.build(&opened.state).unwrap_err();
            assert_eq!(error.to_string(), "no room");
            assert_eq!(node.dirs("staging"), [""; 0]);
            assert_eq!(node.dirs("snapshots"), [""; 0]);
            armed.store(false, Ordering::SeqCst);
            opened.snapshots.build(&opened.state).unwrap();
            assert_eq!(node.dirs("snapshots"), ["T1-N1-3"]);
        });
    }
}

fn check_refused(change: impl FnOnce(&Path, &mut Manifest), expected: &str) {
    run(async {
        let (leader, follower) = (Node::new(), Node::new());
        let mut from = leader.open();
        from.apply(1..=4);
        let snapshot = from.build().await;
        let mut to = follower.open();
        to.apply(1..=2);
        let before = to.digest();
        let path = to.snapshots.stage();
        super::copy_tree(snapshot.snapshot.path(), &path);
        let mut manifest = Manifest::read(&path).unwrap();
        change(&path, &mut manifest);
        manifest.write(&path).unwrap();
        let received = to.snapshots.received(&path).unwrap();
        let refused = to.machine.install_snapshot(&snapshot.meta, received).await;
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        assert_eq!(to.digest(), before);
        assert_eq!(to.state.applied(), 2);
    });
}

#[test]
fn a_snapshot_that_is_not_what_it_says_is_refused() {
    check_refused(
        |_, manifest| manifest.cluster_id = ClusterId(2),
        "is of cluster 00000000000000000000000000000002, expected",
    );
    check_refused(|_, manifest| manifest.format = 2, "has format 2");
    check_refused(
        |_, manifest| manifest.log_id.as_mut().unwrap().index = 9,
        "expected Some(",
    );
    check_refused(
        |path, manifest| fs::remove_file(path.join(&manifest.parts[0].name)).unwrap(),
        "it is missing",
    );
    check_refused(
        |path, manifest| {
            let table = manifest.parts.iter().find(|p| p.name.ends_with(".sst"));
            let file = path.join(&table.unwrap().name);
            let mut bytes = fs::read(&file).unwrap();
            bytes[10] ^= 1;
            // The table is shared with the leader's state, which must stay as it is.
            fs::remove_file(&file).unwrap();
            fs::write(file, bytes).unwrap();
        },
        "with SHA-256",
    );
}

#[test]
fn a_state_that_is_behind_the_snapshot_beside_it_takes_it() {
    run(async {
        let (leader, follower) = (Node::new(), Node::new());
        let mut from = leader.open();
        from.apply(1..=6);
        let snapshot = from.build().await;
        let to = follower.open();
        let received = to.receive(&snapshot.snapshot);
        let kept = to.snapshots.adopt(received).unwrap();
        assert_eq!(
            to.snapshots.adopt(kept.clone()).unwrap().path(),
            kept.path()
        );
        drop((to, kept));
        let mut again = follower.open();
        let current = again.machine.get_current_snapshot().await.unwrap().unwrap();
        again
            .machine
            .install_snapshot(&current.meta, current.snapshot)
            .await
            .unwrap();
        assert_eq!(again.digest(), from.digest());
    });
}
