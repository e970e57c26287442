//! Ranking: from candidates with raw scores to an ordered, explained answer.
//!
//! ```text
//! candidates (index: top N by words, top N by vector, each with all its raw scores)
//!   └▶ mix      late, lexical and dense as z-scores over the candidates, weighted sum
//!   └▶ expand   pseudo-relevance feedback: late interaction once more, with rare word pieces of the
//!               best three memories as the query
//!   └▶ session  the mean of a session's best three lifts each of its memories
//!   └▶ priors   recency, importance, usefulness, trust
//!   └▶ select   near-identical ones are folded, and what one source says over and over steps back
//! ```
//!
//! Everything is `f64` arithmetic in key order with `libm`'s functions, so the same candidates give
//! the same bits on every machine. Equal scores are ordered by key. The shape and the weights of the
//! first three steps were chosen by measurement, see `ARCHITECTURE.md`.

mod fold;
mod select;
mod settings;

use std::collections::BTreeMap;

pub use self::{
    fold::{Wording, near_identical},
    select::{Kept, Look, NEAR_FROM, PLACES, select},
    settings::{InvalidSettings, Settings, Stage, Stages},
};
use crate::{
    key::Key,
    memory::Memory,
    time::{DAY_MS, TimeMs},
};

/// Best memories of a session that lift the others.
const SESSION_BEST: usize = 3;

/// Keeps a z-score finite where all candidates are alike.
const TINY: f64 = 1e-9;

/// What the index and the stored records say of one memory that may be an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub key: Key,
    /// Which of the namespaces that were asked, in their order.
    pub namespace: u16,
    /// Cosine of query and memory, by the memory's best window.
    pub dense: f32,
    /// BM25 with what neighbours in the session lent; 0 if no word matches.
    pub lexical: f32,
    /// Late interaction over the best window; `None` without token states on either side.
    pub late: Option<f32>,
    /// Equal for memories of one session (and scope and namespace), in no other meaning.
    pub session: Option<u32>,
    pub prior: Prior,
}

/// What is known of a memory whatever was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Prior {
    /// Time since it last happened or was used, in half-lives of its domain, at the log's time.
    pub half_lives: f64,
    /// 0 to 1.
    pub importance: f32,
    /// 0 to 1, 0.5 without feedback.
    pub usefulness: f32,
    /// In the agent that learned it: 0 to 1, 0.5 if nothing is known of it.
    pub trust: f32,
}

impl Prior {
    /// `trust` is that in the memory's agent, [`Trust::NEUTRAL`](crate::trust::Trust::NEUTRAL) without one.
    pub fn of(memory: &Memory, trust: f32, now: TimeMs, settings: &Settings) -> Self {
        let half_life_ms = settings.half_life_days(&memory.domain) * DAY_MS as f64;
        Self {
            half_lives: now.since(memory.last_seen_at.max(memory.used.last_at)) as f64
                / half_life_ms,
            importance: memory.importance,
            usefulness: memory.feedback.usefulness(),
            trust,
        }
    }
}

/// The parts of a score, already weighted: their sum is the score.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Parts {
    pub late: f64,
    pub lexical: f64,
    pub dense: f64,
    pub expansion: f64,
    pub session: f64,
    pub recency: f64,
    pub importance: f64,
    pub usefulness: f64,
    pub trust: f64,
    /// What a memory has from the one that links to it; such a memory has nothing else.
    pub link: f64,
}

impl Parts {
    pub fn score(&self) -> f64 {
        self.relevance() + self.recency + self.importance + self.usefulness + self.trust + self.link
    }

    /// What the query says, without the priors.
    fn relevance(&self) -> f64 {
        self.late + self.lexical + self.dense + self.expansion + self.session
    }

    /// Scales what the query has said so far.
    fn divide(&mut self, by: f64) {
        for part in [
            &mut self.late,
            &mut self.lexical,
            &mut self.dense,
            &mut self.expansion,
        ] {
            *part /= by;
        }
    }
}

/// A candidate's place in the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Which of the candidates.
    pub at: usize,
    pub parts: Parts,
    pub score: f64,
}

/// Orders `candidates`, which must come in strict order of key and namespace, best first. Those of several
/// namespaces are one set: what is likely in one of them says nothing about another, but all are
/// measured by the same mean and deviation.
///
/// `expand` is given the places of the best [`Settings::expansion_memories`] candidates after the
/// mix and returns the late interaction of all candidates with word pieces taken from those, or
/// `None` where there are none; it is not called while [`Stage::Expansion`] is off.
pub fn rank(
    candidates: &[Candidate],
    settings: &Settings,
    stages: Stages,
    expand: impl FnOnce(&[usize]) -> Option<Vec<f32>>,
) -> Vec<Ranked> {
    assert!(
        candidates.is_sorted_by(|a, b| (a.key, a.namespace) < (b.key, b.namespace)),
        "candidates come in strict key order, so that sums do not depend on how they were found"
    );
    if candidates.is_empty() {
        return Vec::new();
    }
    let mut parts = mix(candidates, settings, stages);
    if stages.has(Stage::Expansion) {
        let best = best(candidates, &parts, settings.expansion_memories);
        if let Some(fed) = expand(&best) {
            assert_eq!(
                fed.len(),
                candidates.len(),
                "one expansion score a candidate"
            );
            normalise(&mut parts);
            let fed = z_scores(fed.iter().map(|x| f64::from(*x)));
            for (part, z) in parts.iter_mut().zip(fed) {
                part.expansion = f64::from(settings.expansion) * z;
            }
        }
    }
    if stages.has(Stage::Session) {
        normalise(&mut parts);
        lift_sessions(candidates, &mut parts, f64::from(settings.session));
    }
    for (part, candidate) in parts.iter_mut().zip(candidates) {
        add_priors(part, &candidate.prior, settings, stages);
    }
    let ranked = |(at, parts): (usize, Parts)| Ranked {
        at,
        parts,
        score: parts.score(),
    };
    let mut ranked: Vec<Ranked> = parts.into_iter().enumerate().map(ranked).collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.at.cmp(&b.at)));
    ranked
}

/// The weighted z-scores. A memory without token states has its vector stand in for them.
fn mix(candidates: &[Candidate], settings: &Settings, stages: Stages) -> Vec<Parts> {
    let weight = |stage, weight: f32| {
        if stages.has(stage) {
            f64::from(weight)
        } else {
            0.0
        }
    };
    let late_weight = weight(Stage::Late, settings.late);
    let lexical_weight = weight(Stage::Lexical, settings.lexical);
    let dense_weight = weight(Stage::Dense, settings.dense);
    let dense = z_scores(candidates.iter().map(|c| f64::from(c.dense)));
    let lexical = z_scores(candidates.iter().map(|c| f64::from(c.lexical)));
    let known = z_scores(candidates.iter().filter_map(|c| c.late).map(f64::from));
    let mut known = known.into_iter();
    let late = candidates
        .iter()
        .zip(&dense)
        .map(|(candidate, dense)| match candidate.late {
            Some(_) => known.next().expect("one z-score for each late score"),
            None if stages.has(Stage::Dense) => *dense,
            None => 0.0,
        });
    late.zip(&lexical)
        .zip(&dense)
        .map(|((late, lexical), dense)| Parts {
            late: late_weight * late,
            lexical: lexical_weight * lexical,
            dense: dense_weight * dense,
            ..Parts::default()
        })
        .collect()
}

/// Places of the `count` best candidates so far, best first.
fn best(candidates: &[Candidate], parts: &[Parts], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..candidates.len()).collect();
    places.sort_by(|a, b| {
        parts[*b]
            .relevance()
            .total_cmp(&parts[*a].relevance())
            .then(a.cmp(b))
    });
    places.truncate(count);
    places
}

/// Brings the scores so far to a standard deviation of 1. The mean stays where it is: it moves all
/// candidates alike.
fn normalise(parts: &mut [Parts]) {
    let scores: Vec<f64> = parts.iter().map(Parts::relevance).collect();
    let deviation = deviation(&scores);
    parts.iter_mut().for_each(|p| p.divide(deviation));
}

fn lift_sessions(candidates: &[Candidate], parts: &mut [Parts], weight: f64) {
    let mut sessions: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (candidate, part) in candidates.iter().zip(parts.iter()) {
        if let Some(session) = candidate.session {
            sessions.entry(session).or_default().push(part.relevance());
        }
    }
    let lifts: BTreeMap<u32, f64> = sessions
        .into_iter()
        .map(|(session, mut scores)| {
            scores.sort_by(|a, b| b.total_cmp(a));
            scores.truncate(SESSION_BEST);
            (session, scores.iter().sum::<f64>() / scores.len() as f64)
        })
        .collect();
    for (candidate, part) in candidates.iter().zip(parts) {
        // A memory without a session is a session of its own.
        let own = part.relevance();
        let lift = candidate
            .session
            .and_then(|s| lifts.get(&s))
            .copied()
            .unwrap_or(own);
        part.session = weight * lift;
    }
}

fn add_priors(parts: &mut Parts, prior: &Prior, settings: &Settings, stages: Stages) {
    if stages.has(Stage::Recency) {
        parts.recency = f64::from(settings.recency) * libm::exp2(-prior.half_lives);
    }
    if stages.has(Stage::Importance) {
        let centred = 2.0 * f64::from(prior.importance) - 1.0;
        parts.importance = f64::from(settings.importance) * centred;
    }
    if stages.has(Stage::Usefulness) {
        let centred = 2.0 * f64::from(prior.usefulness) - 1.0;
        parts.usefulness = f64::from(settings.usefulness) * centred;
    }
    if stages.has(Stage::Trust) {
        // The reputation rating of the Beta reputation system, -1 to 1: see `Trust`.
        let centred = 2.0 * f64::from(prior.trust) - 1.0;
        parts.trust = f64::from(settings.trust) * centred;
    }
}

/// Each value's distance from the mean in standard deviations.
fn z_scores(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let values: Vec<f64> = values.collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let deviation = deviation(&values);
    values.into_iter().map(|x| (x - mean) / deviation).collect()
}

/// The population's standard deviation, never quite 0.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    variance.sqrt() + TINY
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(key: u8, late: f32, lexical: f32, dense: f32) -> Candidate {
        Candidate {
            key: Key([key; 16]),
            namespace: 0,
            dense,
            lexical,
            late: Some(late),
            session: None,
            prior: Prior {
                half_lives: 0.0,
                importance: 0.5,
                usefulness: 0.5,
                trust: 0.5,
            },
        }
    }

    fn order(candidates: &[Candidate], stages: Stages) -> Vec<u8> {
        rank(candidates, &Settings::default(), stages, |_| None)
            .iter()
            .map(|r| candidates[r.at].key.0[0])
            .collect()
    }

    #[test]
    fn late_interaction_outweighs_the_others_and_each_stage_can_be_switched_off() {
        let candidates = [
            candidate(1, 0.9, 0.0, 0.2),
            candidate(2, 0.1, 9.0, 0.3),
            candidate(3, 0.2, 1.0, 0.9),
        ];
        assert_eq!(order(&candidates, Stages::all()), [1, 3, 2]);
        assert_eq!(
            order(&candidates, Stages::only(&[Stage::Lexical])),
            [2, 3, 1]
        );
        assert_eq!(order(&candidates, Stages::only(&[Stage::Dense])), [3, 2, 1]);
        assert_eq!(
            order(&candidates, Stages::only(&[])),
            [1, 2, 3],
            "ties go by key"
        );
    }

    #[test]
    fn a_session_lifts_its_members() {
        let mut candidates = [
            candidate(1, 0.9, 0.0, 0.9),
            candidate(2, 0.5, 0.0, 0.5),
            candidate(3, 0.49, 0.0, 0.5),
        ];
        assert_eq!(order(&candidates, Stages::all()), [1, 2, 3]);
        candidates[0].session = Some(7);
        candidates[2].session = Some(7);
        assert_eq!(order(&candidates, Stages::all()), [1, 3, 2]);
        assert_eq!(
            order(&candidates, Stages::all().without(Stage::Session)),
            [1, 2, 3]
        );
    }

    #[test]
    fn expansion_is_asked_about_the_best_and_adds_to_the_score() {
        let candidates: Vec<_> = (0..5)
            .map(|i| candidate(i, f32::from(i) / 10.0, 0.0, 0.0))
            .collect();
        let settings = Settings {
            expansion: 5.0,
            ..Settings::default()
        };
        let ranked = rank(&candidates, &settings, Stages::all(), |best| {
            assert_eq!(best, [4, 3, 2]);
            Some(vec![1.0, 0.0, 0.0, 0.0, 0.0])
        });
        assert_eq!(ranked[0].at, 0);
        assert!(ranked[0].parts.expansion > 0.0);
    }

    #[test]
    fn priors_break_what_relevance_leaves_open() {
        let alike = |key| candidate(key, 0.5, 1.0, 0.5);
        let mut candidates = [alike(1), alike(2), alike(3), alike(4)];
        candidates[3].prior.trust = 0.9;
        assert_eq!(order(&candidates, Stages::all()), [4, 1, 2, 3]);
        let without = Stages::all().without(Stage::Trust);
        assert_eq!(order(&candidates, without), [1, 2, 3, 4]);
        candidates[3].prior.trust = 0.5;
        candidates[1].prior.usefulness = 0.86;
        candidates[2].prior.importance = 0.9;
        candidates[3].prior.half_lives = 2.0;
        assert_eq!(order(&candidates, Stages::all()), [2, 3, 1, 4]);
        let off = Stages::all()
            .without(Stage::Usefulness)
            .without(Stage::Importance);
        assert_eq!(
            order(&candidates, off.without(Stage::Recency)),
            [1, 2, 3, 4]
        );
    }

    #[test]
    fn a_given_vector_stands_in_for_missing_token_states() {
        let mut candidates = [
            candidate(1, 0.2, 0.0, 0.2),
            candidate(2, 0.3, 0.0, 0.3),
            candidate(3, 0.0, 0.0, 0.9),
        ];
        candidates[2].late = None;
        assert_eq!(order(&candidates, Stages::all()), [3, 2, 1]);
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_score_and_everyone_is_ranked_once(
            raw in prop::collection::btree_map(
                any::<u8>(),
                (0.0..1.0_f32, 0.0..30.0_f32, -1.0..1.0_f32, prop::option::of(0..3_u32)),
                0..40,
            )
        ) {
            let candidates: Vec<_> = raw
                .iter()
                .map(|(key, (late, lexical, dense, session))| Candidate {
                    session: *session,
                    ..candidate(*key, *late, *lexical, *dense)
                })
                .collect();
            let fed = |_: &[usize]| Some(candidates.iter().map(|c| c.dense).collect());
            let ranked = rank(&candidates, &Settings::default(), Stages::all(), fed);
            let mut places: Vec<_> = ranked.iter().map(|r| r.at).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..candidates.len()).collect::<Vec<_>>());
            for r in &ranked {
                prop_assert!(r.score.is_finite());
                prop_assert_eq!(r.score, r.parts.score());
            }
            prop_assert!(ranked.is_sorted_by(|a, b| a.score >= b.score));
        }
    }
}
