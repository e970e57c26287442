//! How far an import has come, kept beside its file.
//!
//! It is written before each batch is sent, with the request id under which it is sent. So whenever
//! an import ends, the next run knows what was acknowledged, and repeats the one batch of which it
//! does not know under the same id: it is learned once.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::durable;

/// Version of the file.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    format: u32,
    /// Of the cluster that it imports into: 32 hexadecimal digits.
    pub(super) cluster_id: String,
    /// What the import was told, which a later run has to be told again.
    pub(super) settings: Settings,
    /// Up to here, everything is settled.
    pub(super) settled: Mark,
    pub(super) counts: Counts,
    pub(super) in_flight: Option<InFlight>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) namespace: Option<String>,
    pub(super) reinforce: bool,
    pub(super) skip_invalid: bool,
}

/// A place in the file, after whole lines, and what stands before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) lines: u64,
    pub(super) bytes: u64,
    /// SHA-256 of those bytes.
    pub(super) sha256: String,
}

/// What became of the lines so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) created: u64,
    pub(super) reinforced: u64,
    /// Known already, and so left alone.
    pub(super) known: u64,
    pub(super) invalid: u64,
}

/// A batch that may or may not have been stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InFlight {
    pub(super) request_id: String,
    /// Numbers of the lines in it.
    pub(super) lines: Vec<u64>,
    /// Where the file stands after it.
    pub(super) end: Mark,
    /// Lines up to there that are settled without being sent.
    pub(super) known: u64,
    pub(super) invalid: u64,
}

/// Why a progress file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("read or write {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} is not a progress file of this version: {reason}; remove it to start over")]
    Malformed { path: String, reason: String },
}

/// The file that holds it; a pipe has none.
pub(super) struct File(Option<PathBuf>);

impl File {
    pub(super) fn beside(import: Option<&Path>) -> Self {
        Self(import.map(|path| durable::beside(path, "progress")))
    }

    pub(super) fn name(&self) -> String {
        self.0
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    }

    /// What an earlier run left, if it did not finish.
    pub(super) fn load(&self) -> Result<Option<Progress>, Error> {
        let Some(path) = &self.0 else {
            return Ok(None);
        };
        let Some(bytes) = durable::read(path).map_err(|e| self.io(e))? else {
            return Ok(None);
        };
        let progress: Progress = serde_json::from_slice(&bytes).map_err(|error| {
            let reason = error.to_string();
            self.malformed(reason)
        })?;
        if progress.format != FORMAT {
            let reason = format!("it has format {}, expected {FORMAT}", progress.format);
            return Err(self.malformed(reason));
        }
        Ok(Some(progress))
    }

    pub(super) fn save(&self, progress: &Progress) -> Result<(), Error> {
        let Some(path) = &self.0 else {
            return Ok(());
        };
        let bytes = serde_json::to_vec(progress).map_err(|e| self.io(io::Error::other(e)))?;
        durable::replace(path, &bytes).map_err(|e| self.io(e))
    }

    pub(super) fn remove(&self) -> Result<(), Error> {
        match &self.0 {
            None => Ok(()),
            Some(path) => durable::remove(path).map_err(|e| self.io(e)),
        }
    }

    fn io(&self, source: io::Error) -> Error {
        let path = self.name();
        Error::Io { path, source }
    }

    fn malformed(&self, reason: String) -> Error {
        let path = self.name();
        Error::Malformed { path, reason }
    }
}

impl Progress {
    pub(super) fn new(cluster_id: String, settings: Settings) -> Self {
        Self {
            format: FORMAT,
            cluster_id,
            settings,
            settled: Mark::default(),
            counts: Counts::default(),
            in_flight: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Progress {
        let mut progress = Progress::new(
            "0a".repeat(16),
            Settings {
                namespace: Some("n".into()),
                reinforce: false,
                skip_invalid: true,
            },
        );
        progress.in_flight = Some(InFlight {
            request_id: format!("7-{}", "0".repeat(32)),
            lines: vec![1, 3],
            end: Mark {
                lines: 3,
                bytes: 99,
                sha256: "ab".repeat(32),
            },
            known: 1,
            invalid: 0,
        });
        progress
    }

    #[test]
    fn progress_is_read_back_and_a_pipe_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let import = directory.path().join("x.jsonl");
        let file = File::beside(Some(&import));
        assert_eq!(file.load().unwrap(), None);
        file.save(&example()).unwrap();
        assert_eq!(file.load().unwrap(), Some(example()));
        assert!(file.name().ends_with("x.jsonl.mgctl-progress"));
        file.remove().unwrap();
        assert_eq!(file.load().unwrap(), None);
        let pipe = File::beside(None);
        pipe.save(&example()).unwrap();
        assert_eq!(pipe.load().unwrap(), None);
        pipe.remove().unwrap();
    }

    #[test]
    fn what_is_not_progress_of_this_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let import = directory.path().join("x");
        let file = File::beside(Some(&import));
        let path = directory.path().join("x.mgctl-progress");
        std::fs::write(&path, "{}").unwrap();
        assert!(file.load().unwrap_err().to_string().contains("start over"));
        let mut newer = example();
        newer.format = 2;
        file.save(&newer).unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("it has format 2, expected 1"), "{error}");
    }
}
