//! The library that servers run over: it shifts their clocks, refuses their syncs and notes what they have not synced, so
//! that a kill can be made into a power cut.
//!
//! ```text
//! server ─ write, rename … ─▶ preload.c ─ how to take it back ─▶ journal
//!        ─ fsync ───────────▶           ─ synced up to here ──▶
//! kill ──▶ power_cut: everything that no sync covers is taken back, newest first
//! ```
//!
//! It is compiled by `cc` when a run needs it. Pages written through memory maps and by `stdio` are
//! not seen; neither RocksDB nor the server keeps anything of worth so.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use rand::{Rng as _, rngs::StdRng};

const SOURCE: &str = include_str!("preload.c");

/// Bytes of removed files that are kept for a power cut when a node is started: a sixth of a small disk.
const KEPT_BYTES_MAX: u64 = 32 << 20;

/// Four numbers of 64 bits: what the clock is off by, readings of it that were off, whether syncs are
/// refused, and how many were.
const SWITCHES_BYTES: usize = 32;

const REFUSES_AT: u64 = 16;

const REFUSED_AT: u64 = 24;

/// Eight numbers of 64 bits.
const RECORD_BYTES: usize = 64;

/// The compiled library and the files that it shares with us.
#[derive(Debug)]
pub struct Preload {
    library: PathBuf,
    directory: PathBuf,
}

/// What a power cut took back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Changes to contents.
    pub writes: u64,
    /// Names that came, went or changed.
    pub names: u64,
}

impl Preload {
    /// Compiles the library into `directory`.
    pub fn build(directory: &Path, nodes: usize) -> anyhow::Result<Self> {
        let source = directory.join("preload.c");
        let library = directory.join("preload.so");
        fs::write(&source, SOURCE).context("write the preload library's source")?;
        let output = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .context("run cc (a C compiler is needed for clock jumps and power cuts)")?;
        ensure!(
            output.status.success(),
            "cc cannot compile the preload library: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let preload = Self {
            library,
            directory: directory.to_owned(),
        };
        preload.set_clocks(&vec![0; nodes])?;
        Ok(preload)
    }

    /// What a server with this data directory needs in its environment.
    pub fn environment(&self, at: usize, data: &Path) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        let kept = kept(data);
        // Links can be made within one file system only, so it lies beside the data.
        fs::create_dir_all(&kept).expect("the directory of the data is ours");
        [
            ("LD_PRELOAD", text(&self.library)),
            ("MEMORYGATE_JEPSEN_CLOCK", text(&self.clock(at))),
            ("MEMORYGATE_JEPSEN_DATA", text(data)),
            ("MEMORYGATE_JEPSEN_JOURNAL", text(&self.journal(at))),
            ("MEMORYGATE_JEPSEN_KEPT", text(&kept)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Sets what each node's wall clock is off by, from this moment on.
    pub fn set_clocks(&self, offsets_ms: &[i64]) -> anyhow::Result<()> {
        for (at, offset_ms) in offsets_ms.iter().enumerate() {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(self.clock(at))
                .context("open a clock's file")?;
            let offset_ns = offset_ms * 1_000_000;
            file.write_all_at(&offset_ns.to_ne_bytes(), 0)
                .context("set a clock")?;
            file.set_len(SWITCHES_BYTES as u64).context("set a clock")?;
        }
        Ok(())
    }

    /// How often node `at` has read a clock that was off.
    pub fn shifted_readings(&self, at: usize) -> anyhow::Result<u64> {
        let mut count = [0; 8];
        let file = File::open(self.clock(at)).context("open a clock's file")?;
        file.read_exact_at(&mut count, 8)
            .context("read a clock's file")?;
        Ok(u64::from_ne_bytes(count))
    }

    /// Has every sync of node `at`'s data fail from now on, or none.
    pub fn refuse_syncs(&self, at: usize, is_refusing: bool) -> anyhow::Result<()> {
        let file = OpenOptions::new().write(true).open(self.clock(at));
        let file = file.context("open a node's switches")?;
        let refuses = i64::from(is_refusing).to_ne_bytes();
        file.write_all_at(&refuses, REFUSES_AT)
            .context("set a node's switches")
    }

    /// How many syncs node `at` was refused.
    pub fn refused_syncs(&self, at: usize) -> anyhow::Result<u64> {
        let mut count = [0; 8];
        let file = File::open(self.clock(at)).context("open a node's switches")?;
        file.read_exact_at(&mut count, REFUSED_AT)
            .context("read a node's switches")?;
        Ok(u64::from_ne_bytes(count))
    }

    /// Forgets what was noted of the stopped node `at`: its directory is new, or all of it is on disk.
    pub fn forget(&self, at: usize, data: &Path) -> anyhow::Result<()> {
        match fs::remove_file(self.journal(at)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context("remove a journal");
            }
            _ => {}
        }
        let kept = kept(data);
        fs::remove_dir_all(&kept).context("remove what was kept")?;
        fs::create_dir_all(&kept).context("make the place of what is kept")
    }

    /// Has the system write to disk what the stopped node `at` did not sync, as systems do by
    /// themselves after a while, if removed files that a power cut would bring back take much room on
    /// the node's disk.
    pub fn write_back_if_much(&self, at: usize, data: &Path) -> anyhow::Result<()> {
        let mut bytes = 0;
        for file in fs::read_dir(kept(data)).context("list what was kept")? {
            let file = file.and_then(|file| file.metadata());
            bytes += file.context("list what was kept")?.len();
        }
        if bytes > KEPT_BYTES_MAX {
            self.forget(at, data)?;
        }
        Ok(())
    }

    /// Takes back what the killed node `at` had not synced. A disk may have got some of it all the
    /// same: of each file, some of the first unsynced changes stay, by `random`.
    pub fn power_cut(
        &self,
        at: usize,
        data: &Path,
        random: &mut StdRng,
    ) -> anyhow::Result<Forgotten> {
        let journal = match fs::read(self.journal(at)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.context("read a journal")?,
        };
        let forgotten = take_back(&parse(&journal)?, data, random)?;
        self.forget(at, data)?;
        Ok(forgotten)
    }

    fn clock(&self, at: usize) -> PathBuf {
        self.directory.join(format!("clock-{at}"))
    }

    fn journal(&self, at: usize) -> PathBuf {
        self.directory.join(format!("journal-{at}"))
    }
}

fn kept(data: &Path) -> PathBuf {
    data.with_file_name("kept")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    Truncate,
    Sync,
    Create,
    Rename,
    Unlink,
    Link,
    /// Which file a created name is of.
    Created,
}

#[derive(Clone, Debug)]
struct Record {
    kind: Kind,
    sequence: u64,
    inode: u64,
    /// Inode of the directory whose entry changed.
    directory: u64,
    /// Where bytes were changed, up to which record a sync counts, or the record of a creation.
    at: u64,
    /// Of the file before.
    size: u64,
    first: Vec<u8>,
    second: Vec<u8>,
}

fn parse(mut journal: &[u8]) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    // The last one may be cut off by the kill: then its change was not made.
    while journal.len() >= RECORD_BYTES {
        let number = |at: usize| {
            let bytes = journal[at * 8..at * 8 + 8].try_into();
            u64::from_ne_bytes(bytes.expect("a record's numbers have eight bytes"))
        };
        let lengths =
            [number(6), number(7)].map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        let end = RECORD_BYTES
            .saturating_add(lengths[0])
            .saturating_add(lengths[1]);
        if journal.len() < end {
            break;
        }
        let kind = match number(0) {
            1 => Kind::Write,
            2 => Kind::Truncate,
            3 => Kind::Sync,
            4 => Kind::Create,
            5 => Kind::Rename,
            6 => Kind::Unlink,
            7 => Kind::Link,
            8 => Kind::Created,
            other => bail!("a journal has a record of kind {other}, expected 1 to 8"),
        };
        let middle = RECORD_BYTES + lengths[0];
        records.push(Record {
            kind,
            sequence: number(1),
            inode: number(2),
            directory: number(3),
            at: number(4),
            size: number(5),
            first: journal[RECORD_BYTES..middle].to_vec(),
            second: journal[middle..end].to_vec(),
        });
        journal = &journal[end..];
    }
    Ok(records)
}

fn take_back(records: &[Record], data: &Path, random: &mut StdRng) -> anyhow::Result<Forgotten> {
    let mut synced: HashMap<u64, u64> = HashMap::new();
    for record in records.iter().filter(|record| record.kind == Kind::Sync) {
        let newest = synced.entry(record.inode).or_default();
        *newest = (*newest).max(record.at);
    }
    let created = records.iter().filter(|record| record.kind == Kind::Created);
    let created: HashMap<u64, u64> = created.map(|record| (record.at, record.inode)).collect();
    let covers = |inode: u64, sequence: u64| synced.get(&inode).is_some_and(|s| *s >= sequence);
    let is_durable = |record: &Record| match record.kind {
        Kind::Sync | Kind::Created => true,
        Kind::Write | Kind::Truncate | Kind::Unlink => {
            covers(record.inode, record.sequence) || covers(record.directory, record.sequence)
        }
        // File systems that keep a journal of names write a file's name with the file.
        Kind::Create => {
            let inode = created.get(&record.sequence).copied().unwrap_or(0);
            covers(inode, record.sequence) || covers(record.directory, record.sequence)
        }
        Kind::Rename | Kind::Link => {
            covers(record.inode, record.sequence) || covers(record.directory, record.sequence)
        }
    };
    let volatile: Vec<&Record> = records
        .iter()
        .filter(|record| !is_durable(record))
        .collect();
    // Of each file's changes a random number stays, half of the time none. The same of names, whose
    // order a file system keeps over all of them.
    let mut stays = Vec::with_capacity(volatile.len());
    let mut left: BTreeMap<Option<u64>, usize> = BTreeMap::new();
    for record in &volatile {
        *left.entry(place(record)).or_default() += 1;
    }
    for count in left.values_mut() {
        *count = if random.random_bool(0.5) {
            0
        } else {
            random.random_range(0..=*count)
        };
    }
    for record in &volatile {
        let left = left.get_mut(&place(record)).expect("it was counted");
        stays.push(*left > 0);
        *left = left.saturating_sub(1);
    }
    let mut files = Files::find(data)?;
    let mut forgotten = Forgotten::default();
    for (record, stays) in volatile.iter().zip(stays).rev() {
        if !stays {
            files.undo(record, &mut forgotten)?;
        }
    }
    Ok(forgotten)
}

/// The file whose contents a record is about; all names belong together.
fn place(record: &Record) -> Option<u64> {
    matches!(record.kind, Kind::Write | Kind::Truncate).then_some(record.inode)
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// Files by inode, those without a name in the data directory included.
struct Files {
    paths: BTreeMap<u64, PathBuf>,
}

impl Files {
    fn find(data: &Path) -> anyhow::Result<Self> {
        let mut paths = BTreeMap::new();
        let mut open = vec![data.to_owned(), kept(data)];
        while let Some(directory) = open.pop() {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.context("list a directory")?,
            };
            for entry in entries {
                let entry = entry.context("list a directory")?;
                let metadata = entry.metadata().context("look at a file")?;
                if metadata.is_dir() {
                    open.push(entry.path());
                } else {
                    // Prefer a name that will not be taken back.
                    let is_kept = directory == kept(data);
                    if is_kept || !paths.contains_key(&metadata.ino()) {
                        paths.insert(metadata.ino(), entry.path());
                    }
                }
            }
        }
        Ok(Self { paths })
    }

    fn undo(&mut self, record: &Record, forgotten: &mut Forgotten) -> anyhow::Result<()> {
        match record.kind {
            Kind::Sync | Kind::Created => {}
            Kind::Write | Kind::Truncate => {
                // What has no name left is of no consequence.
                let Some(path) = self.paths.get(&record.inode) else {
                    return Ok(());
                };
                let Some(file) = found(OpenOptions::new().write(true).open(path))? else {
                    return Ok(());
                };
                file.set_len(record.size).context("take a write back")?;
                file.write_all_at(&record.first, record.at)
                    .context("take a write back")?;
                forgotten.writes += 1;
            }
            Kind::Create | Kind::Link => {
                if found(fs::remove_file(path(&record.first)))?.is_some() {
                    forgotten.names += 1;
                }
            }
            Kind::Rename => {
                let both = String::from_utf8_lossy(&record.first).into_owned();
                let (from, to) = both.split_once('\n').context("a rename has two names")?;
                let (from, to) = (Path::new(from), Path::new(to));
                if from.exists() || !to.exists() {
                    return Ok(());
                }
                fs::rename(to, from).context("take a rename back")?;
                self.moved(to, from);
                self.bring_back(&record.second, to)?;
                forgotten.names += 1;
            }
            Kind::Unlink => {
                let to = path(&record.first);
                if !to.exists() && self.bring_back(&record.second, &to)? {
                    forgotten.names += 1;
                }
            }
        }
        Ok(())
    }

    fn moved(&mut self, from: &Path, to: &Path) {
        for path in self.paths.values_mut() {
            if path == from {
                to.clone_into(path);
            } else if let Ok(rest) = path.strip_prefix(from) {
                *path = to.join(rest);
            }
        }
    }

    /// Gives what was kept its name again.
    fn bring_back(&self, kept: &[u8], to: &Path) -> anyhow::Result<bool> {
        if kept.is_empty() || to.parent().is_none_or(|parent| !parent.exists()) {
            return Ok(false);
        }
        Ok(found(fs::hard_link(path(kept), to))?.is_some())
    }
}

fn found<T>(result: io::Result<T>) -> anyhow::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("take a change back"),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    /// Runs a shell script over the library, cuts the power, and returns the files that are left.
    fn check(script: &str) -> BTreeMap<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("disk/data");
        fs::create_dir_all(&data).unwrap();
        let preload = Preload::build(directory.path(), 1).unwrap();
        let status = Command::new("python3")
            .args(["-c", script])
            .arg(&data)
            .envs(preload.environment(0, &data))
            .status()
            .unwrap();
        assert!(status.success());
        // A seed with which nothing stays that was not synced.
        let mut files = BTreeMap::new();
        let journal = parse(&fs::read(preload.journal(0)).unwrap()).unwrap();
        assert!(!journal.is_empty());
        let mut random = StdRng::seed_from_u64(seed_of_nothing());
        preload.power_cut(0, &data, &mut random).unwrap();
        for entry in fs::read_dir(&data).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            files.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
        files
    }

    fn seed_of_nothing() -> u64 {
        (0..)
            .find(|seed| {
                let mut random = StdRng::seed_from_u64(*seed);
                (0..4).all(|_| random.random_bool(0.5))
            })
            .unwrap()
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_is_gone() {
        let script = "import os, sys\n\
            d = os.open(sys.argv[1], os.O_RDONLY)\n\
            f = os.open(sys.argv[1] + '/log', os.O_CREAT | os.O_WRONLY)\n\
            os.write(f, b'one ')\n\
            os.fsync(f)\n\
            os.write(f, b'two ')\n\
            g = os.open(sys.argv[1] + '/new', os.O_CREAT | os.O_WRONLY)\n\
            os.write(g, b'never synced')\n";
        let expected = BTreeMap::from([("log".to_owned(), "one ".to_owned())]);
        assert_eq!(check(script), expected);
    }

    #[test]
    fn names_come_and_go_with_their_directory() {
        let script = "import os, sys\n\
            def put(name, text):\n    \
                f = os.open(sys.argv[1] + '/' + name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)\n    \
                os.write(f, text)\n    \
                os.fsync(f)\n\
            put('current', b'old')\n\
            put('gone', b'here again')\n\
            put('first', b'1')\n\
            os.rename(sys.argv[1] + '/first', sys.argv[1] + '/renamed')\n\
            d = os.open(sys.argv[1] + '/', os.O_RDONLY)\n\
            os.fsync(d)\n\
            put('next', b'new')\n\
            os.rename(sys.argv[1] + '/next', sys.argv[1] + '/current')\n\
            os.unlink(sys.argv[1] + '/gone')\n";
        let expected = [
            ("current", "old"),
            ("gone", "here again"),
            ("next", "new"),
            ("renamed", "1"),
        ];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(check(script), BTreeMap::from(expected));
    }
}
