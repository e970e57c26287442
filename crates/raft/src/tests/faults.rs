//! What goes wrong with the disk: nothing after it is acknowledged, and damage is found.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use memorygate_core::format::Formats;
use openraft::{EntryPayload, RaftLogReader as _, storage::RaftLogStorage as _};

use super::{Bench, Told, begin, learn, run};
use crate::{
    FatalKind, OpenError, ProposeError, Role, StartError,
    check::check,
    failpoint::Failpoints,
    fatal::Alarm,
    kv::{self, Family, owner::Owner},
    rocks::{Kind, Memory, Mode, Store},
    types::{Entry, LeaderId, LogId, Proposal},
};

/// Fails every time at `step` once it is armed.
fn fail_at(step: &'static str, armed: &Arc<AtomicBool>) -> Failpoints {
    let armed = armed.clone();
    Failpoints::new(move |at| {
        if at == step && armed.load(Ordering::SeqCst) {
            Err(io::Error::from_raw_os_error(28))
        } else {
            Ok(())
        }
    })
}

#[test]
fn a_log_write_that_fails_is_the_last_thing_the_node_does() {
    for (step, kind) in [
        ("log: write", FatalKind::LogWrite),
        ("log: synced", FatalKind::LogWrite),
        ("state: write", FatalKind::StateWrite),
    ] {
        let mut bench = Bench::new();
        let armed = Arc::new(AtomicBool::new(false));
        bench.failpoints = fail_at(step, &armed);
        run(async {
            let handle = bench.start().await;
            let kept = handle.propose(learn("kept"), None).await.unwrap();
            let mut fatal = handle.fatal();
            assert!(fatal.borrow().is_none());
            armed.store(true, Ordering::SeqCst);
            let lost = handle.propose(learn("lost"), None).await.unwrap_err();
            assert!(lost.is_unknown(), "{step}: {lost}");
            let raised = fatal.wait_for(Option::is_some).await.unwrap().clone();
            assert_eq!(raised.unwrap().kind, kind, "{step}");
            // The disk is well again, but the node has latched.
            armed.store(false, Ordering::SeqCst);
            let refused = handle.propose(learn("later"), None).await.unwrap_err();
            assert!(
                matches!(refused, ProposeError::Stopped { .. }),
                "{step}: {refused}"
            );
            assert!(handle.linearizable().await.is_err(), "{step}");
            assert!(handle.wait_applied(u64::MAX).await.is_err(), "{step}");
            assert!(handle.snapshot_now().await.is_err(), "{step}");
            handle.shutdown().await;
            assert_eq!(handle.metrics().role, Role::Stopped, "{step}");
            assert_eq!(handle.position(), kept.index, "{step}");
        });
        run(async {
            let handle = bench.start().await;
            let snapshot = handle.state().snapshot();
            let memories = snapshot.memories(None, 10).unwrap();
            let contents: Vec<_> = memories.iter().map(|m| m.memory.content.as_str()).collect();
            assert!(contents.contains(&"kept"), "{step}: {contents:?}");
            handle.propose(learn("after"), None).await.unwrap();
            handle.shutdown().await;
        });
    }
}

/// The newest file of a database with this extension.
fn newest(dir: &Path, extension: &str) -> std::path::PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .filter(|path| fs::metadata(path).unwrap().len() > 0)
        .collect();
    files.sort();
    files.pop().unwrap()
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn open_error(bench: &Bench) -> String {
    let error = bench.open().err().unwrap();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("restore this node"), "{text}");
    text
}

/// A stopped node with some memories, all of them still in the write-ahead logs.
fn stopped() -> Bench {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        for n in 0..10 {
            handle.propose(learn(&format!("{n}")), None).await.unwrap();
        }
        handle.shutdown().await;
    });
    bench
}

#[test]
fn damage_at_the_end_of_the_log_is_told_from_a_torn_write() {
    let bench = stopped();
    let log = bench.group().join("log");
    let wal = newest(&log, "log");
    let whole = fs::read(&wal).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    // A bit of the last acknowledged entries goes bad.
    flip(&wal, |_| used - 3_000);
    let text = open_error(&bench);
    assert!(text.contains("was acknowledged"), "{text}");
    assert_eq!(open_error(&bench), text, "looking does not heal it");

    // A write that was torn was not acknowledged, and the seal does not name it.
    let bench = stopped();
    let seal = crate::log_store::seal::Seal::open(&bench.group().join("seal")).unwrap();
    let mut sealed = seal.read();
    sealed.last.as_mut().unwrap().index -= 1;
    seal.note(&sealed).unwrap();
    let wal = newest(&bench.group().join("log"), "log");
    let whole = fs::read(&wal).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(&wal, &whole[..used - 100]).unwrap();
    drop(bench.open().unwrap());
}

#[test]
fn a_vote_that_went_back_is_found() {
    let bench = stopped();
    let seal = crate::log_store::seal::Seal::open(&bench.group().join("seal")).unwrap();
    let mut sealed = seal.read();
    let vote = sealed.vote.as_mut().unwrap();
    vote.leader_id.term += 1;
    seal.note(&sealed).unwrap();
    let text = open_error(&bench);
    assert!(text.contains("last vote is"), "{text}");
}

#[test]
fn a_damaged_table_or_manifest_is_found() {
    let bench = stopped();
    // Opening writes what was in the write-ahead logs to tables.
    drop(bench.open().unwrap());
    let state = bench.group().join("state/0000000001");
    let table = newest(&state, "sst");
    let whole = fs::read(&table).unwrap();
    flip(&table, |length| length - 30);
    open_error(&bench);
    fs::write(&table, &whole).unwrap();
    fs::remove_file(&table).unwrap();
    open_error(&bench);
    fs::write(&table, &whole).unwrap();
    let manifest = state.join(
        fs::read_to_string(state.join("CURRENT"))
            .unwrap()
            .trim_end(),
    );
    flip(&manifest, |length| length / 2);
    open_error(&bench);
}

#[test]
fn damage_met_while_reading_stops_the_node() {
    let bench = stopped();
    drop(bench.open().unwrap());
    run(async {
        let state = bench.group().join("state/0000000001");
        for entry in fs::read_dir(state).unwrap() {
            let path = entry.unwrap().path();
            // Blocks of the largest table, which are not read when it is opened.
            if path.extension().is_some_and(|e| e == "sst")
                && fs::metadata(&path).unwrap().len() > 8_000
            {
                flip(&path, |_| 2_000);
            }
        }
        let handle = bench.start().await;
        let error = handle.state().snapshot().memories(None, 100).unwrap_err();
        assert!(error.to_string().contains("is not readable"), "{error}");
        let mut fatal = handle.fatal();
        let raised = fatal.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(raised.unwrap().kind, FatalKind::Corrupt);
        assert!(handle.propose(learn("x"), None).await.is_err());
        handle.shutdown().await;
    });
    let report = check(&bench.path).unwrap();
    assert!(!report.damage.is_empty());
}

#[test]
fn a_directory_that_lost_a_part_is_refused() {
    for (part, expected) in [
        ("group-0/log", "misses the log"),
        ("group-0/state", "misses the state"),
        ("group-0/state/current", "misses the state"),
    ] {
        let bench = stopped();
        let path = bench.path.join(part);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        let error = bench.open().err().unwrap().to_string();
        assert!(error.contains(expected), "{part}: {error}");
    }
}

#[test]
fn a_log_or_a_state_of_somebody_else_is_refused() {
    let (bench, other) = (stopped(), stopped());
    let mix = |part: &str| {
        let mixed = bench.path.with_extension("mixed");
        let _ = fs::remove_dir_all(&mixed);
        super::copy_tree(&bench.path, &mixed);
        fs::remove_dir_all(mixed.join(part)).unwrap();
        super::copy_tree(&other.path.join(part), &mixed.join(part));
        bench.open_at(&mixed).err().unwrap().to_string()
    };
    let log = mix("group-0/log");
    assert!(log.contains("it belongs to Owner"), "{log}");
    let state = mix("group-0/state");
    assert!(state.contains("belongs to cluster"), "{state}");
}

#[test]
fn a_first_start_that_was_interrupted_is_repeated() {
    let steps = ["state: before the pointer", "state: after the pointer"];
    for step in steps {
        let mut bench = Bench::new();
        let armed = Arc::new(AtomicBool::new(true));
        bench.failpoints = fail_at(step, &armed);
        assert!(bench.open().is_err(), "{step}");
        armed.store(false, Ordering::SeqCst);
        run(async {
            let handle = bench.start().await;
            handle.propose(learn("x"), None).await.unwrap();
            handle.shutdown().await;
        });
    }
    // The log fails at one of the first writes: the vote, the membership, the first entry.
    for nth in 0..4 {
        let mut bench = Bench::new();
        let (armed, left) = (Arc::new(AtomicBool::new(true)), AtomicU32::new(nth));
        let is_armed = armed.clone();
        bench.failpoints = Failpoints::new(move |step| {
            let is_due = step == "log: write" && is_armed.load(Ordering::SeqCst);
            if is_due && left.fetch_sub(1, Ordering::SeqCst) == 0 {
                is_armed.store(true, Ordering::SeqCst);
                left.store(0, Ordering::SeqCst);
                return Err(io::Error::other("interrupted"));
            }
            Ok(())
        });
        run(async {
            let replica = bench.open().unwrap();
            let id = *replica.identity();
            let started = begin(replica, Arc::new(Told::default())).await;
            if let Ok(handle) = started {
                let proposed = handle.propose(learn("x"), None).await;
                assert!(proposed.is_err(), "write {nth}");
                handle.shutdown().await;
            } else {
                assert!(matches!(started.err().unwrap(), StartError::Fatal(_)));
            }
            armed.store(false, Ordering::SeqCst);
            started_again(&bench, id).await;
        });
    }
}

/// Opens what a failed start left, once it has let go of the directory.
async fn started_again(bench: &Bench, id: crate::Identity) {
    let replica = loop {
        match bench.open() {
            Ok(replica) => break replica,
            Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(replica.identity().node_id, id.node_id);
    let told = Arc::new(Told::default());
    let handle = begin(replica, told).await.unwrap();
    handle.propose(learn("y"), None).await.unwrap();
    handle.shutdown().await;
}

#[test]
fn a_check_finds_every_kind_of_damage() {
    let bench = stopped();
    run(async {
        let handle = bench.start().await;
        handle.snapshot_now().await.unwrap();
        handle.shutdown().await;
    });
    let report = check(&bench.path).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
    assert_eq!(
        (report.snapshots, report.digest),
        (1, report.expected_digest)
    );
    assert!(report.log_entries > 10 && report.rows > 20);
    assert!(report.position > 10);
    let snapshots = bench.group().join("snapshots");
    let snapshot = fs::read_dir(snapshots).unwrap().next().unwrap().unwrap();
    let current = snapshot.path().join("CURRENT");
    flip(&current, |_| 3);
    let report = check(&bench.path).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert!(report.damage[0].contains("CURRENT: it has"), "{report:?}");
    flip(&current, |_| 3);
    flip(&snapshot.path().join("manifest"), |length| length / 2);
    let report = check(&bench.path).unwrap();
    assert!(
        report.damage[0].contains("manifest is damaged"),
        "{report:?}"
    );
    assert!(check(&bench.path.join("absent")).is_err());
}

#[test]
fn a_log_entry_that_went_bad_is_found_when_it_is_read() {
    let mut bench = stopped();
    // Above RocksDB, whose own checksums would find it first.
    {
        let memory = Memory::new(&bench.settings);
        let path = bench.group().join("log");
        let log = Store::open(Kind::Log, Mode::Existing, &path, &memory, Alarm::new()).unwrap();
        let key = kv::entry::encode_key(5);
        let mut value = log.get(Family::Entries, &key, None).unwrap().unwrap();
        value[40] ^= 1;
        let mut batch = rocksdb::WriteBatch::default();
        batch.put_cf(log.family(Family::Entries), key, value);
        log.write(batch, true).unwrap();
    }
    let report = check(&bench.path).unwrap();
    assert!(
        report.damage[0].contains("log entry 5 has checksum"),
        "{report:?}"
    );
    // The state is gone, so the log has to be read.
    fs::remove_dir_all(bench.group().join("state")).unwrap();
    let identity = bench.path.join("identity");
    let text = fs::read_to_string(&identity).unwrap();
    fs::write(
        &identity,
        text.replace("\"formed\": true", "\"formed\": false"),
    )
    .unwrap();
    bench.settings.log_cache_bytes = 1;
    run(async {
        let replica = bench.open().unwrap();
        let started = begin(replica, Arc::new(Told::default()));
        let Err(StartError::Fatal(fatal)) = started.await else {
            panic!("it started");
        };
        assert_eq!(fatal.kind, FatalKind::Corrupt);
        assert!(fatal.to_string().contains("log entry 5"), "{fatal}");
    });
}

/// Changes one row of this crate's own.
fn rewrite(bench: &Bench, kind: Kind, part: &str, key: &[u8], value: Option<&[u8]>) {
    let memory = Memory::new(&bench.settings);
    let path = bench.group().join(part);
    let store = Store::open(kind, Mode::Existing, &path, &memory, Alarm::new()).unwrap();
    let mut batch = rocksdb::WriteBatch::default();
    let family = store.family(Family::Local);
    match value {
        Some(value) => batch.put_cf(family, key, value),
        None => batch.delete_cf(family, key),
    }
    store.write(batch, true).unwrap();
}

#[test]
fn a_database_of_a_newer_format_or_of_nobody_is_refused() {
    for (kind, part) in [(Kind::Log, "log"), (Kind::State, "state/0000000001")] {
        let bench = stopped();
        let newer = Owner {
            format: 2,
            cluster_id: bench.open().unwrap().identity().cluster_id,
            node_id: None,
            incarnation: None,
        };
        let key = &kv::owner::KEY;
        rewrite(&bench, kind, part, key, Some(&kv::owner::encode(&newer)));
        let error = bench.open().err().unwrap();
        assert!(
            matches!(error, OpenError::NewerFormat { actual: 2, .. }),
            "{error}"
        );
        rewrite(&bench, kind, part, key, None);
        let error = open_error(&bench);
        assert!(error.contains("it does not say whose it is"), "{error}");
        rewrite(&bench, kind, part, key, Some(b"?"));
        let error = open_error(&bench);
        assert!(error.contains("row [44]: "), "{error}");
    }
}

#[test]
fn a_log_with_its_beginning_missing_is_refused() {
    let bench = stopped();
    let purged = LogId {
        leader_id: LeaderId {
            term: 1,
            node_id: 1,
        },
        index: 3,
    };
    let value = kv::purged::encode(&purged);
    rewrite(&bench, Kind::Log, "log", &kv::purged::KEY, Some(&value));
    let error = open_error(&bench);
    assert!(
        error.contains("log begins with entry 0, expected 4"),
        "{error}"
    );
}

#[test]
fn a_command_of_a_newer_version_stops_the_node_and_is_not_skipped() {
    let bench = Bench::new();
    run(async {
        let replica = bench.open().unwrap();
        let state = replica.state().clone();
        let entry = |index, bytes: &'static [u8]| Entry {
            log_id: LogId {
                leader_id: LeaderId {
                    term: 1,
                    node_id: 1,
                },
                index,
            },
            payload: EntryPayload::Normal(Proposal(Bytes::from_static(bytes))),
        };
        let error = state.apply(&[entry(1, &[9, 9])]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "log entry 1: command has format 9, this program reads {}: start a version of the \
                 program that is at least as new as the data",
                Formats::OWN
            )
        );
        assert_eq!(state.applied(), 0);
        assert_eq!(
            state.apply(&[entry(2, &[9])]).unwrap_err().to_string(),
            error
        );
        let started = begin(replica, Arc::new(Told::default()));
        let Err(StartError::Fatal(fatal)) = started.await else {
            panic!("it started");
        };
        assert_eq!(fatal.kind, FatalKind::Undecodable);
    });
}

#[test]
fn the_log_is_not_purged_beyond_what_the_state_holds() {
    let bench = stopped();
    run(async {
        let replica = bench.open().unwrap();
        let state = replica.state().clone();
        let applied = state.applied();
        assert_eq!(state.make_durable(applied).unwrap(), applied);
        assert_eq!(state.make_durable(applied - 1).unwrap(), applied);
        let mut log = replica.into_log();
        let log_id = |index| LogId {
            leader_id: LeaderId {
                term: 1,
                node_id: 1,
            },
            index,
        };
        let refused = log.purge(log_id(applied + 1)).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "log is not purged through {}: the state is durable through {applied} only",
                applied + 1
            )
        );
        log.purge(log_id(applied - 2)).await.unwrap();
        let mut reader = log.get_log_reader().await;
        let left = reader.try_get_log_entries(0..).await.unwrap();
        assert_eq!(left[0].log_id.index, applied - 1);
        let none = reader.try_get_log_entries(..=2).await.unwrap();
        assert!(none.is_empty());
    });
    drop(bench.open().unwrap());
}

#[test]
fn snapshots_are_built_by_log_bytes_and_a_failed_one_does_not_stop_the_node() {
    let mut bench = Bench::new();
    bench.settings.snapshot_log_bytes = 10_000;
    let armed = Arc::new(AtomicBool::new(true));
    bench.failpoints = fail_at("snapshot: after the checkpoint", &armed);
    run(async {
        let handle = bench.start().await;
        for n in 0..8 {
            handle.propose(learn(&format!("{n}")), None).await.unwrap();
        }
        let error = handle.snapshot_now().await.unwrap_err();
        assert!(error.to_string().starts_with("build snapshot: "), "{error}");
        handle.propose(learn("goes on"), None).await.unwrap();
        handle.shutdown().await;
    });
    armed.store(false, Ordering::SeqCst);
    run(async {
        let handle = bench.start().await;
        while handle.metrics().snapshot == 0 {
            tokio::task::yield_now().await;
        }
        assert!(handle.is_leader());
        handle.shutdown().await;
    });
}

#[test]
fn a_snapshot_that_is_due_and_fails_is_tried_again_later() {
    let mut bench = Bench::new();
    bench.settings.snapshot_log_bytes = 1;
    let tried = Arc::new(AtomicU32::new(0));
    let count = tried.clone();
    bench.failpoints = Failpoints::new(move |step| {
        if step == "snapshot: after the checkpoint" {
            count.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::other("no room"));
        }
        Ok(())
    });
    run(async {
        let handle = bench.start().await;
        handle.propose(learn("x"), None).await.unwrap();
        while tried.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        handle.propose(learn("y"), None).await.unwrap();
        assert!(handle.fatal().borrow().is_none());
        handle.shutdown().await;
    });
}
