//! What is learned: lessons in several wordings that must merge, each with its denial and with a
//! trifle beside it, which must not. Three lessons at a time lie near each other, so that vectors alone
//! would merge them.

use std::fmt;

use rand::{Rng as _, rngs::StdRng};

use crate::workload::vector;

/// Words that may differ between two wordings of one lesson.
const FILLERS: [&str; 8] = [
    "again", "also", "just", "now", "still", "today", "then", "this",
];

/// Lessons with almost the same vector.
const LESSONS_NEAR: u64 = 3;

/// How far the vectors of such lessons are apart: cosines are about .99.
const NOISE: f32 = 0.1;

/// A lesson, what contradicts it, and what fades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sense {
    Holds,
    Denied,
    Trifle,
}

impl Sense {
    pub const ALL: [Self; 3] = [Self::Holds, Self::Denied, Self::Trifle];

    /// What stands after the filler: before and after the lesson's number.
    fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Holds => (
                "restarting service-",
                " helped against the timeouts of payments",
            ),
            Self::Denied => (
                "restarting service-",
                " has not helped against the timeouts of payments",
            ),
            Self::Trifle => ("the log of service-", " had some colours"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Denied => "denied",
            Self::Trifle => "trifle",
        }
    }
}

/// One experience: the same lesson and sense in other words says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Words {
    pub lesson: u64,
    pub sense: Sense,
    /// Below [`Self::WORDINGS`].
    pub wording: usize,
}

impl Words {
    pub const WORDINGS: usize = FILLERS.len();

    pub fn drawn(random: &mut StdRng, lesson: u64) -> Self {
        let sense = match random.random_range(0..10) {
            0..6 => Sense::Holds,
            6..8 => Sense::Denied,
            _ => Sense::Trifle,
        };
        Self {
            lesson,
            sense,
            wording: random.random_range(0..Self::WORDINGS),
        }
    }

    pub fn content(self) -> String {
        let (before, after) = self.sense.text();
        format!("{} {before}{}{after}", FILLERS[self.wording], self.lesson)
    }

    /// What has such a content.
    pub fn of(content: &str) -> Option<Self> {
        let (filler, rest) = content.split_once(' ')?;
        let wording = FILLERS.iter().position(|known| *known == filler)?;
        Sense::ALL.into_iter().find_map(|sense| {
            let (before, after) = sense.text();
            let lesson = rest.strip_prefix(before)?.strip_suffix(after)?;
            Some(Self {
                lesson: lesson.parse().ok()?,
                sense,
                wording,
            })
        })
    }

    /// Whether the two are one lesson in the same or in other words.
    pub fn says_the_same(self, other: Self) -> bool {
        (self.lesson, self.sense) == (other.lesson, other.sense)
    }

    pub fn vector(self) -> Vec<f32> {
        let near = vector(self.lesson / LESSONS_NEAR);
        let sense = self.sense as u64;
        let own = vector(1_000_000 + (self.lesson * 8 + sense) * 64 + self.wording as u64);
        let mixed = near.iter().zip(own).map(|(near, own)| near + NOISE * own);
        mixed.collect()
    }

    /// Only trifles are worth so little that they fade.
    pub fn importance(self) -> f32 {
        match self.sense {
            Sense::Holds | Sense::Denied => 0.5,
            Sense::Trifle => 0.0,
        }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sense, filler) = (self.sense.name(), FILLERS[self.wording]);
        write!(f, "{}/{sense}/{filler}", self.lesson)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn words_are_read_back_from_their_content() {
        let mut contents = BTreeSet::new();
        for sense in Sense::ALL {
            for wording in 0..Words::WORDINGS {
                let words = Words {
                    lesson: 17,
                    sense,
                    wording,
                };
                assert_eq!(Words::of(&words.content()), Some(words));
                contents.insert(words.content());
            }
        }
        assert_eq!(contents.len(), 3 * Words::WORDINGS);
        assert_eq!(
            Words::of("again the log of service-x had some colours"),
            None
        );
        assert_eq!(Words::of("something else"), None);
    }

    #[test]
    fn neighbouring_lessons_lie_near_each_other_and_others_far() {
        let cosine = |a: Words, b: Words| {
            let (a, b) = (a.vector(), b.vector());
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
        };
        let mut random = StdRng::seed_from_u64(1);
        let first = Words::drawn(&mut random, 3);
        assert!(cosine(first, Words::drawn(&mut random, 5)) > 0.95);
        assert!(cosine(first, Words::drawn(&mut random, 6)) < 0.5);
    }
}
