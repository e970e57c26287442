//! The one-way signal that this node must stop serving.
//!
//! Whoever meets a storage error that may not be retried raises it here; the first one stays. The
//! node watches it and shuts down; nothing is acknowledged after it.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

/// What made it impossible to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatalKind {
    /// The log could not be written or synced. What was not acknowledged may or may not be there.
    LogWrite,
    /// The state could not be written.
    StateWrite,
    /// Bytes on disk are not what was written.
    Corrupt,
    /// The state is not what most members hold.
    Diverged,
    /// A log entry or a row was written by a newer version of this program.
    Undecodable,
    /// The consensus engine stopped.
    Consensus,
}

impl FatalKind {
    /// What a person should do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::LogWrite | Self::StateWrite => {
                "check the disk (space, errors in the kernel log), then start the node again"
            }
            Self::Corrupt => {
                "check the disk, then restore this node's data directory from a snapshot, or empty \
                 it and let the node rejoin as a new member"
            }
            Self::Diverged => {
                "check the disk; keep a copy of this node's data directory if the others may be \
                 wrong, then empty it and let the node rejoin as a new member"
            }
            Self::Undecodable => {
                "start a version of the program that is at least as new as the data"
            }
            Self::Consensus => "see the log above, then start the node again",
        }
    }
}

/// Why the node must stop serving.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fatal {
    pub kind: FatalKind,
    pub message: String,
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.kind.advice())
    }
}

/// Raises and watches the signal; clones share it.
#[derive(Clone)]
pub(crate) struct Alarm(Arc<watch::Sender<Option<Arc<Fatal>>>>);

impl Alarm {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// The first reason raised stays; it is returned.
    pub(crate) fn raise(&self, kind: FatalKind, message: impl Into<String>) -> Arc<Fatal> {
        let fatal = Arc::new(Fatal {
            kind,
            message: message.into(),
        });
        let mut first = fatal.clone();
        self.0.send_if_modified(|raised| match raised {
            Some(earlier) => {
                first = earlier.clone();
                false
            }
            None => {
                *raised = Some(fatal.clone());
                true
            }
        });
        first
    }

    pub(crate) fn raised(&self) -> Option<Arc<Fatal>> {
        self.0.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Fatal>>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_says_what_to_do() {
        let alarm = Alarm::new();
        let watch = alarm.watch();
        assert_eq!(alarm.raised(), None);
        alarm.raise(FatalKind::LogWrite, "sync failed");
        let second = alarm.raise(FatalKind::Corrupt, "later");
        assert_eq!(second.message, "sync failed");
        let seen = watch.borrow().clone().unwrap();
        assert_eq!(
            seen.to_string(),
            "sync failed: check the disk (space, errors in the kernel log), then start the node again"
        );
        let kinds = [
            FatalKind::StateWrite,
            FatalKind::Corrupt,
            FatalKind::Diverged,
            FatalKind::Undecodable,
            FatalKind::Consensus,
        ];
        assert!(kinds.iter().all(|kind| !kind.advice().is_empty()));
    }
}
