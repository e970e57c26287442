//! A set of slots as bits, counted: what a filter passes.
//!
//! A bitmap knows nothing of memories; slot `i` is bit `i % 64` of word `i / 64`.

/// A set of numbers below a fixed length.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    len: u32,
}

impl Bitmap {
    /// No number below `len` is in the set.
    pub(crate) fn none(len: u32) -> Self {
        Self {
            words: vec![0; len.div_ceil(64) as usize],
            len,
        }
    }

    /// Every number below `len` is in the set.
    #[cfg(test)]
    pub(crate) fn all(len: u32) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(64) as usize];
        if let Some(last) = words.last_mut()
            && !len.is_multiple_of(64)
        {
            *last = (1 << (len % 64)) - 1;
        }
        Self { words, len }
    }

    /// The numbers below `len` for which `passes` holds.
    #[cfg(test)]
    pub(crate) fn where_true(len: u32, mut passes: impl FnMut(u32) -> bool) -> Self {
        let mut set = Self::none(len);
        for (w, word) in (0_u32..).zip(&mut set.words) {
            let first = w * 64;
            for bit in 0..64.min(len - first) {
                *word |= u64::from(passes(first + bit)) << bit;
            }
        }
        set
    }

    /// One more than the largest number that the set can hold.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Adds ascending numbers, which must lie below the length.
    pub(crate) fn extend_sorted(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let (mut at, mut word) = (0, 0);
        for number in numbers {
            assert!(
                number < self.len,
                "slot {number} is outside of a bitmap of {}",
                self.len
            );
            if number / 64 != at {
                self.words[at as usize] |= word;
                (at, word) = (number / 64, 0);
            }
            word |= 1 << (number % 64);
        }
        if let Some(last) = self.words.get_mut(at as usize) {
            *last |= word;
        }
    }

    /// Sets to zero what belongs to numbers that are not in the set, by number.
    pub(crate) fn zero_others(&self, values: &mut [f64]) {
        let mut words = self.words.iter();
        for values in values.chunks_mut(64) {
            let word = words.next().copied().unwrap_or(0);
            if word == u64::MAX {
                continue;
            }
            for (bit, value) in values.iter_mut().enumerate() {
                // Without a branch, which a CPU could only guess.
                let keep = 0_u64.wrapping_sub(word >> bit & 1);
                *value = f64::from_bits(value.to_bits() & keep);
            }
        }
    }

    /// How many numbers are in the set.
    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|w| w.count_ones()).sum()
    }

    pub(crate) fn insert(&mut self, at: u32) {
        assert!(
            at < self.len,
            "slot {at} is outside of a bitmap of {}",
            self.len
        );
        self.words[at as usize / 64] |= 1 << (at % 64);
    }

    pub(crate) fn remove(&mut self, at: u32) {
        assert!(
            at < self.len,
            "slot {at} is outside of a bitmap of {}",
            self.len
        );
        self.words[at as usize / 64] &= !(1 << (at % 64));
    }

    /// Numbers at or above the length are not in the set.
    #[inline]
    pub(crate) fn contains(&self, at: u32) -> bool {
        self.words
            .get(at as usize / 64)
            .is_some_and(|w| w >> (at % 64) & 1 == 1)
    }

    /// Makes room for numbers below `len`; what was in the set stays.
    pub(crate) fn grow(&mut self, len: u32) {
        assert!(
            len >= self.len,
            "a bitmap of {} cannot shrink to {len}",
            self.len
        );
        self.words.resize(len.div_ceil(64) as usize, 0);
        self.len = len;
    }

    /// Keeps what is in both sets, which must have the same length.
    pub(crate) fn intersect(&mut self, other: &Self) {
        assert_eq!(self.len, other.len, "bitmaps of two lengths");
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a &= b;
        }
    }

    /// Drops the numbers for which `passes` does not hold; it is asked only about those in the set.
    pub(crate) fn retain(&mut self, mut passes: impl FnMut(u32) -> bool) {
        for (w, word) in (0_u32..).zip(&mut self.words) {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                *word &= !(u64::from(!passes(w * 64 + bit)) << bit);
            }
        }
    }

    /// Shows the numbers in the set, ascending.
    pub(crate) fn for_each(&self, mut show: impl FnMut(u32)) {
        for (w, word) in (0_u32..).zip(&self.words) {
            let mut left = *word;
            while left != 0 {
                show(w * 64 + left.trailing_zeros());
                left &= left - 1;
            }
        }
    }

    /// The numbers in the set, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.words).flat_map(|(w, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros();
                left &= left - 1;
                Some(w * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_of_a_length_that_fills_no_word_has_no_bit_too_many() {
        for len in [0, 1, 63, 64, 65, 128, 130] {
            assert_eq!(Bitmap::all(len).count(), len);
            assert_eq!(Bitmap::all(len), Bitmap::where_true(len, |_| true));
            assert_eq!(Bitmap::none(len).count(), 0);
            assert!(!Bitmap::all(len).contains(len));
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(
            len in 1_u32..300,
            a in prop::collection::vec(any::<u32>(), 0..100),
            b in prop::collection::vec(any::<u32>(), 0..100),
        ) {
            let set = |from: &[u32]| from.iter().map(|x| x % len).collect::<BTreeSet<_>>();
            let (a, b) = (set(&a), set(&b));
            let bits = |from: &BTreeSet<u32>| {
                let mut bits = Bitmap::none(len);
                from.iter().for_each(|x| bits.insert(*x));
                bits
            };
            let mut sorted = bits(&b);
            sorted.extend_sorted(a.iter().copied());
            prop_assert!(sorted.iter().eq(a.union(&b).copied()));
            let mut values = vec![1.0; len as usize + 70];
            bits(&a).zero_others(&mut values);
            let left = (0..).zip(&values).filter(|(_, value)| **value != 0.0);
            prop_assert!(left.map(|(at, _)| at).eq(a.iter().copied()));
            let mut shown = Vec::new();
            bits(&a).for_each(|at| shown.push(at));
            prop_assert!(shown.iter().eq(&a));
            let mut both = bits(&a);
            both.intersect(&bits(&b));
            let mut kept = bits(&a);
            kept.retain(|x| x % 3 == 0);
            let mut grown = bits(&a);
            grown.grow(len + 70);
            let mut without = bits(&a);
            b.iter().for_each(|x| without.remove(*x));
            prop_assert_eq!(bits(&a).count() as usize, a.len());
            prop_assert!(both.iter().eq(a.intersection(&b).copied()));
            prop_assert!(kept.iter().eq(a.iter().copied().filter(|x| x % 3 == 0)));
            prop_assert!(grown.iter().eq(a.iter().copied()));
            prop_assert!(without.iter().eq(a.difference(&b).copied()));
            prop_assert_eq!(Bitmap::where_true(len, |x| a.contains(&x)), bits(&a));
        }
    }
}
