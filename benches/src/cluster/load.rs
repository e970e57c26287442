//! One turn: so many callers for so long, each with the next request as soon as the last is answered.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

use super::Work;
use crate::contest::{Contender, Lines, NODES, Reading, Written, values::Values};

/// Before what counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// Values that readers read.
const READ_FROM: usize = 256;

/// What was seen within the time that counts.
pub(super) struct Turn {
    /// Of each answered request.
    pub(super) times_ms: Vec<f64>,
    /// Of each node.
    pub(super) cpu: Vec<Duration>,
    pub(super) callers_cpu: Duration,
    /// How long the cluster worked on after the last answer.
    pub(super) settled: Duration,
}

pub(super) async fn turn(
    contender: &Contender,
    values: &Values,
    work: Work,
    callers: usize,
    duration: Duration,
) -> anyhow::Result<Turn> {
    let lines = contender.lines()?;
    let written = match work {
        Work::Read(_) => fill(&lines, values).await?,
        Work::Write => Vec::new(),
    };
    let from = Instant::now() + WARM_UP;
    let until = from + duration;
    let mut running = JoinSet::new();
    for number in 0..callers {
        let caller = Caller {
            number,
            lines: lines.clone(),
            values: values.clone(),
            written: written.clone(),
            work,
        };
        running.spawn(caller.run(from, until));
    }
    tokio::time::sleep_until(from.into()).await;
    let (cpu_before, callers_before) = (contender.cpu()?, own_cpu());
    tokio::time::sleep_until(until.into()).await;
    let (cpu_after, callers_after) = (contender.cpu()?, own_cpu());
    let mut times_ms = Vec::new();
    while let Some(of_caller) = running.join_next().await {
        times_ms.extend(of_caller.context("a caller panicked")??);
    }
    let spent = cpu_after.iter().zip(&cpu_before);
    Ok(Turn {
        times_ms,
        cpu: spent
            .map(|(after, before)| after.saturating_sub(*before))
            .collect(),
        callers_cpu: callers_after.saturating_sub(callers_before),
        settled: contender.settle().await?,
    })
}

struct Caller {
    number: usize,
    lines: Lines,
    values: Values,
    written: Vec<Written>,
    work: Work,
}

impl Caller {
    /// Milliseconds of each answer that came between `from` and `until`. Every request goes to the
    /// next node.
    async fn run(self, from: Instant, until: Instant) -> anyhow::Result<Vec<f64>> {
        let mut times_ms = Vec::new();
        let mut round = self.number;
        while Instant::now() < until {
            let node = round % NODES;
            let took = self.request(node, round).await?;
            round += 1;
            let now = Instant::now();
            if now >= from && now < until {
                times_ms.push(took.as_secs_f64() * 1e3);
            }
        }
        Ok(times_ms)
    }

    async fn request(&self, node: usize, round: usize) -> anyhow::Result<Duration> {
        let Self { number, lines, .. } = self;
        match self.work {
            Work::Write => {
                let value = self.values.next();
                let start = Instant::now();
                lines.write(node, *number, value).await.context("write")?;
                Ok(start.elapsed())
            }
            Work::Read(reading @ Reading::Linearizable) => {
                let written = &self.written[round % self.written.len()];
                let start = Instant::now();
                let read = lines.read(node, *number, written, reading).await;
                read.context("read")?;
                Ok(start.elapsed())
            }
            Work::Read(reading @ Reading::Session) => {
                let written = lines.write(node, *number, self.values.next()).await;
                let written = written.context("write")?;
                let start = Instant::now();
                let read = lines.read(node + 1, *number, &written, reading).await;
                read.context("read on another node what was just written")?;
                Ok(start.elapsed())
            }
        }
    }
}

async fn fill(lines: &Lines, values: &Values) -> anyhow::Result<Vec<Written>> {
    let mut written = Vec::with_capacity(READ_FROM);
    for at in 0..READ_FROM {
        let wrote = lines.write(at % NODES, 0, values.next()).await;
        written.push(wrote.context("write what is read")?);
    }
    Ok(written)
}

/// Processor time of this process.
fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
