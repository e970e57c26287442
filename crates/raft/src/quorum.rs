//! Whether this node leads by more than its own account.
//!
//! The consensus engine lets a leader keep its title until it hears of another. One that has heard
//! nothing from a majority for a lease takes no proposals, and here it is not called a leader any
//! more. It also falls silent for a while, so that followers that hear it and are not heard by it
//! elect another.
//!
//! ```text
//! last answer of a majority
//!   ├─ lease ─┤ silence ─┤ it asks again ─┤ silence ─┤ …
//!   leads     │ does not lead: no proposals, no reads
//! ```

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use openraft::{
    Instant as _, RaftMetrics, ServerState, alias::WatchReceiverOf,
    async_runtime::watch::WatchReceiver as _,
};

use crate::{settings::Settings, types::TypeConfig};

type MetricsReceiver = WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>;

/// Clones share what they look at.
#[derive(Clone)]
pub(crate) struct Quorum {
    lease: Duration,
    silence: Duration,
    metrics: Arc<OnceLock<MetricsReceiver>>,
}

impl Quorum {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            lease: Duration::from_millis(settings.lease_ms()),
            silence: Duration::from_millis(settings.silence_ms()),
            metrics: Arc::default(),
        }
    }

    /// Looks at these from now on. Before, nobody leads.
    pub(crate) fn watch(&self, metrics: MetricsReceiver) {
        let is_first = self.metrics.set(metrics).is_ok();
        assert!(is_first, "a replica is started once");
    }

    /// Whether this node leads, and a majority has said so within the lease.
    pub(crate) fn leads(&self) -> bool {
        let metrics = self.metrics.get();
        metrics.is_some_and(|metrics| self.leads_by(&metrics.borrow_watched()))
    }

    /// The same by what was read already.
    pub(crate) fn leads_by(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        metrics.state == ServerState::Leader
            && unheard(metrics).is_some_and(|unheard| unheard < self.lease)
    }

    /// Whether this node counts on the answers of `node_id`.
    pub(crate) fn needs(&self, node_id: u64) -> bool {
        let metrics = self.metrics.get();
        metrics.is_none_or(|metrics| {
            let metrics = metrics.borrow_watched();
            let mut voters = metrics.membership_config.membership().voter_ids();
            voters.any(|voter| voter == node_id)
        })
    }

    /// Whether followers that still hear this leader should not, so that they elect another.
    pub(crate) fn is_silent(&self) -> bool {
        let Some(metrics) = self.metrics.get() else {
            return false;
        };
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return false;
        }
        let beyond = unheard(&metrics).and_then(|unheard| unheard.checked_sub(self.lease));
        beyond.is_some_and(|beyond| (beyond.as_nanos() / self.silence.as_nanos()).is_multiple_of(2))
    }
}

/// How long ago what a majority answered was sent; `None` if none has answered since the election.
fn unheard(metrics: &RaftMetrics<TypeConfig>) -> Option<Duration> {
    let mut voters = metrics.membership_config.membership().voter_ids();
    if voters.next() == Some(metrics.id) && voters.next().is_none() {
        return Some(Duration::ZERO);
    }
    let answered = metrics.last_quorum_acked.as_ref()?;
    Some(answered.elapsed())
}
