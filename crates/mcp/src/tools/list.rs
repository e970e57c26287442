//! `memory_list`: what there is, page by page.

use memorygate_client::{Client, List, time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{READS, Tool, filter::FilterArguments};
use crate::{
    render::{self, MemoryView, NOTICE},
    reply::{Refusal, Reply},
};

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;

/// Characters of each content: what it is about.
const CHARS_EACH_MAX: usize = 200;

/// Bytes of a page token.
const TOKEN_BYTES_MAX: usize = 4096;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    /// Restricts what is listed.
    filter: Option<FilterArguments>,
    /// Memories on the page at most; 20 if left out.
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
    /// From the answer before, with the same filter, to go on; left out for the first page.
    page_token: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    notice: &'static str,
    /// In the order of their keys.
    memories: Vec<MemoryView>,
    /// There are more: hand it in as page_token.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(crate) async fn run(arguments: Arguments, client: &Client) -> Result<Reply, Refusal> {
    let tool = Tool::List;
    let limit = tool.count("limit", arguments.limit.unwrap_or(LIMIT_DEFAULT), LIMIT_MAX)?;
    let token = arguments.page_token.unwrap_or_default();
    if token.len() > TOKEN_BYTES_MAX {
        return Err(tool.wrong("page_token", "expected the one of the answer before"));
    }
    let list = List::new()
        .filter(arguments.filter.unwrap_or_default().read(tool)?)
        .page_size(limit)
        .freshness(READS)
        .page_token(token);
    let page = client
        .list_page(&list)
        .await
        .map_err(|e| tool.refused(&e))?;
    let found: Vec<_> = page.memories.into_iter().map(render::unranked).collect();
    let (own, now) = (client.namespace(), time::now());
    let rendered = render::render(&found, usize::MAX, CHARS_EACH_MAX, false, own, now);
    let mut text = if found.is_empty() {
        "No memories.".to_owned()
    } else {
        format!("{NOTICE}\n{}", rendered.text)
    };
    if let Some(token) = &page.next {
        text.push_str(&format!(
            "\nThere are more: call again with page_token {token}\n"
        ));
    }
    let answer = Answer {
        notice: NOTICE,
        memories: rendered.views,
        next_page_token: page.next,
    };
    Ok(Reply::new(text, &answer))
}
