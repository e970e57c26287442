//! The index as a projection of the replicated state: connects the thread that keeps the index
//! (`memorygate-index`) with the state that it follows (`memorygate-raft`).
//!
//! ```text
//! apply ── Sink ──▶ index worker ──▶ view: index and state at one position ──▶ recall
//!                        │
//!                        └─ checkpoint on disk ──▶ the change journal before it may go
//! ```

mod records;

use std::{
    collections::VecDeque,
    fs,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use memorygate_index::worker::{self, Bulk, NotReady, Progress, Status, Stopped};
use memorygate_raft::{ClusterId, Effects, EffectsSink, State, StateSnapshot};
use tokio::sync::watch;
use tracing::{error, warn};

pub use self::records::Snapshot;
use crate::{error::Error, settings, telemetry::metrics::Metrics};

/// The name of the checkpoint file.
const CHECKPOINT: &str = "checkpoint";

/// Batches whose way into the index is timed at once; more are not timed.
const TIMED_MAX: usize = 1024;

/// How much the index thread steps back, of 19: it still gets about a third of what a thread beside it
/// gets, so that it follows under any load.
const NICENESS: i32 = 5;

/// The same for the threads that build it from many memories: about a tenth.
const BULK_NICENESS: i32 = 10;

/// Index and state of one moment.
pub type View<'a> = worker::View<'a, Snapshot>;

/// A running index.
pub struct Projection {
    handle: worker::Handle<Snapshot>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Why the worker ended, if it did so by itself.
    failure: watch::Sender<Option<String>>,
    timed: Arc<Timed>,
    state: Mutex<Option<State>>,
    /// From where on others need the change journal.
    journal_from: AtomicU64,
}

impl Projection {
    /// Starts the index beside `state`, from its checkpoint in `dir` or from all records.
    pub fn start(
        dir: &Path,
        settings: &settings::Index,
        state: State,
        cluster: ClusterId,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Arc<Self>> {
        fs::create_dir_all(dir).with_context(|| format!("make directory {}", dir.display()))?;
        let (handle, worker) = worker::new(worker::Settings {
            checkpoint: dir.join(CHECKPOINT),
            cluster: memorygate_index::checkpoint::ClusterId(cluster.0),
            queue_max: settings.queue_max,
            checkpoint_changes: settings.checkpoint_changes,
            checkpoint_interval: Duration::from_secs(settings.checkpoint_interval_s),
            bulk: Bulk {
                threads: bulk_threads(),
                started: || step_back(BULK_NICENESS),
            },
        })
        .context("start threads that build the index")?;
        let failure = watch::Sender::new(None);
        let records = Arc::new(Snapshot {
            state: state.snapshot(),
            rebuilds: metrics.index_rebuilds.clone(),
        });
        let failed = failure.clone();
        let run = move || {
            step_back(NICENESS);
            // A panic leaves nothing that is used again: the index is read through the handle,
            // which knows that its worker is gone.
            let ended = catch_unwind(AssertUnwindSafe(|| worker.run(records)));
            let reason = match ended {
                Ok(Ok(())) => return,
                Ok(Err(reason)) => reason.to_string(),
                Err(_) => "index thread panicked, which is a defect: its message is in the log; \
                           restart the node, which reads its index anew"
                    .to_owned(),
            };
            error!(%reason, "index has stopped");
            failed.send_replace(Some(reason));
        };
        let thread = thread::Builder::new().name("index".to_owned()).spawn(run);
        Ok(Arc::new(Self {
            handle,
            thread: Mutex::new(Some(thread.context("start index thread")?)),
            failure,
            timed: Arc::new(Timed {
                metrics,
                batches: Mutex::default(),
            }),
            state: Mutex::new(Some(state)),
            journal_from: AtomicU64::new(u64::MAX),
        }))
    }

    /// Counts what the index does and lets the change journal go where the index has it on disk.
    /// Runs until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut status = self.handle.watch_status();
        let mut checkpoint = self.handle.watch_checkpoint();
        loop {
            let position = status.borrow_and_update().position;
            self.timed.reached(position.unwrap_or(0));
            let is_gone = tokio::select! {
                changed = status.changed() => changed.is_err(),
                changed = checkpoint.changed() => {
                    let position = *checkpoint.borrow_and_update();
                    let position = position.min(self.journal_from.load(Ordering::Relaxed));
                    self.timed.metrics.index_checkpoints.inc();
                    if let Some(state) = lock(&self.state).as_ref() {
                        state.journal_trim(position);
                    }
                    changed.is_err()
                }
            };
            if is_gone {
                return;
            }
        }
    }

    /// Whether it has caught up since the start, and follows.
    pub fn is_ready(&self) -> bool {
        self.not_ready().is_none()
    }

    /// Keeps the change journal after `position`, whether the index still needs it or not.
    pub fn keep_journal_from(&self, position: u64) {
        self.journal_from.store(position, Ordering::Relaxed);
    }

    /// Why it cannot be asked now.
    pub fn not_ready(&self) -> Option<String> {
        let Status { position, progress } = self.handle.status();
        match (position, progress) {
            (_, Progress::Stopped) => Some(NotReady::Stopped.to_string()),
            (Some(_), _) => None,
            (None, Progress::Rebuilding { done, of }) => {
                Some(NotReady::Rebuilding { done, of }.to_string())
            }
            (None, Progress::Loading) => Some(NotReady::Loading.to_string()),
            (None, Progress::Starting | Progress::Ready) => Some(NotReady::Starting.to_string()),
        }
    }

    /// Of all log entries up to this, recalls see what became of them.
    pub fn position(&self) -> u64 {
        self.handle.position()
    }

    /// Why the index has stopped, if it has and nobody told it to.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Waits for [`Projection::failure`].
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let reason = failure
            .wait_for(Option::is_some)
            .await
            .map(|reason| reason.clone());
        match reason {
            Ok(Some(reason)) => reason,
            // The sender lives as long as this does.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the index can be asked.
    pub async fn ready(&self) -> Result<(), Error> {
        self.wait_for(0).await
    }

    /// Waits until the index stands at `position`.
    pub async fn wait_for(&self, position: u64) -> Result<(), Error> {
        let mut status = self.handle.watch_status();
        let reached = status
            .wait_for(|s| s.is_stopped() || s.is_ready_at(position))
            .await;
        match reached {
            Ok(status) if !status.is_stopped() => Ok(()),
            Ok(_) | Err(_) => Err(self.stopped()),
        }
    }

    /// Index and state of one moment. While it is held the index does not move on.
    pub fn view(&self) -> Result<View<'_>, Error> {
        self.handle.view().map_err(|reason| match reason {
            NotReady::Stopped => self.stopped(),
            NotReady::Starting | NotReady::Loading | NotReady::Rebuilding { .. } => {
                Error::NotReady {
                    reason: reason.to_string(),
                }
            }
        })
    }

    /// Writes a checkpoint of what is indexed now; blocks until it is on disk.
    pub fn checkpoint(&self) -> Result<u64, worker::CheckpointError> {
        self.handle.checkpoint().wait()
    }

    /// Writes a last checkpoint and ends the thread; blocks until it has.
    pub fn close(&self) {
        self.handle.stop();
        lock(&self.state).take();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            error!("index thread panicked");
        }
    }

    fn snapshot(&self, state: Arc<StateSnapshot>) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            state,
            rebuilds: self.timed.metrics.index_rebuilds.clone(),
        })
    }

    fn stopped(&self) -> Error {
        let reason = self.failure().unwrap_or_else(|| Stopped.to_string());
        Error::Stopped { reason }
    }
}

impl EffectsSink for Projection {
    fn publish(&self, effects: Effects) {
        self.timed.applied(effects.position);
        let records = self.snapshot(effects.snapshot);
        self.handle.publish(worker::Effects {
            changes: effects.changes,
            records,
        });
    }

    fn replaced(&self, snapshot: Arc<StateSnapshot>) {
        self.handle.replaced(self.snapshot(snapshot));
    }
}

/// Measures how long a batch takes from its application until recalls see it.
struct Timed {
    metrics: Arc<Metrics>,
    batches: Mutex<VecDeque<(u64, Instant)>>,
}

impl Timed {
    fn applied(&self, position: u64) {
        let mut batches = lock(&self.batches);
        if batches.len() < TIMED_MAX {
            batches.push_back((position, Instant::now()));
        }
    }

    fn reached(&self, position: u64) {
        let mut batches = lock(&self.batches);
        while let Some((_, applied)) = batches.pop_front_if(|(at, _)| *at <= position) {
            self.metrics
                .index_lag_seconds
                .observe(applied.elapsed().as_secs_f64());
        }
    }
}

/// Lets this thread, and those that it starts, have the processor after those that append, vote and
/// answer: an index that follows a moment later costs less than a heartbeat that is late.
fn step_back(niceness: i32) {
    // Elsewhere a priority is that of the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, niceness)
    {
        warn!(%error, "index thread keeps the priority of all others");
    }
}

/// All but one: a node that builds its index takes part in elections and follows the log meanwhile.
fn bulk_threads() -> usize {
    thread::available_parallelism()
        .map_or(1, NonZero::get)
        .saturating_sub(1)
        .max(1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
