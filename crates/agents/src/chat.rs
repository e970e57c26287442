//! Decides by asking a language model, over any endpoint that speaks OpenAI's chat completions.
//!
//! ```text
//! Task, Evidence ─▶ prompt ─▶ call ══ HTTP ══▶ endpoint
//!                                └── stream ◀════╝
//!                  Decision ◀─ answer ◀─┘
//! ```
//!
//! The model reads the task, what can be done and the memories (see [`crate::context`]), all of it quoted,
//! and answers with one JSON object: an action, how sure it is, why, and the numbers of the memories that
//! speak for it. It is believed in nothing else:
//!
//! - An action that is not the task's is no decision. Those of past cases may be chosen where the task is
//!   open or names none, but not under names that no person would give.
//! - The number of a memory that it was not shown is dropped, and the explanation says so. If it shows
//!   nothing but such numbers, its reasons do not exist, so it counts as not knowing.
//! - It does not know where it names no action, or is less sure than it has to be. Its confidence is its own
//!   word, and not calibrated as that of [`crate::CaseBased`] is.
//!
//! Everything that an endpoint does is bounded, in time ([`Bounds`]) and in bytes, and what is wrong with it
//! is told as an [`Error`]. An answer without anything to choose from is given without asking.

mod answer;
mod call;
mod prompt;
mod settings;
mod stream;

use async_trait::async_trait;
use memorygate_client::adapter::MemoryAdapter as _;

pub use self::settings::{Bounds, KEY_BYTES_MAX, Key, Settings, SettingsError};
use self::{call::Caller, prompt::Choices};
use crate::{
    calibration::Record,
    context::Injection,
    decision::Decision,
    evidence::Evidence,
    executor::{Error, Executor},
    task::Task,
};

/// Memories that are asked for; how many of them a prompt holds is a matter of its budget.
const RECALLED: usize = 30;

/// See the module.
#[derive(Debug)]
pub struct Chat {
    caller: Caller,
    injection: Injection,
    abstain_below: f32,
}

impl Chat {
    /// Connects to nothing yet.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        Ok(Self {
            caller: Caller::new(settings)?,
            injection: Injection::new(settings.context_tokens),
            abstain_below: settings.abstain_below.clamp(0.0, 1.0),
        })
    }
}

#[async_trait]
impl Executor for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn recall_limit(&self) -> usize {
        RECALLED
    }

    async fn execute(&self, task: &Task, evidence: &Evidence) -> Result<Decision, Error> {
        let choices = Choices::of(task, evidence);
        if choices.is_empty() {
            return Ok(Decision {
                abstained: true,
                explanation: "no similar case is known, and no action to choose from".to_owned(),
                ..Decision::default()
            });
        }
        let memories = self
            .injection
            .adapt_knowledge(&task.context, &evidence.recalled);
        let messages = prompt::messages(task, evidence, &choices, &memories);
        let text = self.caller.ask(&messages, &choices).await?;
        let record = Record::of(self.name(), evidence);
        let decided = answer::decide(&text, &choices, &memories.used, &record, self.abstain_below);
        let mut decision = decided.map_err(|reason| self.caller.unusable(&reason))?;
        decision.explanation = self.caller.without_key(&decision.explanation);
        Ok(decision)
    }
}

#[cfg(test)]
mod tests;
