//! `mgctl snapshot`: the whole state of a cluster as one file.

mod file;
mod save;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use comfy_table::{Cell, CellAlignment};
use memorygate_client::{
    Error,
    cluster::{CreatedSnapshot, Snapshot},
    time,
};
use serde::Serialize;

use crate::{
    args::Global,
    failure::{NotWell, Operation},
    output::{Output, PositionRecord},
    server_binary::{self, ServerBinary},
    style,
};

/// Where to look for snapshots.
const LOOK: &str = "mgctl snapshot list";

const EXAMPLES: &str = "\
Examples:
  mgctl snapshot create
  mgctl snapshot list
  mgctl snapshot save --to monday.snapshot
  mgctl snapshot verify monday.snapshot
  mgctl snapshot restore monday.snapshot --data-dir /var/lib/memorygate";

/// Make, fetch, check and restore snapshots of the whole state
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Have a node write a snapshot to its backup store
    #[command(after_help = "Examples:\n  mgctl snapshot create --timeout 1h")]
    Create,
    /// Show the snapshots in a node's backup store, newest first
    #[command(
        after_help = "Examples:\n  mgctl snapshot list --output json | jq -r '.snapshots[0].name'"
    )]
    List,
    Save(save::Args),
    /// Check every digest of a snapshot: of a file here, or of one in a node's backup store
    #[command(after_help = "\
A file that is here is read by `memorygate snapshot verify` if that is found, else against the digest of the
whole file. So is s3://BUCKET/KEY, with the AWS_… variables of the environment here, if it is found.

Examples:
  mgctl snapshot verify monday.snapshot
  mgctl snapshot verify \"$(mgctl snapshot list -o json | jq -r '.snapshots[0].name')\"")]
    Verify {
        /// A file here, the name of a snapshot in the backup store, or s3://BUCKET/KEY
        #[arg(value_name = "FILE|NAME|URL")]
        snapshot: String,
        #[command(flatten)]
        server_binary: ServerBinary,
    },
    /// Make a data directory, and with it a new cluster, from a snapshot file
    #[command(after_help = "\
This runs `memorygate restore` here. For three nodes, restore on one of them and start all three with the
same --peers, the other two with empty data directories.

Examples:
  mgctl snapshot restore monday.snapshot --data-dir /var/lib/memorygate")]
    Restore {
        /// The snapshot file, or s3://BUCKET/KEY of one in an object store
        #[arg(value_name = "FILE|URL")]
        file: PathBuf,
        /// An empty directory, or one that is not there yet
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Refuse a snapshot that is not of this cluster
        #[arg(long, value_name = "ID")]
        cluster_id: Option<String>,
        #[command(flatten)]
        server_binary: ServerBinary,
    },
}

#[derive(Serialize)]
struct SnapshotRecord<'a> {
    name: &'a str,
    position: PositionRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    bytes: u64,
    state_hash: &'a str,
    memories: u64,
}

impl<'a> From<&'a Snapshot> for SnapshotRecord<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        Self {
            name: &snapshot.name,
            position: snapshot.position.into(),
            created_at: snapshot.created_at.map(time::format),
            bytes: snapshot.bytes,
            state_hash: &snapshot.state_hash,
            memories: snapshot.memories,
        }
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    store: &'a str,
    snapshots: Vec<SnapshotRecord<'a>>,
}

#[derive(Serialize)]
struct Created<'a> {
    store: &'a str,
    snapshot: SnapshotRecord<'a>,
}

#[derive(Serialize)]
struct Verified<'a> {
    verified: bool,
    snapshot: SnapshotRecord<'a>,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    match args.verb {
        Verb::Create => create(global, output).await,
        Verb::List => list(global, output).await,
        Verb::Save(verb) => save::run(verb, global, output).await,
        Verb::Verify {
            snapshot,
            server_binary,
        } if Path::new(&snapshot).is_file() => {
            verify_file(Path::new(&snapshot), &server_binary, output)
        }
        Verb::Verify {
            snapshot,
            server_binary,
        } if snapshot.starts_with("s3://") => {
            let found = server_binary.find().ok_or(server_binary::Missing)?;
            let arguments = ["snapshot".into(), "verify".into(), snapshot.into()];
            finish(server_binary::run(&found, &arguments, output)?)
        }
        Verb::Verify { snapshot, .. } => verify_stored(&snapshot, global, output).await,
        Verb::Restore {
            file,
            data_dir,
            cluster_id,
            server_binary,
        } => {
            let mut arguments = vec!["restore".into(), "--from".into(), file.into_os_string()];
            arguments.extend(["--data-dir".into(), data_dir.into_os_string()]);
            if let Some(id) = cluster_id {
                arguments.extend(["--cluster-id".into(), id.into()]);
            }
            let found = server_binary.find().ok_or(server_binary::Missing)?;
            finish(server_binary::run(&found, &arguments, output)?)
        }
    }
}

fn operation(doing: impl Into<String>) -> impl FnOnce(Error) -> anyhow::Error {
    let doing = doing.into();
    move |error| anyhow::Error::new(error).context(Operation { doing, look: LOOK })
}

fn finish(is_success: bool) -> anyhow::Result<()> {
    // The program that ran has said why.
    if is_success {
        Ok(())
    } else {
        Err(NotWell.into())
    }
}

async fn create(global: &Global, output: &Output) -> anyhow::Result<()> {
    let created = global.patient_client()?.cluster().create_snapshot().await;
    let CreatedSnapshot { snapshot, store } = created.map_err(operation("make a snapshot"))?;
    if output.is_json() {
        output.json(&Created {
            store: &store,
            snapshot: (&snapshot).into(),
        })?;
        return Ok(());
    }
    output.line(&format!(
        "{} in {}",
        told(&snapshot),
        style::printable(&store)
    ))?;
    Ok(())
}

async fn list(global: &Global, output: &Output) -> anyhow::Result<()> {
    let listed = global.client()?.cluster().list_snapshots().await;
    let listed = listed.map_err(operation("list the snapshots"))?;
    if output.is_json() {
        output.json(&Listed {
            store: &listed.store,
            snapshots: listed.snapshots.iter().map(SnapshotRecord::from).collect(),
        })?;
        return Ok(());
    }
    let store = style::printable(&listed.store);
    if listed.snapshots.is_empty() {
        output.line(&format!(
            "no snapshots in {store}: make one with `mgctl snapshot create`"
        ))?;
        return Ok(());
    }
    let rows = listed.snapshots.iter().map(|s| {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let made = s.created_at.map_or_else(
            || "-".to_owned(),
            |at| format!("{} ({})", time::format(at), time::relative(at, output.now)),
        );
        vec![
            Cell::new(style::one_line(&s.name, 80)),
            number(s.position.index.to_string()),
            number(s.memories.to_string()),
            number(style::bytes(s.bytes)),
            Cell::new(made),
        ]
    });
    output.table(
        &["NAME", "POSITION", "MEMORIES", "SIZE", "MADE"],
        rows.collect(),
    )?;
    output.line("")?;
    let count = style::count(listed.snapshots.len() as u64, "snapshot");
    output.line(&format!("{count} in {store}"))?;
    Ok(())
}

async fn verify_stored(name: &str, global: &Global, output: &Output) -> anyhow::Result<()> {
    let verified = global
        .patient_client()?
        .cluster()
        .verify_snapshot(name)
        .await;
    let doing = format!("check {name} (no such file here; looked for in the backup store)");
    let snapshot = verified.map_err(operation(doing))?;
    if output.is_json() {
        output.json(&Verified {
            verified: true,
            snapshot: (&snapshot).into(),
        })?;
    } else {
        output.line(&format!(
            "every byte is as it was written: {}",
            told(&snapshot)
        ))?;
    }
    Ok(())
}

fn verify_file(path: &Path, binary: &ServerBinary, output: &Output) -> anyhow::Result<()> {
    if let Some(found) = binary.find() {
        let arguments = ["snapshot".into(), "verify".into(), path.into()];
        return finish(server_binary::run(&found, &arguments, output)?);
    }
    let checked = file::check(path)?;
    if output.is_json() {
        output.json(&checked)?;
    } else {
        output.line(&format!(
            "{}: {} as they were written, by the digest of the whole file (its parts were not looked \
             at: there is no `memorygate` here to do it)",
            path.display(),
            style::count(checked.bytes, "byte")
        ))?;
    }
    Ok(())
}

/// A snapshot in a line.
fn told(snapshot: &Snapshot) -> String {
    format!(
        "{}: {}, {}, position {}",
        style::printable(&snapshot.name),
        style::bytes(snapshot.bytes),
        match snapshot.memories {
            1 => "1 memory".to_owned(),
            count => format!("{count} memories"),
        },
        snapshot.position.index
    )
}
