//! `consolidation`: what does a pass cost as the store grows, and what do recalls feel of it?
//!
//! The store grows with given vectors; between two sizes the same number of memories changes, a third of
//! them near-duplicates of one that is there. Recalls run alone and while a pass runs, in turns.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use memorygate_client::{Client, Experience, Learn, Recall, experience::VECTOR_DIMENSION};
use memorygate_proto::v1::{self, consolidation_client::ConsolidationClient};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tonic::transport::Channel;

use crate::{
    options::Options,
    progress::Progress,
    report::{Report, Table, rounded},
    rpc,
    server::Server,
    statistics::Sample,
    teach::{BATCH, connect, wait_until_indexed},
};

const NAMESPACE: &str = "consolidation";

/// Passes at each size.
const PASSES: usize = 5;

/// Recalls in a row without a pass between two passes.
const RECALLS: usize = 150;

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Sizes of the store, ascending.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [10_000, 30_000, 100_000])]
    memories: Vec<usize>,
    /// Memories that are learned between two passes.
    #[arg(long, value_name = "N", default_value_t = 500)]
    changes: usize,
}

/// What a pass did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) done: u64,
    pub(crate) refused: u64,
    pub(crate) seconds: f64,
}

/// Runs a pass to its end.
pub(crate) async fn run_pass(
    channel: &Channel,
    namespace: &str,
    everything: bool,
) -> anyhow::Result<Pass> {
    let start = Instant::now();
    let request = v1::RunConsolidationRequest {
        namespace: namespace.to_owned(),
        everything,
    };
    let mut client = ConsolidationClient::new(channel.clone());
    let running = client.run_consolidation(request).await;
    let mut messages = running.context("run a pass")?.into_inner();
    let mut last = None;
    while let Some(message) = messages.message().await.context("run a pass")? {
        last = Some(message);
    }
    let last = last.filter(|message| message.finished);
    let last = last.context("the pass ended without a last message")?;
    Ok(Pass {
        done: last.done,
        refused: last.refused,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// What was measured at one size.
struct AtSize {
    memories: usize,
    pass_seconds: Sample,
    steps: u64,
    alone_ms: Sample,
    beside_ms: Sample,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    ensure!(
        arguments.memories.is_sorted() && !arguments.memories.is_empty(),
        "name sizes in ascending order with --memories"
    );
    let settings = [("consolidation.interval_s", "0")];
    let server = Server::start_with(options, &settings).await?;
    let client = connect(&server)?.in_namespace(NAMESPACE);
    let channel = rpc::connect(server.endpoint())?;
    let mut made = Made::new(options.seed);
    let mut sizes = Vec::new();
    for size in &arguments.memories {
        made.grow(&client, *size).await?;
        run_pass(&channel, NAMESPACE, false).await?;
        sizes.push(at_size(&client, &channel, &mut made, arguments).await?);
    }
    Ok(report(arguments, &sizes))
}

async fn at_size(
    client: &Client,
    channel: &Channel,
    made: &mut Made,
    arguments: &Arguments,
) -> anyhow::Result<AtSize> {
    let (mut seconds, mut steps, mut alone, mut beside) = (Vec::new(), 0, Vec::new(), Vec::new());
    let memories = made.count;
    for _ in 0..PASSES {
        made.grow(client, made.count + arguments.changes).await?;
        for _ in 0..RECALLS {
            alone.push(timed_recall(client, made).await?);
        }
        let pass = run_pass(channel, NAMESPACE, false);
        tokio::pin!(pass);
        let pass = loop {
            tokio::select! {
                biased;
                ended = &mut pass => break ended?,
                elapsed_ms = timed_recall(client, made) => beside.push(elapsed_ms?),
            }
        };
        seconds.push(pass.seconds);
        steps += pass.done;
    }
    Ok(AtSize {
        memories,
        pass_seconds: Sample::new(seconds).context("no pass was run")?,
        steps,
        alone_ms: Sample::new(alone).context("no recall was made")?,
        beside_ms: Sample::new(beside).context("passes were too short for a recall beside them")?,
    })
}

async fn timed_recall(client: &Client, made: &Made) -> anyhow::Result<f64> {
    let number = made.next_question();
    let recall = Recall::new(text(number))
        .vector(vector(made.seed, number as u64, 0.4))
        .limit(10);
    let start = Instant::now();
    client.recall(&recall).await.context("recall")?;
    let elapsed = start.elapsed();
    // As agents do, and not as fast as a server can answer.
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(elapsed.as_secs_f64() * 1e3)
}

/// Memories that were made up so far.
struct Made {
    seed: u64,
    count: usize,
    asked: AtomicU64,
}

impl Made {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            count: 0,
            asked: AtomicU64::new(0),
        }
    }

    /// One of the memories, each time another.
    fn next_question(&self) -> usize {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        StdRng::seed_from_u64(self.seed ^ asked).random_range(0..self.count)
    }

    /// Learns more until there are `count`; every third is a near-duplicate of one of before.
    async fn grow(&mut self, client: &Client, count: usize) -> anyhow::Result<()> {
        let mut progress =
            (count > self.count + 5_000).then(|| Progress::new("learn", count - self.count));
        while self.count < count {
            let end = count.min(self.count + BATCH);
            let experiences: Vec<Experience> = (self.count..end)
                .map(|number| self.experience(number))
                .collect();
            client
                .learn(Learn::new(experiences))
                .await
                .context("learn")?;
            if let Some(progress) = &mut progress {
                progress.add(end - self.count);
            }
            self.count = end;
        }
        if let Some(progress) = progress {
            progress.finish();
        }
        wait_until_indexed(client).await
    }

    fn experience(&self, number: usize) -> Experience {
        if number % 3 == 2 {
            let of = number - 1;
            let again = format!("again: {}", text(of));
            return Experience::new(again, "infrastructure")
                .vector(vector(self.seed, of as u64, 0.1));
        }
        Experience::new(text(number), "infrastructure").vector(vector(
            self.seed,
            number as u64,
            0.0,
        ))
    }
}

fn text(number: usize) -> String {
    const WHAT: [&str; 8] = [
        "ran out of memory",
        "lost its certificate",
        "filled its disk",
        "lost its leader",
        "refused connections",
        "was throttled",
        "answered slowly",
        "restarted again and again",
    ];
    format!(
        "service s{number} {} during the rollout",
        WHAT[number % WHAT.len()]
    )
}

/// One of a seed, moved by some noise.
fn vector(seed: u64, number: u64, noise: f32) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut own: Vec<f32> = (0..VECTOR_DIMENSION)
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    own.iter_mut()
        .for_each(|x| *x += noise * random.random_range(-1.0_f32..1.0));
    own
}

fn report(arguments: &Arguments, sizes: &[AtSize]) -> Report {
    let mut report = Report::new("consolidation");
    report.count("changes", arguments.changes as u64);
    let header = [
        "memories",
        "passes",
        "pass s, median",
        "max",
        "steps",
        "recall p50 ms",
        "p99",
        "beside a pass: p50",
        "p99",
        "p99 ratio",
    ];
    let mut table = Table::new("A pass after the same number of changes", header);
    let mut rows = Vec::new();
    for size in sizes {
        let ratio = size.beside_ms.percentile(99.0) / size.alone_ms.percentile(99.0);
        table.row(vec![
            size.memories.to_string(),
            size.pass_seconds.count().to_string(),
            format!("{:.3}", size.pass_seconds.median()),
            format!("{:.3}", size.pass_seconds.greatest()),
            size.steps.to_string(),
            format!("{:.2}", size.alone_ms.median()),
            format!("{:.2}", size.alone_ms.percentile(99.0)),
            format!("{:.2}", size.beside_ms.median()),
            format!("{:.2}", size.beside_ms.percentile(99.0)),
            format!("{ratio:.2}"),
        ]);
        rows.push(json!({
            "memories": size.memories,
            "pass_s": rounded(size.pass_seconds.median()),
            "steps": size.steps,
            "recall_p99_ms": rounded(size.alone_ms.percentile(99.0)),
            "recall_p99_ms_beside": rounded(size.beside_ms.percentile(99.0)),
        }));
    }
    report.table(table);
    report.value("sizes", json!(rows));
    let (first, last) = (sizes.first(), sizes.last());
    if let (Some(first), Some(last)) = (first, last) {
        report.number(
            "pass_growth",
            last.pass_seconds.median() / first.pass_seconds.median(),
        );
        report.number(
            "recall_p99_ratio",
            last.beside_ms.percentile(99.0) / last.alone_ms.percentile(99.0),
        );
    }
    report
}
