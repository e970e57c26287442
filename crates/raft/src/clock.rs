//! Where the leader's time comes from. The process decides; this crate reads no clock for stamps.

use memorygate_core::time::TimeMs;

/// Stamps commands at the proposal. Any `Fn() -> TimeMs` is one.
///
/// It may jump either way: the time in the log never goes back, whatever this returns.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> TimeMs;
}

impl<F: Fn() -> TimeMs + Send + Sync + 'static> Clock for F {
    fn now(&self) -> TimeMs {
        self()
    }
}
