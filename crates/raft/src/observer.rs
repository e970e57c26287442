//! What the storage threads tell whoever measures them. This crate knows no metrics library.

use std::time::Duration;

/// Called on the threads that do the work, so an implementation must only count.
pub trait Observer: Send + Sync + 'static {
    /// One group of log writes was made durable by one sync.
    fn log_synced(&self, _entries: usize, _bytes: usize, _took: Duration) {}

    /// Committed entries were applied in one batch; `took` covers `core::apply` and the write.
    fn applied(&self, _entries: usize, _took: Duration) {}

    /// A snapshot was built.
    fn snapshot_built(&self, _bytes: u64, _took: Duration) {}
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
