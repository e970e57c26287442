//! What was acknowledged is there after a stop, a crash, and a crash in the middle of things.

use std::sync::{Arc, atomic::Ordering};

use futures::future::join_all;
use memorygate_core::{
    apply::Outcome,
    state::{self, StateDigest},
};

use super::{Bench, Told, begin, experience, learn, learn_in, namespace, request, run};
use crate::{Handle, Journal, Role};

async fn learn_some(handle: &Handle, from: u32, count: u32) {
    for n in from..from + count {
        let name = if n.is_multiple_of(3) { "a" } else { "b" };
        let command = learn_in(name, &format!("lesson {n}"));
        let id = request(handle.position(), u8::try_from(n).unwrap());
        handle.propose(command, Some(id)).await.unwrap();
    }
}

fn digest(handle: &Handle) -> StateDigest {
    let snapshot = handle.state().snapshot();
    assert_eq!(
        snapshot.recompute_digest().unwrap(),
        snapshot.digest(),
        "the running digest is that of all rows"
    );
    snapshot.digest()
}

#[test]
fn a_restart_finds_the_same_state_and_leads_again() {
    let bench = Bench::new();
    let before = run(async {
        let handle = bench.start().await;
        learn_some(&handle, 0, 20).await;
        let before = (digest(&handle), *handle.identity());
        handle.shutdown().await;
        before
    });
    run(async {
        let told = Arc::new(Told::default());
        let handle = bench.start_with(told.clone()).await;
        assert_eq!((digest(&handle), *handle.identity()), before);
        let metrics = handle.metrics();
        assert_eq!(metrics.role, Role::Leader);
        assert_eq!(metrics.leader.unwrap().address, "here:1");
        assert!(metrics.term >= 2, "it stood for election again");
        learn_some(&handle, 20, 1).await;
        assert_ne!(digest(&handle), before.0);
        handle.shutdown().await;
    });
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        learn_some(&handle, 0, 5).await;
        for round in 1..4 {
            learn_some(&handle, round * 5, 5).await;
            let image = bench.crash_image();
            let replica = bench.open_at(&image).unwrap();
            assert!(replica.state().applied() >= handle.position());
            assert_eq!(replica.state().snapshot().digest(), digest(&handle));
            let told = Arc::new(Told::default());
            let again = begin(replica, told).await.unwrap();
            assert_eq!(digest(&again), digest(&handle));
            again.shutdown().await;
        }
        handle.shutdown().await;
    });
}

#[test]
fn a_state_that_lost_its_unsynced_writes_is_made_again_from_the_log() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        learn_some(&handle, 0, 10).await;
        let image = bench.crash_image();
        // The write-ahead log of the state is all there is of it, and no part of it was synced.
        let state = image.join("group-0/state/0000000001");
        for file in std::fs::read_dir(state).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "log") {
                let bytes = std::fs::read(&file).unwrap();
                std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
        let replica = bench.open_at(&image).unwrap();
        assert!(replica.state().applied() < handle.position());
        let told = Arc::new(Told::default());
        let again = begin(replica, told.clone()).await.unwrap();
        assert_eq!(digest(&again), digest(&handle));
        let effects = told.effects.lock().unwrap().len();
        assert!(effects > 0, "the index hears of what is applied again");
        again.shutdown().await;
        handle.shutdown().await;
    });
}

#[test]
fn a_process_that_just_ends_loses_nothing() {
    let bench = Bench::new();
    let before = run(async {
        let handle = bench.start().await;
        learn_some(&handle, 0, 7).await;
        // The runtime is dropped with everything in it, and nobody says good-bye.
        digest(&handle)
    });
    run(async {
        let handle = bench.start().await;
        assert_eq!(digest(&handle), before);
        handle.shutdown().await;
    });
}

#[test]
fn a_repeated_request_gets_the_first_answer_across_a_restart() {
    let bench = Bench::new();
    let id = request(0, 9);
    let first = run(async {
        let handle = bench.start().await;
        let first = handle.propose(learn("once"), Some(id)).await.unwrap();
        handle.shutdown().await;
        first
    });
    run(async {
        let handle = bench.start().await;
        let before = digest(&handle);
        let again = handle.propose(learn("once"), Some(id)).await.unwrap();
        assert_eq!(again.reply, first.reply);
        assert!(again.index > first.index);
        assert_eq!(digest(&handle), before, "it changed nothing");
        let other = handle.propose(learn("once"), None).await.unwrap();
        let Ok(Outcome::Learned(learned)) = other.reply.result else {
            panic!("not learned");
        };
        assert_eq!(learned[0].occurrences, 2);
        handle.shutdown().await;
    });
}

#[test]
fn concurrent_proposals_share_syncs() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        handle.propose(learn("first"), None).await.unwrap();
        let before = handle.metrics();
        let writes = (0..256).map(|n| {
            let handle = handle.clone();
            tokio::spawn(async move {
                handle
                    .propose(learn(&format!("lesson {n}")), None)
                    .await
                    .unwrap()
                    .index
            })
        });
        let mut indexes: Vec<u64> = join_all(writes)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        assert_eq!(indexes.len(), 256);
        let after = handle.metrics();
        let syncs = after.log_syncs - before.log_syncs;
        assert_eq!(after.log_entries - before.log_entries, 256);
        assert!(syncs < 128, "{syncs} syncs for 256 entries");
        handle.shutdown().await;
    });
}

#[test]
fn one_write_takes_one_sync() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        handle.propose(learn("first"), None).await.unwrap();
        let before = handle.metrics().log_syncs;
        for n in 0..10 {
            handle.propose(learn(&format!("{n}")), None).await.unwrap();
        }
        assert_eq!(handle.metrics().log_syncs - before, 10);
        handle.shutdown().await;
    });
}

#[test]
fn the_time_in_the_log_is_the_leaders_and_never_goes_back() {
    let bench = Bench::new();
    run(async {
        let handle = bench.start().await;
        let clock = || handle.state().snapshot().clock().0;
        handle.propose(learn("a"), None).await.unwrap();
        assert_eq!(clock(), 1_000);
        bench.now.store(5_000, Ordering::SeqCst);
        handle.propose(learn("b"), None).await.unwrap();
        assert_eq!(clock(), 5_000);
        bench.now.store(2_000, Ordering::SeqCst);
        handle.propose(learn("c"), None).await.unwrap();
        assert_eq!(clock(), 5_000);
        handle.shutdown().await;
    });
}

#[test]
fn effects_are_told_in_order_with_the_state_right_after_them() {
    let bench = Bench::new();
    run(async {
        let told = Arc::new(Told::default());
        let handle = bench.start_with(told.clone()).await;
        for n in 0..5 {
            let applied = handle.propose(learn(&format!("{n}")), None).await.unwrap();
            let effects = told.effects.lock().unwrap();
            let last = effects.last().unwrap();
            assert_eq!(last.position, applied.index);
            assert_eq!(last.snapshot.position(), applied.index);
            assert_eq!(last.clock.0, 1_000);
            let [change] = last.changes.as_slice() else {
                panic!("one memory changed");
            };
            let stored = |at: &crate::StateSnapshot| {
                state::memory(at, &change.namespace, change.key).unwrap()
            };
            assert!(stored(&last.snapshot).is_some());
            let before = &effects[effects.len() - 2].snapshot;
            assert!(stored(before).is_none(), "each snapshot is of its moment");
        }
        let positions: Vec<u64> = told
            .effects
            .lock()
            .unwrap()
            .iter()
            .map(|effects| effects.position)
            .collect();
        assert!(positions.is_sorted());
        handle.shutdown().await;
    });
}

#[test]
fn what_was_told_can_be_read_from_the_journal_after_a_restart() {
    let bench = Bench::new();
    let middle = run(async {
        let handle = bench.start().await;
        learn_some(&handle, 0, 5).await;
        let middle = handle.position();
        learn_some(&handle, 5, 5).await;
        handle.shutdown().await;
        middle
    });
    let replica = bench.open().unwrap();
    let snapshot = replica.state().snapshot();
    let Journal::Changes { changes, through } = snapshot.journal(middle, 100).unwrap() else {
        panic!("the journal reaches back");
    };
    assert_eq!((changes.len(), through), (5, snapshot.position()));
    let Journal::Changes { changes, through } = snapshot.journal(0, 3).unwrap() else {
        panic!("the journal reaches back");
    };
    assert_eq!(changes.len(), 3);
    assert!(through < middle);
    let expected = memorygate_core::key::Key::of(
        &namespace("a"),
        &experience("lesson 0").scope,
        &experience("lesson 0").domain,
        "lesson 0",
    );
    assert_eq!(
        (&changes[0].namespace, changes[0].key),
        (&namespace("a"), expected)
    );
}
