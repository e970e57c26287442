//! How far an agent is trusted: by what others found of its memories, or by an operator's word.

use minicbor::{Decode, Encode};

/// What is known of one agent in one namespace.
///
/// The reputation of the Beta reputation system (Jøsang and Ismail, The Beta Reputation System, 2002,
/// section 3.2): with `r` the sum of the good feedback that others gave to the agent's memories, and `s`
/// that of the bad, it is the mean of a Beta posterior over them. Theirs starts from Beta(1, 1); here it is
/// [`Trust::PRIOR`] each, as an agent is not known by one memory. Feedback by the agent itself, and by
/// nobody in particular, does not count: whoever writes could praise what it wrote.
///
/// What was counted stays when a memory is forgotten, or what was merged is taken apart again: it was
/// said of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Default, Encode, Decode)]
pub struct Trust {
    /// Ratings by others.
    #[n(0)]
    pub count: u32,
    /// Sum of their positive scores.
    #[n(1)]
    pub positive: f64,
    /// Sum of the negative scores' absolute values.
    #[n(2)]
    pub negative: f64,
    /// An operator's word, 0 to 1, which stands in for all that.
    #[n(3)]
    pub set: Option<f32>,
}

impl Trust {
    /// Pseudo-counts of the Beta prior, good and bad each: one rating moves the mean to 0.56, ten alike
    /// to 0.78.
    pub const PRIOR: f64 = 4.0;

    /// The trust in an agent of whom nothing is known.
    pub const NEUTRAL: f32 = 0.5;

    /// Adds what someone else said of one of the agent's memories: -1 to 1.
    pub fn add(&mut self, score: f32) {
        self.count = self.count.saturating_add(1);
        if score >= 0.0 {
            self.positive += f64::from(score);
        } else {
            self.negative -= f64::from(score);
        }
    }

    /// 0 (not at all) to 1; [`Trust::NEUTRAL`] of an agent of whom nothing is known.
    pub fn value(&self) -> f32 {
        let total = 2.0 * Self::PRIOR + self.positive + self.negative;
        self.set
            .unwrap_or(((Self::PRIOR + self.positive) / total) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_not_known_by_one_memory_and_an_operator_has_the_last_word() {
        let after = |scores: &[f32]| {
            let mut trust = Trust::default();
            scores.iter().for_each(|score| trust.add(*score));
            (trust.value() * 100.0).round() / 100.0
        };
        assert_eq!(after(&[]), Trust::NEUTRAL);
        assert_eq!(after(&[1.0]), 0.56);
        assert_eq!(after(&[1.0; 10]), 0.78);
        assert_eq!(after(&[-1.0; 10]), 0.22);
        assert_eq!(after(&[1.0, -1.0]), 0.5);
        let mut trust = Trust {
            set: Some(0.0),
            ..Trust::default()
        };
        trust.add(1.0);
        assert_eq!((trust.value(), trust.count), (0.0, 1));
    }
}
