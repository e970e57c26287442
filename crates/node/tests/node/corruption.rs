//! Damaged files: what is derived is built anew and that is said; what is the truth stops the node,
//! and that is said too.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::server::{Server, Start, ask, contents, experience};

async fn learn_lessons(server: &mut Server) {
    for batch in 0..5 {
        let lessons = (0..40).map(|i| experience(&format!("lesson {}", batch * 40 + i)));
        server.learn(lessons.collect()).await;
    }
}

async fn rebuilds(server: &Server) -> bool {
    let (_, metrics) = server.http("/metrics").await;
    metrics.contains("memorygate_index_rebuilds_total 1")
}

/// Whatever is wrong with the checkpoint, the index is built anew, answers the same and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_index_checkpoint_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = dir.path().join("index/checkpoint");
    let mut server = Server::on(dir.path()).await;
    learn_lessons(&mut server).await;
    let expected = server.contents("lesson 77").await;
    server.stop().await;
    let whole = fs::read(&checkpoint).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let damaged = [
        Vec::new(),
        whole[..whole.len() / 2].to_vec(),
        b"not a checkpoint at all, but long enough to look like one".to_vec(),
        flipped(9),
        flipped(whole.len() / 3),
        flipped(whole.len() - 1),
    ];
    for (i, bytes) in damaged.into_iter().enumerate() {
        fs::write(&checkpoint, bytes).unwrap();
        let mut server = Server::on(dir.path()).await;
        assert!(rebuilds(&server).await, "damage {i}");
        assert_eq!(server.contents("lesson 77").await, expected, "damage {i}");
        server.stop().await;
    }
    let server = Server::on(dir.path()).await;
    assert!(!rebuilds(&server).await, "the last one was written anew");
    server.stop().await;
}

/// Files below `dir` whose names end so, largest first.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    found
}

/// Why a node on damaged data refuses to start, or stops as soon as it meets the damage. None if
/// it answers: then it must answer as an undamaged one.
async fn refusal(dir: &Path) -> Option<String> {
    let node = match Start::new(dir).node().await {
        Err(error) => return Some(format!("{error:#}")),
        Ok(node) => node,
    };
    let mut client = crate::server::client(&node).await;
    let request = memorygate_proto::v1::ListRequest {
        page_size: 1000,
        ..Default::default()
    };
    let listed = client.list(request).await;
    let recalled = client.recall(ask("lesson 77")).await;
    let reason = if let (Ok(listed), Ok(recalled)) = (listed, recalled) {
        assert_eq!(listed.get_ref().memories.len(), 200);
        assert_eq!(contents(recalled.get_ref())[0], "lesson 77");
        None
    } else {
        let patience = std::time::Duration::from_secs(60);
        let reason = tokio::time::timeout(patience, node.failed()).await;
        Some(reason.expect("a node that meets damage fails"))
    };
    node.shutdown().await;
    reason
}

/// A copy of a directory that no server uses, so that each damage meets the same data.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Bytes of a table from its first block to the last one before its index and footer.
fn damage_every_block(table: &Path) {
    let mut bytes = fs::read(table).unwrap();
    let blocks = bytes.len() - bytes.len().min(2048);
    let first = 16.min(bytes.len() / 2);
    (first..blocks.max(first + 1))
        .step_by(97)
        .for_each(|at| bytes[at] ^= 0xff);
    fs::write(table, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_rocksdb_file_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let mut server = Server::on(&whole).await;
    learn_lessons(&mut server).await;
    server.stop().await;
    // A restart flushes what was in memory, so that there are tables to damage.
    Server::on(&whole).await.stop().await;
    let mut served = Vec::new();
    let ends = [".sst", "CURRENT", "current", "identity"];
    let read = ends.iter().flat_map(|end| files(&whole, end));
    let manifests = files(&whole, "").into_iter().filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("MANIFEST-")
    });
    for (i, file) in read.chain(manifests).enumerate() {
        let damaged = dir.path().join(format!("damaged-{i}"));
        copy(&whole, &damaged);
        let copied = damaged.join(file.strip_prefix(&whole).unwrap());
        damage_every_block(&copied);
        let Some(reason) = refusal(&damaged).await else {
            served.push(file);
            continue;
        };
        for what in ["check the disk", "restore", "empty"] {
            assert!(reason.contains(what), "{}: {reason}", file.display());
        }
    }
    // The change journal: a node whose index is behind reads it, `memorygate check` always does.
    assert!(served.len() <= 1, "{served:?}");
}

/// Damage that nothing has read yet is found by a check of the directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_damage_in_every_table() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let mut server = Server::on(&whole).await;
    learn_lessons(&mut server).await;
    server.stop().await;
    Server::on(&whole).await.stop().await;
    let report = memorygate_raft::check::check(&whole).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
    assert_eq!(report.digest, report.expected_digest);
    for table in files(&whole, ".sst") {
        let intact = fs::read(&table).unwrap();
        damage_every_block(&table);
        match memorygate_raft::check::check(&whole) {
            Err(error) => assert!(error.to_string().contains("is corrupt"), "{error}"),
            Ok(report) => assert!(!report.damage.is_empty(), "{}", table.display()),
        }
        fs::write(&table, intact).unwrap();
    }
}
