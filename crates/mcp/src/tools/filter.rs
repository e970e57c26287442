//! What a recall or a list may return, as arguments.

use std::collections::BTreeMap;

use memorygate_client::{
    Archive, Filter, TimeMs,
    time::{self, Direction},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Tool;
use crate::reply::Refusal;

/// Values of one argument; the client checks what each is.
const VALUES_MAX: usize = 64;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterArguments {
    /// Only of one of these domains, such as infrastructure, code_review, deployment or
    /// incident_response.
    #[schemars(length(max = 64))]
    #[serde(default)]
    domains: Vec<String>,
    /// Only learned by one of these agents.
    #[schemars(length(max = 64))]
    #[serde(default)]
    learned_by: Vec<String>,
    /// Only of one of these sessions.
    #[schemars(length(max = 64))]
    #[serde(default)]
    sessions: Vec<String>,
    /// Only with each of these metadata entries, exactly.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Only what happened at or after this: RFC 3339, a date, or an amount of time ago such as 2h or
    /// 30d.
    since: Option<String>,
    /// Only what happened before this; as `since`.
    until: Option<String>,
    /// Only at least this important, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    min_importance: Option<f32>,
    /// Also what was moved to the archive: of little use so far and long unused, or part of another memory
    /// by now.
    #[serde(default)]
    include_archived: bool,
}

impl FilterArguments {
    pub(crate) fn read(self, tool: Tool) -> Result<Filter, Refusal> {
        for (field, values) in [
            ("filter.domains", &self.domains),
            ("filter.learned_by", &self.learned_by),
            ("filter.sessions", &self.sessions),
        ] {
            if values.len() > VALUES_MAX {
                let why = format!("{} values, expected at most {VALUES_MAX}", values.len());
                return Err(tool.wrong(field, why));
            }
        }
        Ok(Filter {
            domains: self.domains.into_iter().collect(),
            agents: self.learned_by.into_iter().collect(),
            sessions: self.sessions.into_iter().collect(),
            metadata: self.metadata,
            since: instant(tool, "filter.since", self.since.as_deref(), Direction::Ago)?,
            until: instant(tool, "filter.until", self.until.as_deref(), Direction::Ago)?,
            min_importance: self.min_importance,
            archive: if self.include_archived {
                Archive::With
            } else {
                Archive::Without
            },
        })
    }
}

/// A time as a model may say it.
pub(crate) fn instant(
    tool: Tool,
    field: &str,
    text: Option<&str>,
    direction: Direction,
) -> Result<Option<TimeMs>, Refusal> {
    let parse = |text: &str| {
        time::parse(text, time::now(), direction).map_err(|error| tool.wrong(field, error))
    };
    text.map(parse).transpose()
}
