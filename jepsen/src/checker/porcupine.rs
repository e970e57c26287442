//! A second, independent judge of register histories: a Go program on Porcupine, which reads what was
//! written out for everybody.
//!
//! It is built when it is needed, by the Go toolchain if there is one; a run without it says so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// The program's files; it is built wherever this program runs.
const FILES: &[(&str, &str)] = &[
    ("main.go", include_str!("../../porcupine/main.go")),
    ("go.mod", include_str!("../../porcupine/go.mod")),
    ("go.sum", include_str!("../../porcupine/go.sum")),
];

/// Where distributions and the Go project put the toolchain, if it is not on the path.
const GO: &[&str] = &["go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go"];

/// What the second judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Second {
    Judged(Judged),
    /// Why there is none.
    Absent(String),
}

/// The judgement over all keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Judged {
    pub keys: u64,
    /// Keys whose histories are not linearizable, or could not be decided.
    pub illegal: Vec<u64>,
}

/// Judges a history that was written as JSON Lines.
pub fn judge(history: &Path) -> anyhow::Result<Second> {
    let program = match build() {
        Ok(program) => program,
        Err(error) => return Ok(Second::Absent(format!("{error:#}"))),
    };
    let output = Command::new(&program.path)
        .arg(history)
        .stdin(Stdio::null())
        .output()
        .context("run the second judge")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the second judge ended with {}: {words}",
        output.status
    );
    let judged = serde_json::from_slice(&output.stdout).context("read the second judge's words")?;
    Ok(Second::Judged(judged))
}

struct Program {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

fn build() -> anyhow::Result<Program> {
    let go = GO.iter().find(|go| {
        let version = Command::new(go)
            .arg("version")
            .stdout(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    });
    let go = go.context("there is no Go toolchain (Debian: golang-go)")?;
    let directory = tempfile::tempdir().context("make a directory")?;
    for (name, text) in FILES {
        fs::write(directory.path().join(name), text).context("write the second judge's source")?;
    }
    let path = directory.path().join("porcupine");
    let output = Command::new(go)
        .args(["build", "-o"])
        .arg(&path)
        .arg(".")
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .context("run go build")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "go build ended with {}: {words}",
        output.status
    );
    Ok(Program {
        path,
        _directory: directory,
    })
}
