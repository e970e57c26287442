//! Where an answer or a write stands in a cluster's log.

use std::{fmt, str::FromStr};

use memorygate_proto::v1;

/// A point in the replicated log. Hand it to another agent, and it reads what was written up to
/// here, on any node. As text: `CLUSTER/GROUP/INDEX`, the cluster id as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Positions of different clusters cannot be compared.
    pub cluster_id: u128,
    /// The Raft group; 0 for now.
    pub group: u32,
    pub index: u64,
}

impl Position {
    /// Whether the two are points of one log.
    pub fn is_comparable(&self, other: &Self) -> bool {
        (self.cluster_id, self.group) == (other.cluster_id, other.group)
    }

    pub(crate) fn to_wire(self) -> v1::Position {
        v1::Position {
            cluster_id: format!("{:032x}", self.cluster_id),
            group: self.group,
            index: self.index,
        }
    }

    pub(crate) fn from_wire(wire: Option<v1::Position>) -> Result<Self, String> {
        let wire = wire.ok_or("position is missing")?;
        let cluster_id = parse_cluster_id(&wire.cluster_id)
            .ok_or_else(|| format!("cluster id {:?}", wire.cluster_id))?;
        Ok(Self {
            cluster_id,
            group: wire.group,
            index: wire.index,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}/{}/{}", self.cluster_id, self.group, self.index)
    }
}

/// A text that is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("position {actual:?} is not CLUSTER/GROUP/INDEX (32 hexadecimal digits, two numbers)")]
pub struct ParseError {
    pub actual: String,
}

impl FromStr for Position {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parse = || {
            let mut parts = text.split('/');
            let position = Self {
                cluster_id: parse_cluster_id(parts.next()?)?,
                group: parts.next()?.parse().ok()?,
                index: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(position)
        };
        parse().ok_or_else(|| ParseError {
            actual: text.chars().take(80).collect(),
        })
    }
}

pub(crate) fn parse_cluster_id(text: &str) -> Option<u128> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_from_its_text_and_from_the_wire() {
        let position = Position {
            cluster_id: 0xabc,
            group: 0,
            index: 42,
        };
        let text = position.to_string();
        assert_eq!(text, "00000000000000000000000000000abc/0/42");
        assert_eq!(text.parse(), Ok(position));
        assert_eq!(Position::from_wire(Some(position.to_wire())), Ok(position));
        for bad in [
            "",
            "abc/0/42",
            "00000000000000000000000000000abc/0",
            "00000000000000000000000000000abc/0/1/2",
            "+0000000000000000000000000000abc/0/1",
        ] {
            assert!(bad.parse::<Position>().is_err(), "{bad:?}");
        }
        assert!(Position::from_wire(None).is_err());
    }
}
