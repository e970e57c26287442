//! A job as any system can tell of it: one flat object of our own. What is not known in it is refused,
//! since nobody but us says what it may hold.
//!
//! ```json
//! {"id": "4711", "job": "unit tests", "status": "failed", "repository": "shop/checkout",
//!  "ref": "main", "log": "…the end of the output…"}
//! ```

use memorygate_core::time::TimeMs;
use serde::Deserialize;

use super::{Conclusion, Job, STEPS_MAX, Source};
use crate::{Error, instant, json};

pub(super) fn read(body: &[u8]) -> Result<Job, Error> {
    let message: Message = json::read(body)?;
    for (field, value) in [("id", &message.id), ("job", &message.job)] {
        if value.trim().is_empty() {
            return Err(Error::field(field, "empty, expected a text"));
        }
    }
    if message.failed_steps.len() > STEPS_MAX {
        let actual = message.failed_steps.len();
        return Err(Error::field(
            "failed_steps",
            format!("{actual} steps, expected at most {STEPS_MAX}"),
        ));
    }
    Ok(Job {
        source: Source::Plain,
        pipeline_id: if message.pipeline_id.is_empty() {
            message.id.clone()
        } else {
            message.pipeline_id
        },
        id: message.id,
        attempt: message.attempt,
        repository: message.repository,
        pipeline: message.pipeline,
        name: message.job,
        stage: message.stage,
        conclusion: match message.status {
            Status::Failed => Conclusion::Failed,
            Status::TimedOut => Conclusion::TimedOut,
            Status::Succeeded => Conclusion::Succeeded,
            Status::Cancelled | Status::Skipped => Conclusion::Neutral,
            Status::Running => Conclusion::Unfinished,
        },
        reason: message.reason,
        failed_steps: message.failed_steps,
        log: message.log,
        reference: message.r#ref,
        is_default_branch: message.is_default_branch,
        commit: message.commit,
        commit_title: message.commit_title,
        author: message.author,
        url: message.url,
        environment: message.environment,
        runner: message.runner,
        may_fail: message.may_fail,
        started_at: message.started_at,
        finished_at: message.finished_at,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    #[serde(alias = "failure")]
    Failed,
    #[serde(alias = "timeout")]
    TimedOut,
    #[serde(alias = "success")]
    Succeeded,
    #[serde(alias = "canceled")]
    Cancelled,
    Skipped,
    Running,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(deserialize_with = "json::id")]
    id: String,
    job: String,
    status: Status,
    #[serde(default = "first")]
    attempt: u64,
    #[serde(default)]
    repository: String,
    #[serde(default, deserialize_with = "json::id")]
    pipeline_id: String,
    #[serde(default)]
    pipeline: String,
    #[serde(default)]
    stage: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    failed_steps: Vec<String>,
    #[serde(default)]
    log: String,
    #[serde(default)]
    r#ref: String,
    #[serde(default)]
    is_default_branch: bool,
    #[serde(default)]
    commit: String,
    #[serde(default)]
    commit_title: String,
    #[serde(default)]
    author: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    environment: String,
    #[serde(default)]
    runner: String,
    #[serde(default)]
    may_fail: bool,
    #[serde(default, deserialize_with = "instant::optional")]
    started_at: Option<TimeMs>,
    #[serde(default, deserialize_with = "instant::optional")]
    finished_at: Option<TimeMs>,
}

fn first() -> u64 {
    1
}
