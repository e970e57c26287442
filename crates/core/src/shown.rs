//! What of a memory a reader is shown: a memory may name others that the reader may not see.
//!
//! ```text
//! links       someone who saw both linked them, and others see one of them
//! replaced by a memory was shared with a team that the reader is no member of
//! shared from narrower memories, which are not for those who see the wider one
//! merged      always of the memory's own scope
//! ```
//!
//! Answers are made of [`Shown`] alone, so that no answer can forget to look.

use crate::{
    key::Key,
    memory::{Memory, Reason},
    name::Namespace,
    scope::Reader,
    state::{self, Read, ReadError},
};

/// A memory without what its reader may not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown(Memory);

impl Shown {
    /// `memory` as `reader`, who sees it, may see it. What is not there any more, or not yet, may be named: that
    /// tells nothing of anyone's memories.
    pub fn to(
        reader: &Reader,
        rows: &impl Read,
        namespace: &Namespace,
        mut memory: Memory,
    ) -> Result<Self, ReadError> {
        assert!(
            reader.sees(&memory.scope),
            "a memory is shown to those who see it"
        );
        if reader.everything {
            return Ok(Self(memory));
        }
        // Without the keys, who shared it stays.
        memory.shared = (0_u128..)
            .zip(std::mem::take(&mut memory.shared).into_values())
            .map(|(place, sharing)| (Key(place.to_be_bytes()), sharing))
            .collect();
        let is_hidden = |key: Key| -> Result<bool, ReadError> {
            let named = state::memory(rows, namespace, key)?;
            Ok(named.is_some_and(|named| !reader.sees(&named.scope)))
        };
        let mut hidden = Vec::new();
        for link in &memory.links {
            if is_hidden(link.target)? {
                hidden.push(*link);
            }
        }
        for link in hidden {
            memory.links.remove(&link);
        }
        if let Some(archived) = &mut memory.archived
            && let Some(by) = archived.reason.replacement()
            && is_hidden(by)?
        {
            archived.reason = Reason::Withheld;
        }
        Ok(Self(memory))
    }

    /// As it is, for those who see everything.
    pub fn to_operator(memory: Memory) -> Self {
        Self(memory)
    }

    pub fn memory(&self) -> &Memory {
        &self.0
    }

    pub fn into_memory(self) -> Memory {
        self.0
    }
}
