//! History: what happened to a memory and to those that were merged into it, newest first, in pages.

use std::str::FromStr as _;

use memorygate_core::{
    key::Key,
    memory::Memory,
    name::Namespace,
    scope::Reader,
    state::{self, Cursor, Lineage, Told, What},
};
use memorygate_raft::StateSnapshot;

use crate::{backend::Backend, deadline::Deadline, error::Error, position::Position};

/// Texts in one page: it fits into the 4 MiB that gRPC clients accept by default.
const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;

/// What a token of a page begins with.
const VERSION: &str = "01";

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub namespace: Namespace,
    pub key: Key,
    pub reader: Reader,
    pub size: usize,
    /// Absent for the first page.
    pub before: Option<Cursor>,
    pub at_least: Option<Position>,
    pub linearizable: bool,
}

pub struct Answer {
    pub lineage: Lineage,
    /// Absent after the last page.
    pub next: Option<Cursor>,
    pub position: Position,
}

/// What the reader may not see is answered as what is not there.
pub async fn history(
    backend: &Backend,
    wanted: Wanted,
    deadline: Deadline,
) -> Result<Answer, Error> {
    let from = backend.read_from(wanted.at_least, wanted.linearizable, deadline);
    let snapshot = backend.snapshot_at_least(from.await?, deadline).await?;
    let position = backend.position(snapshot.position());
    let look = move || look(&snapshot, &wanted);
    let (lineage, next) = backend.reads.run(deadline, look).await??;
    Ok(Answer {
        lineage,
        next,
        position,
    })
}

fn look(snapshot: &StateSnapshot, wanted: &Wanted) -> Result<(Lineage, Option<Cursor>), Error> {
    let (namespace, key) = (&wanted.namespace, wanted.key);
    let memory = state::memory(snapshot, namespace, key)?;
    let now = snapshot.clock();
    let visible = |m: &Memory| wanted.reader.sees(&m.scope) && !m.is_expired(now);
    let memory = memory.filter(visible).ok_or(Error::NotFound { key })?;
    let mut lineage = state::lineage(
        snapshot,
        namespace,
        (key, &memory),
        &wanted.reader,
        wanted.before,
        wanted.size,
    )?;
    let mut bytes = 0;
    let fits = lineage.told.iter().take_while(|told| {
        bytes += size(told);
        bytes <= PAGE_BYTES_MAX
    });
    // One event is far smaller than a page.
    let fits = fits.count().max(1);
    if fits < lineage.told.len() {
        lineage.told.truncate(fits);
        lineage.has_more = true;
    }
    let last = lineage.told.last().map(|told| told.place);
    let next = last.filter(|_| lineage.has_more);
    Ok((lineage, next))
}

fn size(told: &Told) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let changes = told.differences.iter();
    let changes: usize = changes
        .map(|change| change.field.len() + text(&change.before) + text(&change.after) + 16)
        .sum();
    let others = match &told.what {
        Some(What::Rated { reason, .. }) => reason.len(),
        Some(What::TookIn { sources }) => 40 * sources.len(),
        _ => 0,
    };
    // Names, keys and times beside.
    changes + others + 1024
}

/// The token of the page before `cursor`: hexadecimal of a version (1 byte), position (8), version of the
/// memory (8) and key (16).
pub fn token(cursor: Cursor) -> String {
    let Cursor {
        position,
        version,
        key,
    } = cursor;
    format!("{VERSION}{position:016x}{version:016x}{key}")
}

/// Reads [`token`] back; `None` if it is not one.
pub fn parse_token(text: &str) -> Option<Cursor> {
    let digits = text.strip_prefix(VERSION)?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = |at: usize| u64::from_str_radix(&digits[at..at + 16], 16).ok();
    Some(Cursor {
        position: number(0)?,
        version: number(16)?,
        key: Key::from_str(&digits[32..]).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_anything_else_refused() {
        let cursor = Cursor {
            position: 48_213,
            version: 7,
            key: Key([0xab; 16]),
        };
        let text = token(cursor);
        assert_eq!(parse_token(&text), Some(cursor));
        for bad in [
            "",
            "01",
            &text[1..],
            &text.replace("ab", "+1"),
            &"ä".repeat(33),
        ] {
            assert_eq!(parse_token(bad), None, "{bad}");
        }
    }
}
