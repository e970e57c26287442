//! `mgctl leader`: who leads a cluster.

use clap::Subcommand;
use serde::Serialize;

use crate::{args::Global, failure::Operation, output::Output, which};

const EXAMPLES: &str = "\
Examples:
  mgctl leader transfer
  mgctl leader transfer 9f3c";

/// Have another member lead
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Hand leadership to a voter
    #[command(after_help = EXAMPLES)]
    Transfer {
        /// The voter that takes over; the one that is furthest if none is named
        #[arg(value_name = "MEMBER")]
        to: Option<String>,
    },
}

#[derive(Serialize)]
struct Document<'a> {
    leader: &'a str,
    term: u64,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let Verb::Transfer { to } = args.verb;
    let client = global.client()?;
    let members = which::members(&client).await?;
    let to = to.map(|name| which::find(&members, &name)).transpose()?;
    let transferred = client
        .cluster()
        .transfer_leader(to.map(|m| m.node_id.as_str()))
        .await;
    let leadership = transferred.map_err(|error| {
        anyhow::Error::new(error).context(Operation {
            doing: to.map_or_else(
                || "hand over leadership".to_owned(),
                |m| format!("hand leadership to {}", which::told(m)),
            ),
            look: which::LOOK,
        })
    })?;
    let (leader, term) = (leadership.leader.as_str(), leadership.term);
    if output.is_json() {
        output.json(&Document { leader, term })?;
        return Ok(());
    }
    let member = members.members.iter().find(|m| m.node_id == leader);
    let told = member.map_or_else(|| leader.to_owned(), which::told);
    output.line(&format!("{told} leads in term {term}"))?;
    Ok(())
}
