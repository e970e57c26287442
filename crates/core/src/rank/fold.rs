//! Near-identical texts: results that would tell a reader the same thing twice.

use std::collections::BTreeMap;

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
    let (a, b) = (words(a), words(b));
    let (mut common, mut all) = (0_usize, 0_usize);
    let every: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for word in every {
        let count = |words: &BTreeMap<String, usize>| words.get(word).copied().unwrap_or(0);
        let (in_a, in_b) = (count(&a), count(&b));
        let carries = word.bytes().any(|c| c.is_ascii_digit()) || TURNING.contains(&word.as_str());
        if in_a != in_b && carries {
            return false;
        }
        common += in_a.min(in_b);
        all += in_a.max(in_b);
    }
    common as f64 >= COMMON_MIN * all as f64
}

fn words(text: &str) -> BTreeMap<String, usize> {
    let mut words = BTreeMap::new();
    let joined = text.replace(['\'', '’'], "").to_lowercase();
    for word in joined
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
    {
        *words.entry(word.to_owned()).or_default() += 1;
    }
    words
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
