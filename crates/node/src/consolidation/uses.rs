//! Counts which memories recalls returned, and proposes the counts together now and then, so that a
//! recall costs no write.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use memorygate_core::{
    command::{Command, CountUses, count_uses::Use},
    key::Key,
    limits,
    name::Namespace,
    time::TimeMs,
};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::{backend::Backend, deadline::Deadline, error::Error};

/// Memories whose uses are counted at once; of others the uses are lost, which costs them a little
/// worth and nothing else.
const COUNTED_MAX: usize = 65_536;

/// Uses that are not written down yet.
#[derive(Debug, Default)]
pub struct Uses {
    counts: Mutex<BTreeMap<(Namespace, Key), Count>>,
    are_written_down: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    count: u32,
    last_at: TimeMs,
}

impl Uses {
    /// Counts nothing if nobody ever writes it down.
    pub fn new(are_written_down: bool) -> Self {
        Self {
            counts: Mutex::default(),
            are_written_down,
        }
    }

    /// Counts a recall that returned `keys`.
    pub fn count(&self, namespace: &Namespace, keys: impl Iterator<Item = Key>, at: TimeMs) {
        if !self.are_written_down {
            return;
        }
        let mut uses = self.lock();
        for key in keys {
            let is_full = uses.len() >= COUNTED_MAX;
            let of = (namespace.clone(), key);
            if is_full && !uses.contains_key(&of) {
                continue;
            }
            let count = uses.entry(of).or_default();
            count.count = count.count.saturating_add(1);
            count.last_at = count.last_at.max(at);
        }
    }

    /// Takes some of them, to be proposed together.
    fn take(&self) -> Vec<Use> {
        let mut uses = self.lock();
        let mut taken = Vec::new();
        while taken.len() < limits::USES_MAX
            && let Some(((namespace, key), Count { count, last_at })) = uses.pop_first()
        {
            taken.push(Use {
                namespace,
                key,
                count,
                last_at,
            });
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Namespace, Key), Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes uses down every so often; runs until it is dropped. What cannot be written is let go: a use
/// is not worth an error, nor the risk of being counted twice.
pub(crate) async fn count_uses(backend: Arc<Backend>, every: Option<Duration>) {
    let Some(every) = every else {
        return;
    };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        loop {
            let uses = backend.uses.take();
            if uses.is_empty() {
                break;
            }
            if let Err(error) = propose(&backend, uses).await {
                debug!(%error, "uses were not counted");
                break;
            }
        }
    }
}

async fn propose(backend: &Backend, uses: Vec<Use>) -> Result<(), Error> {
    let _write = backend.drain.admit()?;
    let command = Command::CountUses(CountUses { uses });
    backend
        .propose(command, None, Deadline::after(None))
        .await?;
    Ok(())
}
