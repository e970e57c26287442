//! Tests of the whole crate: real databases in temporary directories, faults at named steps.

mod backup;
mod cluster;
mod conformance;
mod digests;
mod durability;
mod faults;
mod formats;
mod installing;
mod limits;
mod members;
mod quorum;
mod reading;
mod recover;
mod switchboard;
mod troubled;
mod writers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use memorygate_core::{
    command::{Command, Expire, Learn, learn::Experience},
    embedding::{DIMENSION, Embedding},
    format::Formats,
    name::{Domain, Name, Namespace},
    request::RequestId,
    scope::Scope,
    time::TimeMs,
};
use tempfile::TempDir;

use crate::{
    Effects, EffectsSink, First, FreeSpace, Handle, NoObserver, NoTransport, Open, OpenError,
    Replica, Settings, StartError, StateSnapshot, failpoint::Failpoints,
};

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) effects: Mutex<Vec<Effects>>,
    pub(crate) replaced: Mutex<Vec<u64>>,
}

impl EffectsSink for Told {
    fn publish(&self, effects: Effects) {
        self.effects.lock().unwrap().push(effects);
    }

    fn replaced(&self, snapshot: Arc<StateSnapshot>) {
        self.replaced.lock().unwrap().push(snapshot.position());
    }
}

/// A disk with as much room as a test says.
pub(crate) struct Room(pub(crate) AtomicU64);

impl FreeSpace for Room {
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.0.load(Ordering::SeqCst))
    }
}

/// Starts a cluster of one.
pub(crate) async fn begin(replica: Replica, told: Arc<Told>) -> Result<Handle, StartError> {
    let first = First::Alone {
        address: "here:1".to_owned(),
    };
    replica.start(told, first, Arc::new(NoTransport)).await
}

/// A data directory and what it is opened with.
pub(crate) struct Bench {
    /// Removed with the bench.
    _dir: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) room: Arc<Room>,
    pub(crate) failpoints: Failpoints,
    /// Those that the program reads.
    pub(crate) formats: Formats,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            path: dir.path().join("data"),
            _dir: dir,
            settings: Settings::default(),
            now: Arc::new(AtomicI64::new(1_000)),
            room: Arc::new(Room(AtomicU64::new(u64::MAX))),
            failpoints: Failpoints::default(),
            formats: Formats::OWN,
        }
    }

    pub(crate) fn open(&self) -> Result<Replica, OpenError> {
        self.open_at(&self.path)
    }

    pub(crate) fn open_at(&self, path: &Path) -> Result<Replica, OpenError> {
        let now = self.now.clone();
        let open = Open {
            dir: path.to_owned(),
            settings: self.settings.clone(),
            clock: Arc::new(move || TimeMs(now.load(Ordering::SeqCst))),
            observer: Arc::new(NoObserver),
            disk: self.room.clone(),
            formats: self.formats,
        };
        Replica::open_with(open, &self.failpoints)
    }

    pub(crate) async fn start(&self) -> Handle {
        self.start_with(Arc::new(Told::default())).await
    }

    pub(crate) async fn start_with(&self, told: Arc<Told>) -> Handle {
        begin(self.open().unwrap(), told).await.unwrap()
    }

    /// What a crash right now would leave: every file as it is, nothing closed.
    pub(crate) fn crash_image(&self) -> PathBuf {
        let image = self.path.with_extension("image");
        let _ = fs::remove_dir_all(&image);
        copy_tree(&self.path, &image);
        image
    }

    pub(crate) fn group(&self) -> PathBuf {
        self.path.join("group-0")
    }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

pub(crate) fn experience(content: &str) -> Experience {
    let mut vector = vec![0.0; DIMENSION];
    for (at, byte) in content.bytes().enumerate() {
        vector[at % DIMENSION] += f32::from(byte);
    }
    Experience {
        scope: Scope::Shared,
        content: content.to_owned(),
        domain: Domain::parse("infrastructure").unwrap(),
        occurred_at: None,
        importance: 0.5,
        metadata: BTreeMap::new(),
        agent: None,
        session: Some(Name::parse("s").unwrap()),
        expires_at: None,
        pinned: false,
        links: BTreeSet::new(),
        embedding: Embedding::given(&vector).unwrap(),
    }
}

pub(crate) fn learn_in(name: &str, content: &str) -> Command {
    Command::Learn(Learn {
        namespace: namespace(name),
        experiences: vec![experience(content)],
    })
}

pub(crate) fn learn(content: &str) -> Command {
    learn_in("n", content)
}

pub(crate) fn expire() -> Command {
    Command::Expire(Expire {})
}

pub(crate) fn request(after: u64, nonce: u8) -> RequestId {
    RequestId {
        after,
        nonce: [nonce; 16],
    }
}

/// Runs on several threads, as a node does.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
