//! Remembers, outside the database, what the log has acknowledged.
//!
//! When a write-ahead log ends in damage, nothing in it tells a torn write, which nobody counted on,
//! from an acknowledged one whose bytes went bad. So after each sync, and before anyone is told of
//! it, the log's end and its vote are noted in a file of one small record. Noting is not synced and
//! costs a system call: after a power cut the record may be old, and then promises less, never too
//! much. Before the log is cut its end is taken back, synced, so that this holds then too.
//! (The problem is that of Alagappan et al., Protocol-Aware Recovery for Consensus-Based Storage,
//! FAST 2018.)
//!
//! ```text
//! version u8 = 1 │ has entry u8 │ term, node, index u64 │ has vote u8 │ term, node u64 │ committed u8 │ crc32c u32
//! ```

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use tracing::warn;

use crate::types::{LeaderId, LogId, Vote};

/// Name of the file, in the group's directory.
pub(crate) const FILE: &str = "seal";

const VERSION: u8 = 1;
const RECORD_BYTES: usize = 1 + 1 + 3 * 8 + 1 + 2 * 8 + 1 + 4;

/// Stands where there is no leader to name.
const NOBODY: LeaderId = LeaderId {
    term: 0,
    node_id: 0,
};

/// What was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(crate) struct Sealed {
    pub(crate) last: Option<LogId>,
    pub(crate) vote: Option<Vote>,
}

pub(crate) struct Seal {
    file: File,
}

impl Seal {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self { file })
    }

    /// What is known to have been acknowledged, at least.
    pub(crate) fn read(&self) -> Sealed {
        let mut bytes = [0; RECORD_BYTES];
        match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes).unwrap_or_else(|| {
                warn!("seal of the log is not readable, damage at its end would not be noticed");
                Sealed::default()
            }),
            Err(_) => Sealed::default(),
        }
    }

    pub(crate) fn note(&self, sealed: &Sealed) -> io::Result<()> {
        self.file.write_all_at(&encode(sealed), 0)
    }

    /// The same, and it survives a power cut.
    pub(crate) fn note_durably(&self, sealed: &Sealed) -> io::Result<()> {
        self.note(sealed)?;
        self.file.sync_data()
    }
}

fn encode(sealed: &Sealed) -> [u8; RECORD_BYTES] {
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    bytes.push(VERSION);
    bytes.push(u8::from(sealed.last.is_some()));
    let (leader, index) = sealed
        .last
        .map_or((NOBODY, 0), |last| (last.leader_id, last.index));
    for number in [leader.term, leader.node_id, index] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.push(u8::from(sealed.vote.is_some()));
    let (leader, committed) = sealed
        .vote
        .map_or((NOBODY, false), |vote| (vote.leader_id, vote.committed));
    for number in [leader.term, leader.node_id] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.push(u8::from(committed));
    bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
    bytes.try_into().expect("the record has a fixed size")
}

fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Sealed> {
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    if body[0] != VERSION || crc32c::crc32c(body).to_be_bytes() != *checksum {
        return None;
    }
    let number = |at: usize| Some(u64::from_be_bytes(*body[at..].first_chunk()?));
    let last = LogId {
        leader_id: LeaderId {
            term: number(2)?,
            node_id: number(10)?,
        },
        index: number(18)?,
    };
    let vote = Vote {
        leader_id: LeaderId {
            term: number(27)?,
            node_id: number(35)?,
        },
        committed: body[43] == 1,
    };
    Some(Sealed {
        last: (body[1] == 1).then_some(last),
        vote: (body[26] == 1).then_some(vote),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::hex;

    fn sealed() -> Sealed {
        Sealed {
            last: Some(LogId {
                leader_id: LeaderId {
                    term: 1,
                    node_id: 2,
                },
                index: 3,
            }),
            vote: Some(Vote::new_committed(4, 5)),
        }
    }

    #[test]
    fn the_bytes_never_change() {
        let number = |n: u64| format!("{n:016x}");
        let [one, two, three, four, five] = [1, 2, 3, 4, 5].map(number);
        assert_eq!(
            hex(&encode(&sealed())),
            format!("0101{one}{two}{three}01{four}{five}01") + "4a7c2f4d"
        );
        assert_eq!(decode(&encode(&sealed())), Some(sealed()));
        let nothing = Sealed::default();
        assert_eq!(decode(&encode(&nothing)), Some(nothing));
    }

    #[test]
    fn what_was_noted_is_read_back_and_damage_promises_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal");
        let seal = Seal::open(&path).unwrap();
        assert_eq!(seal.read(), Sealed::default());
        seal.note(&Sealed::default()).unwrap();
        seal.note_durably(&sealed()).unwrap();
        assert_eq!(Seal::open(&path).unwrap().read(), sealed());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Seal::open(&path).unwrap().read(), Sealed::default());
    }
}
