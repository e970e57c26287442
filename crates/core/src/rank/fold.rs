//! Near-identical texts: results that would tell a reader the same thing twice.

use std::collections::{BTreeMap, BTreeSet};

/// Share of words that two near-identical texts have in common, at least.
const COMMON_MIN: f64 = 0.9;

/// Words that turn a sentence around.
const TURNING: [&str; 14] = [
    "not", "no", "never", "none", "without", "dont", "doesnt", "didnt", "cant", "cannot", "wont",
    "isnt", "unless", "instead",
];

/// Whether `a` and `b` differ in letter case, punctuation, spacing and at most a tenth of their
/// words, none of which is a number, an identifier with a digit, or a negation: those carry the
/// lesson ("raise it to 512Mi" and "raise it to 2Gi" are two).
pub fn near_identical(a: &str, b: &str) -> bool {
    Wording::of(a).is_near(&Wording::of(b))
}

/// The words of a text, ready to be compared with those of many others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wording {
    words: BTreeMap<String, usize>,
    count: usize,
}

impl Wording {
    pub fn of(text: &str) -> Self {
        let mut wording = Self::default();
        let joined = text.replace(['\'', '’'], "").to_lowercase();
        for word in joined
            .split(|c: char| !c.is_alphanumeric())
            .filter(|w| !w.is_empty())
        {
            *wording.words.entry(word.to_owned()).or_default() += 1;
            wording.count += 1;
        }
        wording
    }

    /// As [`near_identical`] says.
    pub fn is_near(&self, other: &Self) -> bool {
        let (fewer, more) = (self.count.min(other.count), self.count.max(other.count));
        // No more words are common than the shorter text has.
        if (fewer as f64) < COMMON_MIN * more as f64 {
            return false;
        }
        let (mut common, mut all) = (0_usize, 0_usize);
        let every: BTreeSet<&String> = self.words.keys().chain(other.words.keys()).collect();
        for word in every {
            let count = |wording: &Self| wording.words.get(word).copied().unwrap_or(0);
            let (here, there) = (count(self), count(other));
            let carries =
                word.bytes().any(|c| c.is_ascii_digit()) || TURNING.contains(&word.as_str());
            if here != there && carries {
                return false;
            }
            common += here.min(there);
            all += here.max(there);
        }
        common as f64 >= COMMON_MIN * all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_that_say_the_same_are_folded() {
        let long = "the checkout pods were restarted because the memory limit was too low for the \
                    nightly batch so the limit was raised";
        assert!(near_identical(long, &long.to_uppercase()));
        assert!(near_identical(long, &format!("{long} again.")));
        assert!(!near_identical(long, &format!("{long} not")));
        assert!(!near_identical(
            &format!("{long} to 512Mi"),
            &format!("{long} to 2Gi")
        ));
        assert!(!near_identical("raise the limit", "do not raise the limit"));
        assert!(!near_identical("web-1 is down", "web-2 is down"));
        assert!(!near_identical("disk full", "disk slow"));
    }
}
