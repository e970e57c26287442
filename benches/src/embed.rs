//! `embed`: how fast are texts embedded, compared to onnxruntime on the same texts and cores?
//!
//! ```text
//! this process (crates/index) ◀── one text or batch ──▶ peers/onnxruntime_embed.py
//!          └────────── in turns, so that noise hits both alike ──────────┘
//! ```
//!
//! Each side measures itself from the text to the vector, tokenising included. Ours makes the
//! rotated sign bits of all token states besides, which the peer does not.

mod peer;
mod texts;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use memorygate_core::embedding::{Embedder, Passage};
use memorygate_index::embed::MiniLm;
use serde_json::json;

use self::peer::Peer;
use crate::{
    options::Options,
    progress::Progress,
    report::{Report, Table, rounded},
    statistics::Sample,
};

/// The two models are the same, up to rounding.
const COSINE_MIN: f64 = 0.9999;

/// Turns that are not counted: caches and clocks settle.
const WARM_UP: usize = 3;

/// Between two turns, so that threads of the one side that still spin leave the cores to the other.
const PAUSE: Duration = Duration::from_millis(3);

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Turns that each side takes with each kind of texts.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rounds: u64,
    /// Threads of each side; otherwise one a core.
    #[arg(long)]
    threads: Option<std::num::NonZero<usize>>,
    /// A Python that has numpy, onnx, onnxruntime and tokenizers; otherwise that of `.venv`, or
    /// `python3`.
    #[arg(long, value_name = "FILE")]
    python: Option<String>,
}

/// Texts of one kind.
struct Kind {
    name: &'static str,
    title: &'static str,
    /// One turn embeds one of these.
    batches: Vec<Vec<String>>,
}

impl Kind {
    fn is_single(&self) -> bool {
        self.batches.iter().all(|batch| batch.len() == 1)
    }
}

/// Times of one kind, in milliseconds a turn.
struct Measured {
    ours: Sample,
    theirs: Sample,
    texts: usize,
}

impl Measured {
    /// Our texts a second over theirs, by the medians.
    fn ratio(&self) -> f64 {
        self.theirs.median() / self.ours.median()
    }

    /// The same by the fastest turns, which noise reached least.
    fn ratio_of_fastest(&self) -> f64 {
        self.theirs.least() / self.ours.least()
    }
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    ensure!(
        options.endpoint.is_none(),
        "embed measures the model in this process, not a server: leave --endpoint out"
    );
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = arguments.threads.map_or_else(cores, std::num::NonZero::get);
    let dir = options.model_dir();
    let model = MiniLm::open(&dir, threads).with_context(|| {
        format!(
            "open the model in {}; name it with --model-dir",
            dir.display()
        )
    })?;
    let mut peer = Peer::start(arguments.python.as_deref(), &dir, threads)?;
    let rounds = usize::try_from(arguments.rounds).context("so many rounds never end")?;

    let mut measured = Vec::new();
    for kind in texts::kinds(options.seed) {
        measured.push((measure(&kind, &model, &mut peer, rounds)?, kind));
    }
    Ok(report(&measured, threads, rounds))
}

fn measure(
    kind: &Kind,
    model: &impl Embedder,
    peer: &mut Peer,
    rounds: usize,
) -> anyhow::Result<Measured> {
    let mut progress = Progress::new(format!("embed, {}", kind.title), rounds);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (at, batch) in kind
        .batches
        .iter()
        .cycle()
        .take(WARM_UP + rounds)
        .enumerate()
    {
        let passages: Vec<Passage> = batch
            .iter()
            .map(|text| Passage {
                text: text.clone(),
                before: Vec::new(),
            })
            .collect();
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        let embeddings = model.embed(&passages).context("embed")?;
        let our_ms = start.elapsed().as_secs_f64() * 1e3;
        std::thread::sleep(PAUSE);
        let answer = peer.embed(batch)?;
        if let Some(pieces) = texts::pieces(kind.name) {
            ensure!(
                answer.pieces == pieces * batch.len(),
                "a text of {} has {} pieces, expected {pieces}",
                kind.name,
                answer.pieces / batch.len()
            );
        }
        for (embedding, theirs) in embeddings.iter().zip(&answer.vectors) {
            let cosine = cosine(&embedding.windows[0].dense, theirs);
            ensure!(
                cosine >= COSINE_MIN,
                "cosine to the peer is {cosine}, expected ≥ {COSINE_MIN}"
            );
        }
        if at >= WARM_UP {
            ours.push(our_ms);
            theirs.push(answer.ms);
            progress.add(1);
        }
    }
    progress.finish();
    let sample = |times| Sample::new(times).expect("there is at least one round");
    Ok(Measured {
        ours: sample(ours),
        theirs: sample(theirs),
        texts: kind.batches[0].len(),
    })
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn report(measured: &[(Measured, Kind)], threads: usize, rounds: usize) -> Report {
    let mut report = Report::new("embed");
    let caption = format!(
        "Embedding by memorygate and by onnxruntime, threads of each: {threads}, turns: {rounds}"
    );
    let header = [
        "texts",
        "ours ms",
        "theirs ms",
        "ours texts/s",
        "theirs texts/s",
        "ratio",
        "of fastest",
    ];
    let mut table = Table::new(caption, header);
    let mut kinds = serde_json::Map::new();
    for (measured, kind) in measured {
        let Measured {
            ours,
            theirs,
            texts,
        } = measured;
        let per_s = |sample: &Sample| *texts as f64 / sample.median() * 1e3;
        let ratio = measured.ratio();
        table.row([
            kind.title.to_owned(),
            format!("{:.2}", ours.median()),
            format!("{:.2}", theirs.median()),
            format!("{:.1}", per_s(ours)),
            format!("{:.1}", per_s(theirs)),
            format!("{ratio:.2}"),
            format!("{:.2}", measured.ratio_of_fastest()),
        ]);
        kinds.insert(
            kind.name.to_owned(),
            json!({
                "ours_ms": rounded(ours.median()),
                "onnxruntime_ms": rounded(theirs.median()),
                "ours_texts_per_s": rounded(per_s(ours)),
                "onnxruntime_texts_per_s": rounded(per_s(theirs)),
                "ratio": rounded(ratio),
                "ratio_of_fastest": rounded(measured.ratio_of_fastest()),
            }),
        );
    }
    report.table(table);
    // One figure stands for several kinds, so it is the worst of them.
    let worst = |is_single: bool| {
        let of_these = measured
            .iter()
            .filter(|(_, kind)| kind.is_single() == is_single);
        of_these
            .map(|(measured, _)| measured.ratio())
            .fold(f64::INFINITY, f64::min)
    };
    report.number("ratio_single", worst(true));
    report.number("ratio_batch", worst(false));
    report.count("threads", threads as u64);
    report.count("rounds", rounds as u64);
    report.value("kinds", kinds.into());
    report.note(
        "Ratios are our texts a second over onnxruntime's; the keys ratio_single and ratio_batch \
         are the worst of their kind.",
    );
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &'static str, batch: usize, ours: f64, theirs: f64) -> (Measured, Kind) {
        let sample = |value: f64| Sample::new(vec![value * 2.0, value, value]).unwrap();
        let kind = Kind {
            name,
            title: name,
            batches: vec![vec![String::new(); batch]],
        };
        (
            Measured {
                ours: sample(ours),
                theirs: sample(theirs),
                texts: batch,
            },
            kind,
        )
    }

    #[test]
    fn the_worst_of_a_kind_stands_for_it() {
        let measured = [
            measured("single_20", 1, 4.0, 4.0),
            measured("single_64", 1, 10.0, 8.0),
            measured("batch_64", 32, 300.0, 330.0),
        ];
        let report = report(&measured, 2, 3);
        let mut out = Vec::new();
        report
            .print(&crate::machine::Machine::example(), &mut out, None)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["ratio_single"], 0.8);
        assert_eq!(last["ratio_batch"], 1.1);
        assert_eq!(last["kinds"]["single_64"]["ours_texts_per_s"], 100.0);
    }

    #[test]
    fn cosines_are_those_of_the_directions() {
        assert_eq!(cosine(&[2.0, 0.0], &[5.0, 0.0]), 1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 3.0]), 0.0);
    }
}
