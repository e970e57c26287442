//! What a run leaves for people: `report.md` beside `timeline.svg`, and `verdict.json`.

pub mod timeline;

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;

use self::timeline::Timeline;
use crate::run::{Verdict, schedule::Strike};

/// Writes all of it into `directory`.
pub fn write(
    directory: &Path,
    verdict: &Verdict,
    strikes: &[Strike],
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let files = [
        ("timeline.svg", timeline.svg()),
        ("report.md", markdown(verdict, strikes)),
        ("verdict.json", serde_json::to_string_pretty(verdict)?),
    ];
    for (name, text) in files {
        fs::write(directory.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

fn markdown(verdict: &Verdict, strikes: &[Strike]) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        writeln!(out, "{text}").expect("a string takes all");
    };
    let judgement = if verdict.valid { "valid" } else { "NOT VALID" };
    line(format!(
        "# {} under {}: {judgement}",
        verdict.workload,
        verdict.nemesis.join(", ")
    ));
    line(String::new());
    line(format!(
        "{} nodes ({}), {} s, seed {}.",
        verdict.nodes, verdict.network, verdict.seconds, verdict.seed
    ));
    line(String::new());
    line("![Acknowledged operations over time](timeline.svg)".to_owned());
    line(String::new());
    line("| | |".to_owned());
    line("| --- | --- |".to_owned());
    let rows = [
        ("acknowledged", verdict.acknowledged.to_string()),
        ("unknown", verdict.unknown.to_string()),
        ("failed", verdict.failed.to_string()),
        ("lost", verdict.lost.to_string()),
        ("phantom", verdict.phantom.to_string()),
        ("violations", verdict.violations.to_string()),
        ("faults that took effect", verdict.faults.to_string()),
        (
            "recovered",
            format!("{} ({:.1} s)", verdict.recovered, verdict.recovery_s),
        ),
        (
            "longest time without an acknowledged operation",
            format!("{:.1} s", verdict.longest_gap_s),
        ),
        ("second judge", verdict.second_judge.clone()),
    ];
    let counts = verdict.counts.iter();
    let counts = counts.map(|(name, count)| (*name, count.to_string()));
    for (name, value) in rows.into_iter().chain(counts) {
        line(format!("| {name} | {value} |"));
    }
    if !verdict.reasons.is_empty() {
        line("\n## What is wrong\n".to_owned());
        for reason in &verdict.reasons {
            line(format!("- {reason}"));
        }
    }
    line("\n## Faults\n".to_owned());
    line("| from | until | fault | evidence |".to_owned());
    line("| --- | --- | --- | --- |".to_owned());
    for strike in strikes {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a run are few")]
        let seconds = |us: u64| us as f64 / 1e6;
        line(format!(
            "| {:.1} s | {:.1} s | {} | {}{} |",
            seconds(strike.from_us),
            seconds(strike.until_us),
            strike.nemesis.name(),
            if strike.is_effective { "" } else { "none: " },
            strike.text.replace('|', "/").replace('\n', " ")
        ));
    }
    out
}
