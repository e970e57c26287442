//! GitHub's webhook event `workflow_job`.

use memorygate_core::time::TimeMs;
use serde::Deserialize;

use super::{Conclusion, Job, STEPS_MAX, Source};
use crate::{Error, instant, json};

pub(super) fn read(body: &[u8]) -> Result<Job, Error> {
    let Message {
        workflow_job: job,
        repository,
    } = json::read(body)?;
    let is_done = job.status == "completed";
    let failed_steps = job.steps.iter().filter(|step| {
        let conclusion = step.conclusion.as_deref();
        matches!(conclusion, Some("failure" | "timed_out"))
    });
    Ok(Job {
        source: Source::GitHub,
        attempt: job.run_attempt.max(1),
        repository: repository.full_name,
        pipeline_id: job.run_id,
        pipeline: job.workflow_name,
        name: job.name,
        stage: String::new(),
        conclusion: conclusion(is_done, job.conclusion.as_deref())?,
        reason: match job.conclusion.as_deref() {
            Some("failure") | None => String::new(),
            Some(other) => other.to_owned(),
        },
        failed_steps: failed_steps
            .take(STEPS_MAX)
            .map(|step| step.name.clone())
            .collect(),
        log: String::new(),
        is_default_branch: !job.head_branch.is_empty()
            && job.head_branch == repository.default_branch,
        reference: job.head_branch,
        commit: job.head_sha,
        commit_title: String::new(),
        author: String::new(),
        url: job.html_url,
        environment: String::new(),
        runner: job.labels.join(", "),
        may_fail: false,
        started_at: job.started_at,
        finished_at: job.completed_at.filter(|_| is_done),
        id: job.id,
    })
}

fn conclusion(is_done: bool, conclusion: Option<&str>) -> Result<Conclusion, Error> {
    if !is_done {
        return Ok(Conclusion::Unfinished);
    }
    match conclusion {
        Some("failure" | "startup_failure") => Ok(Conclusion::Failed),
        Some("timed_out") => Ok(Conclusion::TimedOut),
        Some("success") => Ok(Conclusion::Succeeded),
        Some("cancelled" | "skipped" | "neutral" | "stale" | "action_required") => {
            Ok(Conclusion::Neutral)
        }
        other => Err(Error::field(
            "workflow_job.conclusion",
            format!("{other:?}, expected one such as \"failure\" or \"success\""),
        )),
    }
}

#[derive(Deserialize)]
struct Message {
    workflow_job: WorkflowJob,
    repository: Repository,
}

#[derive(Deserialize)]
struct WorkflowJob {
    #[serde(deserialize_with = "json::id")]
    id: String,
    #[serde(deserialize_with = "json::id")]
    run_id: String,
    #[serde(default)]
    run_attempt: u64,
    #[serde(default, deserialize_with = "json::or_default")]
    workflow_name: String,
    name: String,
    status: String,
    conclusion: Option<String>,
    #[serde(default, deserialize_with = "json::or_default")]
    head_branch: String,
    #[serde(default, deserialize_with = "json::or_default")]
    head_sha: String,
    #[serde(default, deserialize_with = "json::or_default")]
    html_url: String,
    #[serde(default, deserialize_with = "json::or_default")]
    labels: Vec<String>,
    #[serde(default, deserialize_with = "json::or_default")]
    steps: Vec<Step>,
    #[serde(default, deserialize_with = "instant::optional")]
    started_at: Option<TimeMs>,
    #[serde(default, deserialize_with = "instant::optional")]
    completed_at: Option<TimeMs>,
}

#[derive(Deserialize)]
struct Step {
    name: String,
    conclusion: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
    #[serde(default, deserialize_with = "json::or_default")]
    default_branch: String,
}
