//! A node that was started again is ready when it has what the cluster had by then, and not before.

use memorygate_proto::v1::LearnRequest;

use crate::{
    cluster::Cluster,
    server::{a_moment, experience, http},
};

/// Writes of the test, and lessons in each: enough that a node that lacks them is seen to.
const BATCHES: usize = 40;
const LESSONS: usize = 50;

async fn ready(cluster: &Cluster, at: usize, check: &str) -> (u16, String) {
    let node = cluster.nodes[at].as_ref().unwrap();
    let path = format!("/readyz{check}");
    http(&node.http_address().to_string(), &path).await
}

/// What was committed while it was away.
async fn write(cluster: &Cluster, at: usize) -> u64 {
    let mut client = cluster.client(at).await;
    let mut last = 0;
    for batch in 0..BATCHES {
        let lessons = (0..LESSONS).map(|n| experience(&format!("lesson {n} of batch {batch}")));
        let request = LearnRequest {
            experiences: lessons.collect(),
            ..LearnRequest::default()
        };
        let learned = client.learn(request).await.unwrap().into_inner();
        last = learned.position.unwrap().index;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_is_ready_once_it_has_what_was_committed() {
    let mut cluster = Cluster::formed(3).await;
    let behind = (cluster.leader().await + 1) % 3;
    cluster.stop(behind).await;
    let last = write(&cluster, (behind + 1) % 3).await;
    cluster.restart(behind).await;
    while ready(&cluster, behind, "").await.0 != 200 {
        a_moment().await;
    }
    let backend = cluster.nodes[behind].as_ref().unwrap().backend().clone();
    assert!(backend.raft.position() >= last);
    assert!(backend.index.position() >= last);
    drop(backend);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_a_leader_its_state_and_its_index() {
    let mut cluster = Cluster::formed(3).await;
    let behind = (cluster.leader().await + 1) % 3;
    let others = [(behind + 1) % 3, (behind + 2) % 3];
    cluster.stop(behind).await;
    let last = write(&cluster, others[0]).await;
    for at in others {
        cluster.stop(at).await;
    }
    // Nobody can say what is committed, and the index is what it was.
    cluster.restart(behind).await;
    let backend = cluster.nodes[behind].as_ref().unwrap().backend().clone();
    backend.index.ready().await.unwrap();
    // It knows who led last.
    let (code, text) = ready(&cluster, behind, "/raft").await;
    let why = "the leader has not said yet what is committed\n";
    assert_eq!((code, text.as_str()), (503, why));
    // As long as somebody looks at it, it does not move on.
    let view = backend.index.view().unwrap();
    assert!(view.position() < last);
    for at in others {
        cluster.restart(at).await;
    }
    cluster.leader().await;
    while ready(&cluster, behind, "/raft").await.0 != 200 {
        a_moment().await;
    }
    assert!(backend.raft.position() >= last);
    let (code, text) = ready(&cluster, behind, "").await;
    assert_eq!(code, 503, "{text}");
    assert!(
        text.contains("[-]index failed: index has the log up to"),
        "{text}"
    );
    drop(view);
    while ready(&cluster, behind, "").await.0 != 200 {
        a_moment().await;
    }
    assert!(backend.index.position() >= last);
    drop(backend);
    cluster.shutdown().await;
}
