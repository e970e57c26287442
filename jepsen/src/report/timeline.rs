//! Operations by their outcome over time, with the faults behind them, as an SVG.

use std::fmt::Write as _;

use crate::{
    caller::Answer,
    history::{Call, Operation},
    run::schedule::Strike,
};

const BUCKET_US: u64 = 250_000;

/// Buckets that are drawn, so that a picture has a bounded size: 1,000 s at full resolution.
const BUCKETS_MAX: usize = 4_000;

const WIDTH: f64 = 1_200.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 40.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    done: u64,
    failed: u64,
    unknown: u64,
}

/// What happened when.
#[derive(Clone, Debug)]
pub struct Timeline {
    buckets: Vec<Bucket>,
    bucket_us: u64,
    strikes: Vec<(u64, u64, String)>,
    longest_gap_us: u64,
}

impl Timeline {
    /// Of everything before `until_us`.
    pub fn new<C: Call>(operations: &[Operation<C>], strikes: &[Strike], until_us: u64) -> Self {
        let mut bucket_us = BUCKET_US;
        while until_us / bucket_us > BUCKETS_MAX as u64 {
            bucket_us *= 2;
        }
        let count = usize::try_from(until_us / bucket_us).unwrap_or(0) + 1;
        let mut buckets = vec![Bucket::default(); count];
        let mut acknowledged = vec![0, until_us];
        for operation in operations {
            let at = usize::try_from(operation.completed_us / bucket_us).unwrap_or(usize::MAX);
            let Some(bucket) = buckets.get_mut(at) else {
                continue;
            };
            match operation.answer {
                Answer::Done(_) => {
                    bucket.done += 1;
                    acknowledged.push(operation.completed_us);
                }
                Answer::Refused(_) | Answer::Failed(_) => bucket.failed += 1,
                Answer::Unknown(_) => bucket.unknown += 1,
            }
        }
        acknowledged.sort_unstable();
        let gaps = acknowledged.windows(2).map(|pair| pair[1] - pair[0]);
        Self {
            longest_gap_us: gaps.max().unwrap_or(0),
            buckets,
            bucket_us,
            strikes: strikes
                .iter()
                .map(|strike| (strike.from_us, strike.until_us, strike.nemesis.name()))
                .collect(),
        }
    }

    /// Longest time without an acknowledged operation.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a run are few")]
    pub fn longest_gap_s(&self) -> f64 {
        self.longest_gap_us as f64 / 1e6
    }

    #[expect(clippy::cast_precision_loss, reason = "a picture's coordinates")]
    pub fn svg(&self) -> String {
        let span_us = self.bucket_us * self.buckets.len() as u64;
        let x = |us: u64| MARGIN + (WIDTH - 2.0 * MARGIN) * us as f64 / span_us as f64;
        let all = |bucket: &Bucket| bucket.done + bucket.failed + bucket.unknown;
        let most = self.buckets.iter().map(all).max().unwrap_or(0).max(1);
        let scale = (HEIGHT - 2.0 * MARGIN) / most as f64;
        let floor = HEIGHT - MARGIN;
        let mut out = String::new();
        let mut put = |text: String| writeln!(out, "{text}").expect("a string takes all");
        put(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"11\">"
        ));
        put("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>".to_owned());
        for (at, (from, until, name)) in self.strikes.iter().enumerate() {
            let (left, right) = (x(*from), x((*until).min(span_us)));
            let width = (right - left).max(1.0);
            put(format!(
                "<rect x=\"{left:.1}\" y=\"{MARGIN}\" width=\"{width:.1}\" height=\"{:.1}\" \
                 fill=\"#f6dcd8\"><title>{name}</title></rect>",
                floor - MARGIN
            ));
            let y = MARGIN - 6.0 - 12.0 * (at % 3) as f64;
            put(format!(
                "<text x=\"{left:.1}\" y=\"{y:.1}\" fill=\"#8a2d1f\">{name}</text>"
            ));
        }
        let width = (x(self.bucket_us) - x(0)).max(0.5);
        for (at, bucket) in self.buckets.iter().enumerate() {
            let left = x(at as u64 * self.bucket_us);
            let mut top = floor;
            let parts = [
                (bucket.done, "#2f7d4f"),
                (bucket.failed, "#d09a2c"),
                (bucket.unknown, "#b3372a"),
            ];
            for (count, colour) in parts {
                if count > 0 {
                    let height = count as f64 * scale;
                    top -= height;
                    put(format!(
                        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.2}\" \
                         height=\"{height:.1}\" fill=\"{colour}\"/>"
                    ));
                }
            }
        }
        put(format!(
            "<line x1=\"{MARGIN}\" y1=\"{floor}\" x2=\"{}\" y2=\"{floor}\" stroke=\"black\"/>",
            WIDTH - MARGIN
        ));
        for tenth in 0..=10 {
            let us = span_us * tenth / 10;
            put(format!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0} s</text>",
                x(us),
                floor + 14.0,
                us as f64 / 1e6
            ));
        }
        put(format!(
            "<text x=\"{MARGIN}\" y=\"{}\">operations in {} ms, at most {most}: acknowledged (green), \
             failed (yellow), unknown (red); faults behind them</text>",
            floor + 30.0,
            self.bucket_us / 1_000
        ));
        put("</svg>".to_owned());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        nemesis::Nemesis,
        workload::set::{Ask, Told},
    };

    #[test]
    fn gaps_and_faults_are_seen() {
        let operation = |completed_us: u64| Operation {
            process: 0,
            node: 0,
            invoked_us: completed_us,
            completed_us,
            call: Ask::Add(completed_us),
            answer: Answer::Done(Told::Added),
        };
        let strike = Strike {
            nemesis: Nemesis::KillAll,
            from_us: 500_000,
            until_us: 1_500_000,
            is_effective: true,
            text: String::new(),
        };
        let operations = [operation(100_000), operation(400_000), operation(1_900_000)];
        let timeline = Timeline::new(&operations, &[strike], 2_000_000);
        assert!((timeline.longest_gap_s() - 1.5).abs() < 1e-9);
        let svg = timeline.svg();
        assert!(
            svg.contains("kill-all") && svg.ends_with("</svg>\n"),
            "{svg}"
        );
        assert_eq!(svg.matches("#2f7d4f").count(), 3);
    }
}
