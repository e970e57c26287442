//! `memorygate config`: settings as they are, as they would be, and whether they can be used.

use clap::Subcommand;

use super::{Sources, print};
use crate::settings::{Settings, to_commented_toml};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Prints all settings as a file that can be used, every key explained.
    #[command(after_help = "Examples:\n  \
        memorygate config print --defaults > memorygate.toml\n  \
        memorygate config print --config memorygate.toml   # with environment and flags applied")]
    Print {
        /// The defaults, whatever is set.
        #[arg(long)]
        defaults: bool,
        #[command(flatten)]
        sources: Sources,
    },
    /// Says whether the settings can be used.
    #[command(after_help = "Example:\n  memorygate config check --config memorygate.toml")]
    Check {
        #[command(flatten)]
        sources: Sources,
    },
}

impl Verb {
    pub(super) fn sources(&self) -> &Sources {
        match self {
            Self::Print { sources, .. } | Self::Check { sources } => sources,
        }
    }
}

pub(super) fn run(verb: &Verb, settings: &Settings) -> anyhow::Result<()> {
    match verb {
        Verb::Print { defaults: true, .. } => print(&to_commented_toml(&Settings::default())),
        Verb::Print {
            defaults: false, ..
        } => print(&to_commented_toml(settings)),
        Verb::Check { .. } => print("settings are valid\n"),
    }
}
