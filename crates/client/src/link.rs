//! Link: add or remove a link from one memory to another.

use memorygate_core::{
    key::Key,
    memory::{Link, Relation},
    request::RequestId,
};
use memorygate_proto::v1;

use crate::{
    experience::link_to_wire,
    mutation::{Target, target_methods},
    scope::Reader,
};

#[derive(Clone, Debug, PartialEq)]
pub struct SetLink {
    /// The memory that gets or loses the link.
    pub target: Target,
    pub link: Link,
    pub remove: bool,
}

target_methods!(SetLink);

impl SetLink {
    /// A link from `key` to `end`.
    pub fn new(key: Key, relation: Relation, end: Key) -> Self {
        Self {
            target: Target::new(key),
            link: Link {
                relation,
                target: end,
            },
            remove: false,
        }
    }

    /// Takes the link away instead.
    #[must_use]
    pub fn remove(mut self) -> Self {
        self.remove = true;
        self
    }

    pub(crate) fn to_wire(
        &self,
        namespace: &str,
        reader: &Reader,
        id: RequestId,
    ) -> v1::LinkRequest {
        v1::LinkRequest {
            request_id: id.to_string(),
            namespace: namespace.to_owned(),
            key: self.target.key.to_string(),
            reader: Some(reader.to_wire()),
            target: Some(link_to_wire(&self.link)),
            remove: self.remove,
        }
    }
}
