//! Share: make a memory of a narrower scope one of a wider scope.

use memorygate_core::{key::Key, memory::Invalid, request::RequestId};
use memorygate_proto::v1;

use crate::{
    error::Violations,
    mutation::{Target, target_methods},
    scope::{Reader, Scope},
};

/// The answer names another key: the memory is there under that one, with all that it had, and the old
/// key leads to it. Only the agent that the memory belongs to, or a member of its team, can share it, and
/// nobody can take it back.
///
/// ```
/// use memorygate_client::{Key, Reader, Share};
///
/// let key = Key([0; 16]);
/// let with_everyone = Share::with_everyone(key).reader(Reader::agent("ada"));
/// let with_team = Share::with_team(key, "sre").reader(Reader::agent("ada").team("sre"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub target: Target,
    /// A team, or everyone.
    pub with: Scope,
    /// The version that the caller decided by: [`Kind::Conflict`](crate::Kind::Conflict) if the
    /// memory has another.
    pub expected_version: Option<u64>,
}

target_methods!(Share);

impl Share {
    pub fn with_everyone(key: Key) -> Self {
        Self {
            target: Target::new(key),
            with: Scope::Shared,
            expected_version: None,
        }
    }

    /// The reader must be a member of the team.
    pub fn with_team(key: Key, team: impl Into<String>) -> Self {
        Self {
            with: Scope::Team(team.into()),
            ..Self::with_everyone(key)
        }
    }

    #[must_use]
    pub fn expected_version(mut self, version: u64) -> Self {
        self.expected_version = Some(version);
        self
    }

    pub(crate) fn check(&self) -> Violations {
        let mut violations = Violations::default();
        match &self.with {
            Scope::Shared | Scope::Team(_) => {
                violations.check("scope", self.with.check());
            }
            Scope::Agent(_) => violations.add("scope", Invalid::SharedWithAgent),
        }
        violations
    }

    pub(crate) fn to_wire(
        &self,
        namespace: &str,
        reader: &Reader,
        id: RequestId,
    ) -> v1::ShareRequest {
        v1::ShareRequest {
            request_id: id.to_string(),
            namespace: namespace.to_owned(),
            key: self.target.key.to_string(),
            reader: Some(reader.to_wire()),
            scope: Some(self.with.to_wire()),
            expected_version: self.expected_version,
        }
    }
}
