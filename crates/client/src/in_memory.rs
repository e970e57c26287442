//! A knowledge store in the process: for tests, for trying things out, and for agents whose memory
//! need not outlive them.
//!
//! ```text
//! request ─▶ command ─▶ core::apply over a map of rows ─▶ reply
//! recall  ─▶ every memory of the namespace ─▶ words and hashed vectors ─▶ core::rank
//! ```
//!
//! It runs the same `apply` and the same ranking as a server, so what it stores, reinforces, refuses
//! and forgets is what a server would, and a pass of consolidation plans as a server's does. Only its
//! reading of text is simpler, passes run when they are asked for and not by themselves, and uses are
//! not counted.

mod consolidate;
mod past;
mod search;
mod words;

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use memorygate_core::{
    apply::{self, Outcome as Applied, Rejection, apply},
    command::{Command, Envelope, learn},
    embedding::{Embedding, ModelId, TokenStates, Window},
    key::Key,
    name::{Name, Namespace},
    request::RequestId,
    scope as core_scope,
    shown::Shown,
    state::{self, NamespaceInfo, Read, ReadError, RowKey, StateDigest, Transaction},
    time::{DAY_MS, TimeMs},
};
use rand::Rng as _;

use crate::{
    context::LearningContext,
    error::{Error, Kind, Outcome, Violations},
    experience::{Experience, IMPORTANCE_DEFAULT},
    feedback::GiveFeedback,
    forget::Forget,
    freshness::Freshness,
    get::Get,
    history::{Event, History, HistoryPage},
    learn::{Learn, LearnReply, Learned},
    link::SetLink,
    list::{List, Page},
    memory::Memory,
    mutation::{Mutation, Target},
    position::Position,
    recall::{Recall, RecallReply},
    restore::Restore,
    scope::{Reader, Scope},
    share::Share,
    stats::{NamespaceStats, Stats},
    store::{self, KnowledgeHistory, KnowledgeStore, batch},
    time,
    update::Update,
};

/// Marks vectors of hashed words: never to be compared with a model's.
const MODEL: ModelId = ModelId(u64::from_be_bytes(*b"hashword"));

/// Tells the time. A test hands in its own.
pub type Clock = Arc<dyn Fn() -> TimeMs + Send + Sync>;

/// See the module. It takes the same requests as [`Client`](crate::Client); clones share the store.
#[derive(Clone)]
pub struct InMemoryStore {
    state: Arc<Mutex<State>>,
    clock: Clock,
}

struct State {
    rows: Rows,
    digest: StateDigest,
    position: Position,
}

struct Rows(BTreeMap<RowKey, Vec<u8>>);

impl Read for Rows {
    fn get(&self, key: &RowKey) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        from: &RowKey,
        until: &RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, ReadError> {
        let rows = self.0.range(from..until).take(limit);
        Ok(rows.map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

impl Default for InMemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl InMemoryStore {
    /// An empty store on this machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(time::now))
    }

    /// An empty store on a clock of the caller's.
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                rows: Rows(BTreeMap::new()),
                digest: StateDigest::default(),
                position: Position {
                    // A log of its own, so that positions of other stores are refused.
                    cluster_id: rand::rng().random(),
                    group: 0,
                    index: 0,
                },
            })),
            clock,
        }
    }

    /// Where the last write stands.
    pub fn position(&self) -> Position {
        self.lock().position
    }

    /// A new request id, good for the next write.
    pub fn request_id(&self) -> RequestId {
        RequestId {
            after: self.position().index,
            nonce: rand::rng().random(),
        }
    }

    /// Stores experiences, all or none.
    pub fn learn(&self, learn: impl Into<Learn>) -> Result<LearnReply, Error> {
        let learn = learn.into();
        let namespace = namespace_or_default(learn.namespace.as_deref());
        learn.check(namespace)?;
        let now = (self.clock)();
        let mut violations = Violations::default();
        for (at, experience) in learn.experiences.iter().enumerate() {
            if let Some(occurred_at) = experience.occurred_at
                && occurred_at.0.saturating_sub(now.0) > DAY_MS
            {
                violations.add(
                    format!("experiences[{at}].occurred_at"),
                    format!(
                        "occurred_at is {}, expected at most one day after now, {}",
                        time::format(occurred_at),
                        time::format(now)
                    ),
                );
            }
        }
        violations.into_result("learn")?;
        let command = Command::Learn(learn::Learn {
            namespace: parsed_namespace(namespace),
            experiences: learn.experiences.iter().map(command_experience).collect(),
        });
        let (outcome, position) = self.write("learn", learn.request_id, command)?;
        let Applied::Learned(learned) = outcome else {
            return Err(reused_id("learn"));
        };
        let learned = learned.into_iter().map(|l| Learned {
            key: l.key,
            created: l.created,
            version: l.version,
            occurrences: l.occurrences,
        });
        Ok(LearnReply {
            learned: learned.collect(),
            position,
        })
    }

    /// Finds the memories relevant to a task, best first.
    pub fn recall(&self, recall: &Recall) -> Result<RecallReply, Error> {
        let namespace = namespace_or_default(recall.namespace.as_deref());
        let reader = recall.reader.clone().unwrap_or_default();
        recall.check(namespace, &reader)?;
        let state = self.lock();
        self.check_freshness(&state, "recall", recall.freshness)?;
        let core_reader = reader.check().1;
        let lasting = recall.filter.check().1.lasting();
        let (mut asked, mut trust) = (Vec::new(), BTreeMap::new());
        let mut now = TimeMs::default();
        for (place, namespace) in (0..).zip(recall.asked(namespace)) {
            let (all, then) = self.memories_as_of(
                &state,
                "recall",
                (&namespace, &core_reader),
                recall.as_of,
                |record, now| lasting.passes(record, &core_reader, now),
            )?;
            asked.push(all);
            now = now.max(then);
            let known = state::trusts(&state.rows, &namespace, None, usize::MAX - 1);
            for (agent, known) in known.map_err(broken)? {
                trust.insert((place, agent), known.value());
            }
        }
        let results = search::search(&asked, &trust, recall, &core_reader, now);
        Ok(RecallReply {
            results,
            position: state.position,
        })
    }

    /// One memory; `None` if there is none that the reader may see.
    pub fn get(&self, get: impl Into<Get>) -> Result<Option<Memory>, Error> {
        let get = get.into();
        let place = Place::of("get", get.namespace.as_deref(), get.reader.as_ref())?;
        let state = self.lock();
        self.check_freshness(&state, "get", get.freshness)?;
        // Whether a moment has been does not depend on whether there is such a memory.
        let past = self.past(&state, "get", get.as_of)?;
        let now = state::clock(&state.rows).map_err(broken)?;
        let memory = state::memory(&state.rows, &place.namespace, get.key)
            .map_err(broken)?
            .filter(|m| place.reader.sees(&m.scope) && !m.is_expired(now));
        let Some(memory) = memory else {
            return Ok(None);
        };
        let (namespace, rows) = (&place.namespace, &state.rows);
        let memory = match past {
            None => memory,
            Some(past) => match past::memory(rows, "get", namespace, &past, get.key, memory)? {
                Some(was) => was,
                None => return Ok(None),
            },
        };
        stored(rows, &place, get.key, memory).map(|stored| Some(stored.memory))
    }

    /// One page of what happened to a memory and to those that were merged into it, newest first; `None` if
    /// there is none that the reader may see.
    pub fn history_page(&self, history: &History) -> Result<Option<HistoryPage>, Error> {
        const OPERATION: &str = "history";
        let mut violations = history.check();
        let before = match history.page_token.as_str() {
            "" => None,
            token => violations.check("page_token", past::cursor(token)),
        };
        violations.into_result(OPERATION)?;
        let place = Place::of(
            OPERATION,
            history.namespace.as_deref(),
            history.reader.as_ref(),
        )?;
        let state = self.lock();
        self.check_freshness(&state, OPERATION, history.freshness)?;
        let (rows, key) = (&state.rows, history.key);
        let now = state::clock(rows).map_err(broken)?;
        let memory = state::memory(rows, &place.namespace, key)
            .map_err(broken)?
            .filter(|m| place.reader.sees(&m.scope) && !m.is_expired(now));
        let Some(memory) = memory else {
            return Ok(None);
        };
        let lineage = state::lineage(
            rows,
            &place.namespace,
            (key, &memory),
            &place.reader,
            before,
            history.page_size,
        );
        let lineage = lineage.map_err(broken)?;
        let last = lineage.told.last().filter(|_| lineage.has_more);
        Ok(Some(HistoryPage {
            next: last.map(|told| past::token(told.place)),
            events: lineage.told.into_iter().map(Event::of).collect(),
            is_complete: lineage.is_complete,
            position: state.position,
        }))
    }

    /// One page of a list.
    pub fn list_page(&self, list: &List) -> Result<Page, Error> {
        let namespace = namespace_or_default(list.namespace.as_deref());
        let reader = list.reader.clone().unwrap_or_default();
        list.check(namespace, &reader)?;
        let after: Option<Key> = match list.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|error| {
                let mut violations = Violations::default();
                violations.add("page_token", error);
                Error::invalid("list", violations.into_vec())
            })?),
        };
        let state = self.lock();
        self.check_freshness(&state, "list", list.freshness)?;
        let (filter, reader) = (list.filter.check().1, reader.check().1);
        let (all, now) = self.memories_as_of(
            &state,
            "list",
            (&parsed_namespace(namespace), &reader),
            list.as_of,
            |record, now| filter.lasting().passes(record, &reader, now),
        )?;
        let mut passing = all
            .into_iter()
            .filter(|s| after.is_none_or(|after| s.memory.key > after))
            .filter(|s| filter.passes(&s.record, &reader, now))
            .map(|s| s.memory);
        let page: Vec<Memory> = passing.by_ref().take(list.page_size).collect();
        let next = passing
            .next()
            .and(page.last())
            .map(|last| last.key.to_string());
        Ok(Page {
            memories: page,
            next,
            position: state.position,
        })
    }

    /// Changes metadata, importance, pin or expiry of a memory.
    pub fn update(&self, update: &Update) -> Result<Mutation, Error> {
        update.check().into_result("update")?;
        let command = Command::Update(memorygate_core::command::Update {
            target: target("update", &update.target)?,
            expected_version: update.expected_version,
            importance: update.importance,
            pinned: update.pinned,
            expiry: update.expiry,
            set_metadata: update.set_metadata.clone(),
            remove_metadata: update.remove_metadata.clone(),
        });
        self.mutate("update", update.target.request_id, command)
    }

    /// Says how useful a memory was.
    pub fn feedback(&self, feedback: &GiveFeedback) -> Result<Mutation, Error> {
        feedback.check().into_result("feedback")?;
        let target = target("feedback", &feedback.target)?;
        let agent = feedback
            .agent
            .as_ref()
            .map(|name| Name::parse(name).expect("the name was checked"))
            .or_else(|| target.reader.agent.clone());
        let command = Command::Feedback(memorygate_core::command::GiveFeedback {
            target,
            score: feedback.score,
            reason: feedback.reason.clone(),
            agent,
        });
        self.mutate("feedback", feedback.target.request_id, command)
    }

    /// Removes a memory for good.
    pub fn forget(&self, forget: impl Into<Forget>) -> Result<Mutation, Error> {
        let forget = forget.into();
        let command = Command::Forget(memorygate_core::command::Forget {
            target: target("forget", &forget.target)?,
            expected_version: forget.expected_version,
            reason: String::new(),
        });
        self.mutate("forget", forget.target.request_id, command)
    }

    /// Adds or removes a link from one memory to another.
    pub fn link(&self, link: &SetLink) -> Result<Mutation, Error> {
        let command = Command::Link(memorygate_core::command::SetLink {
            target: target("link", &link.target)?,
            link: link.link,
            remove: link.remove,
        });
        self.mutate("link", link.target.request_id, command)
    }

    /// Makes a memory of a narrower scope one of a wider scope; the answer names its new key.
    pub fn share(&self, share: &Share) -> Result<Mutation, Error> {
        share.check().into_result("share")?;
        let command = Command::Share(memorygate_core::command::Share {
            target: target("share", &share.target)?,
            expected_version: share.expected_version,
            with: share.with.check().expect("the scope was checked"),
        });
        self.mutate("share", share.target.request_id, command)
    }

    /// Brings a memory back from the archive.
    pub fn restore(&self, restore: impl Into<Restore>) -> Result<Mutation, Error> {
        let restore = restore.into();
        let command = Command::Restore(memorygate_core::command::Restore {
            target: target("restore", &restore.target)?,
        });
        self.mutate("restore", restore.target.request_id, command)
    }

    /// What is stored, in all namespaces or in one.
    pub fn stats(&self, namespace: Option<&str>) -> Result<Stats, Error> {
        let only = namespace
            .map(|name| Place::of("stats", Some(name), None).map(|place| place.namespace))
            .transpose()?;
        let state = self.lock();
        let mut namespaces = Vec::new();
        for (row, bytes) in &state.rows.0 {
            let RowKey::Namespace(name) = row else {
                continue;
            };
            if only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let info: NamespaceInfo = state::decode(row, bytes).map_err(broken)?;
            let by_domain = info.by_domain.into_iter();
            namespaces.push(NamespaceStats {
                namespace: name.to_string(),
                memories: info.memories,
                archived: info.archived,
                by_domain: by_domain.map(|(d, n)| (d.to_string(), n)).collect(),
            });
        }
        let clock = state::clock(&state.rows).map_err(broken)?;
        Ok(Stats {
            position: state.position,
            index_position: state.position.index,
            state_hash: state.digest.to_string(),
            clock: (state.position.index > 0).then_some(clock),
            namespaces,
            node_id: format!("{:016x}", 0),
            server_version: concat!("in-memory ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: format!("{:016x}", MODEL.0),
            disk_full: false,
        })
    }

    fn mutate(
        &self,
        operation: &'static str,
        id: Option<RequestId>,
        command: Command,
    ) -> Result<Mutation, Error> {
        let (outcome, position) = self.write(operation, id, command)?;
        let Applied::Mutated {
            key,
            version,
            changed,
        } = outcome
        else {
            return Err(reused_id(operation));
        };
        Ok(Mutation {
            key,
            version,
            changed,
            position,
        })
    }

    /// One entry of this store's log.
    fn write(
        &self,
        operation: &'static str,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<(Applied, Position), Error> {
        let envelope = Envelope {
            time: (self.clock)(),
            request,
            command,
        };
        let mut state = self.lock();
        let index = state.position.index + 1;
        let mut tx = Transaction::new(&state.rows);
        let reply = apply(&mut tx, index, &envelope).map_err(broken)?;
        let commit = tx.commit(state.digest);
        for (key, row) in commit.rows {
            match row {
                Some(row) => state.rows.0.insert(key, row),
                None => state.rows.0.remove(&key),
            };
        }
        state.digest = commit.digest;
        state.position.index = index;
        let position = Position {
            index: reply.index,
            ..state.position
        };
        match reply.result {
            Ok(outcome) => Ok((outcome, position)),
            Err(rejection) => Err(rejected(operation, &rejection)),
        }
    }

    fn check_freshness(
        &self,
        state: &State,
        operation: &'static str,
        freshness: Freshness,
    ) -> Result<(), Error> {
        let Freshness::AtLeast(asked) = freshness else {
            return Ok(());
        };
        let have = state.position;
        let refuse = |kind| {
            let message = format!("store is at position {have}, asked for at least {asked}");
            Err(Error::new(kind, Outcome::Failed, operation, message))
        };
        if !have.is_comparable(&asked) {
            return refuse(Kind::Restore);
        }
        if have.index < asked.index {
            return refuse(Kind::Retry);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave it half-written: `write` changes it only after everything that can
        // fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KnowledgeStore for InMemoryStore {
    async fn store_experiences(
        &self,
        context: &LearningContext,
        experiences: Vec<Experience>,
    ) -> Result<LearnReply, Error> {
        self.learn(batch(context, experiences)?)
    }

    async fn retrieve_context(
        &self,
        context: &LearningContext,
        limit: usize,
    ) -> Result<RecallReply, Error> {
        self.recall(&context.recall(limit))
    }

    async fn get(&self, context: &LearningContext, key: Key) -> Result<Option<Memory>, Error> {
        let get = Get {
            namespace: context.namespace.clone(),
            ..Get::new(key)
                .reader(context.reader())
                .freshness(context.freshness())
        };
        Self::get(self, get)
    }

    async fn feedback(
        &self,
        context: &LearningContext,
        key: Key,
        score: f32,
        reason: &str,
    ) -> Result<(), Error> {
        let mut feedback = GiveFeedback::new(key, score)
            .reason(reason)
            .reader(context.reader());
        feedback.target.namespace.clone_from(&context.namespace);
        Self::feedback(self, &feedback).map(drop)
    }

    async fn share(&self, context: &LearningContext, key: Key, with: Scope) -> Result<Key, Error> {
        let share = store::share(context, key, with);
        Self::share(self, &share).map(|shared| shared.key)
    }

    async fn forget(&self, context: &LearningContext, key: Key) -> Result<(), Error> {
        let mut forget = Forget::new(key).reader(context.reader());
        forget.target.namespace.clone_from(&context.namespace);
        Self::forget(self, forget).map(drop)
    }
}

#[async_trait]
impl KnowledgeHistory for InMemoryStore {
    async fn recall_past(&self, recall: &Recall) -> Result<RecallReply, Error> {
        self.recall(recall)
    }

    async fn get_past(&self, get: Get) -> Result<Option<Memory>, Error> {
        Self::get(self, get)
    }

    async fn list_past(&self, list: &List) -> Result<Page, Error> {
        self.list_page(list)
    }

    async fn history(&self, history: &History) -> Result<Option<HistoryPage>, Error> {
        self.history_page(history)
    }
}

/// A memory with everything that a search looks at.
struct Stored {
    memory: Memory,
    record: memorygate_core::memory::Memory,
    /// Unit length.
    vector: Vec<f32>,
}

/// All of a namespace, in key order.
fn memories(
    rows: &Rows,
    namespace: &Namespace,
    reader: &core_scope::Reader,
) -> Result<Vec<Stored>, Error> {
    let place = Place {
        namespace: namespace.clone(),
        reader: reader.clone(),
    };
    let bound = |byte| Bound::Included(RowKey::Memory(namespace.clone(), Key([byte; 16])));
    let found = rows.0.range((bound(0), bound(u8::MAX)));
    found
        .filter_map(|(row, bytes)| match row {
            RowKey::Memory(_, key) => Some((row, *key, bytes)),
            RowKey::Clock
            | RowKey::Namespace(_)
            | RowKey::Embedding(..)
            | RowKey::Session(_)
            | RowKey::Expiry(..)
            | RowKey::Request(_)
            | RowKey::Format
            | RowKey::Policy(_)
            | RowKey::Progress(_)
            | RowKey::Epoch(..)
            | RowKey::Conflict(..)
            | RowKey::Trust(..)
            | RowKey::History(_) => None,
        })
        .map(|(row, key, bytes)| {
            let memory = state::decode(row, bytes).map_err(broken)?;
            stored(rows, &place, key, memory)
        })
        .collect()
}

fn stored(
    rows: &Rows,
    Place { namespace, reader }: &Place,
    key: Key,
    record: memorygate_core::memory::Memory,
) -> Result<Stored, Error> {
    let embedding = state::embedding(rows, namespace, key)
        .map_err(broken)?
        .unwrap_or_default();
    // One that the reader does not see counts for how rare words are, and is no answer.
    let shown = if reader.sees(&record.scope) {
        Shown::to(reader, rows, namespace, record.clone()).map_err(broken)?
    } else {
        Shown::to_operator(record.clone())
    };
    Ok(Stored {
        memory: Memory::of(namespace, key, shown, embedding.model),
        record,
        vector: embedding
            .windows
            .into_iter()
            .next()
            .map(|window| window.dense)
            .unwrap_or_default(),
    })
}

/// Namespace and reader of a request, checked.
struct Place {
    namespace: Namespace,
    reader: core_scope::Reader,
}

impl Place {
    fn of(
        operation: &'static str,
        namespace: Option<&str>,
        reader: Option<&Reader>,
    ) -> Result<Self, Error> {
        let mut violations = Violations::default();
        let name = namespace_or_default(namespace);
        let namespace = violations.check("namespace", Namespace::parse(name));
        let (wrong, reader) = reader.cloned().unwrap_or_default().check();
        violations.nest("reader", wrong);
        violations.into_result(operation)?;
        Ok(Self {
            namespace: namespace.expect("a namespace without a violation was parsed"),
            reader,
        })
    }
}

fn target(operation: &'static str, target: &Target) -> Result<apply::Target, Error> {
    let place = Place::of(
        operation,
        target.namespace.as_deref(),
        target.reader.as_ref(),
    )?;
    Ok(apply::Target {
        namespace: place.namespace,
        key: target.key,
        reader: place.reader,
    })
}

fn namespace_or_default(given: Option<&str>) -> &str {
    given.unwrap_or("default")
}

fn parsed_namespace(checked: &str) -> Namespace {
    Namespace::parse(checked).expect("the namespace was checked")
}

/// The experience as a command carries it: with its vector.
fn command_experience(experience: &Experience) -> learn::Experience {
    let name = |name: &String| Name::parse(name).expect("the name was checked");
    let embedding = if experience.vector.is_empty() {
        Embedding {
            model: MODEL,
            windows: vec![Window {
                dense: words::vector(&experience.content),
                states: TokenStates::default(),
            }],
        }
    } else {
        Embedding::given(&experience.vector).expect("the vector was checked")
    };
    learn::Experience {
        scope: experience.scope_or_shared().expect("the scope was checked"),
        content: experience.content.clone(),
        domain: memorygate_core::name::Domain::parse(&experience.domain)
            .expect("the domain was checked"),
        occurred_at: experience.occurred_at,
        importance: experience.importance.unwrap_or(IMPORTANCE_DEFAULT),
        metadata: experience.metadata.clone(),
        agent: experience.agent.as_ref().map(name),
        session: experience.session.as_ref().map(name),
        expires_at: experience.expires_at,
        pinned: experience.pinned,
        links: experience.links.clone(),
        embedding,
    }
}

fn rejected(operation: &'static str, rejection: &Rejection) -> Error {
    let kind = match rejection {
        Rejection::NotFound { .. } | Rejection::NoEpoch { .. } | Rejection::NoConflict { .. } => {
            Kind::NotFound
        }
        Rejection::Version { .. } | Rejection::ChangedSince { .. } => Kind::Conflict,
        Rejection::Invalid { .. }
        | Rejection::RequestExpired { .. }
        | Rejection::Merged { .. }
        | Rejection::Shared { .. } => Kind::Fix,
        Rejection::RequestFromFuture { .. } => Kind::Restore,
    };
    let mut error = Error::new(kind, Outcome::Failed, operation, rejection.to_string());
    if let Rejection::ChangedSince { keys, .. } = rejection {
        error.set_changed(keys.clone());
    }
    error
}

fn reused_id(operation: &'static str) -> Error {
    let message = "request id was used before, for another kind of write";
    Error::new(Kind::Fix, Outcome::Failed, operation, message)
}

/// Rows in memory are read as they were written.
fn broken(error: ReadError) -> Error {
    Error::new(
        Kind::Report,
        Outcome::Failed,
        "read rows",
        error.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> InMemoryStore {
        InMemoryStore::with_clock(Arc::new(move || TimeMs(ms)))
    }

    #[test]
    fn a_repeated_request_gets_the_first_answer() {
        let store = at(1_000_000);
        let id = store.request_id();
        let learn = || Learn::new([Experience::new("x", "d")]).request_id(id);
        let first = store.learn(learn()).unwrap();
        assert_eq!(store.learn(learn()).unwrap(), first);
        let key = first.learned[0].key;
        assert_eq!(store.get(key).unwrap().unwrap().occurrences, 1);
        let forget = Forget::new(key).request_id(id);
        let error = store.forget(forget).unwrap_err();
        assert!(error.message().contains("another kind of write"), "{error}");
    }

    #[test]
    fn pages_follow_each_other_in_key_order() {
        let store = at(1_000_000);
        let lessons = (0..25).map(|i| Experience::new(format!("lesson {i}"), "d"));
        store.learn(lessons.collect::<Vec<_>>()).unwrap();
        let mut list = List::new().page_size(10);
        let mut keys = Vec::new();
        loop {
            let page = store.list_page(&list).unwrap();
            keys.extend(page.memories.iter().map(|m| m.key));
            match page.next {
                Some(token) => list = list.page_token(token),
                None => break,
            }
        }
        assert_eq!(keys.len(), 25);
        assert!(keys.is_sorted());
        let error = store.list_page(&List::new().page_token("x")).unwrap_err();
        assert_eq!(error.kind(), Kind::Fix);
    }

    #[test]
    fn changes_are_made_only_to_the_version_that_was_meant() {
        let store = at(1_000_000);
        let key = store.learn(Experience::new("x", "d")).unwrap().learned[0].key;
        let other = store.learn(Experience::new("y", "d")).unwrap().learned[0].key;
        let changed = store
            .update(
                &Update::new(key)
                    .importance(0.9)
                    .pinned(true)
                    .never_expires()
                    .set_metadata("a", "b")
                    .expected_version(1),
            )
            .unwrap();
        assert_eq!((changed.version, changed.changed), (2, true));
        let stale = store
            .update(&Update::new(key).importance(0.1).expected_version(1))
            .unwrap_err();
        assert_eq!(stale.kind(), Kind::Conflict);
        let link = SetLink::new(key, crate::Relation::CausedBy, other);
        assert!(store.link(&link).unwrap().changed);
        assert!(!store.link(&link).unwrap().changed);
        assert!(store.link(&link.remove()).unwrap().changed);
        let memory = store.get(key).unwrap().unwrap();
        assert_eq!((memory.importance, memory.pinned), (0.9, true));
        assert_eq!(memory.metadata["a"], "b");
    }

    #[test]
    fn positions_of_elsewhere_or_of_the_future_are_refused() {
        let store = at(1_000_000);
        let here = store.learn(Experience::new("x", "d")).unwrap().position;
        let get = |position| {
            let get = Get::new(Key([0; 16])).freshness(Freshness::AtLeast(position));
            store.get(get).map_err(|error| error.kind())
        };
        assert_eq!(get(here), Ok(None));
        let ahead = Position {
            index: here.index + 1,
            ..here
        };
        assert_eq!(get(ahead), Err(Kind::Retry));
        assert_eq!(get(at(0).position()), Err(Kind::Restore));
    }

    #[test]
    fn counts_and_digest_follow_what_is_stored() {
        let store = at(1_000_000);
        assert_eq!(store.stats(None).unwrap().clock, None);
        let empty = store.stats(None).unwrap().state_hash;
        let in_a = Learn::new([Experience::new("x", "d")]).namespace("a");
        store.learn(in_a).unwrap();
        store.learn(Experience::new("y", "d")).unwrap();
        let all = store.stats(None).unwrap();
        assert_ne!(all.state_hash, empty);
        assert_eq!(all.namespaces.len(), 2);
        let one = store.stats(Some("a")).unwrap().namespaces;
        assert_eq!(one.len(), 1);
        assert_eq!((one[0].memories, one[0].by_domain["d"]), (1, 1));
    }

    #[test]
    fn a_future_experience_is_refused() {
        let store = at(1_000_000);
        let soon = Experience::new("x", "d").occurred_at(TimeMs(1_000_000 + DAY_MS));
        assert!(store.learn(soon).is_ok());
        let late = Experience::new("x", "d").occurred_at(TimeMs(1_000_001 + DAY_MS));
        assert_eq!(
            store.learn(late).unwrap_err().violations()[0].field,
            "experiences[0].occurred_at"
        );
    }
}
