//! A full disk: writes are refused with a hint, reads go on, and with room again writes too.

use std::{sync::atomic::Ordering, time::Duration};

use memorygate_proto::v1::{ForgetRequest, GetRequest, LearnRequest};

use crate::server::{Server, ask, experience, failure};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_serves_reads_until_there_is_room() {
    let mut server = Server::start().await;
    let (key, position) = server
        .learn_one(experience("before the disk was full"))
        .await;
    server.disk.0.store(1 << 20, Ordering::SeqCst);
    // The node looks at the disk at most ten times a second.
    let full = loop {
        let request = LearnRequest {
            experiences: vec![experience("while the disk is full")],
            ..LearnRequest::default()
        };
        match server.client.learn(request).await {
            Err(status) => break status,
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let (text, details) = failure(&full);
    assert_eq!(text, "ResourceExhausted STORAGE_FULL");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    let info = details.error_info().unwrap();
    assert_eq!(info.metadata["outcome"], "failed");
    assert_eq!(info.metadata["free_bytes"], (1 << 20).to_string());

    let request = GetRequest {
        key: key.clone(),
        ..GetRequest::default()
    };
    server.client.get(request).await.unwrap();
    let mut request = ask("before the disk was full");
    request.at_least = Some(position);
    assert_eq!(
        server.recall(request).await.results.len(),
        server.stats().await.namespaces[0].memories as usize
    );
    assert!(server.stats().await.disk_full);
    let forget = ForgetRequest {
        key,
        ..ForgetRequest::default()
    };
    let refused = server.client.forget(forget.clone()).await.unwrap_err();
    assert_eq!(failure(&refused).0, "ResourceExhausted STORAGE_FULL");
    assert_eq!(server.http("/readyz").await.0, 200, "reads go on");
    let (code, reason) = server.http("/readyz/disk").await;
    assert_eq!(code, 503);
    assert!(reason.contains("writes are refused"), "{reason}");
    let (_, metrics) = server.http("/metrics").await;
    assert!(metrics.contains("memorygate_storage_full 1"));
    assert!(metrics.contains("memorygate_ready{check=\"disk\"} 0"));

    server.disk.0.store(u64::MAX, Ordering::SeqCst);
    while server.client.forget(forget.clone()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!server.stats().await.disk_full);
    server.learn(vec![experience("after there was room")]).await;
    assert_eq!(server.http("/readyz/disk").await.0, 200);
}
