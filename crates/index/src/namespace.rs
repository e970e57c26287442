//! The index of one namespace: all that is asked when somebody recalls.
//!
//! ```text
//! key ──▶ slot ──▶ columns (filters) · dense · lexical · sessions · pieces
//! ```
//!
//! A namespace is a structure of its own, so nothing of it can reach another's answers: there is no
//! filter by namespace that could be forgotten. Slots are small numbers for memories, used again
//! after a memory is gone; they never leave this module.

mod search;
pub(crate) mod stored;

use std::{
    collections::{BTreeMap, HashMap, btree_map},
    sync::Arc,
};

use memorygate_core::{
    embedding::{Embedding, ModelId},
    key::Key,
    memory::{Created, Memory},
    name::Name,
    scope::Scope,
};

pub use self::search::{Candidate, Query};
use crate::{
    columns::{Columns, Fields},
    dense::{self, Dense},
    dot::Vector,
    faiss::{Bits, Error},
    ids::Ids,
    lexical::{Lexical, Tokenizer, Tokens},
    pieces::{Distinct, PieceCounts},
    sessions::{Place, Sessions},
};

/// The memories of one namespace, as far as searching needs them.
#[derive(Debug)]
pub struct NamespaceIndex {
    slots: HashMap<Key, u32, ahash::RandomState>,
    free: Vec<u32>,
    /// By slot.
    identities: Vec<Identity>,
    columns: Columns,
    /// Sessions within scopes.
    groups: Ids<(Scope, Name)>,
    sessions: Sessions,
    dense: Dense,
    lexical: Lexical,
    pieces: PieceCounts,
    /// Memories by the model that made their vectors.
    models: BTreeMap<ModelId, u32>,
}

/// What a slot's memory is and has, for as long as it is there.
#[derive(Clone, Debug)]
struct Identity {
    key: Key,
    created: Created,
    model: ModelId,
    place: Option<Place>,
    distinct: Distinct,
}

/// A memory made ready to be indexed: all that takes long and needs no index.
#[derive(Debug)]
pub struct Prepared {
    memory: Arc<Memory>,
    embedding: Arc<Embedding>,
    tokens: Tokens,
    /// One a window.
    bits: Vec<Bits>,
    distinct: Distinct,
}

impl Prepared {
    /// Prepares memories together, which is sooner than one by one.
    pub fn all(created: &[(Arc<Memory>, Arc<Embedding>)]) -> Vec<Self> {
        let vectors: Vec<&Vector> = created
            .iter()
            .flat_map(|(_, embedding)| embedding.windows.iter())
            .map(|window| vector(&window.dense))
            .collect();
        let mut bits = dense::signs_of_all(&vectors).into_iter();
        let tokenizer = Tokenizer::default();
        created
            .iter()
            .map(|(memory, embedding)| {
                let pieces = embedding
                    .windows
                    .iter()
                    .flat_map(|w| w.states.pieces.iter().copied());
                Self {
                    memory: memory.clone(),
                    embedding: embedding.clone(),
                    tokens: tokenizer.tokens(&memory.content),
                    bits: bits.by_ref().take(embedding.windows.len()).collect(),
                    distinct: Distinct::of(pieces),
                }
            })
            .collect()
    }
}

/// A vector that was checked where it came in: by the check of its embedding, or by the embedder.
fn vector(checked: &[f32]) -> &Vector {
    checked
        .try_into()
        .expect("only vectors of the one dimension are let in")
}

impl NamespaceIndex {
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            slots: HashMap::default(),
            free: Vec::new(),
            identities: Vec::new(),
            columns: Columns::default(),
            groups: Ids::default(),
            sessions: Sessions::default(),
            dense: Dense::new()?,
            lexical: Lexical::default(),
            pieces: PieceCounts::default(),
            models: BTreeMap::new(),
        })
    }

    /// Memories that are indexed.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn contains(&self, key: Key) -> bool {
        self.slots.contains_key(&key)
    }

    /// Where in the log the memory was created, if it is indexed.
    pub fn created(&self, key: Key) -> Option<Created> {
        self.slots
            .get(&key)
            .map(|slot| self.identities[*slot as usize].created)
    }

    /// Sizes, for metrics.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            memories: self.len(),
            rows: self.dense.rows(),
            tombstones: self.dense.tombstones(),
            terms: self.lexical.terms(),
        }
    }

    /// Indexes a memory, in the place of what was indexed under its key.
    pub fn insert(&mut self, key: Key, prepared: &Prepared) -> Result<(), Error> {
        self.remove(key)?;
        let Prepared {
            memory,
            embedding,
            tokens,
            bits,
            distinct,
        } = prepared;
        let slot = self.free.pop().unwrap_or_else(|| {
            u32::try_from(self.identities.len()).expect("memory ends before 2^32 memories")
        });
        let windows: Vec<_> = embedding
            .windows
            .iter()
            .map(|w| vector(&w.dense))
            .zip(bits.iter().copied())
            .collect();
        // First what can fail: after an error nothing but a free slot is left.
        if let Err(error) = self.dense.insert(slot, &windows) {
            if (slot as usize) < self.identities.len() {
                self.free.push(slot);
            }
            return Err(error);
        }
        self.columns
            .insert(slot, &Fields::from(&**memory), &memory.metadata);
        self.lexical.insert(slot, tokens);
        self.pieces.add(distinct);
        let place = memory.session.as_ref().map(|session| Place {
            group: self
                .groups
                .acquire(&(memory.scope.clone(), session.clone())),
            occurred_at: memory.occurred_at,
            created: memory.created,
        });
        if let Some(place) = place {
            self.sessions.insert(place, slot);
        }
        let (created, model, distinct) = (memory.created, embedding.model, distinct.clone());
        *self.models.entry(model).or_default() += 1;
        let identity = Identity {
            key,
            created,
            model,
            place,
            distinct,
        };
        match self.identities.get_mut(slot as usize) {
            Some(free) => *free = identity,
            None => self.identities.push(identity),
        }
        self.slots.insert(key, slot);
        Ok(())
    }

    /// Follows a change of anything but content, embedding and place in the session. `false` if the
    /// memory is not indexed.
    pub fn update(&mut self, key: Key, memory: &Memory) -> bool {
        let Some(slot) = self.slots.get(&key).copied() else {
            return false;
        };
        self.columns.remove(slot);
        self.columns
            .insert(slot, &Fields::from(memory), &memory.metadata);
        true
    }

    /// `false` if the memory is not indexed.
    pub fn remove(&mut self, key: Key) -> Result<bool, Error> {
        let Some(slot) = self.slots.remove(&key) else {
            return Ok(false);
        };
        let identity = &mut self.identities[slot as usize];
        if let Some(place) = identity.place.take() {
            self.sessions.remove(&place);
            self.groups.release(place.group);
        }
        self.pieces.remove(&std::mem::take(&mut identity.distinct));
        if let btree_map::Entry::Occupied(mut count) = self.models.entry(identity.model) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.lexical.remove(slot);
        self.columns.remove(slot);
        self.free.push(slot);
        self.dense.remove(slot)
    }
}

/// How much is indexed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub memories: usize,
    /// Vectors: one for each window of each memory.
    pub rows: usize,
    /// Vectors of removed memories that wait for a compaction.
    pub tombstones: usize,
    /// Different words and identifiers.
    pub terms: usize,
}

impl Sizes {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            memories: self.memories + other.memories,
            rows: self.rows + other.rows,
            tombstones: self.tombstones + other.tombstones,
            terms: self.terms + other.terms,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use memorygate_core::{
        embedding::{QueryEmbedding, QueryPiece, TokenStates, Window},
        filter::Filter,
        moment::Moment,
        scope::Reader,
        time::TimeMs,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{
        dot::dot,
        late::{Fit, Redundancy},
        samples,
        sessions::Shares,
    };

    type Live = BTreeMap<Key, (Memory, Embedding)>;

    fn insert(index: &mut NamespaceIndex, key: Key, memory: &Memory, embedding: &Embedding) {
        let prepared = Prepared::all(&[(memory.clone().into(), embedding.clone().into())]);
        index.insert(key, &prepared[0]).unwrap();
    }

    fn fresh(live: &Live) -> NamespaceIndex {
        let mut index = NamespaceIndex::new().unwrap();
        live.iter()
            .rev()
            .for_each(|(key, (m, e))| insert(&mut index, *key, m, e));
        index
    }

    fn query_embedding(seed: u64) -> QueryEmbedding {
        let piece = |seed| QueryPiece {
            piece: (seed % 40) as u16,
            state: samples::vector(seed).into(),
        };
        QueryEmbedding {
            model: if seed.is_multiple_of(5) {
                ModelId(8)
            } else {
                samples::MODEL
            },
            dense: samples::vector(seed).into(),
            pieces: (seed..seed + 3).map(piece).collect(),
        }
    }

    /// What is asked, without borrowing.
    struct Asked {
        words: String,
        embedding: QueryEmbedding,
        count: usize,
        filter: Filter,
        reader: Reader,
        now: TimeMs,
    }

    impl Asked {
        fn new(seed: u64) -> Self {
            let mut filter = Filter::default();
            if seed.is_multiple_of(3) {
                filter.min_importance = Some(0.5);
            }
            Self {
                words: samples::text(seed),
                embedding: query_embedding(seed),
                count: 1 + seed as usize % 12,
                filter,
                reader: samples::reader(seed),
                now: TimeMs(seed as i64 % 7),
            }
        }

        fn query(&self) -> Query<'_> {
            Query {
                words: Some(&self.words),
                vector: Some(&self.embedding),
                count: self.count,
                shares: Shares::default(),
                filter: &self.filter,
                reader: &self.reader,
                now: self.now,
                as_of: None,
            }
        }
    }

    /// Sessions by number differ between two histories; who shares one does not.
    fn without_numbers(candidates: &[Candidate]) -> Vec<(Key, u32, u32, Vec<Key>)> {
        let session = |c: &Candidate| {
            let same = |o: &&Candidate| c.session.is_some() && o.session == c.session;
            candidates.iter().filter(same).map(|o| o.key).collect()
        };
        candidates
            .iter()
            .map(|c| (c.key, c.dense.to_bits(), c.lexical.to_bits(), session(c)))
            .collect()
    }

    /// Candidates from the memories themselves: every score of every passing memory, sorted.
    fn by_definition(live: &Live, asked: &Asked) -> Vec<(Key, f32, f32)> {
        let mut words = Lexical::default();
        let tokenizer = Tokenizer::default();
        for (slot, (memory, _)) in (0..).zip(live.values()) {
            words.insert(slot, &tokenizer.tokens(&memory.content));
        }
        let own = words.scores(&tokenizer.tokens(&asked.words), live.len() as u32);
        let passes = |m: &Memory| asked.filter.passes(m, &asked.reader, asked.now);
        let mut sessions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (at, (memory, _)) in live.values().enumerate() {
            let alone = memory.session.is_none().then_some(at);
            let session = (&memory.scope, &memory.session, alone);
            let score = if passes(memory) { own[at] } else { 0.0 };
            sessions.entry(session).or_default().push((
                memory.occurred_at,
                memory.created,
                at,
                score,
            ));
        }
        let mut lent = vec![0.0; live.len()];
        for members in sessions.values_mut() {
            members.sort_by_key(|m| (m.0, m.1));
            let score = |at: usize, by: isize| {
                let at = at.checked_add_signed(by).and_then(|at| members.get(at));
                at.map_or(0.0, |m| m.3)
            };
            for (at, member) in members.iter().enumerate() {
                lent[member.2] = member.3
                    + 0.3 * score(at, -1)
                    + 0.3 * score(at, 1)
                    + 0.15 * score(at, -2)
                    + 0.15 * score(at, 2);
            }
        }
        let dense = |embedding: &Embedding| {
            let windows = embedding.windows.iter();
            let scores = windows.map(|w| dot(vector(&w.dense), vector(&asked.embedding.dense)));
            let mixed = [embedding.model, asked.embedding.model].contains(&ModelId::GIVEN);
            let may = mixed || embedding.model == asked.embedding.model;
            scores.max_by(f32::total_cmp).filter(|_| may)
        };
        let all: Vec<_> = live
            .iter()
            .zip(lent)
            .filter(|((_, (memory, _)), _)| passes(memory))
            .map(|((key, (_, embedding)), lent)| (*key, dense(embedding), lent))
            .collect();
        let mut by_words: Vec<_> = all.iter().filter(|c| c.2 > 0.0).collect();
        by_words.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
        let mut by_vector: Vec<_> = all.iter().filter_map(|c| Some((c.0, c.1?))).collect();
        by_vector.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let chosen: BTreeSet<Key> = by_words
            .iter()
            .take(asked.count)
            .map(|c| c.0)
            .chain(by_vector.iter().take(asked.count).map(|c| c.0))
            .collect();
        let chosen = all.iter().filter(|c| chosen.contains(&c.0));
        chosen
            .map(|(key, dense, lent)| (*key, dense.unwrap_or(0.0), *lent as f32))
            .collect()
    }

    #[test]
    fn sources_can_be_left_out() {
        let mut live = Live::new();
        for seed in 1..30 {
            let memory = Memory {
                scope: Scope::Shared,
                ..samples::memory(seed, seed)
            };
            live.insert(samples::key(seed), (memory, samples::embedding(seed)));
        }
        let (index, asked) = (fresh(&live), Asked::new(4));
        let none = Query {
            words: None,
            vector: None,
            ..asked.query()
        };
        assert_eq!(index.candidates(&none), Ok(vec![]));
        let words = index
            .candidates(&Query {
                vector: None,
                ..asked.query()
            })
            .unwrap();
        assert!(!words.is_empty() && words.iter().all(|c| c.dense == 0.0 && c.lexical > 0.0));
        let vector = index
            .candidates(&Query {
                words: None,
                ..asked.query()
            })
            .unwrap();
        assert!(!vector.is_empty() && vector.iter().all(|c| c.lexical == 0.0));
        // Of a moment only those that were there; each of the samples has an entry of its own, all one time.
        let created = live.values().map(|(memory, _)| memory.created);
        let created = created.min().expect("some are live");
        for (as_of, are_there) in [
            (Moment::Position(created.index), true),
            (Moment::Position(created.index - 1), false),
            (Moment::Time(created.at), true),
            (Moment::Time(TimeMs(created.at.0 - 1)), false),
        ] {
            let as_of = Some(as_of);
            let found = index.candidates(&Query {
                as_of,
                ..asked.query()
            });
            assert_eq!(!found.unwrap().is_empty(), are_there, "{as_of:?}");
        }
    }

    #[test]
    fn an_expansion_takes_the_rarest_pieces_as_they_first_occur() {
        let embedding = |pieces: &[u16], sign: u8| {
            let signs = vec![sign; pieces.len() * 48];
            let states = TokenStates {
                pieces: pieces.into(),
                signs,
            };
            let window = Window {
                dense: samples::vector(1).into(),
                states,
            };
            Embedding {
                model: samples::MODEL,
                windows: vec![window],
            }
        };
        let mut index = NamespaceIndex::new().unwrap();
        let (a, b) = (embedding(&[1, 2, 3], 0xff), embedding(&[3, 4, 1], 0));
        for (number, embedding) in [(1, &a), (2, &b), (3, &embedding(&[3], 0))] {
            insert(
                &mut index,
                samples::key(number),
                &samples::memory(number, number),
                embedding,
            );
        }
        let states = || [&a.windows[0].states, &b.windows[0].states];
        assert_eq!(
            index
                .expansion_query(samples::MODEL, states(), 0)
                .map(|q| q.len()),
            None
        );
        let rarest = index.expansion_query(samples::MODEL, states(), 2).unwrap();
        assert_eq!(rarest.len(), 2);
        // 2 occurs once, with all signs set; 4 once, with none; 1 and 3 are in more memories.
        let fit = rarest.fit_embedding(&a).unwrap();
        let ones = rarest.score(&fit, &Redundancy::of([&fit]), 0.0);
        assert!(ones.abs() < 1e-12, "{ones}");
        let all = index.expansion_query(samples::MODEL, states(), 9).unwrap();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn an_update_keeps_what_cannot_change() {
        let mut index = NamespaceIndex::new().unwrap();
        let (key, memory) = (samples::key(1), samples::memory(1, 5));
        assert!(!index.update(key, &memory));
        insert(&mut index, key, &memory, &samples::embedding(1));
        let changed = Memory {
            importance: 0.123,
            pinned: true,
            ..memory.clone()
        };
        assert!(index.update(key, &changed));
        let live = Live::from([(key, (changed, samples::embedding(1)))]);
        for seed in 0..40 {
            let asked = Asked::new(seed);
            let (lived, fresh) = (
                index.candidates(&asked.query()),
                fresh(&live).candidates(&asked.query()),
            );
            assert_eq!(
                without_numbers(&lived.unwrap()),
                without_numbers(&fresh.unwrap())
            );
        }
        assert_eq!(index.created(key), Some(memory.created));
        assert!(index.contains(key) && index.remove(key).unwrap() && !index.remove(key).unwrap());
        assert_eq!(
            index.sizes(),
            Sizes {
                tombstones: index.sizes().tombstones,
                ..Sizes::default()
            }
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn candidates_are_those_of_the_definition_whatever_the_history(
            history in prop::collection::vec((0_u64..60, any::<u64>(), 0_u8..4), 0..150),
            asked in prop::collection::vec(any::<u64>(), 1..8),
        ) {
            let mut lived = NamespaceIndex::new().unwrap();
            let mut live = Live::new();
            for (position, (number, seed, kind)) in (1..).zip(history) {
                let key = samples::key(number);
                match (kind, live.get_mut(&key)) {
                    (0, held) => {
                        prop_assert_eq!(lived.remove(key).unwrap(), held.is_some());
                        live.remove(&key);
                    }
                    (1, Some((memory, _))) => {
                        let changed = samples::memory(seed, 0);
                        memory.importance = changed.importance;
                        memory.metadata = changed.metadata;
                        (memory.expires_at, memory.pinned) = (changed.expires_at, changed.pinned);
                        prop_assert!(lived.update(key, memory));
                    }
                    _ => {
                        let (memory, embedding) =
                            (samples::memory(seed, position), samples::embedding(seed));
                        insert(&mut lived, key, &memory, &embedding);
                        live.insert(key, (memory, embedding));
                    }
                }
            }
            let fresh = fresh(&live);
            prop_assert_eq!((lived.len(), lived.sizes().rows), (live.len(), fresh.sizes().rows));
            for asked in asked.into_iter().map(Asked::new) {
                let candidates = lived.candidates(&asked.query()).unwrap();
                prop_assert_eq!(
                    without_numbers(&candidates),
                    without_numbers(&fresh.candidates(&asked.query()).unwrap())
                );
                let scores: Vec<_> = candidates.iter().map(|c| (c.key, c.dense, c.lexical)).collect();
                prop_assert_eq!(scores, by_definition(&live, &asked));
                let late = |index: &NamespaceIndex| -> Vec<Option<u64>> {
                    let query = index.late_query(&asked.embedding);
                    let fits = live.values().map(|(_, e)| query.fit_embedding(e));
                    let fits: Vec<Option<Fit>> = fits.collect();
                    let redundancy = Redundancy::of(fits.iter().flatten());
                    let score = |fit: &Fit| query.score(fit, &redundancy, 0.02).to_bits();
                    fits.iter().map(|fit| fit.as_ref().map(score)).collect()
                };
                prop_assert_eq!(late(&lived), late(&fresh));
            }
        }
    }
}
