//! The best of many scored slots, in the one order that every replica agrees on.

use std::cmp::Ordering;

/// A slot and how well it fits; higher is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) slot: u32,
    pub(crate) score: f64,
}

/// Collects the `n` best of any number: highest score first, equal scores by ascending key. Slot
/// numbers depend on a replica's history, so they never decide; `key` must tell any two of the
/// slots apart.
pub(crate) struct Best<F> {
    n: usize,
    key: F,
    /// At most twice `n` and [`SPARE`]; what exceeds `n` is dropped when it is full.
    kept: Vec<Scored>,
    /// `n` kept ones are at least as good as this.
    floor: f64,
}

/// Room beyond `n`, so that a small `n` does not prune at every other slot.
const SPARE: usize = 64;

impl<K: Ord, F: Fn(u32) -> K> Best<F> {
    pub(crate) fn new(n: usize, key: F) -> Self {
        Self {
            n,
            key,
            kept: Vec::new(),
            floor: f64::NEG_INFINITY,
        }
    }

    /// Each slot is offered at most once.
    #[inline]
    pub(crate) fn offer(&mut self, slot: u32, score: f64) {
        // One that is worse than `n` others can be dropped unseen; one that is equal cannot.
        if score.total_cmp(&self.floor) != Ordering::Less {
            self.keep(Scored { slot, score });
        }
    }

    fn keep(&mut self, scored: Scored) {
        if self.n == 0 {
            return;
        }
        if self.kept.len() >= self.n.saturating_mul(2).saturating_add(SPARE) {
            self.prune();
        }
        self.kept.push(scored);
    }

    fn prune(&mut self) {
        if self.n < self.kept.len() {
            let key = &self.key;
            let (_, last, _) = self
                .kept
                .select_nth_unstable_by(self.n - 1, |a, b| order(a, b, key));
            self.floor = last.score;
            self.kept.truncate(self.n);
        }
    }

    /// The `n` best, or all that were offered if they are fewer, best first.
    pub(crate) fn into_sorted(mut self) -> Vec<Scored> {
        self.prune();
        let key = &self.key;
        self.kept.sort_unstable_by(|a, b| order(a, b, key));
        self.kept
    }
}

fn order<K: Ord>(a: &Scored, b: &Scored, key: impl Fn(u32) -> K) -> Ordering {
    b.score
        .total_cmp(&a.score)
        .then_with(|| key(a.slot).cmp(&key(b.slot)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_the_head_of_the_sorted_whole(
            scores in prop::collection::vec(0_u8..5, 0..600),
            n in 0_usize..70,
            salt in any::<u32>(),
        ) {
            let key = |slot: u32| (u64::from(slot) * 2_654_435_761 + u64::from(salt)) % 4_294_967_291;
            let mut best = Best::new(n, key);
            let mut all: Vec<_> = (0..).zip(&scores).map(|(slot, s)| (255 - s, key(slot), slot)).collect();
            for (score, _, slot) in &all {
                best.offer(*slot, f64::from(255 - *score));
            }
            all.sort_unstable();
            let expected: Vec<u32> = all.into_iter().take(n).map(|(_, _, slot)| slot).collect();
            let actual: Vec<u32> = best.into_sorted().into_iter().map(|s| s.slot).collect();
            prop_assert_eq!(actual, expected);
        }
    }
}
