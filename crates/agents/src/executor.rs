//! Who decides: by past cases alone, or with a language model.

use async_trait::async_trait;

use crate::{decision::Decision, evidence::Evidence, task::Task};

/// Decides what to do about a task from what is known.
#[async_trait]
pub trait Executor: Send + Sync {
    /// By which its own past decisions are told from those of others.
    fn name(&self) -> &'static str;

    /// How many past cases it can make use of.
    fn recall_limit(&self) -> usize;

    async fn execute(&self, task: &Task, evidence: &Evidence) -> Result<Decision, Error>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was decided, and nothing will be before its settings are others: a key, a name, an address.
    #[error("{what} refuses: {reason}")]
    Refused { what: String, reason: String },
    /// Nothing was decided; later it may go.
    #[error("{what} cannot be had: {reason}; try again, or decide without it")]
    Unavailable { what: String, reason: String },
    /// It answered, but with something that is no decision.
    #[error("{what} gave no usable answer: {reason}")]
    Unusable { what: String, reason: String },
}
