//! `mgctl stats`: what is stored, and where a node stands.

use std::collections::BTreeMap;

use memorygate_client::{Stats, time};
use serde::Serialize;

use crate::{
    args::{Global, Recency},
    output::{Output, PositionRecord},
};

const EXAMPLES: &str = "\
Examples:
  mgctl stats
  mgctl stats --namespace team-a --output json | jq .namespaces[0].memories";

/// Show what is stored, in all namespaces or in the one named, and where the node stands
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    recency: Recency,
}

#[derive(Serialize)]
struct Document {
    position: PositionRecord,
    index_position: u64,
    state_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<String>,
    namespaces: Vec<Namespace>,
    node_id: String,
    server_version: String,
    model: String,
    disk_full: bool,
}

#[derive(Serialize)]
struct Namespace {
    namespace: String,
    memories: u64,
    archived: u64,
    by_domain: BTreeMap<String, u64>,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let freshness = args.recency.freshness();
    let namespace = global.named_namespace();
    let stats = client.stats_as_of(namespace, freshness).await?;
    if output.is_json() {
        output.json(&document(stats))?;
        return Ok(());
    }
    let behind = stats.position.index.saturating_sub(stats.index_position);
    let index = match behind {
        0 => "up to date".to_owned(),
        1 => "1 entry behind".to_owned(),
        entries => format!("{entries} entries behind"),
    };
    // A log without an entry has no time, or that of the epoch.
    let clock = stats.clock.filter(|at| at.0 > 0).map_or_else(
        || "not started".to_owned(),
        |at| format!("{} ({})", time::format(at), time::relative(at, output.now)),
    );
    let disk = if stats.disk_full {
        "nearly full: writes are refused"
    } else {
        "has room"
    };
    for (name, value) in [
        ("node", stats.node_id),
        ("version", stats.server_version),
        ("position", stats.position.to_string()),
        ("index", index),
        ("log time", clock),
        ("state hash", stats.state_hash),
        ("model", stats.model),
        ("disk", disk.to_owned()),
    ] {
        let name = output.style.dim(&format!("{name:<10}"));
        output.line(&format!("{name} {value}"))?;
    }
    output.line("")?;
    if stats.namespaces.is_empty() {
        output.line("no memories")?;
    }
    for namespace in stats.namespaces {
        let (name, memories) = (namespace.namespace, namespace.memories);
        let noun = if memories == 1 { "memory" } else { "memories" };
        let archived = match namespace.archived {
            0 => String::new(),
            count => format!(", {count} archived"),
        };
        let line = format!("{name}: {memories} {noun}{archived}");
        output.line(&output.style.bold(&line))?;
        for (domain, count) in namespace.by_domain {
            output.line(&format!("  {count:>8}  {domain}"))?;
        }
    }
    Ok(())
}

fn document(stats: Stats) -> Document {
    let namespaces = stats.namespaces.into_iter().map(|n| Namespace {
        namespace: n.namespace,
        memories: n.memories,
        archived: n.archived,
        by_domain: n.by_domain,
    });
    Document {
        position: stats.position.into(),
        index_position: stats.index_position,
        state_hash: stats.state_hash,
        clock: stats.clock.map(time::format),
        namespaces: namespaces.collect(),
        node_id: stats.node_id,
        server_version: stats.server_version,
        model: stats.model,
        disk_full: stats.disk_full,
    }
}
