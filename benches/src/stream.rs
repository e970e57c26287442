//! `stream`: does an agent decide better with what it has learned?
//!
//! Tasks come in the order of time. For each an action is predicted, then the outcome is learned: which
//! action was right (`full`), or only whether the predicted one was (`binary`). Beside the shipped
//! case-based agent with its defaults stand three that need less: the action that was right most often
//! so far (told every right action), the action whose name is nearest to the task (without memory), and
//! the action of the nearest past case by vector alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum, ValueHint};
use memorygate_agents::{
    Action, CaseBased, MemoryEnabledAgent, Outcome, Performed, Task, evidence::ACTION_METADATA,
};
use memorygate_client::{
    Client, Filter, LearningContext, Recall, TimeMs, interaction::VERDICT_METADATA,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    dialogue::lines,
    options::Options,
    progress::Progress,
    report::{Report, Table, rounded},
    retriever::Retriever,
    server::Server,
    teach::{connect, run_suffix},
};

/// The domain of all tasks.
const DOMAIN: &str = "stream";

/// Samples with replacement of which the confidence interval is made.
const BOOTSTRAP_SAMPLES: usize = 2_000;

/// Parts of confidence in which it is compared with the share that was right.
const CALIBRATION_BINS: usize = 10;

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Files of tasks, JSON Lines with `task`, `action` and `at` in seconds; otherwise those of `--data`.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// What is learned after a decision.
    #[arg(long, value_enum, default_value_t = Feedback::Full)]
    feedback: Feedback,
    /// Tasks of each file, from its beginning.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Feedback {
    /// Which action was right.
    Full,
    /// Whether the action was right.
    Binary,
}

#[derive(Clone, Debug, Deserialize)]
struct Line {
    #[serde(default)]
    at: i64,
    task: String,
    action: String,
}

/// Who decided what was right: `true` by task.
#[derive(Clone, Debug, Default)]
struct Decided {
    agent: Vec<bool>,
    zero_shot: Vec<bool>,
    nearest: Vec<bool>,
    majority: Vec<bool>,
    /// The agent's confidence in what it chose.
    confidence: Vec<f64>,
    abstained: Vec<bool>,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let files = files(options, arguments)?;
    let server = Server::start(options).await?;
    let mut decided = Vec::new();
    for file in &files {
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut tasks: Vec<Line> = lines(file)?;
        tasks.truncate(arguments.limit.unwrap_or(usize::MAX));
        ensure!(!tasks.is_empty(), "{} holds no task", file.display());
        // Files may have names that a namespace must not have, so they are numbered.
        let namespace = format!("stream-{}{}", decided.len(), run_suffix(&server));
        let client = connect(&server)?.in_namespace(&namespace);
        decided.push((
            name.clone(),
            decide(&client, &name, &tasks, arguments.feedback).await?,
        ));
    }
    Ok(report(options, arguments.feedback, &decided))
}

/// The named files, or all of the data that hold tasks with actions.
fn files(options: &Options, arguments: &Arguments) -> anyhow::Result<Vec<PathBuf>> {
    if !arguments.files.is_empty() {
        return Ok(arguments.files.clone());
    }
    let Some(dir) = &options.data else {
        bail!("name a FILE of tasks, or a folder of them with --data");
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "jsonl") && is_of_tasks(&path)? {
            files.push(path);
        }
    }
    files.sort();
    ensure!(
        !files.is_empty(),
        "{} holds no file of tasks",
        dir.display()
    );
    Ok(files)
}

fn is_of_tasks(path: &Path) -> anyhow::Result<bool> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let first = text.lines().next().unwrap_or_default();
    Ok(serde_json::from_str::<Line>(first).is_ok())
}

async fn decide(
    client: &Client,
    name: &str,
    lines: &[Line],
    feedback: Feedback,
) -> anyhow::Result<Decided> {
    let actions: BTreeSet<&str> = lines.iter().map(|line| line.action.as_str()).collect();
    let agent = MemoryEnabledAgent::new(Arc::new(client.clone()), Arc::new(CaseBased::default()));
    let mut decided = Decided::default();
    let mut right_so_far: BTreeMap<&str, usize> = BTreeMap::new();
    let mut progress = Progress::new(format!("decide, {name}"), lines.len());
    for line in lines {
        let context = LearningContext::new(&line.task)
            .domain(DOMAIN)
            .agent("stream");
        let mut task = Task::new(context).at(TimeMs(line.at * 1_000));
        task.actions = actions.iter().map(|action| Action::new(*action)).collect();
        let performed = agent.perform(&task).await.context("decide")?;
        let best = performed.decision.best().context("no decision")?;
        let is_right = best.action == line.action;
        decided.agent.push(is_right);
        decided.confidence.push(f64::from(best.confidence));
        decided.abstained.push(performed.decision.abstained);
        decided
            .zero_shot
            .push(zero_shot(&performed) == Some(line.action.as_str()));
        decided
            .nearest
            .push(nearest(client, &line.task).await? == Some(line.action.clone()));
        let most = right_so_far
            .iter()
            .max_by_key(|(action, count)| (**count, *action));
        decided
            .majority
            .push(most.is_some_and(|(action, _)| *action == line.action));

        let outcome = match feedback {
            Feedback::Full => Outcome::succeeded("").right_was(&line.action),
            Feedback::Binary if is_right => Outcome::succeeded(""),
            Feedback::Binary => Outcome::failed(""),
        };
        let concluded = agent.conclude(&task, &performed, &outcome).await;
        concluded.context("learn the outcome")?;
        *right_so_far.entry(line.action.as_str()).or_default() += 1;
        progress.add(1);
    }
    progress.finish();
    Ok(decided)
}

/// The action whose name is nearest to the task.
fn zero_shot(performed: &Performed) -> Option<&str> {
    let known = performed.evidence.known.iter();
    let best = known.max_by(|a, b| a.similarity.total_cmp(&b.similarity));
    best.map(|known| known.action.as_str())
}

/// What worked in the nearest case by vector alone.
async fn nearest(client: &Client, task: &str) -> anyhow::Result<Option<String>> {
    let worked = Filter::new()
        .domain(DOMAIN)
        .metadata(VERDICT_METADATA, "success");
    let recall = Retriever::Vector.of(Recall::new(task).limit(1).filter(worked));
    let found = client.recall(&recall).await.context("recall by vector")?;
    let memory = found
        .results
        .into_iter()
        .next()
        .map(|recalled| recalled.memory);
    Ok(memory.and_then(|memory| memory.metadata.get(ACTION_METADATA).cloned()))
}

/// How much better one was than the other, as a share of the other; with the 95 % confidence interval of
/// it by the percentile bootstrap over tasks (Efron and Tibshirani, "An Introduction to the Bootstrap",
/// 1993, chapter 13).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Gain {
    gain: f64,
    low: f64,
    high: f64,
}

impl Gain {
    fn of(with: &[bool], without: &[bool], seed: u64) -> Self {
        let gain = |with: usize, without: usize| {
            // Where the other was never right, each success counts as one whole gain.
            if without == 0 {
                with as f64
            } else {
                with as f64 / without as f64 - 1.0
            }
        };
        let mut rng = StdRng::seed_from_u64(seed);
        let mut sampled: Vec<f64> = (0..BOOTSTRAP_SAMPLES)
            .map(|_| {
                let (mut a, mut b) = (0, 0);
                for _ in 0..with.len() {
                    let at = rng.random_range(0..with.len());
                    a += usize::from(with[at]);
                    b += usize::from(without[at]);
                }
                gain(a, b)
            })
            .collect();
        sampled.sort_by(f64::total_cmp);
        let at = |share: f64| sampled[((BOOTSTRAP_SAMPLES - 1) as f64 * share).round() as usize];
        Self {
            gain: gain(count(with), count(without)),
            low: at(0.025),
            high: at(0.975),
        }
    }
}

fn count(right: &[bool]) -> usize {
    right.iter().filter(|right| **right).count()
}

fn share(right: &[bool]) -> f64 {
    if right.is_empty() {
        0.0
    } else {
        count(right) as f64 / right.len() as f64
    }
}

/// The share of each quarter of the tasks, in time order.
fn by_quarter(right: &[bool]) -> [f64; 4] {
    let n = right.len();
    std::array::from_fn(|quarter| share(&right[n * quarter / 4..n * (quarter + 1) / 4]))
}

/// Expected calibration error: how far confidence and the share that was right are apart, by parts of
/// equal width, each weighted by its size (Guo et al., "On Calibration of Modern Neural Networks", 2017).
fn calibration_error(confidence: &[f64], right: &[bool]) -> f64 {
    let mut bins = [(0.0, 0.0); CALIBRATION_BINS];
    for (confidence, right) in confidence.iter().zip(right) {
        let at = ((confidence * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1);
        bins[at].0 += confidence;
        bins[at].1 += f64::from(u8::from(*right));
    }
    bins.iter()
        .map(|(sure, right)| (sure - right).abs())
        .sum::<f64>()
        / right.len().max(1) as f64
}

fn report(options: &Options, feedback: Feedback, files: &[(String, Decided)]) -> Report {
    let mut report = Report::new("stream");
    let mut table = Table::new(
        "Share of tasks whose action was predicted, and the gain over the nearest name",
        [
            "",
            "tasks",
            "majority",
            "by name",
            "by vector",
            "agent",
            "gain",
            "95 %",
        ],
    );
    let mut quarters = Table::new(
        "The agent by quarter of the tasks, in the order of time",
        [
            "",
            "1st",
            "2nd",
            "3rd",
            "4th",
            "right where it was sure enough",
            "calibration error",
        ],
    );
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let mut by_file = serde_json::Map::new();
    let mut least: Option<(&Decided, Gain)> = None;
    for (name, decided) in files {
        let gain = Gain::of(&decided.agent, &decided.zero_shot, options.seed);
        table.row([
            name.clone(),
            decided.agent.len().to_string(),
            percent(share(&decided.majority)),
            percent(share(&decided.zero_shot)),
            percent(share(&decided.nearest)),
            percent(share(&decided.agent)),
            format!("{:+.0} %", gain.gain * 100.0),
            format!("{:+.0} to {:+.0}", gain.low * 100.0, gain.high * 100.0),
        ]);
        let quarter = by_quarter(&decided.agent);
        let sure: Vec<bool> = decided
            .agent
            .iter()
            .zip(&decided.abstained)
            .filter_map(|(right, abstained)| (!abstained).then_some(*right))
            .collect();
        let calibration = calibration_error(&decided.confidence, &decided.agent);
        let mut row = vec![name.clone()];
        row.extend(quarter.map(percent));
        let of = percent(sure.len() as f64 / decided.agent.len() as f64);
        row.push(format!("{} of {of}", percent(share(&sure))));
        row.push(format!("{calibration:.3}"));
        quarters.row(row);
        by_file.insert(name.clone(), figures(decided, gain, calibration));
        if least.is_none_or(|(_, of)| gain.gain < of.gain) {
            least = Some((decided, gain));
        }
    }
    let (decided, gain) = least.expect("at least one file was asked for");
    let feedback = match feedback {
        Feedback::Full => "full",
        Feedback::Binary => "binary",
    };
    report.value("feedback", json!(feedback));
    report.number("accuracy", share(&decided.agent));
    report.number("zero_shot", share(&decided.zero_shot));
    report.number("relative_gain", gain.gain);
    report.number("gain_low", gain.low);
    report.number("gain_high", gain.high);
    report.value("files", Value::Object(by_file));
    report.table(table);
    report.table(quarters);
    if files.len() > 1 {
        report
            .note("The figures at the top of the JSON object are of the file with the least gain.");
    }
    report
}

fn figures(decided: &Decided, gain: Gain, calibration: f64) -> Value {
    json!({
        "tasks": decided.agent.len(),
        "accuracy": rounded(share(&decided.agent)),
        "accuracy_by_quarter": by_quarter(&decided.agent).map(rounded),
        "zero_shot": rounded(share(&decided.zero_shot)),
        "nearest_by_vector": rounded(share(&decided.nearest)),
        "majority": rounded(share(&decided.majority)),
        "relative_gain": rounded(gain.gain),
        "gain_low": rounded(gain.low),
        "gain_high": rounded(gain.high),
        "absolute_gain": rounded(share(&decided.agent) - share(&decided.zero_shot)),
        "abstained": rounded(share(&decided.abstained)),
        "calibration_error": rounded(calibration),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(pattern: &str) -> Vec<bool> {
        pattern.chars().map(|c| c == 'x').collect()
    }

    #[test]
    fn a_gain_is_relative_and_its_interval_holds_it() {
        let with = right(&"xxx.".repeat(50));
        let without = right(&"x...".repeat(50));
        let gain = Gain::of(&with, &without, 1);
        assert_eq!(gain.gain, 2.0);
        assert!(
            gain.low > 1.0 && gain.low < 2.0 && gain.high > 2.0,
            "{gain:?}"
        );
        assert_eq!(
            gain,
            Gain::of(&with, &without, 1),
            "the same seed, the same interval"
        );
        let same = Gain::of(&with, &with, 1);
        assert_eq!((same.gain, same.low, same.high), (0.0, 0.0, 0.0));
        assert_eq!(Gain::of(&with, &right(&"....".repeat(50)), 1).gain, 150.0);
    }

    #[test]
    fn quarters_cover_every_task_once() {
        assert_eq!(by_quarter(&right("xx..x.x..")), [1.0, 0.0, 0.5, 1.0 / 3.0]);
        assert_eq!(by_quarter(&right("x")), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn confidence_that_is_met_has_no_error() {
        assert!(calibration_error(&[0.75; 4], &right("xxx.")) < 1e-9);
        assert!((calibration_error(&[1.0; 4], &right("xx..")) - 0.5).abs() < 1e-9);
        assert!(calibration_error(&[1.0, 0.0], &right("x.")) < 1e-9);
    }
}
