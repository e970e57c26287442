//! `mgctl consolidate history`: what was done.

use comfy_table::{Cell, CellAlignment};
use memorygate_client::{
    consolidation::{DoneStep, Epoch, Epochs, StepKind},
    time,
};
use serde::Serialize;

use super::operation;
use crate::{
    args::Global,
    output::{Output, PositionRecord},
};

const EXAMPLES: &str = "\
Each line is an epoch: one entry of the log, which is undone as a whole. Epochs are kept for 90 days; those
that were undone are not shown.

Examples:
  mgctl consolidate history
  mgctl consolidate history --steps --limit 3
  mgctl consolidate history --output json | jq '.epochs[0].id'";

/// Show what was done, newest first
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How many epochs to show, 1 to 1000
    #[arg(long, short, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// Only those before this one
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    before: Option<u64>,
    /// Show each step
    #[arg(long)]
    steps: bool,
}

#[derive(Serialize)]
struct Document {
    epochs: Vec<EpochRecord>,
    position: PositionRecord,
}

#[derive(Serialize)]
struct EpochRecord {
    id: u64,
    at: String,
    steps: Vec<StepRecord>,
}

#[derive(Serialize)]
struct StepRecord {
    kind: Option<&'static str>,
    key: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<String>,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let epochs = global
        .client()?
        .consolidation()
        .epochs(args.before, args.limit)
        .await
        .map_err(operation("list the epochs", "mgctl consolidate status"))?;
    if output.is_json() {
        output.json(&document(&epochs))?;
        return Ok(());
    }
    let Some(last) = epochs.epochs.last() else {
        let namespace = global.namespace_or_default();
        output.line(&format!("nothing was consolidated in {namespace}"))?;
        return Ok(());
    };
    if args.steps {
        for (at, epoch) in epochs.epochs.iter().enumerate() {
            if at > 0 {
                output.line("")?;
            }
            show_steps(epoch, output)?;
        }
    } else {
        table(&epochs.epochs, output)?;
    }
    if epochs.epochs.len() == args.limit {
        output.note(&format!("older ones: --before {}", last.id));
    }
    Ok(())
}

fn table(epochs: &[Epoch], output: &Output) -> anyhow::Result<()> {
    let rows = epochs.iter().map(|epoch| {
        let number = |count: usize| Cell::new(count).set_alignment(CellAlignment::Right);
        let count = |kind| {
            let steps = epoch.steps.iter();
            number(steps.filter(|step| step.kind == Some(kind)).count())
        };
        let mut row = vec![Cell::new(epoch.id), Cell::new(when(epoch, output))];
        row.extend(StepKind::ALL.map(count));
        row
    });
    let head = ["ID", "WHEN", "MERGES", "FADES", "CONFLICTS", "RELINKS"];
    output.table(&head, rows.collect())?;
    Ok(())
}

fn show_steps(epoch: &Epoch, output: &Output) -> anyhow::Result<()> {
    let head = output.style.bold(&format!("epoch {}", epoch.id));
    output.line(&format!("{head}  {}", when(epoch, output)))?;
    for step in &epoch.steps {
        let kind = step.kind.map_or("unknown", StepKind::as_str);
        output.line(&format!("  {kind:<8}  {}", told(step)))?;
    }
    Ok(())
}

fn when(epoch: &Epoch, output: &Output) -> String {
    let age = time::relative(epoch.at, output.now);
    format!("{} ({age})", time::format(epoch.at))
}

fn told(step: &DoneStep) -> String {
    let others: Vec<String> = step.others.iter().map(ToString::to_string).collect();
    let others = others.join(", ");
    let key = step.key;
    match step.kind {
        Some(StepKind::Merge) => format!("{key} took in {others}"),
        Some(StepKind::Conflict) => format!("{key} against {others}"),
        Some(StepKind::Relink) => format!("{key} links to {others}"),
        Some(StepKind::Fade) => key.to_string(),
        None => format!("{key} {others}").trim_end().to_owned(),
    }
}

fn document(epochs: &Epochs) -> Document {
    let step = |step: &DoneStep| StepRecord {
        kind: step.kind.map(StepKind::as_str),
        key: step.key.to_string(),
        others: step.others.iter().map(ToString::to_string).collect(),
    };
    let epoch = |epoch: &Epoch| EpochRecord {
        id: epoch.id,
        at: time::format(epoch.at),
        steps: epoch.steps.iter().map(step).collect(),
    };
    Document {
        epochs: epochs.epochs.iter().map(epoch).collect(),
        position: epochs.position.into(),
    }
}
