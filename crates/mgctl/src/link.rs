//! `mgctl link`: say how one memory refers to another.

use memorygate_client::{Key, Relation, SetLink};

use crate::{
    args::{self, Global, Repeat},
    learn,
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  mgctl link 4cd11579fb7e1d99b1ee59b85a9d8ca0 resolved_by 3e386258c7417badaa17c5e79aa98e29
  mgctl link 4cd11579fb7e1d99b1ee59b85a9d8ca0 relates_to 3e386258c7417badaa17c5e79aa98e29 --remove";

/// Add or remove a link from one memory to another
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The memory that gets or loses the link
    #[arg(value_parser = args::key)]
    key: Key,
    /// caused_by, resolved_by, supersedes or relates_to
    #[arg(value_parser = learn::relation_name)]
    relation: Relation,
    /// The memory that it leads to
    #[arg(value_parser = args::key)]
    target: Key,
    /// Take the link away instead
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    repeat: Repeat,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let mut link = SetLink::new(args.key, args.relation, args.target);
    link.target.request_id = args.repeat.request_id;
    link.remove = args.remove;
    let mutation = global.client()?.link(&link).await?;
    let done = if args.remove { "unlinked" } else { "linked" };
    output.mutation(&mutation, done)?;
    Ok(())
}
