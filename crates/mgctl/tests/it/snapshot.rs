//! Snapshots as an operator handles them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::run::{Ran, command, finish};
use memorygate_fake::cluster::FakeCluster;

/// A cluster whose snapshot file is whole.
async fn cluster() -> FakeCluster {
    let cluster = FakeCluster::start(1).await;
    cluster.state().cluster_id = 0xc1;
    cluster.state().snapshot_file = file();
    cluster
}

fn file() -> Vec<u8> {
    let mut file = b"\x89MGSNAP\n".to_vec();
    file.extend((0..5000_u32).map(|i| (i % 251) as u8));
    file.extend(Sha256::digest(&file));
    file
}

/// Runs it where nothing but what is in `path` can be found.
async fn run(cluster: &FakeCluster, path: &Path, args: &[&str]) -> Ran {
    let mut command = command(args);
    command
        .env("MEMORYGATE_ENDPOINT", &cluster.addresses()[0])
        .env("MEMORYGATE_SERVER_BINARY", path);
    finish(command, Vec::new()).await
}

/// A program that prints how it was called.
fn server_binary(directory: &Path, exit_code: u8) -> std::path::PathBuf {
    let path = directory.join(format!("memorygate-{exit_code}"));
    fs::write(&path, format!("#!/bin/sh\necho \"$@\"\nexit {exit_code}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn snapshots_are_made_and_listed() {
    let cluster = cluster().await;
    let nowhere = Path::new("/nonexistent");
    let list = ["snapshot", "list"];
    assert_eq!(
        run(&cluster, nowhere, &list).await.ok(),
        "no snapshots in /backups: make one with `mgctl snapshot create`\n"
    );
    assert_eq!(
        run(&cluster, nowhere, &["snapshot", "create"]).await.ok(),
        "snapshot-0: 4.9 KiB, 1000 memories, position 1200 in /backups\n"
    );
    let text = run(&cluster, nowhere, &list).await.ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "NAME        POSITION  MEMORIES  SIZE     MADE");
    let row = "snapshot-0      1200      1000  4.9 KiB  2026-01-01T00:00:00Z (";
    assert!(lines[1].starts_with(row), "{text}");
    assert_eq!(lines[3], "1 snapshot in /backups");
    let list = ["snapshot", "list", "-o", "json"];
    let document: Value = serde_json::from_str(&run(&cluster, nowhere, &list).await.ok()).unwrap();
    assert_eq!(document["snapshots"][0]["memories"], 1000);
    assert_eq!(document["store"], "/backups");
}

#[tokio::test]
async fn a_saved_file_is_whole_or_not_there() {
    let cluster = cluster().await;
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("monday.snapshot");
    let path = to.to_str().unwrap();
    let nowhere = Path::new("/nonexistent");
    let save = ["snapshot", "save", "--to", path];
    let names = || {
        let entries = fs::read_dir(directory.path()).unwrap();
        entries.map(|e| e.unwrap().file_name()).collect::<Vec<_>>()
    };
    assert_eq!(
        run(&cluster, nowhere, &save).await.ok(),
        format!("saved snapshot-new: 4.9 KiB, 1000 memories, position 1200 to {path}\n")
    );
    assert_eq!(fs::read(&to).unwrap(), file());

    // A byte that is not what it was, and a connection that breaks: what was there stays.
    cluster.state().snapshot_file[77] ^= 1;
    let (code, message) = run(&cluster, nowhere, &save).await.failed();
    assert_eq!(code, 1);
    assert!(
        message.contains("what was sent is damaged or cut off"),
        "{message}"
    );
    cluster.state().snapshot_file = file();
    cluster.state().is_cut_off = true;
    let (code, message) = run(&cluster, nowhere, &save).await.failed();
    assert_eq!(code, 1);
    assert!(message.contains("fetch a new snapshot: "), "{message}");
    assert!(
        message.contains("next: run the same command again"),
        "{message}"
    );
    assert_eq!(fs::read(&to).unwrap(), file());
    assert_eq!(names(), ["monday.snapshot"]);

    cluster.state().is_cut_off = false;
    let named = ["snapshot", "save", "snapshot-7", "--to", path, "-o", "json"];
    let document: Value = serde_json::from_str(&run(&cluster, nowhere, &named).await.ok()).unwrap();
    assert_eq!(document["snapshot"]["name"], "snapshot-7");
    assert_eq!(document["sha256"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_snapshot_is_verified_where_it_lies() {
    let cluster = cluster().await;
    cluster.state().snapshots.push("stored".to_owned());
    let directory = tempfile::tempdir().unwrap();
    let binary = server_binary(directory.path(), 0);
    let verify = |name: &'static str| ["snapshot", "verify", name];
    assert_eq!(
        run(&cluster, &binary, &verify("stored")).await.ok(),
        "every byte is as it was written: stored: 4.9 KiB, 1000 memories, position 1200\n"
    );
    let (code, message) = run(&cluster, &binary, &verify("lost")).await.failed();
    assert_eq!(code, 3);
    assert!(
        message.contains("no such file here; looked for in the backup store"),
        "{message}"
    );
    assert!(
        message.contains("`mgctl snapshot list` shows what there is"),
        "{message}"
    );

    // A file that is here is handed to the server's program, which says what it finds.
    let path = directory.path().join("monday.snapshot");
    fs::write(&path, file()).unwrap();
    let path = path.to_str().unwrap();
    let verify = ["snapshot", "verify", path, "--output", "json"];
    assert_eq!(
        run(&cluster, &binary, &verify).await.ok(),
        format!("snapshot verify {path} --output json\n")
    );
    let url = "s3://bucket/prefix/a.snapshot";
    assert_eq!(
        run(&cluster, &binary, &["snapshot", "verify", url])
            .await
            .ok(),
        format!("snapshot verify {url}\n")
    );
    let failing = server_binary(directory.path(), 1);
    let ran = run(&cluster, &failing, &verify).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
}

#[tokio::test]
async fn a_restore_is_the_work_of_the_servers_program() {
    let cluster = cluster().await;
    let directory = tempfile::tempdir().unwrap();
    let binary = server_binary(directory.path(), 0);
    let restore = ["snapshot", "restore", "a b.snapshot", "--data-dir", "data"];
    assert_eq!(
        run(&cluster, &binary, &restore).await.ok(),
        "restore --from a b.snapshot --data-dir data\n"
    );
    let (code, message) = run(&cluster, Path::new("/nonexistent"), &restore)
        .await
        .failed();
    assert_eq!(code, 1);
    assert!(message.contains("run /nonexistent"), "{message}");
}
