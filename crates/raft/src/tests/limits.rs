//! What is refused before it reaches the log.

use std::sync::{Arc, atomic::Ordering};

use memorygate_core::{
    command::{Command, Learn},
    limits::{COMMAND_BYTES_MAX, CONTENT_BYTES_MAX},
};
use tokio::task::yield_now;

use super::{Bench, Told, experience, learn, namespace, run};
use crate::{OpenError, ProposeError, SnapshotError};

#[test]
fn a_full_disk_refuses_writes_and_serves_reads_until_there_is_room() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        handle.propose(learn("before"), None).await.unwrap();
        bench.room.0.store(1_000, Ordering::SeqCst);
        let full = loop {
            // The last look at the disk serves for a moment.
            if let Some(full) = handle.storage_full() {
                break full;
            }
            yield_now().await;
        };
        assert_eq!(full.free_bytes, 1_000);
        let refused = handle.propose(learn("full"), None).await.unwrap_err();
        assert_eq!(refused, ProposeError::StorageFull(full));
        assert!(!refused.is_unknown());
        assert!(handle.linearizable().await.is_ok());
        let snapshot = handle.state().snapshot();
        assert_eq!(snapshot.memories(None, 9).unwrap().len(), 1);
        bench.room.0.store(u64::MAX, Ordering::SeqCst);
        while handle.storage_full().is_some() {
            yield_now().await;
        }
        handle.propose(learn("after"), None).await.unwrap();
        assert!(handle.fatal().borrow().is_none());
        handle.shutdown().await;
    });
}

#[test]
fn a_command_that_is_too_large_is_refused() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        let text = |n: usize| format!("{n}{}", "x".repeat(CONTENT_BYTES_MAX - 8));
        let command = Command::Learn(Learn {
            namespace: namespace("n"),
            experiences: (0..128).map(|n| experience(&text(n))).collect(),
        });
        let refused = handle.propose(command, None).await.unwrap_err();
        let ProposeError::TooLarge { actual, max } = refused else {
            panic!("{refused}");
        };
        assert!(actual > max && max == COMMAND_BYTES_MAX);
        assert_eq!(handle.metrics().in_flight, 0);
        handle.shutdown().await;
    });
}

#[test]
fn more_proposals_than_fit_are_refused_and_none_of_them_is_lost() {
    let mut bench = Bench::new();
    bench.settings.in_flight_max = 8;
    run(async {
        let handle = bench.start().await;
        let writes: Vec<_> = (0..64)
            .map(|n| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.propose(learn(&format!("{n}")), None).await })
            })
            .collect();
        let mut taken = 0;
        for write in writes {
            match write.await.unwrap() {
                Ok(_) => taken += 1,
                Err(error) => {
                    assert!(matches!(error, ProposeError::Overloaded { .. }), "{error}");
                    assert!(!error.is_unknown());
                }
            }
        }
        assert!(taken >= 8, "{taken}");
        let memories = handle.state().snapshot().memories(None, 100).unwrap();
        assert_eq!(memories.len(), taken);
        assert_eq!(handle.metrics().in_flight, 0);
        assert_eq!(handle.metrics().in_flight_bytes, 0);
        handle.shutdown().await;
    });
}

#[test]
fn bytes_in_flight_are_bounded_too() {
    let mut bench = Bench::new();
    bench.settings.in_flight_bytes_max = COMMAND_BYTES_MAX as u64;
    run(async {
        let handle = bench.start().await;
        let large = |n: u32| {
            let text = |i: u32| format!("{n} {i} {}", "x".repeat(60_000));
            Command::Learn(Learn {
                namespace: namespace("n"),
                experiences: (0..100).map(|i| experience(&text(i))).collect(),
            })
        };
        let (first, second) = tokio::join!(
            handle.propose(large(1), None),
            handle.propose(large(2), None)
        );
        first.unwrap();
        let refused = second.unwrap_err();
        let ProposeError::Overloaded {
            in_flight,
            in_flight_bytes,
        } = refused
        else {
            panic!("{refused}");
        };
        assert!(in_flight >= 1 && in_flight_bytes > 6_000_000);
        handle.shutdown().await;
    });
}

#[test]
fn a_caller_that_gives_up_does_not_take_its_write_back() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        let position = handle.position();
        let write = handle.propose(learn("left alone"), None);
        // The future is polled once, which hands the proposal over, and dropped.
        tokio::select! {
            biased;
            _ = write => {}
            () = std::future::ready(()) => {}
        }
        handle.wait_applied(position + 1).await.unwrap();
        let memories = handle.state().snapshot().memories(None, 9).unwrap();
        assert_eq!(memories[0].memory.content, "left alone");
        handle.shutdown().await;
    });
}

#[test]
fn an_answer_that_does_not_come_in_time_is_unknown() {
    let mut bench = Bench::new();
    bench.settings.propose_timeout_ms = 1;
    // No write of the log is done within this time.
    bench.failpoints = crate::failpoint::Failpoints::new(|step| {
        if step == "log: write" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(())
    });
    run(async {
        let handle = bench.start().await;
        let position = handle.position();
        let error = handle.propose(learn("slow"), None).await.unwrap_err();
        assert!(error.is_unknown(), "{error}");
        assert_eq!(error.to_string(), "outcome unknown: no answer within 1 ms");
        handle.wait_applied(position + 1).await.unwrap();
        handle.shutdown().await;
        let stopped = handle.propose(learn("late"), None).await.unwrap_err();
        assert_eq!(stopped.to_string(), "node is stopped: it was shut down");
    });
}

#[test]
fn two_servers_cannot_share_a_directory() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        let second = bench.open().err().unwrap();
        assert!(matches!(second, OpenError::Locked { .. }), "{second}");
        handle.propose(learn("x"), None).await.unwrap();
        handle.shutdown().await;
    });
    assert!(bench.open().is_ok());
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_made() {
    let mut bench = Bench::new();
    bench.settings.heartbeat_ms = 1;
    let error = bench.open().err().unwrap();
    assert_eq!(error.to_string(), "heartbeat_ms is 1, expected at least 10");
    assert!(!bench.path.exists());
}

#[test]
fn a_snapshot_of_nothing_new_is_the_last_one() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        handle.propose(learn("x"), None).await.unwrap();
        let (first, second) = tokio::join!(handle.snapshot_now(), handle.snapshot_now());
        let first = first.unwrap();
        assert_eq!(Ok(first.clone()), second);
        assert_eq!(first.position, handle.position());
        assert!(first.path.is_dir() && first.bytes > 0);
        assert_eq!(handle.metrics().snapshot, first.position);
        handle.shutdown().await;
        let stopped = handle.snapshot_now().await.unwrap_err();
        assert!(matches!(stopped, SnapshotError::Stopped(_)), "{stopped}");
    });
}

#[test]
fn the_log_is_purged_behind_a_snapshot_and_the_node_starts_from_what_is_left() {
    let mut bench = Bench::new();
    bench.settings.log_entries_kept = 5;
    bench.settings.journal_positions_max = 16;
    bench.settings.log_cache_bytes = 1;
    let before = run(async {
        let handle = bench.start().await;
        for n in 0..600 {
            handle.propose(learn(&format!("{n}")), None).await.unwrap();
        }
        let snapshot = handle.snapshot_now().await.unwrap();
        while handle.metrics().purged == 0 {
            yield_now().await;
        }
        let metrics = handle.metrics();
        assert!(metrics.purged <= snapshot.position - 5, "{metrics:?}");
        let digest = handle.state().snapshot().digest();
        handle.shutdown().await;
        digest
    });
    run(async {
        let told = Arc::new(Told::default());
        let handle = bench.start_with(told).await;
        assert!(handle.metrics().purged > 500);
        let snapshot = handle.state().snapshot();
        assert_eq!(snapshot.digest(), before);
        assert_eq!(snapshot.recompute_digest().unwrap(), before);
        let gap = snapshot.journal(100, 10).unwrap();
        assert!(matches!(gap, crate::Journal::Gap { floor } if floor > 500));
        handle.propose(learn("more"), None).await.unwrap();
        handle.shutdown().await;
    });
}
