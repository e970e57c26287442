//! What happened to a memory and to those that were merged into it, newest first.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, What, events};
use crate::{
    key::Key,
    memory::{Archived, Memory, Reason},
    name::{Name, Namespace},
    scope::Reader,
    state::{self, Read, ReadError},
    time::TimeMs,
};

/// Rows of one memory that are read at once.
const CHUNK: usize = 128;

/// Differences that are told of one event.
const DIFFERENCES_MAX: usize = 32;

/// Characters of a value that are told.
const VALUE_CHARS: usize = 200;

/// The place of an event in the order of a lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub position: u64,
    pub version: u64,
    pub key: Key,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// With the version that it made.
    pub place: Cursor,
    /// The log's time.
    pub at: TimeMs,
    /// `None` if it was learned first.
    pub what: Option<What>,
    pub by: Option<Name>,
    /// Of what was learned.
    pub session: Option<Name>,
    /// What it made different, at most 32.
    pub differences: Vec<Difference>,
}

/// A field that an event changed; a missing text stands for what was, or is, not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `importance`, `pinned`, `expires_at`, `occurrences`, `archived`, or `metadata.` and a name.
    pub field: String,
    /// At most the first 200 characters.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// A page of what happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Lineage {
    /// Newest first.
    pub told: Vec<Told>,
    /// Whether there is more that is older.
    pub has_more: bool,
    /// Whether every change since each memory was learned is kept.
    pub is_complete: bool,
}

/// Up to `limit` of what happened to `memory` before `before`. Of those that were merged into it only what
/// `reader` may see is told, and nothing of what names a memory that `reader` may not see.
pub fn lineage(
    rows: &impl Read,
    namespace: &Namespace,
    (key, memory): (Key, &Memory),
    reader: &Reader,
    before: Option<Cursor>,
    limit: usize,
) -> Result<Lineage, ReadError> {
    let mut page = Page {
        reader,
        before,
        limit,
        newest: BTreeMap::new(),
        has_more: false,
        is_complete: true,
    };
    page.add(rows, namespace, key, memory)?;
    for source in &memory.merged {
        // One that was forgotten by itself and learned anew has nothing to do with this memory.
        let leads_here = |to: Key| to == key || memory.merged.contains(&to);
        let found = state::memory(rows, namespace, *source)?;
        match found.filter(|found| reader.sees(&found.scope)) {
            Some(found) if found.replacement().is_some_and(leads_here) => {
                page.add(rows, namespace, *source, &found)?;
            }
            Some(_) | None => {}
        }
    }
    Ok(Lineage {
        told: page.newest.into_values().rev().collect(),
        has_more: page.has_more,
        is_complete: page.is_complete,
    })
}

/// The newest events before a place, as many as were asked for.
struct Page<'a> {
    reader: &'a Reader,
    before: Option<Cursor>,
    limit: usize,
    newest: BTreeMap<Cursor, Told>,
    has_more: bool,
    is_complete: bool,
}

impl Page<'_> {
    /// All that happened to one memory. Rows are read in one direction only, so all are read.
    fn add(
        &mut self,
        rows: &impl Read,
        namespace: &Namespace,
        key: Key,
        memory: &Memory,
    ) -> Result<(), ReadError> {
        self.offer(learned(key, memory));
        let mut from = (0, 0);
        let mut kept = 0;
        // An event is told with what came after it: the record before the next one.
        let mut last: Option<(Cursor, Event)> = None;
        loop {
            let chunk = events(rows, namespace, key, from, CHUNK)?;
            let is_last = chunk.len() < CHUNK;
            kept += chunk.len() as u64;
            for (position, version, event) in chunk {
                from = (position, version + 1);
                if let Some((place, earlier)) = last.take()
                    && self.may_tell(rows, namespace, &earlier)?
                {
                    self.tell(place, earlier, &event.before);
                }
                let place = Cursor {
                    position,
                    version,
                    key,
                };
                last = Some((place, event));
            }
            if is_last {
                break;
            }
        }
        if let Some((place, event)) = last
            && self.may_tell(rows, namespace, &event)?
        {
            self.tell(place, event, memory);
        }
        // Each version but the first was made by a change.
        self.is_complete &= kept + 1 == memory.version;
        Ok(())
    }

    /// Whether it names nothing that the reader may not see. What is not there any more tells nothing.
    fn may_tell(
        &self,
        rows: &impl Read,
        namespace: &Namespace,
        event: &Event,
    ) -> Result<bool, ReadError> {
        for key in event.what.named() {
            let named = state::memory(rows, namespace, key)?;
            if named.is_some_and(|named| !self.reader.sees(&named.scope)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn tell(&mut self, place: Cursor, event: Event, after: &Memory) {
        let Event {
            at,
            what,
            by,
            before,
        } = event;
        let session = if let What::LearnedAgain { session, .. } = &what {
            session.clone()
        } else {
            None
        };
        let differences = differences(&before, after);
        self.offer(Told {
            place,
            at,
            what: Some(what),
            by,
            session,
            differences,
        });
    }

    fn offer(&mut self, told: Told) {
        if self.before.is_some_and(|before| told.place >= before) {
            return;
        }
        self.newest.insert(told.place, told);
        if self.newest.len() > self.limit {
            self.newest.pop_first();
            self.has_more = true;
        }
    }
}

fn learned(key: Key, memory: &Memory) -> Told {
    Told {
        place: Cursor {
            position: memory.created.index,
            version: 1,
            key,
        },
        at: memory.created.at,
        what: None,
        by: memory.agent.clone(),
        session: memory.session.clone(),
        differences: Vec::new(),
    }
}

fn differences(before: &Memory, after: &Memory) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |field: &str, before: Option<String>, after: Option<String>| {
        if before != after && found.len() < DIFFERENCES_MAX {
            found.push(Difference {
                field: field.to_owned(),
                before,
                after,
            });
        }
    };
    let number = |number: f32| Some(number.to_string());
    compare(
        "importance",
        number(before.importance),
        number(after.importance),
    );
    let flag = |flag: bool| Some(flag.to_string());
    compare("pinned", flag(before.pinned), flag(after.pinned));
    let time = |time: Option<TimeMs>| time.map(|time| time.0.to_string());
    compare(
        "expires_at",
        time(before.expires_at),
        time(after.expires_at),
    );
    let count = |count: u32| Some(count.to_string());
    compare(
        "occurrences",
        count(before.occurrences),
        count(after.occurrences),
    );
    let archive = |archived: Option<Archived>| {
        archived.map(|archived| {
            let reason = match archived.reason {
                Reason::Faded => "faded",
                Reason::Merged { .. } => "merged",
                Reason::Superseded { .. } => "superseded",
                Reason::Shared { .. } | Reason::Withheld => "shared",
            };
            reason.to_owned()
        })
    };
    compare(
        "archived",
        archive(before.archived),
        archive(after.archived),
    );
    let names: BTreeSet<&String> = before
        .metadata
        .keys()
        .chain(after.metadata.keys())
        .collect();
    for name in names {
        let (before, after) = (before.metadata.get(name), after.metadata.get(name));
        // Compared whole, told in part.
        if before != after {
            compare(
                &format!("metadata.{name}"),
                before.map(|text| start(text)),
                after.map(|text| start(text)),
            );
        }
    }
    found
}

fn start(text: &str) -> String {
    text.chars().take(VALUE_CHARS).collect()
}
