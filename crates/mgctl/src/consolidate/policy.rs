//! `mgctl consolidate policy`, `pause` and `resume`: how a namespace is consolidated.
//!
//! The server sets a policy as a whole, so a change reads it first; of two operators who change one at
//! the same moment, the later wins.

use std::{fmt::Display, str::FromStr};

use clap::Subcommand;
use memorygate_client::consolidation::{Policy, SetPolicy, Status};
use serde::Serialize;

use super::operation;
use crate::{
    args::{Global, Repeat},
    failure::Usage,
    output::Output,
};

/// Where to look for policies.
const LOOK: &str = "mgctl consolidate policy";

const EXAMPLES: &str = "\
Examples:
  mgctl consolidate policy
  mgctl consolidate policy set --merge-from 0.9 --keep-days 365
  mgctl consolidate policy set --fade-below 0        # nothing fades
  mgctl consolidate policy set --merge-from default";

/// Show or set how a namespace is consolidated
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the policy
    #[command(after_help = "Examples:\n  mgctl consolidate policy get --namespace team-a -o json")]
    Get,
    Set(Set),
}

/// Set some of the policy; the rest stays
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
struct Set {
    /// Cosine from which on two memories may be near-duplicates, 0.5 to 1, or `default`
    #[arg(long, value_name = "NUMBER", value_parser = number::<f32>)]
    merge_from: Option<Value<f32>>,
    /// Worth below which a memory fades, 0 (never) to 1, or `default`
    #[arg(long, value_name = "NUMBER", value_parser = number::<f32>)]
    fade_below: Option<Value<f32>>,
    /// Days that a memory stays after it was last touched, whatever it is worth, or `default`
    #[arg(long, value_name = "DAYS", value_parser = number::<u32>)]
    keep_days: Option<Value<u32>>,
    #[command(flatten)]
    repeat: Repeat,
}

/// Arguments of `pause` and of `resume`.
#[derive(clap::Args)]
pub(super) struct Pause {
    #[command(flatten)]
    repeat: Repeat,
}

/// A value, or the server's.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<T> {
    Default,
    Is(T),
}

impl<T: Copy> Value<T> {
    fn set(self) -> Option<T> {
        match self {
            Self::Default => None,
            Self::Is(value) => Some(value),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    namespace: &'a str,
    /// As it was set; what is unset is the server's default.
    policy: Record,
    effective: Record,
}

#[derive(Serialize)]
struct Record {
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    merge_from: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fade_below: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_days: Option<u32>,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    if let Some(Verb::Set(set)) = args.verb {
        if set.merge_from.is_none() && set.fade_below.is_none() && set.keep_days.is_none() {
            let what = "nothing to set: name --merge-from, --fade-below or --keep-days";
            return Err(Usage(what.to_owned()).into());
        }
        change(set.repeat, global, |policy| {
            if let Some(value) = set.merge_from {
                policy.merge_from = value.set();
            }
            if let Some(value) = set.fade_below {
                policy.fade_below = value.set();
            }
            if let Some(value) = set.keep_days {
                policy.keep_days = value.set();
            }
        })
        .await?;
    }
    show(&status(global).await?, global, output)
}

pub(super) async fn pause(
    args: Pause,
    paused: bool,
    global: &Global,
    output: &Output,
) -> anyhow::Result<()> {
    change(args.repeat, global, |policy| policy.paused = paused).await?;
    if output.is_json() {
        return show(&status(global).await?, global, output);
    }
    let namespace = global.namespace_or_default();
    output.line(&if paused {
        format!("paused: {namespace} is left as it is until `mgctl consolidate resume`")
    } else {
        format!("resumed: {namespace} is consolidated again")
    })?;
    Ok(())
}

async fn status(global: &Global) -> anyhow::Result<Status> {
    let status = global.client()?.consolidation().status().await;
    status.map_err(operation("ask for the policy", LOOK))
}

async fn change(
    repeat: Repeat,
    global: &Global,
    change: impl FnOnce(&mut Policy),
) -> anyhow::Result<()> {
    let mut policy = status(global).await?.policy;
    change(&mut policy);
    let mut set = SetPolicy::new(policy);
    set.request_id = repeat.request_id;
    let set = global.client()?.consolidation().set_policy(set).await;
    set.map_err(operation("set the policy", LOOK))?;
    Ok(())
}

fn show(status: &Status, global: &Global, output: &Output) -> anyhow::Result<()> {
    let (policy, effective) = (&status.policy, &status.effective);
    if output.is_json() {
        output.json(&Document {
            namespace: global.namespace_or_default(),
            policy: policy.into(),
            effective: effective.into(),
        })?;
        return Ok(());
    }
    let paused = if policy.paused { "yes" } else { "no" };
    for (name, value) in [
        ("namespace", global.namespace_or_default().to_owned()),
        ("paused", paused.to_owned()),
        (
            "merge from",
            told(effective.merge_from, policy.merge_from.is_some(), "cosine"),
        ),
        (
            "fade below",
            told(effective.fade_below, policy.fade_below.is_some(), "worth"),
        ),
        (
            "keep",
            told(effective.keep_days, policy.keep_days.is_some(), "days"),
        ),
    ] {
        let name = output.style.dim(&format!("{name:<10}"));
        output.line(&format!("{name} {value}"))?;
    }
    Ok(())
}

fn told(value: Option<impl Display>, is_set: bool, unit: &str) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let default = if is_set { "" } else { " (default)" };
    format!("{value} {unit}{default}")
}

fn number<T: FromStr>(text: &str) -> Result<Value<T>, String> {
    if text == "default" {
        return Ok(Value::Default);
    }
    let number = text.parse().map(Value::Is);
    number.map_err(|_| "expected a number, or `default`".to_owned())
}

impl From<&Policy> for Record {
    fn from(policy: &Policy) -> Self {
        Self {
            paused: policy.paused,
            merge_from: policy.merge_from,
            fade_below: policy.fade_below,
            keep_days: policy.keep_days,
        }
    }
}
