//! `mgctl learn`: store one experience.

use std::{
    fs,
    io::{self, Read as _},
    path::PathBuf,
};

use anyhow::Context as _;
use memorygate_client::{Experience, Learn, Link, Relation, Scope, TimeMs};
use serde::Serialize;

use crate::{
    args::{self, Global, Repeat},
    failure::Usage,
    output::{Output, PositionRecord},
};

const EXAMPLES: &str = "\
Examples:
  mgctl learn \"OOMKilled at 256Mi, 512Mi holds\" --domain infrastructure --importance 0.8
  mgctl learn --file post-mortem.md --domain incident_response --session inc-4711 --meta sev=2
  kubectl describe pod web-7f9c | mgctl learn - --domain infrastructure --agent ada --private
  mgctl learn \"fixed by v1.29.3\" -d deployment --link resolved_by=4cd11579fb7e1d99b1ee59b85a9d8ca0";

/// Store an experience, or reinforce the memory that it became before
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What was learned; `-` reads standard input
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// Read what was learned from a file
    #[arg(long, short, value_name = "PATH")]
    file: Option<PathBuf>,
    /// infrastructure, code_review, deployment, incident_response or a name of your own
    #[arg(long, short, value_name = "NAME")]
    domain: String,
    /// 0 to 1 [default: 0.5]
    #[arg(long, short, value_name = "NUMBER")]
    importance: Option<f32>,
    /// When it happened: RFC 3339, or an amount ago (2h, 30d) [default: now]
    #[arg(long, value_name = "TIME", value_parser = args::past)]
    at: Option<TimeMs>,
    /// Metadata; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = args::pair)]
    meta: Vec<(String, String)>,
    /// The conversation or task it belongs to
    #[arg(long, short, value_name = "NAME")]
    session: Option<String>,
    /// For the agent named by --agent alone
    #[arg(long, conflicts_with = "for_team")]
    private: bool,
    /// For the members of this team
    #[arg(long, value_name = "TEAM")]
    for_team: Option<String>,
    /// Gone after this time: RFC 3339, or an amount ahead (30d)
    #[arg(long, value_name = "TIME", value_parser = args::future)]
    expires: Option<TimeMs>,
    /// Never expires or fades
    #[arg(long)]
    pin: bool,
    /// Another memory it refers to: caused_by, resolved_by, supersedes or relates_to; may be
    /// repeated
    #[arg(long, value_name = "RELATION=KEY", value_parser = link)]
    link: Vec<Link>,
    #[command(flatten)]
    repeat: Repeat,
}

#[derive(Serialize)]
struct Document {
    key: String,
    created: bool,
    version: u64,
    occurrences: u32,
    position: PositionRecord,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let mut learn = Learn::new([experience(&args, global)?]);
    learn.request_id = args.repeat.request_id;
    let reply = global.client()?.learn(learn).await?;
    let learned = reply.learned[0];
    if output.is_json() {
        output.json(&Document {
            key: learned.key.to_string(),
            created: learned.created,
            version: learned.version,
            occurrences: learned.occurrences,
            position: reply.position.into(),
        })?;
    } else if learned.created {
        output.line(&format!("created {}", learned.key))?;
    } else {
        let (key, times) = (learned.key, learned.occurrences);
        output.line(&format!("reinforced {key}, now seen {times} times"))?;
    }
    Ok(())
}

fn experience(args: &Args, global: &Global) -> anyhow::Result<Experience> {
    let content = match (&args.file, args.text.as_deref()) {
        (Some(path), _) => {
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
        }
        (None, Some("-")) => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .context("read standard input")?;
            text
        }
        (None, text) => text.unwrap_or_default().to_owned(),
    };
    let scope = match (&args.for_team, args.private, &global.agent) {
        (Some(team), _, _) => Some(Scope::Team(team.clone())),
        (None, false, _) => None,
        (None, true, Some(agent)) => Some(Scope::Agent(agent.clone())),
        (None, true, None) => {
            let why = "--private needs --agent: whose memory is it?";
            return Err(Usage(why.to_owned()).into());
        }
    };
    Ok(Experience {
        occurred_at: args.at,
        importance: args.importance,
        metadata: args.meta.iter().cloned().collect(),
        agent: global.agent.clone(),
        session: args.session.clone(),
        scope,
        expires_at: args.expires,
        pinned: args.pin,
        links: args.link.iter().copied().collect(),
        ..Experience::new(content, args.domain.clone())
    })
}

fn link(text: &str) -> Result<Link, String> {
    let (relation, target) = args::pair(text).map_err(|_| "expected RELATION=KEY".to_owned())?;
    Ok(Link {
        relation: relation_name(&relation)?,
        target: args::key(&target)?,
    })
}

/// A relation by its name.
pub(crate) fn relation_name(text: &str) -> Result<Relation, String> {
    Relation::parse(text).ok_or_else(|| {
        let known = Relation::ALL.map(Relation::as_str).join(", ");
        format!("expected one of {known}")
    })
}
