//! Learning in the background: a bounded queue and the one worker that empties it.
//!
//! Nothing is lost silently. Every queued lesson ends in exactly one of these: acknowledged, handed
//! back by a flush as failed, or handed to [`Background::on_lost`] (and logged as an error) because
//! nobody can ask for it any more.

use std::{mem, sync::Arc, time::Duration};

use memorygate_core::key::Key;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tracing::{error, warn};

use super::{acknowledge, give_feedback};
use crate::{
    context::LearningContext,
    error::{Error, Kind, Outcome},
    interaction::Interaction,
    store::KnowledgeStore,
};

/// Lessons that the worker stores in one write, at most.
const BATCH_MAX: usize = 64;

/// Failures kept for the next flush, at most; further ones are lost at once, and said to be.
const FAILURES_MAX: usize = 1024;

/// The longest wait between attempts while the store cannot be reached.
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// What happens to a lesson for which the queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The caller waits for room: back-pressure.
    #[default]
    Wait,
    /// The caller gets an error with [`Kind::Retry`].
    Refuse,
}

/// Takes what could neither be stored nor handed back.
pub type OnLost = Arc<dyn Fn(Vec<Unstored>) + Send + Sync>;

/// Settings of background learning.
#[derive(Clone)]
pub struct Background {
    /// Lessons that may wait. Default: 1024.
    pub queue_lessons_max: usize,
    /// Default: wait.
    pub when_full: WhenFull,
    /// How long the worker goes on trying while writes fail that may succeed later. It adds to the
    /// store's own patience, and never repeats a write whose outcome is unknown. Default: 5 min.
    pub patience: Duration,
    /// Wait before the second of those attempts; doubled for each further one, up to 15 s.
    /// Default: 500 ms.
    pub backoff_initial: Duration,
    /// Default: none; what is lost is only logged.
    pub on_lost: Option<OnLost>,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            queue_lessons_max: 1024,
            when_full: WhenFull::default(),
            patience: Duration::from_secs(5 * 60),
            backoff_initial: Duration::from_millis(500),
            on_lost: None,
        }
    }
}

/// A lesson that is not known to be stored.
#[derive(Clone, Debug)]
pub struct Unstored {
    pub context: LearningContext,
    pub interaction: Interaction,
    /// Why. After [`Outcome::Unknown`] it may be stored all the same.
    pub error: Error,
}

impl Unstored {
    /// The key of the memory that it would have become; `None` if a name in it is not allowed.
    pub fn key(&self) -> Option<Key> {
        let namespace = self.context.namespace.as_deref().unwrap_or("default");
        let experience = self.interaction.experience(&self.context);
        experience.key_in(namespace).ok()
    }
}

/// What became of the lessons since the flush before.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Flushed {
    pub acknowledged: u64,
    /// Not stored, with the reason; learn them again or let them go.
    pub failed: Vec<Unstored>,
    /// Feedback that could not be given, for lessons that are stored.
    pub feedback_failed: Vec<(Key, Error)>,
    /// Failures that were more than could be kept; they went to [`Background::on_lost`].
    pub lost: u64,
}

#[derive(Clone)]
pub(super) struct Job {
    pub(super) context: LearningContext,
    pub(super) interaction: Interaction,
}

impl Job {
    fn unstored(self, error: Error) -> Unstored {
        Unstored {
            context: self.context,
            interaction: self.interaction,
            error,
        }
    }
}

enum Message {
    Learn(Box<Job>),
    Flush(oneshot::Sender<Flushed>),
}

/// The caller's side of the queue.
pub(super) struct Worker {
    messages: mpsc::Sender<Message>,
    when_full: WhenFull,
    task: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(store: Arc<dyn KnowledgeStore>, background: Background) -> Self {
        let (messages, receiver) = mpsc::channel(background.queue_lessons_max.max(1));
        let inside = Inside {
            store,
            messages: receiver,
            patience: background.patience,
            backoff_initial: background.backoff_initial,
            on_lost: background.on_lost,
            in_flight: Vec::new(),
            so_far: Flushed::default(),
        };
        Self {
            messages,
            when_full: background.when_full,
            task: tokio::spawn(inside.run()),
        }
    }

    pub(super) async fn queue(&self, job: Job) -> Result<(), Error> {
        let message = Message::Learn(Box::new(job));
        let refuse = |message: String| Error::new(Kind::Retry, Outcome::Failed, "learn", message);
        let ended = || refuse("the background worker has ended with its runtime".to_owned());
        match self.when_full {
            WhenFull::Wait => self.messages.send(message).await.map_err(|_| ended()),
            WhenFull::Refuse => self.messages.try_send(message).map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => {
                    let room = self.messages.max_capacity();
                    refuse(format!("queue is full: {room} lessons are waiting"))
                }
                mpsc::error::TrySendError::Closed(_) => ended(),
            }),
        }
    }

    pub(super) async fn flush(&self) -> Flushed {
        let (sender, receiver) = oneshot::channel();
        // A worker that has ended has given account of everything already.
        if self.messages.send(Message::Flush(sender)).await.is_err() {
            return Flushed::default();
        }
        receiver.await.unwrap_or_default()
    }

    pub(super) async fn close(self) -> Flushed {
        let flushed = self.flush().await;
        drop(self.messages);
        if let Err(error) = self.task.await {
            warn!(%error, "background worker ended badly");
        }
        flushed
    }
}

/// The worker's side. Its drop gives account of what it still holds.
struct Inside {
    store: Arc<dyn KnowledgeStore>,
    messages: mpsc::Receiver<Message>,
    patience: Duration,
    backoff_initial: Duration,
    on_lost: Option<OnLost>,
    /// Taken from the queue and not settled yet.
    in_flight: Vec<Job>,
    so_far: Flushed,
}

impl Inside {
    async fn run(mut self) {
        let mut next = self.messages.recv().await;
        while let Some(message) = next.take() {
            match message {
                Message::Learn(job) => {
                    self.in_flight.push(*job);
                    next = self.fill_batch();
                    self.settle_batch().await;
                }
                Message::Flush(reply) => {
                    let so_far = mem::take(&mut self.so_far);
                    // The caller gave up waiting: the account is the next one's.
                    if let Err(unread) = reply.send(so_far) {
                        self.so_far = unread;
                    }
                }
            }
            if next.is_none() {
                next = self.messages.recv().await;
            }
        }
    }

    /// Takes what is waiting and can share a write. Returns the first message that cannot.
    fn fill_batch(&mut self) -> Option<Message> {
        while self.in_flight.len() < BATCH_MAX {
            match self.messages.try_recv() {
                Ok(Message::Learn(job)) if self.can_join(&job) => self.in_flight.push(*job),
                Ok(other) => return Some(other),
                Err(_empty_or_closed) => return None,
            }
        }
        None
    }

    /// A write is made in one context, and its experiences are completed before.
    fn can_join(&self, job: &Job) -> bool {
        let first = &self.in_flight[0].context;
        first.namespace == job.context.namespace
    }

    async fn settle_batch(&mut self) {
        if self.in_flight.len() > 1 && !self.store_together().await {
            return;
        }
        // One by one: a batch of one, or one that holds a lesson which the store refuses.
        while let Some(job) = self.in_flight.first().cloned() {
            let mut patience = Patience::new(self.patience, self.backoff_initial);
            let stored = loop {
                match acknowledge(&*self.store, &job).await {
                    Err(error) if patience.waits_after(&error).await => {}
                    settled => break settled,
                }
            };
            // From here to the end of the turn nothing is awaited, so no lesson is counted twice.
            self.in_flight.remove(0);
            match stored {
                Ok(done) => {
                    self.so_far.acknowledged += 1;
                    self.so_far.feedback_failed.extend(done.feedback_failed);
                }
                Err(error) => self.fail(job.unstored(error)),
            }
        }
    }

    /// Stores the batch in one write. Returns whether it has to be tried one by one.
    async fn store_together(&mut self) -> bool {
        let context = LearningContext {
            namespace: self.in_flight[0].context.namespace.clone(),
            ..LearningContext::default()
        };
        let experiences: Vec<_> = self
            .in_flight
            .iter()
            .map(|job| job.interaction.experience(&job.context))
            .collect();
        let mut patience = Patience::new(self.patience, self.backoff_initial);
        let stored = loop {
            let batch = experiences.clone();
            match self.store.store_experiences(&context, batch).await {
                Err(error) if patience.waits_after(&error).await => {}
                settled => break settled,
            }
        };
        match stored {
            Ok(_) => {
                while let Some(job) = self.in_flight.first().cloned() {
                    let failed = give_feedback(&*self.store, &job).await;
                    self.in_flight.remove(0);
                    self.so_far.acknowledged += 1;
                    self.so_far.feedback_failed.extend(failed);
                }
                false
            }
            Err(error) if error.kind() == Kind::Fix => true,
            Err(error) => {
                for job in mem::take(&mut self.in_flight) {
                    self.fail(job.unstored(error.clone()));
                }
                false
            }
        }
    }

    fn fail(&mut self, unstored: Unstored) {
        if self.so_far.failed.len() < FAILURES_MAX {
            self.so_far.failed.push(unstored);
        } else {
            self.so_far.lost += 1;
            self.lose(vec![unstored]);
        }
    }

    fn lose(&self, lost: Vec<Unstored>) {
        for one in &lost {
            let key = one.key().map(|key| key.to_string()).unwrap_or_default();
            error!(key, error = %one.error, "lesson is lost");
        }
        if let Some(on_lost) = &self.on_lost {
            on_lost(lost);
        }
    }
}

/// Waits between attempts of one write, as long as another may succeed and there is time.
struct Patience {
    end: Instant,
    wait: Duration,
}

impl Patience {
    fn new(patience: Duration, wait: Duration) -> Self {
        Self {
            end: Instant::now() + patience,
            wait,
        }
    }

    /// Whether to try again: what failed for sure and may succeed later. Waits before it says so.
    async fn waits_after(&mut self, error: &Error) -> bool {
        let may_succeed = error.kind() == Kind::Retry && error.outcome() == Outcome::Failed;
        if !may_succeed || Instant::now() + self.wait > self.end {
            return false;
        }
        warn!(%error, wait_ms = self.wait.as_millis() as u64, "lessons wait for the store");
        sleep(self.wait).await;
        self.wait = (self.wait * 2).min(BACKOFF_MAX);
        true
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut lost = mem::take(&mut self.so_far.failed);
        let end = |outcome| {
            let message = "the runtime ended before the lesson was stored";
            Error::new(Kind::Retry, outcome, "learn", message)
        };
        let in_flight = mem::take(&mut self.in_flight).into_iter();
        lost.extend(in_flight.map(|job| job.unstored(end(Outcome::Unknown))));
        self.messages.close();
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Learn(job) => lost.push(job.unstored(end(Outcome::Failed))),
                Message::Flush(_caller_is_gone) => {}
            }
        }
        for (key, error) in mem::take(&mut self.so_far.feedback_failed) {
            warn!(%key, %error, "feedback was not given");
        }
        if !lost.is_empty() {
            error!(
                count = lost.len(),
                "background worker ended with lessons that are not stored"
            );
            self.lose(lost);
        }
    }
}
