//! Says on stderr how far a long step is, at most every few seconds.

use std::time::{Duration, Instant};

/// Between two lines, so that a log file stays readable.
const INTERVAL: Duration = Duration::from_secs(5);

/// One long step with a known number of parts.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    total: usize,
    done: usize,
    start: Instant,
    said: Instant,
}

impl Progress {
    pub(crate) fn new(what: impl Into<String>, total: usize) -> Self {
        let (what, now) = (what.into(), Instant::now());
        eprintln!("{what}: {total}");
        Self {
            what,
            total,
            done: 0,
            start: now,
            said: now,
        }
    }

    /// `parts` more are done.
    pub(crate) fn add(&mut self, parts: usize) {
        self.done += parts;
        if self.said.elapsed() >= INTERVAL && self.done < self.total {
            self.said = Instant::now();
            let rate = self.done as f64 / self.start.elapsed().as_secs_f64();
            let left_s = (self.total - self.done) as f64 / rate;
            let Self {
                what, total, done, ..
            } = self;
            eprintln!("{what}: {done} of {total}, {rate:.1}/s, about {left_s:.0} s left");
        }
    }

    /// Everything is done: seconds that it took.
    pub(crate) fn finish(self) -> f64 {
        let elapsed_s = self.start.elapsed().as_secs_f64();
        eprintln!("{}: {} in {elapsed_s:.1} s", self.what, self.done);
        elapsed_s
    }
}
