//! RocksDB as this crate opens, reads and writes it.
//!
//! Two databases are kept: the log, whose every write is synced, and the state, whose writes go
//! into a write-ahead log that is not synced, because the log can repeat them. They share one block
//! cache. Checksums are verified at every read; what fails one raises the alarm.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, DBRecoveryMode, ErrorKind, LogLevel, Options, ReadOptions, Snapshot, WriteBatch,
    WriteOptions,
};

use crate::{
    dir::OpenError,
    fatal::{Alarm, FatalKind},
    kv::Family,
    settings::Settings,
};

const MIB: usize = 1024 * 1024;

/// Memory of the log's tables until they are flushed: a few seconds of writes.
const LOG_WRITE_BUFFER_BYTES: usize = 32 * MIB;

/// Old write-ahead files of the log that are written over instead of made anew. A sync of a file
/// that does not grow writes no file system metadata.
const LOG_RECYCLED_FILES: usize = 4;

/// Tables of the log that are merged at once. A snapshot comes after eight or so and makes all they
/// hold obsolete, so most are merged into nothing; merging four, as is the default, would write each
/// entry once more before.
const LOG_TABLES_MERGED: i32 = 16;

/// Open table files of one database, at most.
const OPEN_FILES_MAX: i32 = 1_024;

/// Bits of a Bloom filter for each key: 1 % of the lookups of absent keys read a block.
const BLOOM_BITS: f64 = 10.0;

/// Share of a write buffer that a Bloom filter of its keys may take: one percent holds eight bits for
/// each row of a hundred bytes and more.
const MEMTABLE_BLOOM_SHARE: f64 = 0.01;

/// What both databases share.
#[derive(Clone)]
pub(crate) struct Memory {
    cache: Cache,
    write_buffer_bytes: usize,
}

impl Memory {
    pub(crate) fn new(settings: &Settings) -> Self {
        let bytes = |setting: u64| usize::try_from(setting).unwrap_or(usize::MAX);
        Self {
            cache: Cache::new_lru_cache(bytes(settings.block_cache_bytes)),
            write_buffer_bytes: bytes(settings.write_buffer_bytes),
        }
    }
}

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    State,
}

impl Kind {
    fn families(self) -> &'static [Family] {
        match self {
            Self::Log => &Family::LOG,
            Self::State => &Family::STATE,
        }
    }
}

/// How a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It must not be there yet.
    Create,
    /// It must be there.
    Existing,
    /// The same, and nothing is written.
    ReadOnly,
}

/// An open database.
pub(crate) struct Store {
    db: DB,
    path: PathBuf,
    alarm: Alarm,
}

/// What a database could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub(crate) struct Error {
    pub(crate) action: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: rocksdb::Error,
}

impl Error {
    pub(crate) fn is_corruption(&self) -> bool {
        is_corruption(&self.source)
    }
}

fn is_corruption(error: &rocksdb::Error) -> bool {
    match error.kind() {
        ErrorKind::Corruption => true,
        // A table or manifest that is gone is damage as well.
        ErrorKind::IOError => error.as_ref().contains("No such file or directory"),
        ErrorKind::NotFound
        | ErrorKind::NotSupported
        | ErrorKind::InvalidArgument
        | ErrorKind::MergeInProgress
        | ErrorKind::Incomplete
        | ErrorKind::ShutdownInProgress
        | ErrorKind::TimedOut
        | ErrorKind::Aborted
        | ErrorKind::Busy
        | ErrorKind::Expired
        | ErrorKind::TryAgain
        | ErrorKind::CompactionTooLarge
        | ErrorKind::ColumnFamilyDropped
        | ErrorKind::Unknown => false,
    }
}

impl Store {
    pub(crate) fn open(
        kind: Kind,
        mode: Mode,
        path: &Path,
        memory: &Memory,
        alarm: Alarm,
    ) -> Result<Self, OpenError> {
        let mut options = database_options(kind, memory);
        options.create_if_missing(mode == Mode::Create);
        options.create_missing_column_families(mode == Mode::Create);
        options.set_error_if_exists(mode == Mode::Create);
        let families = kind.families().iter().map(|family| {
            ColumnFamilyDescriptor::new(family.name(), family_options(kind, *family, memory))
        });
        let opened = if mode == Mode::ReadOnly {
            DB::open_cf_descriptors_read_only(&options, path, families, false)
        } else {
            DB::open_cf_descriptors(&options, path, families)
        };
        let db = opened.map_err(|error| {
            // A database that was opened before and does not open now is damaged, whatever RocksDB
            // calls it, unless the machine refused something.
            let is_missing = error.as_ref().contains("does not exist");
            if is_corruption(&error) || is_missing || error.kind() != ErrorKind::IOError {
                OpenError::corrupt(path, error)
            } else {
                OpenError::io("open database", path, std::io::Error::other(error))
            }
        })?;
        Ok(Self {
            db,
            path: path.to_owned(),
            alarm,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn family(&self, family: Family) -> &ColumnFamily {
        self.db
            .cf_handle(family.name())
            .expect("every family of a database is opened with it")
    }

    pub(crate) fn get(
        &self,
        family: Family,
        key: &[u8],
        snapshot: Option<&Snapshot<'_>>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let options = read_options(snapshot);
        self.db
            .get_cf_opt(self.family(family), key, &options)
            .map_err(|source| self.failed("read", source))
    }

    /// Shows `visit` the rows with keys in `from..until`, in key order, until it breaks off.
    pub(crate) fn visit(
        &self,
        family: Family,
        from: &[u8],
        until: &[u8],
        scan: Scan<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if from >= until {
            return Ok(());
        }
        let mut options = read_options(scan.snapshot);
        options.set_iterate_upper_bound(until);
        options.set_iterate_lower_bound(from);
        options.fill_cache(scan.fill_cache);
        if !scan.fill_cache {
            options.set_readahead_size(MIB);
        }
        let mut rows: DBRawIterator<'_> = self.db.raw_iterator_cf_opt(self.family(family), options);
        match scan.order {
            Order::Forward => rows.seek(from),
            Order::Backward => rows.seek_to_last(),
        }
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            match scan.order {
                Order::Forward => rows.next(),
                Order::Backward => rows.prev(),
            }
        }
        rows.status().map_err(|source| self.failed("scan", source))
    }

    pub(crate) fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db
            .write_opt(batch, &options)
            .map_err(|source| self.failed("write", source))
    }

    /// Makes everything written so far survive a power cut.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.db
            .flush_wal(true)
            .map_err(|source| self.failed("sync", source))
    }

    /// Writes what is in memory to tables.
    pub(crate) fn flush(&self, kind: Kind) -> Result<(), Error> {
        for family in kind.families() {
            self.db
                .flush_cf(self.family(*family))
                .map_err(|source| self.failed("flush", source))?;
        }
        Ok(())
    }

    /// Names the error; damage raises the alarm, whoever met it.
    pub(crate) fn failed(&self, action: &'static str, source: rocksdb::Error) -> Error {
        let error = Error {
            action,
            path: self.path.clone(),
            source,
        };
        if error.is_corruption() {
            self.alarm.raise(FatalKind::Corrupt, error.to_string());
        }
        error
    }

    /// Raises the alarm for a row that RocksDB vouches for and that makes no sense.
    pub(crate) fn unreadable(&self, reason: impl std::fmt::Display) -> String {
        let message = format!("{}: {reason}", self.path.display());
        self.alarm.raise(FatalKind::Corrupt, message.clone());
        message
    }
}

/// How rows are visited.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'a> {
    pub(crate) snapshot: Option<&'a Snapshot<'a>>,
    pub(crate) order: Order,
    /// Off for scans of everything, which would push out what is in use.
    pub(crate) fill_cache: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Forward,
    Backward,
}

impl<'a> Scan<'a> {
    pub(crate) fn forward(snapshot: Option<&'a Snapshot<'a>>) -> Self {
        Self {
            snapshot,
            order: Order::Forward,
            fill_cache: true,
        }
    }

    pub(crate) fn backward(snapshot: Option<&'a Snapshot<'a>>) -> Self {
        Self {
            order: Order::Backward,
            ..Self::forward(snapshot)
        }
    }

    pub(crate) fn everything(snapshot: Option<&'a Snapshot<'a>>) -> Self {
        Self {
            fill_cache: false,
            ..Self::forward(snapshot)
        }
    }
}

fn read_options(snapshot: Option<&Snapshot<'_>>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    if let Some(snapshot) = snapshot {
        options.set_snapshot(snapshot);
    }
    options
}

fn database_options(kind: Kind, memory: &Memory) -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(8 * MIB);
    // Dirty pages go out steadily, not all at once before a sync.
    options.set_bytes_per_sync(MIB as u64);
    // A torn tail is what a power cut leaves. That nothing acknowledged was in it is checked
    // against the seal, see `log_store::seal`.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    match kind {
        Kind::Log => {
            options.set_db_write_buffer_size(LOG_WRITE_BUFFER_BYTES);
            options.set_recycle_log_file_num(LOG_RECYCLED_FILES);
        }
        Kind::State => {
            options.set_db_write_buffer_size(memory.write_buffer_bytes);
            // Bounds what is replayed at the start.
            options.set_max_total_wal_size(2 * memory.write_buffer_bytes as u64);
        }
    }
    options
}

fn family_options(kind: Kind, family: Family, memory: &Memory) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&memory.cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    match family {
        // Vectors and sign bits do not compress.
        Family::Embeddings => {
            options.set_compression_type(DBCompressionType::None);
            table.set_block_size(32 * 1024);
            table.set_bloom_filter(BLOOM_BITS, false);
        }
        // Commands are mostly vectors, and are read back once, if at all.
        Family::Entries => {
            options.set_compression_type(DBCompressionType::None);
            table.set_block_size(64 * 1024);
            options.set_level_zero_file_num_compaction_trigger(LOG_TABLES_MERGED);
            options.set_level_zero_slowdown_writes_trigger(2 * LOG_TABLES_MERGED);
            options.set_level_zero_stop_writes_trigger(3 * LOG_TABLES_MERGED);
        }
        Family::Memories => {
            options.set_compression_type(DBCompressionType::Lz4);
            table.set_block_size(16 * 1024);
            table.set_bloom_filter(BLOOM_BITS, false);
        }
        Family::Rows | Family::Local => {
            options.set_compression_type(DBCompressionType::Lz4);
            table.set_bloom_filter(BLOOM_BITS, false);
        }
        Family::Journal => options.set_compression_type(DBCompressionType::None),
    }
    options.set_block_based_table_factory(&table);
    if kind == Kind::State {
        // Most of what `apply` looks for is not there: a new memory, a new request.
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_SHARE);
        options.set_memtable_whole_key_filtering(true);
    }
    let buffer = match kind {
        Kind::Log => LOG_WRITE_BUFFER_BYTES,
        Kind::State => memory.write_buffer_bytes,
    };
    options.set_write_buffer_size(buffer);
    options.set_max_write_buffer_number(3);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, mode: Mode) -> Result<Store, OpenError> {
        let memory = Memory::new(&Settings::default());
        Store::open(Kind::Log, mode, path, &memory, Alarm::new())
    }

    fn put(store: &Store, key: &[u8], value: &[u8]) {
        let mut batch = WriteBatch::default();
        batch.put_cf(store.family(Family::Entries), key, value);
        store.write(batch, true).unwrap();
    }

    fn keys(store: &Store, from: &[u8], until: &[u8], scan: Scan<'_>, limit: usize) -> Vec<u8> {
        let mut seen = Vec::new();
        store
            .visit(Family::Entries, from, until, scan, |key, _| {
                seen.push(key[0]);
                if seen.len() == limit {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        seen
    }

    #[test]
    fn a_scan_goes_both_ways_within_its_bounds_and_at_its_moment() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("db"), Mode::Create).unwrap();
        for key in 1..=5 {
            put(&store, &[key], b"x");
        }
        let moment = store.db().snapshot();
        put(&store, &[0], b"x");
        put(&store, &[3, 0], b"x");
        let (all, then) = (Scan::forward(None), Scan::everything(Some(&moment)));
        assert_eq!(keys(&store, &[0], &[9], all, 99), [0, 1, 2, 3, 3, 4, 5]);
        assert_eq!(keys(&store, &[0], &[9], then, 99), [1, 2, 3, 4, 5]);
        assert_eq!(keys(&store, &[2], &[4], then, 99), [2, 3]);
        assert_eq!(keys(&store, &[2], &[4], all, 1), [2]);
        assert_eq!(keys(&store, &[4], &[4], all, 99), [0; 0]);
        let back = Scan::backward(Some(&moment));
        assert_eq!(keys(&store, &[2], &[5], back, 99), [4, 3, 2]);
        assert_eq!(keys(&store, &[2], &[5], back, 2), [4, 3]);
        assert_eq!(
            store.get(Family::Entries, &[0], Some(&moment)).unwrap(),
            None
        );
        assert_eq!(
            store.get(Family::Entries, &[0], None).unwrap(),
            Some(b"x".to_vec())
        );
    }

    #[test]
    fn a_database_is_made_once_and_must_be_there_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let missing = open(&path, Mode::Existing).err().unwrap();
        assert!(matches!(missing, OpenError::Corrupt { .. }), "{missing}");
        drop(open(&path, Mode::Create).unwrap());
        assert!(open(&path, Mode::Create).is_err());
        drop(open(&path, Mode::Existing).unwrap());
        assert!(open(&path, Mode::ReadOnly).is_ok());
    }

    #[test]
    fn a_flipped_byte_in_a_table_is_found_when_it_is_read_and_raises_the_alarm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let store = open(&path, Mode::Create).unwrap();
        put(&store, b"key", &[7; 5_000]);
        store.flush(Kind::Log).unwrap();
        store.sync().unwrap();
        drop(store);
        for file in std::fs::read_dir(&path).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|e| e == "sst") {
                let mut bytes = std::fs::read(&file).unwrap();
                bytes[1_000] ^= 1;
                std::fs::write(&file, bytes).unwrap();
            }
        }
        let store = open(&path, Mode::Existing).unwrap();
        let error = store.get(Family::Entries, b"key", None).unwrap_err();
        assert!(error.is_corruption(), "{error}");
        let fatal = store.alarm.raised().unwrap();
        assert_eq!(fatal.kind, FatalKind::Corrupt);
        assert!(store.unreadable("nonsense").ends_with("db: nonsense"));
    }
}
