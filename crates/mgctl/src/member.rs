//! `mgctl member`: who belongs to a cluster, and who votes.

use std::io::IsTerminal as _;

use clap::Subcommand;
use memorygate_client::cluster::{Change, Members};

use crate::{
    args::Global,
    cluster,
    failure::{Operation, Usage},
    output::Output,
    which,
};

const EXAMPLES: &str = "\
A member is named by its node id, a beginning of it that no other has, or one of its addresses.

Examples:
  mgctl member add node-4.example:7413
  mgctl member promote 9f3c
  mgctl member demote node-2.example:7413
  mgctl member remove 9f3c
  mgctl member replace 9f3c node-5.example:7413";

/// Add, promote, demote, remove or replace a member
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Let a node that waits to be added follow, as a learner
    #[command(after_help = "\
The node has been started with an empty data directory and --peers that name a member.

Examples:
  mgctl member add node-4.example:7413")]
    Add {
        /// HOST:PORT where it listens to members
        address: String,
    },
    /// Give a learner that has caught up a vote
    #[command(after_help = "Examples:\n  mgctl member promote 9f3c")]
    Promote {
        #[arg(value_name = "MEMBER")]
        member: String,
    },
    /// Take a voter's vote: it becomes a learner
    #[command(after_help = "Examples:\n  mgctl member demote 9f3c")]
    Demote {
        #[arg(value_name = "MEMBER")]
        member: String,
    },
    /// Remove a member for good: it can only come back with an empty data directory
    #[command(after_help = "Examples:\n  mgctl member remove 9f3c --yes")]
    Remove {
        #[arg(value_name = "MEMBER")]
        member: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// Put a node that waits to be added in the place of a member that is gone
    #[command(after_help = "\
The address may be that of the old member, if the new node has taken it.

Examples:
  mgctl member replace 9f3c node-5.example:7413 --yes")]
    Replace {
        /// The member that is gone
        #[arg(value_name = "OLD")]
        old: String,
        /// HOST:PORT where the new node listens to members
        address: String,
        #[command(flatten)]
        consent: Consent,
    },
}

/// For what cannot be taken back.
#[derive(clap::Args)]
struct Consent {
    /// Do it without being asked again (a script is not asked)
    #[arg(long, short)]
    yes: bool,
}

impl Consent {
    /// Refuses what a person did not say twice.
    fn check(&self, what: &str, is_person: bool) -> Result<(), Usage> {
        if self.yes || !is_person {
            return Ok(());
        }
        Err(Usage(format!("this would {what}; say --yes if it should")))
    }
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let is_person = std::io::stdin().is_terminal();
    let known = which::members(&client).await?;
    let find = |name: &str| which::find(&known, name);
    let (change, doing, done) = match &args.verb {
        Verb::Add { address } => (
            Change::Add {
                peer_address: address.clone(),
            },
            format!("add {address}"),
            format!(
                "added {address} as a learner; give it a vote once it has caught up: mgctl member \
                 promote {address}"
            ),
        ),
        Verb::Promote { member } => {
            let member = find(member)?;
            let told = which::told(member);
            let node_id = member.node_id.clone();
            let done = format!("{told} votes");
            (Change::Promote { node_id }, format!("promote {told}"), done)
        }
        Verb::Demote { member } => {
            let member = find(member)?;
            let told = which::told(member);
            let node_id = member.node_id.clone();
            let done = format!("{told} is a learner");
            (Change::Demote { node_id }, format!("demote {told}"), done)
        }
        Verb::Remove { member, consent } => {
            let member = find(member)?;
            let told = which::told(member);
            let doing = format!("remove {told}");
            consent.check(&format!("{doing} for good"), is_person)?;
            let node_id = member.node_id.clone();
            let done = format!("removed {told}; it can be stopped");
            (Change::Remove { node_id }, doing, done)
        }
        Verb::Replace {
            old,
            address,
            consent,
        } => {
            let member = find(old)?;
            let told = which::told(member);
            let doing = format!("replace {told} by {address}");
            consent.check(&format!("{doing} for good"), is_person)?;
            let change = Change::Replace {
                old_node_id: member.node_id.clone(),
                peer_address: address.clone(),
            };
            (change, doing, format!("replaced {told} by {address}"))
        }
    };
    let changed = client.cluster().change_member(&change).await;
    let members: Members = changed.map_err(|error| {
        anyhow::Error::new(error).context(Operation {
            doing,
            look: which::LOOK,
        })
    })?;
    if !output.is_json() {
        output.line(&done)?;
        output.line("")?;
    }
    cluster::show_members(&members, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_says_twice_what_cannot_be_taken_back() {
        let check = |yes, is_person| Consent { yes }.check("remove a1 for good", is_person);
        assert!(check(true, true).is_ok());
        assert!(check(false, false).is_ok());
        let refused = check(false, true).unwrap_err().to_string();
        assert_eq!(
            refused,
            "this would remove a1 for good; say --yes if it should"
        );
    }
}
