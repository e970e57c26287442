//! What an agent did and what came of it: the raw material of a lesson.

use std::collections::BTreeMap;

use memorygate_core::{key::Key, time::TimeMs};

use crate::{context::LearningContext, experience::Experience};

/// Metadata key under which a verdict is stored.
pub const VERDICT_METADATA: &str = "outcome";

/// Whether what was done worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    Success,
    Failure,
    /// Not known yet.
    #[default]
    Open,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Open => "open",
        }
    }
}

/// One step of an agent's work.
///
/// ```
/// use memorygate_client::{Interaction, Key};
///
/// # let recalled = Key([0; 16]);
/// let done = Interaction::new("raised the memory limit of checkout to 512Mi")
///     .succeeded("no restart for three nights")
///     .importance(0.7)
///     .helped(recalled);
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Interaction {
    /// What was done.
    pub action: String,
    pub verdict: Verdict,
    /// What was observed.
    pub observed: String,
    /// The lesson in the agent's own words; made of task, action and result if unset.
    pub lesson: Option<String>,
    pub importance: Option<f32>,
    pub occurred_at: Option<TimeMs>,
    pub metadata: BTreeMap<String, String>,
    /// Recalled memories that were used, each with how useful it was: -1 (misled) to 1 (solved it).
    pub used: Vec<(Key, f32)>,
}

impl Interaction {
    pub fn new(action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn succeeded(mut self, observed: impl Into<String>) -> Self {
        self.verdict = Verdict::Success;
        self.observed = observed.into();
        self
    }

    #[must_use]
    pub fn failed(mut self, observed: impl Into<String>) -> Self {
        self.verdict = Verdict::Failure;
        self.observed = observed.into();
        self
    }

    #[must_use]
    pub fn lesson(mut self, text: impl Into<String>) -> Self {
        self.lesson = Some(text.into());
        self
    }

    #[must_use]
    pub fn importance(mut self, importance: f32) -> Self {
        self.importance = Some(importance);
        self
    }

    #[must_use]
    pub fn occurred_at(mut self, time: TimeMs) -> Self {
        self.occurred_at = Some(time);
        self
    }

    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// This memory led to the solution.
    #[must_use]
    pub fn helped(self, key: Key) -> Self {
        self.rated(key, 1.0)
    }

    /// This memory led astray.
    #[must_use]
    pub fn misled(self, key: Key) -> Self {
        self.rated(key, -1.0)
    }

    /// How useful this memory was: -1 to 1.
    #[must_use]
    pub fn rated(mut self, key: Key, score: f32) -> Self {
        self.used.push((key, score));
        self
    }

    /// The experience to store: the lesson if there is one, else task, action and result.
    pub fn experience(&self, context: &LearningContext) -> Experience {
        let content = self.lesson.clone().unwrap_or_else(|| {
            let mut lines = Vec::new();
            if !context.task.is_empty() {
                lines.push(context.task.clone());
            }
            if !self.action.is_empty() {
                lines.push(format!("Done: {}", self.action));
            }
            match (self.verdict, self.observed.as_str()) {
                (Verdict::Open, "") => {}
                (Verdict::Open, observed) => lines.push(format!("Seen: {observed}")),
                (verdict, "") => lines.push(format!("Result: {}", verdict.as_str())),
                (verdict, observed) => {
                    lines.push(format!("Result: {}: {observed}", verdict.as_str()));
                }
            }
            lines.join("\n")
        });
        let mut experience = Experience::new(content, "");
        experience.importance = self.importance;
        experience.occurred_at = self.occurred_at;
        experience.metadata.clone_from(&self.metadata);
        if self.verdict != Verdict::Open {
            experience
                .metadata
                .entry(VERDICT_METADATA.to_owned())
                .or_insert_with(|| self.verdict.as_str().to_owned());
        }
        context.complete(experience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesson_is_made_of_what_was_said() {
        let context = LearningContext::new("pods restart").domain("infrastructure");
        let content = |interaction: Interaction| interaction.experience(&context).content;
        assert_eq!(
            content(Interaction::new("raised the limit").succeeded("quiet since")),
            "pods restart\nDone: raised the limit\nResult: success: quiet since"
        );
        assert_eq!(
            content(Interaction::new("rebooted").failed("")),
            "pods restart\nDone: rebooted\nResult: failure"
        );
        assert_eq!(
            content(Interaction::new("looked").lesson("look twice")),
            "look twice"
        );
        let open = Interaction {
            observed: "it is slow".into(),
            ..Interaction::default()
        };
        assert_eq!(content(open), "pods restart\nSeen: it is slow");
        let experience = Interaction::new("x").failed("y").experience(&context);
        assert_eq!(experience.metadata[VERDICT_METADATA], "failure");
        assert_eq!(experience.domain, "infrastructure");
    }
}
