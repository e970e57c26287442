//! `memory_forget`: remove a memory for good.

use memorygate_client::{Client, Forget};
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
    /// Only if the memory still has this version, so that what others added meanwhile is not lost.
    #[schemars(range(min = 1))]
    expected_version: Option<u64>,
    /// Only to repeat a call whose outcome was unknown: the id that its answer named.
    request_id: Option<String>,
}

pub(crate) async fn run(arguments: Arguments, client: &Client) -> Result<Reply, Refusal> {
    let tool = Tool::Forget;
    let key = tool.key(&arguments.key)?;
    let mut forget = Forget::new(key);
    forget.expected_version = arguments.expected_version;
    forget.target.request_id = tool.request_id(arguments.request_id.as_deref())?;
    let changed = client.forget(forget).await.map_err(|e| tool.refused(&e))?;
    let text = format!("Forgot {key} for good.");
    Ok(Reply::new(text, &Changed::of(&changed)))
}
