//! Too much at once: refused with a hint when to try again, and nothing is queued without bound.

use std::sync::{Arc, Mutex};

use memorygate_core::embedding::{Embedder, Embedding, Error, ModelId, Passage, QueryEmbedding};
use memorygate_index::embed::stub::Stub;
use memorygate_proto::v1::{LearnRequest, StatsRequest};

use crate::server::{Server, Start, experience, failure};

/// Waits until the test lets it go on.
struct Gate(Mutex<std::sync::mpsc::Receiver<()>>);

impl Embedder for Gate {
    fn model(&self) -> ModelId {
        Stub.model()
    }

    fn embed(&self, passages: &[Passage]) -> Result<Vec<Embedding>, Error> {
        // Fails when the test is over.
        let _ = self.0.lock().unwrap().recv();
        Stub.embed(passages)
    }

    fn embed_queries(&self, texts: &[String]) -> Result<Vec<QueryEmbedding>, Error> {
        Stub.embed_queries(texts)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_bound_are_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let (open, gate) = std::sync::mpsc::channel();
    let mut start = Start {
        embedder: Arc::new(Gate(Mutex::new(gate))),
        ..Start::new(dir.path())
    };
    start.settings.server.requests_max = 3;
    let mut server = Server::with(start).await;
    let learn = |i: usize| LearnRequest {
        experiences: vec![experience(&format!("lesson {i}"))],
        ..LearnRequest::default()
    };
    let calls: Vec<_> = (0..3)
        .map(|i| {
            let (mut client, request) = (server.client.clone(), learn(i));
            tokio::spawn(async move { client.learn(request).await })
        })
        .collect();
    // None can end while the gate is shut; a batch may hold any of them.
    server.metric("memorygate_requests_in_flight 3").await;
    let status = server
        .client
        .stats(StatsRequest::default())
        .await
        .unwrap_err();
    let (text, details) = failure(&status);
    assert_eq!(text, "ResourceExhausted OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    let refused = server.client.learn(learn(9)).await.unwrap_err();
    assert_eq!(
        failure(&refused).1.error_info().unwrap().metadata["outcome"],
        "failed"
    );
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(server.stats().await.namespaces[0].memories, 3);
    drop(open);
    let (_, metrics) = server.http("/metrics").await;
    assert!(
        metrics.contains("memorygate_requests_in_flight 0"),
        "all were given back"
    );
    assert!(
        metrics.contains("memorygate_in_flight_bytes 0"),
        "all were given back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_beyond_the_budget_are_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let (open, gate) = std::sync::mpsc::channel();
    let mut start = Start {
        embedder: Arc::new(Gate(Mutex::new(gate))),
        ..Start::new(dir.path())
    };
    start.settings.server.message_bytes_max = 8 << 20;
    start.settings.server.in_flight_bytes_max = 8 << 20;
    let server = Server::with(start).await;
    let learn = |i: usize| LearnRequest {
        experiences: (0..70)
            .map(|j| experience(&format!("{i} {j} {}", "x".repeat(60_000))))
            .collect(),
        ..LearnRequest::default()
    };
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..3 {
        let (mut client, request) = (server.client.clone(), learn(i));
        calls.spawn(async move { client.learn(request).await });
    }
    // Each has some 4 MiB: two at most fit, the others are refused while these are in work.
    let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
    let (text, details) = failure(&refused);
    assert_eq!(text, "ResourceExhausted OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    for _ in 0..1000 {
        let _ = open.send(());
    }
    drop(open);
    while let Some(call) = calls.join_next().await {
        if let Err(status) = call.unwrap() {
            assert_eq!(failure(&status).0, "ResourceExhausted OVERLOADED");
        }
    }
    let (_, metrics) = server.http("/metrics").await;
    assert!(
        metrics.contains("memorygate_in_flight_bytes 0"),
        "all were given back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_beyond_the_embedding_queue_are_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let (open, gate) = std::sync::mpsc::channel();
    let mut start = Start {
        embedder: Arc::new(Gate(Mutex::new(gate))),
        ..Start::new(dir.path())
    };
    start.settings.model.queue_texts_max = 256;
    let server = Server::with(start).await;
    let learn = |i: usize| LearnRequest {
        experiences: (0..200).map(|j| experience(&format!("{i} {j}"))).collect(),
        ..LearnRequest::default()
    };
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..4 {
        let (mut client, request) = (server.client.clone(), learn(i));
        calls.spawn(async move { client.learn(request).await });
    }
    let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
    let (text, details) = failure(&refused);
    assert_eq!(text, "ResourceExhausted OVERLOADED");
    assert!(details.retry_info().is_some());
    assert_eq!(details.error_info().unwrap().metadata["outcome"], "failed");
    for _ in 0..1000 {
        let _ = open.send(());
    }
    drop(open);
    while let Some(call) = calls.join_next().await {
        if let Err(status) = call.unwrap() {
            assert_eq!(failure(&status).0, "ResourceExhausted OVERLOADED");
        }
    }
}
