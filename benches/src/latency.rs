//! `latency`: how long a recall takes at so many memories, how fast a server learns and restarts,
//! and how much memory it takes.
//!
//! ```text
//! fill (texts, embedded by the server) ──▶ recall ──▶ restart ──▶ learn
//! ```
//!
//! Learning comes last, as it adds memories. The callers share the cores with the server.

mod learn;
mod recall;
mod restart;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use memorygate_client::Experience;

use crate::{
    lessons::Lessons,
    options::Options,
    report::{Report, Table},
    server::Server,
    teach::{connect, run_suffix, teach},
};

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How many memories there are: each is a made-up text that the server embeds.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    memories: u64,
    /// Recalls of each kind.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    queries: u64,
    /// How long each kind of learning goes on.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// What is measured once the memories are there.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Phase::ALL)]
    phases: Vec<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// Recalls of several kinds, and the memory that the server takes.
    Recall,
    /// The time from the start of a process to a server that is ready.
    Restart,
    /// Learning, one by one and in batches.
    Learn,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Recall, Self::Restart, Self::Learn];
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let has = |phase| arguments.phases.contains(&phase);
    ensure!(
        options.endpoint.is_none() || !has(Phase::Restart),
        "a server at --endpoint is not restarted: leave \"restart\" out of --phases"
    );
    let mut server = Server::start(options).await?;
    let mut report = Report::new("latency");
    let mut lessons = Lessons::new(options.seed);
    let namespace = format!("latency{}", run_suffix(&server));
    fill(&server, &namespace, &mut lessons, arguments, &mut report).await?;
    if has(Phase::Recall) {
        recall::measure(&server, &namespace, options, arguments.queries, &mut report).await?;
    }
    if server.is_own() {
        report.number("resident_mib", server.resident_mib()?);
        report.number("disk_mib", server.disk_bytes()? as f64 / (1 << 20) as f64);
    } else {
        report.note("Memory, disk and stages are those of another process, so they are left out.");
    }
    if has(Phase::Restart) {
        restart::measure(&mut server, &namespace, arguments.memories, &mut report).await?;
    }
    if has(Phase::Learn) {
        learn::measure(&server, &namespace, lessons, arguments.seconds, &mut report).await?;
    }
    Ok(report)
}

async fn fill(
    server: &Server,
    namespace: &str,
    lessons: &mut Lessons,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let client = connect(server)?.in_namespace(namespace);
    let count = usize::try_from(arguments.memories).context("so many memories fit in no memory")?;
    let experiences: Vec<Experience> = (0..count).map(|_| lessons.lesson()).collect();
    let taught = teach(&client, "memories", &experiences).await?;
    let stats = client.stats_of(namespace).await.context("read stats")?;
    let stored: u64 = stats.namespaces.iter().map(|n| n.memories).sum();
    ensure!(
        stored == arguments.memories,
        "{stored} memories are stored, expected {}",
        arguments.memories
    );
    report.count("memories", stored);
    let per_s = count as f64 / taught.elapsed_s;
    report.number("learns_text_batch_per_s", per_s);
    let mut table = Table::new("Filling", ["", "memories", "s", "memories/s"]);
    table.row([
        "texts, batches of 64, one caller".to_owned(),
        count.to_string(),
        format!("{:.1}", taught.elapsed_s),
        format!("{per_s:.0}"),
    ]);
    report.table(table);
    Ok(())
}
