//! An opened data directory, and how it starts to take part.
//!
//! Opening and starting are two steps, so that an index can be brought up to the state before the
//! log moves on.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::oneshot;
use tracing::info;

use crate::{
    clock::Clock,
    dir::{DataDir, Identity, OpenError},
    disk::{FreeSpace, Guard},
    effects::EffectsSink,
    failpoint::Failpoints,
    fatal::{Alarm, Fatal, FatalKind},
    handle::{Handle, Running},
    log_store::{self, LogStore},
    network::Alone,
    observer::Observer,
    rocks::Memory,
    settings::Settings,
    snapshots::Snapshots,
    state::{self, State},
    state_machine::StateMachine,
    types::{Node, TypeConfig},
};

/// How long a lone voter may take to elect itself. It takes two syncs.
const ELECTED_WITHIN: Duration = Duration::from_secs(30);

/// What a replica is opened with.
pub struct Open {
    /// Made if it is not there.
    pub dir: PathBuf,
    pub settings: Settings,
    pub clock: Arc<dyn Clock>,
    pub observer: Arc<dyn Observer>,
    pub disk: Arc<dyn FreeSpace>,
}

/// An opened data directory: its state can be read, nothing is applied yet.
pub struct Replica {
    dir: DataDir,
    settings: Settings,
    clock: Arc<dyn Clock>,
    guard: Guard,
    state: State,
    snapshots: Arc<Snapshots>,
    log: LogStore,
    log_closed: oneshot::Receiver<()>,
    alarm: Alarm,
}

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("start consensus: {0}")]
    Fatal(Arc<Fatal>),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("this node did not become the leader within {waited_ms} ms: {reason}")]
    NotElected { waited_ms: u128, reason: String },
    #[error("consensus stopped: {reason}")]
    Stopped { reason: String },
}

impl Replica {
    /// Opens the directory, or makes it. It reads and verifies files, so it blocks.
    pub fn open(open: Open) -> Result<Self, OpenError> {
        Self::open_with(open, &Failpoints::default())
    }

    pub(crate) fn open_with(open: Open, failpoints: &Failpoints) -> Result<Self, OpenError> {
        let Open {
            dir,
            settings,
            clock,
            observer,
            disk,
        } = open;
        settings.validate()?;
        let dir = DataDir::open(&dir, settings.expected_cluster_id)?;
        let identity = *dir.identity();
        let group = dir.group();
        let memory = Memory::new(&settings);
        let alarm = Alarm::new();
        let state = State::open(
            state::Parts {
                path: &group.join("state"),
                cluster_id: identity.cluster_id,
                settings: &settings,
                memory: memory.clone(),
                observer: observer.clone(),
                alarm: alarm.clone(),
                failpoints: failpoints.clone(),
                lock: dir.lock(),
            },
            identity.formed,
        )?;
        let snapshots = Snapshots::open(
            &group,
            identity.cluster_id,
            settings.snapshots_kept,
            memory.clone(),
            observer.clone(),
            failpoints.clone(),
        )?;
        let log_store::Opened { store, closed } = LogStore::open(log_store::Parts {
            group: &group,
            identity: &identity,
            settings: &settings,
            memory,
            state: Some(state.clone()),
            observer,
            alarm: alarm.clone(),
            failpoints: failpoints.clone(),
            lock: dir.lock(),
        })?;
        info!(
            cluster_id = %identity.cluster_id,
            node_id = format!("{:x}", identity.node_id),
            position = state.applied(),
            digest = %state.snapshot().digest(),
            "data directory opened"
        );
        Ok(Self {
            guard: Guard::new(disk, dir.path(), settings.disk_reserve_bytes),
            dir,
            settings,
            clock,
            state,
            snapshots: Arc::new(snapshots),
            log: store,
            log_closed: closed,
            alarm,
        })
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn identity(&self) -> &Identity {
        self.dir.identity()
    }

    #[cfg(test)]
    pub(crate) fn into_log(self) -> LogStore {
        self.log
    }

    /// Takes part from now on. A new directory forms a cluster of this one voter, reached at
    /// `address`; it elects itself at once. When this returns, everything that was acknowledged
    /// before is applied.
    ///
    /// The sink may be called before this returns.
    pub async fn start(
        self,
        sink: Arc<dyn EffectsSink>,
        address: String,
    ) -> Result<Handle, StartError> {
        let Self {
            mut dir,
            settings,
            clock,
            guard,
            state,
            snapshots,
            log,
            log_closed,
            alarm,
        } = self;
        state.set_sink(sink);
        let node_id = dir.identity().node_id;
        let shared_log = Arc::downgrade(log.log());
        let log_stats = log.log().stats().clone();
        let (machine, machine_closed) =
            StateMachine::new(state.clone(), snapshots.clone(), alarm.clone());
        let config = Arc::new(consensus(&settings));
        let raft = Raft::new(node_id, config, Alone, log, machine)
            .await
            .map_err(|error| {
                StartError::Fatal(alarm.raise(FatalKind::Consensus, error.to_string()))
            })?;
        let began = begin(&raft, &dir, node_id, address).await;
        let handle = Handle::new(Running {
            raft,
            state,
            snapshots,
            identity: Identity {
                formed: true,
                ..*dir.identity()
            },
            settings,
            clock,
            guard,
            log: shared_log,
            log_stats,
            alarm: alarm.clone(),
            closed: [log_closed, machine_closed],
        });
        let started = match began {
            Ok(()) => handle.wait_elected(ELECTED_WITHIN).await,
            Err(error) => Err(error),
        };
        // Not before: what was begun and not committed was never a cluster.
        let started = started.and_then(|()| match dir.identity().formed {
            true => Ok(()),
            false => Ok(dir.set_formed()?),
        });
        if let Err(error) = started {
            handle.shutdown().await;
            return Err(match alarm.raised() {
                Some(fatal) => StartError::Fatal(fatal),
                None => error,
            });
        }
        Ok(handle)
    }
}

/// Forms a cluster of one, or lets the lone voter of one stand for election.
async fn begin(
    raft: &Raft<TypeConfig, StateMachine>,
    dir: &DataDir,
    node_id: u64,
    address: String,
) -> Result<(), StartError> {
    let stopped = |error: &dyn std::fmt::Display| StartError::Stopped {
        reason: error.to_string(),
    };
    let is_initialized = raft.is_initialized().await;
    if is_initialized.map_err(|error| stopped(&error))? {
        let elected = raft.trigger().elect(false).await;
        return elected.map_err(|error| stopped(&error));
    }
    if dir.identity().formed {
        return Err(StartError::Open(OpenError::Incomplete {
            path: dir.group(),
            missing: "the cluster's membership, which it once had",
        }));
    }
    // A new cluster of one elects its voter by itself.
    let members = BTreeMap::from([(node_id, Node { address })]);
    let formed = raft.initialize(members).await;
    formed.map_err(|error| stopped(&error))
}

/// openraft's settings. Its defaults are for tests: elections after 150 ms fire under load.
fn consensus(settings: &Settings) -> Config {
    let config = Config {
        cluster_name: "memorygate".to_owned(),
        heartbeat_interval: settings.heartbeat_ms,
        election_timeout_min: settings.election_timeout_min_ms,
        election_timeout_max: settings.election_timeout_max_ms,
        // A node that was cut off asks whether it could win before it raises the term.
        enable_pre_vote: Some(true),
        // Until the lone voter is elected, or its timer would make it stand twice.
        enable_elect: false,
        // A restarted leader stands for election again: what it took for committed before a power
        // cut may not be what its disk says now.
        enable_leader_restore: Some(false),
        // Snapshots are built by bytes and time, see `handle::keep_snapshots`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: settings.log_entries_kept,
        // A few large deletes are cheaper than many small ones.
        purge_batch_size: 256,
        // A follower needs a snapshot only if the log it misses was purged.
        replication_lag_threshold: settings.log_entries_kept.max(1),
        // For one file transfer as a whole; the transport has its own deadlines.
        install_snapshot_timeout: 10 * 60 * 1_000,
        max_payload_entries: 512,
        ..Config::default()
    };
    config
        .validate()
        .expect("the settings were validated, and hold what openraft asks for")
}
