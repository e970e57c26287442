//! Incident response: from the messages of Alertmanager to one incident, a plan, and notes for whoever
//! takes over.
//!
//! ```text
//! messages ─▶ Alerts (each once) ─▶ Task ─▶ MemoryEnabledAgent ─▶ what ended similar incidents ─┐
//!                    │                                                                          ├─▶ Incident
//!                    └─▶ the other agents, or what they learned before ─▶ Contribution ─────────┘
//! ```
//!
//! The coordinator asks the others about what they know best, in the same memory: what an agent learned
//! while it troubleshot, reviewed or tuned a rollout helps with the incident that comes of it.

mod contribution;
mod handover;
mod plan;
mod response;

use memorygate_client::{LearningContext, TimeMs, domain};
use memorygate_feeds::alertmanager::{Alert, Alerts, Severity, Status};

pub use self::{
    contribution::Contribution,
    handover::handover,
    plan::Step,
    response::{RESPONSES, Response},
};
use crate::{
    agent::{Error, MemoryEnabledAgent, Performed},
    cited::Cited,
    task::{Action, Task},
};

/// Characters of the words that a task is made of.
const WORDS_CHARS_MAX: usize = 1_200;

/// Domains of the agents that are asked, with the name by which each is called.
const ASKED: &[(&str, &str)] = &[
    (domain::INFRASTRUCTURE, "troubleshooting"),
    (domain::DEPLOYMENT, "deployment"),
    (domain::CODE_REVIEW, "code review"),
];

#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    pub title: String,
    pub severity: Severity,
    pub status: Status,
    pub started_at: TimeMs,
    /// Each once: firing ones first, then by severity.
    pub alerts: Vec<Told>,
    /// Incidents like this one, and how they went; the most similar first.
    pub similar: Vec<Cited>,
    /// What else was learned about such a thing.
    pub related: Vec<Cited>,
    pub contributions: Vec<Contribution>,
    /// In the order in which to do it.
    pub plan: Vec<Step>,
    /// Whether what ended similar incidents is known well enough to begin with it.
    pub known: bool,
    pub explanation: String,
    /// For [`MemoryEnabledAgent::conclude`], together with the task.
    pub performed: Performed,
    pub task: Task,
}

/// One alert as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub name: String,
    pub status: Status,
    pub severity: Severity,
    pub since: TimeMs,
    /// What it is about: namespace, service, pod, whichever labels it has.
    pub about: Vec<String>,
    pub told: String,
}

/// Labels that say what an alert is about.
const ABOUT: &[&str] = &[
    "cluster",
    "namespace",
    "service",
    "job",
    "deployment",
    "statefulset",
    "pod",
    "node",
    "instance",
];

/// Makes one incident of the alerts, which are not empty. `contributions` are of agents that were given
/// inputs of their own; the others are asked what they know.
pub async fn coordinate(
    agent: &MemoryEnabledAgent,
    alerts: &Alerts,
    mut contributions: Vec<Contribution>,
    context: LearningContext,
) -> Result<Incident, Error> {
    let mut ordered: Vec<&Alert> = alerts.ordered();
    ordered.sort_by_key(|alert| (alert.status, std::cmp::Reverse(alert.severity())));
    let words = words(&ordered);
    for (domain, name) in ASKED {
        if contributions.iter().all(|known| known.domain != *domain) {
            contributions.extend(ask(agent, domain, name, &words, &context).await?);
        }
    }
    let started_at = ordered
        .iter()
        .map(|a| a.starts_at)
        .min()
        .unwrap_or_default();
    let task = task(&words, context).at(started_at);
    let performed = agent.perform(&task).await?;
    let similar: Vec<_> = performed
        .evidence
        .cases
        .iter()
        .map(|case| case.key)
        .collect();
    let known = !performed.decision.abstained;
    Ok(Incident {
        title: title(&ordered),
        severity: ordered
            .iter()
            .map(|a| a.severity())
            .max()
            .unwrap_or(Severity::Unknown),
        status: alerts.status(),
        started_at,
        alerts: ordered.iter().map(|alert| told(alert)).collect(),
        similar: Cited::of(&performed.evidence, &similar[..similar.len().min(5)]),
        related: Cited::related(&performed.evidence),
        plan: plan::plan(&performed, &contributions, known),
        contributions,
        known,
        explanation: performed.decision.explanation.clone(),
        performed,
        task,
    })
}

/// The task that alerts set: their words, and what can be done about an incident.
fn task(words: &str, context: LearningContext) -> Task {
    let context = LearningContext {
        task: words.to_owned(),
        domain: Some(domain::INCIDENT_RESPONSE.to_owned()),
        ..context
    };
    RESPONSES
        .iter()
        .fold(Task::new(context).open(), |task, response| {
            task.action(Action::new(response.action).described(response.when))
        })
}

/// What the cases of another agent say of such alerts, if they say anything clearly.
async fn ask(
    agent: &MemoryEnabledAgent,
    domain: &str,
    name: &str,
    words: &str,
    context: &LearningContext,
) -> Result<Option<Contribution>, Error> {
    let task = Task::new(LearningContext {
        task: words.to_owned(),
        domain: Some(domain.to_owned()),
        ..context.clone()
    });
    let performed = agent.perform(&task).await?;
    let Some(chosen) = performed.decision.chosen() else {
        return Ok(None);
    };
    Ok(Some(Contribution {
        domain: domain.to_owned(),
        agent: name.to_owned(),
        found: performed.decision.explanation.clone(),
        action: chosen.action.clone(),
        confidence: chosen.confidence,
        steps: Vec::new(),
        cases: Cited::of(&performed.evidence, &chosen.evidence),
    }))
}

/// Without what differs from one occurrence to the next: names and texts, each once.
fn words(alerts: &[&Alert]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut chars = 0;
    for alert in alerts {
        let told = alert.told().join(" ");
        let line = format!("{}: {told}", alert.name()).replace(char::is_control, " ");
        let line: String = line.trim_end_matches(": ").chars().take(400).collect();
        chars += line.chars().count() + 1;
        if chars > WORDS_CHARS_MAX {
            break;
        }
        if !words.contains(&line) {
            words.push(line);
        }
    }
    words.join("\n")
}

fn title(alerts: &[&Alert]) -> String {
    let Some(first) = alerts.first() else {
        return "no alert".to_owned();
    };
    let name: String = first
        .name()
        .chars()
        .filter(|c| !c.is_control())
        .take(128)
        .collect();
    let of = ["service", "deployment", "job", "namespace"]
        .iter()
        .find_map(|l| first.label(l));
    let mut title = match of {
        Some(of) => format!("{name} on {}", of.chars().take(128).collect::<String>()),
        None => name,
    };
    if alerts.len() > 1 {
        title.push_str(&format!(" and {} more", alerts.len() - 1));
    }
    title
}

fn told(alert: &Alert) -> Told {
    let about = |name: &&str| alert.label(name).map(|value| format!("{name}={value}"));
    Told {
        name: alert.name().to_owned(),
        status: alert.status,
        severity: alert.severity(),
        since: alert.starts_at,
        about: ABOUT.iter().filter_map(about).collect(),
        told: alert.told().join(" "),
    }
}

#[cfg(test)]
mod tests;
