//! What a snapshot says of itself: one file beside its parts.
//!
//! The first line is the SHA-256 of the rest, which is JSON: a flipped bit in either is found.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    dir::ClusterId,
    durable,
    types::{LogId, StoredMembership},
};

/// Name of the file.
pub(crate) const FILE: &str = "manifest";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Layout of the state's rows.
    pub(crate) format: u32,
    pub(crate) group: u64,
    pub(crate) cluster_id: ClusterId,
    /// The last entry that the state holds; none if it is empty.
    pub(crate) log_id: Option<LogId>,
    pub(crate) membership: StoredMembership,
    /// Of the replicated rows.
    pub(crate) digest: String,
    /// In order of their names.
    pub(crate) parts: Vec<Part>,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub name: String,
    pub bytes: u64,
    /// Lower-case hexadecimal digits.
    pub sha256: String,
}

/// Why a directory is not taken for a snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

impl Manifest {
    /// Index of the last entry that the state holds; 0 before the first.
    pub(crate) fn position(&self) -> u64 {
        self.log_id.map_or(0, |log_id| log_id.index)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.parts.iter().map(|part| part.name.clone()).collect()
    }

    /// Writes it into a snapshot's directory.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let body = serde_json::to_string_pretty(self).expect("numbers and texts are always JSON");
        let text = format!("{:x}\n{body}\n", Sha256::digest(format!("{body}\n")));
        durable::replace(&dir.join(FILE), text.as_bytes())
    }

    /// Reads it from a snapshot's directory.
    pub(crate) fn read(dir: &Path) -> Result<Self, ReadError> {
        let path = dir.join(FILE);
        let damaged = |reason: String| ReadError::Damaged {
            path: path.clone(),
            reason,
        };
        let bytes = fs::read(&path).map_err(|source| ReadError::Io {
            path: path.clone(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8".to_owned()))?;
        let Some((expected, body)) = text.split_once('\n') else {
            return Err(damaged("it has one line".to_owned()));
        };
        let actual = format!("{:x}", Sha256::digest(body));
        if actual != expected {
            return Err(damaged(format!("SHA-256 is {actual}, expected {expected}")));
        }
        let manifest: Self =
            serde_json::from_str(body).map_err(|error| damaged(error.to_string()))?;
        manifest.validate().map_err(damaged)?;
        Ok(manifest)
    }

    /// Whether it can be of a snapshot; the reason otherwise.
    pub(crate) fn validate(&self) -> Result<(), String> {
        // A name is joined to a directory.
        match self.parts.iter().find(|part| !is_plain(&part.name)) {
            Some(part) => Err(format!("it names a file {:?}", part.name)),
            None => Ok(()),
        }
    }
}

/// Whether it names a file in the directory that it is joined to, and nothing else.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaderId;

    fn manifest() -> Manifest {
        Manifest {
            format: 1,
            group: 0,
            cluster_id: ClusterId(7),
            log_id: Some(LogId {
                leader_id: LeaderId {
                    term: 1,
                    node_id: 2,
                },
                index: 3,
            }),
            membership: StoredMembership::default(),
            digest: "00".to_owned(),
            parts: vec![Part {
                name: "000001.sst".to_owned(),
                bytes: 5,
                sha256: "ab".to_owned(),
            }],
        }
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        manifest().write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), manifest());
        let path = dir.path().join(FILE);
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x80;
            fs::write(&path, &bytes).unwrap();
            assert!(Manifest::read(dir.path()).is_err(), "byte {at}");
        }
        fs::write(&path, b"").unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("it has one line"), "{error}");
        fs::remove_file(&path).unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(error.to_string().starts_with("read "), "{error}");
    }

    #[test]
    fn a_part_outside_the_snapshot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "..", "../x", "/etc/passwd", "a/b", ".hidden"] {
            let mut manifest = manifest();
            manifest.parts[0].name = name.to_owned();
            manifest.write(dir.path()).unwrap();
            let error = Manifest::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("it names a file"), "{error}");
        }
    }
}
