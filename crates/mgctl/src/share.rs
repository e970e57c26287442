//! `mgctl share`: make a memory of a narrower scope one of a wider scope.

use memorygate_client::{Key, Scope, Share};

use crate::{
    args::{self, Global, Repeat},
    failure::Usage,
    output::Output,
};

const EXAMPLES: &str = "\
The memory is there under a new key, which is printed; the old key leads to it. Only the agent that a memory
belongs to can share it, or a member of the team that it belongs to, and with a team only a member of
that. It cannot be taken back.

Examples:
  mgctl share 4cd11579fb7e1d99b1ee59b85a9d8ca0 --agent ada --team sre
  mgctl share 4cd11579fb7e1d99b1ee59b85a9d8ca0 --agent ada --everyone
  mgctl share 0f6e0d6d5c8f1a0f4a9cf3a1f6f2b7d0 --team sre --everyone    # what belonged to the team";

/// Make a memory of an agent or a team one of a team (`--team`) or of everyone
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// 32 hexadecimal digits
    #[arg(value_parser = args::key)]
    key: Key,
    /// With everyone in the namespace, and not only with the team
    #[arg(long)]
    everyone: bool,
    /// Only if the memory still has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    #[command(flatten)]
    repeat: Repeat,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let with = match (args.everyone, global.team.as_slice()) {
        (true, _) => Scope::Shared,
        (false, [team]) => Scope::Team(team.clone()),
        (false, _) => {
            let why = "name one team to share it with (--team), or --everyone";
            return Err(Usage(why.to_owned()).into());
        }
    };
    let mut share = Share::with_everyone(args.key);
    share.with = with;
    share.expected_version = args.if_version;
    share.target.request_id = args.repeat.request_id;
    let mutation = global.client()?.share(&share).await?;
    output.mutation(&mutation, "shared as")?;
    Ok(())
}
