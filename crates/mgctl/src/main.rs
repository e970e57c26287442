//! `mgctl`: what an operator or a shell script does with MemoryGate, over the public API alone.
//!
//! ```text
//! args ──▶ one file for each verb ──▶ Output (text that reads well, or JSON) ──▶ exit code
//! ```
//!
//! Every verb is a function of its own arguments, a client and an output. How a failure is told, and
//! with which exit code, is decided in `failure.rs` alone.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

mod agent;
mod alarm;
mod args;
mod cluster;
mod completions;
mod conflicts;
mod consolidate;
mod drain;
mod durable;
mod export;
mod failure;
mod feedback;
mod forget;
mod get;
mod history;
mod import;
mod leader;
mod learn;
mod link;
mod list;
mod mcp;
mod member;
mod output;
mod recall;
mod restore;
mod server_binary;
mod share;
mod snapshot;
mod stats;
mod style;
mod trust;
mod update;
mod which;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::{
    args::{Args, Verb},
    output::Output,
};

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::to_terminal(args.global.output);
    match run(args, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, &output),
    }
}

fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(dispatch(args, output))
}

async fn dispatch(args: Args, output: &Output) -> anyhow::Result<()> {
    let global = &args.global;
    let takes_several = matches!(args.verb, Verb::Recall(_) | Verb::Mcp(_));
    if let ([_, _, ..], false) = (&*global.namespace, takes_several) {
        let why = "name one namespace: only `recall` and `mcp` take several";
        return Err(failure::Usage(why.to_owned()).into());
    }
    match args.verb {
        Verb::Learn(verb) => learn::run(verb, global, output).await,
        Verb::Recall(verb) => recall::run(verb, global, output).await,
        Verb::Get(verb) => get::run(verb, global, output).await,
        Verb::History(verb) => Box::pin(history::run(verb, global, output)).await,
        Verb::List(verb) => list::run(verb, global, output).await,
        Verb::Update(verb) => update::run(verb, global, output).await,
        Verb::Feedback(verb) => feedback::run(verb, global, output).await,
        Verb::Forget(verb) => forget::run(verb, global, output).await,
        Verb::Link(verb) => link::run(verb, global, output).await,
        Verb::Share(verb) => share::run(verb, global, output).await,
        Verb::Restore(verb) => restore::run(verb, global, output).await,
        Verb::Stats(verb) => stats::run(verb, global, output).await,
        Verb::Import(verb) => Box::pin(import::run(verb, global, output)).await,
        Verb::Export(verb) => Box::pin(export::run(verb, global, output)).await,
        Verb::Consolidate(verb) => Box::pin(consolidate::run(verb, global, output)).await,
        Verb::Conflicts(verb) => Box::pin(conflicts::run(verb, global, output)).await,
        Verb::Trust(verb) => trust::run(verb, global, output).await,
        Verb::Cluster(verb) => Box::pin(cluster::run(verb, global, output)).await,
        Verb::Member(verb) => member::run(verb, global, output).await,
        Verb::Leader(verb) => leader::run(verb, global, output).await,
        Verb::Drain(verb) => drain::run(verb, global, output).await,
        Verb::Alarm(verb) => alarm::run(verb, global, output).await,
        Verb::Snapshot(verb) => Box::pin(snapshot::run(verb, global, output)).await,
        Verb::Agent(verb) => Box::pin(agent::run(verb, global, output)).await,
        Verb::Mcp(verb) => Box::pin(mcp::run(verb, global, output)).await,
        Verb::Completions(verb) => completions::run(verb, output),
    }
}
