//! `mgctl export`: write memories as JSON Lines, in a form that `mgctl import` reads.
//!
//! A file is written beside its name and renamed when it is whole. How far it came stands beside
//! that, so an export that was interrupted goes on at the page where it stopped.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use memorygate_client::{Client, Kind, List, record::MemoryRecord};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    args::{FilterArgs, Global},
    durable,
    output::Output,
};

/// Memories on one page.
const PAGE_SIZE: usize = 500;

const ATTEMPTS_MAX: u32 = 10;

/// Version of the progress file.
const FORMAT: u32 = 1;

const EXAMPLES: &str = "\
Without --agent and --team, memories of every scope are exported.
An import of the file gives memories with the same keys. What callers may not set is in the file for
information only: versions, counts and feedback start anew. A vector that a caller supplied is not
exported; the importing cluster's model embeds the text. What is in the archive is left out unless
--archived says otherwise, and an import takes it out of the archive.

Examples:
  mgctl export backup.jsonl
  mgctl export - --namespace team-a -d deployment | gzip > deployment.jsonl.gz
  mgctl export recent.jsonl --since 7d";

/// Write memories to a file as JSON Lines
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file; `-` writes to standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    /// To standard output: go on where an earlier export ended
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
    /// Begin with the first memory, whatever an earlier run left
    #[arg(long)]
    restart: bool,
}

#[derive(Serialize)]
struct Document {
    memories: u64,
    bytes: u64,
    resumed_after: u64,
}

/// How far an export to a file has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    format: u32,
    /// SHA-256 over what was asked for.
    question: String,
    page_token: String,
    memories: u64,
    bytes: u64,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global
        .client_with(ATTEMPTS_MAX)?
        .reading_as(global.reader_or_operator());
    let list = List::new()
        .filter(args.filter.filter())
        .page_size(PAGE_SIZE);
    if args.file.as_os_str() == "-" {
        let list = list.page_token(args.page_token.unwrap_or_default());
        return to_stdout(&client, list, output).await;
    }
    let mut export = Export::open(&args.file, question(global, &list), args.restart)?;
    let resumed_after = export.progress.memories;
    match export.fill(&client, &list).await {
        // The place where it stopped is of no use any more, such as after a restore.
        Err(error) if resumed_after > 0 && is_refused(&error) => {
            output.note("cannot go on where the last export stopped: beginning anew");
            export = Export::open(&args.file, question(global, &list), true)?;
            export.fill(&client, &list).await?;
        }
        filled => filled?,
    }
    let (memories, bytes) = (export.progress.memories, export.progress.bytes);
    export.finish()?;
    if output.is_json() {
        output.json(&Document {
            memories,
            bytes,
            resumed_after,
        })?;
    } else {
        let name = args.file.display();
        output.line(&format!("{memories} memories, {bytes} bytes in {name}"))?;
    }
    Ok(())
}

async fn to_stdout(client: &Client, mut list: List, output: &Output) -> anyhow::Result<()> {
    loop {
        let page = client.list_page(&list).await.with_context(|| {
            let token = &list.page_token;
            if token.is_empty() {
                "export".to_owned()
            } else {
                format!("export (go on with --page-token {token})")
            }
        })?;
        for memory in &page.memories {
            output.json(&MemoryRecord::from(memory))?;
        }
        match page.next {
            Some(token) => list = list.page_token(token),
            None => return Ok(()),
        }
    }
}

/// A file that is being written.
struct Export {
    target: PathBuf,
    partial: PathBuf,
    progress_file: PathBuf,
    file: File,
    progress: Progress,
}

impl Export {
    fn open(target: &Path, question: String, restart: bool) -> anyhow::Result<Self> {
        let partial = durable::beside(target, "partial");
        let progress_file = durable::beside(target, "progress");
        let fresh = Progress {
            format: FORMAT,
            question,
            page_token: String::new(),
            memories: 0,
            bytes: 0,
        };
        let left = durable::read(&progress_file)
            .with_context(|| format!("read {}", progress_file.display()))?
            .and_then(|bytes| serde_json::from_slice::<Progress>(&bytes).ok())
            .filter(|left| !restart && left.format == FORMAT && left.question == fresh.question);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&partial)
            .with_context(|| format!("open {}", partial.display()))?;
        let length = file.metadata().context("look at the partial file")?.len();
        let progress = left.filter(|left| left.bytes <= length).unwrap_or(fresh);
        // What was written after the last page that is on record is written again.
        file.set_len(progress.bytes)
            .and_then(|()| file.seek(io::SeekFrom::Start(progress.bytes)))
            .with_context(|| format!("prepare {}", partial.display()))?;
        Ok(Self {
            target: target.to_owned(),
            partial,
            progress_file,
            file,
            progress,
        })
    }

    async fn fill(&mut self, client: &Client, list: &List) -> anyhow::Result<()> {
        loop {
            let list = list.clone().page_token(self.progress.page_token.clone());
            let page = client.list_page(&list).await.with_context(|| {
                let memories = self.progress.memories;
                format!("after {memories} memories (start the same export again: it goes on there)")
            })?;
            let mut bytes = Vec::new();
            for memory in &page.memories {
                serde_json::to_writer(&mut bytes, &MemoryRecord::from(memory))?;
                bytes.push(b'\n');
            }
            let shown = self.partial.display();
            self.file
                .write_all(&bytes)
                .and_then(|()| self.file.sync_data())
                .with_context(|| format!("write {shown}"))?;
            self.progress.memories += page.memories.len() as u64;
            self.progress.bytes += bytes.len() as u64;
            let Some(token) = page.next else {
                return Ok(());
            };
            self.progress.page_token = token;
            let progress = serde_json::to_vec(&self.progress)?;
            durable::replace(&self.progress_file, &progress)
                .with_context(|| format!("write {}", self.progress_file.display()))?;
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        let shown = self.target.display();
        durable::rename(&self.partial, &self.target).with_context(|| format!("finish {shown}"))?;
        durable::remove(&self.progress_file)
            .with_context(|| format!("remove {}", self.progress_file.display()))?;
        Ok(())
    }
}

/// Stands for everything that decides what is exported.
fn question(global: &Global, list: &List) -> String {
    let asked = format!(
        "{:?} {:?} {:?} {:?}",
        global.endpoint,
        global.namespace_or_default(),
        global.reader_or_operator(),
        list.filter,
    );
    let digest = Sha256::digest(asked.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_refused(error: &anyhow::Error) -> bool {
    let refused = |e: &memorygate_client::Error| matches!(e.kind(), Kind::Fix | Kind::Restore);
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<memorygate_client::Error>())
        .is_some_and(refused)
}
