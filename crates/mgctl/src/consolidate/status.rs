//! `mgctl consolidate status`: how far consolidation is.

use comfy_table::{Cell, CellAlignment};
use memorygate_client::{Client, consolidation, time};
use serde::Serialize;

use super::operation;
use crate::{args::Global, output::Output, style};

const EXAMPLES: &str = "\
BEHIND is how much was written since the last pass looked, of whatever namespace: passes follow what is learned. What
a pass wrote itself is among it, so that it is 2 or more right after one that changed something.

Examples:
  mgctl consolidate status
  mgctl consolidate status --namespace team-a --output json | jq '.namespaces[0].behind'";

/// Show how far consolidation is, in all namespaces or in the one named
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

#[derive(Serialize)]
struct Document<'a> {
    namespaces: Vec<Record<'a>>,
}

#[derive(Serialize)]
struct Record<'a> {
    namespace: &'a str,
    memories: u64,
    archived: u64,
    paused: bool,
    through: u64,
    behind: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_pass_at: Option<String>,
}

/// A namespace, with what is stored in it and how far its consolidation is.
struct Standing {
    namespace: String,
    memories: u64,
    archived: u64,
    status: consolidation::Status,
}

pub(super) async fn run(_args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let standings = standings(&client, global.named_namespace()).await?;
    if output.is_json() {
        let namespaces = standings.iter().map(Record::from).collect();
        output.json(&Document { namespaces })?;
        return Ok(());
    }
    if standings.is_empty() {
        output.line("no memories")?;
        return Ok(());
    }
    let rows = standings.iter().map(|standing| {
        let number = |count: u64| Cell::new(count).set_alignment(CellAlignment::Right);
        let status = &standing.status;
        let state = match status.policy.paused {
            true => output.style.alert("paused"),
            false => "on".to_owned(),
        };
        let last = status
            .last_pass_at
            .map_or_else(|| "never".to_owned(), |at| time::relative(at, output.now));
        vec![
            Cell::new(style::one_line(&standing.namespace, 40)),
            number(standing.memories),
            number(standing.archived),
            Cell::new(state),
            number(status.behind),
            Cell::new(last),
        ]
    });
    let head = [
        "NAMESPACE",
        "MEMORIES",
        "ARCHIVED",
        "STATE",
        "BEHIND",
        "LAST PASS",
    ];
    output.table(&head, rows.collect())?;
    Ok(())
}

async fn standings(client: &Client, only: Option<&str>) -> anyhow::Result<Vec<Standing>> {
    let stats = match only {
        Some(namespace) => client.stats_of(namespace).await?,
        None => client.stats().await?,
    };
    let mut found: Vec<(String, u64, u64)> = (stats.namespaces.into_iter())
        .map(|n| (n.namespace, n.memories, n.archived))
        .collect();
    // One that was named has a policy even if nothing is stored there.
    if let (true, Some(namespace)) = (found.is_empty(), only) {
        found.push((namespace.to_owned(), 0, 0));
    }
    let mut standings = Vec::with_capacity(found.len());
    for (namespace, memories, archived) in found {
        let consolidation = client.in_namespace(&namespace).consolidation();
        let doing = "ask how far consolidation is";
        let status = consolidation.status().await;
        standings.push(Standing {
            namespace,
            memories,
            archived,
            status: status.map_err(operation(doing, "mgctl stats"))?,
        });
    }
    Ok(standings)
}

impl<'a> From<&'a Standing> for Record<'a> {
    fn from(standing: &'a Standing) -> Self {
        let status = &standing.status;
        Self {
            namespace: &standing.namespace,
            memories: standing.memories,
            archived: standing.archived,
            paused: status.policy.paused,
            through: status.through,
            behind: status.behind,
            last_pass_at: status.last_pass_at.map(time::format),
        }
    }
}
