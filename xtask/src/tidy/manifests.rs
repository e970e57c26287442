//! What every manifest and every `clippy.toml` has in common with the root's.

use toml::{Table, Value};

use super::{File, Tree, Violation};

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let manifests = tree
        .files
        .iter()
        .filter(|file| file.name() == "Cargo.toml" && file.path != "Cargo.toml");
    let mut violations: Vec<Violation> = manifests.flat_map(manifest).collect();
    if let Some(root) = tree.file("clippy.toml") {
        let others = tree
            .files
            .iter()
            .filter(|file| file.name() == "clippy.toml" && file.path != root.path);
        violations.extend(others.flat_map(|file| clippy(root, file)));
    }
    violations
}

fn manifest(file: &File) -> Vec<Violation> {
    let table = match parse(file) {
        Ok(table) => table,
        Err(violation) => return vec![violation],
    };
    // A workspace of its own (fuzz targets, which need another compiler) inherits nothing.
    if table.contains_key("workspace") {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let inherits = |value: Option<&Value>| {
        value.and_then(|v| v.get("workspace")) == Some(&Value::Boolean(true))
    };
    if !inherits(table.get("lints")) {
        violations.push(Violation::new(
            &file.path,
            "does not take the workspace's lints: add `[lints] workspace = true`",
        ));
    }
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let dependencies = table.get(kind).and_then(Value::as_table);
        for (name, dependency) in dependencies.into_iter().flatten() {
            if !inherits(Some(dependency)) {
                violations.push(Violation::new(
                    &file.path,
                    format!(
                        "gives {name} a version of its own: versions stand once, in the root's \
                         [workspace.dependencies]"
                    ),
                ));
            }
        }
    }
    violations
}

/// clippy reads the nearest file only, so each repeats what the root's says.
fn clippy(root: &File, file: &File) -> Vec<Violation> {
    let (shared, own) = match (parse(root), parse(file)) {
        (Ok(shared), Ok(own)) => (shared, own),
        (Err(violation), _) | (_, Err(violation)) => return vec![violation],
    };
    let mut violations = Vec::new();
    for (key, value) in &shared {
        let missing: Vec<String> = match (value, own.get(key)) {
            (Value::Array(shared), Some(Value::Array(own))) => shared
                .iter()
                .filter(|entry| !own.contains(entry))
                .map(|entry| entry.get("path").unwrap_or(entry).to_string())
                .collect(),
            (_, Some(own)) if own == value => Vec::new(),
            (_, _) => vec![value.to_string()],
        };
        violations.extend(missing.iter().map(|missing| {
            Violation::new(
                &file.path,
                format!("does not repeat {key} {missing} of the root's file, which it replaces"),
            )
        }));
    }
    violations
}

fn parse(file: &File) -> Result<Table, Violation> {
    file.text
        .parse()
        .map_err(|error| Violation::new(&file.path, format!("is not TOML: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> String {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        let tree = Tree {
            files: files.iter().map(file).collect(),
        };
        let lines: Vec<String> = super::check(&tree)
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.join("\n")
    }

    #[test]
    fn a_manifest_that_inherits_passes() {
        let manifest = "[lints]\nworkspace = true\n[dependencies]\na.workspace = true\n\
                        b = { workspace = true, features = [\"c\"] }";
        assert_eq!(check(&[("crates/a/Cargo.toml", manifest)]), "");
        assert_eq!(
            check(&[("fuzz/Cargo.toml", "[workspace]\n[dependencies]\na = \"1\"")]),
            ""
        );
    }

    #[test]
    fn a_manifest_without_the_lints_is_seen() {
        assert_eq!(
            check(&[("crates/a/Cargo.toml", "[package]\nname = \"a\"")]),
            "crates/a/Cargo.toml: does not take the workspace's lints: add `[lints] workspace = true`"
        );
    }

    #[test]
    fn a_version_outside_the_root_is_seen() {
        let manifest = "[lints]\nworkspace = true\n[dev-dependencies]\ntempfile = \"3\"";
        assert_eq!(
            check(&[("crates/a/Cargo.toml", manifest)]),
            "crates/a/Cargo.toml: gives tempfile a version of its own: versions stand once, in the \
             root's [workspace.dependencies]"
        );
        assert!(check(&[("crates/a/Cargo.toml", "[")]).contains("is not TOML"));
    }

    #[test]
    fn a_clippy_file_that_forgets_what_is_shared_is_seen() {
        let root =
            "allow-unwrap-in-tests = true\ndisallowed-methods = [{ path = \"a\", reason = \"b\" }]";
        assert_eq!(
            check(&[("clippy.toml", root), ("crates/a/clippy.toml", root)]),
            ""
        );
        let own = "disallowed-methods = [{ path = \"c\", reason = \"d\" }]";
        assert_eq!(
            check(&[("clippy.toml", root), ("crates/a/clippy.toml", own)]),
            "crates/a/clippy.toml: does not repeat allow-unwrap-in-tests true of the root's file, \
             which it replaces\n\
             crates/a/clippy.toml: does not repeat disallowed-methods \"a\" of the root's file, \
             which it replaces"
        );
    }
}
