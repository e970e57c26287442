//! What every bench takes.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Where the model lies in a checkout after `make setup`.
const MODEL_OF_SETUP: &str = ".model/all-MiniLM-L6-v2";

/// Where `memorygate model fetch` puts it, below the home directory.
const MODEL_OF_USER: &str = ".cache/memorygate/all-MiniLM-L6-v2";

/// Options before or after the bench's name.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// Measure the server that runs here instead of starting one.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The server's binary; otherwise the one beside this program, built by cargo if need be.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) server: Option<PathBuf>,
    /// Where the files of all-MiniLM-L6-v2 are; otherwise `.model/all-MiniLM-L6-v2` if it is there,
    /// or else `~/.cache/memorygate/all-MiniLM-L6-v2`.
    #[arg(long, global = true, value_name = "DIR", env = "MEMORYGATE_MODEL__DIR")]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) model_dir: Option<PathBuf>,
    /// Where the started server's data directory is made; otherwise where the system puts temporary
    /// files. A file system in memory makes every sync free.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scratch: Option<PathBuf>,
    /// The files that the bench reads.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    /// Of everything that is drawn at random: texts, vectors, the moments of kills.
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the JSON object of the last line to this file, too.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

impl Options {
    /// Where the model should be.
    pub(crate) fn model_dir(&self) -> PathBuf {
        if let Some(dir) = &self.model_dir {
            return dir.clone();
        }
        let of_setup = PathBuf::from(MODEL_OF_SETUP);
        match std::env::home_dir() {
            Some(home) if !of_setup.is_dir() => home.join(MODEL_OF_USER),
            Some(_) | None => of_setup,
        }
    }
}
