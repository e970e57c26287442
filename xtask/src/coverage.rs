//! The share of lines that the tests run, by crate.
//!
//! ```text
//! cargo test, with scripts/instrument as the wrapper of rustc ─▶ profiles, one a test binary
//! llvm-profdata merge ─▶ llvm-cov export ─▶ lines ─▶ Report
//! ```
//!
//! `cargo llvm-cov` measures the same by the same tools, but what it compiles cannot be told by
//! cargo from an ordinary build, so it needs a target directory of its own, and with it RocksDB and
//! FAISS compiled a second time. Lines of tests themselves do not count here.

mod lines;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use self::lines::Lines;

/// Directories of crates that must have [`PERCENT_MIN`] of their lines run.
const HELD: &[&str] = &[
    "crates/client",
    "crates/core",
    "crates/index",
    "crates/raft",
];

const PERCENT_MIN: f64 = 85.0;

/// Tests left out here. A line's counter is an atomic addition, so that the innermost loops of the
/// model take some hundred times as long; these embed so much that each would run for many minutes.
/// What they run is run by other tests as well.
const TOO_SLOW: &[&str] = &[
    "any_text_has_a_valid_embedding",
    "states_have_the_same_bits_in_any_batch_with_any_threads_at_any_level",
    "the_longest_and_worst_text_is_covered_to_its_end",
    "the_same_text_has_the_same_bits_in_any_batch_and_with_any_threads",
];

/// Files with the most lines never run that a report names.
const WORST: usize = 10;

/// Debian's major versions of LLVM that are looked for, the newest first. 19 is the oldest that
/// reads the profiles of the compiler that this workspace asks for.
const LLVM_VERSIONS: std::ops::RangeInclusive<u32> = 19..=30;

/// Lines run, by crate and by file.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// By the crate's directory.
    crates: BTreeMap<String, Lines>,
    /// By path from the root.
    files: BTreeMap<String, Lines>,
}

impl Report {
    fn of(files: BTreeMap<String, Lines>) -> Self {
        let mut crates: BTreeMap<String, Lines> = BTreeMap::new();
        for (path, lines) in &files {
            let directory = path
                .split_once("/src/")
                .map_or("", |(directory, _)| directory);
            crates.entry(directory.to_owned()).or_default().add(*lines);
        }
        Self { crates, files }
    }

    /// Whether every held crate has what it must.
    pub fn is_enough(&self) -> bool {
        HELD.iter().all(|held| {
            self.crates
                .get(*held)
                .is_some_and(|lines| lines.percent() >= PERCENT_MIN)
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>8} {:>8} {:>8}  must",
            "crate", "lines", "run", "share"
        )?;
        let held: BTreeSet<&str> = HELD.iter().copied().collect();
        let measured = self.crates.keys().map(String::as_str);
        let all: BTreeSet<&str> = held.iter().copied().chain(measured).collect();
        for directory in all {
            let lines = self.crates.get(directory).copied().unwrap_or_default();
            let percent = lines.percent();
            let verdict = match (held.contains(directory), percent >= PERCENT_MIN) {
                (true, true) => format!("{PERCENT_MIN} %"),
                (true, false) => format!("{PERCENT_MIN} %, too little"),
                (false, _) => "-".to_owned(),
            };
            let Lines { all, run } = lines;
            writeln!(
                f,
                "{directory:<16} {all:>8} {run:>8} {percent:>6.1} %  {verdict}"
            )?;
        }
        let mut worst: Vec<(&String, &Lines)> = self.files.iter().collect();
        worst.sort_by_key(|(path, lines)| (std::cmp::Reverse(lines.not_run()), *path));
        writeln!(f, "\nmost lines never run")?;
        for (path, lines) in worst.iter().take(WORST).filter(|(_, l)| l.not_run() > 0) {
            writeln!(f, "{:>8}  {path}", lines.not_run())?;
        }
        Ok(())
    }
}

/// Runs the tests of the workspace instrumented, those of [`TOO_SLOW`] aside, and doc tests: rustdoc
/// compiles these itself.
pub fn measure(root: &Path) -> anyhow::Result<Report> {
    let report = measure_instrumented(root);
    // The tests' programs lie where users look for the ordinary ones, and count, slowly. Those are
    // still there: put them back, but not before the counts of the others were read.
    let restored = cargo(root)
        .args(["build", "--release", "--workspace", "--quiet"])
        .status()
        .context("put the programs back")?;
    let report = report?;
    ensure!(
        restored.success(),
        "the programs could not be put back: {restored}"
    );
    Ok(report)
}

fn measure_instrumented(root: &Path) -> anyhow::Result<Report> {
    let tools = Tools::find(root)?;
    let target = target_directory(root).context("find the target directory")?;
    let directory = target.join("coverage");
    let profiles = directory.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles).context("remove the last run's profiles")?;
    }
    fs::create_dir_all(&profiles).context("make the directory for profiles")?;

    let built = cargo_test(root, &profiles)
        .args(["--no-run", "--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("compile the tests")?;
    ensure!(
        built.status.success(),
        "the tests do not compile: {}",
        built.status
    );
    let objects = executables(&String::from_utf8_lossy(&built.stdout));
    ensure!(!objects.is_empty(), "cargo named no test binary");

    let status = cargo_test(root, &profiles)
        .arg("--")
        .args(TOO_SLOW.iter().flat_map(|test| ["--skip", test]))
        .status()
        .context("run the tests")?;
    ensure!(status.success(), "tests failed: {status}");

    let merged = directory.join("merged.profdata");
    tools.merge(&profiles, &merged)?;
    let export = tools.export(&merged, &objects)?;
    read(root, &export)
}

/// Lines by file, for the sources of the workspace alone.
fn read(root: &Path, export: &str) -> anyhow::Result<Report> {
    let mut files = BTreeMap::new();
    for (path, counts) in lines::parse(export).context("read the output of llvm-cov")? {
        let Ok(path) = Path::new(&path).strip_prefix(root) else {
            continue;
        };
        let name = path.to_string_lossy().into_owned();
        if !name.contains("/src/") || lines::is_test_file(&name) {
            continue;
        }
        let text = fs::read_to_string(root.join(path)).with_context(|| format!("read {name}"))?;
        files.insert(name, lines::count(&counts, &text));
    }
    Ok(Report::of(files))
}

/// Everything by `--workspace`, as all the other targets do: a subset would ask for other features
/// of dependencies and compile those anew.
fn cargo_test(root: &Path, profiles: &Path) -> Command {
    let mut command = cargo(root);
    command
        .args([
            "test",
            "--release",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
        ])
        .env("RUSTC_WORKSPACE_WRAPPER", root.join("scripts/instrument"))
        // One file a process and binary: a server that a test kills leaves none, and harms none.
        .env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
    command
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // What cargo set for this very program is not for the tests.
    for (name, _) in env::vars_os() {
        let own = name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR";
        if own {
            command.env_remove(name);
        }
    }
    command
}

/// The programs that cargo says it built.
fn executables(messages: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    };
    let found: BTreeSet<PathBuf> = messages.lines().filter_map(path).collect();
    found.into_iter().collect()
}

fn target_directory(root: &Path) -> anyhow::Result<PathBuf> {
    let output = cargo(root)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let directory = metadata["target_directory"].as_str();
    Ok(directory.context("cargo named no target directory")?.into())
}

/// LLVM's two programs that read profiles.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    /// As the environment says; or rustup's, which fit the compiler; or Debian's.
    fn find(root: &Path) -> anyhow::Result<Self> {
        if let (Some(profdata), Some(cov)) = (env::var_os("LLVM_PROFDATA"), env::var_os("LLVM_COV"))
        {
            return Ok(Self {
                profdata: profdata.into(),
                cov: cov.into(),
            });
        }
        let libraries = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--print", "target-libdir"])
            .current_dir(root)
            .output()
            .context("ask rustc for its directory")?;
        let libraries = PathBuf::from(String::from_utf8_lossy(&libraries.stdout).trim());
        let debian = LLVM_VERSIONS
            .rev()
            .map(|v| PathBuf::from(format!("/usr/lib/llvm-{v}/bin")));
        for directory in libraries
            .parent()
            .map(|d| d.join("bin"))
            .into_iter()
            .chain(debian)
        {
            let tools = Self {
                profdata: directory.join("llvm-profdata"),
                cov: directory.join("llvm-cov"),
            };
            if tools.profdata.exists() && tools.cov.exists() {
                return Ok(tools);
            }
        }
        bail!(
            "no llvm-cov and llvm-profdata: type `make coverage`, which installs them, or name them \
             by LLVM_COV and LLVM_PROFDATA"
        )
    }

    fn merge(&self, profiles: &Path, merged: &Path) -> anyhow::Result<()> {
        // A process that was killed while it wrote its profile leaves half of one: `all` takes the
        // others.
        let output = Command::new(&self.profdata)
            .args(["merge", "--sparse", "--failure-mode=all", "--output"])
            .arg(merged)
            .arg(profiles)
            .output()
            .with_context(|| format!("run {}", self.profdata.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "llvm-profdata failed: {said}");
        Ok(())
    }

    fn export(&self, merged: &Path, objects: &[PathBuf]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.cov);
        command
            .args(["export", "--format=lcov", "--skip-functions"])
            .arg(format!("--instr-profile={}", merged.display()));
        for object in objects {
            command.arg("--object").arg(object);
        }
        let output = command
            .output()
            .with_context(|| format!("run {}", self.cov.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "llvm-cov failed: {said}");
        String::from_utf8(output.stdout).context("read the output of llvm-cov as UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::Tree;

    fn report(files: &[(&str, u64, u64)]) -> Report {
        let file = |(path, all, run): &(&str, u64, u64)| {
            (
                (*path).to_owned(),
                Lines {
                    all: *all,
                    run: *run,
                },
            )
        };
        Report::of(files.iter().map(file).collect())
    }

    #[test]
    fn a_held_crate_below_the_bound_fails() {
        let others = [
            ("crates/client/src/a.rs", 100, 85),
            ("crates/index/src/a.rs", 100, 100),
            ("crates/raft/src/a.rs", 100, 90),
            ("crates/node/src/a.rs", 100, 0),
        ];
        let with_core = |run| {
            let core = [
                ("crates/core/src/a.rs", 60, 60),
                ("crates/core/src/b/c.rs", 40, run),
            ];
            report(&[&others[..], &core].concat())
        };
        assert!(with_core(25).is_enough());
        assert!(!with_core(24).is_enough());
        assert!(
            !report(&others).is_enough(),
            "a crate without lines was not measured"
        );
    }

    #[test]
    fn the_table_names_what_is_missing() {
        let files = [
            ("crates/core/src/a.rs", 200, 100),
            ("crates/core/src/b.rs", 200, 199),
            ("crates/index/src/a.rs", 10, 10),
            ("proto/src/a.rs", 4, 3),
        ];
        assert_eq!(
            report(&files).to_string(),
            "\
crate               lines      run    share  must
crates/client           0        0    0.0 %  85 %, too little
crates/core           400      299   74.8 %  85 %, too little
crates/index           10       10  100.0 %  85 %
crates/raft             0        0    0.0 %  85 %, too little
proto                   4        3   75.0 %  -

most lines never run
     100  crates/core/src/a.rs
       1  crates/core/src/b.rs
       1  proto/src/a.rs
"
        );
    }

    #[test]
    fn the_tests_that_are_left_out_exist() {
        let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
        let tree = Tree::read(manifest.parent().unwrap()).unwrap();
        for test in TOO_SLOW {
            let function = format!("fn {test}(");
            assert!(
                tree.rust().any(|file| file.text.contains(&function)),
                "there is no test {test}"
            );
        }
    }

    #[test]
    fn programs_are_taken_from_cargos_messages() {
        let messages = "{\"executable\": \"b\"}\n{\"executable\": null}\nnoise\n\
                        {\"executable\": \"a\"}\n{\"executable\": \"b\"}";
        assert_eq!(
            executables(messages),
            [PathBuf::from("a"), PathBuf::from("b")]
        );
    }
}
