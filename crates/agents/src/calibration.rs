//! How sure an executor may say it is: by how often it was right in similar cases when it had weighed as much.
//!
//! With each case is kept what its decision was weighed at (`weighed`), and its outcome tells whether that was
//! right. So what is recalled for a task holds the executor's record in tasks like it, and of that
//!
//! ```text
//!                  Σ s · k(w − wᵢ) · rightᵢ + w
//! confidence(w) = ──────────────────────────────     k(d) = max(0, 1 − |d| / 0.2)
//!                  Σ s · k(w − wᵢ) + 1
//! ```
//!
//! is told: the share that was right among similar cases (s) weighed alike (k), a kernel estimate (Nadaraya,
//! "On Estimating Regression", 1964) in which what was weighed itself counts as one case. It needs no model of
//! why the weights are off, and follows when they come to be off in another way.

use crate::{
    decision::Proposal,
    evidence::{Case, Evidence},
};

/// Metadata key of who decided in a case and what it was weighed at, 0 to 1: `case-based 0.412`.
pub const WEIGHED_METADATA: &str = "weighed";
/// Metadata key of what was chosen where something else was right.
pub const INSTEAD_OF_METADATA: &str = "instead_of";

/// What is weighed further apart says nothing of each other.
const WIDTH: f32 = 0.2;
/// Cases that the weight itself is worth.
const OWN_CASES: f32 = 1.0;

/// One past decision.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Past {
    similarity: f32,
    weighed: f32,
    was_right: bool,
}

/// An executor's record in tasks like one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record(Vec<Past>);

impl Record {
    /// Of this executor in the cases that were recalled. Those that were decided by another, or do not say what
    /// they were weighed at, count for nothing.
    pub fn of(executor: &str, evidence: &Evidence) -> Self {
        let past = evidence.recalled.iter().filter_map(|recalled| {
            let case = Case::of(recalled)?;
            let metadata = &recalled.memory.metadata;
            let (by, weighed) = metadata.get(WEIGHED_METADATA)?.split_once(' ')?;
            let weighed: f32 = weighed.parse().ok().filter(|_| by == executor)?;
            (0.0..=1.0).contains(&weighed).then_some(Past {
                similarity: case.similarity,
                weighed,
                was_right: case.worked && !metadata.contains_key(INSTEAD_OF_METADATA),
            })
        });
        Self(past.collect())
    }

    /// What may be said of a decision that is weighed at `weighed`.
    pub fn confidence(&self, weighed: f32) -> f32 {
        let (mut right, mut all) = (OWN_CASES * weighed, OWN_CASES);
        for past in &self.0 {
            let near = (1.0 - (weighed - past.weighed).abs() / WIDTH).max(0.0);
            all += past.similarity * near;
            if past.was_right {
                right += past.similarity * near;
            }
        }
        right / all
    }

    /// Tells the first proposal by the record; the others share what is left of the probability as before.
    pub(crate) fn calibrate(&self, proposals: &mut [Proposal]) {
        let Some((first, others)) = proposals.split_first_mut() else {
            return;
        };
        let before = 1.0 - first.confidence;
        first.confidence = self.confidence(first.weighed);
        if before > 0.0 {
            let share = (1.0 - first.confidence) / before;
            for other in others {
                other.confidence = (other.confidence * share).min(1.0);
            }
        }
    }
}

/// What is kept with a case.
pub(crate) fn kept(executor: &str, proposal: &Proposal) -> String {
    format!("{executor} {:.3}", proposal.weighed)
}

#[cfg(test)]
mod tests;
