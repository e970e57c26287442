//! `mgctl agent`: agents that do operations work with what was learned before.

mod deciding;
mod executor;
mod incident;
mod input;
mod optimise;
mod outcome;
mod review;
mod show;
mod troubleshoot;

use clap::Subcommand;

use crate::{args::Global, output::Output};

const EXAMPLES: &str = "\
Each agent recalls similar cases and their outcomes, decides by them, and says when it does not know. Run it again on
the same input with --outcome to teach it what came of it: the next similar case will cite it. Past cases decide by
themselves, or with --executor chat a language model that is shown them.

Examples:
  kubectl describe pod checkout-6d5f | mgctl agent troubleshoot -
  mgctl agent troubleshoot pod.txt --logs pod.log
  git diff main | mgctl agent review -
  kubectl top pods --containers | mgctl agent optimise deploy.yaml --metrics -
  mgctl agent incident alerts.json --handover
  mgctl agent incident alerts.json --executor chat --model llama3.1 --model-endpoint http://127.0.0.1:11434/v1
  mgctl agent troubleshoot pod.txt --outcome success --action raise-memory-limit --observed \"quiet since\"";

/// Let an agent do operations work with what was learned before
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Troubleshoot(troubleshoot::Args),
    Review(review::Args),
    Optimise(Box<optimise::Args>),
    Incident(Box<incident::Args>),
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    match args.verb {
        Verb::Review(verb) => Box::pin(review::run(verb, global, output)).await,
        Verb::Optimise(verb) => Box::pin(optimise::run(*verb, global, output)).await,
        Verb::Incident(verb) => Box::pin(incident::run(*verb, global, output)).await,
        Verb::Troubleshoot(verb) => Box::pin(troubleshoot::run(verb, global, output)).await,
    }
}
