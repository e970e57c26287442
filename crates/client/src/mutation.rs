//! What a change of one memory names and answers: the part that update, feedback, forget and link
//! have in common.

use memorygate_core::{key::Key, request::RequestId};
use memorygate_proto::v1;

use crate::{position::Position, scope::Reader};

/// The memory to change, on whose behalf, and under which request id.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The client's if unset.
    pub namespace: Option<String>,
    pub key: Key,
    /// The client's if unset.
    pub reader: Option<Reader>,
    /// Made by the client if unset. Set it to repeat a write whose outcome is unknown.
    pub request_id: Option<RequestId>,
}

impl Target {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            namespace: None,
            key,
            reader: None,
            request_id: None,
        }
    }
}

/// The builder methods that every change of one memory has.
macro_rules! target_methods {
    ($request:ty) => {
        impl $request {
            #[must_use]
            pub fn namespace(mut self, name: impl Into<String>) -> Self {
                self.target.namespace = Some(name.into());
                self
            }

            #[must_use]
            pub fn reader(mut self, reader: crate::scope::Reader) -> Self {
                self.target.reader = Some(reader);
                self
            }

            #[must_use]
            pub fn request_id(mut self, id: memorygate_core::request::RequestId) -> Self {
                self.target.request_id = Some(id);
                self
            }
        }
    };
}
pub(crate) use target_methods;

/// What a change of one memory did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutation {
    pub key: Key,
    /// The memory's version after this write; 0 if it is gone.
    pub version: u64,
    /// False if there was nothing to change.
    pub changed: bool,
    pub position: Position,
}

impl Mutation {
    pub(crate) fn from_share(wire: v1::ShareResponse) -> Result<Self, String> {
        Self::from_wire(v1::MutationResponse {
            key: wire.key,
            version: wire.version,
            changed: wire.changed,
            position: wire.position,
        })
    }

    pub(crate) fn from_wire(wire: v1::MutationResponse) -> Result<Self, String> {
        Ok(Self {
            key: wire.key.parse().map_err(|e| format!("{e}"))?,
            version: wire.version,
            changed: wire.changed,
            position: Position::from_wire(wire.position)?,
        })
    }
}
