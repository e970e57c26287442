//! Snapshot files of a running node: saved, restored, and what the restored one becomes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use futures::future::join_all;
use memorygate_core::time::TimeMs;
use memorygate_proto::v1::{
    CreateSnapshotRequest, ListRequest, ListSnapshotsRequest, RecallRequest, SaveSnapshotRequest,
    VerifySnapshotRequest, cluster_client::ClusterClient,
};
use memorygate_raft::{
    Statvfs,
    backup::{Manifest, Restore, restore, verify},
};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    cluster::{Cluster, eventually, learn},
    server::{NOW_MS, Server, Start, ask, contents, experience},
};

/// A snapshot file of a node that has learned `count` lessons.
struct Saved {
    dir: TempDir,
    file: PathBuf,
    manifest: Manifest,
}

async fn saved(count: usize) -> Saved {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.snapshot");
    let mut server = Server::start().await;
    let lessons = (0..count).map(|n| experience(&format!("lesson {n}")));
    server.learn(lessons.collect()).await;
    let backup = server.node.backend().raft.backup(TimeMs(NOW_MS)).await;
    backup.unwrap().save(&file, &Statvfs, 0).unwrap();
    server.stop().await;
    let manifest = verify(&mut File::open(&file).unwrap()).unwrap();
    assert_eq!(manifest.memories, count as u64);
    Saved {
        dir,
        file,
        manifest,
    }
}

impl Saved {
    fn restore(&self, dir: &Path) -> String {
        let to = Restore {
            dir,
            expected: Some(self.manifest.cluster_id),
            disk: &Statvfs,
        };
        let restored = restore(&mut File::open(&self.file).unwrap(), &to).unwrap();
        restored.identity.cluster_id.to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_restored_into_a_cluster_of_three() {
    let saved = saved(20).await;
    // Whichever of the three it is: the first address forms nothing while another one belongs.
    for restored in [0, 2] {
        let mut cluster = Cluster::new(3);
        let cluster_id = saved.restore(&cluster.data(restored));
        let starting = join_all((0..3).map(|at| cluster.node(at))).await;
        cluster.nodes = starting.into_iter().map(Some).collect();
        assert_eq!(cluster.ids().into_iter().collect::<Vec<_>>(), [cluster_id]);
        eventually("three voters", || {
            let node = cluster.nodes[restored].as_ref()?;
            let members = node.backend().raft.membership();
            let voters = members.members.iter().filter(|member| member.is_voter);
            (voters.count() == 3 && !members.is_joint).then_some(())
        })
        .await;
        cluster.agree().await;
        for at in 0..3 {
            let node = cluster.nodes[at].as_ref().unwrap();
            let state = node.backend().raft.state().snapshot();
            assert_eq!(state.digest().to_string(), saved.manifest.state_hash);
            node.ready().await.unwrap();
            let mut client = cluster.client(at).await;
            let listed = client.list(ListRequest {
                page_size: 100,
                ..ListRequest::default()
            });
            let listed = listed.await.unwrap().into_inner();
            assert_eq!(listed.memories.len(), 20);
            let found = client.recall(ask("lesson 7")).await.unwrap().into_inner();
            assert_eq!(contents(&found)[0], "lesson 7");
            // A position of the old cluster means nothing here.
            let stale = RecallRequest {
                at_least: Some(memorygate_proto::v1::Position {
                    cluster_id: saved.manifest.cluster_id.to_string(),
                    index: 1,
                    ..Default::default()
                }),
                ..ask("lesson 7")
            };
            let refused = client.recall(stale).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        }
        // It goes on without the node that was restored.
        cluster.leader().await;
        cluster.stop(restored).await;
        let mut client = cluster.client((restored + 1) % 3).await;
        learn(&mut client, "without it").await;
        cluster.restart(restored).await;
        cluster.leader().await;
        cluster.agree().await;
        cluster.shutdown().await;
    }
    drop(saved.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_restored_twice_makes_two_clusters_that_do_not_mix() {
    let saved = saved(3).await;
    let mut cluster = Cluster::new(3);
    let first = saved.restore(&cluster.data(0));
    let second = saved.restore(&cluster.data(1));
    assert_ne!(first, second);
    cluster.nodes[0] = Some(cluster.node(0).await);
    let refused = cluster.start(1).node().await.err().unwrap();
    let text = format!("{refused:#}");
    assert!(
        text.contains(&format!("belongs to cluster {first}")),
        "{text}"
    );
    assert!(text.contains("restore on one node only"), "{text}");
    // With an empty directory it joins.
    fs::remove_dir_all(cluster.data(1)).unwrap();
    cluster.nodes[1] = Some(cluster.node(1).await);
    assert_eq!(cluster.ids().into_iter().collect::<Vec<_>>(), [first]);
    eventually("two voters", || {
        let node = cluster.nodes[0].as_ref()?;
        let members = node.backend().raft.membership();
        let voters = members.members.iter().filter(|member| member.is_voter);
        (voters.count() == 2 && !members.is_joint).then_some(())
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_alone_serves_what_was_saved() {
    let saved = saved(5).await;
    let dir = saved.dir.path().join("data");
    let cluster_id = saved.restore(&dir);
    for _ in 0..2 {
        let mut server = Server::on(&dir).await;
        assert_eq!(server.position().await.cluster_id, cluster_id);
        assert_eq!(server.contents("lesson 3").await[0], "lesson 3");
        server.learn(vec![experience("later")]).await;
        let stopped = timeout(Duration::from_secs(60), server.stop()).await;
        stopped.unwrap();
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_memorygate"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the command says on standard error, and that it did fail.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_verifies_and_restores() {
    let saved = saved(2).await;
    let file = saved.file.to_str().unwrap();
    let verified = run(&["snapshot", "verify", file]);
    let shown = text(&verified.stdout);
    assert!(shown.contains(&saved.manifest.state_hash), "{shown}");
    assert!(shown.contains("memories     2\n"), "{shown}");
    assert!(
        shown.contains("created at   2025-06-01T00:00:00Z"),
        "{shown}"
    );
    assert!(
        shown.ends_with("every byte is as it was written\n"),
        "{shown}"
    );
    let shown = run(&["snapshot", "show", file, "--output", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["position"], saved.manifest.position);
    assert_eq!(shown["verified"], false);
    assert_eq!(shown["bytes"], fs::metadata(file).unwrap().len());

    let data = saved.dir.path().join("data");
    let dir = data.to_str().unwrap();
    let other = "0".repeat(32);
    let wrong = ["restore", "--from", file, "--data-dir", dir, "--cluster-id"];
    let error = refused(&[&wrong[..], &[&other]].concat());
    assert!(error.contains(&format!("expected {other}")), "{error}");
    let error = refused(&[&wrong[..], &["xyz"]].concat());
    assert!(error.contains("is not 32 hexadecimal digits"), "{error}");
    let restored = run(&["restore", "--from", file, "--data-dir", dir]);
    let shown = text(&restored.stdout);
    assert!(
        shown.contains("new cluster  "),
        "{}",
        text(&restored.stderr)
    );
    let error = refused(&["restore", "--from", file, "--data-dir", dir]);
    assert!(error.contains("is not empty"), "{error}");
    let checked = run(&["check", dir]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));

    let damaged = saved.dir.path().join("damaged.snapshot");
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&damaged, bytes).unwrap();
    let damaged = damaged.to_str().unwrap();
    let error = refused(&["snapshot", "verify", damaged]);
    assert!(error.contains("it is damaged"), "{error}");
    assert!(run(&["snapshot", "show", damaged]).status.success());
    let empty = saved.dir.path().join("empty");
    let empty = empty.to_str().unwrap();
    let error = refused(&["restore", "--from", damaged, "--data-dir", empty]);
    assert!(error.contains("use another snapshot"), "{error}");
    for missing in [
        ["snapshot", "show", "no-such-file"].as_slice(),
        &["snapshot", "verify", "no-such-file"],
        &["restore", "--from", "no-such-file", "--data-dir", empty],
    ] {
        assert!(refused(missing).contains("open no-such-file"));
    }
    let error = refused(&["snapshot", "show", env!("CARGO_BIN_EXE_memorygate")]);
    assert!(error.contains("it is no snapshot file"), "{error}");
}

/// A server that keeps snapshots in a directory.
async fn scheduled(dir: &TempDir, interval_s: u64, keep: usize) -> Server {
    let mut start = Start::new(&dir.path().join("data"));
    start.settings.backup.store = store_dir(dir).to_str().unwrap().to_owned();
    start.settings.backup.interval_s = interval_s;
    start.settings.backup.keep = keep;
    Server::with(start).await
}

fn store_dir(dir: &TempDir) -> PathBuf {
    dir.path().join("snapshots")
}

fn kept(dir: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = match fs::read_dir(store_dir(dir)) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_takes_snapshots_on_schedule_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = scheduled(&dir, 1, 2).await;
    let mut last = Vec::new();
    for n in 0..4 {
        server.learn(vec![experience(&format!("lesson {n}"))]).await;
        server.clock.advance(10_000);
        server
            .metric(&format!("memorygate_backups_total {}", n + 1))
            .await;
        eventually("the old ones are gone", || {
            let files = kept(&dir);
            (files.len() == 2.min(n + 1) && files != last).then_some(())
        })
        .await;
        last = kept(&dir);
        for file in &last {
            verify(&mut File::open(file).unwrap()).unwrap();
        }
    }
    // One that is damaged does not count, and is left for a person to look at.
    let mut bytes = fs::read(&last[1]).unwrap();
    bytes[100] ^= 1;
    fs::write(&last[1], bytes).unwrap();
    server.learn(vec![experience("after the damage")]).await;
    server.clock.advance(10_000);
    server.metric("memorygate_backups_total 5").await;
    let files = kept(&dir);
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(files[..2], last);
    assert_eq!(
        verify(&mut File::open(&files[2]).unwrap())
            .unwrap()
            .memories,
        5
    );
    server.metric("memorygate_backup_failing 0").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_fails_is_said_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    // A file stands where the directory should be.
    fs::write(store_dir(&dir), "x").unwrap();
    let mut server = scheduled(&dir, 1, 2).await;
    server.learn(vec![experience("lesson")]).await;
    server.metric("memorygate_backup_failing 1").await;
    fs::remove_file(store_dir(&dir)).unwrap();
    server.metric("memorygate_backup_failing 0").await;
    server.metric("memorygate_backups_total 1").await;
    assert_eq!(kept(&dir).len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_makes_no_sense_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("data/backup");
    for (location, expected) in [
        ("ftp://host/x", "ftp:// is not known"),
        ("file://x", "expected file:///DIRECTORY"),
        (inside.to_str().unwrap(), "it is in the data directory"),
    ] {
        let mut start = Start::new(&dir.path().join("data"));
        start.settings.backup.store = location.to_owned();
        let error = format!("{:#}", start.node().await.err().unwrap());
        assert!(error.contains(expected), "{error}");
    }
    let mut start = Start::new(&dir.path().join("data"));
    start.settings.backup.interval_s = 60;
    let error = format!("{:#}", start.node().await.err().unwrap());
    assert!(error.contains("backup.store is empty"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_made_listed_verified_and_sent_over_the_api() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = scheduled(&dir, 0, 1).await;
    server
        .learn(vec![experience("one"), experience("two")])
        .await;
    let endpoint = format!("http://{}", server.node.grpc_address());
    let mut cluster = ClusterClient::connect(endpoint).await.unwrap();
    let created = cluster.create_snapshot(CreateSnapshotRequest {}).await;
    let created = created.unwrap().into_inner();
    assert_eq!(created.store, store_dir(&dir).to_str().unwrap());
    let made = created.snapshot.unwrap();
    assert_eq!(made.memories, 2);
    server.learn(vec![experience("three")]).await;
    let listed = cluster.list_snapshots(ListSnapshotsRequest {}).await;
    let listed = listed.unwrap().into_inner().snapshots;
    assert_eq!(listed, std::slice::from_ref(&made));
    let verify_named = |name: &str| VerifySnapshotRequest {
        name: name.to_owned(),
    };
    let verified = cluster.verify_snapshot(verify_named(&made.name)).await;
    assert_eq!(verified.unwrap().into_inner().snapshot.unwrap(), made);
    // The one in the store, and one made now.
    for (name, memories) in [(made.name.as_str(), 2), ("", 3)] {
        let request = SaveSnapshotRequest {
            name: name.to_owned(),
        };
        let mut stream = cluster.save_snapshot(request).await.unwrap().into_inner();
        let head = stream.message().await.unwrap().unwrap().snapshot.unwrap();
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            assert_eq!(message.snapshot, None);
            bytes.extend_from_slice(&message.chunk);
        }
        let manifest = verify(&mut &bytes[..]).unwrap();
        assert_eq!((manifest.memories, head.memories), (memories, memories));
        assert_eq!(manifest.state_hash, head.state_hash);
        assert_eq!(bytes.len() as u64, head.bytes);
    }
    // What cannot be.
    let missing = made.name.replace("snapshot", "").replace('-', "-0");
    for (name, code) in [
        ("../identity", Code::InvalidArgument),
        (missing.as_str(), Code::InvalidArgument),
    ] {
        let refused = cluster
            .verify_snapshot(verify_named(name))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let file = &kept(&dir)[0];
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    let refused = cluster.verify_snapshot(verify_named(&made.name)).await;
    assert_eq!(refused.unwrap_err().code(), Code::DataLoss);
    fs::remove_file(file).unwrap();
    let refused = cluster.verify_snapshot(verify_named(&made.name)).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    server.stop().await;
    // Without a store.
    let server = Server::start().await;
    let endpoint = format!("http://{}", server.node.grpc_address());
    let mut cluster = ClusterClient::connect(endpoint).await.unwrap();
    let refused = cluster
        .create_snapshot(CreateSnapshotRequest {})
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("set backup.store"), "{refused}");
    server.stop().await;
}
