//! `mgctl feedback`: say how useful a memory was.

use memorygate_client::{GiveFeedback, Key};

use crate::{
    args::{self, Global, Repeat},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  mgctl feedback 4cd11579fb7e1d99b1ee59b85a9d8ca0 1 --reason \"led straight to the cause\"
  mgctl feedback 4cd11579fb7e1d99b1ee59b85a9d8ca0 -0.5 --agent ada";

/// Say how useful a memory was
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// 32 hexadecimal digits
    #[arg(value_parser = args::key)]
    key: Key,
    /// -1 (misled) to 1 (solved it)
    #[arg(allow_negative_numbers = true)]
    score: f32,
    /// Why, at most 1 KiB
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    repeat: Repeat,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let mut feedback = GiveFeedback::new(args.key, args.score).reason(args.reason);
    feedback.target.request_id = args.repeat.request_id;
    let mutation = global.client()?.feedback(&feedback).await?;
    output.mutation(&mutation, "rated")?;
    Ok(())
}
