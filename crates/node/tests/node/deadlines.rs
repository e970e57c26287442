//! Deadlines: a wait ends before the caller gives up, and says what became of a write.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use memorygate_core::embedding::{Embedder, Embedding, Error, ModelId, Passage, QueryEmbedding};
use memorygate_index::embed::stub::Stub;
use memorygate_proto::v1::{LearnRequest, Position, StatsRequest};
use tonic::{Code, Request};

use crate::server::{Server, Start, ask, experience, failure};

fn within<T>(message: T, ms: u64) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(ms));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_position_that_does_not_come_ends_with_the_deadline() {
    let mut server = Server::start().await;
    let (_, here) = server.learn_one(experience("x")).await;
    for index in [here.index + 1, u64::MAX] {
        let at_least = Some(Position {
            index,
            ..here.clone()
        });
        let mut question = ask("x");
        question.at_least = at_least.clone();
        let status = server
            .client
            .recall(within(question, 100))
            .await
            .unwrap_err();
        assert_eq!(failure(&status).0, "DeadlineExceeded DEADLINE");
        let stats = StatsRequest {
            at_least,
            ..StatsRequest::default()
        };
        let status = server.client.stats(within(stats, 100)).await.unwrap_err();
        assert_eq!(failure(&status).0, "DeadlineExceeded DEADLINE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_as_soon_as_the_position_is_there() {
    let mut server = Server::start().await;
    let (_, here) = server.learn_one(experience("first")).await;
    let mut question = ask("second");
    question.at_least = Some(Position {
        index: here.index + 1,
        ..here
    });
    let mut client = server.client.clone();
    let waiting = tokio::spawn(async move { client.recall(within(question, 60_000)).await });
    crate::server::a_moment().await;
    server.learn_one(experience("second")).await;
    let answer = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(crate::server::contents(&answer)[0], "second");
}

/// Does not begin before it is let.
struct Held(Arc<Mutex<()>>);

impl Embedder for Held {
    fn model(&self) -> ModelId {
        Stub.model()
    }

    fn embed(&self, passages: &[Passage]) -> Result<Vec<Embedding>, Error> {
        let _held = self.0.lock().unwrap();
        Stub.embed(passages)
    }

    fn embed_queries(&self, texts: &[String]) -> Result<Vec<QueryEmbedding>, Error> {
        let _held = self.0.lock().unwrap();
        Stub.embed_queries(texts)
    }
}

/// A write whose time passed before it was proposed has failed, and is never done later.
#[tokio::test(flavor = "multi_thread")]
async fn a_learn_that_is_not_embedded_in_time_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Mutex::new(()));
    let embedder = Arc::new(Held(gate.clone()));
    let mut server = Server::with(Start {
        embedder,
        ..Start::new(dir.path())
    })
    .await;
    let request = || LearnRequest {
        experiences: vec![experience("late")],
        ..Default::default()
    };
    let closed = std::thread::scope(|scope| {
        let (locked, lock) = std::sync::mpsc::channel();
        let (unlock, unlocked) = std::sync::mpsc::channel::<()>();
        let gate = &gate;
        scope.spawn(move || {
            let _held = gate.lock().unwrap();
            locked.send(()).unwrap();
            unlocked.recv().unwrap();
        });
        lock.recv().unwrap();
        let status = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current()
                .block_on(server.client.learn(within(request(), 100)))
                .unwrap_err()
        });
        unlock.send(()).unwrap();
        status
    });
    let (text, details) = failure(&closed);
    assert_eq!(text, "DeadlineExceeded DEADLINE");
    assert_eq!(details.error_info().unwrap().metadata["outcome"], "failed");
    // Embedding goes on to its end; another learn waits behind it and sees that nothing came of it.
    server.client.learn(request()).await.unwrap();
    let stats = server.stats().await;
    assert_eq!(stats.namespaces[0].memories, 1);
    let again = server.client.learn(request()).await.unwrap().into_inner();
    assert_eq!(again.learned[0].occurrences, 2);
    assert_eq!(Code::DeadlineExceeded, closed.code());
}
