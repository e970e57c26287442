//! `mgctl consolidate undo`: bring back what an epoch consumed.

use memorygate_client::{Client, Get, Key, Reader, consolidation::Undo, time};
use serde::Serialize;

use super::operation;
use crate::{
    args::{Global, Repeat},
    output::{Output, PositionRecord},
    style,
};

/// Memories that are shown of those that forbid an undo.
const CHANGED_SHOWN: usize = 20;

const EXAMPLES: &str = "\
All of an epoch is undone, or nothing: if something that it left was changed since, that is shown. What was
undone may be consolidated again later: to prevent that, change the policy or pause the namespace first.

Examples:
  mgctl consolidate history
  mgctl consolidate undo 48213";

/// Bring back exactly what one epoch consumed
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Of the epoch: `mgctl consolidate history` shows it
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    #[command(flatten)]
    repeat: Repeat,
}

#[derive(Serialize)]
struct Document {
    id: u64,
    steps: u32,
    position: PositionRecord,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let mut undo = Undo::new(args.id);
    undo.request_id = args.repeat.request_id;
    let undone = match client.consolidation().undo(undo).await {
        Ok(undone) => undone,
        Err(error) if !error.changed().is_empty() => {
            if !output.is_json() {
                show_changed(&client, error.changed(), output).await;
            }
            return Err(error.into());
        }
        Err(error) => {
            let look = "mgctl consolidate history";
            return Err(operation(format!("undo {}", args.id), look)(error));
        }
    };
    if output.is_json() {
        output.json(&Document {
            id: args.id,
            steps: undone.steps,
            position: undone.position.into(),
        })?;
    } else {
        let steps = style::count(undone.steps.into(), "step");
        output.line(&format!("undid {}: {steps} taken back", args.id))?;
    }
    Ok(())
}

/// Tells what was changed since. What cannot be read now is told by its key alone: the error that
/// follows matters more.
async fn show_changed(client: &Client, keys: &[Key], output: &Output) {
    for key in keys.iter().take(CHANGED_SHOWN) {
        let get = Get::new(*key).reader(Reader::operator());
        let about = match client.get(get).await {
            Ok(Some(memory)) => format!(
                "version {}, changed {}: {}",
                memory.version,
                time::relative(memory.updated_at, output.now),
                style::quoted(&memory.content, output.style.width, 80)
            ),
            Ok(None) => "not there any more".to_owned(),
            Err(_) => "cannot be read now".to_owned(),
        };
        output.note(&format!("changed since: {key}, {about}"));
    }
    let rest = keys.len().saturating_sub(CHANGED_SHOWN);
    if rest > 0 {
        output.note(&format!("changed since: {rest} more"));
    }
}
