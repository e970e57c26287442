//! What others hold of the worker: to publish to it, to read what it shows, to wait for it.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

use super::{
    Effects,
    shown::{NotReady, Shown, Status, View},
};
use crate::records::Records;

/// What the queue carries.
pub(super) enum Message<R> {
    Effects(Effects<R>),
    Checkpoint(Reply),
    /// Look around: something was left beside the queue.
    Wake,
}

pub(super) type Reply = oneshot::Sender<Result<u64, CheckpointError>>;

/// A way to the index. Clones lead to the same one.
pub struct Handle<R> {
    queue: SyncSender<Message<R>>,
    shown: Arc<Shown<R>>,
}

impl<R> Clone for Handle<R> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            shown: Arc::clone(&self.shown),
        }
    }
}

/// The index did not get there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    #[error("index stands at {actual}, expected at least {expected} before the deadline")]
    Deadline { expected: u64, actual: u64 },
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The worker runs no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("index has stopped")]
pub struct Stopped;

/// No checkpoint was written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("write index checkpoint: {0}")]
    Write(#[source] io::Error),
    #[error("index is not ready, so there is nothing to write")]
    NotReady,
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl<R: Records> Handle<R> {
    pub(super) fn new(queue: SyncSender<Message<R>>, shown: Arc<Shown<R>>) -> Self {
        Self { queue, shown }
    }

    /// Hands over what a batch changed; never waits. Batches come in the order of the log.
    pub fn publish(&self, effects: Effects<R>) {
        match self.queue.try_send(Message::Effects(effects)) {
            Err(TrySendError::Full(Message::Effects(effects))) => self.replaced(effects.records),
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Says that the whole state was replaced by that of `records`; never waits.
    pub fn replaced(&self, records: Arc<R>) {
        self.shown.put_overflow(records);
        self.wake();
    }

    /// What is indexed, with the records that it was made from. While the view is held the index
    /// does not change, so it is to be dropped before anything that takes long.
    pub fn view(&self) -> Result<View<'_, R>, NotReady> {
        self.shown.view()
    }

    /// Where the index stands: of all log entries up to this, readers see what became of them. 0
    /// until it has caught up once.
    pub fn position(&self) -> u64 {
        self.shown.position()
    }

    pub fn status(&self) -> Status {
        self.shown.status().borrow().clone()
    }

    /// Follows [`Handle::status`].
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.shown.status().clone()
    }

    /// The position of the last checkpoint on disk, after which the change journal is needed; 0
    /// before the first that was written or loaded.
    pub fn watch_checkpoint(&self) -> watch::Receiver<u64> {
        self.shown.watch_checkpoint()
    }

    /// Waits until the index stands at `position` or beyond.
    pub async fn wait_for(&self, position: u64, deadline: Instant) -> Result<(), WaitError> {
        let mut status = self.shown.status().clone();
        let reached = status.wait_for(|s| s.is_stopped() || s.is_ready_at(position));
        match timeout_at(deadline, reached).await {
            Ok(Ok(status)) if !status.is_stopped() => Ok(()),
            Ok(_) => Err(Stopped.into()),
            Err(_) => Err(WaitError::Deadline {
                expected: position,
                actual: self.shown.position(),
            }),
        }
    }

    /// Writes a checkpoint of what is shown now, and returns its position.
    ///
    /// Waits for room in the queue, so it is to be called where blocking is allowed; the returned
    /// receiver is not.
    pub fn checkpoint(&self) -> Checkpointed {
        let (reply, receiver) = oneshot::channel();
        // If the worker is gone so is the reply, and the receiver says so.
        let _ = self.queue.send(Message::Checkpoint(reply));
        Checkpointed(receiver)
    }

    /// Asks the worker to write a last checkpoint and to end.
    pub fn stop(&self) {
        self.shown.stop();
        self.wake();
    }

    #[cfg(test)]
    pub(super) fn shown(&self) -> &Shown<R> {
        &self.shown
    }

    fn wake(&self) {
        // A full queue needs no wake-up: after each message the worker looks around. An abandoned
        // one has nobody to wake.
        let _ = self.queue.try_send(Message::Wake);
    }
}

/// A checkpoint that was asked for.
pub struct Checkpointed(oneshot::Receiver<Result<u64, CheckpointError>>);

impl Checkpointed {
    /// The position of the checkpoint, once it is on disk.
    pub async fn written(self) -> Result<u64, CheckpointError> {
        self.0
            .await
            .unwrap_or(Err(CheckpointError::Stopped(Stopped)))
    }

    /// The same for threads.
    pub fn wait(self) -> Result<u64, CheckpointError> {
        self.0
            .blocking_recv()
            .unwrap_or(Err(CheckpointError::Stopped(Stopped)))
    }
}
