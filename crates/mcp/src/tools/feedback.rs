//! `memory_feedback`: how useful a memory was.

use memorygate_client::{Client, GiveFeedback};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Changed, Tool};
use crate::{
    namespaces::Namespaces,
    reply::{Refusal, Reply},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    /// The memory's key, from an answer of memory_recall.
    #[schemars(length(min = 32, max = 32))]
    key: String,
    /// The memory's namespace, where an answer named one.
    namespace: Option<String>,
    /// -1 (misled) to 1 (solved it); 0 is neither.
    #[schemars(range(min = -1.0, max = 1.0))]
    score: f32,
    /// Why, in a sentence; at most 1 KiB.
    #[schemars(length(max = 1024))]
    #[serde(default)]
    reason: String,
    /// Only to repeat a call whose outcome was unknown: the id that its answer named.
    request_id: Option<String>,
}

pub(crate) async fn run(
    arguments: Arguments,
    client: &Client,
    namespaces: &Namespaces,
) -> Result<Reply, Refusal> {
    let tool = Tool::Feedback;
    let key = tool.key(&arguments.key)?;
    let mut feedback = GiveFeedback::new(key, arguments.score)
        .namespace(namespaces.one(tool, arguments.namespace)?)
        .reason(arguments.reason);
    feedback.target.request_id = tool.request_id(arguments.request_id.as_deref())?;
    let changed = client
        .feedback(&feedback)
        .await
        .map_err(|e| tool.refused(&e))?;
    let text = if changed.key == key {
        format!("Noted for {key}.")
    } else {
        format!("Noted for {}, which took the place of {key}.", changed.key)
    };
    Ok(Reply::new(text, &Changed::of(&changed)))
}
