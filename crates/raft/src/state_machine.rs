//! The state as openraft drives it. It decides nothing: entries go to [`State::apply`], snapshots
//! to [`Snapshots`], and both on threads that may block.

use std::{io, sync::Arc};

use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::oneshot;

use crate::{
    fatal::{Alarm, FatalKind},
    snapshots::{SnapshotFiles, Snapshots},
    state::State,
    types::{Answer, Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};

/// Entries applied in one batch, at most: bounds how long readers wait for the next position.
const BATCH_ENTRIES_MAX: usize = 512;

/// Payload bytes of these, at most (one entry always goes).
const BATCH_BYTES_MAX: u64 = 8 * 1024 * 1024;

pub(crate) struct StateMachine {
    state: State,
    snapshots: Arc<Snapshots>,
    alarm: Alarm,
    /// Dropped with the machine, which tells whoever waits for it.
    _closed: oneshot::Sender<()>,
}

impl StateMachine {
    /// The receiver resolves when openraft has let go of the machine.
    pub(crate) fn new(
        state: State,
        snapshots: Arc<Snapshots>,
        alarm: Alarm,
    ) -> (Self, oneshot::Receiver<()>) {
        let (closed_tx, closed) = oneshot::channel();
        let machine = Self {
            state,
            snapshots,
            alarm,
            _closed: closed_tx,
        };
        (machine, closed)
    }

    async fn apply_batch(&self, batch: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let (entries, responders): (Vec<Entry>, Vec<_>) = batch.into_iter().unzip();
        let state = self.state.clone();
        let applied = tokio::task::spawn_blocking(move || state.apply(&entries)).await;
        let answers: Vec<Answer> = applied.map_err(|error| {
            // A bug: what was half done was not written, and the node cannot go on.
            let reason = format!("apply: {error}");
            self.alarm.raise(FatalKind::StateWrite, reason.clone());
            io::Error::other(reason)
        })??;
        for (responder, answer) in responders.into_iter().zip(answers) {
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Arc<SnapshotFiles>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.state.last_applied())
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            bytes += crate::kv::entry::estimated_bytes(&entry);
            batch.push((entry, responder));
            if batch.len() == BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_MAX {
                self.apply_batch(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        self.apply_batch(batch).await
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            state: self.state.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Arc<SnapshotFiles>,
    ) -> io::Result<()> {
        let (state, snapshots) = (self.state.clone(), self.snapshots.clone());
        let last = meta.last_log_id;
        let installed = tokio::task::spawn_blocking(move || {
            let manifest = snapshot.manifest();
            if last != manifest.log_id {
                return Err(io::Error::other(format!(
                    "snapshot ends at {:?}, expected {last:?}",
                    manifest.log_id
                )));
            }
            snapshots.verify(&snapshot).map_err(io::Error::other)?;
            let kept = snapshots.adopt(snapshot)?;
            let manifest = kept.manifest();
            state.install(kept.path(), &manifest.names(), manifest.log_id)
        });
        installed.await.map_err(io::Error::other)?
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshots.latest().map(describe))
    }
}

/// Builds a snapshot, or hands over one that was just built.
pub(crate) struct Builder {
    state: State,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Arc<SnapshotFiles>;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        if let Some(prepared) = self.snapshots.take_prepared() {
            return Ok(describe(prepared));
        }
        let (state, snapshots) = (self.state.clone(), self.snapshots.clone());
        let built = tokio::task::spawn_blocking(move || snapshots.build(&state));
        built.await.map_err(io::Error::other)?.map(describe)
    }
}

pub(crate) fn describe(files: Arc<SnapshotFiles>) -> Snapshot {
    let manifest = files.manifest();
    Snapshot {
        meta: SnapshotMeta {
            last_log_id: manifest.log_id,
            last_membership: manifest.membership.clone(),
        },
        snapshot: files,
    }
}
