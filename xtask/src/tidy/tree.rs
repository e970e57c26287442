//! The text files of the repository, read once.

use std::{fs, path::Path};

use anyhow::Context as _;

/// Where sources lie. Everything else in the root directory is read file by file, not deeper:
/// a target directory or a virtual environment may lie there.
const DIRECTORIES: &[&str] = &[
    ".ci",
    ".devcontainer",
    ".github",
    "benches",
    "crates",
    "deploy",
    "examples",
    "fuzz",
    "jepsen",
    "proto",
    "scripts",
    "xtask",
];

/// Names of directories that hold what was made, not written.
const MADE: &[&str] = &[
    "target",
    "corpus",
    "artifacts",
    "node_modules",
    "__pycache__",
];

/// Kinds of files that the rules look at. Data is not among them: a lesson may well speak of a path.
const EXTENSIONS: &[&str] = &[
    "rs", "toml", "md", "proto", "sh", "py", "yml", "yaml", "tf", "tpl",
];

/// Files without such an extension that are looked at nevertheless.
const NAMES: &[&str] = &["Makefile", "Dockerfile", "run", "devcontainer.json"];

/// Directories deeper than this below the root are not followed; none is half as deep.
const DEPTH_MAX: u32 = 16;

/// A text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    pub text: String,
}

impl File {
    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// All files that rules look at, in order of path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub files: Vec<File>,
}

impl Tree {
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        collect(root, "", 0, &mut files)?;
        for directory in DIRECTORIES {
            if root.join(directory).is_dir() {
                collect(
                    &root.join(directory),
                    &format!("{directory}/"),
                    1,
                    &mut files,
                )?;
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }
}

/// Adds the files of `directory`, and those below it unless it is the root itself (`depth` 0).
fn collect(
    directory: &Path,
    prefix: &str,
    depth: u32,
    files: &mut Vec<File>,
) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("list directory {}", directory.display()))?;
    for entry in entries {
        let entry = entry.context("list a directory's entry")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().context("read a file's type")?;
        if kind.is_dir() {
            if depth > 0 && depth < DEPTH_MAX && !MADE.contains(&name.as_str()) {
                collect(&entry.path(), &format!("{path}/"), depth + 1, files)?;
            }
        } else if kind.is_file() && is_looked_at(&name) {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("read {path}"))?;
            files.push(File { path, text });
        }
    }
    Ok(())
}

fn is_looked_at(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    NAMES.contains(&name) || EXTENSIONS.contains(&extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_looked_at_and_data_is_not() {
        let looked_at = ["lib.rs", "Cargo.toml", "Makefile", "run", "README.md"];
        assert!(looked_at.iter().all(|name| is_looked_at(name)));
        let data = ["questions.jsonl", "Cargo.lock", "model.safetensors", "rs"];
        assert!(!data.iter().any(|name| is_looked_at(name)));
    }
}
