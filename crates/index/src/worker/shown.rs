//! What the worker shows: index and records of one moment, and how far it has come.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicBool, Ordering},
};

use memorygate_core::time::TimeMs;
use tokio::sync::watch;

use crate::{
    checkpoint::{Checkpoint, ClusterId},
    index::{Error, Index, Step},
    records::Records,
};

/// How far the worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Progress {
    /// Nothing was begun.
    #[default]
    Starting,
    /// A checkpoint is read, and what changed since.
    Loading,
    /// The index is built from all records, `done` of `of` so far. An older one may be shown.
    Rebuilding { done: u64, of: u64 },
    /// It follows what is published.
    Ready,
    /// It follows no more and shows nothing.
    Stopped,
}

/// Where the index stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Status {
    /// Position of what is shown; `None` while nothing is.
    pub position: Option<u64>,
    pub progress: Progress,
}

impl Status {
    pub fn is_ready_at(&self, position: u64) -> bool {
        self.position.is_some_and(|at| at >= position)
    }

    pub fn is_stopped(&self) -> bool {
        self.progress == Progress::Stopped
    }
}

/// The index shows nothing yet, or no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    #[error("index is starting")]
    Starting,
    #[error("index is being loaded")]
    Loading,
    #[error("index is being built: {done} of {of} memories")]
    Rebuilding { done: u64, of: u64 },
    #[error("index has stopped")]
    Stopped,
}

/// Shared by the worker, which changes it, and the handles, which read it.
pub(super) struct Shown<R> {
    moment: RwLock<Option<Moment<R>>>,
    status: (watch::Sender<Status>, watch::Receiver<Status>),
    checkpoint: watch::Sender<u64>,
    /// The newest records that found no room in the queue, or replaced the state.
    overflow: Mutex<Option<Arc<R>>>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Moment<R> {
    index: Index,
    records: Arc<R>,
}

impl<R> Default for Shown<R> {
    fn default() -> Self {
        Self {
            moment: RwLock::new(None),
            status: watch::channel(Status::default()),
            checkpoint: watch::Sender::new(0),
            overflow: Mutex::new(None),
            stopping: AtomicBool::new(false),
        }
    }
}

impl<R> Shown<R> {
    pub(super) fn status(&self) -> &watch::Receiver<Status> {
        &self.status.1
    }

    pub(super) fn position(&self) -> u64 {
        self.status.1.borrow().position.unwrap_or(0)
    }

    pub(super) fn set_progress(&self, progress: Progress) {
        self.status
            .0
            .send_modify(|status| status.progress = progress);
    }

    pub(super) fn watch_checkpoint(&self) -> watch::Receiver<u64> {
        self.checkpoint.subscribe()
    }

    pub(super) fn set_checkpoint(&self, position: u64) {
        self.checkpoint.send_replace(position);
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn overflow(&self) -> MutexGuard<'_, Option<Arc<R>>> {
        self.overflow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_overflow(&self) -> Option<Arc<R>> {
        self.overflow().take()
    }

    /// Shows nothing from now on.
    pub(super) fn close(&self) {
        *self.moment.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.status.0.send_replace(Status {
            position: None,
            progress: Progress::Stopped,
        });
    }
}

impl<R: Records> Shown<R> {
    pub(super) fn put_overflow(&self, records: Arc<R>) {
        *self.overflow() = Some(records);
    }

    /// Shows another index.
    pub(super) fn replace(&self, index: Index, records: Arc<R>) {
        let position = records.position();
        let moment = Moment { index, records };
        let old = self
            .moment
            .write()
            .expect("the worker did not panic")
            .replace(moment);
        self.show(position);
        // Freed without the lock: it may be large.
        drop(old);
    }

    /// Moves the index on to where `records` stand. After an error it is hidden.
    pub(super) fn step(&self, steps: &[Step], records: Arc<R>) -> Result<(), Error> {
        let mut moment = self.moment.write().expect("the worker did not panic");
        let shown = moment
            .as_mut()
            .expect("the worker steps only from an index that it shows");
        if let Err(error) = shown.index.apply(steps) {
            *moment = None;
            self.status.0.send_modify(|status| status.position = None);
            return Err(error);
        }
        let position = records.position();
        let old = std::mem::replace(&mut shown.records, records);
        drop(moment);
        self.show(position);
        drop(old);
        Ok(())
    }

    fn show(&self, position: u64) {
        let status = Status {
            position: Some(position),
            progress: Progress::Ready,
        };
        self.status.0.send_replace(status);
    }

    /// Asks the index that is shown.
    pub(super) fn with_index<T>(&self, ask: impl FnOnce(&Index) -> T) -> T {
        let moment = self.moment.read().expect("the worker did not panic");
        ask(&moment
            .as_ref()
            .expect("the worker asks only while it shows an index")
            .index)
    }

    /// An image of what is shown; `None` if nothing is.
    pub(super) fn checkpoint(&self, cluster: ClusterId) -> Option<Checkpoint> {
        let moment = self.moment.read().expect("the worker did not panic");
        let Moment { index, records } = moment.as_ref()?;
        Some(Checkpoint::of(index, cluster, records.position()))
    }

    pub(super) fn view(&self) -> Result<View<'_, R>, NotReady> {
        // A panic of the worker leaves an index that nobody may see.
        let moment = self.moment.read().map_err(|_| NotReady::Stopped)?;
        if moment.is_none() {
            return Err(match self.status.1.borrow().progress {
                Progress::Starting | Progress::Ready => NotReady::Starting,
                Progress::Loading => NotReady::Loading,
                Progress::Rebuilding { done, of } => NotReady::Rebuilding { done, of },
                Progress::Stopped => NotReady::Stopped,
            });
        }
        Ok(View { moment })
    }
}

/// Index and records at one position.
pub struct View<'a, R> {
    /// Never `None`.
    moment: RwLockReadGuard<'a, Option<Moment<R>>>,
}

impl<R: Records> View<'_, R> {
    fn moment(&self) -> &Moment<R> {
        self.moment
            .as_ref()
            .expect("a view is made only of something")
    }

    pub fn index(&self) -> &Index {
        &self.moment().index
    }

    /// The records that the index was made from; they may be kept beyond the view.
    pub fn records(&self) -> &Arc<R> {
        &self.moment().records
    }

    pub fn position(&self) -> u64 {
        self.moment().records.position()
    }

    /// The time in the log at that position.
    pub fn clock(&self) -> TimeMs {
        self.moment().records.clock()
    }
}
