//! Request ids: what makes a repeated write the same write.
//!
//! An id holds a log position that its maker had seen and a random nonce. The answer to it is
//! remembered for [`REQUEST_WINDOW_POSITIONS`] positions after that one. Positions, not times,
//! bound the window, so a clock that jumps can neither forget an answer nor refuse a fresh id.

use std::{fmt, str::FromStr};

use minicbor::{Decode, Encode};

use crate::{key::hex, limits::REQUEST_WINDOW_POSITIONS};

/// `POSITION-NONCE` in text: a decimal position, a dash, 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RequestId {
    /// Index of any log entry that the id's maker had seen.
    #[n(0)]
    pub after: u64,
    /// Random, so that two makers never choose the same.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub nonce: [u8; 16],
}

/// Where an id stands against the window at a log position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Known,
    /// Too old to tell whether it was run: refused.
    Expired,
    /// It names a position that does not exist yet: it is not of this cluster.
    Future,
}

impl RequestId {
    /// How this id stands for the entry at `index`.
    pub fn age_at(&self, index: u64) -> Age {
        if self.after >= index {
            Age::Future
        } else if index - self.after > REQUEST_WINDOW_POSITIONS {
            Age::Expired
        } else {
            Age::Known
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}", self.after, u128::from_be_bytes(self.nonce))
    }
}

/// A text that is not a request id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("request id {actual:?} is not a log position, a dash and 32 hexadecimal digits")]
pub struct ParseError {
    pub actual: String,
}

impl FromStr for RequestId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parse = || {
            let (after, nonce) = text.split_once('-')?;
            if after.is_empty() || !after.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            Some(Self {
                after: after.parse().ok()?,
                nonce: hex(nonce)?,
            })
        };
        parse().ok_or_else(|| ParseError {
            actual: text.chars().take(80).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let id = RequestId {
            after: 42,
            nonce: [0xab; 16],
        };
        assert_eq!(id.to_string(), format!("42-{}", "ab".repeat(16)));
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "-",
            "1-",
            "1-ab",
            "+1-abababababababababababababababab",
            "x",
        ] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_window_is_counted_in_positions() {
        let id = RequestId {
            after: 10,
            nonce: [0; 16],
        };
        assert_eq!(id.age_at(10), Age::Future);
        assert_eq!(id.age_at(11), Age::Known);
        assert_eq!(id.age_at(10 + REQUEST_WINDOW_POSITIONS), Age::Known);
        assert_eq!(id.age_at(11 + REQUEST_WINDOW_POSITIONS), Age::Expired);
    }
}
