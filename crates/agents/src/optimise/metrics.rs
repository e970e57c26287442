//! What was measured: `kubectl top pods`, and answers of the HTTP API of Prometheus (`query`, `query_range`).
//!
//! Of each series its peak, its mean and its growth are kept, so that memory does not grow with the time that
//! was measured. A series is of a workload by its pod, or by a label that names the workload.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{quantity, workload::Workload};

/// Bytes of one file of metrics.
pub const METRICS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Series of all files.
pub const SERIES_MAX: usize = 20_000;
/// Rows of one table of `kubectl top`.
const ROWS_MAX: usize = 20_000;

/// What a series measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Cores.
    Cpu,
    /// Bytes.
    Memory,
    /// The share of periods in which a container waited for the processor, 0 to 1.
    Throttling,
    /// How often a container was started again.
    Restarts,
    /// Seconds.
    Latency,
    /// The share of requests that failed, 0 to 1.
    Errors,
    /// 1 where a container was last ended for want of memory.
    OutOfMemory,
    /// Counters of which [`Self::Throttling`] is made.
    Throttled,
    Periods,
}

/// What a metric is called, what it measures and whether it only ever grows.
const NAMES: &[(&str, Measure, bool)] = &[
    ("container_memory_working_set_bytes", Measure::Memory, false),
    ("container_cpu_usage_seconds_total", Measure::Cpu, true),
    (
        "container_cpu_cfs_throttled_periods_total",
        Measure::Throttled,
        true,
    ),
    ("container_cpu_cfs_periods_total", Measure::Periods, true),
    (
        "kube_pod_container_status_restarts_total",
        Measure::Restarts,
        true,
    ),
    (
        "kube_pod_container_status_last_terminated_reason",
        Measure::OutOfMemory,
        false,
    ),
];

/// Columns that `kubectl top nodes` alone has; older versions write them without brackets.
const SHARES: &[&str] = &["CPU(%)", "MEMORY(%)", "CPU%", "MEMORY%"];

/// What a caller may say that a file measures.
const KINDS: &[(&str, Measure)] = &[
    ("cpu", Measure::Cpu),
    ("memory", Measure::Memory),
    ("throttling", Measure::Throttling),
    ("restarts", Measure::Restarts),
    ("latency", Measure::Latency),
    ("errors", Measure::Errors),
];

/// Labels whose value is a workload's name.
const NAMED_BY: &[&str] = &[
    "deployment",
    "statefulset",
    "daemonset",
    "workload",
    "service",
    "app",
    "job",
];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq)]
struct Series {
    measure: Measure,
    labels: BTreeMap<String, String>,
    peak: f64,
    mean: f64,
    /// Of a counter over its time, or its last value if it was asked once.
    growth: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error(
        "it has {actual} bytes, expected at most {METRICS_BYTES_MAX}: ask for fewer series or larger steps"
    )]
    TooLarge { actual: usize },
    #[error("line {line}: {what}")]
    Line { line: usize, what: String },
    #[error("series {number}: {what}")]
    Series { number: usize, what: String },
    #[error("Prometheus answered with an error: {0}")]
    Refused(String),
    #[error("more than {SERIES_MAX} series: ask for those of the workload alone")]
    TooMany,
    #[error(
        "it is nothing that is understood: expected the output of `kubectl top pods --containers` or an answer \
         of Prometheus to `query` or `query_range`"
    )]
    Unknown,
    #[error(
        "it is what `kubectl top nodes` prints, which tells nothing of a workload: expected the output of \
         `kubectl top pods --containers`"
    )]
    Nodes,
}

/// What is known of one container, over all pods of its workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) memory_peak: Option<f64>,
    pub(super) cpu_peak: Option<f64>,
    pub(super) cpu_mean: Option<f64>,
    pub(super) throttled: Option<f64>,
    pub(super) restarts: Option<f64>,
    pub(super) out_of_memory: bool,
}

/// And of the workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Service {
    pub(super) latency: Option<f64>,
    pub(super) errors: Option<f64>,
    pub(super) pods: usize,
}

impl Measure {
    /// By the name that a caller gives it.
    pub fn parse(name: &str) -> Option<Self> {
        let known = KINDS.iter().find(|(known, _)| *known == name);
        known.map(|(_, measure)| *measure)
    }

    /// All names that [`Self::parse`] knows.
    pub fn names() -> Vec<&'static str> {
        KINDS.iter().map(|(name, _)| *name).collect()
    }
}

impl Metrics {
    /// Adds a file. `measure` says what its series measure where they do not say so themselves: a query that
    /// calls a function loses the metric's name.
    pub fn read(&mut self, bytes: &[u8], measure: Option<Measure>) -> Result<(), Unreadable> {
        if bytes.len() > METRICS_BYTES_MAX {
            let actual = bytes.len();
            return Err(Unreadable::TooLarge { actual });
        }
        let text = String::from_utf8_lossy(bytes);
        if text.trim_start().starts_with('{') {
            self.prometheus(&text, measure)
        } else {
            self.top(&text)
        }
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    fn add(&mut self, series: Series) -> Result<(), Unreadable> {
        if self.series.len() == SERIES_MAX {
            return Err(Unreadable::TooMany);
        }
        self.series.push(series);
        Ok(())
    }

    /// `POD  NAME  CPU(cores)  MEMORY(bytes)`, with or without a namespace before or containers in it. The table
    /// of nodes differs in its head alone: it tells shares as well.
    fn top(&mut self, text: &str) -> Result<(), Unreadable> {
        let mut lines = text.lines().enumerate();
        let head = lines.find(|(_, line)| !line.trim().is_empty());
        let columns: Vec<&str> = head
            .map_or("", |(_, line)| line)
            .split_whitespace()
            .collect();
        let column = |name: &str| columns.iter().position(|column| *column == name);
        if SHARES.iter().any(|share| column(share).is_some()) {
            return Err(Unreadable::Nodes);
        }
        let (Some(cpu), Some(memory)) = (column("CPU(cores)"), column("MEMORY(bytes)")) else {
            return Err(Unreadable::Unknown);
        };
        let pod = column("POD")
            .or_else(|| column("NAME"))
            .ok_or(Unreadable::Unknown)?;
        let container = column("POD").and_then(|_| column("NAME"));
        let namespace = column("NAMESPACE");
        for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what: String| Unreadable::Line { line: at + 1, what };
            if at > ROWS_MAX {
                return Err(wrong(format!("more than {ROWS_MAX} rows")));
            }
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.len() != columns.len() {
                let (actual, expected) = (fields.len(), columns.len());
                return Err(wrong(format!(
                    "{actual} columns, expected {expected} as in the head"
                )));
            }
            let mut labels = BTreeMap::from([("pod".to_owned(), fields[pod].to_owned())]);
            for (name, column) in [("container", container), ("namespace", namespace)] {
                if let Some(column) = column {
                    labels.insert(name.to_owned(), fields[column].to_owned());
                }
            }
            for (measure, column) in [(Measure::Cpu, cpu), (Measure::Memory, memory)] {
                let value = quantity::parse(fields[column]).ok_or_else(|| {
                    wrong(format!(
                        "{:?} is no quantity, expected such as 120m or 235Mi",
                        fields[column]
                    ))
                })?;
                self.add(Series {
                    measure,
                    labels: labels.clone(),
                    peak: value,
                    mean: value,
                    growth: value,
                })?;
            }
        }
        Ok(())
    }

    fn prometheus(&mut self, text: &str, measure: Option<Measure>) -> Result<(), Unreadable> {
        let answer: Answer = serde_json::from_str(text).map_err(|error| Unreadable::Line {
            line: error.line(),
            what: format!("no answer of Prometheus: {error}"),
        })?;
        if answer.status != "success" {
            let said: String = answer
                .error
                .chars()
                .filter(|c| !c.is_control())
                .take(300)
                .collect();
            return Err(Unreadable::Refused(said));
        }
        let data = answer.data.ok_or(Unreadable::Unknown)?;
        if !matches!(data.result_type.as_str(), "vector" | "matrix") {
            return Err(Unreadable::Unknown);
        }
        for (at, result) in data.result.into_iter().enumerate() {
            let wrong = |what: String| Unreadable::Series {
                number: at + 1,
                what,
            };
            if let Some(series) = series(result, measure).map_err(wrong)? {
                self.add(series)?;
            }
        }
        Ok(())
    }

    /// Series of no workload among these: they say nothing.
    pub(super) fn strangers(&self, workloads: &[Workload]) -> usize {
        let is_alone = workloads.len() == 1;
        let of_any = |series: &&Series| workloads.iter().any(|w| series.is_of(w, is_alone));
        self.series.len() - self.series.iter().filter(of_any).count()
    }

    pub(super) fn usage(&self, workload: &Workload, container: &str, is_alone: bool) -> Usage {
        let is_single = workload.containers.len() == 1;
        let own: Vec<&Series> = self
            .series
            .iter()
            .filter(|series| series.is_of(workload, is_alone))
            .filter(|series| match series.labels.get("container") {
                Some(name) => name == container,
                None => is_single,
            })
            .collect();
        let of = |measure: Measure| own.iter().filter(move |s| s.measure == measure);
        let sum = |measure| of(measure).map(|s| s.growth).sum::<f64>();
        let periods = sum(Measure::Periods);
        let counted = (periods > 0.0).then(|| (sum(Measure::Throttled) / periods).min(1.0));
        let restarts = of(Measure::Restarts).count() > 0;
        Usage {
            memory_peak: most(of(Measure::Memory).map(|s| s.peak)),
            cpu_peak: most(of(Measure::Cpu).map(|s| s.peak)),
            cpu_mean: most(of(Measure::Cpu).map(|s| s.mean)),
            throttled: most(of(Measure::Throttling).map(|s| s.peak).chain(counted)),
            restarts: restarts.then(|| sum(Measure::Restarts)),
            out_of_memory: of(Measure::OutOfMemory).any(|s| s.peak > 0.0),
        }
    }

    pub(super) fn service(&self, workload: &Workload, is_alone: bool) -> Service {
        let own = || self.series.iter().filter(|s| s.is_of(workload, is_alone));
        let peak = |measure| most(own().filter(|s| s.measure == measure).map(|s| s.peak));
        let pods: BTreeSet<&String> = own().filter_map(|s| s.labels.get("pod")).collect();
        Service {
            latency: peak(Measure::Latency),
            errors: peak(Measure::Errors),
            pods: pods.len(),
        }
    }
}

impl Series {
    fn is_of(&self, workload: &Workload, is_alone: bool) -> bool {
        if let (Some(a), Some(b)) = (self.labels.get("namespace"), &workload.namespace)
            && a != b
        {
            return false;
        }
        if let Some(pod) = self.labels.get("pod") {
            return workload.owns(pod);
        }
        let mut named = NAMED_BY
            .iter()
            .filter_map(|label| self.labels.get(*label))
            .peekable();
        if named.peek().is_none() {
            return is_alone;
        }
        named.any(|name| *name == workload.name)
    }
}

fn most(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.fold(None, |most: Option<f64>, value| {
        Some(most.map_or(value, |m| m.max(value)))
    })
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    #[serde(default)]
    result: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<Point>,
    #[serde(default)]
    values: Vec<Point>,
}

/// Seconds since 1970, and a number as text.
#[derive(Deserialize)]
struct Point(f64, String);

/// `None` for one that says nothing: no number in it, or another reason than want of memory.
fn series(found: Found, measure: Option<Measure>) -> Result<Option<Series>, String> {
    let mut labels = found.metric;
    let name = labels.remove("__name__");
    let known = name
        .as_deref()
        .and_then(|name| NAMES.iter().find(|(known, ..)| *known == name));
    let (measure, is_counter) = match (measure, known) {
        (Some(measure), None) => (measure, false),
        (asked, Some((name, measure, is_counter))) => {
            if asked.is_some_and(|asked| asked != *measure) {
                return Err(format!(
                    "it is {name}, which measures something else than was said"
                ));
            }
            (*measure, *is_counter)
        }
        (None, None) => {
            let name = name.map_or("no name".to_owned(), |name| {
                format!("the unknown name {name:?}")
            });
            let kinds = Measure::names().join(", ");
            return Err(format!(
                "it has {name}, as after a function in the query: say what it measures, KIND=FILE with one of {kinds}"
            ));
        }
    };
    if measure == Measure::OutOfMemory && labels.get("reason").is_none_or(|r| r != "OOMKilled") {
        return Ok(None);
    }
    let mut points: Vec<(f64, f64)> = Vec::new();
    for Point(at, value) in found.values.into_iter().chain(found.value) {
        let number: f64 = value
            .parse()
            .map_err(|_| format!("{value:?} is no number"))?;
        if number.is_finite() && number >= 0.0 {
            points.push((at, number));
        }
    }
    let Some((_, last)) = points.last().copied() else {
        return Ok(None);
    };
    let steps = || {
        points
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1))
    };
    // A counter begins again at zero with its container.
    let growth: f64 = steps().map(|(_, more)| more.max(0.0)).sum();
    let is_single = points.len() == 1;
    let growth = if is_single { last } else { growth };
    let (peak, mean) = if is_counter && measure == Measure::Cpu {
        if is_single {
            return Err(
                "a counter that was asked once says no rate: ask with query_range, or for rate(…)"
                    .to_owned(),
            );
        }
        let rates = steps().filter(|(time, more)| *time > 0.0 && *more >= 0.0);
        let peak = rates.map(|(time, more)| more / time).fold(0.0, f64::max);
        let time = last_time(&points) - points[0].0;
        (peak, if time > 0.0 { growth / time } else { 0.0 })
    } else {
        let peak = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let sum: f64 = points.iter().map(|(_, value)| *value).sum();
        (peak, sum / points.len() as f64)
    };
    Ok(Some(Series {
        measure,
        labels,
        peak,
        mean,
        growth: if is_counter { growth } else { peak },
    }))
}

fn last_time(points: &[(f64, f64)]) -> f64 {
    points.last().map_or(0.0, |(time, _)| *time)
}
