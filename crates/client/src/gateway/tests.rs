//! Lessons through the gateway, with a store that is held up and made to fail.

//! The gateway over a store that can be held up and made to fail.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    Experience, InMemoryStore, Memory,
    error::{Kind, Outcome},
    learn::LearnReply,
    recall::RecallReply,
    scope::Scope,
};

/// An in-memory store that can be held up and made to fail.
struct Moody {
    inner: InMemoryStore,
    /// One permit lets one write through.
    gate: Semaphore,
    /// Errors to give before anything is stored.
    errors: Mutex<Vec<Error>>,
    writes: AtomicU32,
}

impl Moody {
    fn open() -> Arc<Self> {
        Self::with_permits(Semaphore::MAX_PERMITS)
    }

    fn with_permits(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemoryStore::new(),
            gate: Semaphore::new(permits),
            errors: Mutex::new(Vec::new()),
            writes: AtomicU32::new(0),
        })
    }

    fn fail_next(&self, kind: Kind, outcome: Outcome) {
        let error = Error::new(kind, outcome, "learn", "mood");
        self.errors.lock().unwrap().push(error);
    }
}

#[async_trait]
impl KnowledgeStore for Moody {
    async fn store_experiences(
        &self,
        context: &LearningContext,
        experiences: Vec<Experience>,
    ) -> Result<LearnReply, Error> {
        self.gate.acquire().await.unwrap().forget();
        self.writes.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = self.errors.lock().unwrap().pop() {
            return Err(error);
        }
        self.inner.store_experiences(context, experiences).await
    }

    async fn retrieve_context(
        &self,
        context: &LearningContext,
        limit: usize,
    ) -> Result<RecallReply, Error> {
        self.inner.retrieve_context(context, limit).await
    }

    async fn get(&self, context: &LearningContext, key: Key) -> Result<Option<Memory>, Error> {
        KnowledgeStore::get(&self.inner, context, key).await
    }

    async fn feedback(
        &self,
        context: &LearningContext,
        key: Key,
        score: f32,
        reason: &str,
    ) -> Result<(), Error> {
        KnowledgeStore::feedback(&self.inner, context, key, score, reason).await
    }

    async fn share(&self, context: &LearningContext, key: Key, with: Scope) -> Result<Key, Error> {
        KnowledgeStore::share(&self.inner, context, key, with).await
    }

    async fn forget(&self, context: &LearningContext, key: Key) -> Result<(), Error> {
        KnowledgeStore::forget(&self.inner, context, key).await
    }
}

fn context() -> LearningContext {
    LearningContext::new("disk full on db-1")
        .domain("infrastructure")
        .agent("ada")
}

fn lesson(i: usize) -> Interaction {
    Interaction::new(format!("step {i}")).succeeded("it worked")
}

fn count(store: &Moody) -> u64 {
    let stats = store.inner.stats(None).unwrap();
    stats.namespaces.iter().map(|n| n.memories).sum()
}

#[tokio::test]
async fn a_lesson_is_acknowledged_and_what_helped_is_rated() {
    let store = Moody::open();
    let gateway = MemoryGateway::new(store.clone());
    let first = gateway
        .learn_from_interaction(&context(), lesson(1))
        .await
        .unwrap();
    let Receipt::Acknowledged(first) = first else {
        panic!("{first:?}");
    };
    assert!(first.learned.created);
    let known = gateway.context_for(&context()).await.unwrap();
    assert_eq!(known.used, [first.learned.key]);
    assert!(known.text.contains("| Done: step 1"), "{}", known.text);

    let second = lesson(2).helped(first.learned.key).misled(Key([9; 16]));
    let Receipt::Acknowledged(second) = gateway
        .learn_from_interaction(&context(), second)
        .await
        .unwrap()
    else {
        panic!("it is not in background mode");
    };
    let (unknown, error) = &second.feedback_failed[0];
    assert_eq!((*unknown, error.kind()), (Key([9; 16]), Kind::NotFound));
    let rated = store.inner.get(first.learned.key).unwrap().unwrap();
    assert_eq!(rated.feedback.count, 1);
    assert_eq!(gateway.flush().await.acknowledged, 0);
    assert_eq!(gateway.close().await.acknowledged, 0);
}

#[tokio::test]
async fn a_flush_waits_for_everything_that_was_queued() {
    let store = Moody::open();
    let gateway = MemoryGateway::new(store.clone()).in_background(Background::default());
    for i in 0..200 {
        let receipt = gateway.learn_from_interaction(&context(), lesson(i)).await;
        assert!(matches!(receipt, Ok(Receipt::Queued)));
    }
    let flushed = gateway.flush().await;
    assert_eq!((flushed.acknowledged, flushed.failed.len()), (200, 0));
    assert_eq!(count(&store), 200);
    assert!(
        store.writes.load(Ordering::Relaxed) < 200,
        "lessons that wait share a write"
    );
    assert_eq!(gateway.close().await.acknowledged, 0, "told once");
}

#[tokio::test]
async fn bad_lessons_are_refused_at_once() {
    let gateway = MemoryGateway::new(Moody::open()).in_background(Background::default());
    let bad = lesson(1).importance(2.0);
    let error = gateway
        .learn_from_interaction(&context(), bad)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Fix);
    let nowhere = LearningContext::new("no domain");
    let error = gateway
        .learn_from_interaction(&nowhere, lesson(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Fix);
}

#[tokio::test]
async fn a_full_queue_refuses_or_holds_up_as_asked() {
    let store = Moody::with_permits(0);
    let refusing = Background {
        queue_lessons_max: 2,
        when_full: WhenFull::Refuse,
        ..Background::default()
    };
    let gateway = MemoryGateway::new(store.clone()).in_background(refusing);
    let mut queued = 0;
    let error = loop {
        match gateway
            .learn_from_interaction(&context(), lesson(queued))
            .await
        {
            Ok(_) => queued += 1,
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Retry, Outcome::Failed)
    );
    assert!(error.message().contains("queue is full"), "{error}");
    store.gate.add_permits(1000);
    assert_eq!(gateway.close().await.acknowledged, queued as u64);

    let store = Moody::with_permits(0);
    let waiting = Background {
        queue_lessons_max: 2,
        ..Background::default()
    };
    let gateway = Arc::new(MemoryGateway::new(store.clone()).in_background(waiting));
    let callers: Vec<_> = (0..20)
        .map(|i| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.learn_from_interaction(&context(), lesson(i)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let held_up = callers.iter().filter(|c| !c.is_finished()).count();
    assert!(held_up > 0, "nobody waits for room");
    store.gate.add_permits(1000);
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Ok(Receipt::Queued)));
    }
    assert_eq!(gateway.flush().await.acknowledged, 20);
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_costs_nothing() {
    let store = Moody::open();
    for _ in 0..5 {
        store.fail_next(Kind::Retry, Outcome::Failed);
    }
    let patient = Background {
        backoff_initial: Duration::from_millis(1),
        ..Background::default()
    };
    let gateway = MemoryGateway::new(store.clone()).in_background(patient);
    let _ = gateway
        .learn_from_interaction(&context(), lesson(1))
        .await
        .unwrap();
    let flushed = gateway.flush().await;
    assert_eq!((flushed.acknowledged, flushed.failed.len()), (1, 0));
    assert_eq!(store.writes.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn failures_are_handed_back_and_unknown_outcomes_not_repeated() {
    let store = Moody::open();
    let impatient = Background {
        patience: Duration::ZERO,
        ..Background::default()
    };
    let gateway = MemoryGateway::new(store.clone()).in_background(impatient);
    store.fail_next(Kind::Retry, Outcome::Unknown);
    let _ = gateway
        .learn_from_interaction(&context(), lesson(1))
        .await
        .unwrap();
    let flushed = gateway.flush().await;
    assert_eq!(flushed.acknowledged, 0);
    assert_eq!(flushed.failed[0].error.outcome(), Outcome::Unknown);
    assert_eq!(flushed.failed[0].interaction, lesson(1));
    assert_eq!(store.writes.load(Ordering::Relaxed), 1);
    store.fail_next(Kind::Retry, Outcome::Failed);
    let _ = gateway
        .learn_from_interaction(&context(), lesson(2))
        .await
        .unwrap();
    assert_eq!(gateway.flush().await.failed.len(), 1, "patience is over");
}

#[tokio::test]
async fn one_refused_lesson_does_not_take_its_batch_with_it() {
    let store = Moody::with_permits(0);
    let gateway = MemoryGateway::new(store.clone()).in_background(Background::default());
    for i in 0..4 {
        let _ = gateway
            .learn_from_interaction(&context(), lesson(i))
            .await
            .unwrap();
    }
    // Popped from the end: the batch is refused, then the first lesson of it.
    store.fail_next(Kind::Fix, Outcome::Failed);
    store.fail_next(Kind::Fix, Outcome::Failed);
    store.gate.add_permits(1000);
    let flushed = gateway.flush().await;
    assert_eq!(
        flushed.acknowledged + flushed.failed.len() as u64,
        4,
        "everything is accounted for"
    );
    assert!(flushed.failed.len() <= 2);
    assert_eq!(count(&store), flushed.acknowledged);
}

#[tokio::test]
async fn a_dropped_gateway_still_stores_what_was_queued() {
    let store = Moody::with_permits(0);
    let gateway = MemoryGateway::new(store.clone()).in_background(Background::default());
    for i in 0..10 {
        let _ = gateway
            .learn_from_interaction(&context(), lesson(i))
            .await
            .unwrap();
    }
    drop(gateway);
    store.gate.add_permits(1000);
    let stored = async {
        while count(&store) < 10 {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, stored)
        .await
        .expect("nothing is dropped");
}

#[test]
fn what_the_end_of_the_runtime_leaves_is_handed_over() {
    let lost = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let background = Background {
            on_lost: Some(Arc::new({
                let lost = Arc::clone(&lost);
                move |more| lost.lock().unwrap().extend(more)
            })),
            ..Background::default()
        };
        // No write ever gets through.
        let gateway = MemoryGateway::new(Moody::with_permits(0)).in_background(background);
        for i in 0..10 {
            let _ = gateway
                .learn_from_interaction(&context(), lesson(i))
                .await
                .unwrap();
            tokio::task::yield_now().await;
        }
    });
    drop(runtime);
    let mut lost = lost.lock().unwrap();
    lost.sort_by(|a, b| a.interaction.action.cmp(&b.interaction.action));
    let actions: Vec<_> = lost.iter().map(|u| u.interaction.action.clone()).collect();
    let expected: Vec<_> = (0..10).map(|i| format!("step {i}")).collect();
    assert_eq!(actions, expected);
    assert!(
        lost.iter().any(|u| u.error.outcome() == Outcome::Unknown),
        "what was under way may be stored"
    );
    assert!(lost.iter().all(|u| u.key().is_some()));
}

#[tokio::test]
async fn a_gateway_whose_worker_is_gone_says_so() {
    let store = Moody::open();
    let ended = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        MemoryGateway::new(store).in_background(Background::default())
    });
    let gateway = ended.await.unwrap();
    let error = gateway
        .learn_from_interaction(&context(), lesson(1))
        .await
        .unwrap_err();
    assert!(error.message().contains("has ended"), "{error}");
    assert_eq!(gateway.flush().await.acknowledged, 0);
    assert_eq!(gateway.close().await.acknowledged, 0);
}
