//! `mgctl alarm`: what is wrong with a cluster and what to do about it.

use clap::{Subcommand, builder::PossibleValuesParser, builder::TypedValueParser as _};
use memorygate_client::{
    cluster::{Alarm, AlarmKind},
    time,
};
use serde::Serialize;

use crate::{args::Global, failure::Operation, output::Output, style, which};

/// Where to look for alarms.
const LOOK: &str = "mgctl alarm list";

const EXAMPLES: &str = "\
Examples:
  mgctl alarm list
  mgctl alarm clear --member 9f3c --kind corrupt";

/// Show what is wrong and what to do about it, or take alarms off
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the alarms of all members
    #[command(after_help = "Examples:\n  mgctl alarm list --output json")]
    List,
    /// Take alarms off; one whose cause is still there comes back
    #[command(after_help = EXAMPLES)]
    Clear {
        /// Only of this member
        #[arg(long, value_name = "MEMBER")]
        member: Option<String>,
        /// Only of this kind
        #[arg(long, value_name = "KIND", value_parser = kinds())]
        kind: Option<AlarmKind>,
    },
}

fn kinds() -> impl clap::builder::TypedValueParser<Value = AlarmKind> {
    let names = AlarmKind::ALL.map(AlarmKind::as_str);
    PossibleValuesParser::new(names).map(|name| {
        let kind = AlarmKind::ALL.into_iter().find(|k| k.as_str() == name);
        kind.expect("only names of kinds are possible values")
    })
}

/// An alarm as JSON.
#[derive(Serialize)]
pub(crate) struct AlarmRecord<'a> {
    node_id: &'a str,
    kind: &'a str,
    reason: &'a str,
    remedy: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

impl<'a> From<&'a Alarm> for AlarmRecord<'a> {
    fn from(alarm: &'a Alarm) -> Self {
        Self {
            node_id: &alarm.node_id,
            kind: kind(alarm),
            reason: &alarm.reason,
            remedy: &alarm.remedy,
            since: alarm.since.map(time::format),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    alarms: Vec<AlarmRecord<'a>>,
}

#[derive(Serialize)]
struct Cleared {
    cleared: u32,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let operation = |doing: &str| Operation {
        doing: doing.to_owned(),
        look: LOOK,
    };
    match args.verb {
        Verb::List => {
            let alarms = client.cluster().alarms().await;
            let alarms = alarms
                .map_err(|e| anyhow::Error::new(e).context(operation("ask for the alarms")))?;
            if output.is_json() {
                output.json(&Document {
                    alarms: alarms.iter().map(AlarmRecord::from).collect(),
                })?;
            } else if alarms.is_empty() {
                output.line("no alarms")?;
            } else {
                show(&alarms, output)?;
            }
        }
        Verb::Clear { member, kind } => {
            let node_id = match member {
                None => None,
                Some(name) => {
                    let members = which::members(&client).await?;
                    Some(which::find(&members, &name)?.node_id.clone())
                }
            };
            let cleared = client
                .cluster()
                .clear_alarms(node_id.as_deref(), kind)
                .await;
            let cleared =
                cleared.map_err(|e| anyhow::Error::new(e).context(operation("take alarms off")))?;
            if output.is_json() {
                output.json(&Cleared { cleared })?;
            } else {
                output.line(&format!(
                    "took {} off",
                    style::count(cleared.into(), "alarm")
                ))?;
            }
        }
    }
    Ok(())
}

/// Each alarm with its remedy.
pub(crate) fn show(alarms: &[Alarm], output: &Output) -> anyhow::Result<()> {
    for alarm in alarms {
        let since = alarm.since.map_or_else(String::new, |since| {
            format!(
                ", since {} ({})",
                time::format(since),
                time::relative(since, output.now)
            )
        });
        let node_id = style::printable(&alarm.node_id);
        let line = format!("! {} at {node_id}{since}", kind(alarm));
        output.line(&output.style.alert(&line))?;
        for (what, text) in [("what", &alarm.reason), ("do", &alarm.remedy)] {
            let lines = style::wrap(text, output.style.width.saturating_sub(8));
            for (at, line) in lines.iter().enumerate() {
                let what = if at == 0 {
                    format!("{what}:")
                } else {
                    String::new()
                };
                output.line(&format!("  {what:<5} {line}"))?;
            }
        }
    }
    Ok(())
}

fn kind(alarm: &Alarm) -> &'static str {
    alarm.kind.map_or("unknown", AlarmKind::as_str)
}
