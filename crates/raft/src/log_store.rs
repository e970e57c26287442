//! The durable log and the vote.
//!
//! ```text
//! append, vote, truncate, purge ──▶ tail (memory) ──▶ queue ──▶ writer: one batch, one sync
//!                                     ▲                             │ then the callbacks
//! readers ── newest entries ──────────┘                             ▼
//!         └─ older entries ◀───────────────────────────────────── RocksDB
//! ```
//!
//! What is appended can be read at once, from memory; it counts as stored only when the writer has
//! synced it. Everything that changes the log goes through the one queue, in order. The first write
//! or sync that fails is the last: nothing after it is acknowledged, and it is not tried again,
//! since after a failed sync the system may have dropped the pages and report success next time.

pub(crate) mod reader;
pub(crate) mod seal;
pub(crate) mod tail;
pub(crate) mod writer;

use std::{
    io,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use openraft::{
    LogState,
    storage::{IOFlushed, RaftLogStorage},
};
use rocksdb::WriteBatch;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use self::{
    reader::LogReader,
    seal::{Seal, Sealed},
    tail::{Ends, Tail},
    writer::{Command, Writer},
};
use crate::{
    dir::{self, Identity, Lock, OpenError},
    failpoint::Failpoints,
    fatal::Alarm,
    kv::{self, Family, owner::Owner, tag},
    observer::Observer,
    rocks::{Kind, Memory, Mode, Scan, Store},
    settings::Settings,
    state::{State, local},
    types::{Entry, LogId, TypeConfig, Vote},
};

/// Writes that may wait for the writer. Proposals and replication bound their bytes.
const QUEUE_MAX: usize = 1_024;

/// The log as openraft writes it. There is one; readers are handed out.
pub(crate) struct LogStore {
    log: Arc<Log>,
    /// Present until the drop.
    queue: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
    /// Absent in tests of the log alone: then anything may be purged.
    state: Option<State>,
}

/// What the log store, its readers and the writer share.
pub(crate) struct Log {
    store: Store,
    tail: Mutex<Tail>,
    alarm: Alarm,
    stats: Arc<Stats>,
    _lock: Arc<Lock>,
    /// Dropped after the database is closed, which tells whoever waits for it.
    _closed: oneshot::Sender<()>,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) syncs: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// What a log is opened with.
pub(crate) struct Parts<'a> {
    /// The group's directory.
    pub(crate) group: &'a Path,
    pub(crate) identity: &'a Identity,
    pub(crate) settings: &'a Settings,
    pub(crate) memory: Memory,
    pub(crate) state: Option<State>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) alarm: Alarm,
    pub(crate) failpoints: Failpoints,
    pub(crate) lock: Arc<Lock>,
}

/// A log and the news of its end.
pub(crate) struct Opened {
    pub(crate) store: LogStore,
    /// Resolves when the database is closed.
    pub(crate) closed: oneshot::Receiver<()>,
}

impl LogStore {
    /// Opens the log, or makes an empty one where there is none. A formed node must have one.
    pub(crate) fn open(parts: Parts<'_>) -> Result<Opened, OpenError> {
        let Parts {
            group,
            identity,
            settings,
            memory,
            state,
            observer,
            alarm,
            failpoints,
            lock,
        } = parts;
        let path = group.join("log");
        let exists = path.join("CURRENT").exists();
        if !exists && identity.formed {
            return Err(OpenError::Incomplete {
                path,
                missing: "the log",
            });
        }
        let mode = if exists { Mode::Existing } else { Mode::Create };
        let store = Store::open(Kind::Log, mode, &path, &memory, alarm.clone())?;
        claim(&store, identity)?;
        let seal = Seal::open(&group.join(seal::FILE))
            .map_err(|error| OpenError::io("open", &group.join(seal::FILE), error))?;
        let ends = load_sealed(&store, &seal.read())?;

        let (closed_tx, closed) = oneshot::channel();
        let log = Arc::new(Log {
            store,
            tail: Mutex::new(Tail::new(ends, settings.log_cache_bytes)),
            alarm,
            stats: Arc::default(),
            _lock: lock,
            _closed: closed_tx,
        });
        let (queue, commands) = mpsc::channel(QUEUE_MAX);
        let writer = Writer::new(
            log.clone(),
            commands,
            seal,
            Sealed {
                last: ends.last,
                vote: ends.vote,
            },
            settings.group_commit_bytes_max,
            observer,
            failpoints,
        );
        let writer = writer
            .spawn()
            .map_err(|error| OpenError::io("start the writer of", &path, error))?;
        Ok(Opened {
            store: Self {
                log,
                queue: Some(queue),
                writer: Some(writer),
                state,
            },
            closed,
        })
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    async fn send(&self, command: Command) -> io::Result<()> {
        let queue = self.queue.as_ref().expect("it is taken by the drop alone");
        queue.send(command).await.map_err(|_| self.log.stopped())
    }

    /// Queues a change and waits until it is synced.
    async fn write(
        &self,
        command: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Command,
    ) -> io::Result<()> {
        let (done, synced) = oneshot::channel();
        self.send(command(done)).await?;
        synced.await.unwrap_or_else(|_| Err(self.log.stopped()))
    }
}

impl Drop for LogStore {
    /// Waits for what is being written, so that the files are free afterwards.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            warn!("log writer panicked");
        }
    }
}

impl Log {
    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// About how many bytes the log takes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let family = self.store.family(Family::Entries);
        [
            "rocksdb.total-sst-files-size",
            "rocksdb.size-all-mem-tables",
        ]
        .into_iter()
        .map(|name| self.store.db().property_int_value_cf(family, name))
        .map(|value| value.ok().flatten().unwrap_or(0))
        .sum()
    }

    fn check(&self) -> io::Result<()> {
        match self.alarm.raised() {
            None => Ok(()),
            Some(fatal) => Err(io::Error::other(fatal.to_string())),
        }
    }

    fn stopped(&self) -> io::Error {
        match self.alarm.raised() {
            Some(fatal) => io::Error::other(fatal.to_string()),
            None => io::Error::other("log writer is stopped"),
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let tail = self.log.tail();
        Ok(LogState {
            last_purged_log_id: tail.purged(),
            last_log_id: tail.last(),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader::new(self.log.clone())
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.check()?;
        let vote = *vote;
        self.write(|done| Command::Vote { vote, done }).await?;
        self.log.tail().set_vote(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // The writer takes it along with the next group: it costs no write of its own.
        self.log.tail().set_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log.tail().committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        self.log.check()?;
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.log.tail().push(&entries)?;
        self.send(Command::Append { entries, callback }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.log.check()?;
        let cut = self.log.tail().truncate_after(last);
        if !cut {
            return Ok(());
        }
        self.write(|done| Command::Truncate { last, done }).await
    }

    async fn purge(&mut self, through: LogId) -> io::Result<()> {
        self.log.check()?;
        if let Some(state) = &self.state {
            let state = state.clone();
            let made = tokio::task::spawn_blocking(move || state.make_durable(through.index));
            let durable = made.await.map_err(io::Error::other)??;
            if durable < through.index {
                return Err(io::Error::other(format!(
                    "log is not purged through {}: the state is durable through {durable} only",
                    through.index
                )));
            }
        }
        self.log.tail().purge(through);
        self.send(Command::Purge { through }).await
    }
}

/// What a log has, checked against what it acknowledged.
pub(crate) fn load_sealed(store: &Store, seal: &Sealed) -> Result<Ends, OpenError> {
    let ends = load(store)?;
    check_against(store, &ends, seal)?;
    Ok(ends)
}

fn load(store: &Store) -> Result<Ends, OpenError> {
    let purged = local(store, &kv::purged::KEY, kv::purged::decode)?;
    let first = end(store, Scan::forward(None))?;
    let last = end(store, Scan::backward(None))?;
    let expected = purged.map_or(0, |purged| purged.index + 1);
    if let Some(first) = first
        && first.index != expected
    {
        return Err(OpenError::corrupt(
            store.path(),
            format!("log begins with entry {}, expected {expected}", first.index),
        ));
    }
    Ok(Ends {
        purged,
        first: first.map(|first| first.index),
        last: last.max(purged),
        vote: local(store, &kv::vote::KEY, kv::vote::decode)?,
        committed: local(store, &kv::committed::KEY, kv::committed::decode)?,
    })
}

/// The first or the last entry.
fn end(store: &Store, scan: Scan<'_>) -> Result<Option<LogId>, OpenError> {
    let mut found = None;
    let range = ([tag::ENTRY], [tag::ENTRY + 1]);
    store
        .visit(Family::Entries, &range.0, &range.1, scan, |key, value| {
            found = Some(reader::decode(key, value));
            ControlFlow::Break(())
        })
        .map_err(|error| OpenError::corrupt(store.path(), error))?;
    match found {
        None => Ok(None),
        Some(Ok(entry)) => Ok(Some(entry.log_id)),
        Some(Err(reason)) => Err(OpenError::corrupt(store.path(), reason)),
    }
}

/// RocksDB takes damage at the end of its write-ahead log for a torn write and drops it. What was
/// acknowledged was never torn.
fn check_against(store: &Store, ends: &Ends, sealed: &Sealed) -> Result<(), OpenError> {
    let corrupt = |reason| Err(OpenError::corrupt(store.path(), reason));
    if ends.last < sealed.last {
        return corrupt(format!(
            "log ends at {:?}, and {:?} was acknowledged",
            ends.last, sealed.last
        ));
    }
    if ends.vote < sealed.vote {
        return corrupt(format!(
            "last vote is {:?}, and {:?} was given",
            ends.vote, sealed.vote
        ));
    }
    Ok(())
}

/// Writes into a new log whose it is, and refuses another's.
fn claim(store: &Store, identity: &Identity) -> Result<(), OpenError> {
    if is_owned(store, identity)? {
        return Ok(());
    }
    let path = store.path();
    let mut batch = WriteBatch::default();
    batch.put_cf(
        store.family(Family::Local),
        kv::owner::KEY,
        kv::owner::encode(&owner(identity)),
    );
    store
        .write(batch, true)
        .map_err(|error| OpenError::io("write", path, io::Error::other(error)))
}

pub(crate) fn owner(identity: &Identity) -> Owner {
    Owner {
        format: dir::FORMAT,
        cluster_id: identity.cluster_id,
        node_id: Some(identity.node_id),
        incarnation: Some(identity.incarnation),
    }
}

/// Whether the log says that it belongs to this node, which only a new one does not. Refuses
/// another's.
pub(crate) fn is_owned(store: &Store, identity: &Identity) -> Result<bool, OpenError> {
    let path = store.path();
    let expected = owner(identity);
    match local(store, &kv::owner::KEY, kv::owner::decode)? {
        Some(owner) if owner == expected => Ok(true),
        Some(owner) if owner.format > dir::FORMAT => Err(OpenError::NewerFormat {
            path: path.to_owned(),
            actual: owner.format,
        }),
        Some(owner) => Err(OpenError::corrupt(
            path,
            format!("it belongs to {owner:?}, expected {expected:?}"),
        )),
        None if identity.formed => Err(OpenError::corrupt(path, "it does not say whose it is")),
        None => Ok(false),
    }
}

impl Stats {
    pub(crate) fn add(&self, entries: usize, bytes: usize) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
