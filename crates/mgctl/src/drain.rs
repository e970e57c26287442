//! `mgctl drain`: prepare a node to be stopped.

use std::time::Duration;

use memorygate_client::cluster::Drained;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    args::Global,
    failure::{NotWell, Operation},
    output::Output,
    which,
};

/// Between two looks at the writes that are in flight.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
A node that is drained hands over leadership, takes no new writes and answers reads. Exit code 1 if writes
are still in flight when the time to wait is over.

Examples:
  mgctl drain 9f3c --wait 30
  mgctl --endpoint http://127.0.0.1:7412 drain --wait 30
  mgctl drain 9f3c --resume";

/// Prepare a node to be stopped: it hands over leadership and takes no new writes
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The node; the one that answers if none is named
    #[arg(value_name = "MEMBER")]
    member: Option<String>,
    /// Have it take writes again
    #[arg(long, conflicts_with = "wait")]
    resume: bool,
    /// Wait until the writes that it has are answered, at most so long
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

#[derive(Serialize)]
struct Document<'a> {
    node_id: &'a str,
    is_draining: bool,
    writes_in_flight: u64,
    leader: Option<&'a str>,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let members = which::members(&client).await?;
    let member = which::find(&members, args.member.as_ref().unwrap_or(&members.node_id))?;
    let (told, node_id) = (which::told(member), member.node_id.as_str());
    let cluster = client.cluster();
    let until = Instant::now() + Duration::from_secs(args.wait.unwrap_or_default());
    let drained = loop {
        let answer = if args.resume {
            cluster.resume(node_id).await
        } else {
            cluster.drain(node_id).await
        };
        let drained = answer.map_err(|error| {
            let verb = if args.resume { "resume" } else { "drain" };
            anyhow::Error::new(error).context(Operation {
                doing: format!("{verb} {told}"),
                look: which::LOOK,
            })
        })?;
        if drained.writes_in_flight == 0 || args.resume || Instant::now() >= until {
            break drained;
        }
        sleep(LOOK_AGAIN).await;
    };
    tell(&drained, &told, output)?;
    if args.wait.is_some() && drained.writes_in_flight > 0 {
        return Err(NotWell.into());
    }
    Ok(())
}

fn tell(drained: &Drained, told: &str, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&Document {
            node_id: &drained.node_id,
            is_draining: drained.is_draining,
            writes_in_flight: drained.writes_in_flight,
            leader: drained.leader.as_deref(),
        })?;
        return Ok(());
    }
    let text = match (drained.is_draining, drained.writes_in_flight) {
        (false, _) => format!("{told} takes writes"),
        (true, 0) => format!("{told} takes no writes and has none in flight: it can be stopped"),
        (true, writes) => format!(
            "{told} takes no new writes and has {writes} in flight: wait with --wait SECONDS before \
             it is stopped"
        ),
    };
    output.line(&text)?;
    match &drained.leader {
        None => output.line("nobody leads: see `mgctl cluster status`")?,
        Some(leader) if *leader == drained.node_id && drained.is_draining => {
            output.line("it still leads: nobody could take over; see `mgctl cluster status`")?;
        }
        Some(_) => {}
    }
    Ok(())
}
