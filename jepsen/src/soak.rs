//! The long run: every workload under every nemesis alone, and under all of them mixed.

use std::path::PathBuf;

use clap::{Args, Parser};
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use crate::{
    cluster::namespaces,
    nemesis::Nemesis,
    run::{self, Load, Options},
};

/// Share of a workload's time that is for the mix; the rest is divided among the others.
const MIX_PERCENT: u64 = 30;

/// A shorter run hardly breaks anything.
const RUN_SECONDS_MIN: u64 = 15;

/// What `memorygate-jepsen soak` can be told.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    #[arg(long, value_name = "FILE", env = "MEMORYGATE_SERVER")]
    pub server: Option<PathBuf>,
    /// A server that reads a newer format of the log, for `upgrade`; the `memorygate-next-format`
    /// beside this program, if there is one and none is given.
    #[arg(long, value_name = "FILE", env = "MEMORYGATE_NEWER_SERVER")]
    pub newer_server: Option<PathBuf>,
    #[arg(long, value_name = "DIR", env = "MEMORYGATE_MODEL__DIR")]
    pub model_dir: Option<PathBuf>,
    /// Minutes under load for each workload, all its runs together.
    #[arg(long, default_value_t = 10, value_name = "M")]
    pub minutes: u64,
    /// These workloads alone; all of them if none is named.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,...")]
    pub workload: Vec<Load>,
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub nodes: usize,
    /// Where each run's report goes.
    #[arg(long, value_name = "DIR", default_value = "jepsen-output/soak")]
    pub output: PathBuf,
}

/// The last line of the output.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub runs: usize,
    pub valid: usize,
    pub seconds: u64,
    pub acknowledged: u64,
    pub unknown: u64,
    pub lost: u64,
    pub phantom: u64,
    pub violations: u64,
    pub faults: u64,
    /// Runs that were not valid, or could not be made.
    pub failed: Vec<String>,
}

impl Summary {
    pub fn is_good(&self) -> bool {
        self.runs > 0 && self.valid == self.runs
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// Runs all of them, one after another, and prints a table.
pub async fn run(settings: &Settings) -> anyhow::Result<Summary> {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "workload",
        "nemesis",
        "s",
        "acknowledged",
        "unknown",
        "lost",
        "phantom",
        "violations",
        "faults",
        "longest gap",
        "recovered in",
        "valid",
    ]);
    let has_newer_server = run::newer_server(settings.newer_server.as_deref())?.is_some();
    let nemeses = run::nemeses(
        &["mix".to_owned()],
        namespaces::are_possible(),
        has_newer_server,
    )?;
    let loads = if settings.workload.is_empty() {
        Load::all()
    } else {
        &settings.workload
    };
    let mut summary = Summary::default();
    for load in loads {
        for (nemesis, seconds) in turns(&nemeses, settings.minutes) {
            let name = format!("{} under {nemesis}", load.name());
            eprintln!("== {name}");
            summary.runs += 1;
            let verdict = match run::run(&options(settings, *load, &nemesis, seconds)?).await {
                Ok(verdict) => verdict,
                Err(error) => {
                    eprintln!("{name}: {error:#}");
                    summary.failed.push(format!("{name}: {error:#}"));
                    continue;
                }
            };
            for reason in &verdict.reasons {
                eprintln!("wrong: {reason}");
            }
            summary.valid += usize::from(verdict.valid);
            summary.seconds += seconds;
            summary.acknowledged += verdict.acknowledged;
            summary.unknown += verdict.unknown;
            summary.lost += verdict.lost;
            summary.phantom += verdict.phantom;
            summary.violations += verdict.violations;
            summary.faults += verdict.faults;
            if !verdict.valid {
                summary.failed.push(name);
            }
            table.add_row([
                load.name().to_owned(),
                nemesis,
                seconds.to_string(),
                verdict.acknowledged.to_string(),
                verdict.unknown.to_string(),
                verdict.lost.to_string(),
                verdict.phantom.to_string(),
                verdict.violations.to_string(),
                verdict.faults.to_string(),
                format!("{:.1} s", verdict.longest_gap_s),
                format!("{:.1} s", verdict.recovery_s),
                verdict.valid.to_string(),
            ]);
        }
    }
    println!("{table}");
    Ok(summary)
}

/// Each nemesis alone and the mix, with their seconds.
fn turns(nemeses: &[Nemesis], minutes: u64) -> Vec<(String, u64)> {
    let seconds = minutes * 60;
    let mix = (seconds * MIX_PERCENT / 100).max(RUN_SECONDS_MIN);
    let alone = (seconds - seconds * MIX_PERCENT / 100).div_ceil(nemeses.len().max(1) as u64);
    let alone = alone.max(RUN_SECONDS_MIN);
    let mut turns: Vec<(String, u64)> = nemeses.iter().map(|n| (n.name(), alone)).collect();
    turns.push(("mix".to_owned(), mix));
    turns
}

fn options(
    settings: &Settings,
    load: Load,
    nemesis: &str,
    seconds: u64,
) -> anyhow::Result<Options> {
    let mut options = Line::try_parse_from(["run", "--workload", load.name()])?.options;
    options.nemesis = vec![nemesis.to_owned()];
    options.time = seconds;
    options.seed = settings.seed;
    options.nodes = settings.nodes;
    options.server.clone_from(&settings.server);
    options.newer_server.clone_from(&settings.newer_server);
    options.model_dir.clone_from(&settings.model_dir);
    options.output = Some(settings.output.join(format!("{}-{nemesis}", load.name())));
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_gets_its_minutes() {
        let turns = turns(Nemesis::all(), 10);
        assert_eq!(turns.len(), Nemesis::all().len() + 1);
        let seconds: u64 = turns.iter().map(|(_, seconds)| seconds).sum();
        assert!(seconds >= 600, "{seconds}");
        assert_eq!(turns.last(), Some(&("mix".to_owned(), 180)));
    }
}
