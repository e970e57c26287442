//! `mgctl cluster`: how a cluster is.

mod members;
mod status;
mod verify;

use clap::Subcommand;

use crate::{args::Global, output::Output};

pub(crate) use self::members::show as show_members;

const EXAMPLES: &str = "\
Examples:
  mgctl cluster status
  mgctl cluster members --output json
  mgctl cluster verify";

/// Show how the cluster is: its members, where they stand, whether they agree
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Status(status::Args),
    Members(members::Args),
    Verify(verify::Args),
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    match args.verb {
        Verb::Status(verb) => status::run(verb, global, output).await,
        Verb::Members(verb) => members::run(verb, global, output).await,
        Verb::Verify(verb) => verify::run(verb, global, output).await,
    }
}
