//! How many memories of a namespace hold each word piece: the weights of late interaction.
//!
//! Counts are integers over live memories only, kept step by step, so replicas that hold the same
//! memories weigh pieces the same, whatever their histories were.

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

    /// `ln(1 + (N − df + ½) / (df + ½))`, always above zero.
    pub(crate) fn weight(&self, piece: u16) -> f64 {
        inverse_document_frequency(self.memories, self.frequency(piece))
    }
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

/// How much a term tells that `frequency` of `documents` hold (Robertson and Spärck Jones, in the
/// form that Lucene uses, which never falls below zero).
pub(crate) fn inverse_document_frequency(documents: u32, frequency: u32) -> f64 {
    let (n, df) = (f64::from(documents), f64::from(frequency));
    ln(1.0 + (n - df + 0.5) / (df + 0.5))
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
        assert_eq!(counts.weight(7), 2.0_f64.ln());
        assert!(counts.weight(9) > 0.0);
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
