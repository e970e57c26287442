//! `memory_get`: one memory whole.

use memorygate_client::{Client, Get, time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{READS, Tool};
use crate::{
    namespaces::Namespaces,
    render::{self, MemoryView, NOTICE},
    reply::{Refusal, Reply},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    /// The memory's key: 32 hexadecimal digits.
    #[schemars(length(min = 32, max = 32))]
    key: String,
    /// The memory's namespace, where an answer named one.
    namespace: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    notice: &'static str,
    memory: MemoryView,
}

pub(crate) async fn run(
    arguments: Arguments,
    client: &Client,
    namespaces: &Namespaces,
) -> Result<Reply, Refusal> {
    let tool = Tool::Get;
    let key = tool.key(&arguments.key)?;
    let namespace = namespaces.one(tool, arguments.namespace)?;
    let get = Get::new(key).namespace(namespace).freshness(READS);
    let memory = client.get(get).await.map_err(|e| tool.refused(&e))?;
    let memory = memory.ok_or_else(|| Refusal::not_found(key))?;
    let version = memory.version;
    let found = [render::unranked(memory)];
    let (own, now) = (namespaces.own(), time::now());
    let mut rendered = render::render(&found, usize::MAX, usize::MAX, false, own, now);
    let text = format!("{NOTICE}\n{}version {version}\n", rendered.text);
    let answer = Answer {
        notice: NOTICE,
        memory: rendered.views.remove(0),
    };
    Ok(Reply::new(text, &answer))
}
