//! Names, headers, nothing left unfinished, and nothing that holds on one machine only.
//!
//! The patterns below are put together from pieces, or these very lines would be violations.

use super::{File, Tree, Violation};

/// File names that say nothing of what the file does.
const NAMES: &[&str] = &[
    "common.rs",
    "helper.rs",
    "helpers.rs",
    "misc.rs",
    "mod.rs",
    "service.rs",
    "util.rs",
    "utils.rs",
];

/// What no Rust source may hold, and what to do instead.
const IN_RUST: &[(&str, &str)] = &[
    (
        concat!("#[ign", "ore"),
        "hides a failure: assert today's behaviour and say why it is wrong, or fix it",
    ),
    (concat!("todo", "!("), "is unfinished"),
    (concat!("unimplemented", "!("), "is unfinished"),
    (
        concat!("\"/t", "mp/"),
        "is a directory of one machine: take it as an argument, or use tempfile",
    ),
    (
        concat!("env!(\"CARGO_MANI", "FEST_DIR\")"),
        "is where the checkout was when this was compiled, and compiled things are kept for \
         checkouts elsewhere: ask the environment when it runs",
    ),
];

/// What no text may hold.
const ANYWHERE: &[(&str, &str)] = &[
    (
        concat!("TO", "DO"),
        "is unfinished: do it, or say what is not there",
    ),
    (
        concat!("FIX", "ME"),
        "is unfinished: do it, or say what is not there",
    ),
    (concat!("/ho", "me/"), "is a directory of one machine"),
    (concat!("/ro", "ot/"), "is a directory of one machine"),
    (concat!("/Us", "ers/"), "is a directory of one machine"),
    (concat!("/wo", "rk/"), "is a directory of one machine"),
    (concat!("/var/ca", "che/"), "is a directory of one machine"),
    (
        concat!("crates", ".io"),
        "is a registry's host: which one is asked is for cargo's own settings to say",
    ),
    (
        concat!("py", "pi.org"),
        "is a registry's host: which one is asked is for pip's own settings to say",
    ),
];

/// Where only the node may serve, although the library is others' too.
const SERVER: &str = concat!("transport::", "Server");

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in &tree.files {
        violations.extend(found(file, ANYWHERE));
        if file.is_rust() {
            violations.extend(rust(file));
        }
    }
    violations
}

fn rust(file: &File) -> Vec<Violation> {
    let mut violations = found(file, IN_RUST);
    if NAMES.contains(&file.name()) {
        violations.push(Violation::new(
            &file.path,
            "is named by its place, not by what it does",
        ));
    }
    if !file.text.trim_start().starts_with("//!") {
        violations.push(Violation::new(
            &file.path,
            "does not begin with `//!`: what it decides, what it refuses to know",
        ));
    }
    let serves = ["crates/node/", "crates/fake/"]
        .iter()
        .any(|own| file.path.starts_with(own))
        || file.path.contains("/tests/");
    if !serves && code_before_tests(&file.text).contains(SERVER) {
        violations.push(Violation::new(
            &file.path,
            format!("names {SERVER}: only the node serves"),
        ));
    }
    violations
}

/// A test may well start a server that misbehaves.
fn code_before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn found(file: &File, patterns: &[(&str, &str)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for (pattern, why) in patterns {
            if line.contains(pattern) {
                violations.push(Violation::new(
                    format!("{}:{number}", file.path),
                    format!("{pattern} {why}"),
                ));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> String {
        let tree = Tree {
            files: vec![File {
                path: path.to_owned(),
                text: text.to_owned(),
            }],
        };
        let lines: Vec<String> = super::check(&tree)
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.join("\n")
    }

    #[test]
    fn a_tidy_file_passes() {
        assert_eq!(
            check("crates/core/src/learn.rs", "//! Learns.\nfn learn() {}"),
            ""
        );
        assert_eq!(check("README.md", "Type `make demo`."), "");
    }

    #[test]
    fn a_name_that_says_nothing_is_seen() {
        for name in NAMES {
            assert_eq!(
                check(&format!("crates/core/src/{name}"), "//! Header."),
                format!("crates/core/src/{name}: is named by its place, not by what it does")
            );
        }
    }

    #[test]
    fn a_missing_header_is_seen() {
        assert_eq!(
            check("proto/build.rs", "fn main() {}"),
            "proto/build.rs: does not begin with `//!`: what it decides, what it refuses to know"
        );
    }

    #[test]
    fn what_is_unfinished_or_of_one_machine_is_seen() {
        for (pattern, why) in IN_RUST.iter().chain(ANYWHERE) {
            assert_eq!(
                check("crates/core/src/a.rs", &format!("//! Header.\n{pattern}")),
                format!("crates/core/src/a.rs:2: {pattern} {why}")
            );
        }
        let anywhere = ANYWHERE[0].0;
        assert!(check("README.md", anywhere).contains(anywhere));
    }

    #[test]
    fn a_server_outside_the_node_is_seen() {
        let text = format!("//! Header.\nuse tonic::{SERVER};");
        assert_eq!(check("crates/node/src/serve.rs", &text), "");
        assert_eq!(
            check("crates/client/src/a.rs", &text),
            format!("crates/client/src/a.rs: names {SERVER}: only the node serves")
        );
        let in_test = format!("//! Header.\n#[cfg(test)]\nmod tests {{ use tonic::{SERVER}; }}");
        assert_eq!(check("crates/client/src/a.rs", &in_test), "");
    }
}
