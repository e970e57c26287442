//! A stored memory as a caller sees it.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{key::Key, memory as core, name::Namespace, shown::Shown, time::TimeMs};
use memorygate_proto::v1;

pub use memorygate_core::memory::{Archived, Link, Reason, Relation};

use crate::{experience, scope::Scope, time};

#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    pub key: Key,
    pub namespace: String,
    pub scope: Scope,
    pub content: String,
    pub domain: String,
    pub occurred_at: TimeMs,
    /// 0 to 1.
    pub importance: f32,
    pub metadata: BTreeMap<String, String>,
    pub agent: Option<String>,
    pub session: Option<String>,
    pub links: BTreeSet<Link>,
    pub expires_at: Option<TimeMs>,
    pub pinned: bool,
    /// Counts the changes of this memory, from 1.
    pub version: u64,
    /// How often the lesson was learned.
    pub occurrences: u32,
    /// When it was last learned again.
    pub last_seen_at: TimeMs,
    pub feedback: Feedback,
    /// When it was first learned.
    pub created_at: TimeMs,
    /// Where in the log it was first learned.
    pub created_index: u64,
    pub updated_at: TimeMs,
    /// Which model embedded it: 16 hexadecimal digits, zeros for a vector that the caller supplied.
    pub model: String,
    /// Recalls that returned it; counted some seconds later.
    pub uses: u32,
    /// `None` if it was never used.
    pub last_used_at: Option<TimeMs>,
    /// Set while it is in the archive.
    pub archived: Option<Archived>,
    /// Archived memories whose evidence is part of this one.
    pub merged: BTreeSet<Key>,
    /// Who made it, from a memory of a narrower scope, one of this scope; the earliest first.
    pub shared_by: Vec<Sharing>,
}

/// That a memory came from a narrower scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// `None` if a member of the team did it without a name.
    pub agent: Option<String>,
    pub at: TimeMs,
    /// When the lesson was first learned in the narrower scope.
    pub learned_at: TimeMs,
}

/// What was said of a memory's use.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Feedback {
    pub count: u32,
    /// Sum of the positive scores.
    pub positive: f64,
    /// Sum of the negative scores' absolute values.
    pub negative: f64,
    /// 0 to 1; 0.5 without feedback.
    pub usefulness: f32,
}

impl Memory {
    pub(crate) fn from_wire(wire: v1::Memory) -> Result<Self, String> {
        let instant = |field: &str, timestamp: Option<prost_types::Timestamp>| {
            let timestamp = timestamp.ok_or_else(|| format!("{field} is missing"))?;
            time::from_wire(timestamp).map_err(|e| format!("{field}: {e}"))
        };
        let if_set = |field: &str, timestamp: Option<prost_types::Timestamp>| match timestamp {
            None => Ok(None),
            at => instant(field, at).map(Some),
        };
        let feedback = wire.feedback.unwrap_or(v1::FeedbackSummary {
            usefulness: 0.5,
            ..v1::FeedbackSummary::default()
        });
        Ok(Self {
            key: wire.key.parse().map_err(|e| format!("{e}"))?,
            namespace: wire.namespace,
            scope: Scope::from_wire(wire.scope),
            content: wire.content,
            domain: wire.domain,
            occurred_at: instant("occurred_at", wire.occurred_at)?,
            importance: wire.importance,
            metadata: wire.metadata,
            agent: Some(wire.agent).filter(|name| !name.is_empty()),
            session: Some(wire.session).filter(|name| !name.is_empty()),
            links: wire
                .links
                .iter()
                .map(experience::link_from_wire)
                .collect::<Result<_, _>>()?,
            expires_at: if_set("expires_at", wire.expires_at)?,
            pinned: wire.pinned,
            version: wire.version,
            occurrences: wire.occurrences,
            last_seen_at: instant("last_seen_at", wire.last_seen_at)?,
            feedback: Feedback {
                count: feedback.count,
                positive: feedback.positive,
                negative: feedback.negative,
                usefulness: feedback.usefulness,
            },
            created_at: instant("created_at", wire.created_at)?,
            created_index: wire.created_index,
            updated_at: instant("updated_at", wire.updated_at)?,
            model: wire.model,
            uses: wire.uses,
            last_used_at: if_set("last_used_at", wire.last_used_at)?,
            archived: wire.archived.map(archived).transpose()?,
            merged: wire
                .merged
                .iter()
                .map(|key| key.parse().map_err(|e| format!("merged: {e}")))
                .collect::<Result<_, _>>()?,
            shared_by: wire
                .shared_by
                .into_iter()
                .map(|sharing| {
                    Ok::<_, String>(Sharing {
                        agent: Some(sharing.agent).filter(|name| !name.is_empty()),
                        at: instant("shared_by.at", sharing.at)?,
                        learned_at: instant("shared_by.learned_at", sharing.learned_at)?,
                    })
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// A record of the core with its place.
    pub(crate) fn of(
        namespace: &Namespace,
        key: Key,
        shown: Shown,
        model: memorygate_core::embedding::ModelId,
    ) -> Self {
        let memory = shown.into_memory();
        Self {
            key,
            namespace: namespace.to_string(),
            scope: Scope::of(&memory.scope),
            content: memory.content,
            domain: memory.domain.to_string(),
            occurred_at: memory.occurred_at,
            importance: memory.importance,
            metadata: memory.metadata,
            agent: memory.agent.map(|name| name.to_string()),
            session: memory.session.map(|name| name.to_string()),
            links: memory.links,
            expires_at: memory.expires_at,
            pinned: memory.pinned,
            version: memory.version,
            occurrences: memory.occurrences,
            last_seen_at: memory.last_seen_at,
            feedback: Feedback {
                count: memory.feedback.count,
                positive: memory.feedback.positive,
                negative: memory.feedback.negative,
                usefulness: memory.feedback.usefulness(),
            },
            created_at: memory.created.at,
            created_index: memory.created.index,
            updated_at: memory.updated_at,
            model: format!("{:016x}", model.0),
            uses: memory.used.count,
            last_used_at: (!memory.used.is_never()).then_some(memory.used.last_at),
            archived: memory.archived,
            merged: memory.merged,
            shared_by: sharings(&memory.shared),
        }
    }

    /// The memory that took this one's place; `None` if it is not archived, or faded, or if the reader may not
    /// see that one.
    pub fn replaced_by(&self) -> Option<Key> {
        self.archived?.reason.replacement()
    }
}

/// As a server shows them: without the keys of the narrower memories.
fn sharings(shared: &BTreeMap<Key, core::Sharing>) -> Vec<Sharing> {
    let mut sharings: Vec<Sharing> = shared
        .values()
        .map(|sharing| Sharing {
            agent: sharing.by.as_ref().map(ToString::to_string),
            at: sharing.at,
            learned_at: sharing.learned_at,
        })
        .collect();
    sharings.sort_by_key(|sharing| sharing.at);
    sharings
}

fn archived(wire: v1::Archived) -> Result<Archived, String> {
    let by = || {
        let by = wire.replaced_by.parse();
        by.map_err(|e| format!("archived.replaced_by: {e}"))
    };
    let reason = match wire.reason.as_str() {
        "faded" => Reason::Faded,
        "withheld" => Reason::Withheld,
        "merged" => Reason::Merged { into: by()? },
        "superseded" => Reason::Superseded { by: by()? },
        "shared" => Reason::Shared { to: by()? },
        other => return Err(format!("archived.reason {other:?}")),
    };
    let at = wire.at.ok_or("archived.at is missing")?;
    Ok(Archived {
        reason,
        at: time::from_wire(at).map_err(|e| format!("archived.at: {e}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::Memory {
        let at = Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 2_000_000,
        });
        v1::Memory {
            key: "00112233445566778899aabbccddeeff".to_owned(),
            content: "x".to_owned(),
            occurred_at: at,
            last_seen_at: at,
            created_at: at,
            updated_at: at,
            ..v1::Memory::default()
        }
    }

    fn check(change: impl FnOnce(&mut v1::Memory)) -> String {
        let mut wire = wire();
        change(&mut wire);
        match Memory::from_wire(wire) {
            Ok(memory) => format!("{} {}", memory.scope, memory.feedback.usefulness),
            Err(error) => error,
        }
    }

    #[test]
    fn a_memory_is_read_or_what_is_wrong_with_it_is_named() {
        assert_eq!(check(|_| {}), "shared 0.5");
        assert_eq!(check(|m| m.created_at = None), "created_at is missing");
        assert!(check(|m| m.key.clear()).contains("is not 32 hexadecimal digits"));
        let before_1970 = prost_types::Timestamp {
            seconds: -1,
            nanos: 0,
        };
        assert!(check(|m| m.expires_at = Some(before_1970)).starts_with("expires_at: "));
        let link = |relation: &str, key: &str| v1::LinkTarget {
            relation: relation.to_owned(),
            key: key.to_owned(),
        };
        assert_eq!(
            check(|m| m.links.push(link("loves", ""))),
            "relation \"loves\""
        );
        assert!(check(|m| m.links.push(link("caused_by", ""))).starts_with("link: "));
        let in_archive = |reason: &str, replaced_by: &str| {
            Some(v1::Archived {
                reason: reason.to_owned(),
                replaced_by: replaced_by.to_owned(),
                at: wire().created_at,
            })
        };
        assert_eq!(
            check(|m| m.archived = in_archive("lost", "")),
            "archived.reason \"lost\""
        );
        assert!(check(|m| m.archived = in_archive("merged", "")).starts_with("archived.replaced"));
        assert!(check(|m| m.merged.push("x".to_owned())).starts_with("merged: "));
        let unknown = v1::Sharing::default();
        assert_eq!(
            check(|m| m.shared_by.push(unknown)),
            "shared_by.at is missing"
        );
        assert!(check(|m| m.archived = in_archive("shared", "x")).starts_with("archived.replaced"));
        let mut superseded = wire();
        superseded.archived = in_archive("superseded", &superseded.key);
        let superseded = Memory::from_wire(superseded).unwrap();
        assert_eq!(superseded.replaced_by(), Some(superseded.key));
        let memory = Memory::from_wire(wire()).unwrap();
        assert_eq!((memory.archived, memory.replaced_by()), (None, None));
        assert_eq!(memory.occurred_at, TimeMs(1002));
        assert_eq!((memory.agent, memory.session), (None, None));
    }
}
