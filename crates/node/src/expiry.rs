//! Expiry: the leader proposes to remove what is due, and what is kept of changes too long ago. Its stamp also moves the time in the log, by
//! which everything else judges what has expired.

use std::{sync::Arc, time::Duration};

use memorygate_core::{
    apply::Outcome as Done,
    command::{Command, Expire, expire::EXPIRE_MAX},
    limits::HISTORY_KEPT_MS,
    state::{self, ReadError},
};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use crate::{backend::Backend, deadline::Deadline, error::Error};

/// How often the earliest expiry is looked at, and so how late a memory may go.
const EVERY: Duration = Duration::from_millis(500);

/// Runs until it is dropped.
pub(crate) async fn run(backend: Arc<Backend>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        ticks.tick().await;
        if !backend.raft.is_leader() {
            continue;
        }
        match expire(&backend).await {
            Ok(removed) => {
                if is_failing {
                    info!("expiry works again");
                }
                is_failing = false;
                if removed > 0 {
                    debug!(removed, "memories expired");
                }
            }
            // It is tried again at the next tick; a disk that stays full is said once.
            Err(error) if !is_failing => {
                is_failing = true;
                warn!(%error, "memories that are due could not be removed");
            }
            Err(_) => {}
        }
    }
}

/// Removes all memories that are due now; returns how many they were. Of old changes some go with each
/// look.
async fn expire(backend: &Backend) -> Result<u64, Error> {
    let mut all = 0;
    loop {
        let now = backend.clock.now();
        let snapshot = backend.raft.state().snapshot();
        let look = move || -> Result<_, ReadError> {
            Ok((snapshot.next_expiry()?, state::oldest_change(&*snapshot)?))
        };
        let (next, oldest) = backend.reads.run(Deadline::after(None), look).await??;
        let is_due = next.is_some_and(|at| at <= now);
        let is_old = oldest.is_some_and(|at| now.since(at) > HISTORY_KEPT_MS);
        if !is_due && !is_old {
            return Ok(all);
        }
        let command = Command::Expire(Expire {});
        let (done, _) = backend
            .propose(command, None, Deadline::after(None))
            .await?;
        let removed = match done {
            Done::Expired { removed } => removed,
            Done::Learned(_)
            | Done::Mutated { .. }
            | Done::Marked
            | Done::Format { .. }
            | Done::Consolidated { .. }
            | Done::Undone { .. }
            | Done::UsesCounted { .. }
            | Done::PolicySet
            | Done::TrustSet => 0,
        };
        all += u64::from(removed);
        if (removed as usize) < EXPIRE_MAX {
            return Ok(all);
        }
    }
}
