//! Measures MemoryGate: drives a real server through the public API and prints what was seen.
//!
//! | file | decides |
//! | --- | --- |
//! | `quality`, `corpus`, `latency`, `embed`, `durability` | one question each about a server |
//! | `stream` | whether an agent decides better with what it has learned |
//! | `retention`, `consolidation` | what becomes of memories in the background, and what it costs |
//! | `cluster`, `failover`, `catchup`, `forming`, `rolling`, `backup` | one question each about three of them |
//! | `server`, `nodes` | how one server, and a cluster of them, is started, stopped and killed |
//! | `contest`, `rpc` | a cluster, three servers of etcd beside it, and the same calls to both |
//! | `teach`, `retriever` | how it is filled, and by which parts of the ranking it answers |
//! | `dialogue`, `lessons`, `incidents` | what is learned and asked: from files, or made up from a seed |
//! | `statistics`, `report`, `machine` | what is computed of it, and how it is shown |
//!
//! Figures go to stdout, progress to stderr. The program exits non-zero when it could not measure
//! what it was asked for, or when what it measured must not be.

#![allow(
    clippy::print_stderr,
    reason = "a command's progress belongs on stderr"
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

mod backup;
mod catchup;
mod cluster;
mod consolidation;
mod contest;
mod corpus;
mod dialogue;
mod durability;
mod embed;
mod failover;
mod forming;
mod incidents;
mod latency;
mod lessons;
mod machine;
mod metrics;
mod nodes;
mod options;
mod progress;
mod quality;
mod report;
mod retention;
mod retriever;
mod rolling;
mod rpc;
mod server;
mod statistics;
mod stream;
mod teach;

use std::{io, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{machine::Machine, options::Options, report::Report};

/// Measures MemoryGate through its public API.
#[derive(Debug, Parser)]
#[command(name = "memorygate-bench", version)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Do questions about long dialogues bring back the turns that hold the answers?
    Quality(quality::Arguments),
    /// Do questions about the sample corpus find the right experience?
    Corpus(corpus::Arguments),
    /// How long does a recall take, how fast does a server learn and restart, how large is it?
    Latency(latency::Arguments),
    /// How fast are texts embedded, compared to onnxruntime on the same cores?
    Embed(embed::Arguments),
    /// Is everything that was acknowledged there after the server was killed?
    Durability(durability::Arguments),
    /// How fast do three nodes acknowledge writes and answer reads, compared to etcd?
    Cluster(cluster::Arguments),
    /// For how long is no write acknowledged when the leader is killed, compared to etcd?
    Failover(failover::Arguments),
    /// How soon does a node that lost its disk serve reads again, and what do others feel of it?
    Catchup(catchup::Arguments),
    /// Does exactly one cluster form, in whatever order its nodes start and are killed?
    Forming(forming::Arguments),
    /// Does anybody notice that all nodes are restarted one after another?
    Rolling(rolling::Arguments),
    /// After thirty days of consolidation, is what was learned still found?
    Retention(retention::Arguments),
    /// Does an agent decide better with what it has learned?
    Stream(stream::Arguments),
    /// What does a pass of consolidation cost as the store grows, and what do recalls feel of it?
    Consolidation(consolidation::Arguments),
    /// Is a snapshot that was saved under load whole, and the same when it is restored?
    Backup(backup::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let Cli { bench, options } = cli;
    let machine = Machine::here();
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let report = tokio::select! {
        report = measure(bench, options) => report?,
        // The server dies with what is dropped here.
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    report.print(
        &machine,
        &mut io::stdout().lock(),
        options.output.as_deref(),
    )?;
    Ok(if report.failures().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Report> {
    match bench {
        Bench::Quality(arguments) => quality::run(options, arguments).await,
        Bench::Corpus(arguments) => corpus::run(options, arguments).await,
        Bench::Latency(arguments) => latency::run(options, arguments).await,
        Bench::Embed(arguments) => embed::run(options, arguments),
        Bench::Durability(arguments) => durability::run(options, arguments).await,
        Bench::Cluster(arguments) => cluster::run(options, arguments).await,
        Bench::Failover(arguments) => failover::run(options, arguments).await,
        Bench::Catchup(arguments) => catchup::run(options, arguments).await,
        Bench::Forming(arguments) => forming::run(options, arguments).await,
        Bench::Rolling(arguments) => rolling::run(options, arguments).await,
        Bench::Retention(arguments) => retention::run(options, arguments).await,
        Bench::Stream(arguments) => stream::run(options, arguments).await,
        Bench::Consolidation(arguments) => consolidation::run(options, arguments).await,
        Bench::Backup(arguments) => backup::run(options, arguments).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_options_stand_before_or_after_the_name() {
        let seed = |arguments: &[&str]| Cli::try_parse_from(arguments).unwrap().options.seed;
        assert_eq!(seed(&["bench", "--seed", "7", "corpus"]), 7);
        assert_eq!(seed(&["bench", "corpus", "--seed", "7"]), 7);
        assert_eq!(seed(&["bench", "corpus"]), 1);
        assert!(Cli::try_parse_from(["bench", "speed"]).is_err());
    }
}
