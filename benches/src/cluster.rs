//! `cluster`: how fast do three nodes acknowledge writes and answer reads, beside a 3-member etcd that
//! is asked to do the same on the same disk?
//!
//! ```text
//! for each number of callers:  memorygate · etcd · etcd · memorygate · …   (writes of 2 KiB)
//! then:                        the same with linearizable reads, and reads of one's own writes
//! ```
//!
//! The two take turns, so that what else this machine does meets both. Callers, servers and disk share
//! the machine, which is why processor time is reported beside what the clock says.

mod load;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueHint};

use self::load::Turn;
use crate::{
    contest::{Contender, NODES, Reading, etcd::Etcd, memorygate::MemoryGate, values::Values},
    options::Options,
    report::{Report, Table},
    statistics::Sample,
};

/// Callers of the linearizable reads.
const READERS: usize = 64;

/// Callers of the reads of one's own writes: each writes on one node and reads on the next.
const SESSIONS: usize = 16;

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Callers at once, in the order measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 256])]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    callers: Vec<u64>,
    /// How long one turn of one cluster takes.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Turns of each cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    turns: u64,
    /// The program etcd, if it is not on the path.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    etcd: Option<PathBuf>,
    /// Measures MemoryGate alone.
    #[arg(long, conflicts_with = "etcd")]
    without_etcd: bool,
}

/// What the callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Write,
    Read(Reading),
}

/// All turns of one cluster at one work.
struct Measured {
    per_s: f64,
    times: Sample,
    cpu_us: Vec<f64>,
    callers_cpu_us: f64,
    settled: Duration,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let mut contenders = Vec::new();
    if !arguments.without_etcd {
        let program = arguments.etcd.as_deref();
        contenders.push(Contender::Etcd(Etcd::start(options, program).await?));
    }
    let ours = MemoryGate::start(options, &[]).await?;
    contenders.insert(0, Contender::MemoryGate(ours));
    let values = Values::new(options.seed);
    let mut report = Report::new("cluster");
    report.count("nodes", NODES as u64);
    report.count("value_bytes", values.next().encoded().len() as u64);

    let header = [
        "writes",
        "per s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU µs a write: leader",
        "followers",
        "callers",
    ];
    let mut table = Table::new(
        "Writes of 2 KiB, acknowledged when they are synced on a majority",
        header,
    );
    for callers in &arguments.callers {
        let callers = usize::try_from(*callers).context("so many callers fit in no memory")?;
        let all = take_turns(&contenders, &values, Work::Write, callers, arguments).await?;
        enter(&mut report, &mut table, &contenders, &all, "write", callers);
    }
    report.table(table);

    let header = [
        "reads",
        "per s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU µs a read: leader",
        "followers",
        "callers",
    ];
    let mut table = Table::new("Linearizable reads on all nodes", header);
    let work = Work::Read(Reading::Linearizable);
    let all = take_turns(&contenders, &values, work, READERS, arguments).await?;
    enter(
        &mut report,
        &mut table,
        &contenders,
        &all,
        "linearizable_read",
        READERS,
    );
    report.table(table);
    let mut table = Table::new(
        "Reads of what was just written on another node: by its position, in etcd linearizable",
        header,
    );
    let work = Work::Read(Reading::Session);
    let all = take_turns(&contenders, &values, work, SESSIONS, arguments).await?;
    enter(
        &mut report,
        &mut table,
        &contenders,
        &all,
        "session_read",
        SESSIONS,
    );
    report.table(table);
    Ok(report)
}

/// One after the other, the first last in every second round.
async fn take_turns(
    contenders: &[Contender],
    values: &Values,
    work: Work,
    callers: usize,
    arguments: &Arguments,
) -> anyhow::Result<Vec<Measured>> {
    let duration = Duration::from_secs(arguments.seconds);
    let mut turns: Vec<Vec<Turn>> = contenders.iter().map(|_| Vec::new()).collect();
    for turn in 0..arguments.turns {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let contender = &contenders[at];
            let measured = load::turn(contender, values, work, callers, duration).await;
            let measured = measured.with_context(|| contender.name())?;
            eprintln!(
                "{} callers, {work:?}: {} does {:.0}/s",
                callers,
                contender.name(),
                measured.times_ms.len() as f64 / arguments.seconds as f64
            );
            turns[at].push(measured);
        }
    }
    turns
        .into_iter()
        .map(|turns| sum(turns, duration))
        .collect()
}

fn sum(turns: Vec<Turn>, duration: Duration) -> anyhow::Result<Measured> {
    let seconds = duration.as_secs_f64() * turns.len() as f64;
    let (mut times_ms, mut settled) = (Vec::new(), Duration::ZERO);
    let (mut cpu, mut callers_cpu) = (vec![Duration::ZERO; NODES], Duration::ZERO);
    for turn in turns {
        times_ms.extend(turn.times_ms);
        settled = settled.max(turn.settled);
        callers_cpu += turn.callers_cpu;
        for (all, one) in cpu.iter_mut().zip(turn.cpu) {
            *all += one;
        }
    }
    let count = times_ms.len() as f64;
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / count;
    Ok(Measured {
        per_s: count / seconds,
        times: Sample::new(times_ms).context("nothing was answered in that time")?,
        cpu_us: cpu.into_iter().map(each).collect(),
        callers_cpu_us: each(callers_cpu),
        settled,
    })
}

/// Keys `{etcd_}{what}s_per_s_{callers}`, `{etcd_}{what}_p50_ms_{callers}` and so on, and how we stand
/// to etcd.
fn enter(
    report: &mut Report,
    table: &mut Table,
    contenders: &[Contender],
    all: &[Measured],
    what: &str,
    callers: usize,
) {
    for (contender, measured) in contenders.iter().zip(all) {
        let prefix = contender.prefix();
        let Measured {
            per_s,
            times,
            cpu_us,
            callers_cpu_us,
            settled,
        } = measured;
        let (p50, p99) = (times.percentile(50.0), times.percentile(99.0));
        report.number(&format!("{prefix}{what}s_per_s_{callers}"), *per_s);
        report.number(&format!("{prefix}{what}_p50_ms_{callers}"), p50);
        report.number(&format!("{prefix}{what}_p99_ms_{callers}"), p99);
        // The leader does most; which node that is does not matter here.
        let most = cpu_us.iter().copied().fold(0.0, f64::max);
        let others = cpu_us.iter().sum::<f64>() - most;
        let of_all = most + others;
        report.number(&format!("{prefix}{what}_cpu_us_{callers}"), of_all);
        if matches!(contender, Contender::MemoryGate(_)) && what == "write" {
            let settled_s = settled.as_secs_f64();
            report.number(
                &format!("{prefix}{what}_index_behind_s_{callers}"),
                settled_s,
            );
        }
        table.row([
            format!("{}, {callers} callers", contender.name()),
            format!("{per_s:.0}"),
            format!("{p50:.2}"),
            format!("{p99:.2}"),
            format!("{:.2}", times.greatest()),
            format!("{most:.0}"),
            format!("{others:.0}"),
            format!("{callers_cpu_us:.0}"),
        ]);
    }
    if let [ours, etcd] = all {
        let p50 = ours.times.percentile(50.0) / etcd.times.percentile(50.0);
        report.number(
            &format!("{what}s_to_etcd_{callers}"),
            ours.per_s / etcd.per_s,
        );
        report.number(&format!("{what}_p50_to_etcd_{callers}"), p50);
    }
}
