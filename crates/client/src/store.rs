//! What an agent needs of a memory, whoever keeps it.
//!
//! [`Client`] keeps it on a cluster, [`InMemoryStore`](crate::InMemoryStore) in the process. Both
//! pass the one suite in [`crate::conformance`], which says what the contract means.

use async_trait::async_trait;
use memorygate_core::key::Key;

use crate::{
    client::Client,
    context::LearningContext,
    error::{Error, Kind, Outcome},
    experience::Experience,
    feedback::GiveFeedback,
    forget::Forget,
    get::Get,
    history::{History, HistoryPage},
    learn::{Learn, LearnReply},
    list::{List, Page},
    memory::Memory,
    recall::{Recall, RecallReply},
    scope::Scope,
    share::Share,
};

/// Where lessons are kept. Everything is done on behalf of the agent and the teams that the context
/// names, in its namespace.
#[async_trait]
pub trait KnowledgeStore: Send + Sync {
    /// Stores one lesson, or reinforces the memory that it became before. When this returns, it is
    /// as durable as this store makes anything.
    async fn store_experience(
        &self,
        context: &LearningContext,
        experience: Experience,
    ) -> Result<LearnReply, Error> {
        self.store_experiences(context, vec![experience]).await
    }

    /// Stores 1 to 256 lessons, all or none.
    async fn store_experiences(
        &self,
        context: &LearningContext,
        experiences: Vec<Experience>,
    ) -> Result<LearnReply, Error>;

    /// The memories most relevant to the context's task, best first: 1 to 1000.
    async fn retrieve_context(
        &self,
        context: &LearningContext,
        limit: usize,
    ) -> Result<RecallReply, Error>;

    /// One memory; `None` if there is none that the context's agent may see.
    async fn get(&self, context: &LearningContext, key: Key) -> Result<Option<Memory>, Error>;

    /// Says how useful a memory was: -1 (misled) to 1 (solved it). [`Kind::NotFound`] if there is
    /// none that the context's agent may see.
    async fn feedback(
        &self,
        context: &LearningContext,
        key: Key,
        score: f32,
        reason: &str,
    ) -> Result<(), Error>;

    /// Makes a memory of the context's agent, or of one of its teams, one of a wider scope, and returns the
    /// key that it has there. [`Kind::NotFound`] if there is none that the context's agent may see.
    async fn share(&self, context: &LearningContext, key: Key, with: Scope) -> Result<Key, Error>;

    /// Removes a memory for good. [`Kind::NotFound`] if there is none that the context's agent may
    /// see.
    async fn forget(&self, context: &LearningContext, key: Key) -> Result<(), Error>;
}

/// A store that also tells how memories were, and how they came to be what they are. These are plain reads, as
/// whoever looks back asks them, not an agent at its task.
#[async_trait]
pub trait KnowledgeHistory: KnowledgeStore {
    /// As of [`Recall::as_of`], if it is set.
    async fn recall_past(&self, recall: &Recall) -> Result<RecallReply, Error>;

    /// As of [`Get::as_of`], if it is set; `None` if there is none that the reader may see, or was none yet.
    async fn get_past(&self, get: Get) -> Result<Option<Memory>, Error>;

    /// As of [`List::as_of`], if it is set.
    async fn list_past(&self, list: &List) -> Result<Page, Error>;

    /// One page of what happened to a memory, newest first; `None` if there is none that the reader may see.
    async fn history(&self, history: &History) -> Result<Option<HistoryPage>, Error>;
}

/// A batch in a context, checked for what only the context can lack.
pub(crate) fn batch(
    context: &LearningContext,
    experiences: Vec<Experience>,
) -> Result<Learn, Error> {
    let mut learn = Learn::new(experiences.into_iter().map(|e| context.complete(e)));
    if learn.experiences.iter().any(|e| e.domain.is_empty()) {
        return Err(Error::new(
            Kind::Fix,
            Outcome::Failed,
            "learn",
            "neither the experience nor its context names a domain",
        ));
    }
    learn.namespace.clone_from(&context.namespace);
    Ok(learn)
}

/// A share on behalf of the context's agent.
pub(crate) fn share(context: &LearningContext, key: Key, with: Scope) -> Share {
    let mut share = Share::with_everyone(key).reader(context.reader());
    share.with = with;
    share.target.namespace.clone_from(&context.namespace);
    share
}

#[async_trait]
impl KnowledgeStore for Client {
    async fn store_experiences(
        &self,
        context: &LearningContext,
        experiences: Vec<Experience>,
    ) -> Result<LearnReply, Error> {
        self.learn(batch(context, experiences)?).await
    }

    async fn retrieve_context(
        &self,
        context: &LearningContext,
        limit: usize,
    ) -> Result<RecallReply, Error> {
        self.recall(&context.recall(limit)).await
    }

    async fn get(&self, context: &LearningContext, key: Key) -> Result<Option<Memory>, Error> {
        let get = Get {
            namespace: context.namespace.clone(),
            ..Get::new(key)
                .reader(context.reader())
                .freshness(context.freshness())
        };
        Self::get(self, get).await
    }

    async fn feedback(
        &self,
        context: &LearningContext,
        key: Key,
        score: f32,
        reason: &str,
    ) -> Result<(), Error> {
        let mut feedback = GiveFeedback::new(key, score)
            .reason(reason)
            .reader(context.reader());
        feedback.target.namespace.clone_from(&context.namespace);
        Self::feedback(self, &feedback).await.map(drop)
    }

    async fn share(&self, context: &LearningContext, key: Key, with: Scope) -> Result<Key, Error> {
        Self::share(self, &share(context, key, with))
            .await
            .map(|shared| shared.key)
    }

    async fn forget(&self, context: &LearningContext, key: Key) -> Result<(), Error> {
        let mut forget = Forget::new(key).reader(context.reader());
        forget.target.namespace.clone_from(&context.namespace);
        Self::forget(self, forget).await.map(drop)
    }
}

#[async_trait]
impl KnowledgeHistory for Client {
    async fn recall_past(&self, recall: &Recall) -> Result<RecallReply, Error> {
        self.recall(recall).await
    }

    async fn get_past(&self, get: Get) -> Result<Option<Memory>, Error> {
        Self::get(self, get).await
    }

    async fn list_past(&self, list: &List) -> Result<Page, Error> {
        self.list_page(list).await
    }

    async fn history(&self, history: &History) -> Result<Option<HistoryPage>, Error> {
        self.history_page(history).await
    }
}
