//! Who may depend on whom: one table of edges between the crates of the workspace, one of libraries
//! that belong to certain crates, and the whole list of what the pure core may use.
//!
//! Dependencies of tests and of build scripts count as well: a test that needs a forbidden crate
//! tests at the wrong place.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::Value;

use super::Violation;

const CORE: &str = "memorygate-core";
const PROTO: &str = "memorygate-proto";
const RAFT: &str = "memorygate-raft";
const INDEX: &str = "memorygate-index";
const NODE: &str = "memorygate-node";
const FEEDS: &str = "memorygate-feeds";
const CLIENT: &str = "memorygate-client";
const FAKE: &str = "memorygate-fake";
const AGENTS: &str = "memorygate-agents";
const MCP: &str = "memorygate-mcp";
const MGCTL: &str = "memorygate-mgctl";
const BENCH: &str = "memorygate-bench";
const JEPSEN: &str = "memorygate-jepsen";
const XTASK: &str = "xtask";

/// Each crate of the workspace and the crates of the workspace that it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    (CORE, &[]),
    (PROTO, &[]),
    (RAFT, &[CORE]),
    (INDEX, &[CORE]),
    (FEEDS, &[CORE]),
    (NODE, &[CORE, PROTO, RAFT, INDEX, FEEDS]),
    // The fake server for its tests, which know the client only as a stranger would.
    (CLIENT, &[CORE, PROTO, FAKE]),
    (FAKE, &[CORE, PROTO, CLIENT]),
    (AGENTS, &[CLIENT, FEEDS, FAKE]),
    (MCP, &[CLIENT, FAKE]),
    (MGCTL, &[CORE, PROTO, FEEDS, CLIENT, AGENTS, MCP, FAKE]),
    // The index for its embedder alone, which `embed` measures beside onnxruntime, without a server.
    (BENCH, &[CORE, PROTO, INDEX, CLIENT, AGENTS]),
    (JEPSEN, &[CORE, PROTO, RAFT, INDEX, NODE, CLIENT, BENCH]),
    (XTASK, &[]),
];

/// Libraries that only these crates may name, and what is lost when others do.
const OWNED: &[(&[&str], &[&str], &str)] = &[
    (
        &["rocksdb", "librocksdb-sys", "openraft"],
        &[RAFT],
        "the log and the state stay replaceable behind crates/raft",
    ),
    (
        &[
            "faiss",
            "faiss-sys",
            "candle-core",
            "candle-nn",
            "candle-transformers",
            "pulp",
            "tokenizers",
            "safetensors",
            "rust-stemmers",
        ],
        &[INDEX],
        "the index and the model stay replaceable behind crates/index",
    ),
    (
        &["tonic-health", "tonic-reflection", "prometheus"],
        &[NODE],
        "only the node serves",
    ),
    (
        &["axum"],
        &[NODE, FAKE],
        "only the node serves, and what tests ask instead",
    ),
    (
        &["object_store"],
        &[NODE],
        "snapshots leave by one way, which no key is told on",
    ),
    (
        &["reqwest", "sse-stream"],
        &[NODE, AGENTS],
        "a model is asked by one way, which no key is told on",
    ),
    (
        &["tonic", "tonic-prost", "prost", "prost-types"],
        &[PROTO, NODE, CLIENT, FAKE, MCP, MGCTL, BENCH, JEPSEN],
        "the wire ends where the node converts its messages",
    ),
    (
        &["rmcp"],
        &[MCP],
        "what models are told stands in one place",
    ),
    (
        &["tokio", "tokio-stream", "futures"],
        &[
            PROTO, RAFT, INDEX, NODE, CLIENT, AGENTS, FAKE, MCP, MGCTL, BENCH, JEPSEN,
        ],
        "the core computes; who calls it decides on which threads",
    ),
];

/// All that the core may depend on besides dev-dependencies. Another library here is a decision:
/// it must read no clock, file, environment or random number, and give the same bits everywhere.
const CORE_LIBRARIES: &[&str] = &["libm", "minicbor", "serde", "sha2", "thiserror"];

/// A crate of the workspace and what its manifest asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The package's own name, whatever it is renamed to.
    pub name: String,
    /// True for one of tests, examples and benches alone.
    pub dev: bool,
}

/// Reads the output of `cargo metadata --no-deps`.
pub(super) fn parse(metadata: &str) -> anyhow::Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .context("package without dependencies")?
                .iter()
                .map(|dependency| {
                    Ok(Dependency {
                        name: name(dependency)?,
                        dev: dependency["kind"] == "dev",
                    })
                })
                .collect::<anyhow::Result<_>>()?;
            Ok(Package {
                name: name(package)?,
                dependencies,
            })
        })
        .collect()
}

fn name(value: &Value) -> anyhow::Result<String> {
    Ok(value["name"].as_str().context("no name")?.to_owned())
}

pub(super) fn check(packages: &[Package]) -> Vec<Violation> {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let present: BTreeSet<&str> = packages.iter().map(|p| p.name.as_str()).collect();
    let mut violations: Vec<Violation> = allowed
        .keys()
        .filter(|name| !present.contains(*name))
        .map(|name| Violation::new(*name, "is in the table of edges but not in the workspace"))
        .collect();
    for package in packages {
        let Some(may) = allowed.get(package.name.as_str()) else {
            violations.push(Violation::new(
                &package.name,
                "is not in the table of edges: give it a row in xtask/src/tidy/edges.rs",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let problem = if present.contains(dependency.name.as_str()) {
                forbidden_edge(dependency, may)
            } else {
                forbidden_library(package, dependency)
            };
            violations.extend(problem.map(|problem| Violation::new(&package.name, problem)));
        }
    }
    violations
}

fn forbidden_edge(dependency: &Dependency, may: &[&str]) -> Option<String> {
    let name = dependency.name.as_str();
    let listed = if may.is_empty() {
        "no crate of the workspace".to_owned()
    } else {
        may.join(", ")
    };
    (!may.contains(&name)).then(|| format!("depends on {name}, but may depend on {listed} only"))
}

fn forbidden_library(package: &Package, dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    let owned = OWNED
        .iter()
        .find(|(libraries, ..)| libraries.contains(&name));
    if let Some((_, owners, why)) = owned
        && !owners.contains(&package.name.as_str())
    {
        let owners = owners.join(", ");
        return Some(format!(
            "depends on {name}, which belongs to {owners}: {why}"
        ));
    }
    if package.name == CORE && !dependency.dev && !CORE_LIBRARIES.contains(&name) {
        return Some(format!(
            "depends on {name}: the core may use only {}",
            CORE_LIBRARIES.join(", ")
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with every crate and no dependency, but for `edges` ("from -> to", with "(dev)"
    /// after it where only tests need it).
    fn check(edges: &[&str]) -> String {
        let mut packages: Vec<Package> = EDGES
            .iter()
            .map(|(name, _)| Package {
                name: (*name).to_owned(),
                dependencies: Vec::new(),
            })
            .collect();
        for edge in edges {
            let (from, to) = edge.split_once(" -> ").unwrap();
            let dependency = Dependency {
                name: to.trim_end_matches(" (dev)").to_owned(),
                dev: to.ends_with(" (dev)"),
            };
            let package = packages.iter_mut().find(|p| p.name == from).unwrap();
            package.dependencies.push(dependency);
        }
        let lines: Vec<String> = super::check(&packages)
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.join("\n")
    }

    #[test]
    fn the_design_passes() {
        let edges = [
            "memorygate-raft -> memorygate-core",
            "memorygate-raft -> rocksdb",
            "memorygate-raft -> tokio",
            "memorygate-index -> faiss-sys",
            "memorygate-node -> memorygate-index",
            "memorygate-node -> axum",
            "memorygate-client -> memorygate-proto",
            "memorygate-core -> libm",
            "memorygate-core -> proptest (dev)",
        ];
        assert_eq!(check(&edges), "");
    }

    #[test]
    fn a_forbidden_edge_is_seen() {
        assert_eq!(
            check(&["memorygate-raft -> memorygate-index"]),
            "memorygate-raft: depends on memorygate-index, but may depend on memorygate-core only"
        );
        assert_eq!(
            check(&["memorygate-core -> memorygate-proto"]),
            "memorygate-core: depends on memorygate-proto, but may depend on no crate of the \
             workspace only"
        );
    }

    #[test]
    fn a_forbidden_edge_of_tests_is_seen() {
        assert_eq!(
            check(&["memorygate-node -> memorygate-client (dev)"]),
            "memorygate-node: depends on memorygate-client, but may depend on memorygate-core, \
             memorygate-proto, memorygate-raft, memorygate-index, memorygate-feeds only"
        );
    }

    #[test]
    fn a_library_outside_its_owner_is_seen() {
        assert_eq!(
            check(&[
                "memorygate-node -> rocksdb",
                "memorygate-raft -> tonic (dev)"
            ]),
            "memorygate-raft: depends on tonic, which belongs to memorygate-proto, \
             memorygate-node, memorygate-client, memorygate-fake, memorygate-mcp, \
             memorygate-mgctl, memorygate-bench, memorygate-jepsen: the wire ends where the node converts its messages\n\
             memorygate-node: depends on rocksdb, which belongs to memorygate-raft: the log and the \
             state stay replaceable behind crates/raft"
        );
    }

    #[test]
    fn the_core_takes_no_new_library_unseen() {
        let seen = check(&["memorygate-core -> tokio (dev)", "memorygate-core -> rand"]);
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines.len(), 2, "{seen}");
        assert!(
            lines[0].starts_with("memorygate-core: depends on tokio, which"),
            "{seen}"
        );
        assert_eq!(
            lines[1],
            "memorygate-core: depends on rand: the core may use only libm, minicbor, serde, sha2, \
             thiserror"
        );
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_seen() {
        let stray = [Package {
            name: "memorygate-extra".to_owned(),
            dependencies: Vec::new(),
        }];
        let seen = super::check(&stray);
        assert_eq!(seen.len(), EDGES.len() + 1);
        assert!(seen.iter().any(|v| v.place == "memorygate-extra"
            && v.problem.starts_with("is not in the table of edges")));
    }

    #[test]
    fn the_output_of_cargo_is_read() {
        let packages = parse(
            r#"{"packages": [{"name": "a", "dependencies": [
                {"name": "b", "kind": null, "rename": "c"}, {"name": "d", "kind": "dev"}]}]}"#,
        );
        let dependency = |name: &str, dev| Dependency {
            name: name.to_owned(),
            dev,
        };
        let expected = Package {
            name: "a".to_owned(),
            dependencies: vec![dependency("b", false), dependency("d", true)],
        };
        assert_eq!(packages.unwrap(), [expected]);
        assert!(parse("{}").is_err());
    }
}
