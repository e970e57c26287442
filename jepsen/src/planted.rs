//! The harness must be able to fail: a server with a bug on purpose is put under the faults that make
//! the bug show, and must be found out; the same server without it must not.
//!
//! The bugs are in `crates/raft/src/planted.rs` and in the core's, behind the feature `planted-bugs`.

use std::path::PathBuf;

use clap::{Args, Parser};
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use crate::run::{self, Options, Verdict};

/// Tells a server which bug it has.
const VARIABLE: &str = "MEMORYGATE_PLANTED_BUG";

/// A bug and the command that catches it.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    pub name: &'static str,
    pub about: &'static str,
    /// Of `memorygate-jepsen run`.
    pub arguments: &'static str,
}

/// All bugs that a server can have.
pub const BUGS: &[Bug] = &[
    Bug {
        name: "ack-before-sync",
        about: "writes are acknowledged before they are synced",
        arguments: "--workload set --nemesis power-cut --time 30 --hold 4",
    },
    Bug {
        name: "stale-read",
        about: "a linearizable read asks nobody",
        arguments: "--workload register --nemesis leader-alone,pause --time 30 --hold 4",
    },
    Bug {
        name: "local-dedup",
        about: "only the leader remembers the answers to request ids",
        arguments: "--workload feedback --nemesis kill-one,leader-alone --time 30 --hold 4",
    },
    Bug {
        name: "local-clock",
        about: "entries are applied at the time of whoever applies them",
        arguments: "--workload set --nemesis clock --time 20 --hold 4",
    },
    Bug {
        name: "kept-identity",
        about: "a node that lost its disk comes back under its old id",
        arguments: "--workload set --nemesis amnesia --time 40 --hold 6",
    },
    Bug {
        name: "stale-plan",
        about: "steps of consolidation are done whatever has changed since they were planned",
        arguments: "--workload consolidation --nemesis kill-one,leader-alone --time 20 --hold 4",
    },
];

/// What `memorygate-jepsen planted` can be told.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// A server built with `--features memorygate-node/planted-bugs`.
    #[arg(long, value_name = "FILE", env = "MEMORYGATE_SERVER")]
    pub server: PathBuf,
    #[arg(long, value_name = "DIR", env = "MEMORYGATE_MODEL__DIR")]
    pub model_dir: Option<PathBuf>,
    /// One bug alone.
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Where each run's report goes.
    #[arg(long, value_name = "DIR", default_value = "jepsen-output/planted")]
    pub output: PathBuf,
    /// Leave out the runs without a bug, which must be valid.
    #[arg(long)]
    pub without_control: bool,
}

/// The last line of the output.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub bugs: usize,
    pub caught: usize,
    /// Runs without a bug that were found to be invalid.
    pub false_alarms: usize,
    pub missed: Vec<String>,
}

impl Summary {
    pub fn is_good(&self) -> bool {
        self.bugs > 0 && self.caught == self.bugs && self.false_alarms == 0
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// Runs each bug's command with the bug and without it.
pub async fn run(settings: &Settings) -> anyhow::Result<Summary> {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    table.set_header(["bug", "command", "found", "without it"]);
    let mut summary = Summary {
        bugs: 0,
        caught: 0,
        false_alarms: 0,
        missed: Vec::new(),
    };
    let is_chosen = |bug: &&Bug| settings.only.as_ref().is_none_or(|only| only == bug.name);
    for bug in BUGS.iter().filter(is_chosen) {
        eprintln!("== {}: {}", bug.name, bug.about);
        summary.bugs += 1;
        let found = run::run(&options(settings, bug, true)?).await?;
        let is_caught = found.lost + found.phantom + found.violations > 0;
        if is_caught {
            summary.caught += 1;
        } else {
            summary.missed.push(bug.name.to_owned());
        }
        let control = if settings.without_control {
            "not run".to_owned()
        } else {
            let control = run::run(&options(settings, bug, false)?).await?;
            summary.false_alarms += usize::from(!control.valid);
            words(&control)
        };
        table.add_row([
            bug.name.to_owned(),
            bug.arguments.to_owned(),
            words(&found),
            control,
        ]);
    }
    println!("{table}");
    Ok(summary)
}

fn words(verdict: &Verdict) -> String {
    if verdict.valid {
        return "nothing: valid".to_owned();
    }
    format!(
        "{} lost, {} phantom, {} violations: {}",
        verdict.lost,
        verdict.phantom,
        verdict.violations,
        verdict.reasons.first().map_or("", String::as_str)
    )
}

fn options(settings: &Settings, bug: &Bug, has_bug: bool) -> anyhow::Result<Options> {
    let words = ["run"].into_iter().chain(bug.arguments.split_whitespace());
    let mut options = Line::try_parse_from(words)?.options;
    options.server = Some(settings.server.clone());
    options.model_dir.clone_from(&settings.model_dir);
    options.seed = settings.seed;
    let name = if has_bug { "with" } else { "without" };
    options.output = Some(settings.output.join(format!("{}-{name}", bug.name)));
    if has_bug {
        options.environment.push(format!("{VARIABLE}={}", bug.name));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_can_be_run() {
        let settings = Settings {
            server: PathBuf::from("server"),
            model_dir: None,
            only: None,
            seed: 3,
            output: PathBuf::from("out"),
            without_control: false,
        };
        for bug in BUGS {
            let with = options(&settings, bug, true).unwrap();
            assert_eq!(with.environment, [format!("{VARIABLE}={}", bug.name)]);
            assert!(!run::nemeses(&with.nemesis, true, false).unwrap().is_empty());
            assert!(
                options(&settings, bug, false)
                    .unwrap()
                    .environment
                    .is_empty()
            );
        }
    }
}
