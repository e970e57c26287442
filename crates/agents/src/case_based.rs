//! Decides without a model: by what was done in similar cases, and whether it worked.
//!
//! For each action the probability that it works here is a posterior mean:
//!
//! ```text
//!                Σ s² of the similar cases in which it worked + trust × prior
//! p(action) = ──────────────────────────────────────────────────────────────────────────────────
//!              Σ s² of all similar successes + Σ s² of its own failures + 1
//! ```
//!
//! A case counts by the square of its similarity s, as in distance-weighted nearest neighbours (Dudani,
//! "The Distance-Weighted k-Nearest-Neighbor Rule", 1976). That another action worked in a case says
//! that this one was not what was needed there; that another one failed says nothing of this one. The
//! prior is worth one case: a softmax over the cosines of the task and the actions' descriptions.
//!
//! How far the prior is trusted differs. The confidence that is told trusts a fifth of it: in three streams of
//! tasks what sounds right was right for 10 to 26 % of them (the bench `stream`). The order in which actions
//! are proposed trusts all of it, since what was never tried is never learned: an agent without experience
//! begins with the action that sounds right, and goes to the next one as each fails (optimism in the face of
//! uncertainty: Lai and Robbins, "Asymptotically Efficient Adaptive Allocation Rules", 1985). What is told is then
//! held against how often the agent was right in similar cases when it had weighed as much ([`Record`]).
//!
//! Where each action is right or wrong by itself ([`Task::independent`]), only its own cases count:
//!
//! ```text
//!              Σ s² of the similar cases in which it worked + ¼ × trust × how well it fits
//! p(action) = ─────────────────────────────────────────────────────────────────────────────
//!                       Σ s² of those + Σ s² of its own failures + ¼
//! ```
//!
//! That none is needed is worth one case of similarity ½: what worked once is heard, and one failure as
//! similar silences it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{
    calibration::Record,
    decision::{Decision, Proposal},
    evidence::{Case, Evidence, Known},
    executor::{Error, Executor},
    task::Task,
};

/// Cases that are asked for.
const RECALLED: usize = 50;
/// Of these, the most similar that are weighed.
const SUCCESSES_MAX: usize = 10;
const FAILURES_MAX: usize = 20;
/// Cases that the prior is worth.
const PRIOR_CASES: f32 = 1.0;
/// The share of the prior that a confidence trusts; the rest says that it is none of the actions.
const DESCRIPTION_TRUST: f32 = 0.2;
/// Two descriptions whose cosines differ by this much differ by the factor e in the prior.
const PRIOR_TEMPERATURE: f32 = 0.1;
/// And what it is worth where each action stands for itself.
const PRIOR_CASES_INDEPENDENT: f32 = 0.25;
/// Evidence that a proposal names.
const EVIDENCE_MAX: usize = 5;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseBased {
    abstain_below: f32,
}

impl CaseBased {
    /// Says that it does not know where the best action's confidence is below this: 0 to 1.
    #[must_use]
    pub fn abstaining_below(mut self, confidence: f32) -> Self {
        self.abstain_below = confidence.clamp(0.0, 1.0);
        self
    }

    /// What [`Executor::execute`] decides.
    pub fn decide(&self, task: &Task, evidence: &Evidence) -> Decision {
        let proposals = if task.independent {
            weigh_each(&evidence.cases, &evidence.known)
        } else {
            let mut proposals = weigh(&evidence.cases, &evidence.known);
            Record::of(self.name(), evidence).calibrate(&mut proposals);
            proposals
        };
        let Some(best) = proposals.first() else {
            return Decision {
                abstained: true,
                explanation: "no similar case is known, and no action to choose from".to_owned(),
                ..Decision::default()
            };
        };
        let abstained = best.confidence < self.abstain_below;
        Decision {
            abstained,
            explanation: explain(best, &evidence.cases, abstained),
            proposals,
        }
    }
}

impl Default for CaseBased {
    /// Says that it does not know below one chance in four.
    fn default() -> Self {
        Self {
            abstain_below: 0.25,
        }
    }
}

#[async_trait]
impl Executor for CaseBased {
    fn name(&self) -> &'static str {
        "case-based"
    }

    fn recall_limit(&self) -> usize {
        RECALLED
    }

    async fn execute(&self, task: &Task, evidence: &Evidence) -> Result<Decision, Error> {
        Ok(self.decide(task, evidence))
    }
}

/// Every action with its posterior, in the order in which to try them, where one of them is needed.
fn weigh(cases: &[Case], known: &[Known]) -> Vec<Proposal> {
    let weighed = weighed(cases.iter());
    let prior = prior(known, &weighed);
    let successes = sum(&weighed, true);
    let posteriors = prior.into_iter().map(|(action, prior)| {
        let own: Vec<&Case> = weighed
            .iter()
            .copied()
            .filter(|c| c.action == action)
            .collect();
        let evidence = successes + sum(&own, false);
        let posterior =
            |trust: f32| (sum(&own, true) + PRIOR_CASES * trust * prior) / (evidence + PRIOR_CASES);
        (
            posterior(1.0),
            proposal(action, posterior(DESCRIPTION_TRUST), &own),
        )
    });
    in_order(posteriors.collect())
}

/// The same where each stands for itself.
fn weigh_each(cases: &[Case], known: &[Known]) -> Vec<Proposal> {
    let mut fits: BTreeMap<&str, f32> = BTreeMap::new();
    for known in known {
        fits.insert(&known.action, known.similarity.clamp(0.0, 1.0));
    }
    if known.is_empty() {
        fits.extend(cases.iter().map(|case| (case.action.as_str(), 0.0)));
    }
    let posteriors = fits.into_iter().map(|(action, fit)| {
        let own = weighed(cases.iter().filter(|case| case.action == action));
        let worked = sum(&own, true);
        let evidence = worked + sum(&own, false);
        let prior = PRIOR_CASES_INDEPENDENT;
        let posterior = |trust: f32| (worked + prior * trust * fit) / (evidence + prior);
        (
            posterior(1.0),
            proposal(action, posterior(DESCRIPTION_TRUST), &own),
        )
    });
    in_order(posteriors.collect())
}

fn proposal(action: &str, confidence: f32, own: &[&Case]) -> Proposal {
    Proposal {
        action: action.to_owned(),
        confidence,
        weighed: confidence,
        evidence: own.iter().map(|case| case.key).take(EVIDENCE_MAX).collect(),
    }
}

fn in_order(mut proposals: Vec<(f32, Proposal)>) -> Vec<Proposal> {
    proposals
        .sort_by(|(a, of_a), (b, of_b)| b.total_cmp(a).then_with(|| of_a.action.cmp(&of_b.action)));
    proposals
        .into_iter()
        .map(|(_, proposal)| proposal)
        .collect()
}

/// The most similar of these that are weighed, in that order.
fn weighed<'a>(cases: impl Iterator<Item = &'a Case>) -> Vec<&'a Case> {
    let (mut worked, mut failed): (Vec<_>, Vec<_>) = cases.partition(|case| case.worked);
    for (cases, count) in [(&mut worked, SUCCESSES_MAX), (&mut failed, FAILURES_MAX)] {
        sort(cases);
        cases.truncate(count);
    }
    worked.extend(failed);
    sort(&mut worked);
    worked
}

fn sort(cases: &mut [&Case]) {
    cases.sort_by(|a, b| {
        let by_similarity = b.similarity.total_cmp(&a.similarity);
        by_similarity.then_with(|| a.key.cmp(&b.key))
    });
}

fn sum(cases: &[&Case], worked: bool) -> f32 {
    let such = cases.iter().filter(|case| case.worked == worked);
    such.map(|case| weight(case)).sum()
}

fn weight(case: &Case) -> f32 {
    case.similarity * case.similarity
}

/// What is expected of each action before any case is looked at; sums to 1. Only the task's actions
/// can be chosen; without any, those of the cases, alike.
fn prior<'a>(known: &'a [Known], cases: &[&'a Case]) -> BTreeMap<&'a str, f32> {
    let scores: BTreeMap<&str, f32> = if known.is_empty() {
        cases.iter().map(|c| (c.action.as_str(), 0.0)).collect()
    } else {
        known
            .iter()
            .map(|k| (k.action.as_str(), k.similarity))
            .collect()
    };
    let best = scores.values().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: BTreeMap<&str, f32> = scores
        .into_iter()
        .map(|(action, score)| (action, ((score - best) / PRIOR_TEMPERATURE).exp()))
        .collect();
    let sum: f32 = weights.values().sum();
    weights.into_iter().map(|(a, w)| (a, w / sum)).collect()
}

fn explain(best: &Proposal, cases: &[Case], abstained: bool) -> String {
    let own = || cases.iter().filter(|case| case.action == best.action);
    let count = |worked: bool| own().filter(|case| case.worked == worked).count();
    let (worked, failed) = (count(true), count(false));
    let action = &best.action;
    let seen = match (worked, failed) {
        (0, 0) => format!("{action} was not tried in a similar case; its description fits best"),
        (worked, 0) => format!("{action} worked in {}", similar(worked)),
        (0, failed) => format!(
            "{action} failed in {}, but others look worse",
            similar(failed)
        ),
        (worked, failed) => {
            format!(
                "{action} worked in {} and failed in {failed}",
                similar(worked)
            )
        }
    };
    if abstained {
        format!("not known well enough: {seen}")
    } else {
        seen
    }
}

fn similar(count: usize) -> String {
    match count {
        1 => "1 similar case".to_owned(),
        count => format!("{count} similar cases"),
    }
}

#[cfg(test)]
mod tests;
