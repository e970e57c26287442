//! Learn: store experiences, all or none.

use memorygate_core::{
    key::Key, limits::BATCH_MAX, memory::Invalid, name::Namespace, request::RequestId,
};
use memorygate_proto::v1;

use crate::{
    error::{Error, Violations},
    experience::Experience,
    position::Position,
};

/// Experiences to store in one atomic write.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Learn {
    /// The client's if unset.
    pub namespace: Option<String>,
    /// 1 to 256.
    pub experiences: Vec<Experience>,
    /// Made by the client if unset. Set it to repeat a write whose outcome is unknown.
    pub request_id: Option<RequestId>,
}

impl Learn {
    pub fn new(experiences: impl IntoIterator<Item = Experience>) -> Self {
        Self {
            experiences: experiences.into_iter().collect(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    #[must_use]
    pub fn request_id(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    pub(crate) fn check(&self, namespace: &str) -> Result<(), Error> {
        let mut violations = Violations::default();
        violations.check("namespace", Namespace::parse(namespace));
        let actual = self.experiences.len();
        if actual == 0 || actual > BATCH_MAX {
            violations.add("experiences", Invalid::Batch { actual });
        }
        for (at, experience) in self.experiences.iter().enumerate() {
            violations.nest(&format!("experiences[{at}]"), experience.check());
        }
        violations.into_result("learn")
    }

    pub(crate) fn to_wire(&self, namespace: &str, id: RequestId) -> v1::LearnRequest {
        v1::LearnRequest {
            request_id: id.to_string(),
            namespace: namespace.to_owned(),
            experiences: self.experiences.iter().map(Experience::to_wire).collect(),
        }
    }
}

impl From<Experience> for Learn {
    fn from(experience: Experience) -> Self {
        Self::new([experience])
    }
}

impl From<Vec<Experience>> for Learn {
    fn from(experiences: Vec<Experience>) -> Self {
        Self::new(experiences)
    }
}

/// What became of one experience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    pub key: Key,
    /// False if it reinforced a known memory.
    pub created: bool,
    /// The memory's version after this write.
    pub version: u64,
    pub occurrences: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnReply {
    /// One for each experience, in order.
    pub learned: Vec<Learned>,
    pub position: Position,
}

impl LearnReply {
    pub(crate) fn from_wire(wire: v1::LearnResponse) -> Result<Self, String> {
        let learned = |l: v1::Learned| {
            Ok::<_, String>(Learned {
                key: l.key.parse().map_err(|e| format!("{e}"))?,
                created: l.created,
                version: l.version,
                occurrences: l.occurrences,
            })
        };
        Ok(Self {
            learned: wire
                .learned
                .into_iter()
                .map(learned)
                .collect::<Result<_, _>>()?,
            position: Position::from_wire(wire.position)?,
        })
    }
}

/// What became of a stream of batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnStreamReply {
    pub batches: u64,
    pub created: u64,
    pub reinforced: u64,
    /// Of the last write; `None` if the stream was empty.
    pub position: Option<Position>,
}

impl LearnStreamReply {
    pub(crate) fn from_wire(wire: v1::LearnStreamResponse) -> Result<Self, String> {
        let position = match wire.position {
            None => None,
            position => Some(Position::from_wire(position)?),
        };
        Ok(Self {
            batches: wire.batches,
            created: wire.created,
            reinforced: wire.reinforced,
            position,
        })
    }
}
