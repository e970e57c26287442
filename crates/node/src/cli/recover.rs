//! `memorygate recover`: makes a cluster of one out of what one stopped member holds, after a majority
//! of its cluster was lost.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use memorygate_raft::recover::{Plan, RecoverError, force_new_cluster, plan};

use super::print;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Says that the other members are gone for good.
    #[arg(long, required = true)]
    force_new_cluster: bool,
    /// Does it; without, nothing is changed and it is only said what would happen.
    #[arg(long)]
    yes: bool,
    /// The data directory of the member to keep: of those that are left, the one whose log is the
    /// longest.
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let plan = plan(&arguments.dir).context("look at the data directory")?;
    if plan.is_alone() {
        return print(&format!(
            "node {:x} is the only voter of cluster {} already: nothing to do, start it\n",
            plan.identity.node_id, plan.identity.cluster_id
        ));
    }
    print(&describe(&plan))?;
    if !arguments.yes {
        bail!("nothing was changed: copy the directory, then repeat this with --yes");
    }
    let identity = match force_new_cluster(&arguments.dir) {
        Err(error @ RecoverError::Open(_)) => {
            return Err(error).context("recover; repeat this to go on");
        }
        result => result.context("recover")?,
    };
    print(&format!(
        "node {:x} is the only member of the new cluster {}\n\
         next: start it with `memorygate serve` (and its new id, if expected_cluster_id is set), \
         then empty the data directories of the others and add them with `mgctl member add`\n",
        identity.node_id, identity.cluster_id
    ))
}

fn describe(plan: &Plan) -> String {
    let Plan {
        identity,
        members,
        last_log,
        committed,
        applied,
        is_begun,
    } = plan;
    let mut text = format!(
        "cluster      {}\nthis node    {:x}\n",
        identity.cluster_id, identity.node_id
    );
    for member in members {
        let role = if member.is_voter { "voter" } else { "learner" };
        let peer = &member.peer;
        let fate = if peer.node_id == identity.node_id {
            "kept"
        } else {
            "left behind"
        };
        text += &format!(
            "member       {:x} at {} ({role}): {fate}\n",
            peer.node_id, peer.address
        );
    }
    text += &format!(
        "log          through {last_log}, all of it is kept\ncommitted    through {committed} at \
         least, by what this node has heard\nstate        through {applied}\n"
    );
    text += "may be lost  what the others acknowledged after the end of this log\n\
             may appear   writes without an answer, which are in this log and were on no majority\n\
             afterwards   the cluster has a new id: members with the old data are refused, and so \
             are positions that clients remember\n";
    if *is_begun {
        text += "unfinished   an earlier recovery broke off; it is gone on with\n";
    }
    text
}
