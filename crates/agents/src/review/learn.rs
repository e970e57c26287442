//! What came of a finding, and what reviewers say: the past reviews of the next change.

use memorygate_client::{
    Error, Experience, Key, KnowledgeStore, LearningContext, Verdict, domain,
    interaction::VERDICT_METADATA,
};

use super::{
    Diff, Finding, Severity,
    diff::{Hunk, head},
    past::{
        self, CODE_HEADING, FINDING_METADATA, LINE_METADATA, MESSAGE_BYTES_MAX, PATH_METADATA,
        SEVERITY_METADATA,
    },
};
use crate::evidence::ACTION_METADATA;

/// Bytes of a comment.
pub const COMMENT_BYTES_MAX: usize = 4000;
/// Lines of code that are kept with a comment; it stands at the last.
const CODE_LINES: usize = 8;
const IMPORTANCE: f32 = 0.6;
/// How past reviews are rated that led to a finding that was right, and to one that was not.
const HELPED: f32 = 1.0;
const MISLED: f32 = -0.5;

/// What a reviewer says of a line of a diff.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    pub path: String,
    /// After the change.
    pub line: u32,
    pub text: String,
    /// A short name for what was found; made of the memory's key if unset.
    #[serde(default)]
    pub rule: Option<String>,
    /// `note`, `warning` or `error`.
    #[serde(default)]
    pub severity: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Learned {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("the comment on {path}:{line} {what}")]
    Comment {
        path: String,
        line: u32,
        what: String,
    },
}

/// Learns a reviewer's comment with the code that it is about.
pub async fn learn(
    store: &dyn KnowledgeStore,
    context: &LearningContext,
    diff: &Diff,
    comment: &Comment,
) -> Result<Key, Learned> {
    let refused = |what: &str| Learned::Comment {
        path: comment.path.clone(),
        line: comment.line,
        what: what.to_owned(),
    };
    if comment.text.trim().is_empty() || comment.text.len() > COMMENT_BYTES_MAX {
        return Err(refused(
            "is empty or longer than 4000 bytes: say it in a few sentences",
        ));
    }
    if comment
        .severity
        .as_deref()
        .is_some_and(|text| Severity::parse(text).is_none())
    {
        return Err(refused(
            "has an unknown severity, expected note, warning or error",
        ));
    }
    if comment
        .rule
        .as_deref()
        .is_some_and(|rule| rule.is_empty() || rule.len() > 128)
    {
        return Err(refused(
            "has a rule that is no name, expected 1 to 128 bytes",
        ));
    }
    let file = diff
        .file(&comment.path)
        .ok_or_else(|| refused("is on a file that is not in the diff"))?;
    let code = file
        .hunks
        .iter()
        .find_map(|hunk| code_before(hunk, comment.line));
    let code = code
        .ok_or_else(|| refused("is on a line that is not in the diff, counted after the change"))?;
    let mut experience = experience(&comment.path, comment.line, &comment.text, &code, "");
    let named = [
        (ACTION_METADATA, &comment.rule),
        (SEVERITY_METADATA, &comment.severity),
    ];
    for (key, value) in named {
        if let Some(value) = value {
            experience.metadata.insert(key.to_owned(), value.clone());
        }
    }
    Ok(store_one(store, context, experience).await?)
}

/// Learns whether a finding was right, and rates the past reviews that led to it.
pub async fn conclude(
    store: &dyn KnowledgeStore,
    context: &LearningContext,
    finding: &Finding,
    was_right: bool,
) -> Result<Key, Error> {
    let verdict = if was_right {
        Verdict::Success
    } else {
        Verdict::Failure
    };
    let told = if was_right {
        "\nIt was right."
    } else {
        "\nIt was rejected."
    };
    let code: Vec<String> = finding
        .piece
        .iter()
        .map(|line| format!("+{line}"))
        .collect();
    let at = finding
        .piece
        .iter()
        .position(|line| line.trim() == finding.code);
    let end = at.map_or(code.len(), |at| at + 1);
    let code = code[end.saturating_sub(CODE_LINES)..end].join("\n");
    let mut experience = experience(&finding.path, finding.line, &finding.message, &code, told);
    let named = [
        (ACTION_METADATA, finding.rule.as_str()),
        (SEVERITY_METADATA, finding.severity.as_str()),
        (VERDICT_METADATA, verdict.as_str()),
    ];
    for (key, value) in named {
        experience.metadata.insert(key.to_owned(), value.to_owned());
    }
    let key = store_one(store, context, experience).await?;
    let score = if was_right { HELPED } else { MISLED };
    for past in finding.past.iter().filter(|past| past.was_right) {
        store
            .feedback(context, past.key, score, verdict.as_str())
            .await?;
    }
    Ok(key)
}

async fn store_one(
    store: &dyn KnowledgeStore,
    context: &LearningContext,
    experience: Experience,
) -> Result<Key, Error> {
    let reply = store.store_experience(context, experience).await?;
    Ok(reply.learned.first().expect("one was learned").key)
}

fn experience(path: &str, line: u32, said: &str, code: &str, told: &str) -> Experience {
    let content = format!(
        "Review of {}: {}{told}{CODE_HEADING}{code}",
        head(path, 1024),
        said.trim()
    );
    let mut experience = Experience::new(content, domain::CODE_REVIEW);
    experience.importance = Some(IMPORTANCE);
    let language = past::language_of(path).unwrap_or_default();
    let line = line.to_string();
    let named = [
        (FINDING_METADATA, head(said.trim(), MESSAGE_BYTES_MAX)),
        (PATH_METADATA, head(path, 1024)),
        (LINE_METADATA, line.as_str()),
        ("language", language),
    ];
    for (key, value) in named.into_iter().filter(|(_, value)| !value.is_empty()) {
        experience.metadata.insert(key.to_owned(), value.to_owned());
    }
    experience
}

/// The lines that lead up to this one, as a diff has them.
fn code_before(hunk: &Hunk, line: u32) -> Option<String> {
    let at = hunk.lines.iter().position(|l| l.number == line)?;
    let lines = &hunk.lines[(at + 1).saturating_sub(CODE_LINES)..=at];
    let shown = lines
        .iter()
        .map(|line| format!("{}{}", if line.is_added { '+' } else { ' ' }, line.text));
    Some(shown.collect::<Vec<_>>().join("\n"))
}
