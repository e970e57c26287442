//! What can be set of the ranking, and which of its stages run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{Domain, domain};

/// Weights and sizes. A recall may set the weights for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Weight of late interaction, as a z-score over the candidates.
    pub late: f32,
    /// Weight of BM25, likewise.
    pub lexical: f32,
    /// Weight of the dense vector's cosine, likewise.
    pub dense: f32,
    /// Weight of pseudo-relevance feedback. Small: it finds more of what is scattered over long
    /// conversations and costs the first place where one memory is the answer.
    pub expansion: f32,
    /// Weight of the session's best.
    pub session: f32,
    /// What a memory of this moment has over an endlessly old one.
    pub recency: f32,
    /// What importance 1 has over importance 0.5.
    pub importance: f32,
    /// What perfect feedback has over none.
    pub usefulness: f32,
    /// What a memory of a fully trusted agent has over one of an agent of whom nothing is known, and that
    /// has over one of a fully distrusted one. Less than usefulness: what was said of a memory itself
    /// says more of it than what was said of others by the same agent.
    pub trust: f32,
    /// Candidates taken from each of the two indexes, before they are joined.
    pub candidates: usize,
    /// Share of its BM25 score that a memory lends to the next and the previous of its session.
    pub neighbour: f32,
    /// The same for the one after and before those.
    pub far_neighbour: f32,
    /// Taken from the late-interaction score for each e-fold of word pieces: the more pieces a
    /// text has, the likelier one fits by chance.
    pub length_penalty: f32,
    /// Best memories from which pseudo-relevance feedback takes word pieces.
    pub expansion_memories: usize,
    /// Word pieces that it takes.
    pub expansion_pieces: usize,
    /// Share of a memory's score that one hop along a link passes on.
    pub link: f32,
    /// Days after which recency has halved, for domains that are not named below.
    pub half_life_days: f64,
    /// Days after which recency has halved, by domain.
    pub half_life_days_by_domain: BTreeMap<String, f64>,
}

impl Default for Settings {
    fn default() -> Self {
        let by_domain = [
            (domain::INFRASTRUCTURE, 90.0),
            (domain::CODE_REVIEW, 180.0),
            (domain::DEPLOYMENT, 90.0),
            (domain::INCIDENT_RESPONSE, 60.0),
        ];
        Self {
            late: 0.6,
            lexical: 0.2,
            dense: 0.2,
            expansion: 0.05,
            session: 0.3,
            recency: 0.1,
            importance: 0.1,
            usefulness: 0.5,
            trust: 0.3,
            candidates: 100,
            neighbour: 0.3,
            far_neighbour: 0.15,
            length_penalty: 0.02,
            expansion_memories: 3,
            expansion_pieces: 10,
            link: 0.5,
            half_life_days: 180.0,
            half_life_days_by_domain: by_domain.map(|(d, days)| (d.to_owned(), days)).into(),
        }
    }
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name} is {actual}, expected {expected}")]
pub struct InvalidSettings {
    pub name: String,
    pub actual: String,
    pub expected: &'static str,
}

impl Settings {
    /// The largest weight that is accepted.
    pub const WEIGHT_MAX: f32 = 100.0;

    pub fn check(&self) -> Result<(), InvalidSettings> {
        let weights = [
            ("late", self.late),
            ("lexical", self.lexical),
            ("dense", self.dense),
            ("expansion", self.expansion),
            ("session", self.session),
            ("recency", self.recency),
            ("importance", self.importance),
            ("usefulness", self.usefulness),
            ("trust", self.trust),
        ];
        for (name, value) in weights {
            within(
                name,
                value,
                0.0..=Self::WEIGHT_MAX,
                "a number from 0 to 100",
            )?;
        }
        let shares = [
            ("neighbour", self.neighbour),
            ("far_neighbour", self.far_neighbour),
            ("length_penalty", self.length_penalty),
            ("link", self.link),
        ];
        for (name, value) in shares {
            within(name, value, 0.0..=1.0, "a number from 0 to 1")?;
        }
        within("candidates", self.candidates, 1..=10_000, "1 to 10000")?;
        within(
            "expansion_memories",
            self.expansion_memories,
            0..=100,
            "0 to 100",
        )?;
        within(
            "expansion_pieces",
            self.expansion_pieces,
            0..=1000,
            "0 to 1000",
        )?;
        let days = self
            .half_life_days_by_domain
            .iter()
            .map(|(d, days)| (d.as_str(), *days));
        for (name, days) in days.chain([("half_life_days", self.half_life_days)]) {
            within(name, days, 0.001..=1e6, "days from 0.001 to 1000000")?;
        }
        Ok(())
    }

    pub fn half_life_days(&self, domain: &Domain) -> f64 {
        let days = self.half_life_days_by_domain.get(domain.as_str());
        days.copied().unwrap_or(self.half_life_days)
    }
}

/// NaN is within nothing.
fn within<T: PartialOrd + ToString>(
    name: &str,
    actual: T,
    range: std::ops::RangeInclusive<T>,
    expected: &'static str,
) -> Result<(), InvalidSettings> {
    if range.contains(&actual) {
        return Ok(());
    }
    Err(InvalidSettings {
        name: name.to_owned(),
        actual: actual.to_string(),
        expected,
    })
}

/// A part of the pipeline that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Candidates by dense vector, and their score.
    Dense,
    /// Candidates by words, and their score.
    Lexical,
    /// What neighbours in the session lend to the lexical score.
    Neighbours,
    Late,
    /// Pseudo-relevance feedback.
    Expansion,
    Session,
    Recency,
    Importance,
    Usefulness,
    /// Trust in the agent that learned it.
    Trust,
    /// Folding of near-identical results.
    Fold,
    /// That no source takes all places with what is near each other.
    Diversity,
}

/// Which stages run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages(u16);

impl Stages {
    pub fn all() -> Self {
        Self(u16::MAX)
    }

    pub fn only(stages: &[Stage]) -> Self {
        Self(
            stages
                .iter()
                .fold(0, |bits, stage| bits | Self::bit(*stage)),
        )
    }

    #[must_use]
    pub fn without(self, stage: Stage) -> Self {
        Self(self.0 & !Self::bit(stage))
    }

    pub fn has(self, stage: Stage) -> bool {
        self.0 & Self::bit(stage) != 0
    }

    fn bit(stage: Stage) -> u16 {
        1 << stage as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        let default = Settings::default;
        assert_eq!(default().check(), Ok(()));
        let refused = |settings: Settings| settings.check().unwrap_err().to_string();
        let nan = Settings {
            late: f32::NAN,
            ..default()
        };
        assert_eq!(refused(nan), "late is NaN, expected a number from 0 to 100");
        let none = Settings {
            candidates: 0,
            ..default()
        };
        assert_eq!(refused(none), "candidates is 0, expected 1 to 10000");
        let mut never = default();
        never
            .half_life_days_by_domain
            .insert("code_review".into(), 0.0);
        assert_eq!(
            refused(never),
            "code_review is 0, expected days from 0.001 to 1000000"
        );
    }
}
