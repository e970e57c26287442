//! Who decides, and with which memory.

use std::sync::Arc;

use memorygate_agents::{CaseBased, Executor, MemoryEnabledAgent, agent};
use memorygate_client::LearningContext;

use crate::{args::Global, failure::Usage};

/// How a decision is made.
#[derive(clap::Args)]
#[command(next_help_heading = "Decision")]
pub(super) struct Deciding {
    /// Say that it is not known where nothing is likelier than this to be right, 0 to 1
    #[arg(long, value_name = "NUMBER", default_value_t = 0.25, value_parser = confidence)]
    sure: f32,
}

impl Deciding {
    pub(super) fn agent(&self, global: &Global) -> anyhow::Result<MemoryEnabledAgent> {
        let store = Arc::new(global.client()?);
        Ok(MemoryEnabledAgent::new(store, self.executor()))
    }

    fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(CaseBased::default().abstaining_below(self.sure))
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

pub(super) fn confidence(text: &str) -> Result<f32, String> {
    text.parse::<f32>()
        .ok()
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}
