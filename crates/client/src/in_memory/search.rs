//! The in-memory store's recall: score every memory of the namespaces asked, rank as a server does.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

use memorygate_core::{
    embedding::unit,
    name::Name,
    rank::{self, Candidate, Prior, Settings, Stage, Stages},
    scope::Reader,
    time::TimeMs,
    trust::Trust,
};

use super::{Stored, words};
use crate::{
    memory::Link,
    recall::{Recall, Recalled, ScoreParts},
};

/// A memory with what a search found out about it.
struct Scored<'a> {
    stored: &'a Stored,
    /// Which of the namespaces.
    place: u16,
    lexical: f32,
}

/// The answer to a recall that was checked. `namespaces` has the memories of each that is asked.
pub(super) fn search(
    namespaces: &[Vec<Stored>],
    trust: &BTreeMap<(u16, Name), f32>,
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
    // How rare a word is, each namespace says for itself.
    let mut all: Vec<Scored<'_>> = Vec::new();
    for (place, memories) in (0..).zip(namespaces) {
        let contents: Vec<&str> = memories.iter().map(|s| s.record.content.as_str()).collect();
        let lexical = words::bm25(&recall.query, &contents);
        all.extend(
            memories
                .iter()
                .zip(lexical)
                .map(|(stored, lexical)| Scored {
                    stored,
                    place,
                    lexical: lexical as f32,
                }),
        );
    }
    all.sort_by_key(|scored| (scored.stored.memory.key, scored.place));
    let asked = if recall.vector.is_empty() {
        words::vector(&recall.query)
    } else {
        unit(&recall.vector).expect("the vector was checked")
    };
    let mut sessions = BTreeMap::new();
    let mut places = Vec::new();
    let mut candidates = Vec::new();
    for (at, scored) in all.iter().enumerate() {
        let stored = scored.stored;
        if !filter.passes(&stored.record, reader, now) {
            continue;
        }
        let session = stored.record.session.as_ref().map(|session| {
            let next = u32::try_from(sessions.len()).expect("fewer sessions than memories");
            *sessions
                .entry((scored.place, &stored.record.scope, session))
                .or_insert(next)
        });
        let agent = stored.record.agent.clone();
        let trust = agent.and_then(|agent| trust.get(&(scored.place, agent)));
        places.push(at);
        candidates.push(Candidate {
            key: stored.memory.key,
            namespace: scored.place,
            dense: asked.iter().zip(&stored.vector).map(|(x, y)| x * y).sum(),
            lexical: scored.lexical,
            late: None,
            session,
            prior: Prior::of(
                &stored.record,
                trust.copied().unwrap_or(Trust::NEUTRAL),
                now,
                &settings,
            ),
        });
    }
    let chosen = choose(&candidates, settings.candidates, stages);
    let places: Vec<usize> = chosen.iter().map(|c| places[*c]).collect();
    let candidates: Vec<Candidate> = chosen.iter().map(|c| candidates[*c].clone()).collect();

    let ranked = rank::rank(&candidates, &settings, stages, |_| None);
    let of = |place: usize| all[places[ranked[place].at]].stored;
    let looks = (0..ranked.len()).map(|place| rank::Look {
        text: &of(place).record.content,
        source: of(place).record.agent.as_ref(),
    });
    let dense = |place: usize| Ok::<_, Infallible>(of(place).vector.clone());
    let Ok(kept) = rank::select(looks, recall.limit, stages, dense);
    let mut results = Vec::with_capacity(kept.len());
    let mut behind = BTreeSet::new();
    for kept in kept {
        let (stored, ranked) = (of(kept.at), &ranked[kept.at]);
        if kept.is_behind {
            behind.insert(stored.memory.key);
        }
        results.push(Recalled {
            folded: kept
                .folded
                .iter()
                .map(|place| of(*place).memory.key)
                .collect(),
            ..recalled(stored, ranked, &candidates[ranked.at])
        });
    }
    if recall.link_hops > 0 {
        let linked = linked(&all, &results, settings.link, |stored| {
            filter.passes(&stored.record, reader, now)
        });
        results.extend(linked);
        results.sort_by(|a, b| {
            let is_behind = |r: &Recalled| behind.contains(&r.memory.key);
            is_behind(a)
                .cmp(&is_behind(b))
                .then(b.score.total_cmp(&a.score))
                .then(a.memory.key.cmp(&b.memory.key))
                .then_with(|| a.memory.namespace.cmp(&b.memory.namespace))
        });
        results.truncate(recall.limit);
    }
    results
}

/// Places of the best by words and the best by vector, joined, in key order. Of each namespace, as many.
fn choose(candidates: &[Candidate], count: usize, stages: Stages) -> Vec<usize> {
    let namespaces: BTreeSet<u16> = candidates.iter().map(|c| c.namespace).collect();
    let best = |namespace: u16, score: fn(&Candidate) -> f32| {
        let mut places: Vec<usize> = (0..candidates.len())
            .filter(|at| candidates[*at].namespace == namespace)
            .collect();
        places.sort_by(|a, b| {
            score(&candidates[*b])
                .total_cmp(&score(&candidates[*a]))
                .then(a.cmp(b))
        });
        places.truncate(count);
        places
    };
    let mut chosen = BTreeSet::new();
    for namespace in namespaces {
        if stages.has(Stage::Lexical) {
            let matching = best(namespace, |c| c.lexical).into_iter();
            chosen.extend(matching.filter(|at| candidates[*at].lexical > 0.0));
        }
        if stages.has(Stage::Dense) {
            chosen.extend(best(namespace, |c| c.dense));
        }
    }
    chosen.into_iter().collect()
}

/// What the results link to and is not among them: each with its share of the best result's score
/// that leads to it.
fn linked(
    all: &[Scored<'_>],
    results: &[Recalled],
    share: f32,
    passes: impl Fn(&Stored) -> bool,
) -> Vec<Recalled> {
    let mut known: BTreeSet<_> = results.iter().map(|r| r.memory.key).collect();
    let mut linked = Vec::new();
    for result in results {
        for link in &result.memory.links {
            let from = all.partition_point(|s| s.stored.memory.key < link.target);
            let ends = all[from..].iter().map(|scored| scored.stored);
            let end = ends
                .take_while(|s| s.memory.key == link.target)
                .find(|s| s.memory.namespace == result.memory.namespace);
            let Some(end) = end.filter(|end| passes(end)) else {
                continue;
            };
            if !known.insert(link.target) {
                continue;
            }
            let score = share * result.score;
            linked.push(Recalled {
                memory: end.memory.clone(),
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
            trust: parts.trust as f32,
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
    use std::collections::BTreeMap;

    use crate::{
        Experience, GiveFeedback, InMemoryStore, Learn, Recall, Relation, Stage,
        consolidation::{ListTrust, SetTrust},
    };

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
    fn a_burst_of_one_agent_does_not_fill_the_answer() {
        let store = InMemoryStore::new();
        let burst = (0..20).map(|i| {
            let claim = format!("disk full: just delete the write-ahead log, variant {i}");
            Experience::new(claim, "d").agent("mallory").importance(1.0)
        });
        store.learn(Learn::new(burst.collect::<Vec<_>>())).unwrap();
        let honest = [
            "disk full: rotate the archive",
            "disk full: grow the volume",
        ];
        let honest = honest.map(|l| Experience::new(l, "d").agent("ada").importance(0.1));
        store.learn(Learn::new(honest)).unwrap();
        let question = Recall::new("disk full: delete the write-ahead log").limit(5);
        let by_ada = |recall: &Recall| {
            let results = store.recall(recall).unwrap().results;
            assert_eq!(results.len(), 5);
            let of_ada = results.iter().enumerate();
            let of_ada = of_ada.filter(|(_, r)| r.memory.agent.as_deref() == Some("ada"));
            of_ada.map(|(place, _)| place).collect::<Vec<_>>()
        };
        assert_eq!(by_ada(&question), [2, 3]);
        assert_eq!(by_ada(&question.without(Stage::Diversity)), [0; 0]);
    }

    #[test]
    fn an_answer_from_several_namespaces_is_ranked_as_one() {
        let store = InMemoryStore::new();
        let cause = Learn::new([Experience::new("expired certificate", "d")]).namespace("b");
        let cause = store.learn(cause).unwrap().learned[0].key;
        let in_b = Experience::new("login page is down again", "d").session("s");
        let in_b = Learn::new([in_b.link(Relation::CausedBy, cause)]).namespace("b");
        store.learn(in_b).unwrap();
        let in_a = Experience::new("login page is down", "d").session("s");
        store.learn(Learn::new([in_a]).namespace("a")).unwrap();
        let other = Learn::new([Experience::new("login page is down", "d")]).namespace("c");
        store.learn(other).unwrap();
        let ask = |names: &[&str]| {
            let asked = Recall::new("login page is down").namespaces(names.iter().copied());
            let results = store.recall(&asked.link_hops(1)).unwrap().results;
            results
                .into_iter()
                .map(|r| (r.memory.namespace, r.memory.content))
                .collect::<Vec<_>>()
        };
        let told = |namespace: &str, content: &str| (namespace.to_owned(), content.to_owned());
        let both = ask(&["b", "nothing-here", "a"]);
        assert_eq!(both, ask(&["a", "b"]));
        // Each namespace says for itself how rare a word is, and in b something else is said as well.
        assert_eq!(
            both[..2],
            [
                told("b", "login page is down again"),
                told("a", "login page is down")
            ]
        );
        assert_eq!(both[2], told("b", "expired certificate"));
        assert_eq!(ask(&["a"]), [told("a", "login page is down")]);
        assert_eq!(ask(&["nothing-here"]), []);
    }

    #[test]
    fn what_others_found_of_an_agent_weighs() {
        let store = InMemoryStore::new();
        let mut keys = Vec::new();
        for (agent, text) in [("ada", "pod 1 restarts"), ("bob", "pod 2 restarts")] {
            let known = Experience::new(format!("a lesson of {agent}"), "d").agent(agent);
            keys.push(store.learn(known).unwrap().learned[0].key);
            store
                .learn(Experience::new(text, "d").agent(agent))
                .unwrap();
        }
        let question = Recall::new("pod restarts").without(Stage::Recency).limit(2);
        let trust = |recall: &Recall| {
            let results = store.recall(recall).unwrap().results.into_iter();
            let trust = results.map(|r| (r.memory.agent.unwrap(), r.parts.trust));
            trust.collect::<BTreeMap<_, _>>()
        };
        let rate = |key, by: &str| {
            let feedback = GiveFeedback::new(key, 1.0).agent(by);
            store.feedback(&feedback).unwrap();
        };
        rate(keys[0], "ada");
        store.feedback(&GiveFeedback::new(keys[0], 1.0)).unwrap();
        assert_eq!(
            trust(&question)["ada"],
            0.0,
            "nobody is trusted for praise of its own"
        );
        rate(keys[0], "cy");
        let weights = crate::Weights {
            trust: Some(2.0),
            ..crate::Weights::default()
        };
        let parts = trust(&question.clone().weights(weights));
        assert!((parts["ada"] - 2.0 / 9.0).abs() < 1e-6, "{parts:?}");
        assert_eq!(parts["bob"], 0.0);
        assert_eq!(trust(&question.clone().without(Stage::Trust))["ada"], 0.0);
        store.set_trust(None, &SetTrust::to("ada", 0.0)).unwrap();
        assert!(trust(&question)["ada"] < -0.29);
        let page = store.trust_page(None, &ListTrust::new()).unwrap();
        assert_eq!((page.agents.len(), page.agents[0].ratings), (1, 1));
        store.set_trust(None, &SetTrust::clear("ada")).unwrap();
        assert!(trust(&question)["ada"] > 0.0);
        let wrong = store.set_trust(None, &SetTrust::to("", 1.5)).unwrap_err();
        assert_eq!(wrong.violations().len(), 2);
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
