//! A memory as JSON: what an export writes, what an import reads, and what `mgctl` prints.
//!
//! One object a line. An import takes what makes an experience and `id`, a name of the file's own
//! that is ignored; it also takes what an export adds (key, version, counts), so that an export can
//! be imported, and refuses everything else: a misspelt field that is ignored is data lost.

use std::collections::BTreeMap;

use memorygate_core::{
    key::Key,
    memory::{Link, Relation},
    time::TimeMs,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    experience::Experience,
    memory::{Feedback, Memory, Reason, Sharing},
    scope::Scope,
    time,
};

/// Bytes of one line, at most: content and metadata of 80 KiB may grow sixfold by escapes, a vector
/// of 384 numbers takes 8 KiB.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// A stored memory. Fields that say nothing are left out.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryRecord {
    pub key: String,
    pub namespace: String,
    pub scope: ScopeRecord,
    pub content: String,
    pub domain: String,
    pub occurred_at: String,
    pub importance: f32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    pub pinned: bool,
    pub version: u64,
    pub occurrences: u32,
    pub last_seen_at: String,
    pub feedback: FeedbackRecord,
    pub created_at: String,
    pub created_index: u64,
    pub updated_at: String,
    pub model: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub uses: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<ArchivedRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared_by: Vec<SharingRecord>,
}

/// Who made it, from a memory of a narrower scope, one of this scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharingRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub at: String,
    pub learned_at: String,
}

/// Why and when a memory was archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArchivedRecord {
    /// `faded`, `merged`, `superseded`, `shared` or `withheld`.
    pub reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    pub at: String,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// `"shared"`, `{"team": NAME}` or `{"agent": NAME}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeRecord {
    Shared,
    Team(String),
    Agent(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkRecord {
    pub relation: String,
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FeedbackRecord {
    pub count: u32,
    pub positive: f64,
    pub negative: f64,
    pub usefulness: f32,
}

impl From<&Memory> for MemoryRecord {
    fn from(memory: &Memory) -> Self {
        let Feedback {
            count,
            positive,
            negative,
            usefulness,
        } = memory.feedback;
        Self {
            key: memory.key.to_string(),
            namespace: memory.namespace.clone(),
            scope: match &memory.scope {
                Scope::Shared => ScopeRecord::Shared,
                Scope::Team(name) => ScopeRecord::Team(name.clone()),
                Scope::Agent(name) => ScopeRecord::Agent(name.clone()),
            },
            content: memory.content.clone(),
            domain: memory.domain.clone(),
            occurred_at: time::format(memory.occurred_at),
            importance: memory.importance,
            metadata: memory.metadata.clone(),
            agent: memory.agent.clone(),
            session: memory.session.clone(),
            links: memory.links.iter().map(LinkRecord::from).collect(),
            expires_at: memory.expires_at.map(time::format),
            pinned: memory.pinned,
            version: memory.version,
            occurrences: memory.occurrences,
            last_seen_at: time::format(memory.last_seen_at),
            feedback: FeedbackRecord {
                count,
                positive,
                negative,
                usefulness,
            },
            created_at: time::format(memory.created_at),
            created_index: memory.created_index,
            updated_at: time::format(memory.updated_at),
            model: memory.model.clone(),
            uses: memory.uses,
            last_used_at: memory.last_used_at.map(time::format),
            archived: memory.archived.as_ref().map(|archived| ArchivedRecord {
                reason: match archived.reason {
                    Reason::Faded => "faded",
                    Reason::Merged { .. } => "merged",
                    Reason::Superseded { .. } => "superseded",
                    Reason::Shared { .. } => "shared",
                    Reason::Withheld => "withheld",
                },
                replaced_by: memory.replaced_by().map(|key| key.to_string()),
                at: time::format(archived.at),
            }),
            merged: memory.merged.iter().map(ToString::to_string).collect(),
            shared_by: memory.shared_by.iter().map(SharingRecord::from).collect(),
        }
    }
}

impl From<&Sharing> for SharingRecord {
    fn from(sharing: &Sharing) -> Self {
        Self {
            agent: sharing.agent.clone(),
            at: time::format(sharing.at),
            learned_at: time::format(sharing.learned_at),
        }
    }
}

impl From<&Link> for LinkRecord {
    fn from(link: &Link) -> Self {
        Self {
            relation: link.relation.as_str().to_owned(),
            key: link.target.to_string(),
        }
    }
}

/// One line of an import.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    pub experience: Experience,
    /// Where an export found it.
    pub namespace: Option<String>,
}

/// Why a line is not an experience.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("line has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("not valid UTF-8 at byte {at}")]
    Utf8 { at: usize },
    #[error("{0}")]
    Json(String),
    #[error("{field}: {reason}")]
    Field { field: String, reason: String },
    #[error(
        "key is {actual}, but this content has the key {expected} in namespace {namespace:?}: the \
         line was changed"
    )]
    OtherKey {
        expected: Key,
        actual: Key,
        namespace: String,
    },
}

/// Reads one line and checks every bound that can be checked without a server.
pub fn parse_line(line: &[u8]) -> Result<Imported, Error> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Error::TooLong);
    }
    let text = std::str::from_utf8(line).map_err(|error| Error::Utf8 {
        at: error.valid_up_to() + 1,
    })?;
    let line: Line = serde_json::from_str(text).map_err(|error| Error::Json(error.to_string()))?;
    line.read()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    content: String,
    domain: String,
    occurred_at: Option<String>,
    importance: Option<f32>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    agent: Option<String>,
    session: Option<String>,
    scope: Option<ScopeRecord>,
    expires_at: Option<String>,
    #[serde(default)]
    pinned: bool,
    #[serde(default)]
    links: Vec<LinkRecord>,
    #[serde(default)]
    vector: Vec<f32>,
    namespace: Option<String>,
    key: Option<String>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "version")]
    _version: Option<IgnoredAny>,
    #[serde(rename = "occurrences")]
    _occurrences: Option<IgnoredAny>,
    #[serde(rename = "last_seen_at")]
    _last_seen_at: Option<IgnoredAny>,
    #[serde(rename = "feedback")]
    _feedback: Option<IgnoredAny>,
    #[serde(rename = "created_at")]
    _created_at: Option<IgnoredAny>,
    #[serde(rename = "created_index")]
    _created_index: Option<IgnoredAny>,
    #[serde(rename = "updated_at")]
    _updated_at: Option<IgnoredAny>,
    #[serde(rename = "model")]
    _model: Option<IgnoredAny>,
    #[serde(rename = "uses")]
    _uses: Option<IgnoredAny>,
    #[serde(rename = "last_used_at")]
    _last_used_at: Option<IgnoredAny>,
    #[serde(rename = "archived")]
    _archived: Option<IgnoredAny>,
    #[serde(rename = "merged")]
    _merged: Option<IgnoredAny>,
    #[serde(rename = "shared_by")]
    _shared_by: Option<IgnoredAny>,
}

impl Line {
    fn read(self) -> Result<Imported, Error> {
        let instant = |field: &str, text: Option<String>| -> Result<Option<TimeMs>, Error> {
            text.map(|text| time::parse_rfc3339(&text).map_err(|error| wrong(field, error)))
                .transpose()
        };
        let link = |link: LinkRecord| {
            let relation = Relation::parse(&link.relation).ok_or_else(|| {
                let known = Relation::ALL.map(Relation::as_str).join(", ");
                let actual = &link.relation;
                wrong("links", format!("relation {actual:?} is none of {known}"))
            })?;
            let target = link.key.parse().map_err(|error| wrong("links", error))?;
            Ok::<_, Error>(Link { relation, target })
        };
        let experience = Experience {
            content: self.content,
            domain: self.domain,
            occurred_at: instant("occurred_at", self.occurred_at)?,
            importance: self.importance,
            metadata: self.metadata,
            agent: self.agent,
            session: self.session,
            scope: self.scope.map(|scope| match scope {
                ScopeRecord::Shared => Scope::Shared,
                ScopeRecord::Team(name) => Scope::Team(name),
                ScopeRecord::Agent(name) => Scope::Agent(name),
            }),
            expires_at: instant("expires_at", self.expires_at)?,
            pinned: self.pinned,
            links: self.links.into_iter().map(link).collect::<Result<_, _>>()?,
            vector: self.vector,
        };
        if let Some(violation) = experience.check().into_vec().into_iter().next() {
            return Err(wrong(&violation.field, violation.description));
        }
        if let (Some(key), Some(namespace)) = (self.key, &self.namespace) {
            let actual: Key = key.parse().map_err(|error| wrong("key", error))?;
            let expected = experience
                .key_in(namespace)
                .map_err(|error| wrong("namespace", error))?;
            if expected != actual {
                return Err(Error::OtherKey {
                    expected,
                    actual,
                    namespace: namespace.clone(),
                });
            }
        }
        Ok(Imported {
            experience,
            namespace: self.namespace,
        })
    }
}

fn wrong(field: &str, reason: impl ToString) -> Error {
    Error::Field {
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::InMemoryStore;

    fn check(line: &str) -> String {
        match parse_line(line.as_bytes()) {
            Ok(imported) => format!("{:?}", imported.experience.scope),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_line_of_a_corpus_is_read() {
        let line = r#"{"id": "infra-1", "content": "Raise it to 512Mi.", "domain": "infrastructure",
            "occurred_at": "2026-01-06T02:29:14Z", "importance": 0.7, "agent": "reviewer-1",
            "session": "s", "metadata": {"repo": "shop"}, "scope": {"team": "sre"}, "pinned": true,
            "expires_at": "2027-01-01T00:00:00Z",
            "links": [{"relation": "caused_by", "key": "00112233445566778899aabbccddeeff"}]}"#;
        let experience = parse_line(line.as_bytes()).unwrap().experience;
        assert_eq!(experience.content, "Raise it to 512Mi.");
        assert_eq!(experience.importance, Some(0.7));
        assert_eq!(experience.scope, Some(Scope::Team("sre".into())));
        assert_eq!(experience.metadata["repo"], "shop");
        assert_eq!(experience.links.len(), 1);
        assert!(experience.pinned && experience.expires_at.is_some());
        let bare = r#"{"content":"x","domain":"d","scope":"shared"}"#;
        assert_eq!(check(bare), "Some(Shared)");
    }

    #[test]
    fn each_mistake_is_named() {
        let wrong = |rest: &str| check(&format!(r#"{{"content":"x","domain":"d",{rest}}}"#));
        assert!(wrong(r#""importence":1"#).contains("unknown field `importence`"));
        assert!(wrong(r#""importance":1.5"#).contains("importance is 1.5, expected 0 to 1"));
        assert!(wrong(r#""metadata":{"a":1}"#).contains("expected a string"));
        assert!(wrong(r#""occurred_at":"2h""#).contains("is neither RFC 3339"));
        assert!(
            wrong(r#""scope":"team""#).contains("scope")
                || wrong(r#""scope":"team""#).contains("variant")
        );
        assert!(wrong(r#""vector":[1,2]"#).contains("vector has 2 dimensions"));
        assert!(wrong(r#""links":[{"relation":"x","key":"y"}]"#).contains("is none of caused_by"));
        assert!(check(r#"{"domain":"d"}"#).contains("missing field `content`"));
        assert!(check("[]").contains("invalid"));
        assert!(check("{").contains("EOF"));
        let bytes = b"{\"content\":\"\xff\"}";
        assert_eq!(parse_line(bytes), Err(Error::Utf8 { at: 13 }));
        let long = vec![b' '; LINE_BYTES_MAX + 1];
        assert_eq!(parse_line(&long), Err(Error::TooLong));
    }

    #[test]
    fn an_exported_memory_is_read_back_with_the_same_key() {
        let store = InMemoryStore::new();
        let lesson = Experience::new("tab\tand \"quotes\"\nand ünïcode", "db/postgres")
            .importance(0.1)
            .scope(Scope::Agent("ada".into()))
            .agent("ada")
            .metadata("k", "v")
            .expires_at(TimeMs(253_402_300_799_123));
        let key = store.learn(lesson.clone()).unwrap().learned[0].key;
        let memory = store
            .get(crate::Get::new(key).reader(crate::Reader::operator()))
            .unwrap()
            .unwrap();
        let line = serde_json::to_string(&MemoryRecord::from(&memory)).unwrap();
        let imported = parse_line(line.as_bytes()).unwrap();
        assert_eq!(imported.namespace.as_deref(), Some("default"));
        assert_eq!(imported.experience.key_in("default"), Ok(key));
        let expected = lesson.occurred_at(memory.occurred_at);
        assert_eq!(imported.experience, expected);
        let tampered = line.replace("quotes", "doubts");
        assert!(check(&tampered).contains("the line was changed"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_line(&bytes);
        }

        #[test]
        fn any_valid_experience_survives_the_way_through_a_line(
            content in "\\PC{1,200}",
            importance in 0.0..=1.0_f32,
            metadata in prop::collection::btree_map("[a-z]{1,8}", "\\PC{0,20}", 0..4),
            agent in prop::option::of("[a-z ]{1,10}"),
            occurred_at in 0..=253_402_300_799_999_i64,
        ) {
            let mut lesson = Experience::new(content, "deployment").importance(importance);
            lesson.metadata = metadata;
            lesson.agent = agent;
            prop_assume!(lesson.check().into_vec().is_empty());
            let store = InMemoryStore::with_clock(std::sync::Arc::new(|| TimeMs(253_402_300_799_999)));
            let lesson = lesson.occurred_at(TimeMs(occurred_at)).scope(Scope::Shared);
            let key = store.learn(lesson.clone()).unwrap().learned[0].key;
            let memory = store.get(key).unwrap().unwrap();
            let line = serde_json::to_vec(&MemoryRecord::from(&memory)).unwrap();
            let imported = parse_line(&line).unwrap();
            prop_assert_eq!(imported.experience, lesson);
        }
    }
}
