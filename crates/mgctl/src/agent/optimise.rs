//! `mgctl agent optimise`: what to change about a deployment, as a patch.

use std::{
    env, fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};
use memorygate_agents::optimise::{
    Advice, HISTORY_BYTES_MAX, History, MANIFEST_BYTES_MAX, METRICS_BYTES_MAX, Manifests, Measure,
    Metrics, Patch, Proposed, optimise,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    deciding::{Deciding, context, failed},
    input,
    outcome::OutcomeArgs,
    show::{self, CitedRecord},
};
use crate::{args::Global, failure::Usage, output::Output, style};

/// What stands for every change.
const ALL: &str = "all";

const EXAMPLES: &str = "\
Files are manifests of Kubernetes, with any number of documents: Deployments, StatefulSets and DaemonSets are looked
at, autoscalers and disruption budgets beside them. What was measured tells what to change, what came of such changes
before tells which of them to make. Nothing is changed here: each proposal is a diff of the manifest, and a command.

A diff names a manifest by the way to it from this folder: apply it here. One that stands elsewhere has its own name
alone: apply it in its folder, with `git -C FOLDER apply`.

Metrics are tables of `kubectl top pods --containers`, or answers of Prometheus to /api/v1/query and query_range. A
query that calls a function loses the metric's name: say what it measures, one of cpu (cores), memory (bytes),
throttling, errors (shares, 0 to 1), latency (seconds), restarts.

Examples:
  kubectl top pods --containers | mgctl agent optimise deploy.yaml --metrics -
  mgctl agent optimise deploy.yaml --metrics memory.json --metrics errors=errors.json --history history.txt
  kubectl get rs -o json > rs.json; mgctl agent optimise deploy.yaml --history rs.json
  mgctl agent optimise deploy.yaml --metrics top.txt --patch raise-memory-limit | git apply
  mgctl agent optimise ../shop/deploy.yaml --metrics top.txt --patch all | git -C ../shop apply
  mgctl agent optimise deploy.yaml --metrics top.txt --outcome success --action raise-memory-limit \\
      --observed \"no restart in a week\"";

/// Propose changes of a deployment, by its metrics and by what came of such changes before
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Manifests; `-` reads standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    measured: Measured,
    /// Look at this workload alone
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Print a diff of the manifests with these changes alone, or with `all`
    #[arg(
        long,
        value_name = "ACTION",
        value_delimiter = ',',
        conflicts_with = "outcome"
    )]
    patch: Vec<String>,
    #[command(flatten)]
    outcome: OutcomeArgs,
    #[command(flatten)]
    deciding: Deciding,
}

/// What is known of workloads beside their manifests.
#[derive(clap::Args)]
pub(super) struct Measured {
    /// What was measured, with what it is if the file does not say; may be repeated
    #[arg(long, value_name = "[KIND=]FILE", value_parser = metrics)]
    pub(super) metrics: Vec<Measurement>,
    /// What `kubectl rollout history` or `kubectl get rs -o json` printed; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) history: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
pub(super) struct Measurement {
    measure: Option<Measure>,
    path: PathBuf,
}

#[derive(Serialize)]
struct AdvicesRecord {
    workloads: Vec<AdviceRecord>,
}

#[derive(Serialize)]
struct AdviceRecord {
    workload: String,
    file: String,
    known: bool,
    explanation: String,
    seen: Vec<String>,
    revisions: Vec<String>,
    proposals: Vec<ProposedRecord>,
    related: Vec<CitedRecord>,
}

#[derive(Serialize)]
struct ProposedRecord {
    action: String,
    reason: String,
    effect: String,
    confidence: f32,
    before: Vec<String>,
    patch: Option<PatchRecord>,
    cases: Vec<CitedRecord>,
}

#[derive(Serialize)]
struct PatchRecord {
    file: String,
    line: Option<usize>,
    diff: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_diff_because: Option<String>,
    command: String,
    body: Value,
}

/// What an agent is given.
pub(super) struct Inputs {
    pub(super) manifests: Manifests,
    pub(super) history: History,
    pub(super) metrics: Metrics,
}

impl Measured {
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let metrics = self.metrics.iter().map(|measurement| &measurement.path);
        metrics.chain(&self.history)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths().next().is_none()
    }

    /// Reads these, and the manifests that they are about.
    pub(super) fn read(&self, files: &[PathBuf], output: &Output) -> anyhow::Result<Inputs> {
        let mut manifests = Manifests::default();
        for path in files {
            let bytes = input::document(path, MANIFEST_BYTES_MAX)?;
            let name = path.display().to_string();
            let read = manifests.read(&name_from_here(path), &bytes);
            read.with_context(|| format!("read {name}"))?;
        }
        if manifests.workloads().is_empty() {
            bail!(Usage(
                "no workload in it: expected a Deployment, a StatefulSet or a DaemonSet".to_owned()
            ));
        }
        let mut metrics = Metrics::default();
        for Measurement { measure, path } in &self.metrics {
            let bytes = input::document(path, METRICS_BYTES_MAX)?;
            let read = metrics.read(&bytes, *measure);
            read.with_context(|| format!("read {}", path.display()))?;
        }
        let mut history = History::default();
        for path in &self.history {
            let bytes = input::document(path, HISTORY_BYTES_MAX)?;
            let read = history.read(&bytes);
            read.with_context(|| format!("read {}", path.display()))?;
        }
        let strangers = manifests.strangers(&metrics);
        if strangers > 0 {
            output.note(&format!(
                "{strangers} series of metrics left out: of none of the workloads"
            ));
        }
        Ok(Inputs {
            manifests,
            history,
            metrics,
        })
    }
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    input::check_stdin(args.files.iter().chain(args.measured.paths()))?;
    let mut inputs = args.measured.read(&args.files, output)?;
    let names = inputs.manifests.workloads().join(", ");
    if let Some(name) = &args.workload
        && !inputs.manifests.only(name)
    {
        bail!(Usage(format!(
            "no workload {name:?}, expected one of {names}"
        )));
    }
    if args.outcome.outcome.is_some() && inputs.manifests.workloads().len() > 1 {
        bail!(Usage(format!(
            "of which workload is it the outcome? name one with --workload: {names}"
        )));
    }
    let agent = args.deciding.agent(global)?;
    let Inputs {
        manifests,
        history,
        metrics,
    } = &inputs;
    let context = context(global, "optimiser");
    let advices = optimise(&agent, manifests, history, metrics, &context).await;
    let advices = advices.map_err(failed)?;
    if let [
        Advice {
            task, performed, ..
        },
    ] = &advices[..]
        && args.outcome.learn(&agent, task, performed, output).await?
    {
        return Ok(());
    }
    if !args.patch.is_empty() {
        output.raw(patch(manifests, &advices, &args.patch)?.as_bytes())?;
    } else if output.is_json() {
        let workloads = advices.iter().map(record).collect();
        output.json(&AdvicesRecord { workloads })?;
    } else {
        for advice in &advices {
            show(advice, output)?;
        }
        output.line(
            "Tell it what came of it: the same command with --outcome success|failure --action NAME",
        )?;
    }
    Ok(())
}

/// One diff with the changes of these names.
fn patch(manifests: &Manifests, advices: &[Advice], names: &[String]) -> anyhow::Result<String> {
    let proposals = || advices.iter().flat_map(|advice| &advice.proposals);
    let changes = || proposals().filter(|proposed| proposed.patch.is_some());
    for name in names {
        if name != ALL && changes().all(|proposed| proposed.action != *name) {
            let known: Vec<&str> = changes().map(|p| p.action.as_str()).collect();
            let known = if known.is_empty() {
                "nothing is".to_owned()
            } else {
                known.join(", ")
            };
            bail!(Usage(format!(
                "{name:?} is not proposed as a change: {known}"
            )));
        }
    }
    let is_named = |proposed: &&Proposed| names.iter().any(|n| n == ALL || *n == proposed.action);
    let named: Vec<&Proposed> = changes().filter(is_named).collect();
    let diff = manifests.patch(&named);
    diff.map_err(|why| {
        Usage(format!(
            "no diff: {why}; see the command with --output json"
        ))
        .into()
    })
}

fn show(advice: &Advice, output: &Output) -> anyhow::Result<()> {
    output.line(&output.style.bold(&style::one_line(&advice.workload, 300)))?;
    for seen in &advice.seen {
        show::wrapped(&format!("- {seen}"), "  ", output)?;
    }
    for revision in &advice.revisions {
        show::wrapped(&format!("· {revision}"), "  ", output)?;
    }
    output.line("")?;
    let lead = if advice.known { "Likely: " } else { "" };
    show::wrapped(&format!("{lead}{}", advice.explanation), "", output)?;
    for (at, proposed) in advice.proposals.iter().enumerate() {
        output.line("")?;
        let confidence = show::percent(proposed.confidence);
        let action = style::one_line(&proposed.action, 128);
        let head = format!("{}. {action} ({confidence})", at + 1);
        output.line(&output.style.bold(&head))?;
        show::wrapped(&format!("because {}", proposed.reason), "   ", output)?;
        show::wrapped(&format!("expected: {}", proposed.effect), "   ", output)?;
        if !proposed.before.is_empty() {
            let before = proposed.before.join(", ");
            show::wrapped(&format!("it was {before}"), "   ", output)?;
        }
        if let Some(patch) = &proposed.patch {
            show_patch(patch, output)?;
        }
        show::cases(&proposed.cases, "   ", output)?;
    }
    show::related(&advice.related, output)?;
    output.line("")?;
    Ok(())
}

/// The lines that change, or the command where the text cannot be changed.
fn show_patch(patch: &Patch, output: &Output) -> anyhow::Result<()> {
    match &patch.diff {
        Ok(diff) => {
            let line = patch
                .line
                .map(|line| format!(":{line}"))
                .unwrap_or_default();
            output.line(&format!("   {}{line}", style::one_line(&patch.file, 200)))?;
            // The head says what was said, and the lines around are the reader's own.
            let changed = |line: &&str| line.starts_with(['+', '-']);
            for line in diff.lines().skip(2).filter(changed) {
                output.line(&format!("   {}", style::one_line(line, 200)))?;
            }
        }
        Err(why) => {
            show::wrapped(&format!("no diff: {why}"), "   ", output)?;
            output.line(&format!("   {}", style::one_line(&patch.command, 4096)))?;
        }
    }
    Ok(())
}

fn record(advice: &Advice) -> AdviceRecord {
    let proposed = |proposed: &Proposed| ProposedRecord {
        action: proposed.action.clone(),
        reason: proposed.reason.clone(),
        effect: proposed.effect.clone(),
        confidence: proposed.confidence,
        before: proposed.before.clone(),
        patch: proposed.patch.as_ref().map(|patch| PatchRecord {
            file: patch.file.clone(),
            line: patch.line,
            diff: patch.diff.clone().ok(),
            no_diff_because: patch.diff.clone().err(),
            command: patch.command.clone(),
            body: patch.body.clone(),
        }),
        cases: proposed.cases.iter().map(CitedRecord::of).collect(),
    };
    AdviceRecord {
        workload: advice.workload.clone(),
        file: advice.file.clone(),
        known: advice.known,
        explanation: advice.explanation.clone(),
        seen: advice.seen.clone(),
        revisions: advice.revisions.clone(),
        proposals: advice.proposals.iter().map(proposed).collect(),
        related: advice.related.iter().map(CitedRecord::of).collect(),
    }
}

/// A manifest as its diff names it: the way from this folder, where there is one that does not lead out of it.
fn name_from_here(path: &Path) -> String {
    if path.as_os_str() == "-" {
        return "manifest.yaml".to_owned();
    }
    let is_below = path
        .components()
        .all(|part| matches!(part, Component::CurDir | Component::Normal(_)));
    let from_here = || {
        let here = fs::canonicalize(env::current_dir().ok()?).ok()?;
        let folder = fs::canonicalize(path.parent()?).ok()?;
        let file = folder.join(path.file_name()?);
        Some(file.strip_prefix(here).ok()?.to_owned())
    };
    let shorter = if is_below { None } else { from_here() };
    shorter.as_deref().unwrap_or(path).display().to_string()
}

/// `KIND=FILE`, or a file that says itself what it measures.
fn metrics(text: &str) -> Result<Measurement, String> {
    let (measure, path) = match text.split_once('=') {
        Some((kind, path)) => match Measure::parse(kind) {
            Some(measure) => (Some(measure), path),
            None => (None, text),
        },
        None => (None, text),
    };
    if path.is_empty() {
        return Err("expected a file".to_owned());
    }
    Ok(Measurement {
        measure,
        path: PathBuf::from(path),
    })
}
