//! What is embedded: texts of an exact number of word pieces, and texts as they come.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::Kind;
use crate::lessons::Lessons;

/// Texts of one batch.
const BATCH: usize = 32;

/// Different batches of each kind, which turns go through.
const BATCHES: usize = 8;

/// Words that are one piece of the model's vocabulary each.
const WORDS: &[&str] = &[
    "the",
    "server",
    "memory",
    "was",
    "full",
    "and",
    "a",
    "process",
    "died",
    "after",
    "new",
    "version",
    "of",
    "code",
    "went",
    "live",
    "in",
    "one",
    "region",
    "we",
    "raised",
    "limit",
    "then",
    "restarted",
    "it",
    "by",
    "hand",
    "network",
    "data",
    "is",
    "slow",
    "when",
    "many",
    "users",
    "write",
    "at",
    "night",
    "disk",
    "error",
    "time",
    "test",
    "failed",
    "on",
    "first",
    "run",
];

/// All kinds, from a seed.
pub(super) fn kinds(seed: u64) -> Vec<Kind> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut of_pieces = |pieces, batch| {
        (0..BATCHES)
            .map(|_| (0..batch).map(|_| text(&mut random, pieces)).collect())
            .collect()
    };
    let (single_20, single_64) = (of_pieces(20, 1), of_pieces(64, 1));
    let batch_64 = of_pieces(64, BATCH);
    let mut lessons = Lessons::new(seed);
    let mut mixed = || {
        let mut text = lessons.lesson().content;
        // Every second one is a short note.
        if random.random_bool(0.5) {
            text.truncate(text.find(". ").map_or(text.len(), |at| at + 1));
        }
        text
    };
    let mixed = (0..BATCHES)
        .map(|_| (0..BATCH).map(|_| mixed()).collect())
        .collect();
    vec![
        Kind {
            name: "single_20",
            title: "one of 20 pieces",
            batches: single_20,
        },
        Kind {
            name: "single_64",
            title: "one of 64 pieces",
            batches: single_64,
        },
        Kind {
            name: "batch_64",
            title: "32 of 64 pieces",
            batches: batch_64,
        },
        Kind {
            name: "batch_mixed",
            title: "32 of mixed length",
            batches: mixed,
        },
    ]
}

/// Word pieces, `[CLS]` and `[SEP]` included, of each text of the kind called `name`; `None` where
/// they differ.
pub(super) fn pieces(name: &str) -> Option<usize> {
    name.split_once('_')
        .and_then(|(_, pieces)| pieces.parse().ok())
}

/// `pieces - 2` words, as `[CLS]` and `[SEP]` are pieces too.
fn text(random: &mut StdRng, pieces: usize) -> String {
    let words: Vec<&str> = (2..pieces)
        .map(|_| *WORDS.choose(random).expect("there are words"))
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_what_their_names_say() {
        let kinds = kinds(1);
        let sizes: Vec<_> = kinds.iter().map(|k| (k.name, k.batches[0].len())).collect();
        assert_eq!(
            sizes,
            [
                ("single_20", 1),
                ("single_64", 1),
                ("batch_64", 32),
                ("batch_mixed", 32)
            ]
        );
        assert_eq!(kinds[0].batches[0][0].split(' ').count(), 18);
        assert_eq!(
            (pieces("single_64"), pieces("batch_mixed")),
            (Some(64), None)
        );
    }
}
