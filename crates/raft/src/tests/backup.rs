//! Snapshot files: written beside traffic, refused with any byte changed, restored into a new cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use memorygate_core::{
    format::{FIRST, Formats, NEXT},
    state::Read as _,
    time::TimeMs,
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{Bench, Room, Told, begin, cluster::eventually, copy_tree, learn, learn_in, run};
use crate::{
    BarrierError, ClusterId, Handle, OpenError, Statvfs,
    backup::{
        Manifest, ReadError, Restore, RestoreError, Restored, SaveError, read, restore,
        restore::restore_with, verify, write,
    },
    check::check,
    dir::DataDir,
    failpoint::Failpoints,
};

const NOW: TimeMs = TimeMs(7_000);

/// What `work` reads of a file, as bytes.
fn verified(mut bytes: &[u8]) -> Result<Manifest, ReadError> {
    verify(&mut bytes)
}

fn refusal(bytes: &[u8]) -> String {
    verified(bytes).unwrap_err().to_string()
}

fn restored(bytes: &[u8], dir: &Path) -> Result<Restored, RestoreError> {
    let to = Restore {
        dir,
        expected: None,
        disk: &Statvfs,
    };
    restore(&mut &*bytes, &to)
}

async fn file(handle: &Handle) -> Vec<u8> {
    let backup = handle.backup(NOW).await.unwrap();
    let mut bytes = Vec::new();
    backup.write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, backup.manifest().file_bytes());
    bytes
}

/// A file of a small state, and what it is of.
struct Small {
    bytes: Vec<u8>,
    manifest: Manifest,
    bench: Bench,
}

fn small() -> Small {
    let bench = Bench::new();
    let bytes = run(async {
        let handle = bench.start().await;
        for content in ["one", "two", "three"] {
            handle.propose(learn(content), None).await.unwrap();
        }
        let command = learn_in("other", "four");
        handle.propose(command, None).await.unwrap();
        let bytes = file(&handle).await;
        handle.shutdown().await;
        bytes
    });
    let manifest = verified(&bytes).unwrap();
    Small {
        bytes,
        manifest,
        bench,
    }
}

/// The file with another manifest and digests that fit it.
fn resealed(small: &Small, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let mut manifest = small.manifest.clone();
    let parts = small.manifest.head().len()..small.bytes.len() - 32;
    change(&mut manifest);
    let mut bytes = manifest.head();
    bytes.extend(&small.bytes[parts]);
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    bytes
}

#[test]
fn a_restored_state_is_the_same_in_a_cluster_of_its_own() {
    let small = small();
    let manifest = &small.manifest;
    assert_eq!((manifest.memories, manifest.created_at_ms), (4, 7_000));
    assert_eq!(manifest.log_time_ms, 1_000);
    let to = Bench::new();
    let Restored { identity, .. } = restored(&small.bytes, &to.path).unwrap();
    assert_ne!(identity.cluster_id, manifest.cluster_id);
    let report = check(&to.path).unwrap();
    assert_eq!(report.damage, [""; 0]);
    assert_eq!(report.digest, manifest.state_hash);
    run(async {
        let mut handle = to.start().await;
        for expected in ["five", "six"] {
            assert_eq!(handle.identity().cluster_id, identity.cluster_id);
            let members = handle.membership().members;
            assert_eq!(members.len(), 1);
            assert_eq!(members[0].peer.node_id, identity.node_id);
            assert_eq!(members[0].peer.address, "here:1");
            let state = handle.state().snapshot();
            if expected == "five" {
                assert_eq!(state.digest().to_string(), manifest.state_hash);
            }
            assert_eq!(state.recompute_digest().unwrap(), state.digest());
            assert!(state.position() > manifest.position, "the log goes on");
            handle.propose(learn(expected), None).await.unwrap();
            handle.shutdown().await;
            drop((state, handle));
            handle = to.start().await;
        }
        let state = handle.state().snapshot();
        let memories = state.memories(None, 99).unwrap();
        assert_eq!(memories.len(), 6);
        // What is restored can be saved and restored again.
        let bytes = file(&handle).await;
        drop(state);
        handle.shutdown().await;
        let again = Bench::new();
        restored(&bytes, &again.path).unwrap();
        let handle = again.start().await;
        let state = handle.state().snapshot();
        assert_eq!(
            state.digest().to_string(),
            verified(&bytes).unwrap().state_hash
        );
        assert!(state.clock() >= TimeMs(1_000));
        drop(state);
        handle.shutdown().await;
    });
    let report = check(&to.path).unwrap();
    assert_eq!(report.damage, [""; 0]);
}

#[test]
fn every_flipped_byte_of_the_head_and_of_the_digest_is_refused() {
    let small = small();
    let head = small.manifest.head().len();
    let ends = (0..head).chain(small.bytes.len() - 32..small.bytes.len());
    let mut bytes = small.bytes.clone();
    for at in ends {
        for flip in [0x01, 0x80] {
            bytes[at] ^= flip;
            assert!(verified(&bytes).is_err(), "byte {at}");
            bytes[at] ^= flip;
        }
    }
    assert_eq!(verified(&bytes).unwrap(), small.manifest);
}

#[test]
fn any_flipped_byte_is_refused_and_nothing_is_installed() {
    let small = small();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("data");
    let bytes = Mutex::new(small.bytes.clone());
    proptest!(ProptestConfig::with_cases(200), |(at: prop::sample::Index, flip in 1_u8..)| {
        let mut bytes = bytes.lock().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let refused = restored(&bytes, &to);
        bytes[at] ^= flip;
        assert!(refused.is_err(), "byte {at}");
        assert_eq!(names(&to), ["lock"], "byte {at}");
    });
    restored(&bytes.into_inner().unwrap(), &to).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_that_is_too_short_or_too_long_is_refused() {
    let small = small();
    let whole = small.bytes.len();
    let head = small.manifest.head().len();
    let cuts = [0, 1, 7, 8, 11, 12, 15, 16, head - 1, head, head + 1];
    let last = [whole - 33, whole - 32, whole - 31, whole - 1];
    for cut in cuts.into_iter().chain(last) {
        let error = refusal(&small.bytes[..cut]);
        let is_foreign = cut < 8 && error.starts_with("it is no snapshot file");
        assert!(is_foreign || error.contains("it ends in"), "{cut}: {error}");
    }
    for more in [1, 2, 32, 4096] {
        let mut bytes = small.bytes.clone();
        bytes.resize(whole + more, 0);
        let error = refusal(&bytes);
        assert!(error.contains("something follows its end"), "{error}");
    }
}

#[test]
fn what_is_no_snapshot_of_ours_is_refused_by_name() {
    let small = small();
    assert!(refusal(b"PK\x03\x04 something else").starts_with("it is no snapshot file"));
    let mut newer = small.bytes.clone();
    newer[8] = 9;
    assert_eq!(
        refusal(&newer),
        "its format is 9, this program reads 1: use the version that made it"
    );
    let data = resealed(&small, |manifest| manifest.data_format += 1);
    let error = refusal(&data);
    assert!(error.contains("its data has format 2"), "{error}");
    let long = [&small.bytes[..12], &[0xff; 4], &small.bytes[16..]].concat();
    let error = refusal(&long);
    assert!(
        error.contains("its manifest has 4294967295 bytes"),
        "{error}"
    );
    for name in ["", "../x", "/etc/passwd", "a/b", ".hidden"] {
        let outside = resealed(&small, |manifest| manifest.parts[0].name = name.to_owned());
        let error = refusal(&outside);
        assert!(error.contains("manifest: it names a part"), "{error}");
    }
    let twice = resealed(&small, |manifest| {
        manifest.parts[1].name = manifest.parts[0].name.clone();
    });
    let error = refusal(&twice);
    assert!(error.contains("not in the order"), "{error}");
    let endless = resealed(&small, |manifest| {
        for part in &mut manifest.parts {
            part.bytes = u64::MAX;
        }
    });
    assert!(refusal(&endless).contains("can be counted"));
}

#[test]
fn a_manifest_that_says_something_else_than_the_rows_is_refused() {
    let small = small();
    let dir = tempfile::tempdir().unwrap();
    let check = |change: fn(&mut Manifest), expected: &str| {
        let bytes = resealed(&small, change);
        verified(&bytes).unwrap();
        let error = restored(&bytes, dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(names(dir.path()), ["lock"]);
    };
    check(
        |manifest| manifest.state_hash = "00".repeat(32),
        "rows have state hash",
    );
    check(
        |manifest| manifest.position += 1,
        "holds the state after position",
    );
    check(|manifest| manifest.group = 3, "is of group 3");
}

#[test]
fn a_restore_is_refused_before_it_changes_anything() {
    let small = small();
    let dir = tempfile::tempdir().unwrap();
    let used = small.bench.path.clone();
    let before = names(&used);
    let error = restored(&small.bytes, &used).unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty { .. }), "{error}");
    assert_eq!(names(&used), before);
    fs::write(dir.path().join("photo.jpg"), "x").unwrap();
    let error = restored(&small.bytes, dir.path()).unwrap_err().to_string();
    assert!(error.contains("it holds \"photo.jpg\""), "{error}");
    assert_eq!(names(dir.path()), ["photo.jpg"]);
    // Of another cluster, and without room.
    let to = dir.path().join("new");
    let mut wanted = Restore {
        dir: &to,
        expected: Some(ClusterId(1)),
        disk: &Statvfs,
    };
    let error = restore(&mut &*small.bytes, &wanted).unwrap_err();
    assert!(
        matches!(
            error,
            RestoreError::OtherCluster {
                expected: ClusterId(1),
                ..
            }
        ),
        "{error}"
    );
    wanted.expected = Some(small.manifest.cluster_id);
    let full = Room(AtomicU64::new(100));
    wanted.disk = &full;
    let error = restore(&mut &*small.bytes, &wanted).unwrap_err();
    assert!(error.to_string().contains("100 bytes free"), "{error}");
    wanted.disk = &Statvfs;
    restore(&mut &*small.bytes, &wanted).unwrap();
    let error = restore(&mut &*small.bytes, &wanted).unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty { .. }), "{error}");
}

/// Killed at any step, a restore leaves a directory that is refused, or one that is whole; and it can
/// be run again until it is.
#[test]
fn a_snapshot_is_restored_by_a_program_that_reads_its_log_format() {
    let formats = |newest| Formats {
        oldest: FIRST,
        newest,
    };
    let mut bench = Bench::new();
    bench.formats = formats(NEXT);
    run(async {
        let handle = bench.start().await;
        let raised = || (handle.format() == NEXT).then_some(());
        eventually("the next format", raised).await;
        handle.propose(learn("in it"), None).await.unwrap();
        let bytes = file(&handle).await;
        handle.shutdown().await;
        let mut to = Bench::new();
        let wanted = Restore {
            dir: &to.path,
            expected: None,
            disk: &Statvfs,
        };
        let restored_by = |newest| {
            let failpoints = Failpoints::default();
            restore_with(&mut &*bytes, &wanted, formats(newest), &failpoints)
        };
        let refused = restored_by(FIRST).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "snapshot is of a cluster that writes its log in format 2, this program reads 1 to 1: \
             restore it with a version that reads that"
        );
        assert_eq!(names(&to.path), ["lock"]);
        let Restored { manifest, .. } = restored_by(NEXT).unwrap();
        to.formats = formats(NEXT);
        let handle = to.start().await;
        assert_eq!(handle.format(), NEXT);
        let digest = handle.state().snapshot().digest();
        assert_eq!(digest.to_string(), manifest.state_hash);
        handle.shutdown().await;
    });
}

#[test]
fn a_restore_that_was_killed_is_refused_until_it_is_done_again() {
    let small = small();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("data");
    let images: Arc<Mutex<Vec<(&str, PathBuf)>>> = Arc::default();
    let failpoints = {
        let (to, images) = (to.clone(), images.clone());
        Failpoints::new(move |step| {
            let mut images = images.lock().unwrap();
            let image = to.with_extension(images.len().to_string());
            copy_tree(&to, &image);
            images.push((step, image));
            Ok(())
        })
    };
    let wanted = Restore {
        dir: &to,
        expected: None,
        disk: &Statvfs,
    };
    restore_with(&mut &*small.bytes, &wanted, Formats::OWN, &failpoints).unwrap();
    let images = images.lock().unwrap();
    assert_eq!(images.len(), 5);
    for (step, image) in images.iter() {
        match DataDir::open(image, None) {
            Ok(_) => {
                assert_eq!(*step, "restore: after the identity");
                assert_eq!(names(image), ["group-0", "identity", "lock"]);
            }
            Err(error) => {
                assert!(matches!(error, OpenError::HalfRestored { .. }), "{error}");
                let text = error.to_string();
                assert!(text.ends_with("run `memorygate restore` again"), "{text}");
                assert!(check(image).is_err());
                restored(&small.bytes, image).unwrap();
            }
        }
        let report = check(image).unwrap();
        assert_eq!(report.digest, small.manifest.state_hash, "{step}");
        assert_eq!(report.damage, [""; 0]);
    }
}

#[test]
fn a_file_holds_the_state_of_its_position_whatever_is_written_meanwhile() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        handle.propose(learn("first"), None).await.unwrap();
        let is_done = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (handle, is_done) = (handle.clone(), is_done.clone());
                tokio::spawn(async move {
                    let mut count = 0;
                    while !is_done.load(Ordering::SeqCst) {
                        let content = format!("writer {writer} lesson {count}");
                        handle.propose(learn(&content), None).await.unwrap();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut positions = Vec::new();
        for _ in 0..5 {
            handle.propose(learn("between"), None).await.unwrap();
            let before = handle.position();
            let bytes = file(&handle).await;
            let dir = tempfile::tempdir().unwrap();
            // It hashes the rows anew and compares.
            let Restored { manifest, .. } = restored(&bytes, dir.path()).unwrap();
            assert!(manifest.position >= before);
            positions.push(manifest.position);
        }
        is_done.store(true, Ordering::SeqCst);
        let mut count = 0;
        for writer in writers {
            count += writer.await.unwrap();
        }
        assert!(count > 0, "writes went on");
        assert!(positions.is_sorted());
        handle.shutdown().await;
    });
}

#[test]
fn a_file_is_whole_under_its_name_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        handle.propose(learn("one"), None).await.unwrap();
        let backup = handle.backup(NOW).await.unwrap();
        let path = dir.path().join("a.snapshot");
        let full = Room(AtomicU64::new(backup.manifest().file_bytes() + 9));
        let error = backup.save(&path, &full, 10).unwrap_err();
        assert!(matches!(error, SaveError::NoRoom { .. }), "{error}");
        assert_eq!(names(dir.path()), [""; 0]);
        backup.save(&path, &full, 9).unwrap();
        assert_eq!(names(dir.path()), ["a.snapshot"]);
        let saved = verify(&mut fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(&saved, backup.manifest());
        let peeked = read::peek(&mut fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(&peeked, backup.manifest());
        assert_eq!(
            write::unfinished(&path),
            dir.path().join("a.snapshot.unfinished")
        );
        // A part that went bad meanwhile is found while it is written.
        let parts = &backup.manifest().parts;
        let part = parts.iter().find(|part| part.bytes > 0).unwrap();
        let snapshots = bench.group().join("snapshots");
        let copies = names(&snapshots);
        let damaged = snapshots.join(&copies[0]).join(&part.name);
        let mut bytes = fs::read(&damaged).unwrap();
        bytes[0] ^= 1;
        fs::write(&damaged, bytes).unwrap();
        let second = dir.path().join("b.snapshot");
        let error = backup.save(&second, &Statvfs, 0).unwrap_err().to_string();
        assert!(error.contains("check the disk"), "{error}");
        assert_eq!(names(dir.path()), ["a.snapshot"]);
        drop(backup);
        handle.shutdown().await;
    });
}

#[test]
fn a_restored_node_begins_alone_or_not_at_all() {
    let small = small();
    let bench = Bench::new();
    restored(&small.bytes, &bench.path).unwrap();
    let (told, join): (Arc<Told>, _) = (Arc::default(), crate::First::Join);
    run(async {
        let replica = bench.open().unwrap();
        let started = replica.start(told, join, Arc::new(crate::NoTransport));
        let refused = started.await.err().unwrap();
        assert_eq!(
            refused.to_string(),
            "a restored data directory begins a cluster of its own and cannot join another"
        );
        let handle = begin(bench.open().unwrap(), Arc::default()).await.unwrap();
        let read: Result<u64, BarrierError> = handle.linearizable().await;
        assert!(read.unwrap() > small.manifest.position);
        let state = handle.state().snapshot();
        let key = memorygate_core::state::RowKey::Clock;
        assert!(state.get(&key).unwrap().is_some());
        drop(state);
        handle.shutdown().await;
    });
}

#[test]
fn the_bytes_of_a_head_never_change() {
    let manifest = Manifest {
        data_format: 1,
        cluster_id: ClusterId(0xcd),
        group: 0,
        position: 9,
        term: 3,
        leader: 4,
        log_time_ms: 5,
        state_hash: "ab".to_owned(),
        memories: 6,
        created_at_ms: 7,
        made_by: "0.1.0".to_owned(),
        parts: vec![crate::backup::Part {
            name: "000001.sst".to_owned(),
            bytes: 5,
            sha256: "ef".to_owned(),
        }],
    };
    let body = concat!(
        r#"{"data_format":1,"cluster_id":"000000000000000000000000000000cd","group":0,"#,
        r#""position":9,"term":3,"leader":4,"log_time_ms":5,"state_hash":"ab","memories":6,"#,
        r#""created_at_ms":7,"made_by":"0.1.0","#,
        r#""parts":[{"name":"000001.sst","bytes":5,"sha256":"ef"}]}"#,
    );
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    let expected = [b"\x89MGSNAP\n\x01\0\0\0", &length[..], body.as_bytes()].concat();
    assert_eq!(manifest.head(), expected);
}
