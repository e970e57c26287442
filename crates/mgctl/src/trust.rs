//! `mgctl trust`: how far agents are trusted, and an operator's word about one.

use clap::Subcommand;
use memorygate_client::consolidation::{AgentTrust, ListTrust, SetTrust};
use serde::Serialize;

use crate::{
    args::{Global, Repeat},
    output::{Output, PositionRecord},
    style,
};

const EXAMPLES: &str = "\
An agent is trusted by what others found of its memories (`mgctl feedback` with another --agent, or the same
by a program); feedback of its own and of nobody in particular does not count. 0.5 is the trust in an agent
of whom nothing is known. It weighs in every recall of the namespace. An operator's word stands in for it.

Examples:
  mgctl trust list
  mgctl trust set mallory 0
  mgctl trust clear mallory";

/// Show how far agents are trusted, and say it of one
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the agents of whom something is known, in the order of their names
    #[command(after_help = "Examples:\n  mgctl trust list\n  mgctl trust list --output json")]
    List,
    /// Say how far an agent is trusted, whatever others find of its memories
    #[command(after_help = "Examples:\n  mgctl trust set mallory 0\n  mgctl trust set ada 0.9")]
    Set {
        /// The agent's name
        name: String,
        /// 0 (not at all) to 1
        trust: f32,
        #[command(flatten)]
        repeat: Repeat,
    },
    /// Take that back: what others find of its memories counts again
    #[command(after_help = "Examples:\n  mgctl trust clear mallory")]
    Clear {
        /// The agent's name
        name: String,
        #[command(flatten)]
        repeat: Repeat,
    },
}

#[derive(Serialize)]
struct Document {
    agent: String,
    trust: f32,
    ratings: u32,
    positive: f64,
    negative: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<f32>,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    match args.verb {
        Verb::List => list(global, output).await,
        Verb::Set {
            name,
            trust,
            repeat,
        } => set(SetTrust::to(name, trust), repeat, global, output).await,
        Verb::Clear { name, repeat } => set(SetTrust::clear(name), repeat, global, output).await,
    }
}

async fn set(
    mut set: SetTrust,
    repeat: Repeat,
    global: &Global,
    output: &Output,
) -> anyhow::Result<()> {
    set.request_id = repeat.request_id;
    let position = global.client()?.consolidation().set_trust(&set).await?;
    if output.is_json() {
        output.json(&PositionRecord::from(position))?;
        return Ok(());
    }
    let agent = style::printable(&set.agent);
    output.line(&match set.trust {
        Some(trust) => format!("trust in {agent} is {trust:.2}"),
        None => format!("trust in {agent} is what others find of its memories"),
    })?;
    Ok(())
}

async fn list(global: &Global, output: &Output) -> anyhow::Result<()> {
    let consolidation = global.client()?.consolidation();
    let mut list = ListTrust::new();
    let mut is_any = false;
    loop {
        let page = consolidation.trust_page(&list).await?;
        for agent in &page.agents {
            is_any = true;
            show(agent, output)?;
        }
        match page.next {
            Some(token) => list = list.page_token(token),
            None => break,
        }
    }
    if !is_any && !output.is_json() {
        output.line("nothing is known of any agent")?;
    }
    Ok(())
}

fn show(agent: &AgentTrust, output: &Output) -> std::io::Result<()> {
    if output.is_json() {
        return output.json(&Document {
            agent: agent.agent.clone(),
            trust: agent.trust,
            ratings: agent.ratings,
            positive: agent.positive,
            negative: agent.negative,
            set: agent.set,
        });
    }
    let ratings = style::count(agent.ratings.into(), "rating");
    let word = if agent.set.is_some() {
        ", set by an operator"
    } else {
        ""
    };
    let name = style::printable(&agent.agent);
    output.line(&format!(
        "{:.2}  {name}  ({ratings}, +{:.2} −{:.2}{word})",
        agent.trust, agent.positive, agent.negative
    ))
}
