//! `mgctl forget`: remove a memory for good.

use memorygate_client::{Forget, Key};

use crate::{
    args::{self, Global, Repeat},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  mgctl forget 4cd11579fb7e1d99b1ee59b85a9d8ca0
  mgctl forget 4cd11579fb7e1d99b1ee59b85a9d8ca0 --if-version 3";

/// Remove a memory for good
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// 32 hexadecimal digits
    #[arg(value_parser = args::key)]
    key: Key,
    /// Only if the memory still has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    #[command(flatten)]
    repeat: Repeat,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let mut forget = Forget::new(args.key);
    forget.target.request_id = args.repeat.request_id;
    forget.expected_version = args.if_version;
    let mutation = global.client()?.forget(forget).await?;
    output.mutation(&mutation, "forgot")?;
    Ok(())
}
