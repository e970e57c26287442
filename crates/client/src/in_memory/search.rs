//! The in-memory store's recall: score every memory of the namespace, rank as a server does.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{
    embedding::unit,
    rank::{self, Candidate, Prior, Settings, Stage, Stages, near_identical},
    scope::Reader,
    time::TimeMs,
};

use super::{Stored, words};
use crate::{
    memory::Link,
    recall::{Recall, Recalled, ScoreParts},
};

/// The answer to a recall that was checked. `all` is in key order.
pub(super) fn search(
    all: &[Stored],
    recall: &Recall,
    reader: &Reader,
    now: TimeMs,
) -> Vec<Recalled> {
    let filter = recall.filter.check().1;
    let settings = recall.weights.over(Settings::default());
    let stages = recall
        .without
        .iter()
        .fold(Stages::all(), |stages, stage| stages.without(*stage));
    let contents: Vec<&str> = all.iter().map(|s| s.record.content.as_str()).collect();
    let lexical = words::bm25(&recall.query, &contents);
    let asked = if recall.vector.is_empty() {
        words::vector(&recall.query)
    } else {
        unit(&recall.vector).expect("the vector was checked")
    };
    let mut sessions = BTreeMap::new();
    let mut places = Vec::new();
    let mut candidates = Vec::new();
    for (at, stored) in all.iter().enumerate() {
        if !filter.passes(&stored.record, reader, now) {
            continue;
        }
        let session = stored.record.session.as_ref().map(|session| {
            let next = u32::try_from(sessions.len()).expect("fewer sessions than memories");
            *sessions
                .entry((&stored.record.scope, session))
                .or_insert(next)
        });
        places.push(at);
        candidates.push(Candidate {
            key: stored.memory.key,
            dense: asked.iter().zip(&stored.vector).map(|(x, y)| x * y).sum(),
            lexical: lexical[at] as f32,
            late: None,
            session,
            prior: Prior::of(&stored.record, now, &settings),
        });
    }
    let chosen = choose(&candidates, settings.candidates, stages);
    let places: Vec<usize> = chosen.iter().map(|c| places[*c]).collect();
    let candidates: Vec<Candidate> = chosen.iter().map(|c| candidates[*c].clone()).collect();

    let mut results: Vec<Recalled> = Vec::new();
    for ranked in rank::rank(&candidates, &settings, stages, |_| None) {
        let (stored, candidate) = (&all[places[ranked.at]], &candidates[ranked.at]);
        let same = |r: &&mut Recalled| near_identical(&r.memory.content, &stored.record.content);
        if stages.has(Stage::Fold)
            && let Some(first) = results.iter_mut().find(same)
        {
            first.folded.push(stored.memory.key);
            continue;
        }
        results.push(recalled(stored, &ranked, candidate));
    }
    results.truncate(recall.limit);
    if recall.link_hops > 0 {
        let linked = linked(all, &results, settings.link, |stored| {
            filter.passes(&stored.record, reader, now)
        });
        results.extend(linked);
        results.sort_by(|a, b| {
            b.score
                .total_cmp(&a.score)
                .then(a.memory.key.cmp(&b.memory.key))
        });
        results.truncate(recall.limit);
    }
    results
}

/// Places of the best by words and the best by vector, joined, in key order.
fn choose(candidates: &[Candidate], count: usize, stages: Stages) -> Vec<usize> {
    let best = |score: fn(&Candidate) -> f32| {
        let mut places: Vec<usize> = (0..candidates.len()).collect();
        places.sort_by(|a, b| {
            score(&candidates[*b])
                .total_cmp(&score(&candidates[*a]))
                .then(a.cmp(b))
        });
        places.truncate(count);
        places
    };
    let mut chosen = BTreeSet::new();
    if stages.has(Stage::Lexical) {
        let matching = best(|c| c.lexical).into_iter();
        chosen.extend(matching.filter(|at| candidates[*at].lexical > 0.0));
    }
    if stages.has(Stage::Dense) {
        chosen.extend(best(|c| c.dense));
    }
    chosen.into_iter().collect()
}

/// What the results link to and is not among them: each with its share of the best result's score
/// that leads to it.
fn linked(
    all: &[Stored],
    results: &[Recalled],
    share: f32,
    passes: impl Fn(&Stored) -> bool,
) -> Vec<Recalled> {
    let mut known: BTreeSet<_> = results.iter().map(|r| r.memory.key).collect();
    let mut linked = Vec::new();
    for result in results {
        for link in &result.memory.links {
            let Ok(at) = all.binary_search_by_key(&link.target, |s| s.memory.key) else {
                continue;
            };
            if !passes(&all[at]) || !known.insert(link.target) {
                continue;
            }
            let score = share * result.score;
            linked.push(Recalled {
                memory: all[at].memory.clone(),
                score,
                parts: ScoreParts {
                    link: score,
                    ..ScoreParts::default()
                },
                folded: Vec::new(),
                linked_from: Some(Link {
                    relation: link.relation,
                    target: result.memory.key,
                }),
            });
        }
    }
    linked
}

fn recalled(stored: &Stored, ranked: &rank::Ranked, candidate: &Candidate) -> Recalled {
    let parts = ranked.parts;
    Recalled {
        memory: stored.memory.clone(),
        score: ranked.score as f32,
        parts: ScoreParts {
            late: parts.late as f32,
            lexical: parts.lexical as f32,
            dense: parts.dense as f32,
            expansion: parts.expansion as f32,
            session: parts.session as f32,
            recency: parts.recency as f32,
            importance: parts.importance as f32,
            usefulness: parts.usefulness as f32,
            link: parts.link as f32,
            raw_dense: candidate.dense,
            raw_lexical: candidate.lexical,
            raw_late: 0.0,
        },
        folded: Vec::new(),
        linked_from: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Experience, InMemoryStore, Learn, Recall, Relation, Stage};

    fn found(store: &InMemoryStore, recall: &Recall) -> Vec<String> {
        let results = store.recall(recall).unwrap().results;
        results.into_iter().map(|r| r.memory.content).collect()
    }

    #[test]
    fn near_identical_results_are_folded_unless_that_is_switched_off() {
        let store = InMemoryStore::new();
        let lessons = [
            "Disk full on db-1.",
            "disk full on db-1",
            "disk full on db-2",
        ];
        store
            .learn(Learn::new(lessons.map(|l| Experience::new(l, "d"))))
            .unwrap();
        let question = Recall::new("disk full on db-1");
        let results = store.recall(&question).unwrap().results;
        assert_eq!(results.len(), 2);
        assert_eq!(results[0].folded.len(), 1);
        assert_eq!(found(&store, &question.without(Stage::Fold)).len(), 3);
    }

    #[test]
    fn a_hop_along_links_brings_what_no_word_would() {
        let store = InMemoryStore::new();
        let cause = store
            .learn(Experience::new("expired certificate", "d"))
            .unwrap();
        let incident = Experience::new("login page is down", "d")
            .link(Relation::CausedBy, cause.learned[0].key);
        store.learn(incident).unwrap();
        let question = Recall::new("login page is down")
            .limit(5)
            .without(Stage::Dense);
        assert_eq!(found(&store, &question), ["login page is down"]);
        let hop = question.link_hops(1);
        let results = store.recall(&hop).unwrap().results;
        assert_eq!(results.len(), 2);
        let linked = results.iter().find(|r| r.linked_from.is_some()).unwrap();
        assert_eq!(linked.memory.content, "expired certificate");
        assert_eq!(linked.score, linked.parts.link);
    }
}
