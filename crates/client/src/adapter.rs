//! From memories to context: what of them an agent gets to see, and in what form.

mod prompt;

use memorygate_core::key::Key;

pub use self::prompt::{Budget, PromptAdapter, heading, quote};
use crate::{context::LearningContext, recall::Recalled};

/// Turns what was recalled into something that a task can be done with.
pub trait MemoryAdapter: Send + Sync {
    /// `memories` come best first. What does not fit is left out, the worst first as a rule, and
    /// counted.
    fn adapt_knowledge(&self, context: &LearningContext, memories: &[Recalled]) -> Adapted;
}

/// Context for a task.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Adapted {
    /// Empty if there is nothing to say.
    pub text: String,
    /// The memories in it, in order. Rate them afterwards, and the next agent finds better ones.
    pub used: Vec<Key>,
    /// Memories in it that had to be shortened.
    pub shortened: usize,
    /// Memories for which there was no room.
    pub left_out: usize,
}
