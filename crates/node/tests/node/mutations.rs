//! Update, feedback, forget, link.

use memorygate_proto::v1::{
    FeedbackRequest, ForgetRequest, GetRequest, LinkRequest, LinkTarget, Memory, MutationResponse,
    UpdateRequest,
};
use prost_types::Timestamp;

use crate::server::{NOW_MS, Server, agent, assert_invalid, experience, failure};

async fn get(server: &mut Server, key: &str) -> Memory {
    let request = GetRequest {
        key: key.to_owned(),
        ..GetRequest::default()
    };
    server
        .client
        .get(request)
        .await
        .unwrap()
        .into_inner()
        .memory
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_it_names() {
    let mut server = Server::start().await;
    let (key, _) = server.learn_one(experience("x")).await;
    let expires_at = Some(Timestamp {
        seconds: NOW_MS / 1000 + 3600,
        nanos: 0,
    });
    let update = UpdateRequest {
        key: key.clone(),
        expected_version: Some(1),
        importance: Some(0.9),
        expires_at,
        set_metadata: [
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
        ]
        .into(),
        ..UpdateRequest::default()
    };
    let answer = server
        .client
        .update(update.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (answer.version, answer.changed, &answer.key),
        (2, true, &key)
    );
    let memory = get(&mut server, &key).await;
    assert_eq!((memory.importance, memory.expires_at), (0.9, expires_at));
    assert_eq!(memory.metadata.len(), 2);
    let status = server.client.update(update).await.unwrap_err();
    let (text, details) = failure(&status);
    assert_eq!(text, "Aborted VERSION_MISMATCH");
    let info = details.error_info().unwrap();
    assert_eq!(
        (
            info.metadata["expected"].as_str(),
            info.metadata["actual"].as_str()
        ),
        ("1", "2")
    );
    let update = UpdateRequest {
        key: key.clone(),
        pinned: Some(true),
        clear_expires_at: true,
        remove_metadata: vec!["a".to_owned()],
        ..UpdateRequest::default()
    };
    server.client.update(update.clone()).await.unwrap();
    let memory = get(&mut server, &key).await;
    assert_eq!(
        (memory.pinned, memory.expires_at, memory.version),
        (true, None, 3)
    );
    assert_eq!(memory.metadata, [("b".to_owned(), "2".to_owned())].into());
    let again = server.client.update(update).await.unwrap().into_inner();
    assert_eq!((again.changed, again.version), (false, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_would_exceed_the_bounds_of_the_memory_is_refused() {
    let mut server = Server::start().await;
    let (key, _) = server.learn_one(experience("x")).await;
    for half in 0..2 {
        let set_metadata = (0..40)
            .map(|i| (format!("k{half}-{i}"), String::new()))
            .collect();
        let update = UpdateRequest {
            key: key.clone(),
            set_metadata,
            ..UpdateRequest::default()
        };
        let result = server.client.update(update).await;
        match half {
            0 => assert!(result.is_ok()),
            _ => assert_invalid(&result.unwrap_err(), ""),
        }
    }
    assert_eq!(get(&mut server, &key).await.metadata.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_is_counted() {
    let mut server = Server::start().await;
    let (key, _) = server.learn_one(experience("x")).await;
    for score in [1.0, -0.5, 0.25] {
        let feedback = FeedbackRequest {
            key: key.clone(),
            score,
            reason: "it did".to_owned(),
            agent: "ada".to_owned(),
            ..FeedbackRequest::default()
        };
        server.client.feedback(feedback).await.unwrap();
    }
    let feedback = get(&mut server, &key).await.feedback.unwrap();
    assert_eq!(
        (feedback.count, feedback.positive, feedback.negative),
        (3, 1.25, 0.5)
    );
    let reason = "x".repeat(1025);
    let long = FeedbackRequest {
        key,
        reason,
        ..FeedbackRequest::default()
    };
    assert_invalid(&server.client.feedback(long).await.unwrap_err(), "reason");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_gone_everywhere() {
    let mut server = Server::start().await;
    let (key, _) = server.learn_one(experience("forget me")).await;
    let forget = ForgetRequest {
        key: key.clone(),
        ..ForgetRequest::default()
    };
    let wrong = ForgetRequest {
        expected_version: Some(9),
        ..forget.clone()
    };
    assert_eq!(
        failure(&server.client.forget(wrong).await.unwrap_err()).0,
        "Aborted VERSION_MISMATCH"
    );
    let answer = server
        .client
        .forget(forget.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.version, answer.changed), (0, true));
    assert_eq!(server.contents("forget me").await, Vec::<String>::new());
    let get = GetRequest {
        key,
        ..GetRequest::default()
    };
    assert_eq!(
        failure(&server.client.get(get).await.unwrap_err()).0,
        "NotFound NOT_FOUND"
    );
    assert_eq!(
        failure(&server.client.forget(forget).await.unwrap_err()).0,
        "NotFound NOT_FOUND"
    );
    let learned = server
        .learn(vec![experience("forget me")])
        .await
        .learned
        .remove(0);
    assert!(learned.created && learned.version == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_added_and_removed() {
    let mut server = Server::start().await;
    let (a, _) = server.learn_one(experience("a")).await;
    let (b, _) = server.learn_one(experience("b")).await;
    let target = LinkTarget {
        relation: "resolved_by".to_owned(),
        key: b,
    };
    let link = |remove| LinkRequest {
        key: a.clone(),
        target: Some(target.clone()),
        remove,
        ..LinkRequest::default()
    };
    let answer = |r: tonic::Response<MutationResponse>| {
        let r = r.into_inner();
        (r.changed, r.version)
    };
    assert_eq!(
        answer(server.client.link(link(false)).await.unwrap()),
        (true, 2)
    );
    assert_eq!(
        answer(server.client.link(link(false)).await.unwrap()),
        (false, 2)
    );
    assert_eq!(
        get(&mut server, &a).await.links,
        std::slice::from_ref(&target)
    );
    assert_eq!(
        answer(server.client.link(link(true)).await.unwrap()),
        (true, 3)
    );
    assert_eq!(get(&mut server, &a).await.links, []);
    // Nobody links to what he may not see.
    let private = memorygate_proto::v1::Experience {
        scope: Some(memorygate_proto::v1::Scope {
            kind: Some(memorygate_proto::v1::scope::Kind::Agent("ada".to_owned())),
        }),
        ..experience("ada's own")
    };
    let (private, _) = server.learn_one(private).await;
    let target = Some(LinkTarget {
        relation: "relates_to".to_owned(),
        key: private,
    });
    let request = LinkRequest {
        target,
        ..link(false)
    };
    let status = server.client.link(request.clone()).await.unwrap_err();
    assert_eq!(failure(&status).0, "NotFound NOT_FOUND");
    let request = LinkRequest {
        reader: agent("ada"),
        ..request
    };
    server.client.link(request).await.unwrap();
}
