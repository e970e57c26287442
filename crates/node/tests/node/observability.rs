//! What others can see of a node: health, reflection, metrics, checks.

use memorygate_proto::v1::{Filter, RecallRequest};
use tonic::{Request, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::server::{Server, Start, ask, experience};

async fn channel(server: &Server) -> Channel {
    let endpoint = format!("http://{}", server.node.grpc_address());
    Channel::from_shared(endpoint)
        .unwrap()
        .connect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_that_the_node_serves() {
    let server = Server::start().await;
    let mut client = HealthClient::new(channel(&server).await);
    for service in ["", "memorygate.v1.MemoryGate"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        // The report follows the node's readiness within a fifth of a second.
        loop {
            let answer = client.check(request.clone()).await.unwrap().into_inner();
            if answer.status() == ServingStatus::Serving {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let unknown = HealthCheckRequest {
        service: "unknown".to_owned(),
    };
    assert_eq!(
        client.check(unknown).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_the_services() {
    let server = Server::start().await;
    let mut client = ServerReflectionClient::new(channel(&server).await);
    let ask = |request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let requests = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "memorygate.v1.MemoryGate".to_owned(),
        )),
    ];
    let stream = Request::new(tokio_stream::iter(requests));
    let mut answers = client
        .server_reflection_info(stream)
        .await
        .unwrap()
        .into_inner();
    let listed = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(listed) = listed else {
        panic!("{listed:?}")
    };
    let names: Vec<&str> = listed.service.iter().map(|s| s.name.as_str()).collect();
    for name in ["memorygate.v1.MemoryGate", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let file = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::FileDescriptorResponse(file) = file else {
        panic!("{file:?}")
    };
    let bytes = file.file_descriptor_proto.concat();
    let has = |name: &[u8]| bytes.windows(name.len()).any(|w| w == name);
    assert!(has(b"LearnStream") && has(b"RecallRequest"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stage_has_metrics() {
    let mut server = Server::start().await;
    let (key, position) = server.learn_one(experience("raise the limit")).await;
    let request = RecallRequest {
        at_least: Some(position),
        ..ask("limit")
    };
    server.recall(request).await;
    let bad = RecallRequest {
        filter: Some(Filter {
            min_importance: Some(7.0),
            ..Filter::default()
        }),
        ..ask("x")
    };
    server.client.recall(bad).await.unwrap_err();
    let get = memorygate_proto::v1::GetRequest {
        key,
        ..Default::default()
    };
    server.client.get(get).await.unwrap();
    let (code, text) = server.http("/metrics").await;
    assert_eq!(code, 200);
    for line in [
        "memorygate_requests_total{code=\"Ok\",method=\"Learn\"} 1",
        "memorygate_requests_total{code=\"Ok\",method=\"Recall\"} 1",
        "memorygate_requests_total{code=\"InvalidArgument\",method=\"Recall\"} 1",
        "memorygate_request_seconds_count{method=\"Recall\"} 2",
        "memorygate_embed_seconds_count{kind=\"memory\"} 1",
        "memorygate_embed_seconds_count{kind=\"query\"} 1",
        "memorygate_embedded_texts_total{kind=\"memory\"} 1",
        "memorygate_embed_queue_texts{kind=\"memory\"} 0",
        "memorygate_propose_seconds_count{command=\"learn\"} 1",
        "memorygate_recall_stage_seconds_count{stage=\"embed\"} 1",
        "memorygate_recall_stage_seconds_count{stage=\"search\"} 1",
        "memorygate_recall_stage_seconds_count{stage=\"read\"} 1",
        "memorygate_recall_stage_seconds_count{stage=\"late\"} 1",
        "memorygate_recall_stage_seconds_count{stage=\"rank\"} 1",
        "memorygate_recall_stage_seconds_count{stage=\"records\"} 1",
        "memorygate_memories 1",
        "memorygate_namespaces 1",
        "memorygate_index_lag_positions 0",
        "memorygate_requests_in_flight 0",
        "memorygate_storage_full 0",
        "memorygate_ready{check=\"index\"} 1",
        "memorygate_ready{check=\"raft\"} 1",
    ] {
        assert!(text.contains(line), "no line {line} in\n{text}");
    }
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap_or_else(|| panic!("{name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    for positive in [
        "memorygate_log_sync_seconds_count",
        "memorygate_log_sync_entries_count",
        "memorygate_log_bytes_total",
        "memorygate_apply_seconds_count",
        "memorygate_applied_entries_total",
        "memorygate_index_lag_seconds_count",
        "memorygate_recall_candidates_count",
        "memorygate_received_bytes_total",
        "memorygate_position{of=\"applied\"}",
        "memorygate_position{of=\"committed\"}",
        "memorygate_position{of=\"indexed\"}",
        "memorygate_disk_free_bytes",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    ] {
        assert!(value(positive) > 0.0, "{positive}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_have_paths_of_their_own() {
    let server = Server::start().await;
    for path in [
        "/livez",
        "/livez/raft",
        "/livez/index",
        "/readyz",
        "/readyz/raft",
        "/readyz/index",
        "/readyz/drain",
        "/readyz/disk",
    ] {
        assert_eq!(server.http(path).await, (200, "ok\n".to_owned()), "{path}");
    }
    let verbose =
        "[+]raft ok\n[+]index ok\n[+]drain ok\n[+]disk ok\nreadyz check passed\n".to_owned();
    assert_eq!(server.http("/readyz?verbose").await, (200, verbose));
    let verbose = "[+]raft ok\n[+]index ok\nlivez check passed\n".to_owned();
    assert_eq!(server.http("/livez?verbose").await, (200, verbose));
    assert_eq!(server.http("/readyz/moon").await.0, 404);
    assert_eq!(server.http("/nothing").await.0, 404);
}

/// A stopping node says so before it stops: whoever balances load can look elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_finishes_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::with(Start::new(dir.path())).await;
    server.learn(vec![experience("x")]).await;
    let mut client = server.client.clone();
    // A stream in work holds the stop back until it ends.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let stream = tokio::spawn(async move {
        client
            .learn_stream(tokio_stream::wrappers::ReceiverStream::new(receiver))
            .await
    });
    let batch = |content: &str| memorygate_proto::v1::LearnRequest {
        experiences: vec![experience(content)],
        ..Default::default()
    };
    sender.send(batch("first")).await.unwrap();
    while server.stats().await.namespaces[0].memories < 2 {
        crate::server::a_moment().await;
    }
    let http = server.node.http_address().to_string();
    let stopping = tokio::spawn(server.stop());
    loop {
        let (code, text) = crate::server::http(&http, "/readyz").await;
        if code == 503 {
            assert!(text.contains("node is stopping"), "{text}");
            break;
        }
    }
    sender.send(batch("second")).await.unwrap();
    drop(sender);
    let answer = stream.await.unwrap().unwrap().into_inner();
    assert_eq!((answer.batches, answer.created), (2, 2));
    stopping.await.unwrap();
}
