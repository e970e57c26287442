//! The rows of history: what changed a memory, and what it was before.
//!
//! ```text
//! change of a memory ──▶ Event { what, by, before } ──▶ Past: a memory as it was at a moment
//!                                                  └──▶ lineage: what happened to it, newest first
//! ```
//!
//! A row is written by every change that makes a new version, in the entry that makes it. Creation writes
//! none, since the record itself says who, when and where, and neither do uses, which make no version.
//! What an undo takes back never was: its rows go with it.

mod lineage;

use minicbor::{Decode, Encode};

pub use self::lineage::{Cursor, Difference, Lineage, Told, lineage};
use super::{Before, Read, ReadError, RowKey, Transaction, decode};
use crate::{
    apply::Context,
    key::Key,
    limits,
    memory::{Link, Memory, Relation, Used},
    moment::Moment,
    name::{Name, Namespace},
    time::TimeMs,
};

/// Rows of one memory that are forgotten with each new one, at most: more than one, so that they
/// shrink back to their bound.
const FORGOTTEN_PER_CHANGE: usize = 2;

/// Names one row of history. The same change is found by its memory and by its age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum HistoryRow {
    /// [`Event`]: the change that made this version, by the entry at this position.
    #[n(0)]
    Of {
        #[n(0)]
        namespace: Namespace,
        #[n(1)]
        key: Key,
        #[n(2)]
        position: u64,
        #[n(3)]
        version: u64,
    },
    /// Nothing; its key says when the change was. The log's time follows its positions, so these rows are in
    /// the order of both.
    #[n(1)]
    Aged {
        #[n(0)]
        at: TimeMs,
        #[n(1)]
        position: u64,
        #[n(2)]
        namespace: Namespace,
        #[n(3)]
        key: Key,
        #[n(4)]
        version: u64,
    },
}

impl HistoryRow {
    pub fn namespace(&self) -> &Namespace {
        match self {
            Self::Of { namespace, .. } | Self::Aged { namespace, .. } => namespace,
        }
    }

    /// The first row by age at or after this time and position.
    fn aged_from(at: TimeMs, position: u64) -> RowKey {
        RowKey::History(Self::Aged {
            at,
            position,
            namespace: Namespace::lowest(),
            key: Key([0; 16]),
            version: 0,
        })
    }

    fn of(namespace: &Namespace, key: Key, position: u64, version: u64) -> RowKey {
        RowKey::History(Self::Of {
            namespace: namespace.clone(),
            key,
            position,
            version,
        })
    }
}

/// A change of a memory.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Event {
    /// The log's time.
    #[n(0)]
    pub at: TimeMs,
    #[n(1)]
    pub what: What,
    /// The agent that did it, if it said who it is; absent for what the cluster did by itself.
    #[n(2)]
    pub by: Option<Name>,
    /// The memory before, without its content, which nothing changes.
    #[n(3)]
    pub before: Memory,
}

/// What changed a memory.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum What {
    /// The same lesson was learned once more.
    #[n(0)]
    LearnedAgain {
        #[n(0)]
        session: Option<Name>,
        /// The key of the words in which it was, if they are another memory's, which was merged into this
        /// one or superseded by it.
        #[n(1)]
        wording: Option<Key>,
    },
    /// What a caller may say of it was changed; what exactly is the difference to what was before.
    #[n(1)]
    Updated,
    #[n(2)]
    Rated {
        #[n(0)]
        score: f32,
        #[n(1)]
        reason: String,
    },
    #[n(3)]
    Linked(#[n(0)] Link),
    #[n(4)]
    Unlinked(#[n(0)] Link),
    /// It came back from the archive.
    #[n(5)]
    Restored,
    /// It has the evidence of these, which went to the archive.
    #[n(6)]
    TookIn {
        #[n(0)]
        sources: Vec<Key>,
    },
    /// It went to the archive, since another memory says the same.
    #[n(7)]
    Merged {
        #[n(0)]
        into: Key,
    },
    /// It went to the archive, since it was of little worth and long unused.
    #[n(8)]
    Faded,
    /// A link of it leads to what took the place of its end.
    #[n(9)]
    Relinked {
        #[n(0)]
        relation: Relation,
        #[n(1)]
        from: Key,
        #[n(2)]
        to: Key,
    },
    /// It contradicted another memory, and was found to be right.
    #[n(10)]
    Upheld {
        #[n(0)]
        over: Key,
    },
    /// It contradicted another memory, which was found to be right.
    #[n(11)]
    Superseded {
        #[n(0)]
        by: Key,
    },
    /// It went to the archive, since it was shared: it is one of a wider scope from then on.
    #[n(12)]
    Shared {
        #[n(0)]
        to: Key,
    },
    /// It has the evidence of a memory of a narrower scope, which was shared. Its key is not for those who see
    /// this one.
    #[n(13)]
    GotShared,
}

impl What {
    /// Other memories that it names.
    fn named(&self) -> Vec<Key> {
        match self {
            Self::LearnedAgain { wording, .. } => wording.iter().copied().collect(),
            Self::Linked(link) | Self::Unlinked(link) => vec![link.target],
            Self::TookIn { sources } => sources.clone(),
            Self::Merged { into } => vec![*into],
            Self::Relinked { from, to, .. } => vec![*from, *to],
            Self::Upheld { over } => vec![*over],
            Self::Superseded { by } => vec![*by],
            Self::Shared { to } => vec![*to],
            Self::Updated | Self::Rated { .. } | Self::Restored | Self::Faded | Self::GotShared => {
                Vec::new()
            }
        }
    }
}

/// A change that is about to be made, and who makes it.
pub(crate) struct Doing {
    pub(crate) what: What,
    pub(crate) by: Option<Name>,
}

/// A memory as it was at a moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Then {
    /// It was not learned yet.
    NotYet,
    /// Without uses: of those only the sum is kept.
    Was(Box<Memory>),
    /// It was there, and how it was is not kept any more.
    Lost(Lost),
}

/// From when on it is known how a memory was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub key: Key,
    /// Absent for a change from before positions of changes were kept.
    pub position: Option<u64>,
    pub at: TimeMs,
}

impl Lost {
    /// From when on both are known.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        let (first, last) = if self.at <= other.at {
            (self, other)
        } else {
            (other, self)
        };
        Self {
            position: first.position.zip(last.position).map(|(a, b)| a.max(b)),
            ..last
        }
    }
}

/// The state at a moment, as far as memories that are still there tell. What was forgotten or has expired
/// since is not part of it, and neither is what was undone: an undo makes that it never was.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    moment: Moment,
    /// Changes from this position on are later than the moment.
    later_from: u64,
}

impl Past {
    pub fn at(rows: &impl Read, moment: Moment) -> Result<Self, ReadError> {
        let later_from = match moment {
            Moment::Position(position) => position.saturating_add(1),
            Moment::Time(time) => {
                let later = TimeMs(time.0.saturating_add(1));
                first_aged(rows, later)?.map_or(u64::MAX, |(_, position)| position)
            }
        };
        Ok(Self { moment, later_from })
    }

    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// How a memory was that is now `memory`.
    pub fn memory(
        &self,
        rows: &impl Read,
        namespace: &Namespace,
        key: Key,
        memory: Memory,
    ) -> Result<Then, ReadError> {
        if !self.moment.is_after(&memory.created) {
            return Ok(Then::NotYet);
        }
        let mut was = memory;
        if !self.has_seen(&was) {
            let from = HistoryRow::of(namespace, key, self.later_from, 0);
            let until = HistoryRow::of(namespace, key, u64::MAX, u64::MAX);
            if let Some((row, bytes)) = rows.scan(&from, &until, 1)?.first() {
                let event: Event = decode(row, bytes)?;
                let content = was.content;
                was = Memory {
                    content,
                    ..event.before
                };
            }
            // What led from the moment to there was pruned, or never kept.
            if !self.has_seen(&was) {
                return Ok(Then::Lost(Lost {
                    key,
                    position: was.changed_at(),
                    at: was.updated_at,
                }));
            }
        }
        was.used = Used::default();
        Ok(Then::Was(Box::new(was)))
    }

    /// Whether this version was there by then. One whose position is not known counts as later.
    fn has_seen(&self, memory: &Memory) -> bool {
        match self.moment {
            Moment::Position(position) => memory.changed_at().is_some_and(|at| at <= position),
            Moment::Time(time) => memory.updated_at <= time,
        }
    }
}

/// When the oldest change was that is kept, if there is one.
pub fn oldest_change(rows: &impl Read) -> Result<Option<TimeMs>, ReadError> {
    Ok(first_aged(rows, TimeMs(0))?.map(|(at, _)| at))
}

/// The first change at or after `from`: when, and by which entry.
fn first_aged(rows: &impl Read, from: TimeMs) -> Result<Option<(TimeMs, u64)>, ReadError> {
    let from = HistoryRow::aged_from(from, 0);
    let until = HistoryRow::aged_from(TimeMs(i64::MAX), u64::MAX);
    let first = rows.scan(&from, &until, 1)?.into_iter().next();
    Ok(first.and_then(|(row, _)| {
        if let RowKey::History(HistoryRow::Aged { at, position, .. }) = row {
            Some((at, position))
        } else {
            None
        }
    }))
}

/// Up to `limit` changes of a memory that are kept, by entries at or after `from`, oldest first: each with
/// its position and the version that it made.
pub fn events(
    rows: &impl Read,
    namespace: &Namespace,
    key: Key,
    from: (u64, u64),
    limit: usize,
) -> Result<Vec<(u64, u64, Event)>, ReadError> {
    let from = HistoryRow::of(namespace, key, from.0, from.1);
    let until = HistoryRow::of(namespace, key, u64::MAX, u64::MAX);
    let mut events = Vec::new();
    for (row, bytes) in &rows.scan(&from, &until, limit)? {
        if let RowKey::History(HistoryRow::Of {
            position, version, ..
        }) = row
        {
            events.push((*position, *version, decode(row, bytes)?));
        }
    }
    Ok(events)
}

impl<R: Read> Transaction<'_, R> {
    /// Replaces `old` by its next version, and notes what happened. The oldest that was noted of the same
    /// memory goes where there is too much of it.
    pub(crate) fn change(
        &mut self,
        (namespace, key): (&Namespace, Key),
        old: &Memory,
        new: Memory,
        doing: Doing,
        context: &Context,
    ) -> Result<(), ReadError> {
        let version = new.version;
        self.change_to_undo((namespace, key), old, new, doing, context)?;
        let kept = limits::HISTORY_MAX as u64;
        // One that has not changed more often than that has not more rows.
        if version <= kept + 1 {
            return Ok(());
        }
        for (position, old, event) in events(self, namespace, key, (0, 0), FORGOTTEN_PER_CHANGE)? {
            if old + kept <= version {
                self.forget_change((namespace, key), event.at, position, old)?;
            }
        }
        Ok(())
    }

    /// The same for a change that can be undone, which must leave no trace then: nothing that is older is
    /// forgotten with it.
    pub(crate) fn change_to_undo(
        &mut self,
        (namespace, key): (&Namespace, Key),
        old: &Memory,
        mut new: Memory,
        Doing { what, by }: Doing,
        context: &Context,
    ) -> Result<(), ReadError> {
        assert_eq!(
            new.version,
            old.version + 1,
            "a change makes the next version"
        );
        assert_eq!(
            new.updated_at, context.now,
            "a change is made at the log's time"
        );
        let (position, version, at) = (context.index, new.version, context.now);
        new.changed_index = position;
        let mut before = old.clone();
        before.content.clear();
        let event = Event {
            at,
            what,
            by,
            before,
        };
        self.put_new(HistoryRow::of(namespace, key, position, version), &event);
        let aged = HistoryRow::Aged {
            at,
            position,
            namespace: namespace.clone(),
            key,
            version,
        };
        self.write_new(RowKey::History(aged), Vec::new());
        self.replace(namespace, key, old, new)
    }

    /// Replaces `now`, which a consolidation at `at` left, by what was before it, as if that had never been.
    pub(crate) fn undo_change(
        &mut self,
        namespace: &Namespace,
        (position, at): (u64, TimeMs),
        before: &Before,
        now: &Memory,
        back: Memory,
    ) -> Result<(), ReadError> {
        let place = (namespace, before.key);
        self.forget_change(place, at, position, before.version_after)?;
        self.replace(namespace, before.key, now, back)
    }

    /// Removes all that was noted of a memory that goes.
    pub(super) fn remove_history(
        &mut self,
        namespace: &Namespace,
        key: Key,
    ) -> Result<(), ReadError> {
        loop {
            let events = events(self, namespace, key, (0, 0), limits::HISTORY_MAX)?;
            if events.is_empty() {
                return Ok(());
            }
            self.history_removed += events.len();
            for (position, version, event) in events {
                self.forget_change((namespace, key), event.at, position, version)?;
            }
        }
    }

    /// Forgets up to `limit` changes that are too long ago.
    pub(crate) fn forget_old_changes(
        &mut self,
        now: TimeMs,
        limit: usize,
    ) -> Result<(), ReadError> {
        let from = HistoryRow::aged_from(TimeMs(0), 0);
        let until = HistoryRow::aged_from(TimeMs(now.0.saturating_sub(limits::HISTORY_KEPT_MS)), 0);
        for (row, _) in self.scan(&from, &until, limit)? {
            if let RowKey::History(HistoryRow::Aged {
                at,
                position,
                namespace,
                key,
                version,
            }) = row
            {
                self.forget_change((&namespace, key), at, position, version)?;
            }
        }
        Ok(())
    }

    fn forget_change(
        &mut self,
        (namespace, key): (&Namespace, Key),
        at: TimeMs,
        position: u64,
        version: u64,
    ) -> Result<(), ReadError> {
        self.delete(HistoryRow::of(namespace, key, position, version))?;
        self.delete(RowKey::History(HistoryRow::Aged {
            at,
            position,
            namespace: namespace.clone(),
            key,
            version,
        }))
    }
}
