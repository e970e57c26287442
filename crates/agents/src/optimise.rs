//! Deployment optimisation: from manifests, and what was measured of what they run, to changes of them, each as
//! a patch with its reason, what to expect and the past cases behind it.
//!
//! ```text
//! manifests ──┐
//! history    ─┼─▶ what calls for a change ─▶ Task ─▶ MemoryEnabledAgent ─▶ Advice ─▶ a diff, kubectl patch
//! metrics   ──┘        (candidates)                  (which of them, by past cases)
//! ```
//!
//! The inputs say which changes are possible and what their numbers are, the memory which of them are worth it:
//! what worked in a similar case goes first, what failed there goes last. A change is written into the manifest
//! at its line, and only if what comes out says exactly what was meant.

mod candidate;
mod change;
mod history;
mod metrics;
mod quantity;
mod workload;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use memorygate_client::{LearningContext, domain};
use serde_json::{Value, json};

use self::{
    candidate::{Candidate, Known, candidates},
    change::Change,
    workload::Workload,
};
pub use self::{
    history::{HISTORY_BYTES_MAX, History, Unreadable as HistoryUnreadable},
    metrics::{METRICS_BYTES_MAX, Measure, Metrics, SERIES_MAX, Unreadable as MetricsUnreadable},
    workload::WORKLOADS_MAX,
    yaml::{DEPTH_MAX, DOCUMENTS_MAX, MANIFEST_BYTES_MAX, Unreadable, VALUES_MAX},
};
use crate::{
    agent::{Error, MemoryEnabledAgent, Performed},
    cited::Cited,
    task::{Action, Task},
};

/// Changes that are proposed for one workload.
const PROPOSALS_SHOWN: usize = 6;

/// Characters of the words that a task is made of.
const WORDS_CHARS_MAX: usize = 1_200;

/// Files of manifests.
pub const FILES_MAX: usize = 32;

/// Manifests, as they were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifests {
    files: Vec<File>,
    workloads: Vec<Workload>,
}

#[derive(Clone, Debug, PartialEq)]
struct File {
    name: String,
    text: String,
    documents: Vec<yaml::Document>,
}

/// What to change about one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// `Deployment checkout in shop`.
    pub workload: String,
    /// Its name alone.
    pub name: String,
    /// The file that it stands in.
    pub file: String,
    /// What calls for a change, the clearest first.
    pub seen: Vec<String>,
    /// Of the rollout history: the newest revisions, in a line each.
    pub revisions: Vec<String>,
    /// In the order in which to try them.
    pub proposals: Vec<Proposed>,
    pub related: Vec<Cited>,
    /// Whether the first is known well enough to be done; if not, try it where it can be undone.
    pub known: bool,
    pub explanation: String,
    /// For [`MemoryEnabledAgent::conclude`], together with the task.
    pub performed: Performed,
    pub task: Task,
}

/// A change that is proposed.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed {
    /// Its name: what an outcome is told of.
    pub action: String,
    /// What was seen that calls for it.
    pub reason: String,
    /// What to expect: what came of it in similar cases, and what the numbers say.
    pub effect: String,
    /// That it works, 0 to 1.
    pub confidence: f32,
    /// What the field was in earlier revisions.
    pub before: Vec<String>,
    /// Past cases with this action.
    pub cases: Vec<Cited>,
    /// Unset for one that only past cases know: what to change stands in them.
    pub patch: Option<Patch>,
    change: Option<(usize, Change)>,
}

/// The change itself, in two forms.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    pub file: String,
    /// Where it begins, from 1.
    pub line: Option<usize>,
    /// A unified diff of the manifest as given, for `git apply` in the folder that the file was named from, or
    /// in the file's own if it stands elsewhere; why there is none, if its text cannot be changed.
    pub diff: Result<String, String>,
    /// The same for the cluster: `kubectl patch`, or `kubectl apply` of a new object.
    pub command: String,
    /// What the command takes: a strategic merge patch, or the new object.
    pub body: Value,
}

impl Manifests {
    /// Adds a file of one or more documents. `name` is the way to it from the folder in which diffs are applied;
    /// if that leads out of there, a diff has the file's own name.
    pub fn read(&mut self, name: &str, bytes: &[u8]) -> Result<(), Unreadable> {
        let wrong = |line: usize, what: String| Unreadable { line, what };
        if self.files.len() == FILES_MAX {
            return Err(wrong(1, format!("more than {FILES_MAX} files")));
        }
        if bytes.len() > MANIFEST_BYTES_MAX {
            let actual = bytes.len();
            return Err(wrong(
                1,
                format!(
                    "it has {actual} bytes, expected at most {MANIFEST_BYTES_MAX}: give the workload's own manifests"
                ),
            ));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            wrong(line, "no UTF-8, expected a manifest as text".to_owned())
        })?;
        let documents = yaml::parse(text)?;
        let file = self.files.len();
        for object in workload::objects(file, &documents) {
            let document = &documents[object.document];
            let line = change::line(document, &object.base).unwrap_or(1);
            if let Some(workload) = workload::workload(&object) {
                self.workloads
                    .push(workload.map_err(|what| wrong(line, what))?);
            }
            if self.workloads.len() > WORKLOADS_MAX {
                return Err(wrong(
                    line,
                    format!("more than {WORKLOADS_MAX} workloads: give fewer at once"),
                ));
            }
        }
        self.files.push(File {
            name: name.to_owned(),
            text: text.to_owned(),
            documents,
        });
        Ok(())
    }

    /// The names of the workloads, in the order of files and documents.
    pub fn workloads(&self) -> Vec<&str> {
        self.workloads
            .iter()
            .map(|workload| workload.name.as_str())
            .collect()
    }

    /// Leaves the workloads with this name alone; false if there is none.
    pub fn only(&mut self, name: &str) -> bool {
        self.workloads.retain(|workload| workload.name == name);
        !self.workloads.is_empty()
    }

    /// How many series of these metrics are of none of the workloads.
    pub fn strangers(&self, metrics: &Metrics) -> usize {
        metrics.strangers(&self.workloads)
    }

    /// One diff with these changes, which may touch several files. They are of advice on these manifests.
    pub fn patch(&self, proposals: &[&Proposed]) -> Result<String, String> {
        let mut diffs = String::new();
        let mut changed: BTreeMap<String, &File> = BTreeMap::new();
        for (at, file) in self.files.iter().enumerate() {
            let changes: Vec<&Change> = proposals
                .iter()
                .filter_map(|proposed| proposed.change.as_ref())
                .filter(|(of, _)| *of == at)
                .map(|(_, change)| change)
                .collect();
            if !changes.is_empty() {
                let name = change::name_in_diff(&file.name);
                let after = change::applied(&file.text, &changes)?;
                diffs.push_str(&change::diff(&name, &file.text, &after));
                if let Some(other) = changed.insert(name.clone(), file) {
                    return Err(format!(
                        "{} and {} would both be {name} in it: run this in a folder that holds both",
                        other.name, file.name
                    ));
                }
            }
        }
        Ok(diffs)
    }
}

/// Finds what to change about each workload, in their order. `context` says on whose behalf; its task is made
/// here.
pub async fn optimise(
    agent: &MemoryEnabledAgent,
    manifests: &Manifests,
    history: &History,
    metrics: &Metrics,
    context: &LearningContext,
) -> Result<Vec<Advice>, Error> {
    let mut all = Vec::new();
    for workload in &manifests.workloads {
        all.push(advise(agent, manifests, workload, history, metrics, context).await?);
    }
    Ok(all)
}

async fn advise(
    agent: &MemoryEnabledAgent,
    manifests: &Manifests,
    workload: &Workload,
    history: &History,
    metrics: &Metrics,
    context: &LearningContext,
) -> Result<Advice, Error> {
    let is_alone = manifests.workloads.len() == 1;
    let revisions = history.of(&workload.name, workload.namespace.as_deref(), is_alone);
    let files = manifests.files.iter().enumerate();
    let objects: Vec<_> = files
        .flat_map(|(at, file)| workload::objects(at, &file.documents))
        .collect();
    let known = Known {
        objects: &objects,
        metrics,
        revisions: &revisions,
        is_alone,
    };
    let candidates = candidates(workload, &known);
    let task = task(&candidates, context);
    let performed = if candidates.is_empty() {
        // There is nothing to ask about.
        let mut nothing = Performed::default();
        nothing.decision.explanation = "nothing in it calls for a change".to_owned();
        nothing
    } else {
        agent.perform(&task).await?
    };
    let proposals = performed.decision.proposals.iter().take(PROPOSALS_SHOWN);
    Ok(Advice {
        workload: workload.title(),
        name: workload.name.clone(),
        file: manifests.files[workload.file].name.clone(),
        seen: candidates
            .iter()
            .map(|candidate| candidate.seen.clone())
            .collect(),
        revisions: revisions
            .iter()
            .rev()
            .take(3)
            .map(|revision| revision.shown())
            .collect(),
        proposals: proposals
            .map(|proposal| {
                let candidate = candidates.iter().find(|c| c.action == proposal.action);
                let cases = Cited::of(&performed.evidence, &proposal.evidence);
                Proposed {
                    action: proposal.action.clone(),
                    reason: candidate.map_or_else(
                        || "it was done in the cases below".to_owned(),
                        |candidate| candidate.seen.clone(),
                    ),
                    effect: effect(&cases, candidate),
                    confidence: proposal.confidence,
                    before: candidate.map(|c| c.before.clone()).unwrap_or_default(),
                    patch: candidate.map(|c| patch(manifests, workload, &c.change)),
                    change: candidate.map(|c| (workload.file, c.change.clone())),
                    cases,
                }
            })
            .collect(),
        related: Cited::related(&performed.evidence),
        known: !performed.decision.abstained && !candidates.is_empty(),
        explanation: performed.decision.explanation.clone(),
        performed,
        task,
    })
}

/// The task that a workload sets: what was seen, and which changes it calls for. Several may be right.
fn task(candidates: &[Candidate], context: &LearningContext) -> Task {
    let mut words = String::new();
    let mut said = BTreeSet::new();
    for candidate in candidates {
        let room = WORDS_CHARS_MAX.saturating_sub(words.chars().count());
        if said.insert(&candidate.seen) && candidate.seen.chars().count() < room {
            words.push_str(&candidate.seen);
            words.push('\n');
        }
    }
    let context = LearningContext {
        task: words.trim_end().to_owned(),
        domain: Some(domain::DEPLOYMENT.to_owned()),
        ..context.clone()
    };
    candidates.iter().fold(
        Task::new(context).open().independent(),
        |task, candidate| {
            let action = Action::new(candidate.action).described(&candidate.seen);
            task.action(action.fitting(candidate.fit))
        },
    )
}

/// What came of it before goes first: it weighs more than what the numbers promise.
fn effect(cases: &[Cited], candidate: Option<&Candidate>) -> String {
    let count = |worked: bool| {
        cases
            .iter()
            .filter(|case| case.worked == Some(worked))
            .count()
    };
    let came = match (count(true), count(false)) {
        (0, 0) => "not tried in a similar case".to_owned(),
        (1, 0) => "worked in the one similar case".to_owned(),
        (0, 1) => "failed in the one similar case".to_owned(),
        (worked, failed) => format!("worked in {worked} of {} similar cases", worked + failed),
    };
    match candidate {
        Some(candidate) => format!("{came}; {}", candidate.effect),
        None => came,
    }
}

fn patch(manifests: &Manifests, workload: &Workload, change: &Change) -> Patch {
    let file = &manifests.files[workload.file];
    let after = change::applied(&file.text, &[change]);
    let name = change::name_in_diff(&file.name);
    let diff = after.map(|after| change::diff(&name, &file.text, &after));
    let (line, command, body) = match change {
        Change::Append(object) => (
            Some(file.text.lines().count() + 1),
            "kubectl apply --filename -".to_owned(),
            object.clone(),
        ),
        Change::Edit { document, edits } => {
            let read = &file.documents[*document];
            // Of a `List`, the item is what is patched.
            let base = edits.first().map_or(0, |edit| {
                usize::from(edit.path.first() == Some(&change::Key::Name("items".to_owned()))) * 2
            });
            let body = change::merge_patch(&read.value, base, edits);
            let path = edits
                .first()
                .map(|edit| edit.path.as_slice())
                .unwrap_or_default();
            let object = change::at(&read.value, &path[..base]).unwrap_or(&Value::Null);
            (change::line(read, path), command(object, &body), body)
        }
    };
    Patch {
        file: file.name.clone(),
        line,
        diff,
        command,
        body,
    }
}

fn command(object: &Value, body: &Value) -> String {
    let text = |value: &Value| quoted(value.as_str().unwrap_or_default());
    let kind = text(&json!(
        object["kind"].as_str().unwrap_or_default().to_lowercase()
    ));
    let name = text(&object["metadata"]["name"]);
    let namespace = object["metadata"]["namespace"].as_str();
    let namespace = namespace.map(|n| format!(" --namespace {}", quoted(n)));
    let body = quoted(&body.to_string());
    // An autoscaler's lists are not merged by name, and none of them is changed.
    format!(
        "kubectl patch {kind} {name}{} --type strategic --patch {body}",
        namespace.unwrap_or_default()
    )
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if !text.is_empty() && text.chars().all(is_bare) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
