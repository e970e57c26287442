//! A memory: what became of one experience, or of many that taught the same lesson.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use crate::{
    key::Key,
    limits,
    name::{Domain, Name},
    scope::Scope,
    time::TimeMs,
};

/// The stored record. Its namespace and key are its storage key; its embedding is a record of its
/// own, since feedback changes the one often and nothing changes the other.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Memory {
    #[n(0)]
    pub scope: Scope,
    /// As first learned: 1 to [`limits::CONTENT_BYTES_MAX`] bytes.
    #[n(1)]
    pub content: String,
    #[n(2)]
    pub domain: Domain,
    /// When it first happened.
    #[n(3)]
    pub occurred_at: TimeMs,
    /// 0 to 1.
    #[n(4)]
    pub importance: f32,
    #[n(5)]
    pub metadata: BTreeMap<String, String>,
    #[n(6)]
    pub agent: Option<Name>,
    #[n(7)]
    pub session: Option<Name>,
    #[n(8)]
    pub links: BTreeSet<Link>,
    #[n(9)]
    pub expires_at: Option<TimeMs>,
    #[n(10)]
    pub pinned: bool,
    /// Counts the changes of this record, from 1.
    #[n(11)]
    pub version: u64,
    /// How often the lesson was learned, from 1.
    #[n(12)]
    pub occurrences: u32,
    /// When it last happened: the latest `occurred_at` of all its occurrences.
    #[n(13)]
    pub last_seen_at: TimeMs,
    #[n(14)]
    pub feedback: Feedback,
    #[n(15)]
    pub created: Created,
    /// The log's time at the last change.
    #[n(16)]
    pub updated_at: TimeMs,
    /// How it was used. Counting is no change of the record: the version stays.
    #[cbor(n(17), skip_if = "Used::is_never")]
    pub used: Used,
    /// Set while it is in the archive.
    #[n(18)]
    pub archived: Option<Archived>,
    /// Archived memories whose evidence is part of this one, at most [`limits::MERGED_MAX`].
    #[cbor(n(19), skip_if = "BTreeSet::is_empty")]
    pub merged: BTreeSet<Key>,
    /// Memories of narrower scopes that were shared as this one, at most [`limits::SHARINGS_MAX`]. Their
    /// keys are not for those who read it: they may see this memory, and not those.
    #[cbor(n(20), skip_if = "BTreeMap::is_empty")]
    pub shared: BTreeMap<Key, Sharing>,
    /// Index of the log entry that made this version, if it is not the first.
    #[cbor(n(30), skip_if = "is_zero")]
    pub changed_index: u64,
}

fn is_zero(index: &u64) -> bool {
    *index == 0
}

/// Who made a memory of a narrower scope one of a wider scope.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Sharing {
    /// Absent if a member of the team did it without a name.
    #[n(0)]
    pub by: Option<Name>,
    /// The log's time.
    #[n(1)]
    pub at: TimeMs,
    /// The log's time when the lesson was first learned in the narrower scope.
    #[n(2)]
    pub learned_at: TimeMs,
}

/// Uses that were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Used {
    /// Recalls that returned it.
    #[n(0)]
    pub count: u32,
    /// When it was last among the results; 1970 if never.
    #[n(1)]
    pub last_at: TimeMs,
}

impl Used {
    pub fn is_never(&self) -> bool {
        *self == Self::default()
    }
}

/// That a memory is in the archive: recalls and lists leave it out unless they ask for it, and nothing
/// of it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Archived {
    #[n(0)]
    pub reason: Reason,
    /// The log's time when it was archived.
    #[n(1)]
    pub at: TimeMs,
}

/// Why a memory was archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reason {
    /// It was of little worth and long unused.
    #[n(0)]
    Faded,
    /// Another memory says the same, and has its evidence.
    #[n(1)]
    Merged {
        #[n(0)]
        into: Key,
    },
    /// It contradicted another memory, which was found to be right.
    #[n(2)]
    Superseded {
        #[n(0)]
        by: Key,
    },
    /// It was shared: it lives on in a wider scope, and so under another key.
    #[n(3)]
    Shared {
        #[n(0)]
        to: Key,
    },
    /// In an answer, that another memory took its place which the reader may not see. Never stored.
    #[n(4)]
    Withheld,
}

impl Reason {
    /// The memory that took the place.
    pub fn replacement(self) -> Option<Key> {
        match self {
            Self::Merged { into } => Some(into),
            Self::Superseded { by } => Some(by),
            Self::Shared { to } => Some(to),
            Self::Faded | Self::Withheld => None,
        }
    }
}

/// When and where in the log a memory came to be. Its order is the order of learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Created {
    /// Index of the log entry.
    #[n(0)]
    pub index: u64,
    /// Place in that entry's batch.
    #[n(1)]
    pub offset: u32,
    /// The log's time.
    #[n(2)]
    pub at: TimeMs,
}

impl Memory {
    pub fn is_archived(&self) -> bool {
        self.archived.is_some()
    }

    /// Archived memories whose evidence is part of this one.
    pub fn sources(&self) -> impl Iterator<Item = Key> {
        self.merged.iter().chain(self.shared.keys()).copied()
    }

    /// The memory that took this one's place.
    pub fn replacement(&self) -> Option<Key> {
        self.archived?.reason.replacement()
    }

    /// Index of the log entry that made this version; `None` if it was made before that was kept.
    pub fn changed_at(&self) -> Option<u64> {
        match (self.version, self.changed_index) {
            (1, _) => Some(self.created.index),
            (_, 0) => None,
            (_, index) => Some(index),
        }
    }

    /// When it last happened, was learned, judged or otherwise changed, or was used. A lesson of long ago
    /// that was learned today is as new as today.
    pub fn last_touched_at(&self) -> TimeMs {
        self.last_seen_at
            .max(self.updated_at)
            .max(self.used.last_at)
    }

    /// Whether it is gone at `now`: past its expiry and not pinned.
    pub fn is_expired(&self, now: TimeMs) -> bool {
        !self.pinned && self.expires_at.is_some_and(|at| at <= now)
    }
}

/// How one memory refers to another in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Relation {
    #[n(0)]
    CausedBy,
    #[n(1)]
    ResolvedBy,
    #[n(2)]
    Supersedes,
    #[n(3)]
    RelatesTo,
}

impl Relation {
    pub const ALL: [Self; 4] = [
        Self::CausedBy,
        Self::ResolvedBy,
        Self::Supersedes,
        Self::RelatesTo,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::CausedBy => "caused_by",
            Self::ResolvedBy => "resolved_by",
            Self::Supersedes => "supersedes",
            Self::RelatesTo => "relates_to",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Link {
    #[n(0)]
    pub relation: Relation,
    #[n(1)]
    pub target: Key,
}

/// What callers said of a memory's use, each score in -1..=1.
#[derive(Clone, Copy, Debug, PartialEq, Default, Encode, Decode)]
pub struct Feedback {
    #[n(0)]
    pub count: u32,
    /// Sum of the positive scores.
    #[n(1)]
    pub positive: f64,
    /// Sum of the negative scores' absolute values.
    #[n(2)]
    pub negative: f64,
}

impl Feedback {
    /// Pseudo-counts of the Beta prior, of success and of failure each: one lucky outcome moves the
    /// mean to 0.6, ten to 0.86.
    pub const PRIOR: f64 = 2.0;

    /// Adds what was said of another memory of the same lesson.
    pub fn join(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.positive += other.positive;
        self.negative += other.negative;
    }

    pub fn add(&mut self, score: f32) {
        self.count = self.count.saturating_add(1);
        if score >= 0.0 {
            self.positive += f64::from(score);
        } else {
            self.negative -= f64::from(score);
        }
    }

    /// Mean of the Beta posterior, 0 to 1; 0.5 without feedback. (Beta-Bernoulli conjugacy, as in
    /// Gelman et al., Bayesian Data Analysis, section 2.1, with fractional outcomes.)
    pub fn usefulness(&self) -> f32 {
        let total = 2.0 * Self::PRIOR + self.positive + self.negative;
        ((Self::PRIOR + self.positive) / total) as f32
    }

    /// The mean less one standard deviation of that posterior: what can be counted on. 0.28 without
    /// feedback. (The variance of Beta(a, b) is ab / ((a + b)² (a + b + 1)), ibid., appendix A.)
    pub fn proven_usefulness(&self) -> f64 {
        let (a, b) = (Self::PRIOR + self.positive, Self::PRIOR + self.negative);
        let total = a + b;
        let variance = a * b / (total * total * (total + 1.0));
        a / total - libm::sqrt(variance)
    }
}

/// What an experience or a change of a memory breaks.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    #[error("content is empty")]
    ContentEmpty,
    #[error(
        "content has {actual} bytes, expected at most {}",
        limits::CONTENT_BYTES_MAX
    )]
    ContentTooLong { actual: usize },
    #[error("importance is {actual}, expected 0 to 1")]
    Importance { actual: f32 },
    #[error(
        "metadata has {actual} entries, expected at most {}",
        limits::METADATA_ENTRIES_MAX
    )]
    MetadataEntries { actual: usize },
    #[error(
        "metadata has {actual} bytes, expected at most {}",
        limits::METADATA_BYTES_MAX
    )]
    MetadataBytes { actual: usize },
    #[error(
        "metadata key {key:?} is empty, has control characters or over {} bytes",
        limits::METADATA_KEY_BYTES_MAX
    )]
    MetadataKey { key: String },
    #[error(
        "memory would have {actual} links, expected at most {}",
        limits::LINKS_MAX
    )]
    Links { actual: usize },
    #[error("feedback score is {actual}, expected -1 to 1")]
    Score { actual: f32 },
    #[error(
        "reason has {actual} bytes, expected at most {}",
        limits::REASON_BYTES_MAX
    )]
    ReasonTooLong { actual: usize },
    #[error(
        "consolidation has {actual} steps, expected at most {}",
        limits::STEPS_MAX
    )]
    Steps { actual: usize },
    #[error("a step of a consolidation consumes too many memories, or one of them twice")]
    Step,
    #[error("a memory is shared with a team or with everyone, not with one agent")]
    SharedWithAgent,
    #[error(
        "memory would be shared from {actual} narrower scopes, expected at most {}",
        limits::SHARINGS_MAX
    )]
    Sharings { actual: usize },
    #[error("trust is {actual}, expected 0 to 1")]
    Trust { actual: f32 },
    #[error("{actual} uses at once, expected at most {}", limits::USES_MAX)]
    Uses { actual: usize },
    #[error(transparent)]
    Policy(#[from] crate::consolidation::InvalidPolicy),
    #[error("batch has {actual} experiences, expected 1 to {}", limits::BATCH_MAX)]
    Batch { actual: usize },
    #[error(transparent)]
    Time(#[from] crate::time::Error),
    #[error(transparent)]
    Embedding(#[from] crate::embedding::Error),
}

pub fn check_content(content: &str) -> Result<(), Invalid> {
    if content.len() > limits::CONTENT_BYTES_MAX {
        return Err(Invalid::ContentTooLong {
            actual: content.len(),
        });
    }
    if crate::key::is_blank(content) {
        return Err(Invalid::ContentEmpty);
    }
    Ok(())
}

/// Refuses what is outside 0..=1, which includes NaN and the infinities.
pub fn check_importance(actual: f32) -> Result<(), Invalid> {
    if (0.0..=1.0).contains(&actual) {
        Ok(())
    } else {
        Err(Invalid::Importance { actual })
    }
}

pub fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if metadata.len() > limits::METADATA_ENTRIES_MAX {
        return Err(Invalid::MetadataEntries {
            actual: metadata.len(),
        });
    }
    let bytes = metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > limits::METADATA_BYTES_MAX {
        return Err(Invalid::MetadataBytes { actual: bytes });
    }
    let is_bad = |key: &&String| {
        key.is_empty()
            || key.len() > limits::METADATA_KEY_BYTES_MAX
            || key.chars().any(char::is_control)
    };
    match metadata.keys().find(is_bad) {
        None => Ok(()),
        Some(key) => Err(Invalid::MetadataKey {
            key: key.chars().take(80).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lucky_outcome_counts_less_than_ten() {
        let after = |scores: &[f32]| {
            let mut feedback = Feedback::default();
            scores.iter().for_each(|s| feedback.add(*s));
            (feedback.usefulness() * 100.0).round() / 100.0
        };
        assert_eq!(after(&[]), 0.5);
        assert_eq!(after(&[1.0]), 0.6);
        assert_eq!(after(&[1.0; 10]), 0.86);
        assert_eq!(after(&[-1.0]), 0.4);
        assert_eq!(after(&[1.0, -1.0]), 0.5);
        assert_eq!(after(&[0.5]), 0.56);
    }

    #[test]
    fn bounds_are_checked() {
        assert_eq!(check_content(" \n"), Err(Invalid::ContentEmpty));
        assert!(check_content(&"x".repeat(limits::CONTENT_BYTES_MAX)).is_ok());
        assert!(check_content(&"x".repeat(limits::CONTENT_BYTES_MAX + 1)).is_err());
        for bad in [f32::NAN, f32::INFINITY, -0.1, 1.1] {
            assert!(check_importance(bad).is_err(), "{bad}");
        }
        let metadata = |entries: usize, value: usize| {
            (0..entries)
                .map(|i| (format!("k{i}"), "v".repeat(value)))
                .collect()
        };
        assert!(check_metadata(&metadata(64, 10)).is_ok());
        assert!(check_metadata(&metadata(65, 1)).is_err());
        assert!(check_metadata(&metadata(1, 10 << 20)).is_err());
        assert!(check_metadata(&[("\n".to_owned(), String::new())].into()).is_err());
    }
}
