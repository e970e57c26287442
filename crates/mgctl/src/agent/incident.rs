//! `mgctl agent incident`: one incident of many alerts, a plan, and notes for whoever takes over.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use memorygate_agents::{
    MemoryEnabledAgent,
    incident::{Contribution, Incident, coordinate, handover},
    optimise::optimise,
    review::{Diff, Settings, diff::DIFF_BYTES_MAX, review},
    troubleshoot::{DOCUMENT_BYTES_MAX, Symptoms, diagnose},
};
use memorygate_client::time;
use memorygate_feeds::{
    BODY_BYTES_MAX,
    alertmanager::{Alerts, Notification},
};
use serde::Serialize;

use super::{
    deciding::{Deciding, context, failed},
    input,
    optimise::{Inputs, Measured},
    outcome::OutcomeArgs,
    show::{self, CitedRecord},
};
use crate::{args::Global, failure::Usage, output::Output, style};

/// Alerts that are shown.
const ALERTS_SHOWN: usize = 10;

const EXAMPLES: &str = "\
Files are messages of Alertmanager's webhook, version 4; an alert that is in several counts once. What kubectl prints
of a workload (--describe) and logs go to the troubleshooting agent, a change that may have caused it (--diff) to the
one for reviews, manifests (--manifest, with --metrics and --history) to the one for deployments: what each finds joins
the plan. Those that are given nothing are asked what they remember of such alerts.

Examples:
  mgctl agent incident alerts.json
  mgctl agent incident alerts.json --describe pod.txt --logs pod.log
  mgctl agent incident alerts.json --diff change.diff --manifest deploy.yaml --metrics top.txt
  mgctl agent incident alerts.json --handover > handover.md
  mgctl agent incident alerts.json --outcome success --action roll-back --observed \"errors gone after two minutes\"
  mgctl agent incident alerts.json --executor chat --model llama3.1 --model-endpoint http://127.0.0.1:11434/v1";

/// Make one incident of many alerts, with a plan by how similar incidents ended
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Messages of Alertmanager; `-` reads standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// What kubectl printed of a workload that is part of it; may be repeated
    #[arg(long, value_name = "FILE")]
    describe: Vec<PathBuf>,
    /// A log of such a workload; may be repeated
    #[arg(long, value_name = "FILE")]
    logs: Vec<PathBuf>,
    /// A unified diff of a change that may have caused it; may be repeated
    #[arg(long, value_name = "FILE")]
    diff: Vec<PathBuf>,
    /// Manifests of a workload that is part of it; may be repeated
    #[arg(long, value_name = "FILE")]
    manifest: Vec<PathBuf>,
    #[command(flatten)]
    measured: Measured,
    /// Print notes for whoever takes over, in Markdown
    #[arg(long, conflicts_with = "outcome")]
    handover: bool,
    #[command(flatten)]
    outcome: OutcomeArgs,
    #[command(flatten)]
    deciding: Deciding,
}

#[derive(Serialize)]
struct IncidentRecord {
    title: String,
    severity: &'static str,
    status: &'static str,
    started_at: String,
    alerts: Vec<AlertRecord>,
    known: bool,
    explanation: String,
    similar: Vec<CitedRecord>,
    related: Vec<CitedRecord>,
    plan: Vec<StepRecord>,
}

#[derive(Serialize)]
struct AlertRecord {
    name: String,
    status: &'static str,
    severity: &'static str,
    since: String,
    about: Vec<String>,
    told: String,
}

#[derive(Serialize)]
struct StepRecord {
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cases: Vec<CitedRecord>,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let paths = args.files.iter().chain(&args.describe).chain(&args.logs);
    let paths = paths.chain(&args.diff).chain(&args.manifest);
    input::check_stdin(paths.chain(args.measured.paths()))?;
    let alerts = read(&args.files)?;
    let agent = args.deciding.agent(global)?;
    let mut contributions = troubleshot(&args, &agent, global).await?;
    contributions.extend(reviewed(&args, &agent, global).await?);
    contributions.extend(optimised(&args, &agent, global, output).await?);
    let context = context(global, "incident-coordinator");
    let incident = coordinate(&agent, &alerts, contributions, context).await;
    let incident = incident.map_err(failed)?;
    let Incident {
        task, performed, ..
    } = &incident;
    if args.outcome.learn(&agent, task, performed, output).await? {
        return Ok(());
    }
    if args.handover {
        output.raw(handover(&incident, output.now).as_bytes())?;
    } else if output.is_json() {
        output.json(&record(&incident))?;
    } else {
        show(&incident, output)?;
    }
    Ok(())
}

fn read(files: &[PathBuf]) -> anyhow::Result<Alerts> {
    let mut alerts = Alerts::default();
    for path in files {
        let body = input::document(path, BODY_BYTES_MAX)?;
        let added = Notification::parse(&body).and_then(|message| alerts.add(&message));
        added.with_context(|| format!("read {}", path.display()))?;
    }
    if alerts.is_empty() {
        bail!(Usage("no alert in it: expected at least one".to_owned()));
    }
    Ok(alerts)
}

/// What the troubleshooting agent makes of its inputs, if it was given any.
async fn troubleshot(
    args: &Args,
    agent: &MemoryEnabledAgent,
    global: &Global,
) -> anyhow::Result<Vec<Contribution>> {
    let mut symptoms = Symptoms::default();
    for path in &args.describe {
        let bytes = input::document(path, DOCUMENT_BYTES_MAX)?;
        let read = symptoms.read_document(&bytes);
        read.with_context(|| format!("read {}", path.display()))?;
    }
    for path in &args.logs {
        let read = symptoms.read_log(input::lines(path)?);
        read.with_context(|| format!("read {}", path.display()))?;
    }
    if symptoms.is_empty() {
        return Ok(Vec::new());
    }
    let diagnosis = diagnose(agent, &symptoms, context(global, "troubleshooter")).await;
    let diagnosis = diagnosis.map_err(failed)?;
    Ok(Contribution::of_diagnosis(&diagnosis).into_iter().collect())
}

/// What the reviewing agent makes of the changes that it was given.
async fn reviewed(
    args: &Args,
    agent: &MemoryEnabledAgent,
    global: &Global,
) -> anyhow::Result<Vec<Contribution>> {
    let mut contributions = Vec::new();
    for path in &args.diff {
        let bytes = input::document(path, DIFF_BYTES_MAX)?;
        let diff = Diff::parse(&bytes).with_context(|| format!("read {}", path.display()))?;
        let context = context(global, "reviewer");
        let review = review(agent, &context, &diff, &Settings::default()).await;
        contributions.extend(Contribution::of_review(&review.map_err(failed)?));
    }
    Ok(contributions)
}

/// What the deployment agent makes of the manifests that it was given.
async fn optimised(
    args: &Args,
    agent: &MemoryEnabledAgent,
    global: &Global,
    output: &Output,
) -> anyhow::Result<Vec<Contribution>> {
    if args.manifest.is_empty() {
        if !args.measured.is_empty() {
            let next = "--metrics and --history are about a manifest: name it with --manifest";
            bail!(Usage(next.to_owned()));
        }
        return Ok(Vec::new());
    }
    let Inputs {
        manifests,
        history,
        metrics,
    } = args.measured.read(&args.manifest, output)?;
    let context = context(global, "optimiser");
    let advice = optimise(agent, &manifests, &history, &metrics, &context).await;
    Ok(Contribution::of_advice(&advice.map_err(failed)?))
}

fn show(incident: &Incident, output: &Output) -> anyhow::Result<()> {
    output.line(&output.style.bold(&style::one_line(&incident.title, 300)))?;
    let age = time::relative(incident.started_at, output.now);
    let (status, severity) = (incident.status.as_str(), incident.severity.as_str());
    output.line(&format!("{status}, severity {severity}, since {age}"))?;
    output.line("")?;
    for alert in incident.alerts.iter().take(ALERTS_SHOWN) {
        let about = alert.about.join(", ");
        let head = format!("- {} ({}) {about}", alert.name, alert.status.as_str());
        show::wrapped(&head, "  ", output)?;
        show::wrapped(&alert.told, "    ", output)?;
    }
    if let Some(more) = incident
        .alerts
        .len()
        .checked_sub(ALERTS_SHOWN)
        .filter(|m| *m > 0)
    {
        output.line(&format!(
            "  and {}",
            style::count(more as u64, "further alert")
        ))?;
    }
    output.line("")?;
    show::wrapped(&incident.explanation, "", output)?;
    for (at, step) in incident.plan.iter().enumerate() {
        let head = style::one_line(&format!("{}. {}", at + 1, step.what), 300);
        output.line(&output.style.bold(&head))?;
        for detail in &step.details {
            show::wrapped(&format!("→ {detail}"), "   ", output)?;
        }
        show::cases(&step.cases, "   ", output)?;
    }
    show::related(&incident.related, output)?;
    output.line("")?;
    output.line(
        "Tell it what ended it: the same command with --outcome success|failure --action NAME",
    )?;
    Ok(())
}

fn record(incident: &Incident) -> IncidentRecord {
    IncidentRecord {
        title: incident.title.clone(),
        severity: incident.severity.as_str(),
        status: incident.status.as_str(),
        started_at: time::format(incident.started_at),
        alerts: incident
            .alerts
            .iter()
            .map(|alert| AlertRecord {
                name: alert.name.clone(),
                status: alert.status.as_str(),
                severity: alert.severity.as_str(),
                since: time::format(alert.since),
                about: alert.about.clone(),
                told: alert.told.clone(),
            })
            .collect(),
        known: incident.known,
        explanation: incident.explanation.clone(),
        similar: incident.similar.iter().map(CitedRecord::of).collect(),
        related: incident.related.iter().map(CitedRecord::of).collect(),
        plan: incident
            .plan
            .iter()
            .map(|step| StepRecord {
                what: step.what.clone(),
                action: step.action.clone(),
                confidence: step.confidence,
                details: step.details.clone(),
                cases: step.cases.iter().map(CitedRecord::of).collect(),
            })
            .collect(),
    }
}
