//! What a decision is made from: past cases, and the actions that there are.

use memorygate_client::{Key, Memory, Recalled, Verdict, interaction::VERDICT_METADATA};

/// Metadata key of what was done in a case.
pub const ACTION_METADATA: &str = "action";

/// Weights of late interaction and of cosine in a similarity, as ranking has them (.6 and .2), made
/// to sum to 1.
const LATE: f32 = 0.75;
const DENSE: f32 = 0.25;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Evidence {
    /// Everything that was recalled for the task, best first.
    pub recalled: Vec<Recalled>,
    /// What of it says what was done and whether it worked.
    pub cases: Vec<Case>,
    /// The task's actions.
    pub known: Vec<Known>,
}

/// A past case.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub key: Key,
    pub action: String,
    pub worked: bool,
    /// To the task, 0 to 1.
    pub similarity: f32,
    /// How often it was seen.
    pub occurrences: u32,
}

/// An action of the task.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub action: String,
    /// How well it fits the task, if whoever set it said so, else the cosine of its description and the task;
    /// 0 if it is not known.
    pub similarity: f32,
}

impl Evidence {
    /// Of what was recalled; `known` beside it.
    pub fn new(recalled: Vec<Recalled>, known: Vec<Known>) -> Self {
        let cases = recalled.iter().filter_map(Case::of).collect();
        Self {
            recalled,
            cases,
            known,
        }
    }

    /// Adds what was done in past cases to the actions that are known: nobody described them, so only
    /// the cases speak for them.
    pub(crate) fn open(&mut self) {
        if self.known.is_empty() {
            return;
        }
        for case in &self.cases {
            if self.known.iter().all(|known| known.action != case.action) {
                self.known.push(Known {
                    action: case.action.clone(),
                    similarity: 0.0,
                });
            }
        }
    }
}

impl Case {
    /// `None` for a memory that is no case: it names no action, or not what came of it.
    pub fn of(recalled: &Recalled) -> Option<Self> {
        let memory = &recalled.memory;
        Some(Self {
            key: memory.key,
            action: memory.metadata.get(ACTION_METADATA)?.clone(),
            worked: worked(memory)?,
            similarity: similarity(recalled),
            occurrences: memory.occurrences,
        })
    }
}

/// Of a memory and the task that it was recalled for, 0 to 1.
pub(crate) fn similarity(recalled: &Recalled) -> f32 {
    let parts = &recalled.parts;
    // A memory whose vector its writer gave has no token states, and neither has a store without a
    // model.
    let similarity = match parts.raw_late {
        0.0 => parts.raw_dense,
        late => LATE.mul_add(late, DENSE * parts.raw_dense),
    };
    if similarity.is_finite() {
        similarity.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

fn worked(memory: &Memory) -> Option<bool> {
    let verdict = memory.metadata.get(VERDICT_METADATA)?;
    match verdict.as_str() {
        v if v == Verdict::Success.as_str() => Some(true),
        v if v == Verdict::Failure.as_str() => Some(false),
        _ => None,
    }
}
