//! A past case as it is shown behind a proposal.

use memorygate_client::{Key, TimeMs};

use crate::evidence::Evidence;

/// Characters of a case's text that are shown.
const TEXT_CHARS_MAX: usize = 400;

#[derive(Clone, Debug, PartialEq)]
pub struct Cited {
    pub key: Key,
    /// What it says, cut to 400 characters. It is quoted, not ours: it may say anything.
    pub text: String,
    pub worked: bool,
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
        let one = |key: &Key| {
            let case = evidence.cases.iter().find(|case| case.key == *key)?;
            let memory = &evidence
                .recalled
                .iter()
                .find(|r| r.memory.key == *key)?
                .memory;
            Some(Self {
                key: *key,
                text: memory.content.chars().take(TEXT_CHARS_MAX).collect(),
                worked: case.worked,
                similarity: case.similarity,
                agent: memory.agent.clone(),
                at: memory.last_seen_at,
                occurrences: case.occurrences,
            })
        };
        keys.iter().filter_map(one).collect()
    }
}
