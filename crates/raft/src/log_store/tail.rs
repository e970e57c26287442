//! The newest entries, in memory, and where the log begins and ends.
//!
//! It holds every entry that is not synced yet, and of the older ones as many as fit, so what lies
//! before its first entry is on disk. It knows the log as openraft was told of it, which may be
//! ahead of the disk.

use std::{collections::VecDeque, io};

use crate::{
    kv::entry::estimated_bytes,
    types::{Entry, LogId, Vote},
};

pub(crate) struct Tail {
    /// Consecutive, and the last is the log's last; empty if that is on disk or purged.
    entries: VecDeque<Entry>,
    bytes: u64,
    bytes_max: u64,
    purged: Option<LogId>,
    /// Index of the first entry; `None` if there is none.
    first: Option<u64>,
    last: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

/// What a log has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) purged: Option<LogId>,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<LogId>,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
}

/// Where to find the entries of a range.
pub(crate) struct Found {
    /// These are to be read from disk: `from..until`.
    pub(crate) on_disk: (u64, u64),
    /// And these come after them.
    pub(crate) in_memory: Vec<Entry>,
}

impl Tail {
    pub(crate) fn new(ends: Ends, bytes_max: u64) -> Self {
        let Ends {
            purged,
            first,
            last,
            vote,
            committed,
        } = ends;
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
            purged,
            first,
            last,
            vote,
            committed,
        }
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The last entry, or the last purged one if there is none.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.last
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        self.vote
    }

    pub(crate) fn set_vote(&mut self, vote: Vote) {
        self.vote = Some(vote);
    }

    pub(crate) fn committed(&self) -> Option<LogId> {
        self.committed
    }

    pub(crate) fn set_committed(&mut self, committed: Option<LogId>) {
        self.committed = committed;
    }

    /// Appends entries, which must follow the last without a hole.
    pub(crate) fn push(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut last = self.last;
        for entry in entries {
            let expected = last.map(|last| last.index + 1);
            if expected.is_some_and(|expected| expected != entry.log_id.index) {
                return Err(io::Error::other(format!(
                    "entry {} is appended after {last:?}",
                    entry.log_id.index
                )));
            }
            last = Some(entry.log_id);
        }
        self.last = last;
        self.first = self
            .first
            .or(entries.first().map(|first| first.log_id.index));
        self.bytes += entries.iter().map(estimated_bytes).sum::<u64>();
        self.entries.extend(entries.iter().cloned());
        Ok(())
    }

    /// Says that entries up to `index` are on disk now: those that are too many are let go.
    pub(crate) fn synced(&mut self, index: u64) {
        while self.bytes > self.bytes_max
            && let Some(first) = self.entries.front()
            && first.log_id.index <= index
        {
            self.pop_front();
        }
    }

    /// Forgets what comes after `last`. False if there is nothing.
    pub(crate) fn truncate_after(&mut self, last: Option<LogId>) -> bool {
        let keeps = |log_id: LogId| keeps_index(last, log_id.index);
        if self.last.is_none_or(keeps) {
            return false;
        }
        while let Some(entry) = self.entries.pop_back_if(|entry| !keeps(entry.log_id)) {
            self.bytes -= estimated_bytes(&entry);
        }
        self.last = last.max(self.purged);
        self.first = self.first.filter(|first| keeps_index(last, *first));
        true
    }

    /// Forgets what comes up to `through`.
    pub(crate) fn purge(&mut self, through: LogId) {
        while self
            .entries
            .front()
            .is_some_and(|first| first.log_id.index <= through.index)
        {
            self.pop_front();
        }
        self.purged = self.purged.max(Some(through));
        self.last = self.last.max(self.purged);
        let is_empty = self.last.is_none_or(|last| last.index <= through.index);
        self.first = match self.first {
            Some(first) if !is_empty => Some(first.max(through.index + 1)),
            Some(_) | None => None,
        };
    }

    /// Where the entries in `from..until` are that the log has.
    pub(crate) fn find(&self, from: u64, until: u64) -> Found {
        let end = self.last.map_or(0, |last| last.index + 1);
        let from = from.max(self.first.unwrap_or(end));
        let until = until.min(end);
        let in_memory_from = self.entries.front().map_or(end, |entry| entry.log_id.index);
        let skipped = from.saturating_sub(in_memory_from) as usize;
        let count = until.saturating_sub(from.max(in_memory_from)) as usize;
        Found {
            on_disk: (from, until.min(in_memory_from)),
            in_memory: self
                .entries
                .iter()
                .skip(skipped)
                .take(count)
                .cloned()
                .collect(),
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= estimated_bytes(&entry);
        }
    }
}

fn keeps_index(last: Option<LogId>, index: u64) -> bool {
    last.is_some_and(|last| index <= last.index)
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;
    use crate::types::LeaderId;

    fn id(index: u64) -> LogId {
        LogId {
            leader_id: LeaderId {
                term: 1,
                node_id: 1,
            },
            index,
        }
    }

    fn entries(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        indexes
            .map(|index| Entry {
                log_id: id(index),
                payload: EntryPayload::Blank,
            })
            .collect()
    }

    /// A log of the entries 0 to 3, all on disk.
    fn three() -> Ends {
        Ends {
            first: Some(0),
            last: Some(id(3)),
            ..Ends::default()
        }
    }

    fn check(tail: &Tail, from: u64, until: u64, expected: &str) {
        let found = tail.find(from, until);
        let indexes: Vec<u64> = found.in_memory.iter().map(|e| e.log_id.index).collect();
        let (start, end) = found.on_disk;
        let on_disk = if start < end {
            format!("{start}..{end}")
        } else {
            "-".to_owned()
        };
        assert_eq!(format!("{on_disk} {indexes:?}"), expected);
    }

    #[test]
    fn entries_are_in_memory_until_they_are_synced_and_too_many() {
        // Room for two blank entries of 34 bytes.
        let mut tail = Tail::new(three(), 70);
        check(&tail, 0, 9, "0..4 []");
        tail.push(&entries(4..=8)).unwrap();
        check(&tail, 0, 99, "0..4 [4, 5, 6, 7, 8]");
        check(&tail, 5, 7, "- [5, 6]");
        check(&tail, 2, 5, "2..4 [4]");
        tail.synced(5);
        check(&tail, 0, 99, "0..6 [6, 7, 8]");
        tail.synced(8);
        check(&tail, 0, 99, "0..7 [7, 8]");
        check(&tail, 9, 99, "- []");
    }

    #[test]
    fn a_hole_is_refused() {
        let mut tail = Tail::new(three(), 70);
        let error = tail.push(&entries(5..=6)).unwrap_err();
        assert!(error.to_string().starts_with("entry 5 is appended after"));
        assert_eq!(tail.last(), Some(id(3)));
        let mut empty = Tail::new(Ends::default(), 70);
        empty.push(&entries(5..=6)).unwrap();
        check(&empty, 0, 99, "- [5, 6]");
    }

    #[test]
    fn what_is_cut_is_gone_at_once() {
        let mut tail = Tail::new(three(), 1_000);
        tail.push(&entries(4..=8)).unwrap();
        assert!(!tail.truncate_after(Some(id(8))));
        assert!(tail.truncate_after(Some(id(6))));
        check(&tail, 0, 99, "0..4 [4, 5, 6]");
        assert!(tail.truncate_after(Some(id(2))));
        check(&tail, 0, 99, "0..3 []");
        tail.push(&entries(3..=3)).unwrap();
        check(&tail, 0, 99, "0..3 [3]");
        assert!(tail.truncate_after(None));
        check(&tail, 0, 99, "- []");
        assert_eq!(tail.last(), None);
    }

    #[test]
    fn what_is_purged_is_gone_at_once() {
        let mut tail = Tail::new(three(), 1_000);
        tail.push(&entries(4..=8)).unwrap();
        tail.purge(id(2));
        check(&tail, 0, 99, "3..4 [4, 5, 6, 7, 8]");
        tail.purge(id(5));
        check(&tail, 0, 99, "- [6, 7, 8]");
        tail.purge(id(20));
        check(&tail, 0, 99, "- []");
        assert_eq!((tail.last(), tail.purged()), (Some(id(20)), Some(id(20))));
        tail.push(&entries(21..=21)).unwrap();
        check(&tail, 0, 99, "- [21]");
    }
}
