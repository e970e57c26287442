//! Restore: bring a memory back from the archive.

use memorygate_core::{key::Key, request::RequestId};
use memorygate_proto::v1;

use crate::{
    mutation::{Target, target_methods},
    scope::Reader,
};

/// A memory that was merged does not come back alone: undo the consolidation that did it
/// ([`Consolidation::undo`](crate::Consolidation::undo)).
#[derive(Clone, Debug, PartialEq)]
pub struct Restore {
    pub target: Target,
}

target_methods!(Restore);

impl Restore {
    pub fn new(key: Key) -> Self {
        Self {
            target: Target::new(key),
        }
    }

    pub(crate) fn to_wire(
        &self,
        namespace: &str,
        reader: &Reader,
        id: RequestId,
    ) -> v1::RestoreRequest {
        v1::RestoreRequest {
            request_id: id.to_string(),
            namespace: namespace.to_owned(),
            key: self.target.key.to_string(),
            reader: Some(reader.to_wire()),
        }
    }
}

impl From<Key> for Restore {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}
