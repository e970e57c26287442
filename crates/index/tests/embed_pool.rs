//! The pool around any embedder: batching, bounds, failures, shutting down.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use memorygate_core::embedding::{self, Embedder, Embedding, ModelId, Passage, QueryEmbedding};
use memorygate_index::embed::Stub;
use memorygate_index::embed::pool::{Batch, Error, Kind, Observer, Pool, Settings};

/// The stub, but it waits to be let through, notes the batches it got, and fails where told.
struct Gated {
    gate: Mutex<mpsc::Receiver<()>>,
    batches: Arc<Mutex<Vec<Vec<String>>>>,
    started: mpsc::SyncSender<()>,
}

impl Embedder for Gated {
    fn model(&self) -> ModelId {
        Stub::MODEL
    }

    fn embed(&self, passages: &[Passage]) -> Result<Vec<Embedding>, embedding::Error> {
        let texts: Vec<String> = passages
            .iter()
            .map(|passage| passage.text.clone())
            .collect();
        self.batches.lock().unwrap().push(texts.clone());
        // Only fails when the test is over.
        let _ = self.started.send(());
        self.gate.lock().unwrap().recv().unwrap();
        if texts.iter().any(|text| text == "fail") {
            return Err(embedding::Error::Model("told to".to_owned()));
        }
        assert!(texts.iter().all(|text| text != "panic"), "told to");
        Stub.embed(passages)
    }

    fn embed_queries(&self, texts: &[String]) -> Result<Vec<QueryEmbedding>, embedding::Error> {
        Stub.embed_queries(texts)
    }
}

/// Fields are dropped in this order: without its gate the embedder lets nothing wait, so that a
/// failed test does not hang.
struct Fixture {
    gate: mpsc::SyncSender<()>,
    started: mpsc::Receiver<()>,
    pool: Pool,
    batches: Arc<Mutex<Vec<Vec<String>>>>,
    noted: Arc<Notes>,
}

#[derive(Default)]
struct Notes {
    batches: Mutex<Vec<Batch>>,
    refused: Mutex<usize>,
}

impl Observer for Notes {
    fn batch(&self, batch: &Batch) {
        self.batches.lock().unwrap().push(batch.clone());
    }

    fn refused(&self, _: Kind, texts: usize) {
        *self.refused.lock().unwrap() += texts;
    }
}

type Answer = tokio::task::JoinHandle<Result<Vec<Embedding>, Error>>;

fn pool(settings: Settings) -> Fixture {
    let (gate, gated) = mpsc::sync_channel(64);
    let (starts, started) = mpsc::sync_channel(64);
    let batches = Arc::new(Mutex::new(Vec::new()));
    let embedder = Gated {
        gate: Mutex::new(gated),
        batches: Arc::clone(&batches),
        started: starts,
    };
    let noted = Arc::new(Notes::default());
    let observer: Arc<dyn Observer> = Arc::clone(&noted) as _;
    let pool = Pool::start(Arc::new(embedder), settings, observer).unwrap();
    Fixture {
        gate,
        started,
        pool,
        batches,
        noted,
    }
}

impl Fixture {
    /// Asks on a task, and waits until the request is being computed.
    async fn ask_first(&self, texts: &[&str]) -> Answer {
        let handle = self.pool.handle();
        let texts = passages(texts);
        let task = tokio::spawn(async move { handle.embed(texts).await });
        while self.started.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        task
    }

    /// Asks on a task while another request is being computed, and waits until this one is queued.
    async fn ask(&self, texts: &[&str]) -> Answer {
        let handle = self.pool.handle();
        let queued = handle.queued_texts(Kind::Memory) + texts.len();
        let texts = passages(texts);
        let task = tokio::spawn(async move { handle.embed(texts).await });
        while self.pool.handle().queued_texts(Kind::Memory) < queued {
            tokio::task::yield_now().await;
        }
        task
    }

    fn let_through(&self, batches: usize) {
        for _ in 0..batches {
            self.gate.send(()).unwrap();
        }
    }

    fn seen(&self) -> Vec<Vec<String>> {
        self.batches.lock().unwrap().clone()
    }
}

fn passages(texts: &[&str]) -> Vec<Passage> {
    texts
        .iter()
        .map(|text| Passage {
            text: (*text).to_owned(),
            before: Vec::new(),
        })
        .collect()
}

fn expected(texts: &[&str]) -> Result<Vec<Embedding>, Error> {
    Stub.embed(&passages(texts)).map_err(Error::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_are_one_batch_and_each_gets_its_own_results() {
    let fixture = pool(Settings::default());
    let first = fixture.ask_first(&["a"]).await;
    let second = fixture.ask(&["b", "c"]).await;
    let third = fixture.ask(&["d"]).await;
    fixture.let_through(2);
    assert_eq!(first.await.unwrap(), expected(&["a"]));
    assert_eq!(second.await.unwrap(), expected(&["b", "c"]));
    assert_eq!(third.await.unwrap(), expected(&["d"]));
    assert_eq!(fixture.seen(), [vec!["a"], vec!["b", "c", "d"]]);
    drop(fixture.pool);
    let noted = fixture.noted.batches.lock().unwrap();
    assert_eq!(
        noted.iter().map(|batch| batch.texts).collect::<Vec<_>>(),
        [1, 3]
    );
    assert!(
        noted
            .iter()
            .all(|batch| batch.kind == Kind::Memory && !batch.failed)
    );
    assert_eq!(noted[1].pieces, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_is_cut_and_others_get_their_turn_between() {
    let fixture = pool(Settings {
        batch_texts_max: 2,
        ..Settings::default()
    });
    let blocking = fixture.ask_first(&["first"]).await;
    let large = fixture.ask(&["1", "2", "3", "4", "5"]).await;
    let small = fixture.ask(&["x"]).await;
    fixture.let_through(5);
    blocking.await.unwrap().unwrap();
    assert_eq!(large.await.unwrap(), expected(&["1", "2", "3", "4", "5"]));
    assert_eq!(small.await.unwrap(), expected(&["x"]));
    assert_eq!(
        fixture.seen(),
        [
            vec!["first"],
            vec!["1", "2"],
            vec!["x", "3"],
            vec!["4", "5"]
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_in_bytes_but_takes_one_text_of_any_size() {
    let fixture = pool(Settings {
        batch_bytes_max: 10,
        ..Settings::default()
    });
    let blocking = fixture.ask_first(&["first"]).await;
    let long = "long ".repeat(20);
    let others = fixture.ask(&["aaaa", "bbbb", "cccc", &long, "d"]).await;
    fixture.let_through(5);
    blocking.await.unwrap().unwrap();
    assert_eq!(
        others.await.unwrap(),
        expected(&["aaaa", "bbbb", "cccc", &long, "d"])
    );
    let sizes: Vec<usize> = fixture.seen().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 2, 1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let fixture = pool(Settings {
        queue_texts_max: 3,
        queue_bytes_max: 100,
        ..Settings::default()
    });
    let running = fixture.ask_first(&["running"]).await;
    let waiting = fixture.ask(&["a", "b"]).await;
    let refused = fixture.pool.handle().embed(passages(&["c", "d"])).await;
    assert_eq!(
        refused,
        Err(Error::Overloaded {
            queued: 2,
            limit: 3
        })
    );
    let too_long = "x".repeat(200);
    let refused = fixture.pool.handle().embed(passages(&[&too_long])).await;
    assert_eq!(
        refused,
        Err(Error::Overloaded {
            queued: 2,
            limit: 3
        })
    );
    assert_eq!(*fixture.noted.refused.lock().unwrap(), 3);
    fixture.let_through(2);
    running.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    // What exceeds the bounds by itself is taken when nothing else waits.
    fixture.let_through(1);
    assert_eq!(
        fixture.pool.handle().embed(passages(&[&too_long])).await,
        expected(&[&too_long])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_does_not_wait_for_memories() {
    let fixture = pool(Settings::default());
    let blocked = fixture.ask_first(&["held up"]).await;
    let query = fixture
        .pool
        .handle()
        .embed_queries(vec!["asked".to_owned()])
        .await
        .unwrap();
    assert_eq!(query, Stub.embed_queries(&["asked".to_owned()]).unwrap());
    assert!(!blocked.is_finished());
    fixture.let_through(1);
    blocked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_or_a_panic_fails_only_the_request_it_came_from() {
    for bad in ["fail", "panic"] {
        let fixture = pool(Settings::default());
        let running = fixture.ask_first(&["running"]).await;
        let good = fixture.ask(&["good"]).await;
        let failing = fixture.ask(&["also good", bad]).await;
        // The batch of both fails, then each is tried by itself.
        fixture.let_through(4);
        running.await.unwrap().unwrap();
        assert_eq!(good.await.unwrap(), expected(&["good"]));
        assert!(matches!(
            failing.await.unwrap(),
            Err(Error::Embed(embedding::Error::Model(_)))
        ));
        // The pool goes on.
        fixture.let_through(1);
        assert_eq!(
            fixture.pool.handle().embed(passages(&["next"])).await,
            expected(&["next"])
        );
        assert_eq!(fixture.pool.handle().queued_texts(Kind::Memory), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gave_up_is_skipped() {
    let fixture = pool(Settings::default());
    let running = fixture.ask_first(&["running"]).await;
    let gone = fixture.ask(&["gone"]).await;
    let waiting = fixture.ask(&["waiting"]).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    fixture.let_through(2);
    running.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(fixture.seen(), [vec!["running"], vec!["waiting"]]);
    assert_eq!(fixture.pool.handle().queued_texts(Kind::Memory), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_pool_finishes_what_runs_and_refuses_the_rest() {
    let fixture = pool(Settings::default());
    let running = fixture.ask_first(&["running"]).await;
    let waiting = fixture.ask(&["waiting"]).await;
    let handle = fixture.pool.handle();
    let Fixture { pool, gate, .. } = fixture;
    let dropping = tokio::task::spawn_blocking(move || drop(pool));
    assert_eq!(waiting.await.unwrap(), Err(Error::Closed));
    gate.send(()).unwrap();
    assert_eq!(running.await.unwrap(), expected(&["running"]));
    dropping.await.unwrap();
    assert_eq!(handle.embed(passages(&["later"])).await, Err(Error::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_asked_nothing_done() {
    let fixture = pool(Settings::default());
    assert_eq!(
        fixture.pool.handle().embed(Vec::new()).await,
        Ok(Vec::new())
    );
    assert!(fixture.seen().is_empty());
}
