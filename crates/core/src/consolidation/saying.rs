//! Whether two texts say the same, the opposite, or something else.
//!
//! Vectors tell what texts are about and hardly whether they agree: "raise the limit" and "do not
//! raise the limit" are neighbours. What turns a lesson around or makes it another one stands in few
//! words, which are compared one by one here. Where in doubt, two texts differ.

use std::collections::{BTreeMap, BTreeSet};

/// Words that turn a sentence around.
const NEGATIONS: [&str; 20] = [
    "not", "no", "never", "none", "without", "dont", "doesnt", "didnt", "cant", "cannot", "wont",
    "isnt", "arent", "wasnt", "shouldnt", "mustnt", "avoid", "unless", "neither", "nor",
];

/// Words of which one is the opposite of the other, by their beginnings: "raise", "raised" and
/// "raising" begin alike.
const OPPOSITES: [(&str, &str); 26] = [
    ("raise", "lower"),
    ("raising", "lowering"),
    ("increas", "decreas"),
    ("increas", "reduc"),
    ("increas", "lower"),
    ("raise", "reduc"),
    ("enabl", "disabl"),
    ("add", "remov"),
    ("start", "stop"),
    ("allow", "den"),
    ("allow", "forbid"),
    ("allow", "block"),
    ("open", "clos"),
    ("upgrad", "downgrad"),
    ("scale up", "scale down"),
    ("up", "down"),
    ("on", "off"),
    ("true", "false"),
    ("always", "never"),
    ("before", "after"),
    ("success", "fail"),
    ("succeed", "fail"),
    ("safe", "unsafe"),
    ("more", "less"),
    ("more", "fewer"),
    ("roll forward", "roll back"),
];

/// Words without a lesson of their own: they may differ.
const FILLERS: [&str; 66] = [
    "a",
    "an",
    "the",
    "and",
    "or",
    "but",
    "so",
    "then",
    "also",
    "again",
    "just",
    "really",
    "very",
    "we",
    "i",
    "you",
    "it",
    "its",
    "this",
    "that",
    "these",
    "those",
    "is",
    "are",
    "was",
    "were",
    "be",
    "been",
    "has",
    "have",
    "had",
    "do",
    "does",
    "did",
    "to",
    "of",
    "in",
    "at",
    "for",
    "with",
    "by",
    "as",
    "there",
    "our",
    "their",
    "my",
    "which",
    "when",
    "again",
    "once",
    "still",
    "anew",
    "repeatedly",
    "now",
    "today",
    "yesterday",
    "seen",
    "saw",
    "noticed",
    "observed",
    "happened",
    "occurred",
    "found",
    "learned",
    "note",
    "lesson",
];

/// Words that say the same about operations, by their stems; any other word may name another thing, and
/// counts as another one.
const SYNONYMS: [&[&str]; 15] = [
    &["rais", "increas", "bump", "enlarg", "grow"],
    &["lower", "reduc", "decreas", "shrink"],
    &["restart", "reboot", "bounc"],
    &["fix", "resolv", "solv", "repair", "cur", "help"],
    &["kill", "terminat"],
    &["fail", "break", "broke", "broken", "fault"],
    &["caus", "because", "du", "reason", "through", "sinc"],
    &[
        "happen", "occur", "saw", "seen", "see", "observ", "notic", "found",
    ],
    &["remov", "delet", "drop"],
    &["add", "put", "set", "configur"],
    &["big", "large", "high", "huge"],
    &["small", "tiny", "low"],
    &["quick", "fast"],
    &["show", "report", "log", "print"],
    &["start", "begin", "began", "begun", "launch"],
];

/// Share of their telling words that two texts with the same lesson have in common, at least
/// (Jaccard's index over stems).
const SAME_FROM: f64 = 0.5;

/// The same for two that contradict each other: besides what turns one around they are about the very
/// same.
const OPPOSITE_FROM: f64 = 0.6;

/// How two texts are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// They may be two wordings of one lesson.
    Same,
    /// One says what the other denies.
    Opposite,
    Other,
}

/// What a text says, ready to be compared.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Saying {
    /// Stems of telling words.
    stems: BTreeSet<String>,
    /// Numbers, identifiers, names of things: what may not differ at all.
    marks: BTreeMap<String, usize>,
    negations: usize,
}

impl Saying {
    pub fn of(text: &str) -> Self {
        let mut saying = Self::default();
        let joined = text.replace(['\'', '’'], "");
        let words = joined
            .split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':')))
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
            .filter(|word| !word.is_empty());
        for word in words {
            let lower = word.to_lowercase();
            if is_mark(word) {
                *saying.marks.entry(lower).or_default() += 1;
            } else if NEGATIONS.contains(&lower.as_str()) {
                saying.negations += 1;
            } else if !FILLERS.contains(&lower.as_str()) {
                saying.stems.insert(concept(stem(&lower)));
            }
        }
        saying
    }

    /// Whether this says all that `other` says, as far as words tell.
    pub fn covers(&self, other: &Self) -> bool {
        other.stems.is_subset(&self.stems)
    }

    /// How much it says.
    pub fn len(&self) -> usize {
        self.stems.len()
    }

    pub fn is_empty(&self) -> bool {
        self.stems.is_empty()
    }

    pub fn compare(&self, other: &Self) -> Likeness {
        if self.marks.keys().ne(other.marks.keys()) {
            return Likeness::Other;
        }
        let only_here: BTreeSet<&String> = self.stems.difference(&other.stems).collect();
        let only_there: BTreeSet<&String> = other.stems.difference(&self.stems).collect();
        let turned = opposites(&only_here, &only_there);
        // What turns one around is not held against their being about the same.
        let common = self.stems.intersection(&other.stems).count() + turned;
        let all = self.stems.union(&other.stems).count() - turned;
        let share = if all == 0 {
            1.0
        } else {
            common as f64 / all as f64
        };
        let is_negated = self.negations % 2 != other.negations % 2;
        match (turned > 0, is_negated) {
            // Turned around twice is the same again, if at all.
            (true, true) => Likeness::Other,
            (true, false) | (false, true) if share >= OPPOSITE_FROM => Likeness::Opposite,
            (true, false) | (false, true) => Likeness::Other,
            // Where each has a word that the other lacks, the two may be about two things.
            (false, false)
                if self.negations == other.negations
                    && share >= SAME_FROM
                    && (only_here.is_empty() || only_there.is_empty()) =>
            {
                Likeness::Same
            }
            (false, false) => Likeness::Other,
        }
    }
}

/// One stem for all that say the same.
fn concept(stem: String) -> String {
    match SYNONYMS.iter().find(|group| group.contains(&stem.as_str())) {
        Some(group) => group[0].to_owned(),
        None => stem,
    }
}

/// Whether a word names one thing and no other: it has a digit, or is put together, like a path, a
/// host or an option, or has an upper-case letter inside.
fn is_mark(word: &str) -> bool {
    word.chars().any(|c| c.is_ascii_digit())
        || word.contains(['_', '/', ':', '.'])
        || word.chars().skip(1).any(char::is_uppercase)
}

/// The beginning of a word that its forms share. Coarse on purpose: it only has to tell forms of one
/// word from other words.
fn stem(word: &str) -> String {
    const ENDINGS: [&str; 10] = [
        "ings", "ing", "edly", "ed", "ies", "es", "ly", "s", "e", "y",
    ];
    /// Letters that are left, at least.
    const LEFT_MIN: usize = 3;
    for ending in ENDINGS {
        if let Some(rest) = word.strip_suffix(ending)
            && rest.chars().count() >= LEFT_MIN
        {
            return rest.to_owned();
        }
    }
    word.to_owned()
}

/// Pairs of opposites, one on each side.
fn opposites(here: &BTreeSet<&String>, there: &BTreeSet<&String>) -> usize {
    let has = |words: &BTreeSet<&String>, beginning: &str| {
        let beginning = stem(beginning);
        words.iter().any(|word| {
            // Short words must be the whole word: "on" is no beginning.
            **word == beginning || (beginning.len() >= 4 && word.starts_with(&beginning))
        })
    };
    let count =
        |(a, b): &&(&str, &str)| (has(here, a) && has(there, b)) || (has(here, b) && has(there, a));
    OPPOSITES
        .iter()
        .filter(count)
        .count()
        .min(here.len().min(there.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_the_same_is_the_same() {
        use Likeness::{Opposite, Other, Same};
        let table = [
            (
                "raise the memory limit",
                "do not raise the memory limit",
                Opposite,
            ),
            ("raise the memory limit", "lower the memory limit", Opposite),
            (
                "raise the memory limit",
                "never lower the memory limit",
                Other,
            ),
            (
                "enable the cache of checkout",
                "disable the cache of checkout",
                Opposite,
            ),
            ("raise the limit to 512Mi", "raise the limit to 2Gi", Other),
            ("web-1 is down", "web-2 is down", Other),
            (
                "the checkout pods were killed for lack of memory, raising the limit helped",
                "raising the limit helped when checkout pods were killed for lack of memory",
                Same,
            ),
            (
                "the disk of the database was full",
                "the certificate of the gateway had expired",
                Other,
            ),
            (
                "restart the pod before the rollout",
                "restart the pod after the rollout",
                Opposite,
            ),
            ("disk full", "Disk full!", Same),
            (
                "the checkout pods were killed, raising the limit helped",
                "the payment pods were killed, raising the limit helped",
                Other,
            ),
            (
                "restarting checkout-api solved the timeouts of payments",
                "a reboot of checkout-api fixed the timeouts of payments",
                Same,
            ),
            (
                "a full disk stopped the database",
                "a full disk stopped the database after the log rotation failed",
                Same,
            ),
            (
                "without a quota the queue grows",
                "the queue grows",
                Opposite,
            ),
        ];
        for (a, b, expected) in table {
            let (here, there) = (Saying::of(a), Saying::of(b));
            assert_eq!(here.compare(&there), expected, "{a} / {b}");
            assert_eq!(there.compare(&here), expected, "{b} / {a}");
        }
    }
}
