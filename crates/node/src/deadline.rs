//! Until when a caller waits.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use crate::error::{Error, Outcome};

/// An answer must be on its way before the caller gives up, so a call ends this much earlier …
const MARGIN_MAX: Duration = Duration::from_millis(20);

/// … or this share of what it has, if that is less.
const MARGIN_SHARE: u32 = 10;

/// How long a call waits for something at most when the caller sets no deadline.
const DEFAULT: Duration = Duration::from_secs(30);

/// The moment at which a call must have ended.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of a call that has `timeout` left, or no limit of its own.
    pub fn after(timeout: Option<Duration>) -> Self {
        let wait = match timeout {
            None => DEFAULT,
            Some(timeout) => timeout.saturating_sub(MARGIN_MAX.min(timeout / MARGIN_SHARE)),
        };
        // A timeout of centuries is as good as one of a year.
        let wait = wait.min(Duration::from_secs(366 * 24 * 3600));
        Self(Instant::now() + wait)
    }

    /// How long is left.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The result of `future`, or [`Error::Deadline`] with what was being waited for.
    pub async fn limit<T>(
        self,
        waiting: &'static str,
        outcome: Outcome,
        future: impl Future<Output = T>,
    ) -> Result<T, Error> {
        tokio::time::timeout_at(self.0, future)
            .await
            .map_err(|_| Error::Deadline { waiting, outcome })
    }
}
