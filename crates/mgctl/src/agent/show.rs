//! How proposals and the past cases behind them are shown.

use memorygate_agents::Cited;
use memorygate_client::time;
use serde::Serialize;

use crate::{output::Output, style};

/// Cases of one proposal that are shown.
const CASES_SHOWN: usize = 3;

#[derive(Serialize)]
pub(super) struct CitedRecord {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    worked: Option<bool>,
    similarity: f32,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    at: String,
    occurrences: u32,
}

impl CitedRecord {
    pub(super) fn of(cited: &Cited) -> Self {
        Self {
            key: cited.key.to_string(),
            worked: cited.worked,
            similarity: cited.similarity,
            text: cited.text.clone(),
            agent: cited.agent.clone(),
            at: time::format(cited.at),
            occurrences: cited.occurrences,
        }
    }
}

/// `worked · 3 days ago · by ada · 4cd1…` and what the case says, which is quoted: it may say anything.
pub(super) fn cases(cases: &[Cited], indent: &str, output: &Output) -> std::io::Result<()> {
    for cited in cases.iter().take(CASES_SHOWN) {
        let worked = match cited.worked {
            Some(true) => "worked",
            Some(false) => "failed",
            None => "learned",
        };
        let age = time::relative(cited.at, output.now);
        let by = cited
            .agent
            .as_deref()
            .map(|agent| format!(" · by {}", style::one_line(agent, 48)));
        let line = format!("{worked} · {age}{} · {}", by.unwrap_or_default(), cited.key);
        output.line(&format!("{indent}{}", output.style.dim(&line)))?;
        for line in style::wrap(
            &cited.text,
            output.style.width.saturating_sub(indent.len() + 2),
        ) {
            output.line(&format!("{indent}| {line}"))?;
        }
    }
    if let Some(more) = cases
        .len()
        .checked_sub(CASES_SHOWN)
        .filter(|more| *more > 0)
    {
        output.line(&format!(
            "{indent}and {}",
            style::count(more as u64, "further case")
        ))?;
    }
    Ok(())
}

/// What else was learned, if anything was.
pub(super) fn related(cited: &[Cited], output: &Output) -> std::io::Result<()> {
    if cited.is_empty() {
        return Ok(());
    }
    output.line("")?;
    output.line(&output.style.bold("Related memories"))?;
    cases(cited, "   ", output)
}

/// A sentence, wrapped behind an indent.
pub(super) fn wrapped(text: &str, indent: &str, output: &Output) -> std::io::Result<()> {
    let room = output.style.width.saturating_sub(indent.chars().count());
    for line in style::wrap(text, room) {
        output.line(&format!("{indent}{line}"))?;
    }
    Ok(())
}

pub(super) fn percent(share: f32) -> String {
    format!("{:.0} %", share * 100.0)
}
