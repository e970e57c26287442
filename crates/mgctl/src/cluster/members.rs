//! `mgctl cluster members`: who belongs to a cluster, as one node knows it.

use comfy_table::Cell;
use memorygate_client::cluster::{Member, Members};
use serde::Serialize;

use crate::{args::Global, output::Output, style, which};

const EXAMPLES: &str = "\
Examples:
  mgctl cluster members
  mgctl cluster members --output json | jq -r '.members[] | select(.is_leader).client_address'";

/// Show who belongs to the cluster, as the node that answers knows it
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

#[derive(Serialize)]
struct Document<'a> {
    cluster_id: String,
    term: u64,
    answered_by: &'a str,
    members: Vec<MemberRecord<'a>>,
}

/// A member as JSON.
#[derive(Serialize)]
pub(super) struct MemberRecord<'a> {
    node_id: &'a str,
    peer_address: &'a str,
    client_address: &'a str,
    is_voter: bool,
    is_leader: bool,
    is_draining: bool,
}

impl<'a> From<&'a Member> for MemberRecord<'a> {
    fn from(member: &'a Member) -> Self {
        Self {
            node_id: &member.node_id,
            peer_address: &member.peer_address,
            client_address: &member.client_address,
            is_voter: member.is_voter,
            is_leader: member.is_leader,
            is_draining: member.is_draining,
        }
    }
}

pub(super) async fn run(_args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let members = which::members(&global.client()?).await?;
    show(&members, output)
}

/// Shows the members, also after a change of them.
pub(crate) fn show(members: &Members, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&Document {
            cluster_id: format!("{:032x}", members.cluster_id),
            term: members.term,
            answered_by: &members.node_id,
            members: members.members.iter().map(MemberRecord::from).collect(),
        })?;
        return Ok(());
    }
    let rows = members.members.iter().map(|m| {
        let role = match (m.is_leader, m.is_voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let state = if m.is_draining { "draining" } else { "-" };
        let address = |a: &str| match a {
            "" => "-".to_owned(),
            a => style::one_line(a, 60),
        };
        let cells = [
            style::one_line(&m.node_id, 20),
            role.to_owned(),
            state.to_owned(),
            address(&m.peer_address),
            address(&m.client_address),
        ];
        cells.into_iter().map(Cell::new).collect()
    });
    let head = ["MEMBER", "ROLE", "STATE", "PEER ADDRESS", "CLIENT ADDRESS"];
    output.table(&head, rows.collect())?;
    output.line("")?;
    output.line(&format!(
        "{} of cluster {:032x} in term {}, as {} knows them",
        style::count(members.members.len() as u64, "member"),
        members.cluster_id,
        members.term,
        style::one_line(&members.node_id, 20),
    ))?;
    Ok(())
}
