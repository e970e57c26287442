//! Moments of the past at which a read may look.

use crate::{memory::Created, time::TimeMs};

/// A moment between two entries of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Right after the entry at this position.
    Position(u64),
    /// After the last entry whose log time is not later.
    Time(TimeMs),
}

impl Moment {
    /// Whether what was created so was there by then.
    pub fn is_after(self, created: &Created) -> bool {
        match self {
            Self::Position(position) => created.index <= position,
            Self::Time(time) => created.at <= time,
        }
    }
}
