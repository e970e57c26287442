//! From a query to candidates with their raw scores, and what late interaction needs of the
//! namespace.

use std::collections::BTreeMap;

use memorygate_core::{
    embedding::{ModelId, QueryEmbedding, STATE_BYTES, TokenStates},
    filter::Filter,
    key::Key,
    moment::Moment,
    scope::Reader,
    time::TimeMs,
};

use super::{NamespaceIndex, vector};
use crate::{
    best::Best,
    bitmap::Bitmap,
    dense::{self, signs},
    faiss::Error,
    late::Query as LateQuery,
    lexical::Tokenizer,
    sessions::Shares,
};

/// What candidates are wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Candidates by words, and their scores; `None` leaves them out.
    pub words: Option<&'a str>,
    /// Candidates by dense vector, and their scores; `None` leaves them out.
    pub vector: Option<&'a QueryEmbedding>,
    /// Candidates from each of the two, at most.
    pub count: usize,
    /// What neighbours in a session lend each other; [`Shares::NONE`] for nothing.
    pub shares: Shares,
    pub filter: &'a Filter,
    pub reader: &'a Reader,
    /// The time in the log, by which memories are expired.
    pub now: TimeMs,
    /// Only memories that were there at this moment.
    pub as_of: Option<Moment>,
}

/// A memory that may be an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub key: Key,
    /// Dot product of the query's vector with that of the memory's best window; 0 without a query
    /// vector, or if another model made the memory's.
    pub dense: f32,
    /// BM25 with what neighbours in the session lent; 0 if no word matches.
    pub lexical: f32,
    /// Equal for memories of one session and scope; the number means nothing else.
    pub session: Option<u32>,
}

impl NamespaceIndex {
    /// The best by words and the best by vector of the memories that pass, joined, in key order.
    ///
    /// With the same memories indexed, equal queries get equal answers, bit for bit.
    pub fn candidates(&self, query: &Query<'_>) -> Result<Vec<Candidate>, Error> {
        let mut passing = self.columns.passing(query.filter, query.reader, query.now);
        if let Some(moment) = query.as_of {
            passing.retain(|slot| moment.is_after(&self.identities[slot as usize].created));
        }
        let key = |slot: u32| self.identities[slot as usize].key;
        let lexical = query
            .words
            .map(|words| self.lexical_scores(words, &passing, query.shares));
        // By key, so that the candidates come out in its order.
        let mut slots: BTreeMap<Key, u32> = BTreeMap::new();
        if let Some(scores) = &lexical {
            let mut best = Best::new(query.count, key);
            let matching = passing.iter().map(|slot| (slot, scores[slot as usize]));
            matching
                .filter(|(_, score)| *score > 0.0)
                .for_each(|(slot, s)| best.offer(slot, s));
            slots.extend(
                best.into_sorted()
                    .into_iter()
                    .map(|s| (key(s.slot), s.slot)),
            );
        }
        if let Some(embedding) = query.vector {
            let comparable = self.comparable(passing, embedding.model);
            let all = comparable.count() as usize == self.len();
            let vector = vector(&embedding.dense);
            let asked = dense::Query {
                vector,
                bits: &signs(vector),
            };
            let best = self
                .dense
                .search(asked, query.count, (!all).then_some(&comparable), key)?;
            slots.extend(best.into_iter().map(|s| (key(s.slot), s.slot)));
        }
        let candidate = |(key, slot): (Key, u32)| Candidate {
            key,
            dense: query
                .vector
                .map_or(0.0, |embedding| self.dense_score(embedding, slot)),
            lexical: lexical
                .as_ref()
                .map_or(0.0, |scores| scores[slot as usize] as f32),
            session: self.identities[slot as usize]
                .place
                .map(|place| place.group),
        };
        Ok(slots.into_iter().map(candidate).collect())
    }

    /// The `count` memories nearest to the one under `key`, by its first window: of its scope and domain,
    /// neither archived nor expired at the log time `now`, made by the same model or given. Nearest
    /// first, with the dot products; empty if it is not indexed.
    pub fn neighbours(
        &self,
        key: Key,
        count: usize,
        now: TimeMs,
    ) -> Result<Vec<(Key, f32)>, Error> {
        let Some(slot) = self.slots.get(&key).copied() else {
            return Ok(Vec::new());
        };
        let Some(vector) = self.dense.vectors(slot).next() else {
            return Ok(Vec::new());
        };
        let mut like = self.comparable(
            self.columns.like(slot, now),
            self.identities[slot as usize].model,
        );
        like.remove(slot);
        let bits = &signs(vector);
        let asked = dense::Query { vector, bits };
        let key = |slot: u32| self.identities[slot as usize].key;
        let best = self.dense.search(asked, count, Some(&like), key)?;
        Ok(best
            .into_iter()
            .map(|scored| (key(scored.slot), scored.score as f32))
            .collect())
    }

    /// By slot; 0 for those that do not pass.
    fn lexical_scores(&self, words: &str, passing: &Bitmap, shares: Shares) -> Vec<f64> {
        let tokens = Tokenizer::default().tokens(words);
        let scores = self.lexical.scores(&tokens, passing.len());
        self.sessions.lend(scores, passing, shares)
    }

    fn dense_score(&self, query: &QueryEmbedding, slot: u32) -> f32 {
        let model = self.identities[slot as usize].model;
        let score = self.dense.score(vector(&query.dense), slot);
        score
            .filter(|_| may_compare(query.model, model))
            .unwrap_or(0.0)
    }

    /// The passing memories whose vectors a model's vector may be compared with.
    fn comparable(&self, mut passing: Bitmap, model: ModelId) -> Bitmap {
        // Mostly there is one model, and nothing to look at one by one.
        if !self.models.keys().all(|of| may_compare(model, *of)) {
            passing.retain(|slot| may_compare(model, self.identities[slot as usize].model));
        }
        passing
    }

    /// A query for late interaction with stored token states, its pieces weighted by how rare they
    /// are in this namespace.
    pub fn late_query(&self, query: &QueryEmbedding) -> LateQuery {
        let mut late = LateQuery::new(query.model);
        for piece in &query.pieces {
            late.add(vector(&piece.state), self.pieces.weight(piece.piece));
        }
        late
    }

    /// The `count` rarest of the pieces of memories that answered well, as a further query
    /// (pseudo-relevance feedback). `states` are those memories' windows, best memory first; a
    /// piece is taken as it first occurs. `None` if there are no pieces.
    pub fn expansion_query<'a>(
        &self,
        model: ModelId,
        states: impl IntoIterator<Item = &'a TokenStates>,
        count: usize,
    ) -> Option<LateQuery> {
        let mut first: BTreeMap<u16, (usize, &[u8; STATE_BYTES])> = BTreeMap::new();
        let pieces = states.into_iter().flat_map(TokenStates::iter);
        for (at, (piece, state)) in pieces.enumerate() {
            first.entry(piece).or_insert((at, state));
        }
        let mut rarest: Vec<_> = first.into_iter().collect();
        rarest.sort_by_key(|(piece, (at, _))| (self.pieces.frequency(*piece), *at));
        rarest.truncate(count);
        let mut late = LateQuery::new(model);
        for (piece, (_, state)) in rarest {
            late.add_signs(state, self.pieces.weight(piece));
        }
        (!late.is_empty()).then_some(late)
    }
}

/// Vectors of two models mean different things. One that a caller gave is taken to be of the model
/// that it meets: the caller chose it for this namespace.
fn may_compare(a: ModelId, b: ModelId) -> bool {
    a == b || a == ModelId::GIVEN || b == ModelId::GIVEN
}
