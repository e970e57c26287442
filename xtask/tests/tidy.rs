//! The repository holds its own rules, and a violation that is put into it is seen.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::path::{Path, PathBuf};

use xtask::tidy::{self, Tree, Violation};

fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&manifest).parent().unwrap().to_owned()
}

fn lines(violations: &[Violation]) -> String {
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn the_repository_is_tidy() {
    let violations = tidy::check(&root()).unwrap();
    assert!(violations.is_empty(), "\n{}", lines(&violations));
}

/// Without this, a rule that finds no file to look at would pass for ever.
#[test]
fn a_violation_put_into_the_repository_is_seen() {
    let mut tree = Tree::read(&root()).unwrap();
    let before = tidy::violations(&[], &tree);
    let core = tree
        .files
        .iter_mut()
        .find(|file| file.path == "crates/core/src/apply.rs")
        .unwrap();
    core.text = core.text.replacen("//!", "//", 1);
    let manifest = tree
        .files
        .iter_mut()
        .find(|file| file.path == "crates/core/Cargo.toml")
        .unwrap();
    manifest.text = manifest.text.replace("[lints]", "[lint]");
    let after = tidy::violations(&[], &tree);
    let new: Vec<Violation> = after.into_iter().filter(|v| !before.contains(v)).collect();
    let places: Vec<&str> = new.iter().map(|v| v.place.as_str()).collect();
    assert_eq!(
        places,
        ["crates/core/Cargo.toml", "crates/core/src/apply.rs"]
    );
}
