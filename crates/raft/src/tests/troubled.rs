//! One node of several is in trouble with its disk, its clock or its load: the others go on, and
//! nothing that was acknowledged is lost.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use futures::future::join_all;
use tokio::time::sleep;

use super::{
    cluster::{Nodes, contents, eventually, settings},
    learn, run,
    writers::Writers,
};
use crate::{FatalKind, ProposeError, Role, Settings};

/// Lets the leader's or a follower's disk refuse `step`.
async fn refuse(step: &'static str, expected: FatalKind, is_leader: bool) {
    let mut nodes = Nodes::form(3, &settings()).await;
    let leader = nodes.leader().await;
    let at = nodes.place_of(|handle| handle.is_leader() == is_leader);
    let troubled = nodes.handles[at].clone().unwrap();
    let writers = Writers::begin(&nodes.running());
    writers.progress(20).await;
    nodes.fail(at, Some(step));
    let mut fatal = troubled.fatal();
    let raised = fatal.wait_for(Option::is_some).await.unwrap().clone();
    let fatal = raised.unwrap();
    assert_eq!(fatal.kind, expected, "{fatal}");
    assert!(fatal.to_string().contains("check the disk"), "{fatal}");
    eventually("it stops", || {
        (troubled.metrics().role == Role::Stopped).then_some(())
    })
    .await;
    let refused = troubled.propose(learn("no"), None).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Stopped { .. }), "{refused}");
    // The writer on that node waits; the others go on.
    writers.progress(20).await;
    let acknowledged = writers.end().await;
    drop((troubled, leader));
    nodes.stop(at).await;
    nodes.fail(at, None);
    // With a disk that works again it goes on from what is there.
    nodes.restart(at).await;
    nodes.agree().await;
    for handle in nodes.running() {
        assert!(contents(&handle).is_superset(&acknowledged));
    }
    nodes.shutdown().await;
}

#[test]
fn a_follower_whose_log_is_not_synced_stops_and_the_others_go_on() {
    run(refuse("log: synced", FatalKind::LogWrite, false));
}

#[test]
fn a_leader_whose_log_is_not_synced_stops_and_the_others_go_on() {
    run(refuse("log: synced", FatalKind::LogWrite, true));
}

#[test]
fn a_leader_whose_state_is_not_written_stops_and_the_others_go_on() {
    run(refuse("state: write", FatalKind::StateWrite, true));
}

#[test]
fn a_clock_that_jumps_changes_no_outcome() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    // A machine that is slow for a moment is no jump of a clock, so heartbeats may come late.
    let settings = Settings {
        election_timeout_min_ms: 6_000,
        election_timeout_max_ms: 12_000,
        ..settings()
    };
    run(async move {
        let nodes = Nodes::form(3, &settings).await;
        let leader = nodes.leader().await;
        let at = nodes.place_of(|handle| handle.is_leader());
        let (term, mut acknowledged) = (leader.metrics().term, BTreeSet::new());
        let mut log_time = leader.state().snapshot().clock();
        for (round, jump) in [0, -DAY_MS, 2 * DAY_MS, -DAY_MS, -DAY_MS]
            .into_iter()
            .enumerate()
        {
            nodes.clock(at).fetch_add(jump, Ordering::SeqCst);
            for handle in nodes.running() {
                let content = format!("{round} {}", handle.identity().node_id);
                let applied = handle.propose(learn(&content), None).await.unwrap();
                assert!(applied.reply.result.is_ok());
                acknowledged.insert(content);
            }
            nodes.agree().await;
            let now = nodes.any().state().snapshot().clock();
            assert!(now >= log_time, "the log's time goes back: {now:?}");
            log_time = now;
            // Heartbeats are measured by another clock.
            sleep(Duration::from_millis(300)).await;
        }
        assert!(log_time.0 >= DAY_MS, "it follows the clock ahead");
        assert_eq!(leader.metrics().term, term, "nobody stood for election");
        for handle in nodes.running() {
            assert_eq!(contents(&handle), acknowledged);
        }
        nodes.shutdown().await;
    });
}

#[test]
fn a_node_that_is_far_behind_catches_up_while_writes_go_on() {
    run(async {
        let settings = Settings {
            log_entries_kept: 5,
            ..settings()
        };
        let mut nodes = Nodes::form(3, &settings).await;
        let away = nodes.stop_a_follower().await;
        let leader = nodes.leader().await;
        let writers = Writers::begin(&nodes.running());
        // The log is shortened by some hundred entries at a time.
        writers.progress(400).await;
        leader.snapshot_now().await.unwrap();
        eventually("a shorter log", || {
            (leader.metrics().purged > 100).then_some(())
        })
        .await;
        nodes.restart(away).await;
        let back = nodes.handles[away].clone().unwrap();
        let goal = leader.metrics().last_log;
        let before = writers.acknowledged();
        back.wait_applied(goal).await.unwrap();
        assert!(back.metrics().snapshot > 0, "it came by snapshot");
        writers.progress(20).await;
        assert!(writers.acknowledged() > before);
        writers.end_and_check(&nodes).await;
        nodes.shutdown().await;
    });
}

#[test]
fn more_than_fits_is_refused_on_every_node_and_what_is_taken_is_done() {
    run(async {
        let settings = Settings {
            in_flight_max: 4,
            ..settings()
        };
        let nodes = Nodes::form(3, &settings).await;
        nodes.leader().await;
        let handles = nodes.running();
        let mut taken = BTreeSet::new();
        for handle in &handles {
            let node_id = handle.identity().node_id;
            let proposals = (0..64).map(async |n| {
                let content = format!("{node_id} {n}");
                (handle.propose(learn(&content), None).await, content)
            });
            let (mut done, mut refused) = (0, 0);
            for (proposed, content) in join_all(proposals).await {
                match proposed {
                    Ok(_) => {
                        taken.insert(content);
                        done += 1;
                    }
                    Err(ProposeError::Overloaded { in_flight, .. }) => {
                        assert!(in_flight <= 4, "{in_flight} at once");
                        refused += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            // Not always as many as fit: the leader may still count one that it has just answered.
            assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
        }
        nodes.agree().await;
        assert_eq!(contents(&nodes.any()), taken);
        nodes.shutdown().await;
    });
}
