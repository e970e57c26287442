//! What a committed batch tells the index.

use std::sync::Arc;

use memorygate_core::{state::Change, time::TimeMs};

use crate::state::StateSnapshot;

/// All that one applied batch changed, with the state right after it, so that index and records can
/// be shown at one moment.
#[derive(Clone)]
pub struct Effects {
    /// Index of the batch's last log entry.
    pub position: u64,
    /// In the order of the log; a memory may occur several times, and there may be none.
    pub changes: Vec<Change>,
    /// The time in the log.
    pub clock: TimeMs,
    pub snapshot: Arc<StateSnapshot>,
}

/// Receives the effects of every applied batch, in order, on the thread that applies.
///
/// While a method runs nothing is applied, so an implementation hands over to a bounded queue and
/// returns. It may drop effects when that queue is full, if it then catches up with
/// [`StateSnapshot::journal`].
pub trait EffectsSink: Send + Sync + 'static {
    fn publish(&self, effects: Effects);

    /// The whole state was replaced by an installed snapshot: catch up by its journal, or rebuild.
    fn replaced(&self, snapshot: Arc<StateSnapshot>);
}
