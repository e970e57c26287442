//! With which memory an agent decides, and on whose behalf.

use std::sync::Arc;

use memorygate_agents::{MemoryEnabledAgent, agent};
use memorygate_client::LearningContext;

use super::executor::ExecutorArgs;
use crate::{args::Global, failure::Usage};

/// How a decision is made.
#[derive(clap::Args)]
pub(super) struct Deciding {
    #[command(flatten)]
    executor: ExecutorArgs,
}

impl Deciding {
    pub(super) fn agent(&self, global: &Global) -> anyhow::Result<MemoryEnabledAgent> {
        let executor = self.executor.executor()?;
        Ok(MemoryEnabledAgent::new(
            Arc::new(global.client()?),
            executor,
        ))
    }

    /// How sure a decision has to be, if it was said.
    pub(super) fn sure(&self) -> Option<f32> {
        self.executor.sure
    }
}

/// On whose behalf an agent works: its own if nobody was named.
pub(super) fn context(global: &Global, agent: &str) -> LearningContext {
    LearningContext {
        agent: Some(global.agent.clone().unwrap_or_else(|| agent.to_owned())),
        teams: global.team.clone(),
        ..LearningContext::default()
    }
}

/// An agent's error as one of a call, where it is one, so that it is told like every other.
pub(super) fn failed(error: agent::Error) -> anyhow::Error {
    match error {
        agent::Error::Store(error) => error.into(),
        agent::Error::Executor(error) => error.into(),
        agent::Error::NothingToLearn => {
            let next = "nothing was proposed: name what was done with --action NAME";
            Usage(next.to_owned()).into()
        }
        agent::Error::TooManyActions { .. }
        | agent::Error::ActionTwice { .. }
        | agent::Error::EmptyAction { .. } => error.into(),
    }
}
