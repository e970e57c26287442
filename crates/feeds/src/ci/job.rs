//! A job of whichever system, and what is learned from one that failed.

use memorygate_core::{name::domain, time::TimeMs};

use crate::{Experience, experience::Metadata, instant, text};

/// Bytes of a log in an experience, from its end: where a job says why it failed.
const LOG_BYTES_MAX: usize = 8192;

/// Bytes of every other text in an experience.
const TEXT_BYTES_MAX: usize = 512;

/// Failed steps that an experience names.
const STEPS_SHOWN_MAX: usize = 16;

/// Words in the name of a job, or of its stage, that say that it deploys.
const DEPLOYING: [&str; 6] = [
    "deploy",
    "deployment",
    "release",
    "rollout",
    "rollback",
    "publish",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    GitHub,
    GitLab,
    /// Any other, in the plain form.
    Plain,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Plain => "ci",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    Failed,
    TimedOut,
    Succeeded,
    /// Cancelled, skipped or waiting for a person: it says nothing of the work.
    Neutral,
    Unfinished,
}

impl Conclusion {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Succeeded => "succeeded",
            Self::Neutral => "did not run to its end",
            Self::Unfinished => "is not finished",
        }
    }
}

/// A job. Texts that the system did not give are empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub source: Source,
    /// Names the job within the repository.
    pub id: String,
    /// Which try of it this is, from 1.
    pub attempt: u64,
    pub repository: String,
    /// What ties jobs together that ran for one change: the pipeline's or run's id.
    pub pipeline_id: String,
    /// The pipeline's or workflow's name.
    pub pipeline: String,
    pub name: String,
    pub stage: String,
    pub conclusion: Conclusion,
    /// Why, in the words of the system.
    pub reason: String,
    /// At most [`super::STEPS_MAX`].
    pub failed_steps: Vec<String>,
    /// The end of its output.
    pub log: String,
    /// Branch or tag.
    pub reference: String,
    /// Whether that is the repository's main branch.
    pub is_default_branch: bool,
    pub commit: String,
    pub commit_title: String,
    pub author: String,
    pub url: String,
    pub environment: String,
    pub runner: String,
    /// The pipeline goes on without it.
    pub may_fail: bool,
    pub started_at: Option<TimeMs>,
    pub finished_at: Option<TimeMs>,
}

impl Job {
    pub fn is_failure(&self) -> bool {
        match self.conclusion {
            Conclusion::Failed | Conclusion::TimedOut => true,
            Conclusion::Succeeded | Conclusion::Neutral | Conclusion::Unfinished => false,
        }
    }

    /// Whether it brings something to where it runs.
    pub fn is_deployment(&self) -> bool {
        let mut words = [&self.name, &self.stage]
            .into_iter()
            .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
        !self.environment.is_empty()
            || words.any(|word| DEPLOYING.contains(&word.to_lowercase().as_str()))
    }

    /// What is learned from it, if it failed.
    pub fn failure(&self) -> Option<Experience> {
        if !self.is_failure() {
            return None;
        }
        let domain = if self.is_deployment() {
            domain::DEPLOYMENT
        } else {
            domain::CODE_REVIEW
        };
        let Self { id, attempt, .. } = self;
        let source = self.source.as_str();
        let repository = text::name(&self.repository);
        let session = format!("{source}/{repository}/{}", self.pipeline_id);
        Some(Experience {
            event: format!("{source}/{repository}/{id}/{attempt}/failed"),
            content: self.content(),
            domain: domain.to_owned(),
            occurred_at: self.finished_at.or(self.started_at),
            importance: self.importance(),
            metadata: self.metadata(),
            agent: source.to_owned(),
            session: text::name(&session),
        })
    }

    fn importance(&self) -> f32 {
        if self.may_fail {
            0.3
        } else if self.is_deployment() {
            0.8
        } else if self.is_default_branch {
            0.7
        } else {
            0.5
        }
    }

    fn content(&self) -> String {
        let short = |text: &str| text::head(text, TEXT_BYTES_MAX);
        let mut content = format!("CI job {}", short(&self.name));
        for (word, text) in [
            ("of stage", &self.stage),
            ("of", &self.pipeline),
            ("in", &self.repository),
            ("on", &self.reference),
        ] {
            if !text.is_empty() {
                content.push_str(&format!(" {word} {}", short(text)));
            }
        }
        content.push_str(&format!(" {}.", self.conclusion.as_str()));
        let steps: Vec<String> = (self.failed_steps.iter())
            .take(STEPS_SHOWN_MAX)
            .map(|step| short(step))
            .collect();
        for (name, text) in [
            ("failed steps", &steps.join("; ")),
            ("reason", &self.reason),
            ("change", &self.commit_title),
            ("environment", &self.environment),
            ("runner", &self.runner),
        ] {
            if !text.is_empty() {
                // The steps are short each.
                let text = text::head(text, STEPS_SHOWN_MAX * TEXT_BYTES_MAX);
                content.push_str(&format!("\n{name}: {text}"));
            }
        }
        if !self.log.trim().is_empty() {
            content.push_str("\nlog:\n");
            content.push_str(&text::tail(&self.log, LOG_BYTES_MAX));
        }
        content
    }

    fn metadata(&self) -> std::collections::BTreeMap<String, String> {
        let attempt = self.attempt.to_string();
        let took_s = match (self.started_at, self.finished_at) {
            (Some(started), Some(finished)) => (finished.since(started) / 1000).to_string(),
            _ => String::new(),
        };
        let finished_at = self.finished_at.map(instant::format).unwrap_or_default();
        [
            ("source", self.source.as_str()),
            ("job", &self.name),
            ("status", self.conclusion.as_str()),
            ("repository", &self.repository),
            ("pipeline", &self.pipeline),
            ("pipeline_id", &self.pipeline_id),
            ("job_id", &self.id),
            ("attempt", &attempt),
            ("stage", &self.stage),
            ("ref", &self.reference),
            ("commit", &self.commit),
            ("author", &self.author),
            ("environment", &self.environment),
            ("reason", &self.reason),
            ("runner", &self.runner),
            ("finished_at", &finished_at),
            ("took_s", &took_s),
            ("url", &self.url),
        ]
        .into_iter()
        .fold(Metadata::default(), |metadata, (key, value)| {
            metadata.with(key, value)
        })
        .into_inner()
    }
}
