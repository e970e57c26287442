//! `mgctl consolidate`: what becomes of memories in the background, and how an operator steers it.

mod history;
mod plan;
mod policy;
mod run;
mod status;
mod undo;

use clap::Subcommand;
use memorygate_client::{Error, consolidation::Reach};

use crate::{args::Global, failure::Operation, output::Output};

const EXAMPLES: &str = "\
Near-duplicates are merged, what is of little worth and long unused fades into the archive, contradictions are
noted for someone to decide (`mgctl conflicts`), and links are mended. The leader does so in the background;
nothing is lost, and each epoch can be undone for 90 days.

Examples:
  mgctl consolidate plan
  mgctl consolidate run
  mgctl consolidate history --steps
  mgctl consolidate undo 48213
  mgctl consolidate pause --namespace team-a
  mgctl consolidate policy set --fade-below 0.02 --keep-days 180";

/// Merge near-duplicates, let fade what nobody needs, and undo it
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Plan(plan::Args),
    Run(run::Args),
    Status(status::Args),
    History(history::Args),
    Undo(undo::Args),
    /// Leave a namespace as it is until `resume`
    #[command(after_help = "Examples:\n  mgctl consolidate pause --namespace team-a")]
    Pause(policy::Pause),
    /// Consolidate a namespace again
    #[command(after_help = "Examples:\n  mgctl consolidate resume --namespace team-a")]
    Resume(policy::Pause),
    Policy(policy::Args),
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    match args.verb {
        Verb::Plan(verb) => plan::run(verb, global, output).await,
        Verb::Run(verb) => run::run(verb, global, output).await,
        Verb::Status(verb) => status::run(verb, global, output).await,
        Verb::History(verb) => history::run(verb, global, output).await,
        Verb::Undo(verb) => undo::run(verb, global, output).await,
        Verb::Pause(verb) => policy::pause(verb, true, global, output).await,
        Verb::Resume(verb) => policy::pause(verb, false, global, output).await,
        Verb::Policy(verb) => policy::run(verb, global, output).await,
    }
}

/// Which memories a plan or a pass looks at. For these two it takes the place of the global flag of
/// this name: they see every scope anyway.
#[derive(clap::Args)]
struct Breadth {
    /// Look at all memories, and not only at those learned since the last pass
    #[arg(long)]
    everything: bool,
}

impl Breadth {
    fn reach(&self) -> Reach {
        if self.everything {
            Reach::Everything
        } else {
            Reach::New
        }
    }
}

fn operation(doing: impl Into<String>, look: &'static str) -> impl FnOnce(Error) -> anyhow::Error {
    let doing = doing.into();
    move |error| anyhow::Error::new(error).context(Operation { doing, look })
}

fn memories(count: u64) -> String {
    match count {
        1 => "1 memory".to_owned(),
        count => format!("{count} memories"),
    }
}
