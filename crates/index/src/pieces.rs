//! How many memories of a namespace hold each word piece: the weights of late interaction.
//!
//! Counts are integers over live memories only, kept step by step, so replicas that hold the same
//! memories weigh pieces the same, whatever their histories were.
//!
//! A namespace knows its own words and not the language. Counted there alone, whoever asks in other words
//! than those that were learned asks in words that seem rare, and "waited" outweighs the name of the
//! service. So what a namespace counts is smoothed by what is known of English: the pieces of the
//! vocabulary are numbered by falling frequency, and by Zipf's law that says how frequent each is.

use crate::logarithm::ln;

/// Document frequencies of word pieces, for one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PieceCounts {
    /// Indexed by piece id.
    frequency: Vec<u32>,
    memories: u32,
}

impl PieceCounts {
    /// Counts a memory whose token states stand for `pieces`; a piece counts once a memory.
    /// A memory without states is not counted at all.
    pub(crate) fn add(&mut self, pieces: &Distinct) {
        if pieces.0.is_empty() {
            return;
        }
        self.memories += 1;
        for piece in &pieces.0 {
            let at = usize::from(*piece);
            if at >= self.frequency.len() {
                self.frequency.resize(at + 1, 0);
            }
            self.frequency[at] += 1;
        }
    }

    /// Takes back what [`PieceCounts::add`] counted for the same pieces.
    pub(crate) fn remove(&mut self, pieces: &Distinct) {
        if pieces.0.is_empty() {
            return;
        }
        self.memories -= 1;
        for piece in &pieces.0 {
            self.frequency[usize::from(*piece)] -= 1;
        }
        while self.frequency.last() == Some(&0) {
            self.frequency.pop();
        }
    }

    /// Memories that hold `piece`.
    pub(crate) fn frequency(&self, piece: u16) -> u32 {
        self.frequency.get(usize::from(piece)).copied().unwrap_or(0)
    }

    /// The inverse document frequency of `piece` in the memories of this namespace and as many texts of
    /// English, always above zero. A piece that no memory holds counts [`UNHELD`] of that.
    pub(crate) fn weight(&self, piece: u16) -> f64 {
        let (memories, held) = (f64::from(self.memories), f64::from(self.frequency(piece)));
        let in_english = memories * share_in_english(piece);
        let weight = inverse_document_frequency(memories + memories, held + in_english);
        if held == 0.0 { UNHELD * weight } else { weight }
    }
}

/// What a piece that no memory holds counts of its weight: it finds what means nearly the same, and no
/// memory is found by the piece itself.
const UNHELD: f64 = 0.5;

/// The first of the pieces that are numbered by falling frequency, "the", in the uncased vocabulary of
/// BERT, which all models of the MiniLM family share. Before it come signs, single letters and digits.
const FIRST_BY_FREQUENCY: u16 = 1996;

/// The rank of what has none, of a sign or a letter: about that of "at" and "from".
const RANK_OF_SIGNS: u16 = 20;

/// Pieces of a text of English. How long the texts are matters little: half or twice as many moved no figure
/// of the reference by a point.
const TEXT_PIECES: f64 = 30.0;

/// No piece is in more texts than this.
const SHARE_MAX: f64 = 0.9;

/// The share of texts that hold `piece`. By Zipf's law the piece of rank r is 1 of 10 r pieces of a text.
fn share_in_english(piece: u16) -> f64 {
    let rank = match piece.checked_sub(FIRST_BY_FREQUENCY) {
        Some(before) => f64::from(before) + 1.0,
        None => f64::from(RANK_OF_SIGNS),
    };
    (TEXT_PIECES / (10.0 * rank)).min(SHARE_MAX)
}

/// The different pieces of one memory, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distinct(Box<[u16]>);

impl Distinct {
    pub(crate) fn of(pieces: impl IntoIterator<Item = u16>) -> Self {
        let mut pieces: Vec<u16> = pieces.into_iter().collect();
        pieces.sort_unstable();
        pieces.dedup();
        Self(pieces.into())
    }

    pub(crate) fn as_slice(&self) -> &[u16] {
        &self.0
    }
}

/// How much a term tells that `frequency` of `documents` hold: `ln(1 + (N − df + ½) / (df + ½))`, after
/// Robertson and Spärck Jones, in the form that Lucene uses, which never falls below zero.
pub(crate) fn inverse_document_frequency(documents: f64, frequency: f64) -> f64 {
    ln(1.0 + (documents - frequency + 0.5) / (frequency + 0.5))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_piece_counts_once_a_memory_and_stateless_memories_do_not_count() {
        let mut counts = PieceCounts::default();
        counts.add(&Distinct::of([7, 7, 7, 9]));
        counts.add(&Distinct::of([]));
        counts.add(&Distinct::of([9]));
        assert_eq!(counts.memories, 2);
        assert_eq!(
            (
                counts.frequency(7),
                counts.frequency(9),
                counts.frequency(8)
            ),
            (1, 2, 0)
        );
    }

    #[test]
    fn words_of_the_language_weigh_less_than_names_though_no_memory_holds_them() {
        let (the, registry, waited) = (1996, 15_584, 4741);
        let mut counts = PieceCounts::default();
        assert!(
            counts.weight(registry) > 0.0,
            "an empty namespace has weights"
        );
        for memory in 0..1000 {
            let pieces = if memory % 40 == 0 {
                vec![the, registry]
            } else {
                vec![the]
            };
            counts.add(&Distinct::of(pieces));
        }
        assert!(counts.weight(registry) > counts.weight(waited));
        assert!(counts.weight(waited) > counts.weight(the));
        assert!(counts.weight(the) > 0.0);
        // 25 of 1,000 memories hold it, and 30 / (10 × 13,589) of as many texts.
        let held = 25.0 + 1000.0 * 30.0 / 135_890.0;
        let expected = (1.0_f64 + (2000.0 - held + 0.5) / (held + 0.5)).ln();
        assert!((counts.weight(registry) - expected).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn only_what_is_live_counts(
            memories in prop::collection::vec(
                (prop::collection::vec(0_u16..40, 0..12), any::<bool>()), 0..30),
        ) {
            let (mut lived, mut fresh) = (PieceCounts::default(), PieceCounts::default());
            for (pieces, _) in &memories {
                lived.add(&Distinct::of(pieces.iter().copied()));
            }
            for (pieces, stays) in memories {
                let pieces = Distinct::of(pieces);
                if stays {
                    fresh.add(&pieces);
                } else {
                    lived.remove(&pieces);
                }
            }
            prop_assert_eq!(lived, fresh);
        }
    }
}
