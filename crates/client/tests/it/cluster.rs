//! How the client follows a cluster of several nodes.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use memorygate_client::{
    Client, Experience, Freshness, Get, Kind, List, Outcome, Recall, Settings,
    cluster::{AlarmKind, Change, Role},
};
use tonic::Status;

use memorygate_fake::{Fake, Fault, cluster::FakeCluster};

fn client<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Client {
    Client::new(settings(endpoints)).unwrap()
}

fn settings<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Settings {
    Settings {
        backoff_initial: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        // Few, so that a test in which they are counted where they should not be fails.
        attempts_max: 2,
        ..Settings::new(endpoints)
    }
}

fn lesson(text: &str) -> Experience {
    Experience::new(text, "infrastructure")
}

/// Makes calls until what is asked of the cluster is so: what a client hears of it, it hears beside
/// its calls.
async fn until(what: &str, client: &Client, is_so: impl Fn() -> bool) {
    for _ in 0..500 {
        client.stats().await.unwrap();
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 500 calls");
}

/// A client that knows all members, and a cluster that has seen no calls yet.
async fn settled(client: &Client, cluster: &FakeCluster) {
    let nodes = cluster.nodes.len();
    until("every member was asked", client, || {
        let state = cluster.state();
        (0..nodes).all(|at| state.members[at].is_away || state.asked.contains(&at))
    })
    .await;
    // The answer to the last question is on its way.
    for _ in 0..20 {
        client.stats().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.calls();
}

#[tokio::test]
async fn writes_go_to_the_leader_and_reads_to_all() {
    let cluster = FakeCluster::start(3).await;
    cluster.elect(2);
    let client = client([&cluster.addresses()[0]]);
    settled(&client, &cluster).await;
    for i in 0..6 {
        client.learn(lesson(&format!("lesson {i}"))).await.unwrap();
    }
    assert_eq!(cluster.calls(), [vec![], vec![], vec!["learn"; 6]]);
    for _ in 0..9 {
        client.recall(&Recall::new("lesson")).await.unwrap();
    }
    assert_eq!(
        cluster.calls(),
        [vec!["recall"; 3], vec!["recall"; 3], vec!["recall"; 3]]
    );
}

#[tokio::test]
async fn a_new_leader_is_followed_and_no_call_fails() {
    let mut cluster = FakeCluster::start(3).await;
    let client = client(cluster.addresses());
    settled(&client, &cluster).await;
    cluster.kill(0);
    let writes = {
        let client = client.clone();
        tokio::spawn(async move {
            for i in 0..20 {
                client.learn(lesson(&format!("lesson {i}"))).await?;
                client.recall(&Recall::new("lesson")).await?;
            }
            Ok::<_, memorygate_client::Error>(())
        })
    };
    // More rounds than attempts are allowed where they count.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!writes.is_finished(), "there is no leader");
    cluster.elect(1);
    writes.await.unwrap().unwrap();
    cluster.calls();
    client.learn(lesson("after")).await.unwrap();
    assert_eq!(cluster.calls(), [vec![], vec!["learn"], vec![]]);

    // It is used again when it is back.
    cluster.restart(0).await;
    cluster.state().asked.clear();
    until("the one that is back was asked", &client, || {
        cluster.state().asked.contains(&0)
    })
    .await;
    let reads = || async {
        client.recall(&Recall::new("lesson")).await.unwrap();
        cluster.calls()[0].len()
    };
    let mut read = 0;
    for _ in 0..100 {
        read += reads().await;
    }
    assert!(read > 0, "the one that is back serves reads");
}

#[tokio::test]
async fn a_rolling_restart_with_drain_fails_no_call() {
    let mut cluster = FakeCluster::start(3).await;
    let client = client(cluster.addresses());
    settled(&client, &cluster).await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load = |worker: usize| {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut done = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let text = format!("lesson {worker} {done}");
                let key = client.learn(lesson(&text)).await?.learned[0].key;
                client.get(key).await?.expect("it was stored");
                done += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok::<_, memorygate_client::Error>(done)
        })
    };
    let workers: Vec<_> = (0..4).map(load).collect();
    for at in 0..3 {
        let id = cluster.state().members[at].node_id.clone();
        let drained = client.cluster().drain(&id).await.unwrap();
        assert!(drained.is_draining && drained.writes_in_flight == 0);
        assert_ne!(drained.leader.as_ref(), Some(&id));
        tokio::time::sleep(Duration::from_millis(30)).await;
        cluster.kill(at);
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.restart(at).await;
        until("the one that is back was asked", &client, || {
            let mut state = cluster.state();
            let was_asked = state.asked.contains(&at);
            state.asked.clear();
            was_asked
        })
        .await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for worker in workers {
        assert!(worker.await.unwrap().unwrap() > 0);
    }
}

#[tokio::test]
async fn a_node_that_is_drained_gets_no_writes_once_that_is_known() {
    let cluster = FakeCluster::start(3).await;
    let client = client(cluster.addresses());
    settled(&client, &cluster).await;
    // Nobody told the client: it is turned away once, and asks.
    {
        let mut state = cluster.state();
        state.members[0].is_draining = true;
        state.leader = Some(1);
        state.term += 1;
        state.asked.clear();
    }
    client.learn(lesson("one")).await.unwrap();
    assert_eq!(cluster.calls()[0], ["learn"], "the leader that it knew");
    until("it asked", &client, || cluster.state().asked.len() >= 3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    for i in 0..5 {
        client.learn(lesson(&format!("two {i}"))).await.unwrap();
    }
    assert_eq!(cluster.calls(), [vec![], vec!["learn"; 5], vec![]]);
}

#[tokio::test]
async fn a_node_that_hangs_or_is_behind_costs_a_read_no_failure() {
    let cluster = FakeCluster::start(3).await;
    let client = Client::new(Settings {
        timeout: Duration::from_secs(3),
        ..settings(cluster.addresses())
    })
    .unwrap();
    settled(&client, &cluster).await;
    client.learn(lesson("one")).await.unwrap();
    for hung in [false, true] {
        {
            let mut state = cluster.state();
            state.members[1].is_behind = true;
            state.members[1].is_hung = hung;
        }
        for _ in 0..6 {
            let found = client.recall(&Recall::new("one")).await.unwrap();
            assert_eq!(found.results.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_server_of_another_cluster_is_not_used() {
    let cluster = FakeCluster::start(2).await;
    let other = FakeCluster::start(1).await;
    let mut endpoints = cluster.addresses();
    endpoints.push(other.addresses()[0].clone());
    let client = client(endpoints);
    settled(&client, &cluster).await;
    until("the other was asked", &client, || {
        !other.state().asked.is_empty()
    })
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.calls();
    for _ in 0..10 {
        client.recall(&Recall::new("lesson")).await.unwrap();
    }
    assert_eq!(other.calls(), [Vec::<&str>::new()]);
}

#[tokio::test]
async fn a_client_that_only_reaches_another_cluster_sends_it_nothing() {
    let mut cluster = FakeCluster::start(1).await;
    let other = FakeCluster::start(1).await;
    let client = client([cluster.addresses(), other.addresses()].concat());
    settled(&client, &cluster).await;
    until("the other was asked", &client, || {
        !other.state().asked.is_empty()
    })
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    cluster.state().cluster_id ^= 1;
    cluster.kill(0);
    cluster.restart(0).await;
    cluster.elect(0);
    let mut error = None;
    for _ in 0..200 {
        match client.learn(lesson("one")).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(e) => {
                error = Some(e);
                break;
            }
        }
    }
    let error = error.expect("it is heard that the cluster is another one");
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Restore, Outcome::Failed),
        "{error}"
    );
    assert!(error.message().contains("another cluster"), "{error}");
    assert_eq!(other.calls(), [Vec::<&str>::new()]);
    client.reset_position();
    client.stats().await.unwrap();
}

#[tokio::test]
async fn members_that_cannot_be_reached_from_here_cost_nothing() {
    let cluster = FakeCluster::start(3).await;
    {
        let mut state = cluster.state();
        // One says nothing, one names a host that does not exist, one a port where nobody is.
        state.members[0].client_address = String::new();
        state.members[1].client_address = "no-such-host.invalid:7411".to_owned();
        state.members[2].client_address = "127.0.0.1:1".to_owned();
        state.leader = Some(2);
    }
    // As through a port-forward: only this one is there.
    let client = client([&cluster.addresses()[0]]);
    for i in 0..20 {
        client.learn(lesson(&format!("lesson {i}"))).await.unwrap();
        client.recall(&Recall::new("lesson")).await.unwrap();
    }
    assert_eq!(cluster.calls()[0].len(), 40);
}

#[tokio::test]
async fn a_client_that_is_told_not_to_follow_stays_with_its_endpoints() {
    let cluster = FakeCluster::start(3).await;
    cluster.elect(2);
    let client = Client::new(Settings {
        follow_members: false,
        ..settings([&cluster.addresses()[0]])
    })
    .unwrap();
    for i in 0..10 {
        client.learn(lesson(&format!("lesson {i}"))).await.unwrap();
        client.recall(&Recall::new("lesson")).await.unwrap();
    }
    assert_eq!(cluster.state().asked, Vec::<usize>::new());
    let calls = cluster.calls();
    assert_eq!((calls[0].len(), calls[1].len(), calls[2].len()), (20, 0, 0));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_goes_elsewhere_under_the_same_id() {
    let cluster = FakeCluster::start(3).await;
    let client = client(cluster.addresses());
    settled(&client, &cluster).await;
    cluster.nodes[0]
        .fake
        .fail([Fault::Afterwards(Status::unavailable("cut off"))]);
    let reply = client.learn(lesson("one")).await.unwrap();
    assert_eq!(
        (reply.learned[0].created, reply.learned[0].occurrences),
        (true, 1)
    );
    let ids: std::collections::BTreeSet<_> = (cluster.nodes.iter())
        .flat_map(|n| n.fake.calls())
        .map(|c| c.request_id)
        .collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_server_that_knows_no_members_is_used_as_before() {
    let (fake, address) = Fake::start().await;
    let client = client([address]);
    for i in 0..5 {
        client.learn(lesson(&format!("lesson {i}"))).await.unwrap();
        client.recall(&Recall::new("lesson")).await.unwrap();
    }
    assert_eq!(fake.calls().len(), 10);
}

#[tokio::test]
async fn a_linearizable_read_says_so() {
    let cluster = FakeCluster::start(1).await;
    let client = client(cluster.addresses());
    let key = client.learn(lesson("one")).await.unwrap().learned[0].key;
    let calls = || {
        let calls = cluster.nodes[0].fake.calls();
        calls
            .iter()
            .map(|c| (c.name, c.linearizable))
            .collect::<Vec<_>>()
    };
    calls();
    let freshness = Freshness::Linearizable;
    client
        .recall(&Recall::new("one").freshness(freshness))
        .await
        .unwrap();
    client
        .get(Get::new(key).freshness(freshness))
        .await
        .unwrap();
    client
        .list_page(&List::new().freshness(freshness))
        .await
        .unwrap();
    assert_eq!(calls(), [("recall", true), ("get", true), ("list", true)]);
    client.get(key).await.unwrap();
    assert_eq!(calls(), [("get", false)]);
    client.stats_as_of(None, freshness).await.unwrap();
    assert!(
        client
            .stats_as_of(Some("Not allowed"), freshness)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn operations_arrive_and_are_answered() {
    let cluster = FakeCluster::start(3).await;
    let client = client(cluster.addresses());
    let operator = client.cluster();
    let members = operator.members().await.unwrap();
    assert_eq!(members.members.len(), 3);
    let ids: Vec<String> = members.members.iter().map(|m| m.node_id.clone()).collect();
    assert_eq!(members.leader().unwrap().node_id, ids[0]);

    let status = operator.status().await.unwrap();
    assert!(status.is_writable);
    let report = status.leader().unwrap().report.as_ref().unwrap();
    assert_eq!((report.role, report.applied), (Some(Role::Leader), 1234));

    let change = Change::Demote {
        node_id: ids[2].clone(),
    };
    let after = operator.change_member(&change).await.unwrap();
    assert!(!after.members[2].is_voter);
    let unknown = Change::Remove {
        node_id: "00".into(),
    };
    let error = operator.change_member(&unknown).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::NotFound, Outcome::Failed)
    );

    let leadership = operator.transfer_leader(Some(&ids[1])).await.unwrap();
    assert_eq!(
        (leadership.leader.as_str(), leadership.term),
        (ids[1].as_str(), 2)
    );
    assert!(operator.drain(&ids[0]).await.unwrap().is_draining);
    assert!(!operator.resume(&ids[0]).await.unwrap().is_draining);

    let verified = operator.verify().await.unwrap();
    assert!(verified.is_equal && verified.members.len() == 3);
    assert!(operator.alarms().await.unwrap().is_empty());
    let cleared = operator
        .clear_alarms(Some(&ids[0]), Some(AlarmKind::Corrupt))
        .await;
    assert_eq!(cleared.unwrap(), 0);

    cluster.state().snapshot_file = (0..5000).map(|i| (i % 251) as u8).collect();
    let created = operator.create_snapshot().await.unwrap();
    assert_eq!(created.store, "/backups");
    let name = created.snapshot.name;
    assert_eq!(
        operator.list_snapshots().await.unwrap().snapshots[0].name,
        name
    );
    assert_eq!(operator.verify_snapshot(&name).await.unwrap().bytes, 5000);
    let (snapshot, chunks) = operator.save_snapshot(Some(&name)).await.unwrap();
    assert_eq!(snapshot.bytes, 5000);
    let file: Vec<Vec<u8>> = chunks.try_collect().await.unwrap();
    assert_eq!(file.concat(), cluster.state().snapshot_file);
    let (snapshot, mut chunks) = operator.save_snapshot(None).await.unwrap();
    assert_eq!(snapshot.name, "snapshot-new");
    assert_eq!(chunks.next().await.unwrap().unwrap().len(), 1000);
}

#[tokio::test]
async fn snapshots_are_looked_for_where_they_were_made() {
    let cluster = FakeCluster::start(3).await;
    cluster.elect(1);
    let client = client(cluster.addresses());
    settled(&client, &cluster).await;
    let operator = client.cluster();
    let name = operator.create_snapshot().await.unwrap().snapshot.name;
    operator.list_snapshots().await.unwrap();
    operator.verify_snapshot(&name).await.unwrap();
    drop(operator.save_snapshot(Some(&name)).await.unwrap());
    assert_eq!(cluster.state().asked_of_store, [1; 4]);
}

#[tokio::test]
async fn what_would_be_done_twice_is_not_repeated_after_an_unknown_outcome() {
    let cluster = FakeCluster::start(3).await;
    cluster.state().is_cut_off = true;
    let client = Client::new(Settings {
        timeout: Duration::from_secs(1),
        ..settings(cluster.addresses())
    });
    let operator = client.unwrap().cluster();
    let error = operator.transfer_leader(None).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome(), error.attempts()),
        (Kind::Retry, Outcome::Unknown, 1)
    );
    assert_eq!(cluster.state().operations, ["transfer to \"\""]);
    // This can be done twice, and is, as long as the outcome is unknown.
    let node_id = cluster.state().members[2].node_id.clone();
    let demote = Change::Demote { node_id };
    let error = operator.change_member(&demote).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(error.attempts() > 1);
}
