//! The one writer of the log: a thread that makes a group of changes durable with one sync.
//!
//! A group is whatever waits in the queue when the last sync is done, up to a bound of bytes; under
//! load groups grow by themselves, and a lone write waits for nobody. Only after the sync is anyone
//! told. The first error is final.

use std::{io, sync::Arc, thread, time::Instant};

use openraft::storage::IOFlushed;
use rocksdb::WriteBatch;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::{
    Log,
    seal::{Seal, Sealed},
};
use crate::{
    failpoint::Failpoints,
    fatal::FatalKind,
    kv::{self, Family},
    observer::Observer,
    types::{Entry, LogId, TypeConfig, Vote},
};

/// A change of the log.
pub(crate) enum Command {
    Append {
        entries: Vec<Entry>,
        callback: IOFlushed<TypeConfig>,
    },
    Vote {
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Removes what comes after `last`.
    Truncate {
        last: Option<LogId>,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Removes what comes up to `through`. Nobody waits for it.
    Purge { through: LogId },
}

/// Whom to tell after the sync.
enum Waiting {
    Append(IOFlushed<TypeConfig>),
    Change(oneshot::Sender<io::Result<()>>),
}

impl Waiting {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.io_completed(result),
            // Whoever waited may have gone.
            Self::Change(done) => drop(done.send(result)),
        }
    }
}

/// Changes that share a batch and a sync.
#[derive(Default)]
struct Group {
    batch: WriteBatch,
    /// Room in which an entry is encoded.
    encoded: Vec<u8>,
    waiting: Vec<Waiting>,
    entries: usize,
    bytes: usize,
    /// Whether somebody counts on it after a power cut.
    must_sync: bool,
    /// What is acknowledged once the group is synced.
    sealed: Sealed,
    is_cut: bool,
}

pub(crate) struct Writer {
    log: Arc<Log>,
    queue: mpsc::Receiver<Command>,
    seal: Seal,
    /// As the seal has it.
    noted: Sealed,
    /// As of the last command taken.
    sealed: Sealed,
    /// As the database has it.
    committed: Option<LogId>,
    group_bytes_max: u64,
    observer: Arc<dyn Observer>,
    failpoints: Failpoints,
}

impl Writer {
    pub(super) fn new(
        log: Arc<Log>,
        queue: mpsc::Receiver<Command>,
        seal: Seal,
        sealed: Sealed,
        group_bytes_max: u64,
        observer: Arc<dyn Observer>,
        failpoints: Failpoints,
    ) -> Self {
        Self {
            log,
            queue,
            noted: seal.read(),
            seal,
            sealed,
            committed: None,
            group_bytes_max,
            observer,
            failpoints,
        }
    }

    pub(super) fn spawn(self) -> io::Result<thread::JoinHandle<()>> {
        let builder = thread::Builder::new().name("log-writer".to_owned());
        builder.spawn(move || self.run())
    }

    fn run(mut self) {
        // One group is about as large as the last.
        let mut bytes = 0;
        while let Some(first) = self.queue.blocking_recv() {
            let mut group = Group {
                batch: WriteBatch::with_capacity_bytes(bytes),
                sealed: self.sealed,
                ..Group::default()
            };
            self.add(&mut group, first);
            while (group.bytes as u64) < self.group_bytes_max
                && let Ok(next) = self.queue.try_recv()
            {
                self.add(&mut group, next);
            }
            self.sealed = group.sealed;
            bytes = group.batch.size_in_bytes();
            self.finish(group);
        }
        // The log store was dropped: nobody waits for anything, and what is left to write is a hint.
        let last = Group {
            sealed: self.sealed,
            ..Group::default()
        };
        if let Err(reason) = self.write(last) {
            warn!(reason, "last committed position is not written");
        }
    }

    fn add(&self, group: &mut Group, command: Command) {
        let store = &self.log.store;
        let (local, entries_family) = (store.family(Family::Local), store.family(Family::Entries));
        match command {
            Command::Append { entries, callback } => {
                for entry in &entries {
                    let key = kv::entry::encode_key(entry.log_id.index);
                    kv::entry::encode_into(&mut group.encoded, entry);
                    group.batch.put_cf(entries_family, key, &group.encoded);
                    group.bytes += group.encoded.len();
                    group.encoded.clear();
                }
                group.entries += entries.len();
                group.must_sync = true;
                if let Some(last) = entries.last() {
                    group.sealed.last = Some(last.log_id);
                }
                group.waiting.push(Waiting::Append(callback));
            }
            Command::Vote { vote, done } => {
                group
                    .batch
                    .put_cf(local, kv::vote::KEY, kv::vote::encode(&vote));
                group.must_sync = true;
                group.sealed.vote = Some(vote);
                group.waiting.push(Waiting::Change(done));
            }
            Command::Truncate { last, done } => {
                let from = last.map_or(0, |last| last.index + 1);
                group.batch.delete_range_cf(
                    entries_family,
                    kv::entry::encode_key(from),
                    kv::entry::encode_key(u64::MAX),
                );
                group.must_sync = true;
                group.is_cut = true;
                group.sealed.last = last;
                group.waiting.push(Waiting::Change(done));
            }
            Command::Purge { through } => {
                group.batch.delete_range_cf(
                    entries_family,
                    kv::entry::encode_key(0),
                    kv::entry::encode_key(through.index.saturating_add(1)),
                );
                group
                    .batch
                    .put_cf(local, kv::purged::KEY, kv::purged::encode(&through));
                // An installed snapshot lies beyond the log's end, and becomes it.
                if group.sealed.last < Some(through) {
                    group.sealed.last = Some(through);
                    group.must_sync = true;
                }
            }
        }
    }

    fn finish(&mut self, mut group: Group) {
        let waiting = std::mem::take(&mut group.waiting);
        let last = group.sealed.last;
        let result = self.write(group);
        if let (Ok(()), Some(last)) = (&result, last) {
            self.log.tail().synced(last.index);
        }
        for waiter in waiting {
            waiter.tell(match &result {
                Ok(()) => Ok(()),
                Err(reason) => Err(io::Error::other(reason.clone())),
            });
        }
    }

    /// Makes a group durable, unless anything has failed before.
    fn write(&mut self, group: Group) -> Result<(), String> {
        if let Some(fatal) = self.log.alarm.raised() {
            return Err(fatal.to_string());
        }
        let result = self.try_write(group);
        result.map_err(|reason| {
            let fatal = self.log.alarm.raise(FatalKind::LogWrite, reason);
            error!(%fatal, "log write failed, nothing more is acknowledged");
            fatal.to_string()
        })
    }

    fn try_write(&mut self, mut group: Group) -> Result<(), String> {
        let log = &self.log;
        // A hint that spares work after a restart. It never goes beyond what is on disk.
        let committed = log.tail().committed().min(group.sealed.last);
        if let Some(log_id) = committed
            && committed > self.committed
        {
            let local = log.store.family(Family::Local);
            let value = kv::committed::encode(&log_id);
            group.batch.put_cf(local, kv::committed::KEY, value);
        }
        if group.batch.is_empty() {
            return Ok(());
        }
        if group.is_cut {
            // The log's end goes back, so the seal has to go first.
            self.noted.last = self.noted.last.min(group.sealed.last);
            let noted = self.seal.note_durably(&self.noted);
            noted.map_err(|error| format!("note the log's end: {error}"))?;
        }
        let started = Instant::now();
        self.failpoints
            .hit("log: write")
            .map_err(|error| format!("write the log: {error}"))?;
        let must_sync = group.must_sync;
        #[cfg(feature = "planted-bugs")]
        let must_sync = must_sync && !crate::planted::Bug::AckBeforeSync.is_planted();
        log.store
            .write(group.batch, must_sync)
            .map_err(|error| error.to_string())?;
        self.failpoints
            .hit("log: synced")
            .map_err(|error| format!("sync the log: {error}"))?;
        self.committed = committed;
        if group.must_sync {
            log.stats.add(group.entries, group.bytes);
            self.observer
                .log_synced(group.entries, group.bytes, started.elapsed());
            let noted = self.seal.note(&group.sealed);
            noted.map_err(|error| format!("note the log's end: {error}"))?;
            self.noted = group.sealed;
        }
        Ok(())
    }
}
