//! An opened data directory, and how it starts to take part.
//!
//! Opening and starting are two steps, so that an index can be brought up to the state before the
//! log moves on.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use memorygate_core::format::Formats;
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
    network::Members,
    observer::Observer,
    quorum::Quorum,
    rocks::Memory,
    settings::Settings,
    snapshots::Snapshots,
    state::{self, State},
    state_machine::StateMachine,
    transport::{Peer, Transport},
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
    /// The formats of the log that the program reads: [`Formats::OWN`], unless another version is to
    /// be played.
    pub formats: Formats,
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

/// What a node that was never a member does at its start. One that was goes on where it stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// Forms a cluster of this one voter, which elects itself.
    Alone { address: String },
    /// Forms a cluster of these voters, this one among them. Each of them must be told the same.
    Together(Vec<Peer>),
    /// Waits until a leader adds it.
    Join,
}

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("start consensus: {0}")]
    Fatal(Arc<Fatal>),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("a restored data directory begins a cluster of its own and cannot join another")]
    Restored,
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
            formats,
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
                formats,
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

    /// Takes part from now on. For a lone voter: when this returns, it leads, and everything that
    /// was acknowledged before is applied. A member of a larger cluster may not know a leader yet.
    ///
    /// The sink may be called before this returns.
    pub async fn start(
        self,
        sink: Arc<dyn EffectsSink>,
        first: First,
        transport: Arc<dyn Transport>,
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
        if dir.is_restored() {
            let First::Alone { address } = &first else {
                return Err(StartError::Restored);
            };
            let address = address.clone();
            let begun = state.begin_alone(&Peer { node_id, address });
            begun.map_err(|error| OpenError::io("write the member into", dir.path(), error))?;
        }
        let shared_log = Arc::downgrade(log.log());
        let log_stats = log.log().stats().clone();
        let (machine, machine_closed) =
            StateMachine::new(state.clone(), snapshots.clone(), alarm.clone());
        let config = Arc::new(consensus(&settings));
        let stall = Duration::from_millis(settings.election_timeout_min_ms);
        let quorum = Quorum::new(&settings);
        let network = Members::new(transport.clone(), stall, quorum.clone());
        let raft = Raft::new(node_id, config, network, log, machine)
            .await
            .map_err(|error| {
                StartError::Fatal(alarm.raise(FatalKind::Consensus, error.to_string()))
            })?;
        quorum.watch(raft.metrics());
        let began = begin(&raft, &dir, state.applied(), first).await;
        let handle = Handle::new(Running {
            raft: raft.clone(),
            quorum,
            state,
            snapshots,
            identity: Identity {
                formed: true,
                ..*dir.identity()
            },
            path: dir.path().to_owned(),
            settings,
            clock,
            transport,
            guard,
            log: shared_log,
            log_stats,
            alarm: alarm.clone(),
            closed: [log_closed, machine_closed],
        });
        let started = match began {
            Ok(Begun::Lone) => handle.wait_elected(ELECTED_WITHIN).await,
            Ok(Begun::Member) => Ok(()),
            Err(error) => Err(error),
        };
        // Of a lone voter not before: what was begun and not committed was never a cluster.
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
        raft.runtime_config().elect(true);
        Ok(handle)
    }
}

/// How a node has begun.
enum Begun {
    /// It is the only voter, and stands for election.
    Lone,
    Member,
}

/// Forms a cluster, goes on in one, or waits to be added to one. Until it returns the node neither
/// stands for election nor, since nobody is served yet, votes.
async fn begin(
    raft: &Raft<TypeConfig, StateMachine>,
    dir: &DataDir,
    applied: u64,
    first: First,
) -> Result<Begun, StartError> {
    let stopped = |error: &dyn std::fmt::Display| StartError::Stopped {
        reason: error.to_string(),
    };
    let node_id = dir.identity().node_id;
    let is_initialized = raft.is_initialized().await;
    if is_initialized.map_err(|error| stopped(&error))? {
        let is_lone = {
            let voters: Vec<u64> = raft.voter_ids().collect();
            voters == [node_id]
        };
        if !is_lone {
            return Ok(Begun::Member);
        }
        let elected = raft.trigger().elect(false).await;
        elected.map_err(|error| stopped(&error))?;
        return Ok(Begun::Lone);
    }
    if dir.identity().formed && (applied > 0 || matches!(first, First::Alone { .. })) {
        return Err(StartError::Open(OpenError::Incomplete {
            path: dir.group(),
            missing: "the cluster's membership, which it once had",
        }));
    }
    let (founders, begun) = match first {
        // A new cluster of one elects its voter by itself.
        First::Alone { address } => (vec![Peer { node_id, address }], Begun::Lone),
        First::Together(founders) => (founders, Begun::Member),
        First::Join => return Ok(Begun::Member),
    };
    let members: BTreeMap<u64, Node> = founders
        .into_iter()
        .map(|Peer { node_id, address }| (node_id, Node { address }))
        .collect();
    let formed = raft.initialize(members).await;
    formed.map_err(|error| stopped(&error))?;
    Ok(begun)
}

/// openraft's settings. Its defaults are for tests: elections after 150 ms fire under load.
fn consensus(settings: &Settings) -> Config {
    let config = Config {
        cluster_name: "memorygate".to_owned(),
        heartbeat_interval: settings.heartbeat_ms,
        // The second is its lease as well, and what is drawn between the two is added to it.
        election_timeout_min: settings.draw_min_ms(),
        election_timeout_max: settings.lease_ms(),
        // A leader that is heard and does not hear would be followed for ever.
        quorum_loss_probe_interval: Some(settings.silence_ms()),
        // A node that was cut off asks whether it could win before it raises the term.
        enable_pre_vote: Some(true),
        // Until it has begun, see `begin`; a lone voter's timer would make it stand twice.
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
