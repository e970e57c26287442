//! History: what happened to a memory and to those that were merged into it, newest first, in pages.

use memorygate_core::{
    key::Key,
    memory::{Link, Relation},
    state::{Difference, Told, What},
    time::TimeMs,
};
use memorygate_proto::v1;

use crate::{
    error::Violations, freshness::Freshness, page, position::Position, scope::Reader, time,
};

pub use crate::page::PAGE_SIZE_DEFAULT;

#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The client's if unset.
    pub namespace: Option<String>,
    pub key: Key,
    /// The client's if unset.
    pub reader: Option<Reader>,
    /// 1 to 1000.
    pub page_size: usize,
    /// Where to go on: [`HistoryPage::next`] of the page before; empty for the start.
    pub page_token: String,
    pub freshness: Freshness,
}

impl History {
    pub fn new(key: Key) -> Self {
        Self {
            namespace: None,
            key,
            reader: None,
            page_size: PAGE_SIZE_DEFAULT,
            page_token: String::new(),
            freshness: Freshness::default(),
        }
    }

    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    #[must_use]
    pub fn reader(mut self, reader: Reader) -> Self {
        self.reader = Some(reader);
        self
    }

    #[must_use]
    pub fn page_size(mut self, size: usize) -> Self {
        self.page_size = size;
        self
    }

    #[must_use]
    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.page_token = token.into();
        self
    }

    #[must_use]
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    pub(crate) fn check(&self) -> Violations {
        page::check_size(self.page_size)
    }

    pub(crate) fn to_wire(
        &self,
        namespace: &str,
        reader: &Reader,
        at_least: Option<Position>,
    ) -> v1::HistoryRequest {
        v1::HistoryRequest {
            namespace: namespace.to_owned(),
            key: self.key.to_string(),
            reader: Some(reader.to_wire()),
            page_size: page::size_to_wire(self.page_size),
            page_token: self.page_token.clone(),
            at_least: at_least.map(Position::to_wire),
            linearizable: self.freshness == Freshness::Linearizable,
        }
    }
}

impl From<Key> for History {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    /// Newest first.
    pub events: Vec<Event>,
    /// Hand it back as [`History::page_token`]; `None` after the last page.
    pub next: Option<String>,
    /// False if some changes are not kept any more: they are kept for 90 days, and the last 1,000 of each
    /// memory.
    pub is_complete: bool,
    pub position: Position,
}

/// Something that happened to a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Of which memory: the one that was asked for, or one that was merged into it.
    pub key: Key,
    /// Index of the log entry. An epoch of consolidation is named by the same.
    pub position: u64,
    pub at: TimeMs,
    /// The memory's version after it.
    pub version: u64,
    /// `None` for a kind that this library does not know.
    pub kind: Option<EventKind>,
    /// Who did it, if it was said.
    pub agent: Option<String>,
    /// Of what was learned.
    pub session: Option<String>,
    /// Of a rating, -1 to 1.
    pub score: Option<f32>,
    /// Of a rating; empty for none.
    pub reason: String,
    /// The link that came or went; where it leads now if it was led elsewhere.
    pub link: Option<Link>,
    /// Other memories: those that were taken in, the one that this was merged into, that it was upheld over
    /// or superseded by, that it was shared as, where a link led before, whose words were learned again.
    pub others: Vec<Key>,
    /// What was different afterwards, at most 32.
    pub changes: Vec<FieldChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    Learned,
    LearnedAgain,
    Updated,
    Rated,
    Linked,
    Unlinked,
    Restored,
    TookIn,
    Merged,
    Faded,
    Relinked,
    Upheld,
    Superseded,
    /// It is one of a wider scope from then on.
    Shared,
    /// It has the evidence of a memory of a narrower scope, which was shared.
    GotShared,
}

impl EventKind {
    pub const ALL: [Self; 15] = [
        Self::Learned,
        Self::LearnedAgain,
        Self::Updated,
        Self::Rated,
        Self::Linked,
        Self::Unlinked,
        Self::Restored,
        Self::TookIn,
        Self::Merged,
        Self::Faded,
        Self::Relinked,
        Self::Upheld,
        Self::Superseded,
        Self::Shared,
        Self::GotShared,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::LearnedAgain => "learned_again",
            Self::Updated => "updated",
            Self::Rated => "rated",
            Self::Linked => "linked",
            Self::Unlinked => "unlinked",
            Self::Restored => "restored",
            Self::TookIn => "took_in",
            Self::Merged => "merged",
            Self::Faded => "faded",
            Self::Relinked => "relinked",
            Self::Upheld => "upheld",
            Self::Superseded => "superseded",
            Self::Shared => "shared",
            Self::GotShared => "got_shared",
        }
    }
}

/// A field that an event changed; a missing text stands for what was, or is, not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// `importance`, `pinned`, `expires_at` (Unix milliseconds), `occurrences`, `archived` or
    /// `metadata.NAME`.
    pub field: String,
    /// The first 200 characters.
    pub before: Option<String>,
    pub after: Option<String>,
}

impl Event {
    /// As a store in this process tells it.
    pub(crate) fn of(told: Told) -> Self {
        let mut event = Self {
            key: told.place.key,
            position: told.place.position,
            at: told.at,
            version: told.place.version,
            kind: None,
            agent: told.by.map(|name| name.to_string()),
            session: told.session.map(|name| name.to_string()),
            score: None,
            reason: String::new(),
            link: None,
            others: Vec::new(),
            changes: told.differences.into_iter().map(FieldChange::of).collect(),
        };
        let kind = match told.what {
            None => EventKind::Learned,
            Some(What::LearnedAgain { wording, .. }) => {
                event.others.extend(wording);
                EventKind::LearnedAgain
            }
            Some(What::Updated) => EventKind::Updated,
            Some(What::Rated { score, reason }) => {
                event.score = Some(score);
                event.reason = reason;
                EventKind::Rated
            }
            Some(What::Linked(link)) => {
                event.link = Some(link);
                EventKind::Linked
            }
            Some(What::Unlinked(link)) => {
                event.link = Some(link);
                EventKind::Unlinked
            }
            Some(What::Restored) => EventKind::Restored,
            Some(What::TookIn { sources }) => {
                event.others = sources;
                EventKind::TookIn
            }
            Some(What::Merged { into }) => {
                event.others.push(into);
                EventKind::Merged
            }
            Some(What::Faded) => EventKind::Faded,
            Some(What::Relinked { relation, from, to }) => {
                let target = to;
                event.link = Some(Link { relation, target });
                event.others.push(from);
                EventKind::Relinked
            }
            Some(What::Upheld { over }) => {
                event.others.push(over);
                EventKind::Upheld
            }
            Some(What::Superseded { by }) => {
                event.others.push(by);
                EventKind::Superseded
            }
            Some(What::Shared { to }) => {
                event.others.push(to);
                EventKind::Shared
            }
            Some(What::GotShared) => EventKind::GotShared,
        };
        event.kind = Some(kind);
        event
    }

    fn from_wire(wire: v1::HistoryEvent) -> Result<Self, String> {
        let key = |text: &str| -> Result<Key, String> { text.parse().map_err(|e| format!("{e}")) };
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let link = |link: v1::LinkTarget| -> Result<Link, String> {
            let relation = Relation::parse(&link.relation);
            Ok(Link {
                relation: relation.ok_or_else(|| format!("relation {:?}", link.relation))?,
                target: key(&link.key)?,
            })
        };
        let at = wire.at.ok_or("time of an event is missing")?;
        let mut kinds = EventKind::ALL.into_iter();
        Ok(Self {
            key: key(&wire.key)?,
            position: wire.position,
            at: time::from_wire(at).map_err(|e| format!("time of an event: {e}"))?,
            version: wire.version,
            kind: kinds.find(|kind| kind.as_str() == wire.kind),
            agent: text(wire.agent),
            session: text(wire.session),
            score: wire.score,
            reason: wire.reason,
            link: wire.link.map(link).transpose()?,
            others: wire
                .others
                .iter()
                .map(|other| key(other))
                .collect::<Result<_, _>>()?,
            changes: wire
                .changes
                .into_iter()
                .map(|change| FieldChange {
                    field: change.field,
                    before: change.before,
                    after: change.after,
                })
                .collect(),
        })
    }
}

impl FieldChange {
    fn of(difference: Difference) -> Self {
        let Difference {
            field,
            before,
            after,
        } = difference;
        Self {
            field,
            before,
            after,
        }
    }
}

impl HistoryPage {
    pub(crate) fn from_wire(wire: v1::HistoryResponse) -> Result<Self, String> {
        Ok(Self {
            events: wire
                .events
                .into_iter()
                .map(Event::from_wire)
                .collect::<Result<_, _>>()?,
            next: page::next_from_wire(wire.next_page_token),
            is_complete: wire.complete,
            position: Position::from_wire(wire.position)?,
        })
    }
}
