//! Infrastructure troubleshooting: from what a cluster says of a workload to ranked causes, each with
//! steps that remedy it and the past cases behind it.
//!
//! ```text
//! kubectl describe ─┐
//! events            ├─▶ Symptoms ─▶ causes that they allow ─▶ Task ─▶ MemoryEnabledAgent ─▶ Diagnosis
//! logs, nodes      ─┘
//! ```
//!
//! The symptoms say which causes are possible, the memory which of them it was: what remedied a similar
//! case goes first, what failed there goes last. What remedied a similar case and is no known cause is
//! proposed as well.

mod cause;
mod kubernetes;
mod log;
mod symptom;

use memorygate_client::{LearningContext, domain};

pub use self::{
    cause::{CAUSES, Cause},
    symptom::{Sign, Symptom, Symptoms},
};
use crate::{
    agent::{Error, MemoryEnabledAgent, Performed},
    cited::Cited,
    task::{Action, Task},
};

/// Bytes of one document (`describe`, events, a node); logs are read line by line and may be longer.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Causes of a diagnosis.
const CAUSES_SHOWN: usize = 5;

/// What is likely the matter.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The workload, if the input names one.
    pub subject: Option<String>,
    /// What was seen, the gravest first.
    pub symptoms: Vec<Symptom>,
    /// The likeliest first.
    pub causes: Vec<Suspect>,
    /// What else was learned about such a thing, though not as a case with an outcome.
    pub related: Vec<Cited>,
    /// Whether the first is likely enough to act on; if not, look closer before you do.
    pub known: bool,
    pub explanation: String,
    /// For [`MemoryEnabledAgent::conclude`], together with the task.
    pub performed: Performed,
    pub task: Task,
}

/// A cause that is possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// What remedies it, by name: what an outcome is told of.
    pub action: String,
    /// What is wrong, in a sentence.
    pub cause: String,
    /// That the action remedies it, 0 to 1.
    pub confidence: f32,
    /// In the order in which to do them.
    pub steps: Vec<String>,
    /// Past cases with this action.
    pub cases: Vec<Cited>,
}

/// The task that symptoms set: their words, and the causes that they allow.
pub fn task(symptoms: &Symptoms, context: LearningContext) -> Task {
    let context = LearningContext {
        task: symptoms.words(),
        domain: context.domain.or(Some(domain::INFRASTRUCTURE.to_owned())),
        ..context
    };
    let mut task = Task::new(context).open();
    for cause in cause::possible(symptoms) {
        task = task.action(Action::new(cause.action).described(cause.cause));
    }
    task
}

/// Finds what is likely the matter. `context` says on whose behalf; its task is made here.
pub async fn diagnose(
    agent: &MemoryEnabledAgent,
    symptoms: &Symptoms,
    context: LearningContext,
) -> Result<Diagnosis, Error> {
    let task = task(symptoms, context);
    let performed = agent.perform(&task).await?;
    let causes = performed
        .decision
        .proposals
        .iter()
        .take(CAUSES_SHOWN)
        .map(|proposal| {
            let known = CAUSES.iter().find(|cause| cause.action == proposal.action);
            let steps: &[&str] = known.map_or(cause::STEPS_OF_UNKNOWN, |cause| cause.steps);
            Suspect {
                action: proposal.action.clone(),
                cause: known
                    .map_or("as in the cases below", |cause| cause.cause)
                    .to_owned(),
                confidence: proposal.confidence,
                steps: steps.iter().map(|step| (*step).to_owned()).collect(),
                cases: Cited::of(&performed.evidence, &proposal.evidence),
            }
        })
        .collect();
    Ok(Diagnosis {
        subject: symptoms.subject.clone(),
        symptoms: symptoms.gravest(),
        causes,
        related: Cited::related(&performed.evidence),
        known: !performed.decision.abstained,
        explanation: performed.decision.explanation.clone(),
        performed,
        task,
    })
}

#[cfg(test)]
mod tests;
