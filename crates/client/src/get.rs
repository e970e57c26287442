//! Get: one memory by key.

use memorygate_core::key::Key;

use crate::{freshness::Freshness, scope::Reader};

#[derive(Clone, Debug, PartialEq)]
pub struct Get {
    /// The client's if unset.
    pub namespace: Option<String>,
    pub key: Key,
    /// The client's if unset.
    pub reader: Option<Reader>,
    pub freshness: Freshness,
}

impl Get {
    pub fn new(key: Key) -> Self {
        Self {
            namespace: None,
            key,
            reader: None,
            freshness: Freshness::default(),
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
}

impl From<Key> for Get {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}
