//! How the rest of the node uses the replicated log, and what keeps it running.

mod digests;
mod formats;
mod forward;
pub(crate) mod gate;
pub(crate) mod members;
pub(crate) mod serving;

use std::{
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use memorygate_core::{apply::Reply, command::Envelope, limits::COMMAND_BYTES_MAX};
use openraft::{
    Raft, RaftMetrics, ReadPolicy, ServerState,
    alias::WatchReceiverOf,
    async_runtime::watch::WatchReceiver as _,
    error::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError},
    raft::ClientWriteResult,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore, TryAcquireError, oneshot, watch},
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout},
};
use tracing::{error, info, warn};

use self::gate::{Gate, MemberFull};
use crate::{
    clock::Clock,
    dir::Identity,
    disk::{Guard, StorageFull},
    fatal::{Alarm, Fatal, FatalKind},
    log_store::{Log, Stats},
    quorum::Quorum,
    replica::StartError,
    settings::Settings,
    snapshots::{SnapshotFiles, Snapshots, turns::Turns},
    state::State,
    state_machine::StateMachine,
    transport::{Peer, Transport},
    types::{Proposal, Shares, TypeConfig, Waiter},
};

/// How often it is looked who leads.
const LEADER_LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often it is looked whether a snapshot is due.
const SNAPSHOT_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after a failed attempt the next snapshot is tried.
const SNAPSHOT_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How long openraft may take to note a snapshot that was built.
const SNAPSHOT_NOTED_WITHIN: Duration = Duration::from_secs(10);

/// How long a stop waits for what runs to let go of the files.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

/// A running replica. Clones share it; it stops when it is told to, or when the last is dropped.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    raft: Raft<TypeConfig, StateMachine>,
    quorum: Quorum,
    /// For who waits until it changes.
    leading: watch::Sender<Leading>,
    state: State,
    snapshots: Arc<Snapshots>,
    identity: Identity,
    /// Of the data directory.
    path: PathBuf,
    settings: Settings,
    clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
    guard: Guard,
    gate: Gate,
    log: Weak<Log>,
    log_stats: Arc<Stats>,
    alarm: Alarm,
    /// Bound what is proposed and not answered.
    proposals: Arc<Semaphore>,
    proposal_bytes: Arc<Semaphore>,
    /// One snapshot is built at a time.
    snapshot: AsyncMutex<()>,
    /// And one is received at a time.
    receiving: Turns,
    /// The state is read whole by one at a time.
    reading: Arc<AsyncMutex<()>>,
    /// What others say that they read.
    said: formats::Said,
    /// Members are changed one by one.
    member_change: AsyncMutex<()>,
    /// Log bytes, since the start, when the last snapshot was built.
    snapshot_at_bytes: AtomicU64,
    snapshot_keeper: AsyncMutex<Option<JoinHandle<()>>>,
    is_stopping: watch::Sender<bool>,
    /// Resolve when the log and the state machine are let go of.
    closed: AsyncMutex<Vec<oneshot::Receiver<()>>>,
}

/// What a handle is made of.
pub(crate) struct Running {
    pub(crate) raft: Raft<TypeConfig, StateMachine>,
    pub(crate) quorum: Quorum,
    pub(crate) state: State,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) identity: Identity,
    pub(crate) path: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) guard: Guard,
    pub(crate) log: Weak<Log>,
    pub(crate) log_stats: Arc<Stats>,
    pub(crate) alarm: Alarm,
    pub(crate) closed: [oneshot::Receiver<()>; 2],
}

/// A proposal that was committed and applied on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its own position; a repeated request's reply names the position of the first.
    pub index: u64,
    pub reply: Reply,
}

/// Why a proposal has no answer. All but [`Self::Unknown`] mean that it *failed*: it was not
/// appended to the log and never will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ProposeError {
    #[error("this node is not the leader{}", at(leader))]
    NotLeader { leader: Option<Peer> },
    /// The cluster has lost its majority, or this node the others.
    #[error("no majority has had a leader for {waited_ms} ms: try another node, or later")]
    NoQuorum { waited_ms: u64 },
    #[error("{in_flight} proposals of {in_flight_bytes} bytes are in flight: retry later")]
    Overloaded {
        in_flight: usize,
        in_flight_bytes: u64,
    },
    #[error("command has {actual} bytes, expected at most {max}")]
    TooLarge { actual: usize, max: usize },
    #[error(transparent)]
    StorageFull(#[from] StorageFull),
    /// So says the leader, which has room itself.
    #[error(transparent)]
    MemberFull(#[from] MemberFull),
    #[error("node is stopped: {reason}")]
    Stopped { reason: String },
    /// It was handed over and may be committed, now or later. Only a repeat under the same request
    /// id tells.
    #[error("outcome unknown: {reason}")]
    Unknown { reason: String },
}

impl ProposeError {
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// Why a linearizable read cannot be served here now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum BarrierError {
    #[error("this node is not the leader{}", at(leader))]
    NotLeader { leader: Option<Peer> },
    #[error("leadership is not confirmed by a quorum: {reason}")]
    NoQuorum { reason: String },
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The node has stopped, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("node is stopped: {reason}")]
pub struct Stopped {
    pub reason: String,
}

fn at(leader: &Option<Peer>) -> String {
    match leader {
        Some(peer) => format!(", node {:x} at {} is", peer.node_id, peer.address),
        None => ", and none is known".to_owned(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
    Stopped,
}

/// Where this node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub node_id: u64,
    pub role: Role,
    pub term: u64,
    pub leader: Option<Peer>,
    /// Index of the last entry in the log.
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    /// Index of the last entry in the current snapshot; 0 without one.
    pub snapshot: u64,
    /// Index of the last entry that was purged from the log; 0 if none was.
    pub purged: u64,
    pub in_flight: usize,
    pub in_flight_bytes: u64,
    /// Since the start.
    pub log_syncs: u64,
    pub log_entries: u64,
    pub log_bytes: u64,
    pub disk_free_bytes: u64,
    /// 0 if it is not known.
    pub disk_total_bytes: u64,
}

/// A snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Index of the last log entry that it holds.
    pub position: u64,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Why no snapshot was built. What was there stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("nothing is applied yet")]
    Empty,
    #[error("build snapshot: {reason}")]
    Failed { reason: String },
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Handle {
    pub(crate) fn new(running: Running) -> Self {
        let Running {
            raft,
            quorum,
            state,
            snapshots,
            identity,
            path,
            settings,
            clock,
            transport,
            guard,
            log,
            log_stats,
            alarm,
            closed,
        } = running;
        let bytes = usize::try_from(settings.in_flight_bytes_max).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            raft,
            quorum,
            leading: watch::Sender::default(),
            state,
            snapshots,
            identity,
            path,
            clock,
            transport,
            guard,
            gate: Gate::default(),
            log,
            log_stats,
            alarm,
            proposals: Arc::new(Semaphore::new(settings.in_flight_max)),
            proposal_bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            settings,
            snapshot: AsyncMutex::new(()),
            receiving: Turns::default(),
            reading: Arc::default(),
            said: formats::Said::default(),
            member_change: AsyncMutex::new(()),
            snapshot_at_bytes: AtomicU64::new(0),
            snapshot_keeper: AsyncMutex::new(None),
            is_stopping: watch::Sender::new(false),
            closed: AsyncMutex::new(closed.into()),
        });
        let (raft, alarm) = (shared.raft.clone(), shared.alarm.clone());
        tokio::spawn(watch_consensus(
            raft.metrics(),
            alarm.clone(),
            shared.is_stopping.subscribe(),
        ));
        tokio::spawn(stop_when_fatal(raft, alarm, shared.is_stopping.subscribe()));
        tokio::spawn(follow_leadership(
            Arc::downgrade(&shared),
            shared.is_stopping.subscribe(),
        ));
        let keeper = formats::keep_format(Arc::downgrade(&shared), shared.is_stopping.subscribe());
        tokio::spawn(keeper);
        let keeper =
            members::keep_finishing(Arc::downgrade(&shared), shared.is_stopping.subscribe());
        tokio::spawn(keeper);
        let keeper = keep_snapshots(Arc::downgrade(&shared), shared.is_stopping.subscribe());
        let keeper = tokio::spawn(keeper);
        *shared
            .snapshot_keeper
            .try_lock()
            .expect("nobody else has the handle yet") = Some(keeper);
        Self { shared }
    }

    /// Stamps a command with the clock, appends it to this node's log and waits until it is applied.
    async fn propose_here(&self, envelope: &mut Envelope) -> Result<Applied, ProposeError> {
        let shared = &self.shared;
        self.check_running()
            .map_err(|Stopped { reason }| ProposeError::Stopped { reason })?;
        shared.guard.check()?;
        shared.gate.check()?;
        envelope.time = shared.clock.now();
        #[cfg(feature = "planted-bugs")]
        let request = match crate::planted::local_answer(envelope) {
            Ok(applied) => return Ok(applied),
            Err(request) => request,
        };
        let bytes = encoded(envelope, shared.state.format())?;
        let shares = self.share(bytes.len())?;
        let (waiter, answer) = Waiter::new(Some(shares));
        let handed_over = shared.raft.client_write_ff(Proposal(bytes), Some(waiter));
        handed_over.await.map_err(|error| ProposeError::Stopped {
            reason: error.to_string(),
        })?;
        let deadline = Duration::from_millis(shared.settings.propose_timeout_ms);
        let answered = tokio::select! {
            answered = timeout(deadline, answer) => answered,
            () = self.lose_the_lead() => return Err(ProposeError::Unknown {
                reason: "this leader has lost its majority".to_owned(),
            }),
        };
        match answered {
            Ok(Ok(result)) => {
                let result = applied(result);
                #[cfg(feature = "planted-bugs")]
                crate::planted::remember(request, &result);
                result
            }
            Ok(Err(_)) => Err(ProposeError::Unknown {
                reason: self.stopped().reason,
            }),
            Err(_) => Err(ProposeError::Unknown {
                reason: format!("no answer within {} ms", deadline.as_millis()),
            }),
        }
    }

    /// Resolves when this node has not led for as long as an election takes: the next leader would
    /// have said what became of what was proposed here.
    async fn lose_the_lead(&self) {
        let mut leading = self.shared.leading.subscribe();
        let grace = Duration::from_millis(self.shared.settings.election_timeout_max_ms);
        loop {
            if leading.wait_for(|now| !now.is_here).await.is_err() {
                return std::future::pending().await;
            }
            if timeout(grace, leading.wait_for(|now| now.is_here))
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// Confirms with a quorum that this node leads, and waits until it has applied all that was
    /// committed when it was asked.
    async fn confirm_here(&self) -> Result<u64, BarrierError> {
        self.check_running()?;
        let read = self.shared.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match read.await {
            Ok(read) => Ok(read.index()),
            Err(RaftError::Fatal(error)) => Err(BarrierError::Stopped(Stopped {
                reason: error.to_string(),
            })),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(BarrierError::NotLeader {
                    leader: peer(forward),
                })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => {
                Err(BarrierError::NoQuorum {
                    reason: error.to_string(),
                })
            }
        }
    }

    /// Waits until this node has applied `position`. It has no deadline of its own.
    pub async fn wait_applied(&self, position: u64) -> Result<(), Stopped> {
        let mut applied = self.shared.state.watch_applied();
        let mut stopping = self.shared.is_stopping.subscribe();
        let mut fatal = self.fatal();
        tokio::select! {
            biased;
            reached = applied.wait_for(|applied| *applied >= position) => {
                reached.map(drop).map_err(|_| self.stopped())
            }
            _ = stopping.wait_for(|is_stopping| *is_stopping) => Err(self.stopped()),
            _ = fatal.wait_for(Option::is_some) => Err(self.stopped()),
        }
    }

    /// Index of the last entry applied here.
    pub fn position(&self) -> u64 {
        self.shared.state.applied()
    }

    pub fn state(&self) -> &State {
        &self.shared.state
    }

    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Whether this node leads, and a majority has said so lately.
    pub fn is_leader(&self) -> bool {
        self.shared.quorum.leads()
    }

    pub fn metrics(&self) -> Metrics {
        let shared = &self.shared;
        let watched = shared.raft.metrics();
        let raft: RaftMetrics<TypeConfig> = watched.borrow_watched().clone();
        let index = |log_id: Option<crate::types::LogId>| log_id.map_or(0, |log_id| log_id.index);
        let leads = shared.quorum.leads_by(&raft);
        let leader = leader_of(&raft, leads).map(|node_id| {
            let node = raft.membership_config.membership().get_node(&node_id);
            Peer {
                node_id,
                address: node.map(|node| node.address.clone()).unwrap_or_default(),
            }
        });
        let in_flight_bytes_max = shared.settings.in_flight_bytes_max;
        let bytes_left = shared.proposal_bytes.available_permits() as u64;
        Metrics {
            node_id: raft.id,
            role: match raft.state {
                _ if raft.running_state.is_err() => Role::Stopped,
                ServerState::Leader if leads => Role::Leader,
                // It keeps the title until it hears of another, and asks for a majority.
                ServerState::Leader => Role::Candidate,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Learner => Role::Learner,
                ServerState::Shutdown => Role::Stopped,
            },
            term: raft.current_term,
            leader,
            last_log: raft.last_log_index.unwrap_or(0),
            committed: index(raft.local_committed),
            applied: shared.state.applied(),
            snapshot: index(raft.snapshot),
            purged: index(raft.purged),
            in_flight: shared.settings.in_flight_max - shared.proposals.available_permits(),
            in_flight_bytes: in_flight_bytes_max.saturating_sub(bytes_left),
            log_syncs: shared.log_stats.syncs.load(Ordering::Relaxed),
            log_entries: shared.log_stats.entries.load(Ordering::Relaxed),
            log_bytes: shared.log_stats.bytes.load(Ordering::Relaxed),
            disk_free_bytes: shared.guard.free_bytes(),
            disk_total_bytes: shared.guard.total_bytes(),
        }
    }

    /// Fires once, when the node must stop serving.
    pub fn fatal(&self) -> watch::Receiver<Option<Arc<Fatal>>> {
        self.shared.alarm.watch()
    }

    /// Whether writes are refused for want of room now.
    pub fn storage_full(&self) -> Option<StorageFull> {
        self.shared.guard.check().err()
    }

    /// Builds a snapshot of the state as it is now, beside the running writes.
    pub async fn snapshot_now(&self) -> Result<SnapshotInfo, SnapshotError> {
        let files = self.build_snapshot().await?;
        Ok(SnapshotInfo {
            position: files.manifest().position(),
            path: files.path().to_owned(),
            bytes: files.manifest().bytes(),
        })
    }

    /// Stops in order: what is in flight ends as unknown. When this returns and every handle,
    /// [`State`] and snapshot of it was dropped, the data directory can be opened again.
    pub async fn shutdown(&self) {
        self.shared.is_stopping.send_replace(true);
        if let Err(error) = self.shared.raft.shutdown().await {
            warn!(%error, "consensus did not stop in order");
        }
        // Whoever comes second waits for the first.
        if let Some(keeper) = self.shared.snapshot_keeper.lock().await.take()
            && let Err(error) = keeper.await
        {
            warn!(%error, "snapshots were not kept to the end");
        }
        for closed in self.shared.closed.lock().await.drain(..) {
            // It resolves with an error, because what is dropped sends nothing.
            if timeout(CLOSED_WITHIN, closed).await.is_err() {
                warn!(waited = ?CLOSED_WITHIN, "files are still in use after the stop");
            }
        }
    }

    /// Waits until this node leads and has applied all that was committed.
    pub(crate) async fn wait_elected(&self, within: Duration) -> Result<(), StartError> {
        let raft = &self.shared.raft;
        let mut metrics = raft.metrics();
        let (began, mut reason) = (Instant::now(), String::new());
        let elected = async {
            loop {
                match self.confirm_here().await {
                    Ok(_) => return Ok(()),
                    Err(BarrierError::Stopped(Stopped { reason })) => {
                        return Err(StartError::Stopped { reason });
                    }
                    Err(error) => reason = error.to_string(),
                }
                // Whatever changes next may be the election.
                if metrics.changed().await.is_err() {
                    let Stopped { reason } = self.stopped();
                    return Err(StartError::Stopped { reason });
                }
            }
        };
        let elected = timeout(within, elected).await;
        elected.unwrap_or_else(|_| {
            Err(StartError::NotElected {
                waited_ms: began.elapsed().as_millis(),
                reason,
            })
        })?;
        Ok(())
    }

    fn share(&self, bytes: usize) -> Result<Shares, ProposeError> {
        let shared = &self.shared;
        let wanted = u32::try_from(bytes).expect("a command has at most 8 MiB");
        let overloaded = |_: TryAcquireError| {
            let in_flight_bytes_max = shared.settings.in_flight_bytes_max;
            let bytes_left = shared.proposal_bytes.available_permits() as u64;
            ProposeError::Overloaded {
                in_flight: shared.settings.in_flight_max - shared.proposals.available_permits(),
                in_flight_bytes: in_flight_bytes_max.saturating_sub(bytes_left),
            }
        };
        let proposal = shared.proposals.clone().try_acquire_owned();
        let proposal = proposal.map_err(overloaded)?;
        let bytes = shared.proposal_bytes.clone().try_acquire_many_owned(wanted);
        Ok(Shares {
            _proposal: proposal,
            _bytes: bytes.map_err(overloaded)?,
        })
    }

    fn node_id(&self) -> u64 {
        self.shared.identity.node_id
    }

    fn is_running(&self) -> bool {
        self.check_running().is_ok()
    }

    fn check_running(&self) -> Result<(), Stopped> {
        if *self.shared.is_stopping.borrow() || self.shared.alarm.raised().is_some() {
            Err(self.stopped())
        } else {
            Ok(())
        }
    }

    fn stopped(&self) -> Stopped {
        Stopped {
            reason: match self.shared.alarm.raised() {
                Some(fatal) => fatal.to_string(),
                None => "it was shut down".to_owned(),
            },
        }
    }

    pub(crate) async fn build_snapshot(&self) -> Result<Arc<SnapshotFiles>, SnapshotError> {
        let shared = &self.shared;
        let _one_at_a_time = shared.snapshot.lock().await;
        self.check_running()?;
        let (applied, _) = shared.state.last_applied();
        if applied.is_none() {
            return Err(SnapshotError::Empty);
        }
        if let Some(latest) = shared.snapshots.latest()
            && latest.manifest().log_id == applied
        {
            return Ok(latest);
        }
        let log_bytes = shared.log_stats.bytes.load(Ordering::Relaxed);
        let (state, snapshots) = (shared.state.clone(), shared.snapshots.clone());
        // Built here and not by openraft, to which a failed snapshot is the end of the node.
        let built = tokio::task::spawn_blocking(move || snapshots.build(&state)).await;
        let failed = |reason: &dyn std::fmt::Display| SnapshotError::Failed {
            reason: reason.to_string(),
        };
        let files = built
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))?;
        shared.snapshots.set_prepared(files.clone());
        let log_id = files.manifest().log_id;
        let triggered = shared.raft.trigger().snapshot().await;
        triggered.map_err(|_| self.stopped())?;
        let wait = shared.raft.wait(Some(SNAPSHOT_NOTED_WITHIN));
        let noted = wait.metrics(|metrics| metrics.snapshot >= log_id, "snapshot is noted");
        if let Err(error) = noted.await {
            warn!(%error, "snapshot was built and is not used to shorten the log yet");
        }
        shared.snapshot_at_bytes.store(log_bytes, Ordering::Relaxed);
        Ok(files)
    }
}

/// A leader that a majority does not answer is none.
fn leader_of(metrics: &RaftMetrics<TypeConfig>, leads: bool) -> Option<u64> {
    let leader = metrics.current_leader;
    leader.filter(|node_id| leads || *node_id != metrics.id)
}

fn encoded(envelope: &Envelope, format: u8) -> Result<Bytes, ProposeError> {
    let bytes = envelope.to_bytes(format);
    if bytes.len() > COMMAND_BYTES_MAX {
        return Err(ProposeError::TooLarge {
            actual: bytes.len(),
            max: COMMAND_BYTES_MAX,
        });
    }
    Ok(bytes.into())
}

fn applied(result: ClientWriteResult<TypeConfig>) -> Result<Applied, ProposeError> {
    match result {
        Ok(response) => {
            let reply = response.data.0.expect("applying a command gives a reply");
            Ok(Applied {
                index: response.log_id.index,
                reply: Arc::unwrap_or_clone(reply),
            })
        }
        Err(ClientWriteError::ForwardToLeader(forward)) => Err(ProposeError::NotLeader {
            leader: peer(forward),
        }),
        Err(
            error @ (ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_)),
        ) => Err(ProposeError::Unknown {
            reason: error.to_string(),
        }),
    }
}

fn peer(forward: ForwardToLeader<TypeConfig>) -> Option<Peer> {
    let (node_id, node) = (forward.leader_id?, forward.leader_node?);
    Some(Peer {
        node_id,
        address: node.address,
    })
}

/// Raises the alarm when openraft stops by itself.
async fn watch_consensus(
    mut metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    alarm: Alarm,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let running = metrics.borrow_and_update().running_state.clone();
        if let Err(error) = running
            && !*stopping.borrow()
        {
            alarm.raise(FatalKind::Consensus, error.to_string());
            return;
        }
        // Metrics change with every commit; a look now and then is enough.
        sleep(Duration::from_millis(100)).await;
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        }
    }
}

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Leading {
    /// Whether this node does, and a majority has said so lately.
    is_here: bool,
    leader: Option<u64>,
}

/// Keeps [`Shared::leading`] up to date. The engine's metrics change with every commit, and a lease
/// that runs out changes nothing in them: so they are looked at now and then.
async fn follow_leadership(shared: Weak<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut ticks = interval(LEADER_LOOK_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let watched = shared.raft.metrics();
        let now = {
            let metrics = watched.borrow_watched();
            let is_here = shared.quorum.leads_by(&metrics);
            Leading {
                is_here,
                leader: leader_of(&metrics, is_here),
            }
        };
        shared.leading.send_if_modified(|before| {
            let is_news = *before != now;
            if before.is_here != now.is_here {
                info!(leads = now.is_here, "leadership has changed");
            }
            *before = now;
            is_news
        });
    }
}

/// A node that must not serve must not lead either.
async fn stop_when_fatal(
    raft: Raft<TypeConfig, StateMachine>,
    alarm: Alarm,
    mut stopping: watch::Receiver<bool>,
) {
    let mut fatal = alarm.watch();
    tokio::select! {
        _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        _ = fatal.wait_for(Option::is_some) => {}
    }
    if let Some(fatal) = alarm.raised() {
        error!(%fatal, "node stops");
    }
    if let Err(error) = raft.shutdown().await {
        warn!(%error, "consensus did not stop in order");
    }
}

/// Builds a snapshot when the log has grown enough or the last one is old.
async fn keep_snapshots(shared: Weak<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut ticks = interval(SNAPSHOT_LOOK_EVERY);
    let mut due = SnapshotDue {
        bytes_before: None,
        last: Instant::now(),
        not_before: Instant::now(),
    };
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // Also when the last handle was dropped.
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if !due.is_due(&shared) {
            continue;
        }
        match (Handle { shared }).build_snapshot().await {
            Ok(_) => {
                due.bytes_before = Some(0);
                due.last = Instant::now();
            }
            Err(SnapshotError::Stopped(_)) => return,
            Err(error) => {
                warn!(%error, "snapshot failed, the log is not shortened");
                due.not_before = Instant::now() + SNAPSHOT_RETRY_AFTER;
            }
        }
    }
}

/// When the next snapshot is built.
struct SnapshotDue {
    /// What was appended before the start and may not be in a snapshot.
    bytes_before: Option<u64>,
    last: Instant,
    not_before: Instant,
}

impl SnapshotDue {
    fn is_due(&mut self, shared: &Shared) -> bool {
        let bytes_before = *self
            .bytes_before
            .get_or_insert_with(|| shared.log.upgrade().map_or(0, |log| log.disk_bytes()));
        let latest = shared.snapshots.latest();
        let covered = latest.map_or(0, |latest| latest.manifest().position());
        let at_bytes = shared.snapshot_at_bytes.load(Ordering::Relaxed);
        let log_bytes = shared.log_stats.bytes.load(Ordering::Relaxed);
        let grown = bytes_before + log_bytes.saturating_sub(at_bytes);
        let every = Duration::from_secs(shared.settings.snapshot_interval_s);
        let is_due = grown >= shared.settings.snapshot_log_bytes || self.last.elapsed() >= every;
        is_due && shared.state.applied() > covered && Instant::now() >= self.not_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Node;

    #[test]
    fn errors_say_where_the_leader_is_and_whether_the_outcome_is_known() {
        let node = Node {
            address: "there:1".to_owned(),
        };
        let forward = ForwardToLeader::new(0xab, node);
        let refused = applied(Err(ClientWriteError::ForwardToLeader(forward.clone())));
        let refused = refused.unwrap_err();
        assert!(!refused.is_unknown());
        assert_eq!(
            refused.to_string(),
            "this node is not the leader, node ab at there:1 is"
        );
        let nowhere = applied(Err(ClientWriteError::ForwardToLeader(
            ForwardToLeader::empty(),
        )));
        assert_eq!(
            nowhere.unwrap_err().to_string(),
            "this node is not the leader, and none is known"
        );
        let discarded = applied(Err(ClientWriteError::LogEntryDiscarded(forward)));
        assert!(discarded.unwrap_err().is_unknown());
    }
}
