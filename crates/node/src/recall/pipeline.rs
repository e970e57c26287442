//! The steps of a recall over one view, on one thread.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    time::Instant,
};

use memorygate_core::{
    embedding::{Embedding, ModelId, QueryEmbedding, TokenStates},
    key::Key,
    memory::Memory,
    moment::Moment,
    name::Name,
    rank::{self, Candidate, Prior, Ranked, Stage},
    shown::Shown,
    state::{self, ReadError, RowKey, decode},
    time::TimeMs,
    trust::Trust,
};
use memorygate_index::{
    late::{self, Fit, Redundancy},
    namespace::{self, NamespaceIndex},
    sessions::Shares,
};
use tracing::error;

use super::{Found, Query, Raw, answer};
use crate::{
    error::Error,
    past::Look,
    projection::View,
    stored,
    telemetry::metrics::{Metrics, stage},
};

/// How many times more candidates a recall of the past asks the index for: some of them do not pass as they
/// were.
const DEEPER: usize = 4;

/// A candidate with its stored rows.
struct Row {
    key: Key,
    /// Place of its namespace among those that are asked.
    place: usize,
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
    let state = &view.records().state;
    let looks = query.namespaces.iter();
    let looks = looks.map(|namespace| Look::new(state, namespace, query.as_of));
    let mut looks: Vec<Look<'_>> = looks.collect::<Result<_, _>>()?;
    // One that holds nothing has no index, and nothing to say.
    let namespaces = query.namespaces.iter();
    let indexes: Indexes<'_> = namespaces
        .map(|name| view.index().namespace(name))
        .collect();
    if indexes.iter().all(Option::is_none) {
        return Ok(Vec::new());
    }
    let mut lap = Lap::start(metrics);
    let candidates = candidates(view, &indexes, query, embedding)?;
    metrics.recall_candidates.observe(candidates.len() as f64);
    lap.end(stage::SEARCH);
    let rows = read(view, query, &candidates, &mut looks)?;
    lap.end(stage::READ);
    let late = match embedding {
        Some(embedding) if query.stages.has(Stage::Late) => {
            let late = |index: &Option<&NamespaceIndex>| index.map(|i| i.late_query(embedding));
            let late: Vec<_> = indexes.iter().map(late).collect();
            late_scores(&late, embedding.model, query, &rows)?
        }
        Some(_) | None => vec![None; rows.len()],
    };
    lap.end(stage::LATE);
    let now = now(view, query, &rows);
    let trust = trust(view, query, &rows)?;
    let candidates: Vec<Candidate> = rows
        .iter()
        .zip(&late)
        .zip(trust)
        .map(|((row, late), trust)| Candidate {
            key: row.key,
            namespace: u16::try_from(row.place).expect("the namespaces of a recall are bounded"),
            dense: row.dense,
            lexical: row.lexical,
            late: *late,
            session: row.session,
            prior: Prior::of(&row.memory, trust, now, &query.ranking),
        })
        .collect();
    let mut failed = None;
    let ranked = rank::rank(&candidates, &query.ranking, query.stages, |best| {
        expand(&indexes, query, &rows, best).unwrap_or_else(|error| {
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
    let found = found(view, ranked, &rows, raw, query)?;
    let found = if query.follow_links {
        answer::with_linked(view, query, found, &mut looks)?
    } else {
        found
    };
    looks.into_iter().try_for_each(Look::finish)?;
    lap.end(stage::RECORDS);
    Ok(found)
}

/// What each namespace that is asked has; in their order.
type Indexes<'a> = Vec<Option<&'a NamespaceIndex>>;

/// A candidate and the place of its namespace.
type Placed = (namespace::Candidate, usize);

/// Those of all namespaces, in the order of their keys. Sessions get numbers that are theirs in all of them.
fn candidates(
    view: &View<'_>,
    indexes: &Indexes<'_>,
    query: &Query,
    embedding: Option<&QueryEmbedding>,
) -> Result<Vec<Placed>, Error> {
    let vector = embedding.filter(|_| query.stages.has(Stage::Dense));
    let shares = if query.stages.has(Stage::Neighbours) {
        Shares {
            adjacent: f64::from(query.ranking.neighbour),
            next_but_one: f64::from(query.ranking.far_neighbour),
        }
    } else {
        Shares::NONE
    };
    // Of the past the index knows what never changes; the rest is looked up, and some do not pass.
    let lasting = query.as_of.map(|_| query.filter.lasting());
    let deeper = if query.as_of.is_some() { DEEPER } else { 1 };
    let query = namespace::Query {
        words: query
            .text
            .as_deref()
            .filter(|_| query.stages.has(Stage::Lexical)),
        vector,
        count: count(query) * deeper,
        shares,
        filter: lasting.as_ref().unwrap_or(&query.filter),
        reader: &query.reader,
        now: view.clock(),
        as_of: query.as_of,
    };
    let mut candidates: Vec<Placed> = Vec::new();
    let mut sessions: BTreeMap<(usize, u32), u32> = BTreeMap::new();
    for (place, index) in indexes.iter().enumerate() {
        let Some(index) = index else { continue };
        let found = index.candidates(&query).map_err(|error| Error::Internal {
            reason: format!("search vectors: {error}"),
        })?;
        for mut candidate in found {
            candidate.session = candidate.session.map(|session| {
                let next = u32::try_from(sessions.len()).expect("there are few candidates");
                *sessions.entry((place, session)).or_insert(next)
            });
            candidates.push((candidate, place));
        }
    }
    // Each namespace's come in key order; the sort keeps what is sorted already.
    candidates.sort_by_key(|(candidate, place)| (candidate.key, *place));
    Ok(candidates)
}

/// Trust in the agents of `rows`, in their order: one look for each agent of a namespace.
fn trust(view: &View<'_>, query: &Query, rows: &[Row]) -> Result<Vec<f32>, ReadError> {
    if !query.stages.has(Stage::Trust) {
        return Ok(vec![Trust::NEUTRAL; rows.len()]);
    }
    let mut known: BTreeMap<(usize, &Name), f32> = BTreeMap::new();
    let mut trust = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(agent) = &row.memory.agent else {
            trust.push(Trust::NEUTRAL);
            continue;
        };
        let value = match known.entry((row.place, agent)) {
            btree_map::Entry::Occupied(known) => *known.get(),
            btree_map::Entry::Vacant(new) => {
                let snapshot = &*view.records().state;
                let namespace = &query.namespaces[row.place];
                *new.insert(state::trust(snapshot, namespace, agent)?.value())
            }
        };
        trust.push(value);
    }
    Ok(trust)
}

/// Candidates from each source. A caller who wants more than the setting's gets as many.
fn count(query: &Query) -> usize {
    query.ranking.candidates.max(query.limit)
}

/// When recency is measured: now, or at the moment that is asked about. When a position was is known as far
/// as that its memories had been learned and changed by then.
fn now(view: &View<'_>, query: &Query, rows: &[Row]) -> TimeMs {
    match query.as_of {
        None => view.clock(),
        Some(Moment::Time(time)) => time.min(view.clock()),
        Some(Moment::Position(position)) if position == view.position() => view.clock(),
        Some(Moment::Position(_)) => {
            let changed = rows.iter().map(|row| row.memory.updated_at);
            changed.max().unwrap_or_default()
        }
    }
}

/// Index and state show one moment, so each candidate is stored and passes; one that does not is a
/// bug that must not show a memory to someone who may not see it.
fn read(
    view: &View<'_>,
    query: &Query,
    candidates: &[Placed],
    looks: &mut [Look<'_>],
) -> Result<Vec<Row>, ReadError> {
    let row = |(c, place): &Placed| RowKey::Memory(query.namespaces[*place].clone(), c.key);
    let embedding = |(c, place): &Placed| embedding_row(query, c.key, *place);
    let memories: Vec<RowKey> = candidates.iter().map(row).collect();
    let embeddings: Vec<RowKey> = candidates.iter().map(embedding).collect();
    let memories = stored::get_many(&view.records().state, &memories)?;
    let embeddings = stored::get_many(&view.records().state, &embeddings)?;
    let mut rows = Vec::with_capacity(candidates.len());
    for ((placed, memory), embedding) in candidates.iter().zip(memories).zip(embeddings) {
        let (candidate, place) = (&placed.0, placed.1);
        let key = candidate.key;
        let memory = match memory {
            Some(bytes) => Some(decode::<Memory>(&row(placed), &bytes)?),
            None => None,
        };
        let memory = match memory {
            Some(memory) => looks[place].passing(key, memory, &query.filter, &query.reader)?,
            None => None,
        };
        // Then it had other metadata, say.
        if memory.is_none() && query.as_of.is_some() {
            continue;
        }
        let (Some(memory), Some(embedding)) = (memory, embedding) else {
            error!(%key, position = view.position(), "index found what the state does not let pass");
            debug_assert!(
                false,
                "index found {key}, which the state does not let pass"
            );
            continue;
        };
        rows.push(Row {
            key,
            place,
            dense: candidate.dense,
            lexical: candidate.lexical,
            session: candidate.session,
            memory,
            embedding,
        });
    }
    if query.as_of.is_some() {
        keep_best(&mut rows, count(query));
    }
    Ok(rows)
}

/// Keeps the best `count` by words and the best by vector, as the index does.
fn keep_best(rows: &mut Vec<Row>, count: usize) {
    let best = |score: fn(&Row) -> f32| -> BTreeSet<Key> {
        let mut order: Vec<&Row> = rows.iter().collect();
        order.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.key.cmp(&b.key)));
        order.iter().take(count).map(|row| row.key).collect()
    };
    let (words, vectors) = (best(|row| row.lexical), best(|row| row.dense));
    rows.retain(|row| {
        let by_words = row.lexical > 0.0 && words.contains(&row.key);
        by_words || row.dense != 0.0 && vectors.contains(&row.key)
    });
}

fn embedding_row(query: &Query, key: Key, place: usize) -> RowKey {
    RowKey::Embedding(query.namespaces[place].clone(), key)
}

/// By the late query of each row's namespace.
fn late_scores(
    late: &[Option<late::Query>],
    model: ModelId,
    query: &Query,
    rows: &[Row],
) -> Result<Vec<Option<f32>>, ReadError> {
    let penalty = f64::from(query.ranking.length_penalty);
    let fit = |row: &Row| {
        let corrupt = |error: minicbor::decode::Error| {
            stored::corrupt(embedding_row(query, row.key, row.place), &error)
        };
        let Some(late) = &late[row.place] else {
            return Ok(None);
        };
        if stored::model_of(&row.embedding).map_err(corrupt)? != model {
            return Ok(None);
        }
        let windows = stored::windows(&row.embedding).map_err(corrupt)?;
        Ok(late.fit(windows))
    };
    let fits: Vec<Option<Fit>> = rows.iter().map(fit).collect::<Result<_, _>>()?;
    // What is rare and what goes together, each namespace says for itself.
    let of_namespace = |place: usize| {
        let own = rows
            .iter()
            .zip(&fits)
            .filter(move |(row, _)| row.place == place);
        own.filter_map(|(_, fit)| fit.as_ref())
    };
    let redundancy: Vec<Redundancy> = (0..late.len())
        .map(|place| Redundancy::of(of_namespace(place)))
        .collect();
    let score = |(row, fit): (&Row, &Option<Fit>)| {
        let (late, fit) = (late[row.place].as_ref()?, fit.as_ref()?);
        Some(late.score(fit, &redundancy[row.place], penalty) as f32)
    };
    Ok(rows.iter().zip(&fits).map(score).collect())
}

/// Late interaction of all rows with the rarest word pieces of the best ones: the best of all namespaces,
/// and what is rare in each row's own.
fn expand(
    indexes: &Indexes<'_>,
    query: &Query,
    rows: &[Row],
    best: &[usize],
) -> Result<Option<Vec<f32>>, ReadError> {
    let embedding = |at: usize| -> Result<Embedding, ReadError> {
        let key = embedding_row(query, rows[at].key, rows[at].place);
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
    let count = query.ranking.expansion_pieces;
    let late: Vec<Option<late::Query>> = indexes
        .iter()
        .map(|index| index.and_then(|i| i.expansion_query(model, states.iter().copied(), count)))
        .collect();
    if late.iter().all(Option::is_none) {
        return Ok(None);
    }
    let scores = late_scores(&late, model, query, rows)?;
    let known: Vec<f32> = scores.iter().flatten().copied().collect();
    // A memory without states is as far from these pieces as the average one.
    let mean = known.iter().sum::<f32>() / known.len().max(1) as f32;
    Ok(Some(
        scores.into_iter().map(|s| s.unwrap_or(mean)).collect(),
    ))
}

/// The best `limit`, with near-identical ones folded into the better, and no source in all places.
fn found(
    view: &View<'_>,
    ranked: Vec<Ranked>,
    rows: &[Row],
    raw: impl Fn(usize) -> Raw,
    query: &Query,
) -> Result<Vec<Found>, ReadError> {
    let looks = ranked.iter().map(|ranked| {
        let memory = &rows[ranked.at].memory;
        rank::Look {
            text: &memory.content,
            source: memory.agent.as_ref(),
        }
    });
    let dense = |place: usize| {
        let row = &rows[ranked[place].at];
        stored::first_vector(&row.embedding)
            .map_err(|error| stored::corrupt(embedding_row(query, row.key, row.place), &error))
    };
    let kept = rank::select(looks, query.limit, query.stages, dense)?;
    let found = kept.into_iter().map(|kept| {
        let Ranked { at, parts, score } = ranked[kept.at];
        let row = &rows[at];
        let model = stored::model_of(&row.embedding)
            .map_err(|error| stored::corrupt(embedding_row(query, row.key, row.place), &error))?;
        Ok(Found {
            namespace: query.namespaces[row.place].clone(),
            key: row.key,
            memory: Shown::to(
                &query.reader,
                &*view.records().state,
                &query.namespaces[row.place],
                row.memory.clone(),
            )?,
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
            is_behind: kept.is_behind,
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
