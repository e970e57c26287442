//! Jobs of CI systems: GitHub's `workflow_job`, GitLab's job event, and a plain one for all others.

mod github;
mod gitlab;
mod job;
mod plain;

use serde::{Deserialize, de::IgnoredAny};

pub use self::job::{Conclusion, Job, Source};
use crate::{Error, json};

/// Failed steps of one job that are kept.
pub const STEPS_MAX: usize = 64;

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Job(Box<Job>),
    /// GitHub asks whether anybody is there, when a webhook is made.
    Ping,
}

impl Event {
    /// Reads a message's body, of whichever of the three systems it is.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let shape: Shape = json::read(body)?;
        let job = if shape.workflow_job.is_some() {
            github::read(body)?
        } else if shape.object_kind.as_deref() == Some("build") {
            gitlab::read(body)?
        } else if shape.zen.is_some() && shape.hook_id.is_some() {
            return Ok(Self::Ping);
        } else if shape.job.is_some() {
            plain::read(body)?
        } else {
            return Err(Error::UnknownShape);
        };
        Ok(Self::Job(Box::new(job)))
    }
}

/// What tells the systems apart.
#[derive(Deserialize)]
struct Shape {
    workflow_job: Option<IgnoredAny>,
    object_kind: Option<String>,
    zen: Option<IgnoredAny>,
    hook_id: Option<IgnoredAny>,
    job: Option<IgnoredAny>,
}
