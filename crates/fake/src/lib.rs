//! A server on loopback that keeps what it is told in an in-memory store, fails when asked to, and
//! notes what it was asked; and a language model's endpoint that does the same. The tests of the client,
//! of the agents and of `mgctl` all ask this one, so it is a crate: a file shared between the tests of
//! several packages would be compiled by each, with what it leaves unused in each.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

pub mod cluster;
mod consolidation;
pub mod model;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use memorygate_client::{
    Archive, Archived, Error, Event, Experience, Filter, Forget, Freshness, Get, GiveFeedback,
    History, InMemoryStore, Kind, Learn, Link, List, Memory, Moment, Mutation, Position, Reader,
    Recall, Recalled, Relation, Restore, Scope, SetLink, Share, Stage, TimeMs, Update, Weights,
    memory::{Reason, Sharing},
};
use memorygate_proto::v1::{
    self,
    consolidation_server::ConsolidationServer,
    memory_gate_server::{MemoryGate, MemoryGateServer},
};
use prost_types::Timestamp;
use tokio::net::TcpListener;
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What a call does instead of answering.
#[derive(Clone)]
pub enum Fault {
    /// None: this call is answered.
    Pass,
    /// Answers so and does nothing.
    Status(Status),
    /// Does what it was asked to, then answers so.
    Afterwards(Status),
    /// Does what it was asked to, and answers with a message in which nothing is set.
    Empty,
    /// Never answers.
    Hang,
}

#[derive(Clone, Default)]
pub struct Fake {
    pub store: InMemoryStore,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    /// What it does with a call for which no fault was ordered.
    rule: Option<Arc<Rule>>,
}

type Rule = dyn Fn(&Call) -> Fault + Send + Sync;

/// A call that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: &'static str,
    /// Empty for reads.
    pub request_id: String,
    pub at_least: Option<u64>,
    pub linearizable: bool,
}

impl Fake {
    /// One that keeps what it is told in this store.
    pub fn over(store: InMemoryStore) -> Self {
        Self {
            store,
            ..Self::default()
        }
    }

    /// Starts one on a free port.
    pub async fn start() -> (Self, String) {
        let fake = Self::default();
        let address = fake.serve().await;
        (fake, address)
    }

    /// Serves what this fake holds on a further port, as another node would.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let service = MemoryGateServer::new(self.clone())
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        let serving = Server::builder()
            .add_service(service)
            .add_service(ConsolidationServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        format!("http://{address}")
    }

    /// The next calls that are not `Stats` fail so, in this order.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// What arrived since the last time, `Stats` left out.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    async fn answer<R: Default>(
        &self,
        name: &'static str,
        request_id: &str,
        (at_least, linearizable): (Option<v1::Position>, bool),
        run: impl FnOnce(&InMemoryStore, Freshness) -> Result<R, Error>,
    ) -> Result<Response<R>, Status> {
        let call = Call {
            name,
            request_id: request_id.to_owned(),
            at_least: at_least.as_ref().map(|p| p.index),
            linearizable,
        };
        self.calls.lock().unwrap().push(call.clone());
        let freshness = match at_least {
            None => Freshness::Any,
            Some(p) => Freshness::AtLeast(position(p)),
        };
        let fault = self.faults.lock().unwrap().pop_front();
        let fault = fault.or_else(|| Some(self.rule.as_ref()?(&call)));
        match fault {
            None | Some(Fault::Pass) => run(&self.store, freshness)
                .map(Response::new)
                .map_err(|e| status(&e)),
            Some(Fault::Status(status)) => Err(status),
            Some(Fault::Afterwards(status)) => {
                let _ = run(&self.store, freshness);
                Err(status)
            }
            Some(Fault::Empty) => {
                let _ = run(&self.store, freshness);
                Ok(Response::new(R::default()))
            }
            Some(Fault::Hang) => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl MemoryGate for Fake {
    async fn learn(
        &self,
        request: Request<v1::LearnRequest>,
    ) -> Result<Response<v1::LearnResponse>, Status> {
        let request = request.into_inner();
        let id = request.request_id.clone();
        self.answer("learn", &id, (None, false), |store, _| {
            learn(store, request)
        })
        .await
    }

    async fn learn_stream(
        &self,
        request: Request<Streaming<v1::LearnRequest>>,
    ) -> Result<Response<v1::LearnStreamResponse>, Status> {
        let mut answer = v1::LearnStreamResponse::default();
        let mut batches = request.into_inner();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let id = batch.request_id.clone();
            let reply = self
                .answer("learn_stream", &id, (None, false), |store, _| {
                    learn(store, batch)
                })
                .await?
                .into_inner();
            answer.batches += 1;
            for learned in &reply.learned {
                if learned.created {
                    answer.created += 1;
                } else {
                    answer.reinforced += 1;
                }
            }
            answer.position = reply.position;
        }
        Ok(Response::new(answer))
    }

    async fn recall(
        &self,
        request: Request<v1::RecallRequest>,
    ) -> Result<Response<v1::RecallResponse>, Status> {
        let mut request = request.into_inner();
        let at_least = request.at_least.take();
        let read = (at_least, request.linearizable);
        self.answer("recall", "", read, |store, freshness| {
            let recall = Recall {
                namespace: name(request.namespace),
                namespaces: request.namespaces,
                query: request.query,
                vector: request.vector,
                limit: request.limit as usize,
                reader: request.reader.map(reader),
                filter: request.filter.map(filter).unwrap_or_default(),
                weights: request.weights.map(weights).unwrap_or_default(),
                without: request.without.into_iter().filter_map(stage).collect(),
                freshness,
                link_hops: request.link_hops,
                as_of: request.as_of.map(|as_of| match as_of {
                    v1::recall_request::AsOf::AsOfPosition(index) => Moment::Position(index),
                    v1::recall_request::AsOf::AsOfTime(at) => Moment::Time(time(at)),
                }),
            };
            let reply = store.recall(&recall)?;
            Ok(v1::RecallResponse {
                results: reply.results.into_iter().map(wire_recalled).collect(),
                position: Some(wire_position(reply.position)),
            })
        })
        .await
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let mut request = request.into_inner();
        let at_least = request.at_least.take();
        let key = request.key.parse().unwrap();
        let read = (at_least, request.linearizable);
        self.answer("get", "", read, |store, freshness| {
            let get = Get {
                reader: request.reader.map(reader),
                as_of: request.as_of.map(|as_of| match as_of {
                    v1::get_request::AsOf::AsOfPosition(index) => Moment::Position(index),
                    v1::get_request::AsOf::AsOfTime(at) => Moment::Time(time(at)),
                }),
                ..Get::new(key)
                    .namespace(request.namespace)
                    .freshness(freshness)
            };
            let position = Some(wire_position(store.position()));
            match store.get(get)? {
                Some(memory) => Ok(v1::GetResponse {
                    memory: Some(wire_memory(memory)),
                    position,
                }),
                None => Err(Error::new(
                    Kind::NotFound,
                    memorygate_client::Outcome::Failed,
                    "get",
                    format!("no memory {key} in this namespace for this reader"),
                )),
            }
        })
        .await
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let mut request = request.into_inner();
        let at_least = request.at_least.take();
        let read = (at_least, request.linearizable);
        self.answer("list", "", read, |store, freshness| {
            let list = List {
                namespace: Some(request.namespace.clone()),
                reader: request.reader.map(reader),
                filter: request.filter.map(filter).unwrap_or_default(),
                page_size: request.page_size as usize,
                page_token: request.page_token,
                freshness,
                as_of: request.as_of.map(|as_of| match as_of {
                    v1::list_request::AsOf::AsOfPosition(index) => Moment::Position(index),
                    v1::list_request::AsOf::AsOfTime(at) => Moment::Time(time(at)),
                }),
            };
            let page = store.list_page(&list)?;
            Ok(v1::ListResponse {
                memories: page.memories.into_iter().map(wire_memory).collect(),
                next_page_token: page.next.unwrap_or_default(),
                position: Some(wire_position(page.position)),
            })
        })
        .await
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        let mut request = request.into_inner();
        let at_least = request.at_least.take();
        let key = request.key.parse().unwrap();
        let read = (at_least, request.linearizable);
        self.answer("history", "", read, |store, freshness| {
            let history = History {
                namespace: Some(request.namespace),
                reader: request.reader.map(reader),
                page_size: request.page_size as usize,
                page_token: request.page_token,
                freshness,
                ..History::new(key)
            };
            let page = store.history_page(&history)?.ok_or_else(|| {
                let outcome = memorygate_client::Outcome::Failed;
                let message = format!("no memory {key} in this namespace for this reader");
                Error::new(Kind::NotFound, outcome, "history", message)
            })?;
            Ok(v1::HistoryResponse {
                events: page.events.into_iter().map(wire_event).collect(),
                next_page_token: page.next.unwrap_or_default(),
                complete: page.is_complete,
                position: Some(wire_position(page.position)),
            })
        })
        .await
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("update", &id, (None, false), |store, _| {
            let mut update = Update::new(r.key.parse().unwrap())
                .namespace(r.namespace)
                .reader(r.reader.map(reader).unwrap_or_default())
                .request_id(r.request_id.parse().unwrap());
            update.expected_version = r.expected_version;
            update.importance = r.importance;
            update.pinned = r.pinned;
            if r.clear_expires_at {
                update = update.never_expires();
            } else if let Some(at) = r.expires_at {
                update = update.expires_at(time(at));
            }
            update.set_metadata = r.set_metadata;
            update.remove_metadata = r.remove_metadata.into_iter().collect();
            store.update(&update).map(wire_mutation)
        })
        .await
    }

    async fn feedback(
        &self,
        request: Request<v1::FeedbackRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("feedback", &id, (None, false), |store, _| {
            let mut feedback = GiveFeedback::new(r.key.parse().unwrap(), r.score)
                .reason(r.reason)
                .namespace(r.namespace)
                .reader(r.reader.map(reader).unwrap_or_default())
                .request_id(r.request_id.parse().unwrap());
            feedback.agent = name(r.agent);
            store.feedback(&feedback).map(wire_mutation)
        })
        .await
    }

    async fn forget(
        &self,
        request: Request<v1::ForgetRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("forget", &id, (None, false), |store, _| {
            let mut forget = Forget::new(r.key.parse().unwrap())
                .namespace(r.namespace)
                .reader(r.reader.map(reader).unwrap_or_default())
                .request_id(r.request_id.parse().unwrap());
            forget.expected_version = r.expected_version;
            store.forget(forget).map(wire_mutation)
        })
        .await
    }

    async fn link(
        &self,
        request: Request<v1::LinkRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("link", &id, (None, false), |store, _| {
            let end = link(&r.target.unwrap());
            let mut set = SetLink::new(r.key.parse().unwrap(), end.relation, end.target)
                .namespace(r.namespace)
                .reader(r.reader.map(reader).unwrap_or_default())
                .request_id(r.request_id.parse().unwrap());
            set.remove = r.remove;
            store.link(&set).map(wire_mutation)
        })
        .await
    }

    async fn share(
        &self,
        request: Request<v1::ShareRequest>,
    ) -> Result<Response<v1::ShareResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("share", &id, (None, false), |store, _| {
            let mut share = Share::with_everyone(r.key.parse().unwrap())
                .namespace(r.namespace)
                .reader(r.reader.map(reader).unwrap_or_default())
                .request_id(r.request_id.parse().unwrap());
            share.with = scope(r.scope.unwrap());
            share.expected_version = r.expected_version;
            let shared = wire_mutation(store.share(&share)?);
            Ok(v1::ShareResponse {
                key: shared.key,
                version: shared.version,
                changed: shared.changed,
                position: shared.position,
            })
        })
        .await
    }

    async fn restore(
        &self,
        request: Request<v1::RestoreRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("restore", &id, (None, false), |store, _| {
            let restore = Restore::new(r.key.parse().unwrap())
                .namespace(r.namespace)
                .reader(r.reader.map(reader).unwrap_or_default())
                .request_id(r.request_id.parse().unwrap());
            store.restore(restore).map(wire_mutation)
        })
        .await
    }

    async fn stats(
        &self,
        request: Request<v1::StatsRequest>,
    ) -> Result<Response<v1::StatsResponse>, Status> {
        let request = request.into_inner();
        if let Some(rule) = &self.rule {
            let call = Call {
                name: "stats",
                request_id: String::new(),
                at_least: request.at_least.as_ref().map(|p| p.index),
                linearizable: request.linearizable,
            };
            match rule(&call) {
                Fault::Hang => std::future::pending().await,
                Fault::Status(status) => return Err(status),
                Fault::Pass | Fault::Afterwards(_) | Fault::Empty => {}
            }
        }
        let namespace = name(request.namespace);
        let stats = self
            .store
            .stats(namespace.as_deref())
            .map_err(|e| status(&e))?;
        let namespaces = stats.namespaces.into_iter().map(|n| v1::NamespaceStats {
            namespace: n.namespace,
            memories: n.memories,
            archived: n.archived,
            by_domain: n.by_domain,
        });
        Ok(Response::new(v1::StatsResponse {
            position: Some(wire_position(stats.position)),
            index_position: stats.index_position,
            state_hash: stats.state_hash,
            clock: stats.clock.map(timestamp),
            namespaces: namespaces.collect(),
            node_id: stats.node_id,
            server_version: stats.server_version,
            model: stats.model,
            disk_full: stats.disk_full,
        }))
    }
}

/// A status with the details that a server gives.
pub fn detailed(
    code: Code,
    reason: &str,
    outcome: Option<&str>,
    retry: Option<Duration>,
) -> Status {
    let mut details = ErrorDetails::new();
    let metadata = outcome.map(|o| ("outcome".to_owned(), o.to_owned()));
    details.set_error_info(
        reason,
        "memorygate",
        metadata
            .into_iter()
            .collect::<std::collections::HashMap<_, _>>(),
    );
    if let Some(retry) = retry {
        details.set_retry_info(Some(retry));
    }
    Status::with_error_details(code, format!("fake {reason}"), details)
}

fn status(error: &Error) -> Status {
    let mut details = ErrorDetails::new();
    let mut metadata = std::collections::HashMap::new();
    metadata.insert("outcome".to_owned(), error.outcome().as_str().to_owned());
    let changed: Vec<String> = error.changed().iter().map(ToString::to_string).collect();
    let (code, reason) = if changed.is_empty() {
        (error.code(), "FAKE")
    } else {
        metadata.insert("changed".to_owned(), changed.join(","));
        (Code::FailedPrecondition, "CHANGED_SINCE")
    };
    details.set_error_info(reason, "memorygate", metadata);
    for violation in error.violations() {
        details.add_bad_request_violation(&violation.field, &violation.description);
    }
    Status::with_error_details(code, error.message(), details)
}

fn learn(store: &InMemoryStore, request: v1::LearnRequest) -> Result<v1::LearnResponse, Error> {
    let learn = Learn {
        namespace: Some(request.namespace),
        experiences: request.experiences.into_iter().map(experience).collect(),
        request_id: Some(request.request_id.parse().unwrap()),
    };
    let reply = store.learn(learn)?;
    let learned = reply.learned.into_iter().map(|l| v1::Learned {
        key: l.key.to_string(),
        created: l.created,
        version: l.version,
        occurrences: l.occurrences,
    });
    Ok(v1::LearnResponse {
        learned: learned.collect(),
        position: Some(wire_position(reply.position)),
    })
}

fn experience(wire: v1::Experience) -> Experience {
    Experience {
        content: wire.content,
        domain: wire.domain,
        occurred_at: wire.occurred_at.map(time),
        importance: wire.importance,
        metadata: wire.metadata,
        agent: name(wire.agent),
        session: name(wire.session),
        scope: wire.scope.map(scope),
        expires_at: wire.expires_at.map(time),
        pinned: wire.pinned,
        links: wire.links.iter().map(link).collect(),
        vector: wire.vector,
    }
}

fn name(name: String) -> Option<String> {
    Some(name).filter(|name| !name.is_empty())
}

fn time(t: Timestamp) -> TimeMs {
    TimeMs(t.seconds * 1000 + i64::from(t.nanos) / 1_000_000)
}

pub fn timestamp(t: TimeMs) -> Timestamp {
    Timestamp {
        seconds: t.0.div_euclid(1000),
        nanos: i32::try_from(t.0.rem_euclid(1000)).unwrap() * 1_000_000,
    }
}

fn scope(wire: v1::Scope) -> Scope {
    match wire.kind.unwrap() {
        v1::scope::Kind::Shared(_) => Scope::Shared,
        v1::scope::Kind::Team(name) => Scope::Team(name),
        v1::scope::Kind::Agent(name) => Scope::Agent(name),
    }
}

fn reader(wire: v1::Reader) -> Reader {
    Reader {
        agent: name(wire.agent),
        teams: wire.teams.into_iter().collect(),
        everything: wire.everything,
    }
}

fn filter(wire: v1::Filter) -> Filter {
    Filter {
        domains: wire.domains.into_iter().collect(),
        agents: wire.agents.into_iter().collect(),
        sessions: wire.sessions.into_iter().collect(),
        metadata: wire.metadata,
        since: wire.since.map(time),
        until: wire.until.map(time),
        min_importance: wire.min_importance,
        archive: match v1::Archive::try_from(wire.archive).unwrap() {
            v1::Archive::Unspecified => Archive::Without,
            v1::Archive::Included => Archive::With,
            v1::Archive::Only => Archive::Only,
        },
    }
}

fn weights(wire: v1::Weights) -> Weights {
    Weights {
        late: wire.late,
        lexical: wire.lexical,
        dense: wire.dense,
        expansion: wire.expansion,
        session: wire.session,
        recency: wire.recency,
        importance: wire.importance,
        usefulness: wire.usefulness,
        trust: wire.trust,
    }
}

fn stage(wire: i32) -> Option<Stage> {
    match v1::Stage::try_from(wire).unwrap() {
        v1::Stage::Unspecified => None,
        v1::Stage::Dense => Some(Stage::Dense),
        v1::Stage::Lexical => Some(Stage::Lexical),
        v1::Stage::Neighbours => Some(Stage::Neighbours),
        v1::Stage::Late => Some(Stage::Late),
        v1::Stage::Expansion => Some(Stage::Expansion),
        v1::Stage::Session => Some(Stage::Session),
        v1::Stage::Recency => Some(Stage::Recency),
        v1::Stage::Importance => Some(Stage::Importance),
        v1::Stage::Usefulness => Some(Stage::Usefulness),
        v1::Stage::Trust => Some(Stage::Trust),
        v1::Stage::Fold => Some(Stage::Fold),
        v1::Stage::Diversity => Some(Stage::Diversity),
    }
}

fn link(wire: &v1::LinkTarget) -> Link {
    Link {
        relation: Relation::parse(&wire.relation).unwrap(),
        target: wire.key.parse().unwrap(),
    }
}

fn position(wire: v1::Position) -> Position {
    Position {
        cluster_id: u128::from_str_radix(&wire.cluster_id, 16).unwrap(),
        group: wire.group,
        index: wire.index,
    }
}

pub fn wire_position(position: Position) -> v1::Position {
    v1::Position {
        cluster_id: format!("{:032x}", position.cluster_id),
        group: position.group,
        index: position.index,
    }
}

fn wire_link(link: &Link) -> v1::LinkTarget {
    v1::LinkTarget {
        relation: link.relation.as_str().to_owned(),
        key: link.target.to_string(),
    }
}

fn wire_mutation(mutation: Mutation) -> v1::MutationResponse {
    v1::MutationResponse {
        key: mutation.key.to_string(),
        version: mutation.version,
        changed: mutation.changed,
        position: Some(wire_position(mutation.position)),
    }
}

fn wire_recalled(recalled: Recalled) -> v1::Recalled {
    let parts = recalled.parts;
    v1::Recalled {
        memory: Some(wire_memory(recalled.memory)),
        score: recalled.score,
        parts: Some(v1::ScoreParts {
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
        }),
        folded: recalled.folded.iter().map(ToString::to_string).collect(),
        linked_from: recalled.linked_from.as_ref().map(wire_link),
    }
}

pub fn wire_memory(memory: Memory) -> v1::Memory {
    let kind = match memory.scope {
        Scope::Shared => v1::scope::Kind::Shared(true),
        Scope::Team(name) => v1::scope::Kind::Team(name),
        Scope::Agent(name) => v1::scope::Kind::Agent(name),
    };
    v1::Memory {
        key: memory.key.to_string(),
        namespace: memory.namespace,
        scope: Some(v1::Scope { kind: Some(kind) }),
        content: memory.content,
        domain: memory.domain,
        occurred_at: Some(timestamp(memory.occurred_at)),
        importance: memory.importance,
        metadata: memory.metadata.into_iter().collect::<BTreeMap<_, _>>(),
        agent: memory.agent.unwrap_or_default(),
        session: memory.session.unwrap_or_default(),
        links: memory.links.iter().map(wire_link).collect(),
        expires_at: memory.expires_at.map(timestamp),
        pinned: memory.pinned,
        version: memory.version,
        occurrences: memory.occurrences,
        last_seen_at: Some(timestamp(memory.last_seen_at)),
        feedback: Some(v1::FeedbackSummary {
            count: memory.feedback.count,
            positive: memory.feedback.positive,
            negative: memory.feedback.negative,
            usefulness: memory.feedback.usefulness,
        }),
        created_at: Some(timestamp(memory.created_at)),
        created_index: memory.created_index,
        updated_at: Some(timestamp(memory.updated_at)),
        uses: memory.uses,
        last_used_at: memory.last_used_at.map(timestamp),
        archived: memory.archived.map(wire_archived),
        merged: memory.merged.iter().map(ToString::to_string).collect(),
        shared_by: memory.shared_by.into_iter().map(wire_sharing).collect(),
        model: memory.model,
    }
}

fn wire_sharing(sharing: Sharing) -> v1::Sharing {
    v1::Sharing {
        agent: sharing.agent.unwrap_or_default(),
        at: Some(timestamp(sharing.at)),
        learned_at: Some(timestamp(sharing.learned_at)),
    }
}

fn wire_archived(archived: Archived) -> v1::Archived {
    let (reason, by) = match archived.reason {
        Reason::Faded => ("faded", None),
        Reason::Merged { into } => ("merged", Some(into)),
        Reason::Superseded { by } => ("superseded", Some(by)),
        Reason::Shared { to } => ("shared", Some(to)),
        Reason::Withheld => ("withheld", None),
    };
    v1::Archived {
        reason: reason.to_owned(),
        replaced_by: by.map(|key| key.to_string()).unwrap_or_default(),
        at: Some(timestamp(archived.at)),
    }
}

fn wire_event(event: Event) -> v1::HistoryEvent {
    v1::HistoryEvent {
        key: event.key.to_string(),
        position: event.position,
        at: Some(timestamp(event.at)),
        version: event.version,
        kind: event
            .kind
            .map(|kind| kind.as_str().to_owned())
            .unwrap_or_default(),
        agent: event.agent.unwrap_or_default(),
        session: event.session.unwrap_or_default(),
        score: event.score,
        reason: event.reason,
        link: event.link.as_ref().map(wire_link),
        others: event.others.iter().map(ToString::to_string).collect(),
        changes: event
            .changes
            .into_iter()
            .map(|change| v1::FieldChange {
                field: change.field,
                before: change.before,
                after: change.after,
            })
            .collect(),
    }
}
