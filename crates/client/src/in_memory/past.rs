//! The in-memory store's past: the server's rows of history, read as a server reads them.

use memorygate_core::{
    key::Key,
    memory::Memory,
    moment::Moment,
    name::Namespace,
    scope::Reader,
    state::{self, Cursor, Past, Then},
    time::TimeMs,
};

use super::{InMemoryStore, Place, Rows, State, Stored, broken, memories, stored};
use crate::{
    error::{Error, Kind, Outcome},
    time,
};

impl InMemoryStore {
    /// All of a namespace as of a moment, in key order, and when recency is measured. What does not pass by what
    /// never changes of it is not looked at.
    pub(super) fn memories_as_of(
        &self,
        state: &State,
        operation: &'static str,
        (namespace, reader): (&Namespace, &Reader),
        as_of: Option<Moment>,
        passes: impl Fn(&Memory, TimeMs) -> bool,
    ) -> Result<(Vec<Stored>, TimeMs), Error> {
        let rows = &state.rows;
        let now = state::clock(rows).map_err(broken)?;
        let all = memories(rows, namespace, reader)?;
        let Some(past) = self.past(state, operation, as_of)? else {
            return Ok((all, now));
        };
        let place = Place {
            namespace: namespace.clone(),
            reader: reader.clone(),
        };
        let mut then = Vec::new();
        for Stored { memory, record, .. } in all {
            if passes(&record, now) {
                let was = self::memory(rows, operation, namespace, &past, memory.key, record)?;
                if let Some(was) = was {
                    then.push(stored(rows, &place, memory.key, was)?);
                }
            }
        }
        let changed = then.iter().map(|stored| stored.record.updated_at);
        let now = match past.moment() {
            Moment::Time(time) => time.min(now),
            Moment::Position(position) if position == state.position.index => now,
            Moment::Position(_) => changed.max().unwrap_or_default(),
        };
        Ok((then, now))
    }

    /// The past at a moment that has been.
    pub(super) fn past(
        &self,
        state: &State,
        operation: &'static str,
        as_of: Option<Moment>,
    ) -> Result<Option<Past>, Error> {
        let Some(moment) = as_of else {
            return Ok(None);
        };
        let passed = state::clock(&state.rows).map_err(broken)?;
        let refused = match moment {
            Moment::Position(asked) if asked > state.position.index => {
                let reached = state.position.index;
                Some(format!(
                    "position {asked} is not reached, this store is at {reached}"
                ))
            }
            Moment::Time(asked) if asked > passed.max((self.clock)()) => {
                Some(format!("{} is still to come", time::format(asked)))
            }
            Moment::Position(_) | Moment::Time(_) => None,
        };
        match refused {
            Some(message) => Err(Error::new(Kind::Fix, Outcome::Failed, operation, message)),
            None => Past::at(&state.rows, moment).map(Some).map_err(broken),
        }
    }
}

/// A memory as it was; `None` if it was not there yet.
pub(super) fn memory(
    rows: &Rows,
    operation: &'static str,
    namespace: &Namespace,
    past: &Past,
    key: Key,
    memory: Memory,
) -> Result<Option<Memory>, Error> {
    match past.memory(rows, namespace, key, memory).map_err(broken)? {
        Then::NotYet => Ok(None),
        Then::Was(was) => Ok(Some(*was)),
        Then::Lost(lost) => {
            let position = lost
                .position
                .map(|position| format!("position {position}, or "));
            let message = format!(
                "how memory {key} was then is not kept any more: ask as of {}{} or later",
                position.unwrap_or_default(),
                time::format(lost.at)
            );
            Err(Error::new(Kind::Fix, Outcome::Failed, operation, message))
        }
    }
}

/// The token of the page before `cursor`.
pub(super) fn token(cursor: Cursor) -> String {
    let Cursor {
        position,
        version,
        key,
    } = cursor;
    format!("{position}-{version}-{key}")
}

/// Reads [`token`] back.
pub(super) fn cursor(token: &str) -> Result<Cursor, String> {
    let parse = || {
        let mut parts = token.splitn(3, '-');
        Some(Cursor {
            position: parts.next()?.parse().ok()?,
            version: parts.next()?.parse().ok()?,
            key: parts.next()?.parse().ok()?,
        })
    };
    parse().ok_or_else(|| format!("{token:?} is not a token that this store gave"))
}
