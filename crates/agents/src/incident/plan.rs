//! What to do first, and what then.

use super::{Contribution, response::RESPONSES};
use crate::{agent::Performed, cited::Cited};

/// Further responses to try if the first does not help.
const FURTHER_MAX: usize = 2;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// In an imperative.
    pub what: String,
    /// The name of it that an outcome is told of, if it is one that can end the incident.
    pub action: Option<String>,
    /// That it helps, 0 to 1, if that was weighed.
    pub confidence: Option<f32>,
    pub details: Vec<String>,
    pub cases: Vec<Cited>,
}

impl Step {
    fn plain(what: &str) -> Self {
        Self {
            what: what.to_owned(),
            action: None,
            confidence: None,
            details: Vec::new(),
            cases: Vec::new(),
        }
    }
}

/// Take it, stop the harm, find the cause, see that it is over. What ended similar incidents comes before
/// the search for the cause only where it is known well enough.
pub(super) fn plan(
    performed: &Performed,
    contributions: &[Contribution],
    known: bool,
) -> Vec<Step> {
    let mut responses = performed.decision.proposals.iter().map(|proposal| {
        let response = RESPONSES.iter().find(|r| r.action == proposal.action);
        let details = response.map_or(&[][..], |response| response.steps);
        Step {
            what: format!("{} ({:.0} %)", proposal.action, proposal.confidence * 100.0),
            action: Some(proposal.action.clone()),
            confidence: Some(proposal.confidence),
            details: details.iter().map(|step| (*step).to_owned()).collect(),
            cases: Cited::of(&performed.evidence, &proposal.evidence),
        }
    });
    let asked = contributions.iter().map(|contribution| Step {
        what: format!("{}, says {}", contribution.action, contribution.agent),
        action: Some(contribution.action.clone()),
        confidence: Some(contribution.confidence),
        details: std::iter::once(contribution.found.clone())
            .chain(contribution.steps.iter().cloned())
            .collect(),
        cases: contribution.cases.clone(),
    });
    let mut plan = vec![Step::plain(
        "take the incident: one coordinator, one channel, say so",
    )];
    if known {
        plan.extend(responses.next());
    } else {
        plan.push(Step::plain(
            "find what changed shortly before the first alert",
        ));
    }
    plan.extend(asked);
    plan.extend(responses.take(FURTHER_MAX));
    plan.push(Step::plain(
        "see that every alert is resolved and stays so for half an hour",
    ));
    plan.push(Step::plain(
        "teach the outcome: what ended it, and what did not help",
    ));
    plan
}
