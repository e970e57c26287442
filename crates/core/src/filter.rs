//! What a recall or a list may return.
//!
//! [`Filter::passes`] is the definition; the index answers the same question by its columns and is
//! tested against it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    memory::Memory,
    name::{Domain, Name},
    scope::Reader,
    time::TimeMs,
};

/// Fields are joined by AND, the values of one field by OR; an empty field lets everything pass.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Filter {
    pub domains: BTreeSet<Domain>,
    pub agents: BTreeSet<Name>,
    pub sessions: BTreeSet<Name>,
    /// Each entry must be there with exactly this value.
    pub metadata: BTreeMap<String, String>,
    /// `occurred_at` at or after this.
    pub since: Option<TimeMs>,
    /// `occurred_at` before this.
    pub until: Option<TimeMs>,
    pub min_importance: Option<f32>,
    pub archive: Archive,
}

/// Whether archived memories pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Archive {
    #[default]
    Without,
    With,
    /// And nothing else.
    Only,
}

impl Archive {
    pub fn passes(self, is_archived: bool) -> bool {
        match self {
            Self::Without => !is_archived,
            Self::With => true,
            Self::Only => is_archived,
        }
    }
}

impl Filter {
    /// What it asks of that which never changes: whatever passes at any moment passes this.
    #[must_use]
    pub fn lasting(&self) -> Self {
        Self {
            metadata: BTreeMap::new(),
            min_importance: None,
            archive: Archive::With,
            ..self.clone()
        }
    }

    /// Whether `reader` may be given `memory` at the log time `now` under this filter.
    pub fn passes(&self, memory: &Memory, reader: &Reader, now: TimeMs) -> bool {
        let one_of = |wanted: &BTreeSet<Name>, actual: &Option<Name>| {
            wanted.is_empty() || actual.as_ref().is_some_and(|a| wanted.contains(a))
        };
        reader.sees(&memory.scope)
            && !memory.is_expired(now)
            && self.archive.passes(memory.is_archived())
            && (self.domains.is_empty() || self.domains.contains(&memory.domain))
            && one_of(&self.agents, &memory.agent)
            && one_of(&self.sessions, &memory.session)
            && self
                .metadata
                .iter()
                .all(|(k, v)| memory.metadata.get(k) == Some(v))
            && self.since.is_none_or(|since| memory.occurred_at >= since)
            && self.until.is_none_or(|until| memory.occurred_at < until)
            && self
                .min_importance
                .is_none_or(|least| memory.importance >= least)
    }
}
