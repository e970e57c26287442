//! What a snapshot file is called in a store: whose it is and which is newer, without reading it.

use std::{fmt, str::FromStr};

use memorygate_raft::{ClusterId, backup::Manifest};

use super::Error;

const PREFIX: &str = "memorygate-";
const SUFFIX: &str = ".snapshot";

/// `memorygate-CLUSTER-POSITION-MILLISECONDS.snapshot`, the numbers padded: names of one cluster are in
/// the order of their positions. A name is never a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    pub cluster_id: ClusterId,
    pub position: u64,
    /// Since 1970, when the file was begun.
    pub created_at_ms: i64,
}

impl FileName {
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            cluster_id: manifest.cluster_id,
            position: manifest.position,
            created_at_ms: manifest.created_at_ms.max(0),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster_id,
            position,
            created_at_ms,
        } = self;
        write!(
            f,
            "{PREFIX}{cluster_id}-{position:020}-{created_at_ms:015}{SUFFIX}"
        )
    }
}

impl FromStr for FileName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let middle = text.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
            let mut fields = middle.split('-');
            let name = Self {
                cluster_id: fields.next()?.parse().ok()?,
                position: fields.next()?.parse().ok()?,
                created_at_ms: fields.next()?.parse().ok()?,
            };
            // One name, one text.
            (fields.next().is_none() && name.to_string() == text).then_some(name)
        };
        read().ok_or_else(|| Error::Name(text.chars().take(200).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_nothing_else_is_a_name() {
        let name = FileName {
            cluster_id: ClusterId(0xcd),
            position: 42,
            created_at_ms: 1_748_736_000_000,
        };
        let text = name.to_string();
        assert_eq!(
            text,
            "memorygate-000000000000000000000000000000cd-00000000000000000042-001748736000000.snapshot"
        );
        assert_eq!(text.parse::<FileName>().unwrap(), name);
        let bad = [
            "",
            "../etc/passwd",
            "a.snapshot",
            &text.replace("cd", "CD"),
            &text.replace("-0000000000000000004", "-4"),
            &format!("{text}.unfinished"),
            &format!("x/{text}"),
        ];
        for bad in bad {
            let error = bad.parse::<FileName>().unwrap_err().to_string();
            assert!(
                error.contains("is not the name of a snapshot file"),
                "{error}"
            );
        }
    }
}
