//! Learning: reinforcement, request ids, streams, given vectors, what is read before.

use std::sync::{Arc, Mutex};

use memorygate_core::embedding::{Embedder, Embedding, Error, ModelId, Passage, QueryEmbedding};
use memorygate_index::embed::stub::Stub;
use memorygate_proto::v1::{
    Experience, GetRequest, LearnRequest, LearnResponse, LinkTarget, Scope, scope,
};
use prost_types::Timestamp;
use tonic::Code;

use crate::server::{NOW_MS, Server, Start, assert_invalid, experience, failure};

const NONCE: &str = "00112233445566778899aabbccddeeff";

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: NOW_MS / 1000 + seconds,
        nanos: 0,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_lesson_again_reinforces_one_memory() {
    let mut server = Server::start().await;
    let first = server
        .learn(vec![experience("raise the limit")])
        .await
        .learned
        .remove(0);
    assert!(first.created && first.version == 1 && first.occurrences == 1);
    let again = Experience {
        metadata: [("ticket".to_owned(), "42".to_owned())].into(),
        ..experience("raise the limit\r\n")
    };
    let second = server.learn(vec![again]).await.learned.remove(0);
    assert_eq!(
        (second.created, second.version, second.occurrences),
        (false, 2, 2)
    );
    assert_eq!(second.key, first.key);
    let request = GetRequest {
        key: first.key,
        ..GetRequest::default()
    };
    let memory = server
        .client
        .get(request)
        .await
        .unwrap()
        .into_inner()
        .memory
        .unwrap();
    assert_eq!(memory.metadata["ticket"], "42");
    assert!(memory.importance > 0.5);
    assert_eq!(memory.model, format!("{:016x}", Stub::MODEL.0));
    assert_eq!(server.stats().await.namespaces[0].memories, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_lesson_twice_in_one_batch_is_one_memory() {
    let mut server = Server::start().await;
    let learned = server
        .learn(vec![experience("x"), experience("y"), experience("x")])
        .await
        .learned;
    assert_eq!(
        learned.iter().map(|l| l.created).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert_eq!(learned[0].key, learned[2].key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_first_answer_and_changes_nothing() {
    let mut server = Server::start().await;
    let (_, position) = server.learn_one(experience("before")).await;
    let request = LearnRequest {
        request_id: format!("{}-{NONCE}", position.index),
        experiences: vec![experience("once")],
        ..LearnRequest::default()
    };
    let first: LearnResponse = server
        .client
        .learn(request.clone())
        .await
        .unwrap()
        .into_inner();
    let hash = server.stats().await.state_hash;
    let again = server
        .client
        .learn(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    let memories = server.stats().await;
    assert_eq!(memories.namespaces[0].memories, 2);
    // The time in the log stands still here, so even the state hash is as it was.
    assert_eq!(memories.state_hash, hash);
    // Another call under the same id gets no answer that is not its own.
    let other = memorygate_proto::v1::ForgetRequest {
        request_id: request.request_id,
        key: first.learned[0].key.clone(),
        ..Default::default()
    };
    let status = server.client.forget(other).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(server.stats().await.namespaces[0].memories, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_commits_each_batch_as_it_arrives() {
    let mut server = Server::start().await;
    let batch = |i: usize| LearnRequest {
        experiences: vec![experience(&format!("lesson {i}")), experience("every time")],
        ..LearnRequest::default()
    };
    let batches = tokio_stream::iter((0..5).map(batch).collect::<Vec<_>>());
    let answer = server
        .client
        .learn_stream(batches)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (answer.batches, answer.created, answer.reinforced),
        (5, 6, 4)
    );
    assert_eq!(answer.position, Some(server.position().await));
}

/// Half a client stream: what was committed stays, nothing is half applied.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_client_stream() {
    let mut server = Server::start().await;
    let good = |i: usize| LearnRequest {
        experiences: vec![experience(&format!("lesson {i}"))],
        ..LearnRequest::default()
    };
    let bad = LearnRequest {
        experiences: vec![experience("half of a batch"), experience("")],
        ..LearnRequest::default()
    };
    let batches = tokio_stream::iter([good(0), good(1), bad, good(3)]);
    let status = server.client.learn_stream(batches).await.unwrap_err();
    assert_invalid(&status, "experiences[1].content");
    assert!(
        status.message().starts_with("batch 2 of the stream"),
        "{status:?}"
    );
    assert_eq!(server.stats().await.namespaces[0].memories, 2);

    // A client that is cut off in the middle: the stream ends without its last message.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut client = server.client.clone();
    let call = tokio::spawn(async move {
        client
            .learn_stream(tokio_stream::wrappers::ReceiverStream::new(receiver))
            .await
    });
    sender.send(good(7)).await.unwrap();
    while server.stats().await.namespaces[0].memories < 3 {
        crate::server::a_moment().await;
    }
    call.abort();
    let _ = call.await;
    drop(sender);
    assert_eq!(server.stats().await.namespaces[0].memories, 3);
    server.learn(vec![experience("it goes on")]).await;
}

/// Remembers what it was asked to read.
#[derive(Default)]
struct Listening(Mutex<Vec<Passage>>);

impl Embedder for Listening {
    fn model(&self) -> ModelId {
        Stub.model()
    }

    fn embed(&self, passages: &[Passage]) -> Result<Vec<Embedding>, Error> {
        self.0.lock().unwrap().extend(passages.iter().cloned());
        Stub.embed(passages)
    }

    fn embed_queries(&self, texts: &[String]) -> Result<Vec<QueryEmbedding>, Error> {
        Stub.embed_queries(texts)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experience_is_read_after_the_two_before_it_in_its_session_and_scope() {
    let dir = tempfile::tempdir().unwrap();
    let listening = Arc::new(Listening::default());
    let start = Start {
        embedder: listening.clone(),
        ..Start::new(dir.path())
    };
    let mut server = Server::with(start).await;
    let heard = || {
        let passages = std::mem::take(&mut *listening.0.lock().unwrap());
        passages
            .into_iter()
            .map(|p| (p.text, p.before.join("+")))
            .collect::<Vec<_>>()
    };
    let expected = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect::<Vec<_>>()
    };
    let turn = |content: &str, seconds: i64| Experience {
        session: "s".to_owned(),
        occurred_at: at(seconds),
        ..experience(content)
    };
    // Within a batch by when they happened, and of equal times by place.
    server
        .learn(vec![turn("c", 3), turn("a", 1), turn("b", 2), turn("d", 3)])
        .await;
    assert_eq!(
        heard(),
        expected(&[("c", "a+b"), ("a", ""), ("b", "a"), ("d", "b+c")])
    );
    // Those that are stored come first.
    server
        .learn(vec![turn("e", 4), turn("b2", 2), turn("f", 5)])
        .await;
    assert_eq!(
        heard(),
        expected(&[("e", "c+d"), ("b2", "a+b"), ("f", "d+e")])
    );
    // Another scope, another session or none at all have no part in it.
    let team = Scope {
        kind: Some(scope::Kind::Team("t".to_owned())),
    };
    server
        .learn(vec![
            Experience {
                scope: Some(team),
                ..turn("x", 9)
            },
            Experience {
                session: "other".to_owned(),
                ..turn("y", 9)
            },
            Experience {
                session: String::new(),
                ..turn("z", 9)
            },
            turn("g", 9),
        ])
        .await;
    assert_eq!(
        heard(),
        expected(&[("x", ""), ("y", ""), ("z", ""), ("g", "e+f")])
    );
    // What is known already is not read again, and keeps its place.
    server.learn(vec![turn("a", 10), turn("h", 11)]).await;
    assert_eq!(heard(), expected(&[("h", "f+g")]));
    // A given vector needs no reading, and its text is read before others all the same.
    server
        .learn(vec![
            Experience {
                vector: vec![1.0; 384],
                ..turn("given", 12)
            },
            turn("i", 13),
        ])
        .await;
    assert_eq!(heard(), expected(&[("i", "h+given")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_given_at_learning_are_kept() {
    let mut server = Server::start().await;
    let (cause, _) = server.learn_one(experience("the limit was too low")).await;
    let link = LinkTarget {
        relation: "caused_by".to_owned(),
        key: cause,
    };
    let effect = Experience {
        links: vec![link.clone()],
        ..experience("the pod was killed")
    };
    let (key, _) = server.learn_one(effect).await;
    let request = GetRequest {
        key,
        ..GetRequest::default()
    };
    let memory = server
        .client
        .get(request)
        .await
        .unwrap()
        .into_inner()
        .memory
        .unwrap();
    assert_eq!(memory.links, [link]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_goes_by_the_time_in_the_log() {
    let mut server = Server::start().await;
    let soon = Experience {
        expires_at: at(10),
        ..experience("gone soon")
    };
    let (key, _) = server.learn_one(soon).await;
    let pinned = Experience {
        expires_at: at(10),
        pinned: true,
        ..experience("pinned")
    };
    server.learn_one(pinned).await;
    let get = GetRequest {
        key,
        ..GetRequest::default()
    };
    server.client.get(get.clone()).await.unwrap();
    server.clock.advance(10_000);
    // The leader proposes to remove it within its next look around.
    while server.stats().await.namespaces[0].memories > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let status = server.client.get(get).await.unwrap_err();
    assert_eq!(failure(&status).0, "NotFound NOT_FOUND");
    assert_eq!(server.contents("gone soon pinned").await, ["pinned"]);
}

/// Fails as a broken model would.
struct Broken;

impl Embedder for Broken {
    fn model(&self) -> ModelId {
        Stub.model()
    }

    fn embed(&self, _: &[Passage]) -> Result<Vec<Embedding>, Error> {
        Err(Error::Model("on purpose".to_owned()))
    }

    fn embed_queries(&self, _: &[String]) -> Result<Vec<QueryEmbedding>, Error> {
        Err(Error::Model("on purpose".to_owned()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_fails_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::with(Start {
        embedder: Arc::new(Broken),
        ..Start::new(dir.path())
    })
    .await;
    let request = LearnRequest {
        experiences: vec![experience("x")],
        ..LearnRequest::default()
    };
    let status = server.client.learn(request).await.unwrap_err();
    let (text, details) = failure(&status);
    assert_eq!(text, "Internal EMBEDDING");
    assert_eq!(details.error_info().unwrap().metadata["outcome"], "failed");
    assert_eq!(server.stats().await.namespaces, []);
    let given = Experience {
        vector: vec![1.0; 384],
        ..experience("x")
    };
    server.learn(vec![given]).await;
}
