//! `catchup`: how soon does a node that lost its disk serve reads again, and what do those who use the
//! leader feel of it?
//!
//! ```text
//! fill ──▶ use the leader for a while ──▶ kill a follower, remove its data, start it
//!                                          └─ use the leader until the follower has answered a recall
//!                                             at the position that the leader had at the start
//! ```
//!
//! The load on the leader is the same before and meanwhile: a few callers with pauses, so that what is
//! compared are times and not who takes the processor.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use memorygate_proto::v1;
use tokio::{task::JoinSet, time::timeout};
use tonic::Status;

use crate::{
    contest::{
        Lines, NODES,
        memorygate::{MemoryGate, NAMESPACE, stats},
        values::Values,
    },
    lessons::Lessons,
    options::Options,
    progress::Progress,
    report::{Report, Table},
    rpc,
    statistics::Sample,
};

/// Callers that fill the cluster, over all nodes.
const FILLERS: usize = 64;

/// Callers that write to the leader, and as many that recall from it, while it is measured.
const USERS: usize = 2;

/// Between two requests of one of them.
const PAUSE: Duration = Duration::from_millis(20);

/// A node that has not caught up by then will not.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(1800);

/// Between two tries to read from the node that comes back.
const POLL: Duration = Duration::from_millis(50);

/// How long one try may wait for the node to be as far as the leader.
const ASKED_WITHIN: Duration = Duration::from_secs(1);

const RECALL: &str = "/memorygate.v1.MemoryGate/Recall";

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Experiences that the node has to get again, each a log entry of its own.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    memories: u64,
    /// How long the leader is used before.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// What those who use the leader saw.
struct Use {
    writes: Sample,
    recalls: Sample,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let mut cluster = MemoryGate::start(options, &[("cluster.replace_lost", "true")]).await?;
    let values = Values::new(options.seed);
    fill(&cluster, &values, arguments.memories).await?;
    cluster.settle().await?;
    let leader = cluster.leader().await.context("no node leads")?;
    let endpoint = cluster.nodes[leader].endpoint().to_owned();

    eprintln!("use the leader: {} s", arguments.seconds);
    let users = Users::start(&endpoint, &values, options.seed)?;
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let before = users.stop().await?;

    let follower = (leader + 1) % NODES;
    cluster.nodes[follower].kill()?;
    cluster.nodes[follower].wipe()?;
    eprintln!("a follower lost its data");
    let users = Users::start(&endpoint, &values, options.seed + 1)?;
    let started = Instant::now();
    cluster.nodes[follower].spawn()?;
    serves(cluster.nodes[follower].endpoint(), &endpoint).await?;
    let catchup_s = started.elapsed().as_secs_f64();
    let meanwhile = users.stop().await?;

    Ok(report(arguments, &before, &meanwhile, catchup_s))
}

async fn fill(cluster: &MemoryGate, values: &Values, memories: u64) -> anyhow::Result<()> {
    let count = usize::try_from(memories).context("so many memories fit in no memory")?;
    let mut progress = Progress::new("learn experiences with vectors", count);
    let lines = Lines::to(&cluster.endpoints())?;
    let mut fillers = JoinSet::new();
    for filler in 0..FILLERS {
        let (lines, values) = (lines.clone(), values.clone());
        let share = (count + FILLERS - 1 - filler) / FILLERS;
        fillers.spawn(async move {
            for at in 0..share {
                let node = (filler + at) % NODES;
                lines
                    .write(node, filler, values.next())
                    .await
                    .context("write")?;
            }
            anyhow::Ok(share)
        });
    }
    while let Some(filled) = fillers.join_next().await {
        progress.add(filled.context("a filler panicked")??);
    }
    progress.finish();
    Ok(())
}

/// Waits until the node at `endpoint` has answered a recall at the position where the leader stood when
/// it was asked.
async fn serves(endpoint: &str, leader: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    let channel = rpc::connect(endpoint)?;
    let vector = Lessons::new(0).vector();
    loop {
        let request = v1::RecallRequest {
            namespace: NAMESPACE.to_owned(),
            vector: vector.clone(),
            limit: 10,
            at_least: stats(leader).await?.position,
            ..v1::RecallRequest::default()
        };
        let asked = rpc::call(&channel, RECALL, request);
        match timeout(ASKED_WITHIN, asked).await {
            Ok(Ok::<v1::RecallResponse, _>(answer)) => {
                ensure!(
                    !answer.results.is_empty(),
                    "the node that came back found nothing"
                );
                return Ok(());
            }
            Ok(Err(_)) | Err(_) => ensure!(
                started.elapsed() < CAUGHT_UP_WITHIN,
                "the node has not caught up within {CAUGHT_UP_WITHIN:?}"
            ),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Callers of the leader.
struct Users {
    is_over: Arc<AtomicBool>,
    writers: JoinSet<anyhow::Result<Vec<f64>>>,
    recallers: JoinSet<anyhow::Result<Vec<f64>>>,
}

impl Users {
    fn start(endpoint: &str, values: &Values, seed: u64) -> anyhow::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut writers, mut recallers) = (JoinSet::new(), JoinSet::new());
        for user in 0..USERS {
            let lines = Lines::to(&[endpoint.to_owned()])?;
            let (values, over) = (values.clone(), is_over.clone());
            writers.spawn(use_until(over, move || {
                let (lines, value) = (lines.clone(), values.next());
                async move { lines.write(0, user, value).await.map(drop) }
            }));
            let channel = rpc::connect(endpoint)?;
            let mut lessons = Lessons::new(seed ^ (user as u64) << 32);
            recallers.spawn(use_until(is_over.clone(), move || {
                let request = v1::RecallRequest {
                    namespace: NAMESPACE.to_owned(),
                    query: lessons.question(),
                    vector: lessons.vector(),
                    ..v1::RecallRequest::default()
                };
                let channel = channel.clone();
                async move {
                    let answer: v1::RecallResponse = rpc::call(&channel, RECALL, request).await?;
                    drop(answer);
                    Ok(())
                }
            }));
        }
        Ok(Self {
            is_over,
            writers,
            recallers,
        })
    }

    async fn stop(mut self) -> anyhow::Result<Use> {
        self.is_over.store(true, Ordering::Relaxed);
        Ok(Use {
            writes: all_of(&mut self.writers).await.context("write")?,
            recalls: all_of(&mut self.recallers).await.context("recall")?,
        })
    }
}

/// Milliseconds of each request, one after the other with pauses until it is over.
async fn use_until<F>(
    is_over: Arc<AtomicBool>,
    mut request: impl FnMut() -> F + Send,
) -> anyhow::Result<Vec<f64>>
where
    F: Future<Output = Result<(), Status>> + Send,
{
    let mut times_ms = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let asked = request();
        let start = Instant::now();
        asked.await?;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times_ms)
}

async fn all_of(users: &mut JoinSet<anyhow::Result<Vec<f64>>>) -> anyhow::Result<Sample> {
    let mut times_ms = Vec::new();
    while let Some(of_user) = users.join_next().await {
        times_ms.extend(of_user.context("a caller panicked")??);
    }
    Sample::new(times_ms).context("nothing was answered")
}

fn report(arguments: &Arguments, before: &Use, meanwhile: &Use, catchup_s: f64) -> Report {
    let mut report = Report::new("catchup");
    report.count("memories", arguments.memories);
    report.number("catchup_s", catchup_s);
    let caption = format!(
        "A follower that lost its disk at {} experiences served reads at the leader's position after \
         {catchup_s:.1} s. The leader's answers, {USERS} callers of each kind:",
        arguments.memories
    );
    let header = [
        "",
        "p50 ms before",
        "meanwhile",
        "p99 ms before",
        "meanwhile",
        "p99 ratio",
    ];
    let mut table = Table::new(caption, header);
    let kinds = [
        ("write", &before.writes, &meanwhile.writes),
        ("recall", &before.recalls, &meanwhile.recalls),
    ];
    for (what, before, meanwhile) in kinds {
        let p99 = (before.percentile(99.0), meanwhile.percentile(99.0));
        report.number(&format!("leader_{what}_p99_ms_before"), p99.0);
        report.number(&format!("leader_{what}_p99_ms_meanwhile"), p99.1);
        report.number(&format!("leader_{what}_p99_ratio"), p99.1 / p99.0);
        table.row([
            what.to_owned(),
            format!("{:.2}", before.median()),
            format!("{:.2}", meanwhile.median()),
            format!("{:.2}", p99.0),
            format!("{:.2}", p99.1),
            format!("{:.2}", p99.1 / p99.0),
        ]);
    }
    report.table(table);
    report
}
