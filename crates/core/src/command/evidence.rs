//! Evidence of one memory that another one takes over: because it says the same, or is the same in a wider
//! scope.

use crate::{
    limits,
    memory::{self, Memory},
};

/// Adds what was counted: how often the lesson was met, judged and used, and how much it matters. It says
/// nothing of what is written in `source`, so it may cross from a narrower scope to a wider one.
pub(super) fn count(memory: &mut Memory, source: &Memory) {
    memory.occurrences = memory.occurrences.saturating_add(source.occurrences);
    memory.last_seen_at = memory.last_seen_at.max(source.last_seen_at);
    memory.importance = memory.importance.max(source.importance);
    memory.feedback.join(&source.feedback);
    memory.used.count = memory.used.count.saturating_add(source.used.count);
    memory.used.last_at = memory.used.last_at.max(source.used.last_at);
    // As when a lesson is learned again, it lives as long as its longest-lived occurrence.
    memory.expires_at = match (memory.expires_at, source.expires_at) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (None, _) | (_, None) => None,
    };
}

/// Adds metadata and links. What would contradict what is there is left in the archived source.
pub(super) fn say(memory: &mut Memory, source: &Memory) {
    for (name, value) in &source.metadata {
        if !memory.metadata.contains_key(name) {
            let mut joined = memory.metadata.clone();
            joined.insert(name.clone(), value.clone());
            if memory::check_metadata(&joined).is_ok() {
                memory.metadata = joined;
            }
        }
    }
    for link in &source.links {
        if memory.links.len() < limits::LINKS_MAX {
            memory.links.insert(*link);
        }
    }
}
