//! Connections to other members, one for each address, kept and made again as needed.
//!
//! A name is resolved at each new connection, so a member may come back under another IP address.

use std::{
    collections::HashMap,
    error::Error as _,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use memorygate_proto::peer::{
    AlarmRequest, AlarmResponse, CallRequest, DigestRequest, DigestResponse, DrainRequest,
    DrainResponse, HelloRequest, HelloResponse, JoinRequest, JoinResponse, Message, StatusRequest,
    StatusResponse, Verb, peer_client::PeerClient,
};
use memorygate_raft::{
    Peer, Transport, TransportError,
    transport::{Answers, Call, Channel, Messages},
};
use tonic::{Code, Request, Status, Streaming, transport};

use super::{
    Envelope, MESSAGE_BYTES_MAX,
    bundles::{Bundles, Way},
    member,
};

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// A connection with calls in work that says nothing is asked this often whether it is there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);

/// A connection that does not answer this long after it was asked is given up.
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(2);

/// How long finding each other waits for one answer.
const HELLO_WITHIN: Duration = Duration::from_secs(2);

/// How long to have a node added may take: it may have to catch up first.
const JOIN_WITHIN: Duration = Duration::from_secs(180);

/// Connections that are kept: a few for each member that a cluster can have. Addresses that somebody
/// only asked for make room for others.
const CHANNELS_MAX: usize = 256;

/// This node, as it shows itself to others.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub cluster_id: memorygate_raft::ClusterId,
    pub node_id: u64,
    pub incarnation: u64,
}

/// The way to every other node.
#[derive(Default)]
pub struct Links {
    caller: OnceLock<Caller>,
    channels: Mutex<HashMap<String, transport::Channel>>,
    bundles: Arc<Bundles>,
}

impl Links {
    /// Says who calls, once that is agreed. Nothing but finding each other works before.
    pub fn set_caller(&self, caller: Caller) {
        assert!(self.caller.set(caller).is_ok(), "a node starts once");
    }

    /// Asks whoever is at `address` who it is.
    pub async fn hello(&self, address: &str) -> Result<HelloResponse, TransportError> {
        let channel = self.channel(address)?;
        let mut client = PeerClient::new(channel);
        let mut request = Request::new(HelloRequest {});
        request.set_timeout(HELLO_WITHIN);
        let asked = tokio::time::timeout(HELLO_WITHIN, client.hello(request)).await;
        answered(address, asked).map(tonic::Response::into_inner)
    }

    /// Asks whoever is at `address` to have this node added.
    pub async fn join(&self, address: &str, this: &Peer) -> Result<JoinResponse, TransportError> {
        let channel = self.channel(address)?;
        let mut client = PeerClient::new(channel);
        let request = JoinRequest {
            member: Some(member(this)),
        };
        let asked = tokio::time::timeout(JOIN_WITHIN, client.join(request)).await;
        answered(address, asked).map(tonic::Response::into_inner)
    }

    /// Asks a member where it stands.
    pub async fn status(
        &self,
        to: &Peer,
        within: Duration,
    ) -> Result<StatusResponse, TransportError> {
        let (mut client, request) = self.meant(to, StatusRequest {})?;
        let asked = tokio::time::timeout(within, client.status(request)).await;
        answered(&to.address, asked).map(tonic::Response::into_inner)
    }

    /// Has a member drain, or take writes again.
    pub async fn drain(
        &self,
        to: &Peer,
        resume: bool,
        within: Duration,
    ) -> Result<DrainResponse, TransportError> {
        let (mut client, request) = self.meant(to, DrainRequest { resume })?;
        let asked = tokio::time::timeout(within, client.drain(request)).await;
        answered(&to.address, asked).map(tonic::Response::into_inner)
    }

    /// Raises or clears an alarm at a member.
    pub async fn alarm(
        &self,
        to: &Peer,
        alarm: AlarmRequest,
        within: Duration,
    ) -> Result<AlarmResponse, TransportError> {
        let (mut client, request) = self.meant(to, alarm)?;
        let asked = tokio::time::timeout(within, client.alarm(request)).await;
        answered(&to.address, asked).map(tonic::Response::into_inner)
    }

    /// Asks a member for the digests of its state at a marker.
    pub async fn digest(
        &self,
        to: &Peer,
        position: u64,
        within: Duration,
    ) -> Result<DigestResponse, TransportError> {
        let (mut client, request) = self.meant(to, DigestRequest { position })?;
        let asked = tokio::time::timeout(within, client.digest(request)).await;
        answered(&to.address, asked).map(tonic::Response::into_inner)
    }

    /// A request that says who asks and who is meant.
    fn meant<T>(
        &self,
        to: &Peer,
        message: T,
    ) -> Result<(PeerClient<transport::Channel>, Request<T>), TransportError> {
        let (client, envelope) = self.client(to)?;
        let mut request = Request::new(message);
        envelope.write(request.metadata_mut());
        Ok((client, request))
    }

    /// Connects when it is first used, and again whenever it broke.
    fn channel(&self, address: &str) -> Result<transport::Channel, TransportError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = transport::Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| TransportError::Unreachable {
            address: address.to_owned(),
            reason: error.to_string(),
        })?;
        let channel = endpoint
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_WITHIN)
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(16 * 1024 * 1024)
            .connect_lazy();
        if channels.len() >= CHANNELS_MAX
            && let Some(one) = channels.keys().next().cloned()
        {
            channels.remove(&one);
        }
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    fn client(
        &self,
        to: &Peer,
    ) -> Result<(PeerClient<transport::Channel>, Envelope), TransportError> {
        let Some(caller) = self.caller.get() else {
            return Err(TransportError::Unreachable {
                address: to.address.clone(),
                reason: "this node belongs to no cluster yet".to_owned(),
            });
        };
        let envelope = Envelope {
            cluster_id: caller.cluster_id,
            from: caller.node_id,
            incarnation: caller.incarnation,
            to: to.node_id,
        };
        let client = PeerClient::new(self.channel(&to.address)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok((client, envelope))
    }
}

impl Transport for Links {
    fn call(
        &self,
        to: &Peer,
        call: Call,
        request: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let client = self.client(to);
        let address = to.address.clone();
        let bundles = self.bundles.clone();
        Box::pin(async move {
            let (mut client, envelope) = client?;
            // There are as many of these as there are callers, and each waits for a sync anyway.
            if call == Call::Propose {
                let way = Way {
                    client,
                    envelope,
                    address,
                };
                return bundles.call(way, call, request, within).await;
            }
            let mut request = Request::new(CallRequest {
                verb: verb(call).into(),
                body: request,
            });
            envelope.write(request.metadata_mut());
            let asked = tokio::time::timeout(within, client.call(request)).await;
            answered(&address, asked).map(|response| response.into_inner().body)
        })
    }

    fn open(
        &self,
        to: &Peer,
        channel: Channel,
        requests: Messages,
        within: Duration,
    ) -> BoxFuture<'static, Result<Answers<TransportError>, TransportError>> {
        let client = self.client(to);
        let address = to.address.clone();
        let requests = Outgoing(requests);
        async move {
            let (client, envelope) = client?;
            let mut request = Request::new(requests);
            envelope.write(request.metadata_mut());
            let opened = tokio::time::timeout(within, opened(client, channel, request)).await;
            let answers = answered(&address, opened)?;
            Ok(bodies(answers, address).boxed())
        }
        .boxed()
    }
}

/// Messages on their way out. (A type of its own, because the compiler loses sight of the lifetime of
/// a boxed stream within an asynchronous block.)
struct Outgoing(Messages);

impl Stream for Outgoing {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = self.0.as_mut().poll_next(context);
        next.map(|body| body.map(|body| Message { body }))
    }
}

/// One type for both channels.
async fn opened(
    mut client: PeerClient<transport::Channel>,
    channel: Channel,
    request: Request<Outgoing>,
) -> Result<Streaming<Message>, Status> {
    let opened = match channel {
        Channel::Append => client.append(request).await,
        Channel::Snapshot => client.snapshot(request).await,
    };
    opened.map(tonic::Response::into_inner)
}

/// After an error there is nothing to come.
fn bodies(
    answers: Streaming<Message>,
    address: String,
) -> impl Stream<Item = Result<Bytes, TransportError>> + Send + 'static {
    stream::unfold(Some((answers, address)), |state| async move {
        let (mut answers, address) = state?;
        Some(match answers.message().await {
            Ok(Some(message)) => (Ok(message.body), Some((answers, address))),
            Ok(None) => return None,
            Err(status) => (Err(failed(&address, &status)), None),
        })
    })
}

pub(super) fn verb(call: Call) -> Verb {
    match call {
        Call::Vote => Verb::Vote,
        Call::PreVote => Verb::PreVote,
        Call::TransferLeader => Verb::TransferLeader,
        Call::Propose => Verb::Propose,
        Call::ReadIndex => Verb::ReadIndex,
        Call::ChangeMembers => Verb::ChangeMembers,
        Call::HandOver => Verb::HandOver,
    }
}

fn answered<T>(
    address: &str,
    asked: Result<Result<T, Status>, tokio::time::error::Elapsed>,
) -> Result<T, TransportError> {
    match asked {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(failed(address, &status)),
        Err(_) => Err(TransportError::Broken {
            address: address.to_owned(),
            reason: "no answer in time".to_owned(),
        }),
    }
}

/// What a failed call means for what was asked.
pub(super) fn failed(address: &str, status: &Status) -> TransportError {
    let (address, reason) = (address.to_owned(), status.message().to_owned());
    if is_unconnected(status) {
        return TransportError::Unreachable { address, reason };
    }
    let refused = [
        Code::FailedPrecondition,
        Code::InvalidArgument,
        Code::Unimplemented,
    ];
    if refused.contains(&status.code()) {
        TransportError::Refused { address, reason }
    } else {
        TransportError::Broken { address, reason }
    }
}

/// Whether no connection was made, so that nothing was sent.
pub(super) fn is_unconnected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
