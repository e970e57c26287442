//! What an agent learned, before it is a memory.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{
    embedding::{self, DIMENSION},
    key::Key,
    limits,
    memory::{Invalid, Link, Relation, check_content, check_importance, check_metadata},
    name::{Domain, Name, Namespace},
    time::TimeMs,
};
use memorygate_proto::v1;

use crate::{error::Violations, scope::Scope, time};

/// Importance of an experience that says nothing of it.
pub const IMPORTANCE_DEFAULT: f32 = 0.5;

/// One experience. [`Experience::new`] takes what it must have; everything else has a default.
///
/// ```
/// use memorygate_client::{Experience, domain};
///
/// let lesson = Experience::new(
///     "OOMKilled after the nightly batch: the limit was 256Mi, 512Mi holds",
///     domain::INFRASTRUCTURE,
/// )
/// .importance(0.8)
/// .agent("troubleshooter-1")
/// .session("ticket-4711")
/// .metadata("cluster", "prod-eu-1");
/// assert_eq!(lesson.importance, Some(0.8));
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Experience {
    /// UTF-8, 1 byte to 64 KiB.
    pub content: String,
    /// One of [`crate::domain`] or a name of your own.
    pub domain: String,
    /// When it happened; the time of the write if unset. At most one day ahead.
    pub occurred_at: Option<TimeMs>,
    /// 0 to 1; [`IMPORTANCE_DEFAULT`] if unset.
    pub importance: Option<f32>,
    /// At most 64 entries, 16 KiB together.
    pub metadata: BTreeMap<String, String>,
    /// Who learned it.
    pub agent: Option<String>,
    /// The conversation or task it belongs to: experiences of one session are found together.
    pub session: Option<String>,
    /// Shared if unset.
    pub scope: Option<Scope>,
    /// Gone after this time, unless pinned.
    pub expires_at: Option<TimeMs>,
    /// Never expires or fades.
    pub pinned: bool,
    pub links: BTreeSet<Link>,
    /// A vector of your own instead of the model's: 384 finite numbers, not all zero. Empty for
    /// none.
    pub vector: Vec<f32>,
}

impl Experience {
    pub fn new(content: impl Into<String>, domain: impl Into<String>) -> Self {
        Self {
            content: content.into(),
            domain: domain.into(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn occurred_at(mut self, time: TimeMs) -> Self {
        self.occurred_at = Some(time);
        self
    }

    #[must_use]
    pub fn importance(mut self, importance: f32) -> Self {
        self.importance = Some(importance);
        self
    }

    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    #[must_use]
    pub fn agent(mut self, name: impl Into<String>) -> Self {
        self.agent = Some(name.into());
        self
    }

    #[must_use]
    pub fn session(mut self, name: impl Into<String>) -> Self {
        self.session = Some(name.into());
        self
    }

    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    #[must_use]
    pub fn expires_at(mut self, time: TimeMs) -> Self {
        self.expires_at = Some(time);
        self
    }

    #[must_use]
    pub fn pinned(mut self) -> Self {
        self.pinned = true;
        self
    }

    #[must_use]
    pub fn link(mut self, relation: Relation, target: Key) -> Self {
        self.links.insert(Link { relation, target });
        self
    }

    #[must_use]
    pub fn vector(mut self, vector: Vec<f32>) -> Self {
        self.vector = vector;
        self
    }

    /// The key of the memory that this becomes in `namespace`, computed here as the server does.
    /// Errors when a name in it is not allowed.
    pub fn key_in(&self, namespace: &str) -> Result<Key, memorygate_core::name::Error> {
        Ok(Key::of(
            &Namespace::parse(namespace)?,
            &self.scope_or_shared()?,
            &Domain::parse(&self.domain)?,
            &self.content,
        ))
    }

    pub(crate) fn scope_or_shared(
        &self,
    ) -> Result<memorygate_core::scope::Scope, memorygate_core::name::Error> {
        self.scope
            .as_ref()
            .map_or(Ok(memorygate_core::scope::Scope::Shared), Scope::check)
    }

    /// What is wrong with it, as far as that can be told without a server.
    pub(crate) fn check(&self) -> Violations {
        let mut violations = Violations::default();
        violations.check("content", check_content(&self.content));
        violations.check("domain", Domain::parse(&self.domain));
        for (field, time) in [
            ("occurred_at", self.occurred_at),
            ("expires_at", self.expires_at),
        ] {
            if let Some(time) = time {
                violations.check(field, TimeMs::new(time.0));
            }
        }
        if let Some(importance) = self.importance {
            violations.check("importance", check_importance(importance));
        }
        violations.check("metadata", check_metadata(&self.metadata));
        for (field, name) in [("agent", &self.agent), ("session", &self.session)] {
            if let Some(name) = name {
                violations.check(field, Name::parse(name));
            }
        }
        violations.check("scope", self.scope_or_shared());
        if self.links.len() > limits::LINKS_MAX {
            let actual = self.links.len();
            violations.add("links", Invalid::Links { actual });
        }
        if !self.vector.is_empty() {
            violations.check("vector", embedding::unit(&self.vector));
        }
        violations
    }

    pub(crate) fn to_wire(&self) -> v1::Experience {
        v1::Experience {
            content: self.content.clone(),
            domain: self.domain.clone(),
            occurred_at: self.occurred_at.map(time::to_wire),
            importance: self.importance,
            metadata: self.metadata.clone(),
            agent: self.agent.clone().unwrap_or_default(),
            session: self.session.clone().unwrap_or_default(),
            scope: self.scope.as_ref().map(Scope::to_wire),
            expires_at: self.expires_at.map(time::to_wire),
            pinned: self.pinned,
            links: self.links.iter().map(link_to_wire).collect(),
            vector: self.vector.clone(),
        }
    }
}

pub(crate) fn link_to_wire(link: &Link) -> v1::LinkTarget {
    v1::LinkTarget {
        relation: link.relation.as_str().to_owned(),
        key: link.target.to_string(),
    }
}

pub(crate) fn link_from_wire(wire: &v1::LinkTarget) -> Result<Link, String> {
    let relation =
        Relation::parse(&wire.relation).ok_or_else(|| format!("relation {:?}", wire.relation))?;
    let target = wire.key.parse().map_err(|e| format!("link: {e}"))?;
    Ok(Link { relation, target })
}

/// Length of a vector that a caller supplies.
pub const VECTOR_DIMENSION: usize = DIMENSION;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::{InMemoryStore, Learn};

    fn fields(experience: Experience) -> Vec<String> {
        let violations = experience.check().into_vec();
        violations.into_iter().map(|v| v.field).collect()
    }

    #[test]
    fn each_broken_bound_is_named_by_its_field() {
        let good = || Experience::new("disk full", "infrastructure");
        assert_eq!(fields(good()), [""; 0]);
        assert_eq!(fields(Experience::new(" \n", "Bad")), ["content", "domain"]);
        assert_eq!(fields(good().importance(f32::NAN)), ["importance"]);
        assert_eq!(fields(good().occurred_at(TimeMs(-1))), ["occurred_at"]);
        assert_eq!(fields(good().expires_at(TimeMs(i64::MAX))), ["expires_at"]);
        assert_eq!(
            fields(good().metadata("k", "v".repeat(10 << 20))),
            ["metadata"]
        );
        assert_eq!(
            fields(good().agent("").session("a\0b")),
            ["agent", "session"]
        );
        assert_eq!(fields(good().scope(Scope::Team("".into()))), ["scope"]);
        assert_eq!(fields(good().vector(vec![1.0; 3])), ["vector"]);
        assert_eq!(
            fields(good().vector(vec![0.0; VECTOR_DIMENSION])),
            ["vector"]
        );
        let crowded = (0..65).fold(good(), |e, i| e.link(Relation::RelatesTo, Key([i; 16])));
        assert_eq!(fields(crowded), ["links"]);
    }

    #[test]
    fn the_key_is_computed_as_the_server_does() {
        let lesson = Experience::new("OOMKilled: raise the limit", "infrastructure");
        assert_eq!(
            lesson.key_in("default").unwrap().to_string(),
            "66541ebd5b84bf539b4f6fddf8690923"
        );
        assert!(lesson.key_in("Not a namespace").is_err());
    }

    prop_compose! {
        /// Good ones and bad ones.
        fn any_experience()(
            content in prop_oneof!["\\PC{0,60}", "[ \n\t]{0,5}", "x{65530,65545}"],
            domain in "[a-z_./A ]{0,12}",
            importance in prop::option::of(prop_oneof![-0.5..1.5_f32, Just(f32::NAN)]),
            metadata in prop::collection::btree_map("[a-z\n]{0,4}", "\\PC{0,20}", 0..70),
            agent in prop::option::of("[a-z\u{7}]{0,8}"),
            session in prop::option::of("\\PC{0,300}"),
            scope in prop::option::of(prop_oneof![
                Just(Scope::Shared),
                "[a-z]{0,5}".prop_map(Scope::Team),
                "[a-z]{0,5}".prop_map(Scope::Agent),
            ]),
            expires_at in prop::option::of(any::<i64>().prop_map(TimeMs)),
            occurred_at in prop::option::of((-1000..2_000_000_000_000_i64).prop_map(TimeMs)),
            pinned in any::<bool>(),
            links in prop::collection::btree_set(
                (0..4_usize, any::<[u8; 16]>()).prop_map(|(relation, key)| Link {
                    relation: Relation::ALL[relation],
                    target: Key(key),
                }),
                0..70,
            ),
            length in prop_oneof![4 => Just(0_usize), 1 => Just(384), 1 => 1..400_usize],
            value in prop_oneof![Just(0.0_f32), Just(f32::INFINITY), -1.0..1.0_f32],
        ) -> Experience {
            Experience {
                content, domain, occurred_at, importance, metadata, agent, session, scope,
                expires_at, pinned, links, vector: vec![value; length],
            }
        }
    }

    proptest! {
        /// What passes the check is taken by `apply` under the key that was computed here, and what
        /// does not pass is refused with the field's name.
        #[test]
        fn the_check_and_the_core_agree(experience in any_experience()) {
            let store = InMemoryStore::with_clock(std::sync::Arc::new(|| TimeMs(2_000_000_000_000)));
            let wrong = experience.check().into_vec();
            match store.learn(experience.clone()) {
                Ok(reply) => {
                    prop_assert!(wrong.is_empty(), "{wrong:?}");
                    prop_assert_eq!(Ok(reply.learned[0].key), experience.key_in("default"));
                }
                Err(error) => {
                    prop_assert!(!wrong.is_empty(), "{error}");
                    prop_assert_eq!(error.violations().len(), wrong.len());
                }
            }
        }

        /// A request is one that a strict server reads, and nothing of it is lost.
        #[test]
        fn a_request_is_read_back_as_it_was_written(experience in any_experience()) {
            let id = "7-000102030405060708090a0b0c0d0e0f".parse().unwrap();
            let wire = Learn::new([experience.clone()]).to_wire("n", id);
            let read = v1::LearnRequest::decode(wire.encode_to_vec().as_slice()).unwrap();
            prop_assert_eq!(&read.request_id, "7-000102030405060708090a0b0c0d0e0f");
            let one = &read.experiences[0];
            prop_assert_eq!(&one.content, &experience.content);
            prop_assert_eq!(&one.metadata, &experience.metadata);
            prop_assert_eq!(one.links.len(), experience.links.len());
            prop_assert_eq!(one.importance.map(f32::to_bits), experience.importance.map(f32::to_bits));
            let scope = one.scope.clone().map(|scope| Scope::from_wire(Some(scope)));
            prop_assert_eq!(scope, experience.scope);
            let occurred_at = one.occurred_at.map(time::from_wire).transpose();
            if experience.occurred_at.is_none_or(|at| at.0 >= 0) {
                prop_assert_eq!(occurred_at, Ok(experience.occurred_at));
            }
        }
    }
}
