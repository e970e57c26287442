//! `memory_recall`: what was learned before that helps with a task.

use memorygate_client::{
    Client, Moment, Recall,
    time::{self, Direction},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    READS, Tool,
    filter::{FilterArguments, instant},
};
use crate::{
    namespaces::Namespaces,
    render::{self, MemoryView, NOTICE},
    reply::{Refusal, Reply},
};

const LIMIT_DEFAULT: usize = 5;
const LIMIT_MAX: usize = 50;

/// Characters of content in one answer: 12,000 are some 3,000 tokens of English prose.
const CHARS_DEFAULT: usize = 12_000;
const CHARS_MIN: usize = 500;
const CHARS_MAX: usize = 200_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    /// The task, question or error message, in full sentences or pasted as it is; at most 8 KiB.
    #[schemars(length(min = 1, max = 8192))]
    query: String,
    /// How many memories to return at most; 5 if left out.
    #[schemars(range(min = 1, max = 50))]
    limit: Option<usize>,
    /// Restricts what is found. Leave it out unless you are sure: the ranking finds what fits.
    filter: Option<FilterArguments>,
    /// Looks only in these of the namespaces that this tool's description names; in all of them if left out.
    #[schemars(length(min = 1, max = 16))]
    namespaces: Option<Vec<String>>,
    /// The memories as they were at this time of the last 90 days: RFC 3339, a date, or an amount of time ago
    /// such as 2h or 30d. What was forgotten since is not there.
    as_of: Option<String>,
    /// Adds memories that the results link to, such as what resolved an incident.
    #[serde(default)]
    include_linked: bool,
    /// Characters of content in the whole answer, the best memories first; 12000 if left out.
    #[schemars(range(min = 500, max = 200_000))]
    max_chars: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    notice: &'static str,
    /// Best first.
    memories: Vec<MemoryView>,
    /// Keys of memories that were found and did not fit into max_chars.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

pub(crate) async fn run(
    arguments: Arguments,
    client: &Client,
    namespaces: &Namespaces,
) -> Result<Reply, Refusal> {
    let tool = Tool::Recall;
    let limit = tool.count("limit", arguments.limit.unwrap_or(LIMIT_DEFAULT), LIMIT_MAX)?;
    let chars_max = arguments.max_chars.unwrap_or(CHARS_DEFAULT);
    if !(CHARS_MIN..=CHARS_MAX).contains(&chars_max) {
        let why = format!("{chars_max}, expected {CHARS_MIN} to {CHARS_MAX}");
        return Err(tool.wrong("max_chars", why));
    }
    let as_of = instant(tool, "as_of", arguments.as_of.as_deref(), Direction::Ago)?;
    let recall = Recall::new(arguments.query);
    let recall = match &namespaces.chosen(tool, arguments.namespaces)?[..] {
        [one] => recall.namespace(one),
        several => recall.namespaces(several),
    };
    let mut recall = recall
        .limit(limit)
        .freshness(READS)
        .filter(arguments.filter.unwrap_or_default().read(tool)?);
    recall.link_hops = u32::from(arguments.include_linked);
    recall.as_of = as_of.map(Moment::Time);
    let found = client
        .recall(&recall)
        .await
        .map_err(|e| tool.refused(&e))?
        .results;
    let (own, now) = (namespaces.own(), time::now());
    let rendered = render::render(&found, chars_max, chars_max, true, own, now);
    let answer = Answer {
        notice: NOTICE,
        memories: rendered.views,
        left_out: rendered.left_out.iter().map(ToString::to_string).collect(),
    };
    let mut text = if found.is_empty() {
        "Nothing was learned yet that fits. Try other words or fewer filters, or go on without."
            .to_owned()
    } else {
        format!("{NOTICE}\n{}", rendered.text)
    };
    if !answer.left_out.is_empty() {
        let keys = answer.left_out.join(", ");
        text.push_str(&format!(
            "\nDid not fit into max_chars, read them with memory_get: {keys}\n"
        ));
    }
    Ok(Reply::new(text, &answer))
}
