//! The gateway between an agent and its memory: context in before the work, lessons out after it.
//!
//! ```text
//! before:  context ─▶ retrieve_context ─▶ adapt_knowledge ─▶ text for the task
//! after:   interaction ─▶ experience ─▶ store_experience ─▶ feedback on what was used
//!                    └─▶ (background) bounded queue ─▶ worker ─┘
//! ```
//!
//! By default [`MemoryGateway::learn_from_interaction`] returns when the lesson is acknowledged. In
//! background mode it returns when the lesson is queued, and [`MemoryGateway::flush`] tells what
//! became of all of them.

mod background;

use std::sync::Arc;

use memorygate_core::key::Key;

pub use self::background::{Background, Flushed, OnLost, Unstored, WhenFull};
use self::background::{Job, Worker};
use crate::{
    adapter::{Adapted, MemoryAdapter, PromptAdapter},
    context::LearningContext,
    error::Error,
    interaction::Interaction,
    learn::Learned,
    position::Position,
    recall::LIMIT_DEFAULT,
    store::{KnowledgeStore, batch},
};

/// See the module. Share it between agents in an [`Arc`].
///
/// ```
/// # async fn run() -> Result<(), memorygate_client::Error> {
/// use std::sync::Arc;
/// use memorygate_client::{InMemoryStore, Interaction, LearningContext, MemoryGateway, domain};
///
/// let gateway = MemoryGateway::new(Arc::new(InMemoryStore::new()));
/// let context = LearningContext::new("checkout pods restart every night")
///     .domain(domain::INFRASTRUCTURE)
///     .agent("troubleshooter-1");
/// let known = gateway.context_for(&context).await?;
/// // … hand `known.text` to whoever does the work, then:
/// let done = Interaction::new("raised the memory limit to 512Mi").succeeded("quiet since");
/// gateway.learn_from_interaction(&context, done).await?;
/// # Ok(())
/// # }
/// ```
pub struct MemoryGateway {
    store: Arc<dyn KnowledgeStore>,
    adapter: Arc<dyn MemoryAdapter>,
    recall_limit: usize,
    worker: Option<Worker>,
}

/// What became of an interaction.
#[derive(Clone, Debug)]
#[must_use]
pub enum Receipt {
    /// The lesson is stored.
    Acknowledged(Acknowledged),
    /// The lesson waits in the queue; [`MemoryGateway::flush`] tells what becomes of it.
    Queued,
}

#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub learned: Learned,
    pub position: Position,
    /// Feedback that could not be given. The lesson is stored all the same.
    pub feedback_failed: Vec<(Key, Error)>,
}

impl MemoryGateway {
    /// A gateway that acknowledges each lesson, with the default adapter.
    pub fn new(store: Arc<dyn KnowledgeStore>) -> Self {
        Self {
            store,
            adapter: Arc::new(PromptAdapter::default()),
            recall_limit: LIMIT_DEFAULT,
            worker: None,
        }
    }

    #[must_use]
    pub fn with_adapter(mut self, adapter: Arc<dyn MemoryAdapter>) -> Self {
        self.adapter = adapter;
        self
    }

    /// How many memories are recalled for a task.
    #[must_use]
    pub fn with_recall_limit(mut self, limit: usize) -> Self {
        self.recall_limit = limit;
        self
    }

    /// Learns in the background from here on.
    ///
    /// Dropping the gateway drops nothing: the worker goes on until its queue is empty. Only the end
    /// of the runtime stops it; what it then still holds is handed to [`Background::on_lost`], or
    /// logged as an error with its keys. [`MemoryGateway::close`] before the runtime ends avoids
    /// that.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn in_background(mut self, background: Background) -> Self {
        self.worker = Some(Worker::start(Arc::clone(&self.store), background));
        self
    }

    /// What is known about the context's task, in the adapter's form.
    pub async fn context_for(&self, context: &LearningContext) -> Result<Adapted, Error> {
        let reply = self
            .store
            .retrieve_context(context, self.recall_limit)
            .await?;
        Ok(self.adapter.adapt_knowledge(context, &reply.results))
    }

    /// Learns the lesson of an interaction and rates the memories that it used. An interaction that
    /// breaks a bound is refused at once in both modes.
    pub async fn learn_from_interaction(
        &self,
        context: &LearningContext,
        interaction: Interaction,
    ) -> Result<Receipt, Error> {
        let learn = batch(context, vec![interaction.experience(context)])?;
        learn.check(context.namespace.as_deref().unwrap_or("default"))?;
        let job = Job {
            context: context.clone(),
            interaction,
        };
        match &self.worker {
            Some(worker) => worker.queue(job).await.map(|()| Receipt::Queued),
            None => acknowledge(&*self.store, &job)
                .await
                .map(Receipt::Acknowledged),
        }
    }

    /// Waits until everything that was queued before this call is acknowledged or has failed for
    /// good, and hands back what failed. Without background mode there is nothing to wait for.
    pub async fn flush(&self) -> Flushed {
        match &self.worker {
            Some(worker) => worker.flush().await,
            None => Flushed::default(),
        }
    }

    /// Flushes, and ends the worker.
    pub async fn close(self) -> Flushed {
        match self.worker {
            Some(worker) => worker.close().await,
            None => Flushed::default(),
        }
    }
}

/// Stores one lesson, then gives the feedback.
async fn acknowledge(store: &dyn KnowledgeStore, job: &Job) -> Result<Acknowledged, Error> {
    let experience = job.interaction.experience(&job.context);
    let reply = store.store_experience(&job.context, experience).await?;
    let learned = *reply.learned.first().ok_or_else(|| {
        Error::malformed(
            "learn",
            true,
            "no result for the one experience that was sent",
        )
    })?;
    Ok(Acknowledged {
        learned,
        position: reply.position,
        feedback_failed: give_feedback(store, job).await,
    })
}

/// Rates the memories that were used. Each failure stands for itself.
async fn give_feedback(store: &dyn KnowledgeStore, job: &Job) -> Vec<(Key, Error)> {
    let mut failed = Vec::new();
    let reason = job.interaction.verdict.as_str();
    for (key, score) in &job.interaction.used {
        if let Err(error) = store.feedback(&job.context, *key, *score, reason).await {
            failed.push((*key, error));
        }
    }
    failed
}

#[cfg(test)]
mod tests;
