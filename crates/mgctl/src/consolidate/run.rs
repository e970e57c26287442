//! `mgctl consolidate run`: a pass now.

use std::io::IsTerminal as _;

use futures::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memorygate_client::{Kind, consolidation::Progress};
use serde::Serialize;

use super::{Breadth, memories, operation};
use crate::{
    args::Global,
    output::{Output, PositionRecord},
    style,
};

/// Where to look for what was done.
const LOOK: &str = "mgctl consolidate history";

const EXAMPLES: &str = "\
Beside the passes in the background; both may run at once. One that is broken off (Ctrl-C) leaves what it did,
each epoch whole, and the next goes on.

Examples:
  mgctl consolidate run
  mgctl consolidate run --everything --namespace team-a --output json | jq .done";

/// Run a pass now, and wait for its end
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    breadth: Breadth,
}

#[derive(Serialize)]
struct Document {
    looked_at: u64,
    done: u64,
    refused: u64,
    epochs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<PositionRecord>,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let pass = client.consolidation().run(args.breadth.reach()).await;
    let mut pass = std::pin::pin!(pass.map_err(operation("consolidate", LOOK))?);
    let bar = bar(output);
    let mut ran: Option<Progress> = None;
    loop {
        let next = pass.try_next().await.map_err(|error| {
            // What is wrong with the request says itself what to do.
            if error.kind() == Kind::Fix {
                return error.into();
            }
            operation(broken_off(ran.as_ref()), LOOK)(error)
        });
        match next? {
            Some(progress) => {
                bar.set_length(progress.of.max(progress.looked_at));
                bar.set_position(progress.looked_at);
                bar.set_message(style::count(progress.done, "step"));
                ran = Some(progress);
            }
            None => break,
        }
    }
    bar.finish_and_clear();
    let ran = ran.expect("a pass without an end is an error");
    if output.is_json() {
        output.json(&Document {
            looked_at: ran.looked_at,
            done: ran.done,
            refused: ran.refused,
            epochs: ran.epochs,
            position: ran.position.map(PositionRecord::from),
        })?;
        return Ok(());
    }
    let looked_at = format!("{} looked at", memories(ran.looked_at));
    if ran.done == 0 {
        output.line(&format!("nothing was changed: {looked_at}"))?;
    } else {
        let (steps, epochs) = (
            style::count(ran.done, "step"),
            style::count(ran.epochs, "epoch"),
        );
        let line = format!("took {steps} in {epochs}: {looked_at}");
        output.line(&output.style.bold(&line))?;
        output.note(&format!("`{LOOK}` shows what was done, and how to undo it"));
    }
    if ran.refused > 0 {
        output.line(&format!(
            "{} left for the next pass: something had changed meanwhile",
            style::count(ran.refused, "step")
        ))?;
    }
    Ok(())
}

/// What a pass had done when it broke off.
fn broken_off(ran: Option<&Progress>) -> String {
    match ran {
        Some(ran) if ran.done > 0 => format!(
            "consolidate (after {} in {}, which stay)",
            style::count(ran.done, "step"),
            style::count(ran.epochs, "epoch")
        ),
        Some(_) | None => "consolidate".to_owned(),
    }
}

/// On a terminal.
fn bar(output: &Output) -> ProgressBar {
    if !std::io::stderr().is_terminal() || output.is_json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let style = "{wide_bar} {pos}/{len} memories, {msg}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}
