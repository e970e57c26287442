//! Something that happened, its name in the log, and what it ends.

use memorygate_core::{
    key::Key,
    limits::REQUEST_WINDOW_POSITIONS,
    memory,
    name::{Domain, Name, Namespace},
    request::RequestId,
    scope::Scope,
    time::{DAY_MS, TimeMs},
};
use memorygate_feeds::{
    Experience,
    alertmanager::{Alert, Status},
};
use sha2::{Digest as _, Sha256};

use crate::{error::Violation, learn::Draft};

/// Positions between two beginnings of request ids: half of those for which an answer is remembered, so
/// that what was answered under the beginning before is remembered as long as that one is asked.
const STEP_POSITIONS: u64 = REQUEST_WINDOW_POSITIONS / 2;

/// What an event and something to be done about it are told apart by from all else that a nonce is made
/// of. Never changes, or deliveries of before it changed are learned again.
const MARK: &[u8] = b"memorygate hook 1";

/// What is done about an event, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Learn,
    /// What it ends is told that it is over.
    Link,
}

impl Act {
    fn as_str(self) -> &'static str {
        match self {
            Self::Learn => "learn",
            Self::Link => "link",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) experience: Experience,
    /// What it is the end of: an alert that was resolved fired before.
    pub(super) ends: Option<Experience>,
}

impl Event {
    pub(super) fn of(experience: Experience) -> Self {
        Self {
            experience,
            ends: None,
        }
    }

    /// An alert of a group.
    pub(super) fn of_alert(alert: &Alert, group_key: &str) -> Self {
        let firing = |alert: &Alert| {
            let fired = Alert {
                status: Status::Firing,
                ends_at: None,
                ..alert.clone()
            };
            fired.experience(group_key)
        };
        Self {
            experience: alert.experience(group_key),
            ends: (alert.status == Status::Resolved).then(|| firing(alert)),
        }
    }
}

/// The ids that an act on an event may have been done under: the one to do it under at this position of
/// the log, and the one before, if there was one. Every node makes the same, so the log itself tells
/// what was delivered before, to whichever node.
///
/// Two deliveries in the very moment in which the position passes a multiple of [`STEP_POSITIONS`] may
/// both be learned; so are two with more than that between them.
pub(super) fn ids(
    namespace: &Namespace,
    event: &str,
    act: Act,
    position: u64,
) -> (RequestId, Option<RequestId>) {
    let mut hash = Sha256::new();
    hash.update(MARK);
    for part in [namespace.as_str(), event, act.as_str()] {
        hash.update([0]);
        hash.update(part.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&digest[..16]);
    let after = position - position % STEP_POSITIONS;
    let before = after.checked_sub(STEP_POSITIONS);
    (
        RequestId { after, nonce },
        before.map(|after| RequestId { after, nonce }),
    )
}

/// The key of the memory that an experience becomes.
pub(super) fn key(namespace: &Namespace, experience: &Experience) -> Result<Key, Violation> {
    let domain = Domain::parse(&experience.domain).map_err(|e| Violation::at("domain", e))?;
    Ok(Key::of(
        namespace,
        &Scope::Shared,
        &domain,
        &experience.content,
    ))
}

/// An experience as it is learned. A time that lies ahead is somebody's wrong clock, and no reason to
/// lose what happened: the time of the write is taken instead.
pub(super) fn draft(experience: Experience, now: TimeMs) -> Result<Draft, Violation> {
    memory::check_content(&experience.content).map_err(|e| Violation::at("content", e))?;
    memory::check_importance(experience.importance).map_err(|e| Violation::at("importance", e))?;
    memory::check_metadata(&experience.metadata).map_err(|e| Violation::at("metadata", e))?;
    let name =
        |field: &str, text: &str| Name::parse_optional(text).map_err(|e| Violation::at(field, e));
    Ok(Draft {
        scope: Scope::Shared,
        domain: Domain::parse(&experience.domain).map_err(|e| Violation::at("domain", e))?,
        occurred_at: experience.occurred_at.filter(|at| at.since(now) <= DAY_MS),
        importance: experience.importance,
        agent: name("agent", &experience.agent)?,
        session: name("session", &experience.session)?,
        metadata: experience.metadata,
        content: experience.content,
        expires_at: None,
        pinned: false,
        links: Default::default(),
        given: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> (RequestId, Option<RequestId>) {
        let namespace = Namespace::parse("default").unwrap();
        ids(&namespace, "ci/a/7/1/failed", Act::Learn, position)
    }

    #[test]
    fn an_event_has_the_same_id_until_the_step_after_the_next() {
        let (first, none) = at(1);
        assert_eq!(none, None);
        assert_eq!(first.to_string(), "0-79b714bfea1c96a6a100577bf0ae027b");
        assert_eq!(at(STEP_POSITIONS - 1), (first, None));
        let (second, before) = at(STEP_POSITIONS);
        assert_eq!((second.after, before), (STEP_POSITIONS, Some(first)));
        assert_eq!(at(2 * STEP_POSITIONS - 1).1, Some(first));
        assert_eq!(at(2 * STEP_POSITIONS).1, Some(second));
        // The answer under the id before is remembered as long as it is asked for.
        use memorygate_core::request::Age;
        assert_eq!(first.age_at(2 * STEP_POSITIONS), Age::Known);
        assert_eq!(first.age_at(1), Age::Known);
    }

    #[test]
    fn namespaces_events_and_acts_are_told_apart() {
        let id = |namespace: &str, event: &str, act| {
            ids(&Namespace::parse(namespace).unwrap(), event, act, 1).0
        };
        let all = [
            id("a", "b", Act::Learn),
            id("a", "b", Act::Link),
            id("a", "c", Act::Learn),
            id("ab", "", Act::Learn),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }
}
