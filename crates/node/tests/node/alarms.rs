//! What is wrong with one member is known to all, and a disk that is nearly full stops the writes of
//! all.

use std::{net::TcpListener, sync::atomic::Ordering};

use memorygate_core::{name::Namespace, state::RowKey};
use memorygate_proto::v1::{
    AlarmKind, ClearAlarmsRequest, ClusterAlarm, LearnRequest, ListAlarmsRequest, StatusRequest,
    VerifyRequest, VerifyResponse,
};

use crate::{
    cluster::{Cluster, Operator, eventually, learn},
    server::{a_moment, ask, contents, experience, failure, http},
};

async fn alarms(operator: &mut Operator) -> Vec<ClusterAlarm> {
    let listed = operator.list_alarms(ListAlarmsRequest {}).await.unwrap();
    listed.into_inner().alarms
}

/// Waits until a node has this alarm and returns it.
async fn alarm(operator: &mut Operator, node_id: u64, kind: AlarmKind) -> ClusterAlarm {
    let node_id = format!("{node_id:016x}");
    loop {
        let listed = alarms(operator).await.into_iter();
        let mut of_it = listed.filter(|alarm| alarm.node_id == node_id && alarm.kind() == kind);
        if let Some(alarm) = of_it.next() {
            return alarm;
        }
        a_moment().await;
    }
}

async fn until_no_alarm(operator: &mut Operator) {
    while !alarms(operator).await.is_empty() {
        a_moment().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_full_disk_refuses_the_writes_of_all_and_room_takes_them_again() {
    let cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    let full = (leader + 1) % 3;
    let mut client = cluster.client((leader + 2) % 3).await;
    let position = learn(&mut client, "before").await;
    let reserve = memorygate_raft::Settings::default().disk_reserve_bytes;
    cluster.disks[full].0.store(reserve - 1, Ordering::SeqCst);
    let lesson = LearnRequest {
        experiences: vec![experience("while one disk is full")],
        ..LearnRequest::default()
    };
    let refused = loop {
        match client.learn(lesson.clone()).await {
            Ok(_) => a_moment().await,
            Err(status) => break status,
        }
    };
    let (text, details) = failure(&refused);
    assert_eq!(text, "ResourceExhausted STORAGE_FULL");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    let info = details.error_info().unwrap();
    let named = format!("{:016x}", cluster.id(full));
    assert_eq!(info.metadata["outcome"], "failed");
    assert_eq!(info.metadata["node_id"], named);
    assert!(refused.message().contains(&named), "{refused}");
    for at in 0..3 {
        let mut operator = cluster.operator(at).await;
        let raised = alarm(&mut operator, cluster.id(full), AlarmKind::DiskFull).await;
        assert!(raised.reason.contains("bytes"), "{raised:?}");
        let status = operator
            .status(StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        assert!(!status.is_writable);
        // Reads go on.
        let mut question = ask("before");
        question.at_least = Some(position.clone());
        let found = cluster.client(at).await.recall(question).await.unwrap();
        assert!(contents(&found.into_inner()).contains(&"before".to_owned()));
    }
    // It cannot be cleared while the cause is there.
    let mut operator = cluster.operator(leader).await;
    let cleared = operator.clear_alarms(ClearAlarmsRequest::default()).await;
    assert_eq!(cleared.unwrap().into_inner().cleared, 0);
    alarm(&mut operator, cluster.id(full), AlarmKind::DiskFull).await;

    // A little room is not enough, so that it does not go to and fro.
    let back = reserve / 4 * 5;
    cluster.disks[full].0.store(back - 1, Ordering::SeqCst);
    let node = cluster.nodes[full].as_ref().unwrap();
    while node.backend().raft.metrics().disk_free_bytes != back - 1 {
        a_moment().await;
    }
    assert!(node.backend().raft.storage_full().is_some());
    cluster.disks[full].0.store(back, Ordering::SeqCst);
    while client.learn(lesson.clone()).await.is_err() {
        a_moment().await;
    }
    for at in 0..3 {
        until_no_alarm(&mut cluster.operator(at).await).await;
    }
    cluster.agree().await;
    cluster.shutdown().await;
}

/// A member that finds its files damaged is out of service; the others say so until it is back or an
/// operator has seen it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_damaged_files_is_known_to_the_others() {
    let mut cluster = Cluster::formed(3).await;
    let damaged = (cluster.leader().await + 1) % 3;
    let others = [(damaged + 1) % 3, (damaged + 2) % 3];
    let node_id = cluster.id(damaged);
    learn(&mut cluster.client(damaged).await, "before").await;
    cluster.agree().await;
    cluster.stop(damaged).await;
    let current = find(&cluster.data(damaged), "CURRENT");
    let whole = std::fs::read(&current).unwrap();
    std::fs::write(&current, "garbage").unwrap();
    free(&cluster.peers[damaged]).await;
    let Err(refused) = cluster.start(damaged).node().await else {
        panic!("a damaged node starts");
    };
    assert!(format!("{refused:#}").contains("corrupt"), "{refused:#}");
    for at in others {
        let mut operator = cluster.operator(at).await;
        let raised = alarm(&mut operator, node_id, AlarmKind::Corrupt).await;
        assert!(raised.reason.contains("corrupt"), "{raised:?}");
        assert!(!raised.remedy.is_empty());
        let address = cluster.nodes[at].as_ref().unwrap().http_address();
        let (_, metrics) = http(&address.to_string(), "/metrics").await;
        assert!(
            metrics.contains("memorygate_alarms{kind=\"corrupt\"} 1"),
            "{metrics}"
        );
    }
    // Cleared at one, cleared at all.
    let mut operator = cluster.operator(others[0]).await;
    for (request, cleared) in [
        (
            ClearAlarmsRequest {
                node_id: format!("{:016x}", cluster.id(others[0])),
                ..ClearAlarmsRequest::default()
            },
            0,
        ),
        (
            ClearAlarmsRequest {
                kind: AlarmKind::Corrupt.into(),
                ..ClearAlarmsRequest::default()
            },
            1,
        ),
    ] {
        let answer = operator.clear_alarms(request).await.unwrap();
        assert_eq!(answer.into_inner().cleared, cleared);
    }
    for at in others {
        until_no_alarm(&mut cluster.operator(at).await).await;
    }
    // Raised again, and taken off when the member is back.
    free(&cluster.peers[damaged]).await;
    assert!(cluster.start(damaged).node().await.is_err());
    alarm(&mut operator, node_id, AlarmKind::Corrupt).await;
    std::fs::write(&current, whole).unwrap();
    free(&cluster.peers[damaged]).await;
    cluster.clock.advance(1_000);
    cluster.restart(damaged).await;
    for at in 0..3 {
        until_no_alarm(&mut cluster.operator(at).await).await;
    }
    let unknown = ClearAlarmsRequest {
        kind: 99,
        ..ClearAlarmsRequest::default()
    };
    let refused = operator.clear_alarms(unknown).await.unwrap_err();
    assert_eq!(failure(&refused).0, "InvalidArgument INVALID kind");
    cluster.shutdown().await;
}

/// Changes what one replica holds of a namespace, as a disk that lies would.
fn damage(cluster: &Cluster, at: usize, name: &str) {
    let backend = cluster.nodes[at].as_ref().unwrap().backend();
    let name = Namespace::parse(name).unwrap();
    let snapshot = backend.raft.state().snapshot();
    let (key, memory) = snapshot.list(&name, None, 1).unwrap().remove(0);
    let mut row = minicbor::to_vec(&memory).unwrap();
    let content = memory.content.as_bytes();
    let place = row.windows(content.len()).position(|part| part == content);
    row[place.unwrap()] ^= 1;
    let state = backend.raft.state();
    state.overwrite(&RowKey::Memory(name, key), &row);
}

async fn verify(operator: &mut Operator) -> VerifyResponse {
    let verified = operator.verify(VerifyRequest {}).await;
    verified.unwrap().into_inner()
}

/// Found by comparing, named with its namespace, out of service and refused, and then replaced by
/// itself once its directory was emptied.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_differs_from_the_others_is_out_of_service_until_it_is_a_new_one() {
    for leads in [false, true] {
        let mut cluster = Cluster::formed(3).await;
        let leader = cluster.leader().await;
        let damaged = (leader + usize::from(!leads)) % 3;
        let others = [(damaged + 1) % 3, (damaged + 2) % 3];
        let mut client = cluster.client(others[0]).await;
        for name in ["sound", "hurt"] {
            let lesson = LearnRequest {
                namespace: name.to_owned(),
                experiences: vec![experience("what was learned")],
                ..LearnRequest::default()
            };
            client.learn(lesson).await.unwrap();
        }
        cluster.agree().await;
        let mut operator = cluster.operator(others[0]).await;
        assert!(verify(&mut operator).await.is_equal);
        damage(&cluster, damaged, "hurt");
        let node_id = cluster.id(damaged);
        let named = format!("{node_id:016x}");
        let verified = verify(&mut operator).await;
        assert!(!verified.is_equal);
        assert_eq!(verified.different_namespaces, ["hurt"]);
        for member in &verified.members {
            assert_eq!(member.matches_own_count, member.node_id != named);
        }
        for at in others {
            let mut operator = cluster.operator(at).await;
            let raised = alarm(&mut operator, node_id, AlarmKind::Diverged).await;
            assert!(raised.reason.contains("differs"), "{raised:?}");
            assert!(
                raised.remedy.contains("empty its data directory"),
                "{raised:?}"
            );
        }
        // It says so itself, and the server's program stops then.
        let failed = cluster.nodes[damaged].as_ref().unwrap().failed().await;
        assert!(failed.contains("differs from what"), "{failed}");
        let address = cluster.nodes[damaged].as_ref().unwrap().http_address();
        assert_eq!(http(&address.to_string(), "/livez").await.0, 503);
        assert_eq!(http(&address.to_string(), "/readyz").await.0, 503);
        cluster.stop(damaged).await;
        free(&cluster.peers[damaged]).await;
        let Err(refused) = cluster.start(damaged).node().await else {
            panic!("a replica that differs starts again");
        };
        let text = format!("{refused:#}");
        assert!(text.contains("is out of service"), "{text}");
        assert!(text.contains("let the node join as a new member"), "{text}");
        // The others go on.
        cluster.leader().await;
        learn(&mut client, "meanwhile").await;
        alarm(&mut operator, node_id, AlarmKind::Diverged).await;

        std::fs::remove_dir_all(cluster.data(damaged)).unwrap();
        free(&cluster.peers[damaged]).await;
        cluster.restart(damaged).await;
        assert_ne!(cluster.id(damaged), node_id);
        for at in 0..3 {
            until_no_alarm(&mut cluster.operator(at).await).await;
        }
        let back = cluster.nodes[damaged].as_ref().unwrap();
        back.ready().await.unwrap();
        let found = cluster.client(damaged).await.recall(ask("meanwhile")).await;
        assert!(contents(&found.unwrap().into_inner()).contains(&"meanwhile".to_owned()));
        cluster.agree().await;
        assert!(verify(&mut operator).await.is_equal);
        cluster.shutdown().await;
    }
}

/// Waits until nothing listens on an address any more.
async fn free(address: &str) {
    eventually("a free address", || TcpListener::bind(address).ok()).await;
}

/// The first file with this name.
fn find(dir: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().is_some_and(|has| has == name) {
                return path;
            }
        }
    }
    panic!("no file is called {name}");
}
