//! `memory_share`: make a lesson of one's own, or of the team, known to more.

use memorygate_client::{Client, Share};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Changed, Tool};
use crate::reply::{Refusal, Reply};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    /// The memory's key, from an answer of memory_recall, memory_get or memory_list.
    #[schemars(length(min = 32, max = 32))]
    key: String,
    /// Who may see it from now on: your team, or everyone (shared).
    with: With,
    /// Which team, if it is for a team and you are in several.
    team: Option<String>,
    /// Only if the memory still has this version.
    #[schemars(range(min = 1))]
    expected_version: Option<u64>,
    /// Only to repeat a call whose outcome was unknown: the id that its answer named.
    request_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum With {
    Team,
    Shared,
}

pub(crate) async fn run(arguments: Arguments, client: &Client) -> Result<Reply, Refusal> {
    let tool = Tool::Share;
    let key = tool.key(&arguments.key)?;
    let mut share = match (arguments.with, arguments.team) {
        (With::Shared, None) => Share::with_everyone(key),
        (With::Shared, Some(_)) => {
            return Err(tool.wrong("team", "it goes with a team alone; leave it out"));
        }
        (With::Team, team) => Share::with_team(key, tool.team(team, "with", client)?),
    };
    share.expected_version = arguments.expected_version;
    share.target.request_id = tool.request_id(arguments.request_id.as_deref())?;
    let shared = client.share(&share).await.map_err(|e| tool.refused(&e))?;
    let text = if shared.changed {
        format!("Shared; it has the key {} now.", shared.key)
    } else {
        format!("It was shared so already, as {}.", shared.key)
    };
    Ok(Reply::new(text, &Changed::of(&shared)))
}
