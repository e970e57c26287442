//! `memorygate check`: reads everything in a data directory that no server uses, and verifies it.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use memorygate_raft::check::{Report, check};

use super::print;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The data directory.
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = check(&arguments.dir).context("check data directory")?;
    let Report {
        position,
        digest,
        rows,
        log_entries,
        snapshots,
        ..
    } = &report;
    print(&format!(
        "position     {position}\nstate hash   {digest}\nrows         {rows}\nlog entries  \
         {log_entries}\nsnapshots    {snapshots}\n"
    ))?;
    for finding in &report.damage {
        print(&format!("damage       {finding}\n"))?;
    }
    match report.damage.len() {
        0 => print("no damage was found\n"),
        count => bail!(
            "{count} findings: restore the node from a snapshot, or empty its data directory and \
             let it join as a new member"
        ),
    }
}
