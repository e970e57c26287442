//! `memorygate-jepsen`: the command line.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]
#![allow(clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use memorygate_jepsen::{
    nemesis::Nemesis,
    planted,
    run::{self, Load, Options, Verdict},
    soak,
};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(
    name = "memorygate-jepsen",
    version,
    about = "Breaks a cluster of real processes and checks what it says"
)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a workload under faults. The last line is one JSON object; exit code 0 means valid.
    #[command(after_help = "Examples:\n  \
        memorygate-jepsen run --workload set --nemesis kill-one,pause --time 60\n  \
        memorygate-jepsen run --workload register --nemesis mix --time 600 --nodes 5 --seed 7\n  \
        memorygate-jepsen run --workload consolidation --nemesis kill-one,leader-alone --time 60")]
    Run(Options),
    /// Checks that the harness catches bugs that a server has on purpose.
    #[command(after_help = "Example:\n  \
        cargo build --release --workspace --features memorygate-node/planted-bugs\n  \
        memorygate-jepsen planted --server target/release/memorygate")]
    Planted(planted::Settings),
    /// Runs every workload under every nemesis alone and under all of them mixed; prints a table.
    #[command(after_help = "Example:\n  memorygate-jepsen soak --minutes 10")]
    Soak(soak::Settings),
    /// Lists workloads and nemeses.
    List,
}

fn main() -> ExitCode {
    match act(CommandLine::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(line: CommandLine) -> anyhow::Result<ExitCode> {
    match line.verb {
        Verb::List => {
            list();
            Ok(ExitCode::SUCCESS)
        }
        Verb::Planted(settings) => {
            let summary = interruptible(planted::run(&settings))?;
            println!("{}", serde_json::to_string(&summary)?);
            Ok(code(summary.is_good()))
        }
        Verb::Soak(settings) => {
            let summary = interruptible(soak::run(&settings))?;
            println!("{}", serde_json::to_string(&summary)?);
            Ok(code(summary.is_good()))
        }
        Verb::Run(options) => {
            let verdict = interruptible(run::run(&options))?;
            print(&verdict)?;
            Ok(code(verdict.valid))
        }
    }
}

fn code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs until done or asked to stop; what was made is removed in either case.
fn interruptible<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("start threads")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
        tokio::select! {
            done = work => done,
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

fn print(verdict: &Verdict) -> anyhow::Result<()> {
    for reason in &verdict.reasons {
        eprintln!("wrong: {reason}");
    }
    eprintln!("report: {}/report.md", verdict.output);
    println!("{}", serde_json::to_string(verdict)?);
    Ok(())
}

fn list() {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    table.set_header(["workload", "shows"]);
    for load in Load::all() {
        table.add_row([load.name(), load.about()]);
    }
    println!("{table}");
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    table.set_header(["nemesis", "does"]);
    for nemesis in Nemesis::all() {
        table.add_row([nemesis.name(), nemesis.about().to_owned()]);
    }
    table.add_row([
        "mix".to_owned(),
        "all of these that the machine allows, at random".to_owned(),
    ]);
    println!("{table}");
}
