//! What a pass would do, and why.

use memorygate_core::{key::Key, memory::Relation};
use memorygate_proto::v1::{self, planned_step};

use super::StepKind;
use crate::{memory::Link, position::Position};

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// As many as were asked for.
    pub steps: Vec<PlannedStep>,
    /// All steps that a pass would take, those that are not shown too.
    pub merges: u64,
    pub fades: u64,
    pub conflicts: u64,
    pub relinks: u64,
    /// Memories that were compared with what is near them.
    pub compared: u64,
    /// Memories that were looked at for fading.
    pub looked_at: u64,
    pub position: Position,
}

/// A step and why.
#[derive(Clone, Debug, PartialEq)]
pub enum PlannedStep {
    /// They say the same: the evidence of `absorb` goes to `keep`, and they to the archive.
    Merge {
        keep: StepMemory,
        absorb: Vec<StepMemory>,
        /// The smallest between `keep` and the others.
        cosine: f32,
    },
    /// It goes to the archive: what it is worth, 0 to 1, is below the policy's `fade_below`.
    Fade {
        memory: StepMemory,
        worth: f64,
        unused_days: f64,
    },
    /// They contradict each other: both stay, and the conflict is noted.
    Conflict {
        a: StepMemory,
        b: StepMemory,
        cosine: f32,
    },
    /// A link to an archived memory leads to what took its place.
    Relink {
        memory: StepMemory,
        link: Link,
        to: Key,
    },
}

/// A memory that a step is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepMemory {
    pub key: Key,
    /// By which the step was planned.
    pub version: u64,
    /// The first 200 characters.
    pub content: String,
}

impl Plan {
    /// All steps that a pass would take.
    pub fn steps_in_all(&self) -> u64 {
        self.merges + self.fades + self.conflicts + self.relinks
    }

    pub(crate) fn from_wire(wire: v1::PlanConsolidationResponse) -> Result<Self, String> {
        let steps = wire.steps.into_iter().map(PlannedStep::from_wire);
        Ok(Self {
            steps: steps.collect::<Result<_, _>>()?,
            merges: wire.merges,
            fades: wire.fades,
            conflicts: wire.conflicts,
            relinks: wire.relinks,
            compared: wire.compared,
            looked_at: wire.looked_at,
            position: Position::from_wire(wire.position)?,
        })
    }
}

impl PlannedStep {
    pub fn kind(&self) -> StepKind {
        match self {
            Self::Merge { .. } => StepKind::Merge,
            Self::Fade { .. } => StepKind::Fade,
            Self::Conflict { .. } => StepKind::Conflict,
            Self::Relink { .. } => StepKind::Relink,
        }
    }

    fn from_wire(wire: v1::PlannedStep) -> Result<Self, String> {
        let step = wire.step.ok_or("a step is of no kind that is known here")?;
        Ok(match step {
            planned_step::Step::Merge(merge) => Self::Merge {
                keep: StepMemory::from_wire(merge.keep)?,
                absorb: merge
                    .absorb
                    .into_iter()
                    .map(|memory| StepMemory::from_wire(Some(memory)))
                    .collect::<Result<_, _>>()?,
                cosine: merge.cosine,
            },
            planned_step::Step::Fade(fade) => Self::Fade {
                memory: StepMemory::from_wire(fade.memory)?,
                worth: fade.worth,
                unused_days: fade.unused_days,
            },
            planned_step::Step::Contradiction(pair) => Self::Conflict {
                a: StepMemory::from_wire(pair.a)?,
                b: StepMemory::from_wire(pair.b)?,
                cosine: pair.cosine,
            },
            planned_step::Step::Relink(relink) => Self::Relink {
                memory: StepMemory::from_wire(relink.memory)?,
                link: Link {
                    relation: Relation::parse(&relink.relation)
                        .ok_or_else(|| format!("relation {:?}", relink.relation))?,
                    target: relink.from.parse().map_err(|e| format!("from: {e}"))?,
                },
                to: relink.to.parse().map_err(|e| format!("to: {e}"))?,
            },
        })
    }
}

impl StepMemory {
    fn from_wire(wire: Option<v1::StepMemory>) -> Result<Self, String> {
        let wire = wire.ok_or("memory of a step is missing")?;
        Ok(Self {
            key: wire.key.parse().map_err(|e| format!("{e}"))?,
            version: wire.version,
            content: wire.content,
        })
    }
}
