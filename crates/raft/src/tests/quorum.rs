//! A leader that a majority does not hear, or that does not hear a majority, is none.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    cluster::{Nodes, eventually, settings},
    learn, request, run,
    writers::Writers,
};
use crate::{Handle, ProposeError, Role};

fn node_id(handle: &Handle) -> u64 {
    handle.identity().node_id
}

fn others(nodes: &Nodes, one: &Handle) -> Vec<Handle> {
    let mut running = nodes.running();
    running.retain(|handle| node_id(handle) != node_id(one));
    running
}

#[test]
fn a_leader_alone_takes_no_writes_and_is_none() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        let old = nodes.leader().await;
        let applied = old.propose(learn("before"), None).await.unwrap();
        nodes.board.isolate(node_id(&old));
        // What it took before it knew is unknown, and that is said before its time is up.
        let taken = old.propose(learn("taken"), Some(request(0, 1))).await;
        assert!(
            matches!(&taken, Err(ProposeError::Unknown { reason }) if reason.contains("majority")),
            "{taken:?}"
        );
        let metrics = old.metrics();
        assert_eq!((metrics.role, metrics.leader), (Role::Candidate, None));
        assert!(!old.is_leader());
        // What it does not take has failed.
        let refused = old.propose(learn("refused"), None).await.unwrap_err();
        assert!(
            matches!(refused, ProposeError::NoQuorum { .. }),
            "{refused:?}"
        );
        assert!(
            refused.to_string().contains("try another node"),
            "{refused}"
        );
        let rest = others(&nodes, &old);
        let new = nodes.leader_among(&rest).await;
        new.propose(learn("after"), None).await.unwrap();
        nodes.board.heal();
        nodes.agree().await;
        // The id tells what became of it: it was not done before, so it is done now.
        let again = old.propose(learn("taken"), Some(request(0, 1))).await;
        assert!(again.unwrap().reply.result.is_ok());
        assert!(applied.index < nodes.any().position());
        let snapshot = nodes.any().state().snapshot();
        let contents: Vec<String> = snapshot
            .memories(None, 100)
            .unwrap()
            .into_iter()
            .map(|memory| memory.memory.content)
            .collect();
        assert!(!contents.iter().any(|content| content == "refused"));
        nodes.shutdown().await;
    });
}

#[test]
fn all_alone_nobody_leads_until_they_meet_again() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        let writers = Writers::begin(&nodes.running());
        writers.progress(20).await;
        for handle in nodes.running() {
            nodes.board.isolate(node_id(&handle));
        }
        eventually("no leader", || {
            nodes.running().iter().all(|h| !h.is_leader()).then_some(())
        })
        .await;
        nodes.board.heal();
        writers.progress(20).await;
        writers.end_and_check(&nodes).await;
        nodes.shutdown().await;
    });
}

/// Cuts the lines `from` it, or `to` it, of the leader.
async fn one_way(cut_answers: bool) {
    let nodes = Nodes::form(3, &settings()).await;
    let old = nodes.leader().await;
    let rest = others(&nodes, &old);
    let writers = Writers::begin(&nodes.running());
    writers.progress(20).await;
    for other in &rest {
        if cut_answers {
            nodes.board.cut_one_way(node_id(other), node_id(&old));
        } else {
            nodes.board.cut_one_way(node_id(&old), node_id(other));
        }
    }
    eventually("the old leader is none", || {
        (!old.is_leader()).then_some(())
    })
    .await;
    nodes.leader_among(&rest).await;
    writers.progress(20).await;
    nodes.board.heal();
    writers.progress(20).await;
    writers.end_and_check(&nodes).await;
    nodes.shutdown().await;
}

#[test]
fn a_leader_that_is_heard_and_does_not_hear_is_replaced() {
    run(one_way(true));
}

#[test]
fn a_leader_that_hears_and_is_not_heard_is_replaced() {
    run(one_way(false));
}

#[test]
fn a_ring_in_which_each_hears_a_different_majority_takes_writes() {
    run(async {
        let nodes = Nodes::form(5, &settings()).await;
        nodes.leader().await;
        let writers = Writers::begin(&nodes.running());
        writers.progress(20).await;
        let ids: Vec<u64> = nodes.running().iter().map(node_id).collect();
        for (at, from) in ids.iter().enumerate() {
            for (other, to) in ids.iter().enumerate() {
                let apart = at.abs_diff(other);
                if apart == 2 || apart == 3 {
                    nodes.board.cut_one_way(*from, *to);
                }
            }
        }
        writers.progress(50).await;
        nodes.board.heal();
        writers.end_and_check(&nodes).await;
        nodes.shutdown().await;
    });
}

#[test]
fn nothing_is_lost_when_lines_come_and_go() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        nodes.leader().await;
        let writers = Writers::begin(&nodes.running());
        let handles = nodes.running();
        for (round, pause_ms) in [300, 900, 50, 1_500, 700, 100, 1_200, 400]
            .into_iter()
            .enumerate()
        {
            let leader = handles.iter().find(|handle| handle.is_leader());
            let cut = leader.unwrap_or(&handles[round % 3]);
            if round % 2 == 0 {
                nodes.board.isolate(node_id(cut));
            } else {
                nodes
                    .board
                    .cut_one_way(node_id(&handles[round % 3]), node_id(cut));
            }
            sleep(Duration::from_millis(pause_ms)).await;
            nodes.board.heal();
            sleep(Duration::from_millis(pause_ms / 2)).await;
        }
        writers.progress(20).await;
        writers.end_and_check(&nodes).await;
        nodes.shutdown().await;
    });
}

/// A waiting call ends when the node learns of the next leader, not when its time is up.
#[test]
fn a_write_that_an_old_leader_does_not_answer_is_asked_of_the_next() {
    run(async {
        let settings = crate::Settings {
            propose_timeout_ms: 600_000,
            ..settings()
        };
        let nodes = Nodes::form(3, &settings).await;
        let old = nodes.leader().await;
        let rest = others(&nodes, &old);
        // It takes what it is asked, and cannot say what became of it.
        for other in &rest {
            nodes.board.cut_one_way(node_id(&old), node_id(other));
        }
        let id = Some(request(0, 1));
        let applied = rest[0].propose(learn("once"), id).await.unwrap();
        assert!(applied.reply.result.is_ok());
        nodes.board.heal();
        nodes.agree().await;
        nodes.shutdown().await;
    });
}
