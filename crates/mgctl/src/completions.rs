//! `mgctl completions`: what a shell needs to complete mgctl's arguments.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{args, output::Output};

const EXAMPLES: &str = "\
Examples:
  mgctl completions bash > ~/.local/share/bash-completion/completions/mgctl
  mgctl completions zsh > ~/.zfunc/_mgctl
  mgctl completions fish > ~/.config/fish/completions/mgctl.fish";

/// Print a completion script for a shell
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    shell: Shell,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::Args::command(), "mgctl", &mut script);
    output.raw(&script)?;
    Ok(())
}
