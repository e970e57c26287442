//! Reads log entries: the newest from memory, older ones from disk, in portions.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, ControlFlow, RangeBounds},
    sync::Arc,
};

use futures::{Stream, stream};
use openraft::storage::RaftLogReader;

use super::Log;
use crate::{
    kv::{self, Family, entry::estimated_bytes},
    rocks::Scan,
    types::{Entry, TypeConfig, Vote},
};

/// Bytes of one portion, at most, if it has more than one entry.
const PORTION_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Entries of one portion, and so of one applied batch, at most.
const PORTION_ENTRIES_MAX: u64 = 512;

/// Reads while the log grows.
#[derive(Clone)]
pub(crate) struct LogReader {
    log: Arc<Log>,
}

impl LogReader {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { log }
    }

    /// The entries in `from..until` that the log has: consecutive, and missing only where they were
    /// purged or are not appended yet. At least one if there is one; after that until the bytes
    /// pass the bound.
    fn read(&self, from: u64, until: u64, bytes_max: u64) -> io::Result<Vec<Entry>> {
        let found = self.log.tail().find(from, until);
        let (disk_from, disk_until) = found.on_disk;
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut failed = None;
        let mut is_full = false;
        self.log
            .store
            .visit(
                Family::Entries,
                &kv::entry::encode_key(disk_from),
                &kv::entry::encode_key(disk_until),
                Scan::forward(None),
                |key, value| {
                    match decode(key, value) {
                        Ok(entry) => {
                            bytes += value.len() as u64;
                            entries.push(entry);
                        }
                        Err(reason) => failed = Some(reason),
                    }
                    is_full = bytes > bytes_max;
                    if failed.is_some() || is_full {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                },
            )
            .map_err(io::Error::other)?;
        if let Some(reason) = failed {
            return Err(io::Error::other(self.log.store.unreadable(reason)));
        }
        // What was purged since we looked is missing at the beginning, which is allowed.
        let is_whole = is_full
            || disk_from >= disk_until
            || entries
                .last()
                .is_some_and(|e| e.log_id.index + 1 == disk_until)
            || self
                .log
                .tail()
                .purged()
                .is_some_and(|p| p.index + 1 >= disk_until);
        let has_hole = entries
            .windows(2)
            .any(|w| w[0].log_id.index + 1 != w[1].log_id.index);
        if has_hole || !is_whole {
            let last = entries.last().map(|entry| entry.log_id.index);
            let reason = format!(
                "log entries {disk_from} to {} are read up to {last:?} only, or with a hole",
                disk_until - 1
            );
            return Err(io::Error::other(self.log.store.unreadable(reason)));
        }
        for entry in found.in_memory {
            if bytes > bytes_max {
                break;
            }
            bytes += estimated_bytes(&entry);
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Reads one row of the log.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Entry, String> {
    let index = kv::entry::decode_key(key).map_err(|malformed| malformed.to_string())?;
    kv::entry::decode(index, value).map_err(|unreadable| unreadable.to_string())
}

/// `from..until` of any range.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let until = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(until) => *until,
        Bound::Unbounded => u64::MAX,
    };
    (from, until)
}

/// What is left of a range that is read in portions.
struct Portions {
    reader: LogReader,
    ready: VecDeque<Entry>,
    from: u64,
    until: u64,
}

impl Portions {
    fn next(&mut self) -> io::Result<Option<Entry>> {
        if self.ready.is_empty() && self.from < self.until {
            let until = self
                .until
                .min(self.from.saturating_add(PORTION_ENTRIES_MAX));
            let entries = self.reader.read(self.from, until, PORTION_BYTES_MAX)?;
            match entries.last() {
                Some(last) => self.from = last.log_id.index + 1,
                None => self.from = self.until,
            }
            self.ready = entries.into();
        }
        Ok(self.ready.pop_front())
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, until) = bounds(&range);
        self.read(from, until, u64::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.tail().vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, PORTION_BYTES_MAX)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, until) = bounds(&range);
        let portions = Portions {
            reader: self.clone(),
            ready: VecDeque::new(),
            from,
            until,
        };
        stream::unfold(Some(portions), |portions| async move {
            let mut portions = portions?;
            match portions.next() {
                Ok(Some(entry)) => Some((Ok(entry), Some(portions))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}
