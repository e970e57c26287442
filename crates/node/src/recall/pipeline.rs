//! The steps of a recall over one view, on one thread.

use std::time::Instant;

use memorygate_core::{
    embedding::{Embedding, ModelId, QueryEmbedding, TokenStates},
    key::Key,
    memory::Memory,
    rank::{self, Candidate, Prior, Ranked, Stage},
    state::{ReadError, RowKey, decode},
};
use memorygate_index::{
    late,
    namespace::{self, NamespaceIndex},
    sessions::Shares,
};
use tracing::error;

use super::{Found, Query, Raw, answer};
use crate::{
    error::Error,
    projection::View,
    stored,
    telemetry::metrics::{Metrics, stage},
};

/// A candidate with its stored rows.
struct Row {
    key: Key,
    dense: f32,
    lexical: f32,
    session: Option<u32>,
    memory: Memory,
    /// The embedding's row, undecoded.
    embedding: Vec<u8>,
}

pub(super) fn run(
    view: &View<'_>,
    query: &Query,
    embedding: Option<&QueryEmbedding>,
    metrics: &Metrics,
) -> Result<Vec<Found>, Error> {
    let Some(index) = view.index().namespace(&query.namespace) else {
        return Ok(Vec::new());
    };
    let mut lap = Lap::start(metrics);
    let candidates = candidates(view, index, query, embedding)?;
    metrics.recall_candidates.observe(candidates.len() as f64);
    lap.end(stage::SEARCH);
    let rows = read(view, query, &candidates)?;
    lap.end(stage::READ);
    let late = match embedding {
        Some(embedding) if query.stages.has(Stage::Late) => {
            late_scores(&index.late_query(embedding), embedding.model, query, &rows)?
        }
        Some(_) | None => vec![None; rows.len()],
    };
    lap.end(stage::LATE);
    let now = view.clock();
    let candidates: Vec<Candidate> = rows
        .iter()
        .zip(&late)
        .map(|(row, late)| Candidate {
            key: row.key,
            dense: row.dense,
            lexical: row.lexical,
            late: *late,
            session: row.session,
            prior: Prior::of(&row.memory, now, &query.ranking),
        })
        .collect();
    let mut failed = None;
    let ranked = rank::rank(&candidates, &query.ranking, query.stages, |best| {
        expand(index, query, &rows, best).unwrap_or_else(|error| {
            failed = Some(error);
            None
        })
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    lap.end(stage::RANK);
    let raw = |at: usize| Raw {
        dense: rows[at].dense,
        lexical: rows[at].lexical,
        late: late[at].unwrap_or_default(),
    };
    let found = found(ranked, &rows, raw, query)?;
    let found = if query.follow_links {
        answer::with_linked(view, query, found)?
    } else {
        found
    };
    lap.end(stage::RECORDS);
    Ok(found)
}

fn candidates(
    view: &View<'_>,
    index: &NamespaceIndex,
    query: &Query,
    embedding: Option<&QueryEmbedding>,
) -> Result<Vec<namespace::Candidate>, Error> {
    let vector = embedding.filter(|_| query.stages.has(Stage::Dense));
    let shares = if query.stages.has(Stage::Neighbours) {
        Shares {
            adjacent: f64::from(query.ranking.neighbour),
            next_but_one: f64::from(query.ranking.far_neighbour),
        }
    } else {
        Shares::NONE
    };
    let query = namespace::Query {
        words: query
            .text
            .as_deref()
            .filter(|_| query.stages.has(Stage::Lexical)),
        vector,
        // A caller who wants more than the setting's candidates gets as many from each source.
        count: query.ranking.candidates.max(query.limit),
        shares,
        filter: &query.filter,
        reader: &query.reader,
        now: view.clock(),
    };
    index.candidates(&query).map_err(|error| Error::Internal {
        reason: format!("search vectors: {error}"),
    })
}

/// Index and state show one moment, so each candidate is stored and passes; one that does not is a
/// bug that must not show a memory to someone who may not see it.
fn read(
    view: &View<'_>,
    query: &Query,
    candidates: &[namespace::Candidate],
) -> Result<Vec<Row>, ReadError> {
    let row = |key: Key| RowKey::Memory(query.namespace.clone(), key);
    let embedding = |key: Key| RowKey::Embedding(query.namespace.clone(), key);
    let memories: Vec<RowKey> = candidates.iter().map(|c| row(c.key)).collect();
    let embeddings: Vec<RowKey> = candidates.iter().map(|c| embedding(c.key)).collect();
    let memories = stored::get_many(&view.records().state, &memories)?;
    let embeddings = stored::get_many(&view.records().state, &embeddings)?;
    let mut rows = Vec::with_capacity(candidates.len());
    for ((candidate, memory), embedding) in candidates.iter().zip(memories).zip(embeddings) {
        let key = candidate.key;
        let memory = match memory {
            Some(bytes) => Some(decode::<Memory>(&row(key), &bytes)?),
            None => None,
        };
        let passes = |m: &Memory| query.filter.passes(m, &query.reader, view.clock());
        let (Some(memory), Some(embedding)) = (memory.filter(passes), embedding) else {
            error!(%key, position = view.position(), "index found what the state does not let pass");
            debug_assert!(
                false,
                "index found {key}, which the state does not let pass"
            );
            continue;
        };
        rows.push(Row {
            key,
            dense: candidate.dense,
            lexical: candidate.lexical,
            session: candidate.session,
            memory,
            embedding,
        });
    }
    Ok(rows)
}

fn late_scores(
    late: &late::Query,
    model: ModelId,
    query: &Query,
    rows: &[Row],
) -> Result<Vec<Option<f32>>, ReadError> {
    let penalty = f64::from(query.ranking.length_penalty);
    let score = |row: &Row| {
        let corrupt = |error: minicbor::decode::Error| {
            stored::corrupt(RowKey::Embedding(query.namespace.clone(), row.key), &error)
        };
        if stored::model_of(&row.embedding).map_err(corrupt)? != model {
            return Ok(None);
        }
        let windows = stored::windows(&row.embedding).map_err(corrupt)?;
        Ok(late.score(windows, penalty).map(|s| s as f32))
    };
    rows.iter().map(score).collect()
}

/// Late interaction of all rows with the rarest word pieces of the best ones.
fn expand(
    index: &NamespaceIndex,
    query: &Query,
    rows: &[Row],
    best: &[usize],
) -> Result<Option<Vec<f32>>, ReadError> {
    let embedding = |at: usize| -> Result<Embedding, ReadError> {
        let key = RowKey::Embedding(query.namespace.clone(), rows[at].key);
        decode(&key, &rows[at].embedding)
    };
    let best: Vec<Embedding> = best
        .iter()
        .map(|at| embedding(*at))
        .collect::<Result<_, _>>()?;
    let has_states = |e: &&Embedding| e.model != ModelId::GIVEN && e.state_count() > 0;
    // States of another model than the first one's say nothing about each other.
    let Some(model) = best.iter().find(has_states).map(|e| e.model) else {
        return Ok(None);
    };
    let states: Vec<&TokenStates> = best
        .iter()
        .filter(|e| e.model == model)
        .flat_map(|e| e.windows.iter().map(|w| &w.states))
        .collect();
    let Some(late) = index.expansion_query(model, states, query.ranking.expansion_pieces) else {
        return Ok(None);
    };
    let scores = late_scores(&late, model, query, rows)?;
    let known: Vec<f32> = scores.iter().flatten().copied().collect();
    // A memory without states is as far from these pieces as the average one.
    let mean = known.iter().sum::<f32>() / known.len().max(1) as f32;
    Ok(Some(
        scores.into_iter().map(|s| s.unwrap_or(mean)).collect(),
    ))
}

/// The best `limit`, with near-identical ones folded into the better.
fn found(
    ranked: Vec<Ranked>,
    rows: &[Row],
    raw: impl Fn(usize) -> Raw,
    query: &Query,
) -> Result<Vec<Found>, ReadError> {
    let texts: Vec<&str> = ranked
        .iter()
        .map(|r| rows[r.at].memory.content.as_str())
        .collect();
    let kept = answer::fold(&texts, query.limit, query.stages.has(Stage::Fold));
    let found = kept.into_iter().map(|kept| {
        let Ranked { at, parts, score } = ranked[kept.at];
        let row = &rows[at];
        let model = stored::model_of(&row.embedding).map_err(|error| {
            stored::corrupt(RowKey::Embedding(query.namespace.clone(), row.key), &error)
        })?;
        Ok(Found {
            key: row.key,
            memory: row.memory.clone(),
            model,
            score,
            parts,
            raw: raw(at),
            folded: kept
                .folded
                .iter()
                .map(|place| rows[ranked[*place].at].key)
                .collect(),
            linked_from: None,
        })
    });
    found.collect()
}

/// Measures the stages one after another.
struct Lap<'a> {
    metrics: &'a Metrics,
    since: Instant,
}

impl<'a> Lap<'a> {
    fn start(metrics: &'a Metrics) -> Self {
        Self {
            metrics,
            since: Instant::now(),
        }
    }

    fn end(&mut self, stage: &str) {
        let now = Instant::now();
        self.metrics.stage(stage, now - self.since);
        self.since = now;
    }
}
