//! How replicas are compared: a marker in the log names a position, and each reads its whole state
//! as of exactly there.

use std::sync::Arc;

use memorygate_core::command::{Command, Mark};
use tracing::error;

use super::{Handle, ProposeError};
use crate::{
    dir,
    fatal::FatalKind,
    state::{DigestError, StateDigests},
};

impl Handle {
    /// Writes a marker to the log, on the leader, and says where it stands.
    pub async fn mark(&self) -> Result<u64, ProposeError> {
        let applied = self.propose(Command::Mark(Mark {}), None).await?;
        Ok(applied.index)
    }

    /// Waits until this replica has applied the marker at `position`, and reads all rows of the
    /// state as of there. One reading at a time, each once. It has no deadline of its own.
    pub async fn digests_at(&self, position: u64) -> Result<Arc<StateDigests>, DigestError> {
        self.wait_applied(position).await?;
        let one_at_a_time = self.shared.reading.clone().lock_owned().await;
        // A reading must not keep the files of a node that has stopped.
        let handle = Arc::downgrade(&self.shared);
        let state = self.shared.state.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = state.digests_at(position, || match handle.upgrade() {
                Some(shared) => Handle { shared }.check_running(),
                None => Err(super::Stopped {
                    reason: "it was shut down".to_owned(),
                }),
            });
            drop(one_at_a_time);
            read
        });
        read.await.unwrap_or_else(|error| {
            Err(DigestError::Read {
                position,
                reason: error.to_string(),
            })
        })
    }

    /// Takes this replica out of service for good, because it was found to hold something else than
    /// most: it stops, and is refused when it is started again. Blocks.
    pub fn condemn(&self, reason: &str) {
        if let Err(error) = dir::condemn(&self.shared.path, reason) {
            // It stops all the same; a disk that takes no note fails the next start by itself.
            error!(%error, "data directory cannot be marked as out of service");
        }
        self.shared.alarm.raise(FatalKind::Diverged, reason);
    }
}
