//! When which fault strikes: by the seed, each chosen one at least once, until the time is over.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::{Rng as _, rngs::StdRng};
use tokio::time::sleep;

use super::{Options, random};
use crate::{
    cluster::Cluster,
    nemesis::{Effect, Nemesis, Scene},
};

/// Between two faults, so that some of them meet a cluster that is well.
const QUIET_MS: std::ops::RangeInclusive<u64> = 800..=3_000;

/// Attempts at a fault that has no effect.
const TRIES_MAX: u32 = 4;

/// One fault that was tried.
#[derive(Clone, Debug)]
pub struct Strike {
    pub nemesis: Nemesis,
    pub from_us: u64,
    pub until_us: u64,
    pub is_effective: bool,
    /// The evidence, or why there is none.
    pub text: String,
}

/// The faults of one run.
#[derive(Debug)]
pub struct Schedule {
    nemeses: Vec<Nemesis>,
    random: StdRng,
    time: Duration,
    hold: Duration,
    recovery: Duration,
    strikes: Vec<Strike>,
}

impl Schedule {
    pub fn new(nemeses: &[Nemesis], options: &Options) -> Self {
        Self {
            nemeses: nemeses.to_vec(),
            random: random(options.seed ^ 0x5EED),
            time: Duration::from_secs(options.time),
            hold: Duration::from_secs(options.hold),
            recovery: Duration::from_secs(options.recovery),
            strikes: Vec::new(),
        }
    }

    pub fn strikes(&self) -> &[Strike] {
        &self.strikes
    }

    /// Strikes until the time is over and each fault had its turn.
    pub async fn run(
        &mut self,
        cluster: &mut Cluster,
        start: Instant,
    ) -> anyhow::Result<Vec<Strike>> {
        let mut turns: Vec<Nemesis> = Vec::new();
        loop {
            let rest = self.time.saturating_sub(start.elapsed());
            let has_each_struck = self.nemeses.iter().all(|n| self.is_settled(*n));
            if self.nemeses.is_empty() {
                sleep(rest).await;
                return Ok(Vec::new());
            }
            if rest.is_zero() && has_each_struck {
                return Ok(self.strikes.clone());
            }
            let quiet = Duration::from_millis(self.random.random_range(QUIET_MS));
            sleep(quiet).await;
            cluster.notice_exits()?;
            cluster.start_all()?;
            if turns.is_empty() {
                turns.clone_from(&self.nemeses);
            }
            // In a random order, each once in every round; when time is over, only what is missing.
            let mut chosen = turns.swap_remove(self.random.random_range(0..turns.len()));
            if rest.is_zero() {
                let missing = self.nemeses.iter().find(|n| !self.is_settled(**n));
                chosen = *missing.expect("not each has struck");
            }
            self.strike(chosen, cluster, start)
                .await
                .with_context(|| format!("strike with {}", chosen.name()))?;
        }
    }

    /// Whether a fault took effect, or was tried often enough to say that it does not.
    fn is_settled(&self, nemesis: Nemesis) -> bool {
        let tries = self.strikes.iter().filter(|s| s.nemesis == nemesis);
        let (mut count, mut is_effective) = (0, false);
        for strike in tries {
            count += 1;
            is_effective |= strike.is_effective;
        }
        is_effective || count >= TRIES_MAX
    }

    async fn strike(
        &mut self,
        nemesis: Nemesis,
        cluster: &mut Cluster,
        start: Instant,
    ) -> anyhow::Result<()> {
        let now_us = || u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let from_us = now_us();
        let hold = self.hold.mul_f64(self.random.random_range(0.6..1.4));
        eprintln!(
            "{:6.1} s: {}",
            start.elapsed().as_secs_f64(),
            nemesis.name()
        );
        let scene = Scene {
            cluster,
            random: &mut self.random,
            hold,
            recovery: self.recovery,
        };
        let effect = nemesis.strike(scene).await?;
        let (is_effective, text) = match effect {
            Effect::Seen(text) => (true, text),
            Effect::Nothing(text) => (false, text),
        };
        eprintln!(
            "{:6.1} s: {}{text}",
            start.elapsed().as_secs_f64(),
            if is_effective { "" } else { "no effect: " }
        );
        self.strikes.push(Strike {
            nemesis,
            from_us,
            until_us: now_us(),
            is_effective,
            text,
        });
        Ok(())
    }
}
