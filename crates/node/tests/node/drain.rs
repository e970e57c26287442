//! A node that is drained: it leads no more, takes no writes, answers reads, and can be stopped
//! without anybody's noticing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use memorygate_proto::v1::{
    DrainRequest, LearnRequest, ListRequest, MembersRequest, TransferLeaderRequest,
    memory_gate_client::MemoryGateClient,
};
use tonic::{Code, transport::Endpoint};

use crate::{
    cluster::{Cluster, learn},
    server::{Server, a_moment, ask, contents, experience, failure, http},
};

fn drain(node_id: u64, resume: bool) -> DrainRequest {
    DrainRequest {
        node_id: format!("{node_id:016x}"),
        resume,
    }
}

fn lesson(content: &str) -> LearnRequest {
    LearnRequest {
        experiences: vec![experience(content)],
        ..LearnRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_leader_hands_over_and_answers_reads_alone() {
    let cluster = Cluster::formed(3).await;
    let (old, other) = (cluster.leader().await, (cluster.leader().await + 1) % 3);
    let mut client = cluster.client(old).await;
    let position = learn(&mut client, "before").await;
    // Whoever is asked, the one that is named drains.
    let mut operator = cluster.operator(other).await;
    let drained = operator.drain(drain(cluster.id(old), false)).await;
    let drained = drained.unwrap().into_inner();
    assert_eq!(drained.node_id, format!("{:016x}", cluster.id(old)));
    assert!(drained.is_draining);
    assert_eq!(drained.writes_in_flight, 0);
    let new = cluster.leader().await;
    assert_ne!(new, old);
    assert_eq!(drained.leader, format!("{:016x}", cluster.id(new)));

    let refused = client.learn(lesson("refused")).await.unwrap_err();
    let (text, details) = failure(&refused);
    assert_eq!(text, "Unavailable DRAINING");
    let info = details.error_info().unwrap();
    assert_eq!(info.metadata["outcome"], "failed");
    assert!(refused.message().contains("draining"), "{refused}");
    let mut question = ask("before");
    question.at_least = Some(position);
    question.linearizable = true;
    let found = client.recall(question).await.unwrap().into_inner();
    assert_eq!(contents(&found), ["before"]);

    let address = cluster.nodes[old].as_ref().unwrap().http_address();
    let (code, text) = http(&address.to_string(), "/readyz").await;
    assert_eq!(code, 503);
    assert!(text.contains("[-]drain failed: node is draining"), "{text}");
    let (_, metrics) = http(&address.to_string(), "/metrics").await;
    assert!(metrics.contains("memorygate_draining 1"), "{metrics}");
    // Whoever leads now has heard it, and does not hand leadership back.
    let mut at_new = cluster.operator(new).await;
    let named = format!("{:016x}", cluster.id(old));
    loop {
        let members = at_new.members(MembersRequest {}).await.unwrap();
        let members = members.into_inner().members;
        if members
            .iter()
            .find(|m| m.node_id == named)
            .unwrap()
            .is_draining
        {
            break;
        }
        a_moment().await;
    }
    let third = (0..3).find(|at| *at != old && *at != new).unwrap();
    at_new.drain(drain(cluster.id(new), false)).await.unwrap();
    assert_eq!(cluster.leader().await, third);
    let mut writer = cluster.client(third).await;
    learn(&mut writer, "meanwhile").await;

    let resumed = operator.drain(drain(cluster.id(old), true)).await;
    assert!(!resumed.unwrap().into_inner().is_draining);
    learn(&mut client, "after").await;
    assert_eq!(http(&address.to_string(), "/readyz").await.0, 200);
    cluster.agree().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_node_drains_and_resumes() {
    let mut server = Server::start().await;
    let mut operator = crate::cluster::operator(&server.node).await;
    let drained = operator.drain(DrainRequest::default()).await.unwrap();
    let drained = drained.into_inner();
    assert!(drained.is_draining);
    assert_eq!(drained.leader, drained.node_id, "nobody else can lead");
    let refused = server.client.learn(lesson("refused")).await.unwrap_err();
    assert_eq!(failure(&refused).0, "Unavailable DRAINING");
    let moved = operator.transfer_leader(TransferLeaderRequest::default());
    let refused = moved.await.unwrap_err();
    assert_eq!(failure(&refused).0, "FailedPrecondition LAST_VOTER");
    let unknown = operator.drain(drain(7, false)).await.unwrap_err();
    assert_eq!(failure(&unknown).0, "NotFound UNKNOWN_MEMBER");
    let garbled = DrainRequest {
        node_id: "no id".to_owned(),
        resume: false,
    };
    let garbled = operator.drain(garbled).await.unwrap_err();
    assert_eq!(failure(&garbled).0, "InvalidArgument INVALID node_id");
    let resume = DrainRequest {
        resume: true,
        ..DrainRequest::default()
    };
    operator.drain(resume).await.unwrap();
    server.learn(vec![experience("after")]).await;
}

/// Writers that go to another node when one says that a write failed never see anything else, and
/// nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_drained_and_restarted_one_after_another_under_writes() {
    const WRITERS: usize = 4;
    let mut cluster = Cluster::formed(3).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let connect = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            MemoryGateClient::new(endpoint.connect_lazy())
        };
        let mut clients: Vec<_> = cluster.grpc.iter().map(connect).collect();
        let (is_over, acknowledged) = (is_over.clone(), acknowledged.clone());
        writers.push(tokio::spawn(async move {
            let (mut done, mut at) = (Vec::new(), writer);
            while !is_over.load(Ordering::SeqCst) {
                let content = format!("writer {writer} lesson {}", done.len());
                let mut lesson = lesson(&content);
                // So that a connection that breaks tells nothing wrong.
                lesson.request_id = format!("1-{writer:016x}{:016x}", done.len());
                loop {
                    match clients[at % 3].learn(lesson.clone()).await {
                        Ok(_) => break,
                        // What was refused here is asked for there.
                        Err(status) if status.code() == Code::Unavailable => {
                            at += 1;
                            a_moment().await;
                        }
                        Err(status) => panic!("a write ends otherwise: {status:?}"),
                    }
                }
                acknowledged.fetch_add(1, Ordering::SeqCst);
                done.push(content);
            }
            done
        }));
    }
    let more = async |than: u64| {
        while acknowledged.load(Ordering::SeqCst) < than {
            a_moment().await;
        }
    };
    for at in 0..3 {
        more(acknowledged.load(Ordering::SeqCst) + 20).await;
        let mut operator = cluster.operator(at).await;
        let request = drain(cluster.id(at), false);
        loop {
            let drained = operator.drain(request.clone()).await.unwrap();
            let drained = drained.into_inner();
            if drained.writes_in_flight == 0 && drained.leader != drained.node_id {
                break;
            }
            a_moment().await;
        }
        more(acknowledged.load(Ordering::SeqCst) + 20).await;
        cluster.stop(at).await;
        more(acknowledged.load(Ordering::SeqCst) + 20).await;
        cluster.restart(at).await;
        cluster.leader().await;
    }
    is_over.store(true, Ordering::SeqCst);
    let mut expected = Vec::new();
    for writer in writers {
        expected.extend(writer.await.unwrap());
    }
    expected.sort();
    cluster.agree().await;
    for at in 0..3 {
        let mut client = cluster.client(at).await;
        let mut stored = Vec::new();
        let mut request = ListRequest {
            page_size: 1000,
            linearizable: true,
            ..ListRequest::default()
        };
        loop {
            let page = client.list(request.clone()).await.unwrap().into_inner();
            stored.extend(page.memories.into_iter().map(|memory| memory.content));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        stored.sort();
        assert_eq!(stored, expected, "node {at}");
    }
    cluster.shutdown().await;
}
