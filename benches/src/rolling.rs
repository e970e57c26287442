//! `rolling`: does anybody who uses the client library notice that all nodes are restarted one after
//! another?
//!
//! ```text
//! each node in turn: drain ──▶ SIGTERM ──▶ start ──▶ ready        meanwhile: learns and recalls,
//!                                                                 each must be answered
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use memorygate_client::{Client, Recall};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    lessons::Lessons,
    nodes::Nodes,
    options::Options,
    progress::Progress,
    report::{Report, Table},
    statistics::Sample,
};

/// Between two requests of a caller: what is looked for is a failure, not a limit of the machine.
const PAUSE: Duration = Duration::from_millis(5);

/// The load runs for so long before the first restart and after the last.
const STEADY: Duration = Duration::from_secs(2);

/// Failures that are shown in full.
const SHOWN_MAX: usize = 5;

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How often every node is restarted.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Callers that learn, and as many that recall.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    callers: u32,
}

/// What one caller saw.
#[derive(Default)]
struct Seen {
    times_ms: Vec<f64>,
    failures: Vec<String>,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let mut nodes = Nodes::start(options, 3, &[("log.level", "warn")]).await?;
    let client = nodes.client()?;
    client.stats().await.context("reach the cluster")?;
    let is_over = Arc::new(AtomicBool::new(false));
    let (mut learning, mut recalling) = (JoinSet::new(), JoinSet::new());
    for caller in 0..u64::from(arguments.callers) {
        let seed = options.seed + caller * 2;
        learning.spawn(learn(client.clone(), seed, is_over.clone()));
        recalling.spawn(recall(client.clone(), seed + 1, is_over.clone()));
    }
    sleep(STEADY).await;
    let restarts = arguments.rounds as usize * nodes.len();
    let mut progress = Progress::new("restart a node", restarts);
    for _ in 0..arguments.rounds {
        for at in 0..nodes.len() {
            restart(&mut nodes, at)
                .await
                .with_context(|| format!("restart node {}", at + 1))?;
            progress.add(1);
        }
    }
    let elapsed_s = progress.finish();
    sleep(STEADY).await;
    is_over.store(true, Ordering::Relaxed);
    let (learns, recalls) = (all(learning).await?, all(recalling).await?);

    let mut report = Report::new("rolling");
    report.count("restarts", restarts as u64);
    report.number("elapsed_s", elapsed_s);
    let mut table = Table::new(
        "requests while every node was restarted",
        [
            "request",
            "answered",
            "failed",
            "p50 ms",
            "p99 ms",
            "longest ms",
        ],
    );
    let mut failed = 0;
    for (name, seen) in [("learn", learns), ("recall", recalls)] {
        for failure in seen.failures.iter().take(SHOWN_MAX) {
            eprintln!("{name} failed: {failure}");
        }
        failed += seen.failures.len() as u64;
        let answered = seen.times_ms.len() as u64;
        let times =
            Sample::new(seen.times_ms).with_context(|| format!("no {name} was answered"))?;
        report.count(&format!("{name}s_answered"), answered);
        report.count(&format!("{name}s_failed"), seen.failures.len() as u64);
        report.number(&format!("{name}_p99_ms"), times.percentile(99.0));
        report.number(&format!("{name}_longest_ms"), times.greatest());
        table.row([
            name.to_owned(),
            answered.to_string(),
            seen.failures.len().to_string(),
            format!("{:.1}", times.median()),
            format!("{:.1}", times.percentile(99.0)),
            format!("{:.0}", times.greatest()),
        ]);
    }
    report.table(table);
    report.count("failed", failed);
    if failed > 0 {
        report.failure(format!("{failed} requests failed"));
    }
    Ok(report)
}

async fn restart(nodes: &mut Nodes, at: usize) -> anyhow::Result<()> {
    // The empty id stands for the node that is asked.
    let drained = nodes.client_of(at)?.cluster().drain("").await;
    let drained = drained.context("drain")?;
    ensure!(drained.is_draining, "the node did not drain");
    nodes.server_mut(at).stop().await?;
    nodes.server_mut(at).restart().await.map(drop)
}

async fn learn(client: Client, seed: u64, is_over: Arc<AtomicBool>) -> Seen {
    let (mut lessons, mut seen) = (Lessons::new(seed), Seen::default());
    while !is_over.load(Ordering::Relaxed) {
        let mut lesson = lessons.lesson().vector(lessons.vector());
        // Callers draw from different seeds, and two may draw the same.
        lesson.content.push_str(&format!(" ({seed})"));
        let start = Instant::now();
        seen.note(start, client.learn(lesson).await.map(drop));
        sleep(PAUSE).await;
    }
    seen
}

async fn recall(client: Client, seed: u64, is_over: Arc<AtomicBool>) -> Seen {
    let (mut lessons, mut seen) = (Lessons::new(seed), Seen::default());
    while !is_over.load(Ordering::Relaxed) {
        let recall = Recall::by_vector(lessons.vector());
        let start = Instant::now();
        seen.note(start, client.recall(&recall).await.map(drop));
        sleep(PAUSE).await;
    }
    seen
}

impl Seen {
    fn note(&mut self, start: Instant, answer: Result<(), memorygate_client::Error>) {
        match answer {
            Ok(()) => self.times_ms.push(start.elapsed().as_secs_f64() * 1e3),
            Err(error) => self.failures.push(error.to_string()),
        }
    }
}

async fn all(mut callers: JoinSet<Seen>) -> anyhow::Result<Seen> {
    let mut all = Seen::default();
    while let Some(seen) = callers.join_next().await {
        let seen = seen.context("a caller panicked")?;
        all.times_ms.extend(seen.times_ms);
        all.failures.extend(seen.failures);
    }
    Ok(all)
}
