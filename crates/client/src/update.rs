//! Update: change metadata, importance, pin or expiry of a memory.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{
    command::update::Expiry,
    key::Key,
    memory::{check_importance, check_metadata},
    request::RequestId,
    time::TimeMs,
};
use memorygate_proto::v1;

use crate::{
    error::Violations,
    mutation::{Target, target_methods},
    scope::Reader,
    time,
};

/// What to change; whatever is not named stays. Content, domain and scope make a memory's identity
/// and cannot be changed: learn anew, and link with `supersedes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub target: Target,
    /// The version that the caller decided by: [`Kind::Conflict`](crate::Kind::Conflict) if the
    /// memory has another.
    pub expected_version: Option<u64>,
    /// 0 to 1.
    pub importance: Option<f32>,
    pub pinned: Option<bool>,
    pub expiry: Option<Expiry>,
    pub set_metadata: BTreeMap<String, String>,
    pub remove_metadata: BTreeSet<String>,
}

target_methods!(Update);

impl Update {
    pub fn new(key: Key) -> Self {
        Self {
            target: Target::new(key),
            expected_version: None,
            importance: None,
            pinned: None,
            expiry: None,
            set_metadata: BTreeMap::new(),
            remove_metadata: BTreeSet::new(),
        }
    }

    #[must_use]
    pub fn expected_version(mut self, version: u64) -> Self {
        self.expected_version = Some(version);
        self
    }

    #[must_use]
    pub fn importance(mut self, importance: f32) -> Self {
        self.importance = Some(importance);
        self
    }

    #[must_use]
    pub fn pinned(mut self, pinned: bool) -> Self {
        self.pinned = Some(pinned);
        self
    }

    #[must_use]
    pub fn expires_at(mut self, time: TimeMs) -> Self {
        self.expiry = Some(Expiry::At(time));
        self
    }

    #[must_use]
    pub fn never_expires(mut self) -> Self {
        self.expiry = Some(Expiry::Never);
        self
    }

    #[must_use]
    pub fn set_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_metadata.insert(key.into(), value.into());
        self
    }

    #[must_use]
    pub fn remove_metadata(mut self, key: impl Into<String>) -> Self {
        self.remove_metadata.insert(key.into());
        self
    }

    pub(crate) fn check(&self) -> Violations {
        let mut violations = Violations::default();
        if let Some(importance) = self.importance {
            violations.check("importance", check_importance(importance));
        }
        if let Some(Expiry::At(at)) = self.expiry {
            violations.check("expires_at", TimeMs::new(at.0));
        }
        violations.check("set_metadata", check_metadata(&self.set_metadata));
        violations
    }

    pub(crate) fn to_wire(
        &self,
        namespace: &str,
        reader: &Reader,
        id: RequestId,
    ) -> v1::UpdateRequest {
        let (expires_at, clear_expires_at) = match self.expiry {
            None => (None, false),
            Some(Expiry::Never) => (None, true),
            Some(Expiry::At(at)) => (Some(time::to_wire(at)), false),
        };
        v1::UpdateRequest {
            request_id: id.to_string(),
            namespace: namespace.to_owned(),
            key: self.target.key.to_string(),
            reader: Some(reader.to_wire()),
            expected_version: self.expected_version,
            importance: self.importance,
            pinned: self.pinned,
            expires_at,
            clear_expires_at,
            set_metadata: self.set_metadata.clone(),
            remove_metadata: self.remove_metadata.iter().cloned().collect(),
        }
    }
}
