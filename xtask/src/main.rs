//! `cargo xtask tidy` and `cargo xtask coverage`.

use std::{
    env,
    io::{Write as _, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use xtask::{coverage, tidy};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy      check what compiler and linter do not: who depends on whom, names, headers, the map
  coverage  run the tests instrumented, print the share of lines run by crate, and fail where a
            held crate has less than it must
";

fn main() -> anyhow::Result<ExitCode> {
    let command = env::args().nth(1).unwrap_or_default();
    let root = root().context("find the repository")?;
    let mut out = stdout().lock();
    match command.as_str() {
        "tidy" => {
            let violations = tidy::check(&root).context("check the repository")?;
            for violation in &violations {
                writeln!(out, "{violation}")?;
            }
            writeln!(out, "tidy: {} violations", violations.len())?;
            Ok(ExitCode::from(u8::from(!violations.is_empty())))
        }
        "coverage" => {
            let report = coverage::measure(&root).context("measure coverage")?;
            write!(out, "{report}")?;
            Ok(ExitCode::from(u8::from(!report.is_enough())))
        }
        _ => {
            write!(out, "{USAGE}")?;
            Ok(ExitCode::from(2))
        }
    }
}

/// The directory above this crate's, as cargo names it at run time: a path fixed when this was
/// compiled would be wrong after the checkout moved.
fn root() -> anyhow::Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("run this by `cargo xtask`")?;
    let mut root = PathBuf::from(manifest);
    root.pop();
    Ok(root)
}
