//! The server's program, for what it does to files here: what is in them is not `mgctl`'s business.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::output::Output;

const NAME: &str = "memorygate";

#[derive(clap::Args)]
pub(crate) struct ServerBinary {
    /// The server's program [default: beside mgctl, else on PATH]
    #[arg(long, env = "MEMORYGATE_SERVER_BINARY", value_name = "PATH")]
    server_binary: Option<PathBuf>,
}

/// It is neither where it was said to be, nor beside this program, nor on the path.
#[derive(Debug)]
pub(crate) struct Missing;

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no `memorygate` beside mgctl or on PATH: install it here, or say where it is with \
             --server-binary",
        )
    }
}

impl std::error::Error for Missing {}

impl ServerBinary {
    pub(crate) fn find(&self) -> Option<PathBuf> {
        if let Some(path) = &self.server_binary {
            return Some(path.clone());
        }
        let beside = env::current_exe().ok();
        let beside = beside.as_deref().and_then(Path::parent).map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        (beside.into_iter())
            .chain(env::split_paths(&path))
            .map(|directory| directory.join(NAME))
            .find(|file| file.is_file())
    }
}

/// Runs it, with what it says going where this program's words go, and returns whether it succeeded.
pub(crate) fn run(program: &Path, arguments: &[OsString], output: &Output) -> anyhow::Result<bool> {
    let mut command = Command::new(program);
    command.args(arguments);
    if output.is_json() {
        command.args(["--output", "json"]);
    }
    let status = command
        .status()
        .with_context(|| format!("run {}", program.display()))?;
    Ok(status.success())
}
