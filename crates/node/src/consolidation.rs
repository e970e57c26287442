//! Consolidation: passes over a namespace, in the background and when an operator asks.
//!
//! ```text
//! source ──▶ look ──▶ core: plan ──▶ Consolidate (≤ 64 steps) ──▶ index follows ──▶ pause ──▶ …
//! what was     neighbours, stored rows, each                                   a share of the time
//! learned      from a view of one moment
//! ```
//!
//! The leader runs one for each namespace now and then ([`run`]); an operator's runs on the node that
//! was asked. Two at once do no harm: a step names the versions of what it consumes, and `apply`
//! refuses what is not so any more. A pass that ends half-way leaves whole epochs, and the next one,
//! on whatever node, goes on where the state says.

mod look;
mod pass;
mod source;
mod uses;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use memorygate_core::{
    name::Namespace,
    state::{self, ReadError},
    time::TimeMs,
};
use memorygate_raft::StateSnapshot;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

pub(crate) use self::{pass::beginning, uses::count_uses};
pub use self::{
    pass::{Looks, Planned, Ran, Wanted, plan, run_pass},
    uses::Uses,
};
use crate::{backend::Backend, deadline::Deadline, error::Error};

/// How often it is looked whether a namespace is due.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Positions of the change journal that are kept for passes, at most: what is older is found by
/// reading all memories.
const JOURNAL_KEPT_MAX: u64 = 1_000_000;

/// How passes in the background are run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// `None` if there are none.
    pub interval: Option<Duration>,
    /// Of one thread's time, what a pass may take.
    pub share: f64,
}

/// Runs until it is dropped: passes where they are due while this node leads, and the change journal
/// held back for them wherever it may lead next.
pub(crate) async fn run(backend: Arc<Backend>) {
    let Some(every) = backend.consolidation.interval else {
        return;
    };
    let mut ticks = interval(LOOK_EVERY.min(every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        ticks.tick().await;
        let looked = look_around(&backend, every).await;
        match looked {
            Ok(()) => is_failing = false,
            // It is tried again at the next tick; what lasts is said once.
            Err(error) if !is_failing => {
                is_failing = true;
                warn!(%error, "consolidation did not get through");
            }
            Err(_) => {}
        }
    }
}

async fn look_around(backend: &Arc<Backend>, every: Duration) -> Result<(), Error> {
    let now = backend.clock.now();
    let snapshot = backend.raft.state().snapshot();
    let read = move || due(&snapshot, now, every);
    let Due {
        namespaces,
        through,
    } = backend.reads.run(Deadline::after(None), read).await??;
    backend.index.keep_journal_from(through);
    for namespace in namespaces {
        // Leadership may go at any time; whoever has it then goes on.
        if !backend.raft.is_leader() || backend.index.not_ready().is_some() {
            return Ok(());
        }
        let start = Instant::now();
        let wanted = Wanted {
            namespace: namespace.clone(),
            everything: false,
            share: backend.consolidation.share,
            only_while_leading: true,
        };
        let ran = run_pass(backend, &wanted, |_| true).await?;
        if ran.done > 0 {
            info!(
                %namespace,
                looked_at = ran.looked_at,
                done = ran.done,
                refused = ran.refused,
                seconds = start.elapsed().as_secs_f64(),
                "memories consolidated"
            );
        }
    }
    Ok(())
}

/// Which namespaces want a pass.
struct Due {
    namespaces: Vec<Namespace>,
    /// From where on passes need the change journal.
    through: u64,
}

fn due(snapshot: &StateSnapshot, now: TimeMs, every: Duration) -> Result<Due, ReadError> {
    let now = now.max(snapshot.clock());
    let position = snapshot.position();
    let mut through = position;
    let mut namespaces = Vec::new();
    for (namespace, _) in snapshot.namespaces()? {
        let progress = state::progress(snapshot, &namespace)?;
        through = through.min(progress.through);
        let is_paused = state::policy(snapshot, &namespace)?.paused;
        if !is_paused && now.since(progress.at) >= every.as_millis() as i64 {
            namespaces.push(namespace);
        }
    }
    Ok(Due {
        namespaces,
        through: through.max(position.saturating_sub(JOURNAL_KEPT_MAX)),
    })
}
