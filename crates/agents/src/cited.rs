//! A memory as it is shown behind a proposal.

use memorygate_client::{Key, Recalled, TimeMs};

use crate::evidence::{Case, Evidence, similarity};

/// Characters of a memory's text that are shown: of a longer one its beginning, which tells the task, and
/// its end, which tells the outcome.
const TEXT_CHARS_MAX: usize = 480;

/// Memories that are no cases, beside a decision.
const RELATED_MAX: usize = 3;

#[derive(Clone, Debug, PartialEq)]
pub struct Cited {
    pub key: Key,
    /// What it says, shortened to 480 characters. It is quoted, not ours: it may say anything.
    pub text: String,
    /// Unset for a memory that is no case.
    pub worked: Option<bool>,
    /// 0 to 1.
    pub similarity: f32,
    /// Who learned it.
    pub agent: Option<String>,
    pub at: TimeMs,
    /// How often it was seen.
    pub occurrences: u32,
}

impl Cited {
    /// The cases with these keys, in their order.
    pub fn of(evidence: &Evidence, keys: &[Key]) -> Vec<Self> {
        let one = |key| evidence.recalled.iter().find(|r| r.memory.key == key);
        keys.iter()
            .filter_map(|key| one(*key))
            .map(Self::new)
            .collect()
    }

    /// The best of what was recalled beside the cases: lessons that name no action or no outcome.
    pub fn related(evidence: &Evidence) -> Vec<Self> {
        let recalled = evidence.recalled.iter();
        let related = recalled.filter(|recalled| Case::of(recalled).is_none());
        related.take(RELATED_MAX).map(Self::new).collect()
    }

    fn new(recalled: &Recalled) -> Self {
        let memory = &recalled.memory;
        Self {
            key: memory.key,
            text: shortened(&memory.content),
            worked: Case::of(recalled).map(|case| case.worked),
            similarity: similarity(recalled),
            agent: memory.agent.clone(),
            at: memory.last_seen_at,
            occurrences: memory.occurrences,
        }
    }
}

fn shortened(text: &str) -> String {
    let chars = text.chars().count();
    if chars <= TEXT_CHARS_MAX {
        return text.to_owned();
    }
    let part = TEXT_CHARS_MAX / 2;
    let head: String = text.chars().take(part).collect();
    let tail: String = text.chars().skip(chars - part).collect();
    format!("{}\n…\n{}", head.trim_end(), tail.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_text_the_beginning_and_the_end_are_shown() {
        assert_eq!(shortened("short"), "short");
        let long = format!("the task {} Result: success", "ä ".repeat(500));
        let shown = shortened(&long);
        assert!(shown.starts_with("the task ä") && shown.ends_with("Result: success"));
        assert!(shown.chars().count() <= TEXT_CHARS_MAX + 3);
    }
}
