//! Recall: from a question to ranked, explained memories.
//!
//! ```text
//! question ── embedder ──▶ vector, word pieces
//!                │
//!   one view of index and state at one position
//!                ▼
//! candidates ──▶ records, token states ──▶ late interaction ──▶ rank ──▶ select ──▶ links
//! (index)        (state snapshot)                               (core)   (core)
//! ```
//!
//! Everything after the embedding reads one
//! [`View`](crate::projection::View), so the same question at the same position has
//! the same answer, on this node and on every other.

mod answer;
mod pipeline;

use std::{collections::BTreeMap, time::Instant};

use memorygate_core::{
    embedding::{ModelId, QueryEmbedding},
    filter::Filter,
    key::Key,
    memory::Link,
    moment::Moment,
    name::Namespace,
    rank::{self, Parts, Stage, Stages},
    scope::Reader,
    shown::Shown,
};

use crate::{
    backend::Backend, deadline::Deadline, error::Error, past, position::Position,
    telemetry::metrics::stage,
};

/// A question whose every bound was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// In their order, none twice, at most [`RECALL_NAMESPACES_MAX`](memorygate_core::limits::RECALL_NAMESPACES_MAX).
    pub namespaces: Vec<Namespace>,
    /// This or `vector`, or both.
    pub text: Option<String>,
    /// Unit length.
    pub vector: Option<Vec<f32>>,
    pub limit: usize,
    pub reader: Reader,
    pub filter: Filter,
    /// With the request's own weights.
    pub ranking: rank::Settings,
    pub stages: Stages,
    pub at_least: Option<Position>,
    pub linearizable: bool,
    pub follow_links: bool,
    /// The moment whose memories are asked for; the present if absent.
    pub as_of: Option<Moment>,
}

/// A memory that answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub namespace: Namespace,
    pub key: Key,
    pub memory: Shown,
    pub model: ModelId,
    pub score: f64,
    pub parts: Parts,
    pub raw: Raw,
    /// Near-identical memories that this one stands for, in any of the namespaces.
    pub folded: Vec<Key>,
    /// The result that links to it, in the same namespace, if that is why it is here.
    pub linked_from: Option<Link>,
    /// Whether it stepped back behind what others say.
    pub is_behind: bool,
}

/// Scores before weighting.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Raw {
    pub dense: f32,
    pub lexical: f32,
    pub late: f32,
}

pub struct Answer {
    /// Best first, equal ones by key and namespace; then those that stepped back.
    pub results: Vec<Found>,
    pub position: Position,
}

pub async fn recall(backend: &Backend, query: Query, deadline: Deadline) -> Result<Answer, Error> {
    let embedding = embed(backend, &query, deadline).await?;
    let (as_of, at_least) = (query.as_of, query.at_least);
    let from = past::read_from(backend, as_of, at_least, query.linearizable, deadline);
    backend.index_at_least(from.await?, deadline).await?;
    let (index, metrics) = (backend.index.clone(), backend.metrics.clone());
    let is_operator = query.reader.everything;
    let work = move || {
        let view = index.view()?;
        let results = pipeline::run(&view, &query, embedding.as_ref(), &metrics)?;
        Ok::<_, Error>((results, view.position()))
    };
    let (results, index) = backend.recalls.run(deadline, work).await??;
    // What an operator looks at is not used for that, nor is the past.
    if !is_operator && as_of.is_none() {
        let now = backend.clock.now();
        let mut used: BTreeMap<&Namespace, Vec<Key>> = BTreeMap::new();
        for found in &results {
            used.entry(&found.namespace).or_default().push(found.key);
        }
        for (namespace, keys) in used {
            backend.uses.count(namespace, keys.into_iter(), now);
        }
    }
    Ok(Answer {
        results,
        position: backend.position(index),
    })
}

/// `None` where no stage that runs needs a vector.
async fn embed(
    backend: &Backend,
    query: &Query,
    deadline: Deadline,
) -> Result<Option<QueryEmbedding>, Error> {
    if let Some(vector) = &query.vector {
        let (dense, pieces) = (vector.clone(), Vec::new());
        return Ok(Some(QueryEmbedding {
            model: ModelId::GIVEN,
            dense,
            pieces,
        }));
    }
    let needed = query.stages.has(Stage::Dense) || query.stages.has(Stage::Late);
    match &query.text {
        Some(text) if needed => {
            let start = Instant::now();
            let embedding = backend.embed_query(text.clone(), deadline).await?;
            backend.metrics.stage(stage::EMBED, start.elapsed());
            Ok(Some(embedding))
        }
        Some(_) | None => Ok(None),
    }
}
