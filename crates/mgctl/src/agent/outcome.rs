//! What came of what an agent proposed.

use memorygate_agents::{Concluded, MemoryEnabledAgent, Outcome, Performed, Task};
use memorygate_client::Receipt;
use serde::Serialize;

use super::deciding::failed;
use crate::output::Output;

/// What came of it, to be learned.
#[derive(clap::Args)]
#[command(next_help_heading = "Outcome")]
pub(super) struct OutcomeArgs {
    /// Learn what came of it, from the same input
    #[arg(long, value_name = "WHAT")]
    pub(super) outcome: Option<Came>,
    /// What was done; the first proposal if not said. Any name will do
    #[arg(long, value_name = "NAME", requires = "outcome", value_parser = action)]
    action: Option<String>,
    /// What was seen afterwards
    #[arg(long, value_name = "TEXT", requires = "outcome", default_value = "")]
    observed: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Came {
    Success,
    Failure,
}

#[derive(Serialize)]
pub(super) struct LearnedRecord {
    key: Option<String>,
    action: String,
    rated: Vec<String>,
}

impl OutcomeArgs {
    fn outcome(&self) -> Option<Outcome> {
        let outcome = match self.outcome? {
            Came::Success => Outcome::succeeded(&self.observed),
            Came::Failure => Outcome::failed(&self.observed),
        };
        Some(match &self.action {
            Some(action) => outcome.by(action),
            None => outcome,
        })
    }

    /// Learns it, if there is one; `true` if so.
    pub(super) async fn learn(
        &self,
        agent: &MemoryEnabledAgent,
        task: &Task,
        performed: &Performed,
        output: &Output,
    ) -> anyhow::Result<bool> {
        let Some(outcome) = self.outcome() else {
            return Ok(false);
        };
        let concluded = agent
            .conclude(task, performed, &outcome)
            .await
            .map_err(failed)?;
        let proposed = performed.decision.best().map(|best| best.action.clone());
        let action = self.action.clone().or(proposed).unwrap_or_default();
        told(&concluded, action, output)?;
        Ok(true)
    }
}

fn told(concluded: &Concluded, action: String, output: &Output) -> anyhow::Result<()> {
    let (key, failed) = match &concluded.receipt {
        Receipt::Acknowledged(done) => (
            Some(done.learned.key.to_string()),
            &done.feedback_failed[..],
        ),
        Receipt::Queued => (None, &[][..]),
    };
    for (key, error) in failed {
        output.note(&format!("the case {key} was not rated: {error}"));
    }
    if output.is_json() {
        output.json(&LearnedRecord {
            key,
            action,
            rated: concluded.rated.iter().map(ToString::to_string).collect(),
        })?;
        return Ok(());
    }
    output.line(&format!(
        "learned what came of {action}: {}",
        key.unwrap_or_default()
    ))?;
    match concluded.rated.len() {
        0 => {}
        1 => output.line("rated the case that led to it")?,
        rated => output.line(&format!("rated the {rated} cases that led to it"))?,
    }
    Ok(())
}

fn action(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && text.len() <= 128 && !text.chars().any(char::is_control);
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("expected a name of 1 to 128 bytes, such as raise-memory-limit".to_owned())
    }
}
