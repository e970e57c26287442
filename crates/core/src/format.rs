//! Formats of the commands in the log: those that a program reads, and the one that a cluster writes.
//!
//! What is in a log stays there in the format that it was written in, so a program reads all formats
//! since the oldest. A cluster writes the newest that all its members read, and never an older one
//! again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The format that every cluster begins with.
pub const FIRST: u8 = 1;

/// Not written by any released version: the same commands laid out differently, so that the way from
/// one format to the next can be gone before there is a next. A build with the feature `next-format`
/// reads it.
pub const NEXT: u8 = 2;

/// The formats that a program reads, both ends included. It can write each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formats {
    pub oldest: u8,
    pub newest: u8,
}

impl Formats {
    /// Those of this program.
    pub const OWN: Self = Self {
        oldest: FIRST,
        newest: if cfg!(feature = "next-format") {
            NEXT
        } else {
            FIRST
        },
    };

    pub fn reads(self, format: u8) -> bool {
        (self.oldest..=self.newest).contains(&format)
    }

    /// The newest format that all read; `None` if there is none, or nobody.
    pub fn common(all: impl IntoIterator<Item = Self>) -> Option<u8> {
        let both = |a: Self, b: Self| Self {
            oldest: a.oldest.max(b.oldest),
            newest: a.newest.min(b.newest),
        };
        let shared = all.into_iter().reduce(both)?;
        (shared.oldest <= shared.newest).then_some(shared.newest)
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.oldest, self.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_all_read_is_common() {
        let check = |all: &[(u8, u8)], expected| {
            let all = all
                .iter()
                .map(|&(oldest, newest)| Formats { oldest, newest });
            assert_eq!(Formats::common(all), expected);
        };
        check(&[], None);
        check(&[(1, 1)], Some(1));
        check(&[(1, 2), (1, 2), (1, 3)], Some(2));
        check(&[(1, 2), (1, 1), (1, 3)], Some(1));
        check(&[(1, 2), (3, 4)], None);
        let own = Formats::OWN;
        assert!(own.reads(own.newest) && own.reads(FIRST) && !own.reads(own.newest + 1));
    }
}
