//! Times and durations in Unix milliseconds. The core never reads a clock: times come from callers,
//! and "now" is the time in the log.

use minicbor::{Decode, Encode};

use crate::limits::{TIME_MS_MAX, TIME_MS_MIN};

/// Milliseconds since 1970-01-01T00:00:00Z, within [`TIME_MS_MIN`]..=[`TIME_MS_MAX`] when it came
/// through [`TimeMs::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct TimeMs(#[n(0)] pub i64);

pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A time outside the years that MemoryGate keeps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("time {actual} ms lies outside 1970-01-01 to 9999-12-31 (0 to {TIME_MS_MAX} ms)")]
pub struct Error {
    pub actual: i64,
}

impl TimeMs {
    pub fn new(ms: i64) -> Result<Self, Error> {
        if (TIME_MS_MIN..=TIME_MS_MAX).contains(&ms) {
            Ok(Self(ms))
        } else {
            Err(Error { actual: ms })
        }
    }

    /// Milliseconds from `earlier` to this time; 0 if `earlier` is the later one.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).max(0)
    }
}
