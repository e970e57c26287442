//! A stopped server comes back with everything that it acknowledged; a directory that is not its
//! own is refused.

use std::fs;

use memorygate_proto::v1::{ForgetRequest, LearnRequest, StatsRequest};

use crate::server::{Server, Start, experience};

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_is_there_after_a_restart_with_the_same_state_hash() {
    let dir = tempfile::tempdir().unwrap();
    let mut keys = Vec::new();
    let mut last_hash = None;
    for round in 0..3 {
        let mut server = Server::on(dir.path()).await;
        if let Some(hash) = last_hash {
            assert_eq!(server.stats().await.state_hash, hash, "round {round}");
        }
        for i in 0..20 {
            let content = format!("lesson {round}-{i}");
            keys.push((server.learn_one(experience(&content)).await.0, content));
        }
        for (key, content) in &keys {
            let request = memorygate_proto::v1::GetRequest {
                key: key.clone(),
                ..Default::default()
            };
            let memory = server
                .client
                .get(request)
                .await
                .unwrap()
                .into_inner()
                .memory
                .unwrap();
            assert_eq!(&memory.content, content);
        }
        let best = server.contents(&format!("lesson {round}-7")).await;
        assert_eq!(best[0], format!("lesson {round}-7"));
        last_hash = Some(server.stats().await.state_hash);
        server.stop().await;
    }
}

/// The answer to a request is part of the state: it is given again after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::on(dir.path()).await;
    let (_, position) = server.learn_one(experience("before")).await;
    let request = LearnRequest {
        request_id: format!("{}-00112233445566778899aabbccddeeff", position.index),
        experiences: vec![experience("once")],
        ..LearnRequest::default()
    };
    let first = server
        .client
        .learn(request.clone())
        .await
        .unwrap()
        .into_inner();
    server.stop().await;
    let mut server = Server::on(dir.path()).await;
    assert_eq!(
        server.client.learn(request).await.unwrap().into_inner(),
        first
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::on(dir.path()).await;
    let (_, position) = server.learn_one(experience("x")).await;
    server.stop().await;
    let mut server = Server::on(dir.path()).await;
    let request = StatsRequest {
        at_least: Some(position.clone()),
        ..StatsRequest::default()
    };
    let after = server
        .client
        .stats(request)
        .await
        .unwrap()
        .into_inner()
        .position
        .unwrap();
    assert_eq!(after.cluster_id, position.cluster_id);
    assert!(after.index > position.index);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_continues_from_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::on(dir.path()).await;
    let learned = server
        .learn(
            (0..50)
                .map(|i| experience(&format!("lesson {i}")))
                .collect(),
        )
        .await;
    let index = server.node.backend().index.clone();
    tokio::task::spawn_blocking(move || index.checkpoint())
        .await
        .unwrap()
        .unwrap();
    let forget = ForgetRequest {
        key: learned.learned[3].key.clone(),
        ..ForgetRequest::default()
    };
    server.client.forget(forget).await.unwrap();
    server
        .learn(vec![experience("lesson after the checkpoint")])
        .await;
    server.stop().await;
    let mut server = Server::on(dir.path()).await;
    let (_, metrics) = server.http("/metrics").await;
    assert!(
        metrics.contains("memorygate_index_rebuilds_total 0"),
        "not rebuilt"
    );
    assert_eq!(
        server.contents("after the checkpoint").await[0],
        "lesson after the checkpoint"
    );
    let found = server.contents("lesson 3").await;
    assert!(!found.contains(&"lesson 3".to_owned()), "{found:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Server::on(dir.path()).await;
    let error = Start::new(dir.path()).node().await.err().unwrap();
    let error = format!("{error:#}");
    assert!(error.contains("is in use by another server"), "{error}");
    first.learn(vec![experience("the first goes on")]).await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_a_newer_format() {
    let dir = tempfile::tempdir().unwrap();
    Server::on(dir.path()).await.stop().await;
    let identity = dir.path().join("identity");
    let text = fs::read_to_string(&identity).unwrap();
    let mut fields: serde_json::Value = serde_json::from_str(&text).unwrap();
    fields["format"] = 99.into();
    fs::write(&identity, fields.to_string()).unwrap();
    let error = format!("{:#}", Start::new(dir.path()).node().await.err().unwrap());
    assert!(
        error.contains("format 99") && error.contains("newer version"),
        "{error}"
    );
    fs::write(&identity, text).unwrap();
    Server::on(dir.path()).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path()).await;
    let here = server.node.backend().raft.identity().cluster_id;
    server.stop().await;
    let with = |id: String| {
        let mut start = Start::new(dir.path());
        start.settings.raft.expected_cluster_id = Some(id.parse().unwrap());
        start
    };
    let elsewhere = "00112233445566778899aabbccddeeff".to_owned();
    let error = format!("{:#}", with(elsewhere.clone()).node().await.err().unwrap());
    assert!(
        error.contains(&elsewhere) && error.contains(&here.to_string()),
        "{error}"
    );
    Server::with(with(here.to_string())).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_somebody_elses() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let error = format!("{:#}", Start::new(dir.path()).node().await.err().unwrap());
    assert!(error.contains("thesis.tex"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_in_use_is_named() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::new(dir.path());
    start.settings.server.grpc_address = server.node.grpc_address().to_string().parse().unwrap();
    let error = format!("{:#}", start.node().await.err().unwrap());
    assert!(
        error.contains(&server.node.grpc_address().to_string()),
        "{error}"
    );
}
