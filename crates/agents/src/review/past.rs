//! A past review as a memory: what was said, and the code that it was said of.

use std::collections::BTreeSet;

use memorygate_client::{Memory, Verdict, interaction::VERDICT_METADATA};

use super::diff::head;
use crate::evidence::ACTION_METADATA;

/// Metadata key of a finding's words.
pub(super) const FINDING_METADATA: &str = "finding";
pub(super) const PATH_METADATA: &str = "path";
pub(super) const LINE_METADATA: &str = "line";
pub(super) const SEVERITY_METADATA: &str = "severity";
/// What stands before the code, here and in what CI learns of a merge.
pub(super) const CODE_HEADING: &str = "\nThe code was:\n";
/// Bytes of a finding's message.
pub(super) const MESSAGE_BYTES_MAX: usize = 1000;

/// Its name, by which evidence for and against it is added up.
pub(super) fn rule(memory: &Memory) -> String {
    let named = memory.metadata.get(ACTION_METADATA);
    named
        .filter(|name| !name.is_empty())
        .cloned()
        .unwrap_or_else(|| format!("review-{}", head(&memory.key.to_string(), 12)))
}

/// A reviewer's comment is right until somebody says that it is not.
pub(super) fn was_right(memory: &Memory) -> bool {
    let verdict = memory.metadata.get(VERDICT_METADATA);
    verdict.is_none_or(|verdict| verdict != Verdict::Failure.as_str())
}

/// What was said, without the code, in the words of its first comment.
pub(super) fn message(memory: &Memory) -> String {
    if let Some(said) = memory.metadata.get(FINDING_METADATA) {
        return head(said, MESSAGE_BYTES_MAX).to_owned();
    }
    let said = memory
        .content
        .split(CODE_HEADING)
        .next()
        .unwrap_or_default();
    let bare = said
        .strip_prefix("Review of ")
        .and_then(|rest| rest.split_once(": "));
    head(
        bare.map_or(said, |(_, said)| said).trim(),
        MESSAGE_BYTES_MAX,
    )
    .to_owned()
}

/// How close a line is to the code of a past review, 0 to 1: shared words of the closest of its lines
/// (Dice's coefficient). Without code, the share of the line's words that the review says.
pub(super) fn closeness(line: &str, memory: &Memory) -> f32 {
    let asked = words(line);
    if asked.is_empty() {
        return 0.0;
    }
    let shared = |other: &BTreeSet<String>| asked.intersection(other).count() as f32;
    let Some((_, code)) = memory.content.split_once(CODE_HEADING) else {
        return shared(&words(&memory.content)) / asked.len() as f32;
    };
    let added: Vec<&str> = code
        .lines()
        .filter_map(|line| line.strip_prefix('+'))
        .collect();
    let lines = if added.is_empty() {
        code.lines().collect()
    } else {
        added
    };
    let last = lines.len().saturating_sub(1);
    let close = lines.iter().enumerate().map(|(at, past)| {
        let past = words(past);
        let dice = 2.0 * shared(&past) / (asked.len() + past.len()) as f32;
        // The comment stands at the last line; the others lead up to it.
        if at == last { dice } else { 0.5 * dice }
    });
    close.fold(0.0, f32::max)
}

fn words(text: &str) -> BTreeSet<String> {
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() > 1);
    words.map(str::to_lowercase).collect()
}

/// By a file's extension or a memory's metadata; `None` if it cannot be told.
pub(super) fn language_of(path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    Some(match extension {
        "rs" => "rust",
        "py" => "python",
        "go" => "go",
        "java" => "java",
        "kt" => "kotlin",
        "rb" => "ruby",
        "php" => "php",
        "cs" => "csharp",
        "c" | "h" => "c",
        "cc" | "cpp" | "hpp" => "c++",
        "js" | "jsx" | "mjs" => "javascript",
        "ts" | "tsx" => "typescript",
        "sh" | "bash" => "shell",
        "sql" => "sql",
        "tf" => "hcl",
        "yml" | "yaml" => "yaml",
        _ => return None,
    })
}

/// Whether a review of this memory's language can say anything of that file.
pub(super) fn fits(memory: &Memory, path: &str) -> bool {
    let said = memory.metadata.get("language").map(String::as_str);
    let past = said.or_else(|| language_of(memory.metadata.get(PATH_METADATA)?));
    match (past, language_of(path)) {
        (Some(past), Some(new)) => past.eq_ignore_ascii_case(new),
        _ => true,
    }
}
