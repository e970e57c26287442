//! How openraft reaches other members: its requests become messages for the [`Transport`].
//!
//! Log entries go over a channel, one request behind the other without waiting for answers, which
//! come in the same order. A channel on which nothing is answered for too long is given up, so that
//! a member that is stopped or cut off does not hold its replication for ever.

mod pace;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use openraft::{
    AnyError, RaftNetworkFactory, RaftNetworkV2,
    error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch, time::timeout};
use tracing::{info, warn};

use crate::{
    message::{self, Malformed},
    quorum::Quorum,
    snapshots::{SnapshotFiles, transfer},
    transport::{Answers, Call, Channel, Peer, Transport, TransportError},
    types::{Node, Snapshot, TypeConfig, Vote},
};

/// The other members.
pub(crate) struct Members {
    transport: Arc<dyn Transport>,
    /// Longest time that a channel may have requests without an answer.
    stall: Duration,
    quorum: Quorum,
    /// By node id: whether it was reached last time.
    reached: BTreeMap<u64, Arc<AtomicBool>>,
}

impl Members {
    pub(crate) fn new(transport: Arc<dyn Transport>, stall: Duration, quorum: Quorum) -> Self {
        Self {
            transport,
            stall,
            quorum,
            reached: BTreeMap::new(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Members {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Node) -> Link {
        Link {
            peer: Peer {
                node_id: target,
                address: node.address.clone(),
            },
            transport: self.transport.clone(),
            stall: self.stall,
            quorum: self.quorum.clone(),
            is_reached: self
                .reached
                .entry(target)
                .or_insert_with(|| Arc::new(AtomicBool::new(true)))
                .clone(),
        }
    }
}

/// The way to one other member.
pub(crate) struct Link {
    peer: Peer,
    transport: Arc<dyn Transport>,
    stall: Duration,
    quorum: Quorum,
    /// Shared by all links to one member.
    is_reached: Arc<AtomicBool>,
}

impl Link {
    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        call: Call,
        request: &Q,
        option: &RPCOption,
    ) -> Result<A, RPCError<TypeConfig>> {
        let within = option.soft_ttl();
        let asked = self
            .transport
            .call(&self.peer, call, message::encode(request), within);
        let answer = asked.await.map_err(transport_error)?;
        message::decode(&answer).map_err(malformed)
    }

    async fn open_append(
        &self,
        first: AppendEntriesRequest<TypeConfig>,
        rest: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
    ) -> Result<Watched, RPCError<TypeConfig>> {
        // The engine holds back heartbeats by itself, and entries not.
        if self.quorum.is_silent() {
            let silent = AnyError::error("this leader has lost its majority and is silent");
            return Err(Unreachable::new(&silent).into());
        }
        let sent = Arc::new(AtomicU64::new(0));
        let count = sent.clone();
        let answered = watch::Sender::new(0);
        let requests = stream::once(std::future::ready(first)).chain(rest);
        let (quorum, member) = (self.quorum.clone(), self.peer.node_id);
        let is_waited_for = move || quorum.needs(member);
        let requests =
            pace::paced(requests, answered.subscribe(), is_waited_for).map(move |request| {
                count.fetch_add(1, Ordering::Relaxed);
                message::encode_append(&request)
            });
        let opened = self
            .transport
            .open(&self.peer, Channel::Append, requests.boxed(), self.stall)
            .await;
        self.note(opened.as_ref().err());
        Ok(Watched {
            answers: opened.map_err(transport_error)?,
            sent,
            answered,
            stall: self.stall,
            address: self.peer.address.clone(),
        })
    }

    /// Says once that the member is gone, and once that it is back.
    fn note(&self, error: Option<&TransportError>) {
        let was_reached = self.is_reached.swap(error.is_none(), Ordering::Relaxed);
        match error {
            Some(error) if was_reached => {
                warn!(member = self.peer.address, %error, "a member is not reached any more");
            }
            None if !was_reached => info!(member = self.peer.address, "a member is reached again"),
            Some(_) | None => {}
        }
    }
}

/// How far a stream of appends has come.
enum Step<S> {
    Begin(S),
    Open(Watched),
    Over,
}

/// Backs off from a member that is not there; one that broke off is tried again soon.
fn transport_error(error: TransportError) -> RPCError<TypeConfig> {
    match error {
        TransportError::Unreachable { .. } | TransportError::Refused { .. } => {
            Unreachable::new(&AnyError::new(&error)).into()
        }
        TransportError::Broken { .. } => NetworkError::new(&error).into(),
    }
}

fn malformed(error: Malformed) -> RPCError<TypeConfig> {
    NetworkError::new(&error).into()
}

type Appended<'a> = BoxStream<'a, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = Arc<SnapshotFiles>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let requests = stream::once(std::future::ready(request));
        let mut answers = self.stream_append(requests, option).await?;
        match answers.next().await {
            Some(answer) => answer.map(AppendEntriesResponse::from),
            None => Err(NetworkError::from_string("channel ended without an answer").into()),
        }
    }

    /// Opens the channel with the first request and not before: to a member that cannot be reached
    /// openraft holds its requests back, and would otherwise ask for one channel after the other.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<Appended<'s>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let begun = Step::Begin(input);
        let appended = stream::unfold((self, begun), |(link, step)| async move {
            let mut watched = match step {
                Step::Begin(mut input) => {
                    let first = input.next().await?;
                    match link.open_append(first, input).await {
                        Ok(watched) => watched,
                        Err(error) => return Some((Err(error), (link, Step::Over))),
                    }
                }
                Step::Open(watched) => watched,
                Step::Over => return None,
            };
            let answer = watched.next().await?;
            link.note(answer.as_ref().err());
            let answer = answer
                .map_err(transport_error)
                .and_then(|answer| message::decode(&answer).map_err(malformed));
            let next = match &answer {
                Ok(_) => Step::Open(watched),
                Err(_) => Step::Over,
            };
            Some((answer, (link, next)))
        });
        std::future::ready(Ok(appended.boxed())).boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(Call::Vote, &request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(Call::PreVote, &request, &option).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(Call::TransferLeader, &request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = transfer::send(
            self.transport.as_ref(),
            &self.peer,
            vote,
            snapshot.snapshot,
            self.stall,
        );
        tokio::select! {
            sent = timeout(option.hard_ttl(), sending) => match sent {
                Ok(Ok(vote)) => Ok(SnapshotResponse::new(vote)),
                Ok(Err(transfer::SendError::Transport(error))) => {
                    Err(transport_error(error).into())
                }
                Ok(Err(error @ (transfer::SendError::Read { .. } | transfer::SendError::Answer { .. }))) => {
                    Err(StreamingError::Network(NetworkError::new(&error)))
                }
                Err(elapsed) => Err(StreamingError::Network(NetworkError::new(&elapsed))),
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}

/// The answers of a channel, as long as they come.
struct Watched {
    answers: Answers<TransportError>,
    sent: Arc<AtomicU64>,
    answered: watch::Sender<u64>,
    stall: Duration,
    address: String,
}

impl Watched {
    async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        loop {
            match timeout(self.stall, self.answers.next()).await {
                Ok(answer) => {
                    self.answered.send_modify(|answered| *answered += 1);
                    return answer;
                }
                // Nothing was asked: an idle channel may wait.
                Err(_) if self.sent.load(Ordering::Relaxed) <= *self.answered.borrow() => {}
                Err(_) => {
                    return Some(Err(TransportError::Broken {
                        address: self.address.clone(),
                        reason: format!("no answer within {} ms", self.stall.as_millis()),
                    }));
                }
            }
        }
    }
}
