//! What was done, and how it is undone.

use memorygate_core::{key::Key, request::RequestId, time::TimeMs};
use memorygate_proto::v1;

use crate::{error::Violations, position::Position, time};

/// Epochs, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    pub epochs: Vec<Epoch>,
    pub position: Position,
}

/// What one entry of the log consolidated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its position in the log, and its name.
    pub id: u64,
    pub at: TimeMs,
    /// In the order in which they were done.
    pub steps: Vec<DoneStep>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoneStep {
    /// `None` if this client does not know it.
    pub kind: Option<StepKind>,
    /// The memory that is kept, faded or changed, or the first of a conflict.
    pub key: Key,
    /// Those that were merged into it, the other one of a conflict, or where the link leads now.
    pub others: Vec<Key>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    Merge,
    Fade,
    Conflict,
    Relink,
}

impl StepKind {
    pub const ALL: [Self; 4] = [Self::Merge, Self::Fade, Self::Conflict, Self::Relink];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Fade => "fade",
            Self::Conflict => "conflict",
            Self::Relink => "relink",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Takes back an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undo {
    /// [`Epoch::id`].
    pub id: u64,
    /// Made by the client if unset. Set it to repeat a write whose outcome is unknown.
    pub request_id: Option<RequestId>,
}

impl Undo {
    pub fn new(id: u64) -> Self {
        Self {
            id,
            request_id: None,
        }
    }

    #[must_use]
    pub fn request_id(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    pub(crate) fn check(self) -> Violations {
        let mut violations = Violations::default();
        if self.id == 0 {
            violations.add("id", "id is 0, expected that of an epoch");
        }
        violations
    }

    pub(super) fn to_wire(self, namespace: String, id: RequestId) -> v1::UndoEpochRequest {
        v1::UndoEpochRequest {
            request_id: id.to_string(),
            namespace,
            id: self.id,
        }
    }
}

impl From<u64> for Undo {
    fn from(id: u64) -> Self {
        Self::new(id)
    }
}

/// What an undo did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undone {
    /// Steps that were taken back.
    pub steps: u32,
    pub position: Position,
}

impl Undone {
    pub(super) fn from_wire(wire: v1::UndoEpochResponse) -> Result<Self, String> {
        Ok(Self {
            steps: wire.steps,
            position: Position::from_wire(wire.position)?,
        })
    }
}

impl Epochs {
    /// What is wrong with a question for them.
    pub(crate) fn check(before: Option<u64>, limit: usize) -> Violations {
        let mut violations = Violations::of_limit("limit", limit);
        // On the wire it stands for no bound.
        if before == Some(0) {
            violations.add("before", "before is 0, expected the id of an epoch");
        }
        violations
    }

    pub(super) fn from_wire(wire: v1::ListEpochsResponse) -> Result<Self, String> {
        let epochs = wire.epochs.into_iter().map(Epoch::from_wire);
        Ok(Self {
            epochs: epochs.collect::<Result<_, _>>()?,
            position: Position::from_wire(wire.position)?,
        })
    }
}

impl Epoch {
    fn from_wire(wire: v1::EpochSummary) -> Result<Self, String> {
        let at = wire.at.ok_or("at is missing")?;
        let steps = wire.steps.into_iter().map(DoneStep::from_wire);
        Ok(Self {
            id: wire.id,
            at: time::from_wire(at).map_err(|e| format!("at: {e}"))?,
            steps: steps.collect::<Result<_, _>>()?,
        })
    }
}

impl DoneStep {
    fn from_wire(wire: v1::DoneStep) -> Result<Self, String> {
        let key = |text: &String| text.parse().map_err(|e| format!("step: {e}"));
        Ok(Self {
            kind: StepKind::parse(&wire.kind),
            key: key(&wire.key)?,
            others: wire.others.iter().map(key).collect::<Result<_, _>>()?,
        })
    }
}
