//! Replicas are compared at one position, whatever is written meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use memorygate_core::{
    key::Key,
    state::{Digests, RowKey},
};
use tokio::time::sleep;

use super::{
    Bench,
    cluster::{Nodes, eventually, settings},
    expire, learn, learn_in, namespace, run,
};
use crate::{DigestError, Handle, StateDigests};

/// What all running nodes say of one position, in their order.
async fn compare(nodes: &Nodes, position: u64) -> Vec<Arc<StateDigests>> {
    let mut all = Vec::new();
    for handle in nodes.running() {
        all.push(handle.digests_at(position).await.unwrap());
    }
    all
}

/// Writes until it is told to end.
fn keep_writing(handle: Handle, is_over: Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    tokio::spawn(async move {
        let mut written = 0;
        while !is_over.load(Ordering::SeqCst) {
            let name = format!("n{}", written % 3);
            let content = format!("{} {written}", handle.identity().node_id);
            handle
                .propose(learn_in(&name, &content), None)
                .await
                .unwrap();
            written += 1;
        }
        written
    })
}

#[test]
fn all_replicas_read_the_same_state_at_a_marker() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        nodes.leader().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = nodes
            .running()
            .into_iter()
            .map(|handle| keep_writing(handle, is_over.clone()))
            .collect();
        let mut before = 0;
        for marker in nodes.running() {
            sleep(Duration::from_millis(50)).await;
            let position = marker.mark().await.unwrap();
            let digests = compare(&nodes, position).await;
            for each in &digests {
                assert_eq!(each, &digests[0]);
                assert!(each.is_as_counted());
                assert_eq!(each.position, position);
            }
            assert!(digests[0].found.rows > before, "what was written is in it");
            before = digests[0].found.rows;
            // Asked again, nothing is read again.
            let again = marker.digests_at(position).await.unwrap();
            assert!(digests.iter().any(|digests| Arc::ptr_eq(digests, &again)));
        }
        is_over.store(true, Ordering::SeqCst);
        for writer in writers {
            assert!(writer.await.unwrap() > 0);
        }
        nodes.agree().await;
        nodes.shutdown().await;
    });
}

#[test]
fn a_row_that_changed_on_one_disk_is_found_and_its_namespace_named() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        let leader = nodes.leader().await;
        for name in ["a", "b", "c"] {
            leader.propose(learn_in(name, "x"), None).await.unwrap();
        }
        nodes.agree().await;
        let damaged = nodes.followers().await[0].clone();
        let first = |handle: &Handle| -> (Key, Vec<u8>) {
            let snapshot = handle.state().snapshot();
            let (key, memory) = snapshot.list(&namespace("b"), None, 1).unwrap().remove(0);
            (key, minicbor::to_vec(&memory).unwrap())
        };
        let (key, mut bytes) = first(&damaged);
        let at = bytes.iter().position(|byte| *byte == b'x').unwrap();
        bytes[at] ^= 1;
        damaged
            .state()
            .overwrite(&RowKey::Memory(namespace("b"), key), &bytes);
        let position = leader.mark().await.unwrap();
        let sound = leader.digests_at(position).await.unwrap();
        let bad = damaged.digests_at(position).await.unwrap();
        assert!(sound.is_as_counted() && !bad.is_as_counted());
        assert_eq!(bad.counted, sound.counted);
        let (sound, bad) = (sound.found.by_name(), bad.found.by_name());
        let names: Vec<&str> = sound.keys().map(String::as_str).collect();
        assert_eq!(names, [Digests::OUTSIDE, "a", "b", "c"]);
        let differ: Vec<&str> = names
            .into_iter()
            .filter(|name| sound[*name] != bad[*name])
            .collect();
        assert_eq!(differ, ["b"]);
        nodes.shutdown().await;
    });
}

#[test]
fn what_is_not_held_for_a_position_says_why() {
    run(async {
        let bench = Bench::new();
        let node = bench.start().await;
        let refused = async |position| node.digests_at(position).await.unwrap_err();
        let learned = node.propose(learn("x"), None).await.unwrap().index;
        assert_eq!(
            refused(learned).await,
            DigestError::NotHeld { position: learned }
        );
        let first = node.mark().await.unwrap();
        let kept = node.mark().await.unwrap();
        for _ in 0..3 {
            node.mark().await.unwrap();
        }
        // Newer ones pushed the first out.
        assert_eq!(
            refused(first).await,
            DigestError::NotHeld { position: first }
        );
        let digests = node.digests_at(kept).await.unwrap();
        assert!(digests.is_as_counted());
        let waiting = tokio::spawn({
            let node = node.clone();
            async move { node.digests_at(1_000).await }
        });
        node.propose(expire(), None).await.unwrap();
        node.shutdown().await;
        let stopped = waiting.await.unwrap().unwrap_err();
        assert!(matches!(stopped, DigestError::Stopped(_)), "{stopped}");
    });
}

#[test]
fn a_replica_that_got_a_snapshot_past_the_marker_says_so() {
    run(async {
        let settings = crate::Settings {
            log_entries_kept: 5,
            ..settings()
        };
        let mut nodes = Nodes::form(3, &settings).await;
        let away = nodes.stop_a_follower().await;
        let leader = nodes.leader().await;
        let position = leader.mark().await.unwrap();
        // The log is shortened by some hundred entries at a time.
        for n in 0..300 {
            leader.propose(learn(&n.to_string()), None).await.unwrap();
        }
        leader.snapshot_now().await.unwrap();
        eventually("a shorter log", || {
            (leader.metrics().purged > position).then_some(())
        })
        .await;
        nodes.restart(away).await;
        let back = nodes.handles[away].clone().unwrap();
        let skipped = back.digests_at(position).await.unwrap_err();
        let DigestError::Skipped { installed, .. } = skipped else {
            panic!("{skipped}");
        };
        assert!(installed > position);
        assert!(
            skipped.to_string().contains("mark a new position"),
            "{skipped}"
        );
        let again = back.mark().await.unwrap();
        let digests = compare(&nodes, again).await;
        assert!(digests.iter().all(|each| each == &digests[0]));
        nodes.shutdown().await;
    });
}
