//! Learn: from checked experiences to one committed command.
//!
//! ```text
//! drafts ── known already? ── what came before in the session? ──▶ passages ──▶ embedder
//!              (stored embedding is reused)                                        │
//!                                            one command, one log entry ◀──────────┘
//! ```
//!
//! What is read from the state here only saves work or gives the model context. What is stored is
//! decided by `apply`, and nothing that changes in between makes it wrong.

mod context;

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{
    apply::Outcome as Done,
    command::{
        Command, Learn,
        learn::{Experience, Learned},
    },
    embedding::{Embedding, Passage},
    key::Key,
    limits::COMMAND_BYTES_MAX,
    memory::Link,
    name::{Domain, Name, Namespace},
    request::RequestId,
    scope::Scope,
    state::{self, ReadError},
    time::TimeMs,
};
use memorygate_raft::StateSnapshot;

pub use self::context::BEFORE;
use crate::{backend::Backend, deadline::Deadline, error::Error, position::Position};

/// Experiences to learn at once, under one request id.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub request: Option<RequestId>,
    pub namespace: Namespace,
    /// 1 to `limits::BATCH_MAX`.
    pub drafts: Vec<Draft>,
}

/// An experience whose every bound was checked, before it is embedded.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub scope: Scope,
    pub content: String,
    pub domain: Domain,
    pub occurred_at: Option<TimeMs>,
    pub importance: f32,
    pub metadata: BTreeMap<String, String>,
    pub agent: Option<Name>,
    pub session: Option<Name>,
    pub expires_at: Option<TimeMs>,
    pub pinned: bool,
    pub links: BTreeSet<Link>,
    /// The caller's own vector: the text is not embedded.
    pub given: Option<Embedding>,
}

impl Draft {
    fn finish(self, embedding: Embedding) -> Experience {
        Experience {
            scope: self.scope,
            content: self.content,
            domain: self.domain,
            occurred_at: self.occurred_at,
            importance: self.importance,
            metadata: self.metadata,
            agent: self.agent,
            session: self.session,
            expires_at: self.expires_at,
            pinned: self.pinned,
            links: self.links,
            embedding,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One for each experience, in order.
    pub learned: Vec<Learned>,
    pub position: Position,
}

/// Where an experience's embedding comes from.
enum Source {
    /// It is there: given by the caller, or stored with the same lesson.
    Ready(Embedding),
    /// To be made.
    Passage(Passage),
    /// That of an earlier experience of the batch, which is the same lesson.
    Same(usize),
}

pub async fn learn(backend: &Backend, batch: Batch, deadline: Deadline) -> Result<Answer, Error> {
    let Batch {
        request,
        namespace,
        drafts,
    } = batch;
    let (drafts, sources) = sources(backend, &namespace, drafts, deadline).await?;
    let embeddings = embed(backend, sources, deadline).await?;
    let experiences = drafts
        .into_iter()
        .zip(embeddings)
        .map(|(draft, e)| draft.finish(e))
        .collect();
    let command = Command::Learn(Learn {
        namespace,
        experiences,
    });
    let (done, position) = backend.propose(command, request, deadline).await?;
    match done {
        Done::Learned(learned) => Ok(Answer { learned, position }),
        Done::Mutated { .. }
        | Done::Expired { .. }
        | Done::Marked
        | Done::Format { .. }
        | Done::Consolidated { .. }
        | Done::Undone { .. }
        | Done::UsesCounted { .. }
        | Done::PolicySet
        | Done::TrustSet => Err(Error::other_call()),
    }
}

async fn sources(
    backend: &Backend,
    namespace: &Namespace,
    drafts: Vec<Draft>,
    deadline: Deadline,
) -> Result<(Vec<Draft>, Vec<Source>), Error> {
    // What cannot fit into one command is not embedded first.
    let (actual, max) = (
        drafts.iter().map(|d| d.content.len()).sum(),
        COMMAND_BYTES_MAX,
    );
    if actual > max {
        return Err(Error::CommandTooLarge { actual, max });
    }
    if drafts.iter().all(|d| d.given.is_some()) {
        let given = |d: &Draft| d.given.clone().map(Source::Ready);
        let sources = drafts.iter().filter_map(given).collect();
        return Ok((drafts, sources));
    }
    let snapshot = backend.raft.state().snapshot();
    let now = backend.clock.now().max(snapshot.clock());
    let namespace = namespace.clone();
    let look_up = move || {
        let sources = look_up(&snapshot, &namespace, &drafts, now);
        sources.map(|sources| (drafts, sources))
    };
    Ok(backend.reads.run(deadline, look_up).await??)
}

fn look_up(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    drafts: &[Draft],
    now: TimeMs,
) -> Result<Vec<Source>, ReadError> {
    let mut first: BTreeMap<Key, usize> = BTreeMap::new();
    let mut fresh: Vec<usize> = Vec::new();
    let mut sources = Vec::with_capacity(drafts.len());
    for (at, draft) in drafts.iter().enumerate() {
        let key = Key::of(namespace, &draft.scope, &draft.domain, &draft.content);
        let earlier = *first.entry(key).or_insert(at);
        if earlier < at && draft.given.is_none() {
            sources.push(Source::Same(earlier));
            continue;
        }
        let stored = state::memory(snapshot, namespace, key)?.filter(|m| !m.is_expired(now));
        if stored.is_none() && earlier == at {
            fresh.push(at);
        }
        sources.push(match (&draft.given, stored) {
            (Some(given), _) => Source::Ready(given.clone()),
            (None, Some(_)) => match state::embedding(snapshot, namespace, key)? {
                Some(embedding) => Source::Ready(embedding),
                None => Source::Passage(Passage::default()),
            },
            (None, None) => Source::Passage(Passage::default()),
        });
    }
    for (at, source) in sources.iter_mut().enumerate() {
        if let Source::Passage(passage) = source {
            passage.text.clone_from(&drafts[at].content);
            passage.before = context::before(snapshot, namespace, drafts, &fresh, at, now)?;
        }
    }
    Ok(sources)
}

async fn embed(
    backend: &Backend,
    sources: Vec<Source>,
    deadline: Deadline,
) -> Result<Vec<Embedding>, Error> {
    let passages: Vec<Passage> = sources
        .iter()
        .filter_map(|source| match source {
            Source::Passage(passage) => Some(passage.clone()),
            Source::Ready(_) | Source::Same(_) => None,
        })
        .collect();
    let made = if passages.is_empty() {
        Vec::new()
    } else {
        backend.embed_passages(passages, deadline).await?
    };
    let mut made = made.into_iter();
    let mut embeddings: Vec<Embedding> = Vec::with_capacity(sources.len());
    for source in sources {
        embeddings.push(match source {
            Source::Ready(embedding) => embedding,
            Source::Passage(_) => made
                .next()
                .expect("the embedder makes one embedding a passage"),
            Source::Same(earlier) => embeddings[earlier].clone(),
        });
    }
    Ok(embeddings)
}
