//! Recall: find the memories relevant to a task, each with its score taken apart.

use std::collections::BTreeSet;

use memorygate_core::{
    embedding,
    key::Key,
    limits::{QUERY_BYTES_MAX, RECALL_LIMIT_MAX, RECALL_NAMESPACES_MAX},
    moment::Moment,
    name::Namespace,
    rank::{Settings, Stage},
};
use memorygate_proto::v1;

use crate::{
    error::{Error, Violations},
    experience,
    filter::Filter,
    freshness::Freshness,
    memory::{Link, Memory},
    position::Position,
    scope::Reader,
    time,
};

/// Results of a recall that does not say how many.
pub const LIMIT_DEFAULT: usize = 10;

/// Namespaces of one recall.
pub const NAMESPACES_MAX: usize = RECALL_NAMESPACES_MAX;

/// What to find.
///
/// ```
/// use memorygate_client::{Filter, Reader, Recall, domain};
///
/// let question = Recall::new("why do the checkout pods restart every night?")
///     .limit(5)
///     .reader(Reader::agent("troubleshooter-1").team("sre"))
///     .filter(Filter::new().domain(domain::INFRASTRUCTURE));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Recall {
    /// The client's if unset.
    pub namespace: Option<String>,
    /// Further namespaces, to answer from all of them at once. If there are any, `namespace` counts only
    /// where it is set here; at most 16 with that.
    pub namespaces: Vec<String>,
    /// The task or question, up to 8 KiB. May be empty if there is a vector.
    pub query: String,
    /// 384 numbers; empty for none.
    pub vector: Vec<f32>,
    /// 1 to 1000.
    pub limit: usize,
    /// The client's if unset.
    pub reader: Option<Reader>,
    pub filter: Filter,
    pub weights: Weights,
    /// Parts of the ranking that are switched off.
    pub without: Vec<Stage>,
    pub freshness: Freshness,
    /// Adds memories that the results link to: 0 (none) or 1.
    pub link_hops: u32,
    /// The moment whose memories are asked for; the present if unset.
    pub as_of: Option<Moment>,
}

impl Recall {
    pub fn new(query: impl Into<String>) -> Self {
        Self {
            namespace: None,
            namespaces: Vec::new(),
            query: query.into(),
            vector: Vec::new(),
            limit: LIMIT_DEFAULT,
            reader: None,
            filter: Filter::default(),
            weights: Weights::default(),
            without: Vec::new(),
            freshness: Freshness::default(),
            link_hops: 0,
            as_of: None,
        }
    }

    /// By a vector of the caller's own, without words.
    pub fn by_vector(vector: Vec<f32>) -> Self {
        Self::new("").vector(vector)
    }

    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    /// Answers from all of these at once, and from no other.
    #[must_use]
    pub fn namespaces<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.namespace = None;
        self.namespaces = names.into_iter().map(Into::into).collect();
        self
    }

    #[must_use]
    pub fn vector(mut self, vector: Vec<f32>) -> Self {
        self.vector = vector;
        self
    }

    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    #[must_use]
    pub fn reader(mut self, reader: Reader) -> Self {
        self.reader = Some(reader);
        self
    }

    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    #[must_use]
    pub fn weights(mut self, weights: Weights) -> Self {
        self.weights = weights;
        self
    }

    #[must_use]
    pub fn without(mut self, stage: Stage) -> Self {
        self.without.push(stage);
        self
    }

    #[must_use]
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    #[must_use]
    pub fn link_hops(mut self, hops: u32) -> Self {
        self.link_hops = hops;
        self
    }

    /// As of a moment of the last 90 days: the memories that were there, as they were. What was forgotten or
    /// has expired since is not there, and a consolidation that was undone never was.
    #[must_use]
    pub fn as_of(mut self, moment: Moment) -> Self {
        self.as_of = Some(moment);
        self
    }

    /// `default` is the namespace of a recall that names none.
    pub(crate) fn check(&self, default: &str, reader: &Reader) -> Result<(), Error> {
        let mut violations = Violations::default();
        self.check_namespaces(default, &mut violations);
        if self.query.is_empty() && self.vector.is_empty() {
            violations.add("query", "query is empty, expected a text or a vector");
        }
        if self.query.len() > QUERY_BYTES_MAX {
            let actual = self.query.len();
            violations.add(
                "query",
                format!("query has {actual} bytes, expected at most {QUERY_BYTES_MAX}"),
            );
        }
        if !self.vector.is_empty() {
            violations.check("vector", embedding::unit(&self.vector));
        }
        if !(1..=RECALL_LIMIT_MAX).contains(&self.limit) {
            let actual = self.limit;
            violations.add(
                "limit",
                format!("limit is {actual}, expected 1 to {RECALL_LIMIT_MAX}"),
            );
        }
        if self.link_hops > 1 {
            let actual = self.link_hops;
            violations.add(
                "link_hops",
                format!("link_hops is {actual}, expected 0 or 1"),
            );
        }
        violations.nest("reader", reader.check().0);
        violations.nest("filter", self.filter.check().0);
        violations.check("weights", self.weights.over(Settings::default()).check());
        violations.into_result("recall")
    }

    /// What is asked, if that is what was checked, in the order of the names.
    pub(crate) fn asked(&self, default: &str) -> BTreeSet<Namespace> {
        self.check_namespaces(default, &mut Violations::default())
    }

    fn check_namespaces(&self, default: &str, violations: &mut Violations) -> BTreeSet<Namespace> {
        let mut asked = BTreeSet::new();
        if let Some(alone) = self.alone(default) {
            asked.extend(violations.check("namespace", Namespace::parse(alone)));
        }
        let actual = usize::from(self.alone(default).is_some()) + self.namespaces.len();
        if actual > RECALL_NAMESPACES_MAX {
            let reason = format!("{actual} namespaces, expected at most {RECALL_NAMESPACES_MAX}");
            violations.add("namespaces", reason);
        }
        for name in &self.namespaces {
            if let Some(namespace) = violations.check("namespaces", Namespace::parse(name))
                && !asked.insert(namespace)
            {
                violations.add("namespaces", format!("{name} is named twice"));
            }
        }
        asked
    }

    /// The namespace that stands alone, if one is meant.
    fn alone<'a>(&'a self, default: &'a str) -> Option<&'a str> {
        let is_default = self.namespace.is_none() && self.namespaces.is_empty();
        self.namespace.as_deref().or(is_default.then_some(default))
    }

    pub(crate) fn to_wire(
        &self,
        default: &str,
        reader: &Reader,
        at_least: Option<Position>,
    ) -> v1::RecallRequest {
        v1::RecallRequest {
            namespace: self.alone(default).unwrap_or_default().to_owned(),
            namespaces: self.namespaces.clone(),
            query: self.query.clone(),
            vector: self.vector.clone(),
            limit: u32::try_from(self.limit).expect("the limit was checked"),
            reader: Some(reader.to_wire()),
            filter: Some(self.filter.to_wire()),
            weights: Some(self.weights.to_wire()),
            without: self
                .without
                .iter()
                .map(|s| stage_to_wire(*s) as i32)
                .collect(),
            at_least: at_least.map(Position::to_wire),
            link_hops: self.link_hops,
            linearizable: self.freshness == Freshness::Linearizable,
            as_of: self.as_of.map(|moment| match moment {
                Moment::Position(index) => v1::recall_request::AsOf::AsOfPosition(index),
                Moment::Time(at) => v1::recall_request::AsOf::AsOfTime(time::to_wire(at)),
            }),
        }
    }
}

/// Weights of the ranking; an unset one keeps the server's setting. Finite, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Weights {
    pub late: Option<f32>,
    pub lexical: Option<f32>,
    pub dense: Option<f32>,
    /// Of pseudo-relevance feedback.
    pub expansion: Option<f32>,
    /// Of the session's best three.
    pub session: Option<f32>,
    pub recency: Option<f32>,
    pub importance: Option<f32>,
    pub usefulness: Option<f32>,
    /// Of trust in the agent that learned it.
    pub trust: Option<f32>,
}

impl Weights {
    /// The settings with these weights in them.
    pub(crate) fn over(&self, base: Settings) -> Settings {
        Settings {
            late: self.late.unwrap_or(base.late),
            lexical: self.lexical.unwrap_or(base.lexical),
            dense: self.dense.unwrap_or(base.dense),
            expansion: self.expansion.unwrap_or(base.expansion),
            session: self.session.unwrap_or(base.session),
            recency: self.recency.unwrap_or(base.recency),
            importance: self.importance.unwrap_or(base.importance),
            usefulness: self.usefulness.unwrap_or(base.usefulness),
            trust: self.trust.unwrap_or(base.trust),
            ..base
        }
    }

    fn to_wire(self) -> v1::Weights {
        v1::Weights {
            late: self.late,
            lexical: self.lexical,
            dense: self.dense,
            expansion: self.expansion,
            session: self.session,
            recency: self.recency,
            importance: self.importance,
            usefulness: self.usefulness,
            trust: self.trust,
        }
    }
}

fn stage_to_wire(stage: Stage) -> v1::Stage {
    match stage {
        Stage::Dense => v1::Stage::Dense,
        Stage::Lexical => v1::Stage::Lexical,
        Stage::Neighbours => v1::Stage::Neighbours,
        Stage::Late => v1::Stage::Late,
        Stage::Expansion => v1::Stage::Expansion,
        Stage::Session => v1::Stage::Session,
        Stage::Recency => v1::Stage::Recency,
        Stage::Importance => v1::Stage::Importance,
        Stage::Usefulness => v1::Stage::Usefulness,
        Stage::Trust => v1::Stage::Trust,
        Stage::Fold => v1::Stage::Fold,
        Stage::Diversity => v1::Stage::Diversity,
    }
}

/// A memory that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    pub memory: Memory,
    /// The sum of the parts, up to rounding.
    pub score: f32,
    pub parts: ScoreParts,
    /// Near-identical memories that this one stands for, in any of the namespaces asked.
    pub folded: Vec<Key>,
    /// Set if it is here because another result links to it: that result and the relation.
    pub linked_from: Option<Link>,
}

/// The parts of a score, already weighted, and three of them before that.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct ScoreParts {
    pub late: f32,
    pub lexical: f32,
    pub dense: f32,
    pub expansion: f32,
    pub session: f32,
    pub recency: f32,
    pub importance: f32,
    pub usefulness: f32,
    /// Of the agent that learned it.
    pub trust: f32,
    /// A memory that came by a link alone has only this.
    pub link: f32,
    /// Cosine.
    pub raw_dense: f32,
    /// BM25, with what neighbours lent.
    pub raw_lexical: f32,
    /// Mean best dot product.
    pub raw_late: f32,
}

impl ScoreParts {
    /// The weighted parts with their names, in the order of the ranking.
    pub fn named(&self) -> [(&'static str, f32); 10] {
        [
            ("late", self.late),
            ("lexical", self.lexical),
            ("dense", self.dense),
            ("expansion", self.expansion),
            ("session", self.session),
            ("recency", self.recency),
            ("importance", self.importance),
            ("usefulness", self.usefulness),
            ("trust", self.trust),
            ("link", self.link),
        ]
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecallReply {
    /// Best first, ties in key order; then those that stepped back for diversity's sake, likewise.
    pub results: Vec<Recalled>,
    pub position: Position,
}

impl RecallReply {
    pub(crate) fn from_wire(wire: v1::RecallResponse) -> Result<Self, String> {
        Ok(Self {
            results: wire
                .results
                .into_iter()
                .map(recalled_from_wire)
                .collect::<Result<_, _>>()?,
            position: Position::from_wire(wire.position)?,
        })
    }
}

fn recalled_from_wire(wire: v1::Recalled) -> Result<Recalled, String> {
    let parts = wire.parts.unwrap_or_default();
    Ok(Recalled {
        memory: Memory::from_wire(wire.memory.ok_or("memory is missing")?)?,
        score: wire.score,
        parts: ScoreParts {
            late: parts.late,
            lexical: parts.lexical,
            dense: parts.dense,
            expansion: parts.expansion,
            session: parts.session,
            recency: parts.recency,
            importance: parts.importance,
            usefulness: parts.usefulness,
            trust: parts.trust,
            link: parts.link,
            raw_dense: parts.raw_dense,
            raw_lexical: parts.raw_lexical,
            raw_late: parts.raw_late,
        },
        folded: wire
            .folded
            .iter()
            .map(|key| key.parse().map_err(|e| format!("folded: {e}")))
            .collect::<Result<_, _>>()?,
        linked_from: wire
            .linked_from
            .as_ref()
            .map(experience::link_from_wire)
            .transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(recall: Recall) -> String {
        match recall.check("default", &Reader::default()) {
            Ok(()) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_broken_bound_of_a_recall_is_named() {
        assert_eq!(check(Recall::new("q")), "fine");
        assert_eq!(
            check(Recall::new("")),
            "recall failed: query: query is empty, expected a text or a vector"
        );
        assert_eq!(
            check(Recall::new("q").limit(0)),
            "recall failed: limit: limit is 0, expected 1 to 1000"
        );
        assert_eq!(
            check(Recall::new("q").limit(1_000_000_000)),
            "recall failed: limit: limit is 1000000000, expected 1 to 1000"
        );
        assert_eq!(
            check(Recall::new("q".repeat(8193))),
            "recall failed: query: query has 8193 bytes, expected at most 8192"
        );
        assert_eq!(
            check(Recall::by_vector(vec![1.0; 383])),
            "recall failed: vector: vector has 383 dimensions, expected 384"
        );
        assert_eq!(
            check(Recall::new("q").link_hops(2)),
            "recall failed: link_hops: link_hops is 2, expected 0 or 1"
        );
        let weights = Weights {
            recency: Some(f32::INFINITY),
            ..Weights::default()
        };
        assert_eq!(
            check(Recall::new("q").weights(weights)),
            "recall failed: weights: recency is inf, expected a number from 0 to 100"
        );
        assert_eq!(
            check(Recall::new("q").filter(Filter::new().min_importance(2.0))),
            "recall failed: filter.min_importance: importance is 2, expected 0 to 1"
        );
    }

    #[test]
    fn several_namespaces_are_asked_once_each() {
        let asked = |recall: &Recall| {
            let asked = recall.asked("default").into_iter();
            let wire = recall.to_wire("default", &Reader::default(), None);
            let asked: Vec<String> = asked.map(|name| name.to_string()).collect();
            (asked.join(" "), wire.namespace, wire.namespaces.join(" "))
        };
        let names = |asked: &str, alone: &str, several: &str| {
            (asked.to_owned(), alone.to_owned(), several.to_owned())
        };
        let recall = Recall::new("q");
        assert_eq!(asked(&recall), names("default", "default", ""));
        let several = recall.clone().namespaces(["b", "a"]);
        assert_eq!(asked(&several), names("a b", "", "b a"));
        let with_one = several.clone().namespace("c");
        assert_eq!(asked(&with_one), names("a b c", "c", "b a"));
        assert_eq!(check(with_one), "fine");
        assert_eq!(
            check(several.namespace("a")),
            "recall failed: namespaces: a is named twice"
        );
        let many = (0..17).map(|i| format!("n{i}"));
        assert_eq!(
            check(recall.namespaces(many)),
            "recall failed: namespaces: 17 namespaces, expected at most 16"
        );
    }

    #[test]
    fn several_wrong_fields_are_told_at_once() {
        let filter = Filter::new().domain("No Domain").agent("");
        let text = check(Recall::new("q").limit(0).filter(filter));
        assert!(
            text.starts_with("recall failed: 3 fields are invalid"),
            "{text}"
        );
        assert!(text.contains("filter.domains: "), "{text}");
        assert!(
            text.contains("filter.agents: agent is empty")
                || text.contains("filter.agents: name is empty"),
            "{text}"
        );
    }
}
