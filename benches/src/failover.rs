//! `failover`: for how long is no write acknowledged when the leader is killed under load?
//!
//! ```text
//! writers on all nodes ── SIGKILL to the leader ── longest time between two acknowledged writes
//!                           └─ it is started again, and when it takes part the next leader is killed
//! ```
//!
//! The same is done to etcd with the same election settings. A write that has no answer soon is tried
//! at the next node at once, so what is measured is the cluster and not a caller's patience.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueHint};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    contest::{
        Contender, ELECTION_TIMEOUT_MS, HEARTBEAT_MS, Lines, NODES, etcd::Etcd,
        memorygate::MemoryGate, values::Values,
    },
    options::Options,
    progress::Progress,
    report::{Report, Table},
    statistics::Sample,
};

/// Writers, the same number on each node.
const WRITERS: usize = 12;

/// A write without an answer for so long is tried elsewhere.
const PATIENCE: Duration = Duration::from_millis(300);

/// Between two writes of one writer: together they write about every millisecond, which is how exact a
/// gap is, and leave the processor to those who elect.
const PAUSE: Duration = Duration::from_millis(10);

/// Load before each kill, so that the leader is known and no election is under way.
const CALM: Duration = Duration::from_secs(2);

/// A cluster that acknowledges nothing for so long after a kill has failed.
const BACK_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How often the leader is killed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: u32,
    /// The program etcd, if it is not on the path.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    etcd: Option<PathBuf>,
    /// Measures MemoryGate alone.
    #[arg(long, conflicts_with = "etcd")]
    without_etcd: bool,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let ours = Contender::MemoryGate(MemoryGate::start(options, &[]).await?);
    let mut report = Report::new("failover");
    report.count("kills", u64::from(arguments.kills));
    report.count("heartbeat_ms", HEARTBEAT_MS);
    report.count("election_timeout_ms", ELECTION_TIMEOUT_MS);
    let caption = format!(
        "Longest time without an acknowledged write after the leader was killed; heartbeat \
         {HEARTBEAT_MS} ms, election timeout {ELECTION_TIMEOUT_MS} ms"
    );
    let header = [
        "",
        "kills",
        "p50 ms",
        "p90 ms",
        "max ms",
        "p50 in election timeouts",
    ];
    let mut table = Table::new(caption, header);
    // One after the other: a node that starts takes the processor from the other's election.
    measure(ours, options.seed, arguments, &mut report, &mut table).await?;
    if !arguments.without_etcd {
        let etcd = Etcd::start(options, arguments.etcd.as_deref()).await?;
        let etcd = Contender::Etcd(etcd);
        measure(etcd, options.seed, arguments, &mut report, &mut table).await?;
    }
    report.table(table);
    Ok(report)
}

async fn measure(
    mut contender: Contender,
    seed: u64,
    arguments: &Arguments,
    report: &mut Report,
    table: &mut Table,
) -> anyhow::Result<()> {
    let (name, prefix) = (contender.name(), contender.prefix());
    let heard = Arc::new(Heard::new());
    let mut writers = JoinSet::new();
    let (lines, values) = (contender.lines()?, Values::new(seed));
    for number in 0..WRITERS {
        writers.spawn(write(number, lines.clone(), values.clone(), heard.clone()));
    }
    let mut progress = Progress::new(
        format!("kill the leader of {name}"),
        arguments.kills as usize,
    );
    let mut gaps_ms = Vec::new();
    for kill in 0..arguments.kills {
        let gap = kill_leader(&mut contender, &heard).await;
        let gap_ms = gap
            .with_context(|| format!("kill {kill} of {name}"))?
            .as_secs_f64()
            * 1e3;
        eprintln!("{name}: nothing acknowledged for {gap_ms:.0} ms");
        gaps_ms.push(gap_ms);
        progress.add(1);
    }
    progress.finish();
    heard.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.context("a writer panicked")?;
    }
    report.value(
        &format!("{prefix}gaps_ms"),
        gaps_ms.iter().map(|ms| ms.round()).collect(),
    );
    let gaps = Sample::new(gaps_ms).context("nothing was killed")?;
    let p50 = gaps.median();
    report.number(&format!("{prefix}gap_p50_ms"), p50);
    report.number(&format!("{prefix}gap_max_ms"), gaps.greatest());
    let timeouts = p50 / ELECTION_TIMEOUT_MS as f64;
    report.number(&format!("{prefix}gap_p50_election_timeouts"), timeouts);
    table.row([
        name.to_owned(),
        gaps.count().to_string(),
        format!("{p50:.0}"),
        format!("{:.0}", gaps.percentile(90.0)),
        format!("{:.0}", gaps.greatest()),
        format!("{timeouts:.2}"),
    ]);
    Ok(())
}

/// Kills whoever leads, waits until writes are acknowledged again and the killed node is back, and
/// returns the longest time between two acknowledgements.
async fn kill_leader(contender: &mut Contender, heard: &Heard) -> anyhow::Result<Duration> {
    tokio::time::sleep(CALM).await;
    let started = Instant::now();
    let leader = loop {
        if let Some(leader) = contender.leader().await? {
            break leader;
        }
        ensure!(started.elapsed() < BACK_WITHIN, "no node leads");
        tokio::time::sleep(PAUSE).await;
    };
    heard.begin();
    let before = heard.count();
    contender.kill(leader)?;
    let killed = Instant::now();
    // What was on its way may still be answered; a new leader has taken over when another node says
    // that it leads and writes go on.
    loop {
        tokio::time::sleep(PAUSE).await;
        ensure!(
            killed.elapsed() < BACK_WITHIN,
            "nothing was acknowledged for {BACK_WITHIN:?} after the leader was killed"
        );
        let is_led = contender.leader().await?.is_some_and(|new| new != leader);
        let seen = heard.count();
        if is_led && seen > before {
            // At least one more, so that the gap has an end.
            while heard.count() == seen && killed.elapsed() < BACK_WITHIN {
                tokio::time::sleep(PAUSE).await;
            }
            break;
        }
    }
    let gap = heard.longest();
    contender.restart(leader).await?;
    Ok(gap)
}

/// When writes were acknowledged.
struct Heard {
    start: Instant,
    /// Since the start.
    last_us: AtomicU64,
    longest_us: AtomicU64,
    count: AtomicU64,
    is_over: AtomicBool,
}

impl Heard {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            last_us: AtomicU64::new(0),
            longest_us: AtomicU64::new(0),
            count: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    fn acknowledged(&self) {
        let now_us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let last_us = self.last_us.fetch_max(now_us, Ordering::AcqRel);
        self.longest_us
            .fetch_max(now_us.saturating_sub(last_us), Ordering::AcqRel);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets the gaps so far.
    fn begin(&self) {
        self.longest_us.store(0, Ordering::Release);
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.load(Ordering::Acquire))
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }
}

/// Writes until it is over, to one node until that refuses or is silent, and then to the next.
async fn write(number: usize, lines: Lines, values: Values, heard: Arc<Heard>) {
    let mut node = number % NODES;
    while !heard.is_over.load(Ordering::Relaxed) {
        // What had no answer is not repeated: it is another value that counts.
        let written = timeout(PATIENCE, lines.write(node, number, values.next())).await;
        match written {
            Ok(Ok(_)) => heard.acknowledged(),
            Ok(Err(_)) | Err(_) => node = (node + 1) % NODES,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_lies_between_two_acknowledgements() {
        let heard = Heard::new();
        heard.acknowledged();
        heard.begin();
        assert_eq!(heard.longest(), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(20));
        heard.acknowledged();
        heard.acknowledged();
        assert!(heard.longest() >= Duration::from_millis(20));
        assert_eq!(heard.count(), 3);
    }
}
