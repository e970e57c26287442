//! The README lists every key that a bench reports.
//!
//! A key is the first argument of a report's `number`, `count` or `value`, where it is spelled out;
//! one that is put together at run time is not looked for.

use super::{Tree, Violation};

const README: &str = "README.md";

const BENCHES: &str = "benches/src/";

const CALLS: &[&str] = &["report.number(\"", "report.count(\"", "report.value(\""];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(readme) = tree.file(README) else {
        return vec![Violation::new(README, "is missing")];
    };
    let mut violations = Vec::new();
    for file in tree.rust().filter(|file| file.path.starts_with(BENCHES)) {
        for key in keys(&file.text) {
            if !readme.text.contains(&format!("`{key}`")) {
                violations.push(Violation::new(
                    &file.path,
                    format!("reports `{key}`, which the README does not list"),
                ));
            }
        }
    }
    violations
}

fn keys(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    CALLS
        .iter()
        .flat_map(move |call| code.split(call).skip(1))
        .filter_map(|rest| rest.split('"').next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::File;

    fn check(bench: &str) -> String {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let tree = Tree {
            files: vec![
                file(README, "| `embed` | `ratio_single` |"),
                file("benches/src/embed.rs", bench),
            ],
        };
        let lines: Vec<String> = super::check(&tree)
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.join("\n")
    }

    #[test]
    fn a_listed_key_passes() {
        let test = "\n#[cfg(test)]\nmod tests { report.count(\"x\", 1); }";
        let listed = "report.number(\"ratio_single\", 1.0); report.number(&name, 2.0);";
        assert_eq!(check(&format!("{listed}{test}")), "");
    }

    #[test]
    fn a_key_that_is_not_listed_is_seen() {
        assert_eq!(
            check("report.count(\"rounds\", 1);"),
            "benches/src/embed.rs: reports `rounds`, which the README does not list"
        );
        assert_eq!(
            super::check(&Tree::default()),
            [Violation::new(README, "is missing")]
        );
    }
}
