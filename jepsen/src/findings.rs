//! What the checkers of one run found.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Texts of one kind that are kept; the count goes on.
const TEXTS_MAX: usize = 20;

/// The judgement over one history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Operations that were acknowledged.
    pub acknowledged: u64,
    /// Operations that may or may not have happened.
    pub unknown: u64,
    /// Operations that did not happen.
    pub failed: u64,
    /// Acknowledged, and not there in the end.
    pub lost: u64,
    /// There in the end, and never asked for, or reported as failed.
    pub phantom: u64,
    /// Answers that no correct store could have given, and replicas that differ.
    pub violations: u64,
    /// Registers whose histories are not linearizable, or could not be decided.
    pub illegal: BTreeSet<u64>,
    /// What else a workload counted, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// The first of all these, in words.
    pub texts: Vec<String>,
}

impl Findings {
    pub fn lose(&mut self, text: impl Into<String>) {
        self.lost += 1;
        self.tell(text);
    }

    pub fn haunt(&mut self, text: impl Into<String>) {
        self.phantom += 1;
        self.tell(text);
    }

    pub fn violate(&mut self, text: impl Into<String>) {
        self.violations += 1;
        self.tell(text);
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.phantom == 0 && self.violations == 0
    }

    fn tell(&mut self, text: impl Into<String>) {
        if self.texts.len() < TEXTS_MAX {
            self.texts.push(text.into());
        }
    }
}
