//! Get: one memory by key.

use memorygate_core::{key::Key, moment::Moment};

use crate::{freshness::Freshness, scope::Reader};

#[derive(Clone, Debug, PartialEq)]
pub struct Get {
    /// The client's if unset.
    pub namespace: Option<String>,
    pub key: Key,
    /// The client's if unset.
    pub reader: Option<Reader>,
    pub freshness: Freshness,
    /// The moment whose memories are asked for; the present if unset.
    pub as_of: Option<Moment>,
}

impl Get {
    pub fn new(key: Key) -> Self {
        Self {
            namespace: None,
            key,
            reader: None,
            freshness: Freshness::default(),
            as_of: None,
        }
    }

    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    #[must_use]
    pub fn reader(mut self, reader: Reader) -> Self {
        self.reader = Some(reader);
        self
    }

    #[must_use]
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// As of a moment of the last 90 days: the memories that were there, as they were. What was forgotten or
    /// has expired since is not there, and a consolidation that was undone never was.
    #[must_use]
    pub fn as_of(mut self, moment: Moment) -> Self {
        self.as_of = Some(moment);
        self
    }
}

impl From<Key> for Get {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}
