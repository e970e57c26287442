//! `forming`: does exactly one cluster form, in whatever order its nodes start and however often they
//! are killed meanwhile?
//!
//! One round: three empty servers are started at random moments in a random order; for a while random
//! ones are killed and started again; then all run, and must be members of one cluster, with one leader,
//! which takes a write on each node and has it on the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use memorygate_client::{Client, Experience, Freshness, Get, domain};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::time::sleep;

use crate::{
    nodes::Nodes,
    options::Options,
    progress::Progress,
    report::{Report, Table},
};

/// Between two starts of a round.
const BETWEEN_STARTS: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(600);

/// Kills of a round: none in some, several in others.
const KILLS_MAX: u32 = 4;

/// Before each kill: from the first instruction of a process to long after the cluster has formed.
const BEFORE_KILL: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(900);

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How often a cluster forms.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Nodes of each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=7))]
    nodes: u32,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut progress = Progress::new("form a cluster", arguments.rounds as usize);
    let (mut kills, mut orders) = (0, BTreeMap::<Vec<usize>, u64>::new());
    let mut several = 0;
    for round in 0..arguments.rounds {
        let mut nodes = Nodes::prepare(options, arguments.nodes as usize, &[])?;
        let formed = form(&mut nodes, &mut random).await;
        let (order, killed) = formed.with_context(|| format!("round {round}"))?;
        kills += killed;
        *orders.entry(order).or_default() += 1;
        let clusters = clusters(&nodes).await;
        let clusters = clusters.with_context(|| format!("round {round}"))?;
        if clusters.len() != 1 {
            several += 1;
            eprintln!("round {round}: {} clusters: {clusters:?}", clusters.len());
        }
        progress.add(1);
    }
    let elapsed_s = progress.finish();
    let mut report = Report::new("forming");
    report.count("rounds", u64::from(arguments.rounds));
    report.count("nodes", u64::from(arguments.nodes));
    report.count("kills", kills);
    report.count("start_orders", orders.len() as u64);
    report.count("rounds_with_several_clusters", several);
    report.number("elapsed_s", elapsed_s);
    let mut table = Table::new(
        "clusters that formed",
        ["rounds", "start orders", "kills", "not exactly one cluster"],
    );
    table.row([
        arguments.rounds.to_string(),
        orders.len().to_string(),
        kills.to_string(),
        several.to_string(),
    ]);
    report.table(table);
    if several > 0 {
        report.failure(format!("{several} rounds ended with more than one cluster"));
    }
    Ok(report)
}

/// Starts, kills and starts again, until all run: the order of the first starts, and the kills.
async fn form(nodes: &mut Nodes, random: &mut StdRng) -> anyhow::Result<(Vec<usize>, u64)> {
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.shuffle(random);
    let kills = random.random_range(0..=KILLS_MAX);
    // The last start may come before, between and after the kills.
    let mut starts = order.clone().into_iter();
    for _ in 0..kills {
        if random.random_bool(0.5)
            && let Some(at) = starts.next()
        {
            nodes.server_mut(at).spawn()?;
        }
        sleep(random.random_range(BEFORE_KILL)).await;
        let at = random.random_range(0..nodes.len());
        if nodes.server(at).is_spawned() {
            nodes.server_mut(at).kill()?;
            sleep(random.random_range(BETWEEN_STARTS)).await;
            nodes.server_mut(at).spawn()?;
        }
    }
    for at in starts {
        sleep(random.random_range(BETWEEN_STARTS)).await;
        nodes.server_mut(at).spawn()?;
    }
    nodes.wait_ready().await?;
    Ok((order, u64::from(kills)))
}

/// The clusters that the nodes are of. If it is one, each node takes a write that all others have.
async fn clusters(nodes: &Nodes) -> anyhow::Result<BTreeSet<u128>> {
    let clients = (0..nodes.len()).map(|at| nodes.client_of(at));
    let clients: Vec<Client> = clients.collect::<Result<_, _>>()?;
    let mut clusters = BTreeSet::new();
    for client in &clients {
        clusters.insert(
            client
                .stats()
                .await
                .context("read stats")?
                .position
                .cluster_id,
        );
    }
    if clusters.len() > 1 {
        return Ok(clusters);
    }
    for (at, writer) in clients.iter().enumerate() {
        let text = format!("Learned on node {at}.");
        let learned = writer
            .learn(Experience::new(text, domain::DEPLOYMENT))
            .await
            .with_context(|| format!("write on node {}", at + 1))?;
        for reader in &clients {
            let get =
                Get::new(learned.learned[0].key).freshness(Freshness::AtLeast(learned.position));
            let found = reader.get(get).await.context("read on another node")?;
            ensure!(
                found.is_some(),
                "a write on node {} is not on another",
                at + 1
            );
        }
    }
    Ok(clusters)
}
