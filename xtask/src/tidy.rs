//! The rules of this repository that a machine holds.
//!
//! ```text
//! cargo metadata ─▶ edges      who may depend on whom, and which crate owns which library
//! Cargo.toml,    ─▶ manifests  lints and versions come from the workspace
//! clippy.toml
//! sources        ─▶ sources    names, headers, nothing unfinished, no path of one machine
//! ARCHITECTURE.md ▶ map        what the map names exists
//! README.md      ─▶ figures    every key that a bench reports is listed
//! ```
//!
//! Each rule is a pure function from text to violations, so that its tests feed it what is wrong and
//! see it say so. Only [`check`] reads files and runs cargo.

mod edges;
mod figures;
mod manifests;
mod map;
mod sources;
mod tree;

use std::{env, fmt, path::Path, process::Command};

use anyhow::{Context as _, ensure};

pub use self::{
    edges::{Dependency, Package},
    tree::{File, Tree},
};

/// Something that the repository must not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// A file, relative to the root, or the name of a crate.
    pub place: String,
    /// What is wrong there, and what to do instead.
    pub problem: String,
}

impl Violation {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// Every violation in the repository at `root`, in order of place.
pub fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let packages = edges::parse(&metadata(root)?).context("read cargo metadata")?;
    let tree = Tree::read(root).context("read the sources")?;
    Ok(violations(&packages, &tree))
}

/// [`check`] on what was read.
pub fn violations(packages: &[Package], tree: &Tree) -> Vec<Violation> {
    let mut violations = edges::check(packages);
    violations.extend(manifests::check(tree));
    violations.extend(sources::check(tree));
    violations.extend(map::check(packages, tree));
    violations.extend(figures::check(tree));
    violations.sort();
    violations
}

/// `cargo metadata` of the workspace's own packages; needs neither network nor lock file.
fn metadata(root: &Path) -> anyhow::Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("read cargo metadata as UTF-8")
}
