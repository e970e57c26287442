//! `memory_learn`: one lesson for all later work.

use std::collections::BTreeMap;

use memorygate_client::{Client, Experience, Learn, Link, Relation, Scope, time::Direction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Tool, filter::instant};
use crate::reply::{Refusal, Reply};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    /// The lesson, self-contained: what happened, why, what helped or did not, with names and
    /// numbers. Plain text, at most 64 KiB; a few sentences are best.
    #[schemars(length(min = 1, max = 65_536))]
    content: String,
    /// What kind of work it is about: infrastructure, code_review, deployment, incident_response, or a
    /// name of your own (lower-case letters, digits, `_`, `-`, `.`, `/`).
    #[schemars(length(min = 1, max = 256))]
    domain: String,
    /// 0 (trivial) to 1 (prevents an outage); 0.5 if left out.
    #[schemars(range(min = 0.0, max = 1.0))]
    importance: Option<f32>,
    /// The conversation, ticket or task that it belongs to: lessons of one session are found together.
    #[schemars(length(min = 1, max = 256))]
    session: Option<String>,
    /// Facts to filter by, such as {"cluster": "prod-eu-1", "outcome": "fixed"}; texts alone.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Who may see it: everyone (shared, if left out), the team, or you alone (private).
    visibility: Option<Visibility>,
    /// Which team, if visibility is team and you are in several.
    team: Option<String>,
    /// When it happened: RFC 3339, a date, or an amount of time ago such as 2h; now if left out.
    occurred_at: Option<String>,
    /// When it will be of no use any more: RFC 3339, a date, or an amount of time ahead such as 30d;
    /// never if left out.
    expires_at: Option<String>,
    /// Other memories that it refers to.
    #[schemars(length(max = 64))]
    #[serde(default)]
    links: Vec<LinkArgument>,
    /// Only to repeat a call whose outcome was unknown: the id that its answer named.
    request_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    Shared,
    Team,
    Private,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LinkArgument {
    /// caused_by, resolved_by, supersedes or relates_to.
    relation: RelationArgument,
    /// The other memory's key.
    #[schemars(length(min = 32, max = 32))]
    key: String,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RelationArgument {
    CausedBy,
    ResolvedBy,
    Supersedes,
    RelatesTo,
}

impl From<RelationArgument> for Relation {
    fn from(relation: RelationArgument) -> Self {
        match relation {
            RelationArgument::CausedBy => Self::CausedBy,
            RelationArgument::ResolvedBy => Self::ResolvedBy,
            RelationArgument::Supersedes => Self::Supersedes,
            RelationArgument::RelatesTo => Self::RelatesTo,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    /// Names the memory in further calls.
    key: String,
    /// True if it is new, false if it made a known memory stronger.
    created: bool,
    version: u64,
    /// How often the lesson was learned.
    occurrences: u32,
}

pub(crate) async fn run(arguments: Arguments, client: &Client) -> Result<Reply, Refusal> {
    let tool = Tool::Learn;
    let request_id = tool.request_id(arguments.request_id.as_deref())?;
    let lesson = experience(arguments, client)?;
    let mut learn = Learn::new([lesson]);
    learn.request_id = request_id;
    let reply = client.learn(learn).await.map_err(|e| tool.refused(&e))?;
    let learned = reply.learned[0];
    let text = if learned.created {
        format!("Learned as {}.", learned.key)
    } else {
        let (key, times) = (learned.key, learned.occurrences);
        format!("Known already, as {key}; now learned {times} times.")
    };
    let answer = Answer {
        key: learned.key.to_string(),
        created: learned.created,
        version: learned.version,
        occurrences: learned.occurrences,
    };
    Ok(Reply::new(text, &answer))
}

fn experience(arguments: Arguments, client: &Client) -> Result<Experience, Refusal> {
    let tool = Tool::Learn;
    let scope = scope(&arguments, client)?;
    let (occurred_at, expires_at) = (
        arguments.occurred_at.as_deref(),
        arguments.expires_at.as_deref(),
    );
    let links = arguments.links.iter().enumerate().map(|(index, link)| {
        let target = link.key.parse().map_err(|_| {
            let field = format!("links[{index}].key");
            tool.wrong(
                &field,
                "expected the 32 hexadecimal digits of a memory's key",
            )
        })?;
        Ok(Link {
            relation: link.relation.into(),
            target,
        })
    });
    Ok(Experience {
        occurred_at: instant(tool, "occurred_at", occurred_at, Direction::Ago)?,
        expires_at: instant(tool, "expires_at", expires_at, Direction::Ahead)?,
        links: links.collect::<Result<_, Refusal>>()?,
        importance: arguments.importance,
        metadata: arguments.metadata,
        agent: client.reader().agent.clone(),
        session: arguments.session,
        scope: Some(scope),
        ..Experience::new(arguments.content, arguments.domain)
    })
}

/// A model writes only where it can read.
fn scope(arguments: &Arguments, client: &Client) -> Result<Scope, Refusal> {
    let tool = Tool::Learn;
    let reader = client.reader();
    match (arguments.visibility, &arguments.team) {
        (None | Some(Visibility::Shared), None) => Ok(Scope::Shared),
        (None, team @ Some(_)) | (Some(Visibility::Team), team) => {
            let team = tool.team(team.clone(), "visibility", client)?;
            Ok(Scope::Team(team))
        }
        (Some(Visibility::Private), None) => match &reader.agent {
            Some(agent) => Ok(Scope::Agent(agent.clone())),
            None => {
                let why = "you have no name here; leave it out, so that everyone sees the lesson";
                Err(tool.wrong("visibility", why))
            }
        },
        (Some(Visibility::Shared | Visibility::Private), Some(_)) => {
            let why = "it goes with the visibility team alone; leave it out";
            Err(tool.wrong("team", why))
        }
    }
}
