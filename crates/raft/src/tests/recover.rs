//! A majority is gone for good: what one member holds becomes a cluster of its own.

use std::{collections::BTreeSet, io, path::Path};

use super::{
    Bench,
    cluster::{Nodes, contents, eventually, peer_of, settings},
    copy_tree, learn, request, run,
    writers::Writers,
};
use crate::{
    MemberChange, OpenError,
    dir::DataDir,
    failpoint::Failpoints,
    recover::{RecoverError, force_new_cluster, force_with, plan},
};

/// Three nodes of which one has everything that was acknowledged; its place, and all are stopped.
async fn lose_two() -> (Nodes, usize, BTreeSet<String>) {
    let mut nodes = Nodes::form(3, &settings()).await;
    nodes.leader().await;
    let writers = Writers::begin(&nodes.running());
    writers.progress(30).await;
    let leader = nodes.leader().await;
    let kept = nodes.place_of(|handle| handle.identity().node_id == leader.identity().node_id);
    drop(leader);
    let acknowledged = writers.end().await;
    for at in 0..3 {
        nodes.stop(at).await;
    }
    (nodes, kept, acknowledged)
}

#[test]
fn one_of_three_goes_on_alone_with_everything_that_was_acknowledged() {
    run(async {
        let (mut nodes, kept, acknowledged) = lose_two().await;
        let path = nodes.path(kept).to_owned();
        let before = plan(&path).unwrap();
        assert_eq!(before.members.len(), 3);
        assert!(!before.is_alone() && !before.is_begun);
        assert!(before.applied <= before.committed && before.committed <= before.last_log);
        // Looking changes nothing.
        assert_eq!(plan(&path).unwrap(), before);
        let new = force_new_cluster(&path).unwrap();
        assert_eq!(new.node_id, before.identity.node_id);
        assert_ne!(new.cluster_id, before.identity.cluster_id);
        assert_ne!(new.incarnation, before.identity.incarnation);
        // Once is enough.
        let again = force_new_cluster(&path).unwrap_err();
        assert!(matches!(again, RecoverError::Alone { .. }), "{again}");
        assert!(plan(&path).unwrap().is_alone());
        // The others are of another cluster.
        for at in (0..3).filter(|at| *at != kept) {
            let other = DataDir::open(nodes.path(at), Some(new.cluster_id));
            let error = other.err().unwrap();
            assert!(matches!(error, OpenError::OtherCluster { .. }), "{error}");
        }
        nodes.restart(kept).await;
        let alone = nodes.handles[kept].clone().unwrap();
        assert!(alone.is_leader());
        assert_eq!(alone.identity().cluster_id, new.cluster_id);
        assert!(contents(&alone).is_superset(&acknowledged));
        let members = alone.membership().members;
        assert_eq!(members.len(), 1, "{members:?}");
        alone.propose(learn("goes on"), None).await.unwrap();
        // New nodes make it a cluster again.
        let settings = settings();
        for _ in 0..2 {
            let at = nodes.join(&settings).await;
            let node_id = nodes.handles[at].as_ref().unwrap().identity().node_id;
            let add = MemberChange::Add(peer_of(node_id));
            alone.change_members(add).await.unwrap();
            eventually("a learner that follows", || {
                let matched = alone.membership().get(node_id)?.matched?;
                (matched >= alone.metrics().last_log).then_some(())
            })
            .await;
            let promote = MemberChange::Promote { node_id };
            alone.change_members(promote).await.unwrap();
        }
        nodes.agree().await;
        nodes.stop(kept).await;
        nodes.leader().await;
        nodes.any().propose(learn("without"), None).await.unwrap();
        assert!(contents(&nodes.any()).is_superset(&acknowledged));
        nodes.shutdown().await;
    });
}

#[test]
fn a_recovery_that_breaks_off_is_gone_on_with() {
    run(async {
        let (nodes, kept, acknowledged) = lose_two().await;
        let whole = nodes.path(kept).to_owned();
        let steps = [
            "recover: intent",
            "recover: log",
            "recover: state",
            "recover: snapshots",
            "recover: identity",
        ];
        for step in steps {
            let mut bench = Bench::new();
            bench.settings = settings();
            copy_tree(&whole, &bench.path);
            let failpoints = Failpoints::new(move |at| {
                if at == step {
                    return Err(io::Error::other("power cut"));
                }
                Ok(())
            });
            let error = force_with(&bench.path, &failpoints).unwrap_err();
            assert!(error.to_string().contains("power cut"), "{error}");
            // It does not start as one thing or the other.
            let refused = DataDir::open(&bench.path, None).err().unwrap();
            assert!(refused.to_string().contains("repeat"), "{refused}");
            assert!(plan(&bench.path).unwrap().is_begun, "{step}");
            // The same step may fail once more.
            force_with(&bench.path, &failpoints).unwrap_err();
            let new = force_new_cluster(&bench.path).unwrap();
            assert!(!bench.path.join("recovery").exists());
            let handle = bench.start().await;
            assert_eq!(handle.identity().cluster_id, new.cluster_id);
            assert!(contents(&handle).is_superset(&acknowledged), "{step}");
            handle.propose(learn("goes on"), None).await.unwrap();
            handle.shutdown().await;
        }
    });
}

#[test]
fn what_no_majority_has_acknowledged_is_kept_as_well() {
    run(async {
        let mut nodes = Nodes::form(3, &settings()).await;
        let old = nodes.leader().await;
        let node_id = old.identity().node_id;
        let kept = nodes.place_of(|handle| handle.identity().node_id == node_id);
        nodes.board.isolate(node_id);
        // The others have it or not: nobody can tell any more.
        let unheard = old.propose(learn("unheard"), Some(request(0, 1))).await;
        assert!(unheard.unwrap_err().is_unknown());
        drop(old);
        for at in 0..3 {
            nodes.stop(at).await;
        }
        let path = nodes.path(kept).to_owned();
        let found = plan(&path).unwrap();
        assert!(found.committed < found.last_log, "{found:?}");
        force_new_cluster(&path).unwrap();
        nodes.restart(kept).await;
        let alone = nodes.handles[kept].clone().unwrap();
        assert!(contents(&alone).contains("unheard"));
        // And its request id knows it.
        let again = alone.propose(learn("unheard"), Some(request(0, 1))).await;
        let again = again.unwrap();
        assert!(again.reply.index < again.index);
        nodes.shutdown().await;
    });
}

#[test]
fn what_needs_no_recovery_is_refused_and_left_alone() {
    let refused = |path: &Path| force_new_cluster(path).unwrap_err();
    let never = Bench::new();
    drop(DataDir::open(&never.path, None).unwrap());
    assert!(matches!(
        refused(&never.path),
        RecoverError::NeverFormed { .. }
    ));
    let lone = Bench::new();
    run(async {
        let handle = lone.start().await;
        let running = force_new_cluster(&lone.path).unwrap_err();
        assert!(matches!(
            running,
            RecoverError::Open(OpenError::Locked { .. })
        ));
        handle.propose(learn("x"), None).await.unwrap();
        handle.shutdown().await;
    });
    assert!(matches!(refused(&lone.path), RecoverError::Alone { .. }));
    run(async {
        let handle = lone.start().await;
        assert_eq!(contents(&handle).len(), 1);
        handle.shutdown().await;
    });
    let nowhere = refused(Path::new("/nowhere"));
    assert!(matches!(
        nowhere,
        RecoverError::Open(OpenError::Incomplete { .. })
    ));
}
