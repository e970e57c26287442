//! Forget: remove a memory for good.

use memorygate_core::{key::Key, request::RequestId};
use memorygate_proto::v1;

use crate::{
    mutation::{Target, target_methods},
    scope::Reader,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Forget {
    pub target: Target,
    /// The version that the caller decided by: [`Kind::Conflict`](crate::Kind::Conflict) if the
    /// memory has another.
    pub expected_version: Option<u64>,
}

target_methods!(Forget);

impl Forget {
    pub fn new(key: Key) -> Self {
        Self {
            target: Target::new(key),
            expected_version: None,
        }
    }

    #[must_use]
    pub fn expected_version(mut self, version: u64) -> Self {
        self.expected_version = Some(version);
        self
    }

    pub(crate) fn to_wire(
        &self,
        namespace: &str,
        reader: &Reader,
        id: RequestId,
    ) -> v1::ForgetRequest {
        v1::ForgetRequest {
            request_id: id.to_string(),
            namespace: namespace.to_owned(),
            key: self.target.key.to_string(),
            reader: Some(reader.to_wire()),
            expected_version: self.expected_version,
        }
    }
}

impl From<Key> for Forget {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}
