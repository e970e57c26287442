//! `mgctl update`: change what may be said of a memory after it was learned.

use memorygate_client::{Expiry, Key, TimeMs, Update};

use crate::{
    args::{self, Global, Repeat},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  mgctl update 4cd11579fb7e1d99b1ee59b85a9d8ca0 --importance 0.9 --pin
  mgctl update 4cd11579fb7e1d99b1ee59b85a9d8ca0 --expires 30d --set reviewed=yes --unset draft
  mgctl update 4cd11579fb7e1d99b1ee59b85a9d8ca0 --no-expiry --if-version 3";

/// Change metadata, importance, pin or expiry of a memory
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct Args {
    /// 32 hexadecimal digits
    #[arg(value_parser = args::key)]
    key: Key,
    /// 0 to 1
    #[arg(long, short, value_name = "NUMBER", group = "change")]
    importance: Option<f32>,
    /// Never expires or fades
    #[arg(long, group = "change", conflicts_with = "unpin")]
    pin: bool,
    /// May expire and fade again
    #[arg(long, group = "change")]
    unpin: bool,
    /// Gone after this time: RFC 3339, or an amount ahead (30d)
    #[arg(long, value_name = "TIME", value_parser = args::future, group = "change")]
    expires: Option<TimeMs>,
    /// Remove the expiry
    #[arg(long, group = "change", conflicts_with = "expires")]
    no_expiry: bool,
    /// Set metadata; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::pair, group = "change")]
    set: Vec<(String, String)>,
    /// Remove metadata; may be repeated
    #[arg(long, value_name = "KEY", group = "change")]
    unset: Vec<String>,
    /// Only if the memory still has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    #[command(flatten)]
    repeat: Repeat,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let mut update = Update::new(args.key);
    update.target.request_id = args.repeat.request_id;
    update.expected_version = args.if_version;
    update.importance = args.importance;
    update.pinned = match (args.pin, args.unpin) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    update.expiry = match (args.expires, args.no_expiry) {
        (Some(at), _) => Some(Expiry::At(at)),
        (None, true) => Some(Expiry::Never),
        (None, false) => None,
    };
    update.set_metadata = args.set.into_iter().collect();
    update.remove_metadata = args.unset.into_iter().collect();
    let mutation = global.client()?.update(&update).await?;
    output.mutation(&mutation, "updated")?;
    Ok(())
}
