//! `mgctl restore`: bring a memory back from the archive.

use memorygate_client::{Key, Restore};

use crate::{
    args::{self, Global, Repeat},
    output::Output,
};

const EXAMPLES: &str = "\
A memory that was merged does not come back alone, since its evidence is part of another: undo the
consolidation that did it, which `mgctl consolidate history --steps` shows. A snapshot is restored with
`mgctl snapshot restore`.

Examples:
  mgctl list --archived only --wide
  mgctl restore 4cd11579fb7e1d99b1ee59b85a9d8ca0";

/// Bring a memory back from the archive
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// 32 hexadecimal digits
    #[arg(value_parser = args::key)]
    key: Key,
    #[command(flatten)]
    repeat: Repeat,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let mut restore = Restore::new(args.key);
    restore.target.request_id = args.repeat.request_id;
    let mutation = global.client()?.restore(restore).await?;
    output.mutation(&mutation, "restored")?;
    Ok(())
}
