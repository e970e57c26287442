//! What a message teaches, within every bound of an experience.

use std::collections::BTreeMap;

use memorygate_core::{
    limits::{METADATA_BYTES_MAX, METADATA_ENTRIES_MAX, METADATA_KEY_BYTES_MAX},
    time::TimeMs,
};

/// Bytes of one metadata value; the rest is cut off.
pub const METADATA_VALUE_BYTES_MAX: usize = 512;

/// An experience that came from a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Experience {
    /// Names what happened, so that the same message, delivered again or within another, is known:
    /// source, thing, occurrence and state, such as
    /// `alertmanager/c5f4a0f7b2d1e3aa/1769860800000/firing`.
    pub event: String,
    /// The same for things that happen again, so that they reinforce one memory: without times, ids
    /// or counts of ours.
    pub content: String,
    pub domain: String,
    pub occurred_at: Option<TimeMs>,
    /// 0 to 1.
    pub importance: f32,
    pub metadata: BTreeMap<String, String>,
    /// The system that said it.
    pub agent: String,
    /// Ties what belongs to one incident or pipeline together.
    pub session: String,
}

/// Metadata that cannot break a bound: what comes first is kept, what does not fit is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metadata {
    entries: BTreeMap<String, String>,
    bytes: usize,
}

impl Metadata {
    /// Nothing happens for an empty value.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        let value = crate::text::head(value, METADATA_VALUE_BYTES_MAX);
        let is_key = !key.is_empty()
            && key.len() <= METADATA_KEY_BYTES_MAX
            && !key.chars().any(char::is_control);
        let bytes = self.bytes + key.len() + value.len();
        let has_room = self.entries.len() < METADATA_ENTRIES_MAX && bytes <= METADATA_BYTES_MAX;
        if is_key && !value.is_empty() && has_room && !self.entries.contains_key(key) {
            self.entries.insert(key.to_owned(), value);
            self.bytes = bytes;
        }
        self
    }

    pub(crate) fn into_inner(self) -> BTreeMap<String, String> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use memorygate_core::memory::check_metadata;

    use super::*;

    #[test]
    fn metadata_keeps_what_comes_first_and_what_fits() {
        let few = Metadata::default()
            .with("a", "1")
            .with("a", "2")
            .with("b", " ")
            .with("", "x")
            .with("c\n", "x");
        assert_eq!(few.into_inner(), BTreeMap::from([("a".into(), "1".into())]));
        let many = (0..200).fold(Metadata::default(), |m, i| {
            m.with(&format!("k{i}"), &"ä".repeat(1000))
        });
        let many = many.into_inner();
        assert_eq!(check_metadata(&many), Ok(()));
        assert!(many.len() > 25 && many.values().all(|v| v.ends_with('…')));
    }
}
