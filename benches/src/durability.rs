//! `durability`: is everything that was acknowledged there after the server was killed, and nothing
//! that never was?
//!
//! One round, in a namespace of its own:
//!
//! ```text
//! writers learn ──▶ SIGKILL at a random moment ──▶ start (sometimes killed in the middle of it)
//!   ──▶ compare with the ledger ──▶ repeat what had an unknown outcome ──▶ compare again
//!   ──▶ SIGKILL while nothing happens ──▶ start ──▶ the state hash must be the one before
//! ```
//!
//! After the last round everything is compared once more.

mod ledger;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use memorygate_client::{Client, Freshness, Get, Key, List, Memory, Stats};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::watch, task::JoinSet};

use self::{
    ledger::{Fate, Ledger, Verdict},
    writer::Writer,
};
use crate::{
    options::Options,
    progress::Progress,
    report::{Report, Table},
    server::Server,
    teach::connect,
};

/// A round writes for a random time within this: long enough to reach snapshots and checkpoints.
const WRITING: std::ops::Range<Duration> = Duration::from_millis(30)..Duration::from_millis(1200);

/// A start is killed after a random time up to this, about as long as a start takes.
const STARTING_MAX: Duration = Duration::from_millis(600);

/// In so many rounds of a hundred the server is killed while it starts, too.
const PERCENT_KILLED_STARTING: u32 = 30;

/// In so many rounds of a hundred what had an unknown outcome is sent again.
const PERCENT_REPEATED: u32 = 50;

/// Small bounds, so that kills meet snapshots, purges of the log, checkpoints of the index and
/// catching up with it, which a server with its own settings rarely does.
const SETTINGS: &[(&str, &str)] = &[
    ("raft.snapshot_log_bytes", "2097152"),
    ("raft.log_entries_kept", "200"),
    ("index.checkpoint_changes", "1000"),
    ("log.level", "warn"),
];

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How often the server is killed in the middle of writing.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Writers at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    writers: u32,
}

/// What all rounds together saw.
#[derive(Clone, Debug, Default)]
struct Totals {
    kills: u64,
    acknowledged: u64,
    unknown: u64,
    repeated: u64,
    verdict: Verdict,
    hash_mismatches: u64,
    count_mismatches: u64,
    slowest_start: Duration,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    ensure!(
        options.endpoint.is_none(),
        "durability kills its server, so it starts one of its own: leave --endpoint out"
    );
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut server = Server::start_with(options, SETTINGS).await?;
    let mut totals = Totals::default();
    let mut ledgers: Vec<Ledger> = Vec::new();
    let mut progress = Progress::new("kill and look", arguments.rounds as usize);
    for number in 0..arguments.rounds {
        let namespace = format!("round-{number:05}");
        let seed = random.random();
        let delay = random.random_range(WRITING);
        let mut ledger = write_until_killed(&mut server, namespace, seed, delay, arguments)
            .await
            .with_context(|| format!("round {number}"))?;
        totals.kills += 1;
        if random.random_ratio(PERCENT_KILLED_STARTING, 100) {
            server.spawn()?;
            tokio::time::sleep(random.random_range(Duration::ZERO..STARTING_MAX)).await;
            server.kill().context("kill the starting server")?;
            totals.kills += 1;
        }
        start(&mut server, &mut totals).await?;
        totals.acknowledged += ledger.count(Fate::Acknowledged);
        totals.unknown += ledger.count(Fate::Unknown);

        // A client that has seen nothing: it takes what the server has, and does not wait for more.
        let client = connect(&server)?;
        let unread = read_back(&client, &ledger).await?;
        let mut found = all_of(&client, &ledger).await?;
        let mut verdict = ledger.compare(&found, &unread);
        if random.random_ratio(PERCENT_REPEATED, 100) {
            totals.repeated += repeat_unknown(&client, &mut ledger).await?;
            found = all_of(&client, &ledger).await?;
            verdict = verdict.worse_of(&ledger.compare(&found, &unread));
        }
        totals.verdict.add(&verdict);
        ledger.settle(&found);
        ledgers.push(ledger);
        let before = client.stats().await.context("read stats")?;
        totals.count_mismatches += miscounted(&before, &ledgers);

        server.kill().context("kill the idle server")?;
        totals.kills += 1;
        start(&mut server, &mut totals).await?;
        let after = connect(&server)?.stats().await.context("read stats")?;
        if (&before.state_hash, &before.namespaces) != (&after.state_hash, &after.namespaces) {
            totals.hash_mismatches += 1;
            eprintln!(
                "round {number}: state hash {} at {} became {} at {}",
                before.state_hash, before.position.index, after.state_hash, after.position.index
            );
        }
        progress.add(1);
    }
    let elapsed_s = progress.finish();

    let client = connect(&server)?;
    for ledger in &ledgers {
        let found = all_of(&client, ledger).await?;
        totals
            .verdict
            .add(&ledger.compare(&found, &BTreeSet::new()));
    }
    let memories = ledgers.iter().map(|l| l.expected() as u64).sum();
    Ok(report(arguments, &totals, memories, elapsed_s))
}

/// Lets the writers write for `delay`, then kills the server under them.
async fn write_until_killed(
    server: &mut Server,
    namespace: String,
    seed: u64,
    delay: Duration,
    arguments: &Arguments,
) -> anyhow::Result<Ledger> {
    let (killed, is_killed) = watch::channel(false);
    let mut writers = JoinSet::new();
    let namespace: Arc<str> = namespace.into();
    for number in 0..arguments.writers {
        let writer = Writer::new(server.endpoint(), Arc::clone(&namespace), number, seed)?;
        writers.spawn(writer.run(is_killed.clone()));
    }
    tokio::time::sleep(delay).await;
    // First the word, so that no writer takes an error for the server's own fault.
    killed.send_replace(true);
    server.kill().context("kill the writing server")?;
    let mut ledger = Ledger::new(&namespace);
    while let Some(writes) = writers.join_next().await {
        for write in writes.context("a writer panicked")?? {
            ledger.enter(write);
        }
    }
    Ok(ledger)
}

async fn start(server: &mut Server, totals: &mut Totals) -> anyhow::Result<()> {
    let took = server.restart().await.context("start the killed server")?;
    totals.slowest_start = totals.slowest_start.max(took);
    Ok(())
}

/// Reads every acknowledged memory by its key; returns the keys that did not bring back what was
/// sent.
async fn read_back(client: &Client, ledger: &Ledger) -> anyhow::Result<BTreeSet<Key>> {
    let mut unread = BTreeSet::new();
    for (key, content) in ledger.acknowledged() {
        let get = Get::new(key)
            .namespace(ledger.namespace())
            .freshness(Freshness::Any);
        let memory = client
            .get(get)
            .await
            .context("get an acknowledged memory")?;
        if memory.is_none_or(|memory| memory.content != content) {
            eprintln!("lost: {key} of {}, {content:?}", ledger.namespace());
            unread.insert(key);
        }
    }
    Ok(unread)
}

/// Everything that the server has in the ledger's namespace.
async fn all_of(client: &Client, ledger: &Ledger) -> anyhow::Result<Vec<Memory>> {
    let mut list = List::new().namespace(ledger.namespace()).page_size(1000);
    let mut found = Vec::new();
    loop {
        let page = client.list_page(&list).await.context("list")?;
        found.extend(page.memories);
        match page.next {
            Some(token) => list = list.page_token(token),
            None => return Ok(found),
        }
    }
}

/// Sends again, under the same request ids, what may or may not have been stored: now it is known,
/// and it must not be there twice.
async fn repeat_unknown(client: &Client, ledger: &mut Ledger) -> anyhow::Result<u64> {
    let mut repeated = 0;
    for write in ledger.unknown() {
        match client.learn(write.learn.clone()).await {
            Ok(reply) => {
                let twice = reply.learned.iter().filter(|l| l.occurrences != 1).count();
                ledger.note_twice(twice as u64);
                ledger.acknowledge(&write);
                repeated += 1;
            }
            Err(error) => return Err(error).context("repeat a write under its request id"),
        }
    }
    Ok(repeated)
}

/// Namespaces whose memories the server counts otherwise than the ledgers do.
fn miscounted(stats: &Stats, ledgers: &[Ledger]) -> u64 {
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for namespace in &stats.namespaces {
        counts.entry(&namespace.namespace).or_default().0 = namespace.memories;
    }
    for ledger in ledgers {
        counts.entry(ledger.namespace()).or_default().1 = ledger.expected() as u64;
    }
    let wrong = counts
        .iter()
        .filter(|(_, (counted, expected))| counted != expected);
    wrong
        .inspect(|(namespace, (counted, expected))| {
            eprintln!("{namespace}: the server counts {counted} memories, expected {expected}");
        })
        .count() as u64
}

fn report(arguments: &Arguments, totals: &Totals, memories: u64, elapsed_s: f64) -> Report {
    let Totals { verdict, .. } = totals;
    let mut report = Report::new("durability");
    report.count("rounds", u64::from(arguments.rounds));
    report.count("kills", totals.kills);
    report.count("acknowledged", totals.acknowledged);
    report.count("unknown", totals.unknown);
    report.count("repeated", totals.repeated);
    report.count("memories", memories);
    report.count("lost", verdict.lost);
    report.count("invented", verdict.invented);
    report.count("damaged", verdict.damaged);
    report.count("torn", verdict.torn);
    report.count("twice", verdict.twice);
    report.count("hash_mismatches", totals.hash_mismatches);
    report.count("count_mismatches", totals.count_mismatches);
    report.number("slowest_start_s", totals.slowest_start.as_secs_f64());
    report.number("elapsed_s", elapsed_s);

    let caption = format!(
        "{} rounds, {} writers, {} kills in {elapsed_s:.0} s",
        arguments.rounds, arguments.writers, totals.kills
    );
    let mut table = Table::new(caption, ["experiences", "count"]);
    let rows = [
        ("acknowledged before a kill", totals.acknowledged),
        ("with an unknown outcome", totals.unknown),
        ("writes repeated under their request ids", totals.repeated),
        ("stored in the end", memories),
        ("acknowledged and lost", verdict.lost),
        ("there, but never sent or refused", verdict.invented),
        ("there with another content", verdict.damaged),
        ("batches stored in part", verdict.torn),
        ("stored twice", verdict.twice),
        ("restarts with another state hash", totals.hash_mismatches),
        ("namespaces counted wrongly", totals.count_mismatches),
    ];
    for (what, count) in rows {
        table.row([what.to_owned(), count.to_string()]);
    }
    report.table(table);

    if totals.acknowledged == 0 {
        report.failure("nothing was acknowledged, so nothing was shown");
    }
    for (what, count) in &rows[4..] {
        if *count > 0 {
            report.failure(format!("{what}: {count}, expected 0"));
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(totals: &Totals) -> Vec<String> {
        let arguments = Arguments {
            rounds: 1,
            writers: 1,
        };
        report(&arguments, totals, 5, 1.0).failures().to_vec()
    }

    #[test]
    fn only_a_clean_run_passes() {
        let clean = Totals {
            acknowledged: 5,
            ..Totals::default()
        };
        assert_eq!(failures(&clean), [""; 0]);
        let lost = Verdict {
            lost: 2,
            ..Verdict::default()
        };
        let totals = Totals {
            verdict: lost,
            ..clean.clone()
        };
        assert_eq!(failures(&totals), ["acknowledged and lost: 2, expected 0"]);
        let totals = Totals {
            hash_mismatches: 1,
            ..clean
        };
        assert_eq!(
            failures(&totals),
            ["restarts with another state hash: 1, expected 0"]
        );
    }

    #[test]
    fn a_run_without_an_acknowledged_write_shows_nothing() {
        let failures = failures(&Totals::default());
        assert_eq!(failures, ["nothing was acknowledged, so nothing was shown"]);
    }

    #[tokio::test]
    async fn a_foreign_server_is_not_killed() {
        let options = Options {
            endpoint: Some("http://h:1".into()),
            ..Options::default()
        };
        let error = run(
            &options,
            &Arguments {
                rounds: 1,
                writers: 1,
            },
        )
        .await
        .unwrap_err();
        assert!(
            error.to_string().contains("leave --endpoint out"),
            "{error}"
        );
    }
}
