//! `ARCHITECTURE.md` names crates, files and tests; each of them exists.
//!
//! A path is anything in backticks that begins with a directory of the sources. A test is anything
//! in backticks in a paragraph's part after "Checked by" that is spelled like a function of at least
//! three words.

use super::{Package, Tree, Violation};

const MAP: &str = "ARCHITECTURE.md";

/// What a path in the map begins with.
const DIRECTORIES: &[&str] = &[
    ".ci/",
    "benches/",
    "crates/",
    "deploy/",
    "examples/",
    "fuzz/",
    "jepsen/",
    "proto/",
    "scripts/",
    "xtask/",
];

pub(super) fn check(packages: &[Package], tree: &Tree) -> Vec<Violation> {
    let Some(map) = tree.file(MAP) else {
        return vec![Violation::new(MAP, "is missing")];
    };
    let mut violations: Vec<Violation> = packages
        .iter()
        .filter(|package| !map.text.contains(&format!("`{}`", package.name)))
        .map(|package| Violation::new(MAP, format!("does not name the crate `{}`", package.name)))
        .collect();
    for path in quoted(&map.text) {
        if DIRECTORIES.iter().any(|d| path.starts_with(d)) && !exists(tree, path) {
            violations.push(Violation::new(
                MAP,
                format!("names `{path}`, which is not there"),
            ));
        }
    }
    for test in tests(&map.text) {
        let definition = format!("fn {test}(");
        if !tree.rust().any(|file| file.text.contains(&definition)) {
            violations.push(Violation::new(
                MAP,
                format!("says that `{test}` checks something, but there is no such test"),
            ));
        }
    }
    violations
}

/// Whether `path` is a file that is looked at, or a directory that holds one. Data files and
/// patterns are taken at their word up to the directory.
fn exists(tree: &Tree, path: &str) -> bool {
    let directory = match path.rsplit_once('/') {
        Some((directory, last)) if last.contains('*') || last.ends_with(".jsonl") => directory,
        Some((directory, "")) => directory,
        Some(_) | None => path,
    };
    let below = format!("{directory}/");
    directory == "examples/corpus"
        || tree
            .files
            .iter()
            .any(|file| file.path == directory || file.path.starts_with(&below))
}

/// What stands in backticks on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The names of tests in the paragraphs' parts after "Checked by".
fn tests(text: &str) -> Vec<&str> {
    text.split("\n\n")
        .flat_map(|paragraph| paragraph.split("\n- "))
        .filter_map(|part| part.split_once("Checked by"))
        .flat_map(|(_, by)| quoted(by))
        .filter(|name| {
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                && name.matches('_').count() >= 2
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::File;

    fn check(map: &str) -> String {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let tree = Tree {
            files: vec![
                file(MAP, map),
                file(
                    "crates/a/src/key.rs",
                    "//! Key.\nfn the_key_never_changes() {}",
                ),
            ],
        };
        let packages = [Package {
            name: "a".to_owned(),
            dependencies: Vec::new(),
        }];
        let lines: Vec<String> = super::check(&packages, &tree)
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.join("\n")
    }

    #[test]
    fn a_true_map_passes() {
        let map = "`a`: `crates/a/src/key.rs`, `crates/a/src/`, `crates/a/src/*.rs`, `Key::of`.\n\n\
                   Keys stay. Checked by `the_key_never_changes` and `clippy.toml`.";
        assert_eq!(check(map), "");
    }

    #[test]
    fn what_is_not_there_is_seen() {
        assert_eq!(
            check("`crates/a/src/name.rs`.\n\n- Keys stay. Checked by\n  `the_key_is_a_hash`."),
            "ARCHITECTURE.md: does not name the crate `a`\n\
             ARCHITECTURE.md: names `crates/a/src/name.rs`, which is not there\n\
             ARCHITECTURE.md: says that `the_key_is_a_hash` checks something, but there is no such \
             test"
        );
    }

    #[test]
    fn a_missing_map_is_seen() {
        assert_eq!(
            super::check(&[], &Tree::default()),
            [Violation::new(MAP, "is missing")]
        );
    }
}
