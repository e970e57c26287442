//! A stored memory as a caller sees it.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{key::Key, memory as core, name::Namespace, time::TimeMs};
use memorygate_proto::v1;

pub use memorygate_core::memory::{Link, Relation};

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
        let expires_at = match wire.expires_at {
            None => None,
            at => Some(instant("expires_at", at)?),
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
            expires_at,
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
        })
    }

    /// A record of the core with its place.
    pub(crate) fn of(
        namespace: &Namespace,
        key: Key,
        memory: core::Memory,
        model: memorygate_core::embedding::ModelId,
    ) -> Self {
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
        }
    }
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
        let memory = Memory::from_wire(wire()).unwrap();
        assert_eq!(memory.occurred_at, TimeMs(1002));
        assert_eq!((memory.agent, memory.session), (None, None));
    }
}
