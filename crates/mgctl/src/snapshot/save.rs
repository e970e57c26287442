//! `mgctl snapshot save`: fetch a snapshot file.
//!
//! It is written beside its name, checked as a whole, synced and renamed: a file under the name that was
//! asked for is a snapshot, whatever happens.

use std::{
    fs::File,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memorygate_client::cluster::Snapshot;
use serde::Serialize;

use super::{SnapshotRecord, file::Checker, operation, told};
use crate::{args::Global, durable, output::Output};

const EXAMPLES: &str = "\
Examples:
  mgctl snapshot save --to monday.snapshot
  mgctl snapshot save NAME --to monday.snapshot";

/// Fetch a snapshot as a file: one of the node's backup store, or a new one
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Of the backup store (`mgctl snapshot list`); a new snapshot is made if none is named
    name: Option<String>,
    /// Where to; a file that is there is replaced once the new one is whole
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Serialize)]
struct Document<'a> {
    file: String,
    sha256: &'a str,
    snapshot: SnapshotRecord<'a>,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let partial = durable::beside(&args.to, "partial");
    let saved = fetch(&args, &partial, global, output).await;
    if saved.is_err() {
        // Half a snapshot is of no use, and the next run begins anew.
        durable::remove(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    let (snapshot, sha256) = saved?;
    if output.is_json() {
        output.json(&Document {
            file: args.to.display().to_string(),
            sha256: &sha256,
            snapshot: (&snapshot).into(),
        })?;
    } else {
        output.line(&format!(
            "saved {} to {}",
            told(&snapshot),
            args.to.display()
        ))?;
    }
    Ok(())
}

async fn fetch(
    args: &Args,
    partial: &Path,
    global: &Global,
    output: &Output,
) -> anyhow::Result<(Snapshot, String)> {
    let doing = match &args.name {
        Some(name) => format!("fetch the snapshot {name}"),
        None => "fetch a new snapshot".to_owned(),
    };
    let cluster = global.client()?.cluster();
    let saving = cluster.save_snapshot(args.name.as_deref()).await;
    let (snapshot, mut chunks) = saving.map_err(operation(doing.as_str()))?;
    let shown = partial.display();
    let mut file = File::create(partial).with_context(|| format!("create {shown}"))?;
    let bar = bar(snapshot.bytes, output);
    let mut checker = Checker::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(operation(doing.as_str()))?;
        checker.add(&chunk);
        file.write_all(&chunk)
            .with_context(|| format!("write {shown}"))?;
        bar.set_position(checker.bytes());
    }
    bar.finish_and_clear();
    let checked = checker.finish("what was sent")?;
    file.sync_all().with_context(|| format!("sync {shown}"))?;
    durable::rename(partial, &args.to)
        .with_context(|| format!("rename {shown} to {}", args.to.display()))?;
    Ok((snapshot, checked.sha256))
}

/// On a terminal.
fn bar(bytes: u64, output: &Output) -> ProgressBar {
    if !std::io::stderr().is_terminal() || output.is_json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = "{wide_bar} {bytes}/{total_bytes}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}
