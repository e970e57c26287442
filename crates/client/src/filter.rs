//! What a recall or a list may return.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{
    filter as core,
    memory::{check_importance, check_metadata},
    name::{Domain, Name},
    time::TimeMs,
};
use memorygate_proto::v1;

pub use memorygate_core::filter::Archive;

use crate::{error::Violations, time};

/// Fields are joined by AND, the values of one field by OR; an empty field lets everything pass.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Filter {
    pub domains: BTreeSet<String>,
    pub agents: BTreeSet<String>,
    pub sessions: BTreeSet<String>,
    /// Each entry must be there with exactly this value.
    pub metadata: BTreeMap<String, String>,
    /// Happened at or after this.
    pub since: Option<TimeMs>,
    /// Happened before this.
    pub until: Option<TimeMs>,
    /// 0 to 1.
    pub min_importance: Option<f32>,
    /// Whether archived memories pass; they do not unless asked for.
    pub archive: Archive,
}

impl Filter {
    /// Lets everything pass.
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.domains.insert(name.into());
        self
    }

    #[must_use]
    pub fn agent(mut self, name: impl Into<String>) -> Self {
        self.agents.insert(name.into());
        self
    }

    #[must_use]
    pub fn session(mut self, name: impl Into<String>) -> Self {
        self.sessions.insert(name.into());
        self
    }

    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    #[must_use]
    pub fn since(mut self, time: TimeMs) -> Self {
        self.since = Some(time);
        self
    }

    #[must_use]
    pub fn until(mut self, time: TimeMs) -> Self {
        self.until = Some(time);
        self
    }

    #[must_use]
    pub fn min_importance(mut self, least: f32) -> Self {
        self.min_importance = Some(least);
        self
    }

    #[must_use]
    pub fn archive(mut self, archive: Archive) -> Self {
        self.archive = archive;
        self
    }

    pub(crate) fn check(&self) -> (Violations, core::Filter) {
        let mut violations = Violations::default();
        let domains = self
            .domains
            .iter()
            .filter_map(|name| violations.check("domains", Domain::parse(name)))
            .collect();
        let mut names = |field: &str, names: &BTreeSet<String>| {
            names
                .iter()
                .filter_map(|name| violations.check(field, Name::parse(name)))
                .collect()
        };
        let agents = names("agents", &self.agents);
        let sessions = names("sessions", &self.sessions);
        violations.check("metadata", check_metadata(&self.metadata));
        for (field, time) in [("since", self.since), ("until", self.until)] {
            if let Some(time) = time {
                violations.check(field, TimeMs::new(time.0));
            }
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            violations.add(
                "until",
                format!(
                    "until is {}, expected a time after since, {}",
                    time::format(until),
                    time::format(since)
                ),
            );
        }
        if let Some(least) = self.min_importance {
            violations.check("min_importance", check_importance(least));
        }
        let filter = core::Filter {
            domains,
            agents,
            sessions,
            metadata: self.metadata.clone(),
            since: self.since,
            until: self.until,
            min_importance: self.min_importance,
            archive: self.archive,
        };
        (violations, filter)
    }

    pub(crate) fn to_wire(&self) -> v1::Filter {
        v1::Filter {
            domains: self.domains.iter().cloned().collect(),
            agents: self.agents.iter().cloned().collect(),
            sessions: self.sessions.iter().cloned().collect(),
            metadata: self.metadata.clone(),
            since: self.since.map(time::to_wire),
            until: self.until.map(time::to_wire),
            min_importance: self.min_importance,
            archive: match self.archive {
                Archive::Without => v1::Archive::Unspecified,
                Archive::With => v1::Archive::Included,
                Archive::Only => v1::Archive::Only,
            } as i32,
        }
    }
}
