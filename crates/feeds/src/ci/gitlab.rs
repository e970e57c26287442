//! GitLab's job event, which it calls `build`.

use memorygate_core::time::TimeMs;
use serde::Deserialize;

use super::{Conclusion, Job, Source};
use crate::{Error, instant, json, text};

/// Reasons of a failure that mean that time ran out.
const TIME_OUTS: [&str; 2] = ["job_execution_timeout", "stuck_or_timeout_failure"];

pub(super) fn read(body: &[u8]) -> Result<Job, Error> {
    let message: Message = json::read(body)?;
    let project = message.project.unwrap_or_default();
    let commit = message.commit.unwrap_or_default();
    let title = commit.title.or(commit.message).unwrap_or_default();
    let homepage = message.repository.unwrap_or_default().homepage;
    let page = [project.web_url, homepage]
        .into_iter()
        .find(|url| !url.is_empty());
    let url = page.map(|page| format!("{page}/-/jobs/{}", message.build_id));
    let runner = message.runner.unwrap_or_default();
    let is_time_out = TIME_OUTS.contains(&message.build_failure_reason.as_str());
    let conclusion = match message.build_status.as_str() {
        "failed" if is_time_out => Conclusion::TimedOut,
        "failed" => Conclusion::Failed,
        "success" => Conclusion::Succeeded,
        "canceled" | "skipped" | "manual" => Conclusion::Neutral,
        "created"
        | "pending"
        | "running"
        | "scheduled"
        | "preparing"
        | "waiting_for_resource"
        | "waiting_for_callback"
        | "canceling" => Conclusion::Unfinished,
        other => {
            return Err(Error::field(
                "build_status",
                format!(
                    "{:?}, expected one such as \"failed\" or \"success\"",
                    text::head(other, 40)
                ),
            ));
        }
    };
    let is_failure = matches!(conclusion, Conclusion::Failed | Conclusion::TimedOut);
    let repository = [project.path_with_namespace, message.project_name];
    Ok(Job {
        source: Source::GitLab,
        id: message.build_id,
        attempt: message.retries_count.saturating_add(1),
        repository: repository
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_default(),
        pipeline_id: message.pipeline_id,
        pipeline: String::new(),
        name: message.build_name,
        stage: message.build_stage,
        conclusion,
        // Of jobs that did not fail it says `unknown_failure`.
        reason: if is_failure {
            message.build_failure_reason
        } else {
            String::new()
        },
        failed_steps: Vec::new(),
        log: String::new(),
        is_default_branch: !message.tag
            && !message.r#ref.is_empty()
            && message.r#ref == project.default_branch,
        reference: message.r#ref,
        commit: message.sha,
        commit_title: title.lines().next().unwrap_or_default().to_owned(),
        author: commit.author_name,
        url: url.unwrap_or_default(),
        environment: message.environment.unwrap_or_default().name,
        runner: if runner.tags.is_empty() {
            runner.description
        } else {
            runner.tags.join(", ")
        },
        may_fail: message.build_allow_failure,
        started_at: message.build_started_at_iso.or(message.build_started_at),
        finished_at: message.build_finished_at_iso.or(message.build_finished_at),
    })
}

#[derive(Deserialize)]
struct Message {
    #[serde(deserialize_with = "json::id")]
    build_id: String,
    build_name: String,
    build_status: String,
    #[serde(default, deserialize_with = "json::or_default")]
    build_stage: String,
    #[serde(default, deserialize_with = "json::or_default")]
    build_failure_reason: String,
    #[serde(default, deserialize_with = "json::or_default")]
    build_allow_failure: bool,
    #[serde(default, deserialize_with = "json::or_default")]
    retries_count: u64,
    #[serde(deserialize_with = "json::id")]
    pipeline_id: String,
    #[serde(default, deserialize_with = "json::or_default")]
    project_name: String,
    #[serde(default, deserialize_with = "json::or_default")]
    r#ref: String,
    #[serde(default, deserialize_with = "json::or_default")]
    tag: bool,
    #[serde(default, deserialize_with = "json::or_default")]
    sha: String,
    commit: Option<Commit>,
    repository: Option<Repository>,
    project: Option<Project>,
    runner: Option<Runner>,
    environment: Option<Environment>,
    #[serde(default, deserialize_with = "instant::optional")]
    build_started_at: Option<TimeMs>,
    #[serde(default, deserialize_with = "instant::optional")]
    build_finished_at: Option<TimeMs>,
    #[serde(default, deserialize_with = "instant::optional")]
    build_started_at_iso: Option<TimeMs>,
    #[serde(default, deserialize_with = "instant::optional")]
    build_finished_at_iso: Option<TimeMs>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Commit {
    title: Option<String>,
    message: Option<String>,
    #[serde(deserialize_with = "json::or_default")]
    author_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Repository {
    #[serde(deserialize_with = "json::or_default")]
    homepage: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Project {
    #[serde(deserialize_with = "json::or_default")]
    path_with_namespace: String,
    #[serde(deserialize_with = "json::or_default")]
    web_url: String,
    #[serde(deserialize_with = "json::or_default")]
    default_branch: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Runner {
    #[serde(deserialize_with = "json::or_default")]
    description: String,
    #[serde(deserialize_with = "json::or_default")]
    tags: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Environment {
    #[serde(deserialize_with = "json::or_default")]
    name: String,
}
