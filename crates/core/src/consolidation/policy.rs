//! How a namespace is to be consolidated.

use minicbor::{Decode, Encode};

/// What an operator may set for a namespace. Absent values are the server's settings.
#[derive(Clone, Debug, PartialEq, Default, Encode, Decode)]
pub struct Policy {
    /// Nothing is consolidated until this is taken back.
    #[n(0)]
    pub paused: bool,
    /// Cosine from which on two memories may be near-duplicates, .5 to 1.
    #[n(1)]
    pub merge_from: Option<f32>,
    /// [`super::worth()`] below which a memory fades, 0 (never) to 1.
    #[n(2)]
    pub fade_below: Option<f32>,
    /// Days that a memory stays after it was last touched, whatever it is worth.
    #[n(3)]
    pub keep_days: Option<u32>,
}

/// A policy that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidPolicy {
    #[error("merge_from is {actual}, expected 0.5 to 1")]
    MergeFrom { actual: f32 },
    #[error("fade_below is {actual}, expected 0 to 1")]
    FadeBelow { actual: f32 },
    #[error("keep_days is {actual}, expected at most {}", Policy::KEEP_DAYS_MAX)]
    KeepDays { actual: u32 },
}

impl Policy {
    /// Cosine from which on two memories may be near-duplicates, where nothing is set: paraphrases of
    /// one sentence are at .8 to .95 by MiniLM, sentences about one thing at .5 to .8, and words
    /// decide between them.
    pub const MERGE_FROM: f32 = 0.85;

    /// [`super::worth()`] below which a memory fades, where nothing is set.
    pub const FADE_BELOW: f32 = 0.05;

    /// Days that a memory stays after it was last touched, where nothing is set.
    pub const KEEP_DAYS: u32 = 90;

    pub fn merge_from(&self) -> f32 {
        self.merge_from.unwrap_or(Self::MERGE_FROM)
    }

    pub fn fade_below(&self) -> f32 {
        self.fade_below.unwrap_or(Self::FADE_BELOW)
    }

    pub fn keep_days(&self) -> u32 {
        self.keep_days.unwrap_or(Self::KEEP_DAYS)
    }

    /// A hundred years.
    pub const KEEP_DAYS_MAX: u32 = 36_500;

    pub fn check(&self) -> Result<(), InvalidPolicy> {
        if let Some(actual) = self.merge_from
            && !(0.5..=1.0).contains(&actual)
        {
            return Err(InvalidPolicy::MergeFrom { actual });
        }
        if let Some(actual) = self.fade_below
            && !(0.0..=1.0).contains(&actual)
        {
            return Err(InvalidPolicy::FadeBelow { actual });
        }
        if let Some(actual) = self.keep_days
            && actual > Self::KEEP_DAYS_MAX
        {
            return Err(InvalidPolicy::KeepDays { actual });
        }
        Ok(())
    }
}
