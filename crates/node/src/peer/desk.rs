//! The server's side of `memorygate.peer.v1`: who may ask, and where it goes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures::{StreamExt as _, future, stream::BoxStream};
use memorygate_core::format::Formats;
use memorygate_proto::{
    peer::{
        AlarmRequest, AlarmResponse, CallRequest, CallResponse, CallsRequest, CallsResponse,
        DigestRequest, DigestResponse, DrainRequest, DrainResponse, HelloRequest, HelloResponse,
        JoinRequest, JoinResponse, Message, StatusRequest, StatusResponse, Verb,
        alarm_request::What, peer_server,
    },
    v1,
};
use memorygate_raft::{
    ClusterId, Handle, Identity, MemberChange, Peer, PeerError,
    transport::{Answers, Call, Channel, Messages},
};
use prost::Message as _;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};
use tracing::{info, warn};

use super::{
    Envelope, MESSAGE_BYTES_MAX,
    bundles::{CALLS_MAX, bundled},
    formats,
    links::Links,
    member, peer,
};
use crate::{
    cluster::{
        Cluster,
        alarms::{Alarm, Kind},
    },
    wire::read,
};

/// Streams of one connection, at most: a few for each other member.
const STREAMS_MAX: u32 = 256;

/// Bytes of one HTTP/2 frame that is received, at most.
const FRAME_BYTES_MAX: u32 = 256 * 1024;

/// Callers that are remembered: far more than members come and go between two restarts.
const SEEN_MAX: usize = 4096;

/// A connection that says nothing is asked this often whether the other end is still there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// A connection that does not answer this long after it was asked is closed, with its streams.
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(10);

/// What a node says of itself while it and others find each other.
#[derive(Clone, Debug)]
pub struct Standing {
    pub identity: Identity,
    /// Whether it belongs to the identity's cluster, or only has an id of its own as yet.
    pub belongs: bool,
    pub founders: Vec<Peer>,
    /// The addresses that it was told to form a cluster of, sorted.
    pub peers: Vec<String>,
    /// The formats of the log that it reads.
    pub formats: Formats,
}

/// Answers other nodes from the first moment: who this is, and when it has started, everything.
pub struct Desk {
    standing: Mutex<Standing>,
    /// None before the start and after the stop.
    replica: RwLock<Option<Handle>>,
    /// Likewise.
    cluster: RwLock<Option<Arc<Cluster>>>,
    /// To ask a node that wants to join whether it is there.
    links: Arc<Links>,
    /// Whether a node that lost its disk may take its own place again.
    replaces_lost: bool,
    /// Incarnations of those who have called, by node id.
    seen: Mutex<HashMap<u64, u64>>,
}

impl Desk {
    pub fn new(standing: Standing, links: Arc<Links>, replaces_lost: bool) -> Self {
        Self {
            standing: Mutex::new(standing),
            replica: RwLock::new(None),
            cluster: RwLock::new(None),
            links,
            replaces_lost,
            seen: Mutex::default(),
        }
    }

    /// Says from now on that this node belongs to a cluster.
    pub fn belongs(&self, cluster_id: ClusterId, founders: &[Peer]) {
        let mut standing = self.lock();
        standing.identity.cluster_id = cluster_id;
        standing.founders = founders.to_vec();
        standing.belongs = true;
    }

    /// Lets others talk to the replica.
    pub fn started(&self, replica: Handle) {
        *self.replica.write().unwrap_or_else(PoisonError::into_inner) = Some(replica);
    }

    /// Lets others ask what concerns the cluster as a whole.
    pub fn serves(&self, cluster: Arc<Cluster>) {
        *self.cluster.write().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
    }

    /// Lets go of the replica, though connections to this desk may still be open.
    pub fn stopped(&self) {
        *self.cluster.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self.replica.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Option<Handle> {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        replica.clone()
    }

    fn replica(&self) -> Result<Handle, Status> {
        self.running()
            .ok_or_else(|| Status::unavailable("this node is starting or stopping"))
    }

    /// The replica, for a caller who means it.
    fn meant(&self, metadata: &MetadataMap) -> Result<Handle, Status> {
        let envelope = Envelope::read(metadata)?;
        let replica = self.replica()?;
        let own = replica.identity();
        if envelope.cluster_id != own.cluster_id {
            return Err(Status::failed_precondition(format!(
                "this node is of cluster {}, not {}",
                own.cluster_id, envelope.cluster_id
            )));
        }
        if envelope.to != own.node_id {
            return Err(Status::failed_precondition(format!(
                "this is node {:x}, not {:x}: what was node {:x} has lost its disk or its address",
                own.node_id, envelope.to, envelope.to
            )));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_MAX && !seen.contains_key(&envelope.from) {
            return Err(Status::resource_exhausted(format!(
                "{SEEN_MAX} nodes have called since this one started"
            )));
        }
        let first = *seen.entry(envelope.from).or_insert(envelope.incarnation);
        if first != envelope.incarnation {
            return Err(Status::failed_precondition(format!(
                "node {:x} has been seen with another data directory: two servers claim one id",
                envelope.from
            )));
        }
        Ok(replica)
    }

    /// The cluster, for a caller who means this node.
    fn meant_cluster(&self, metadata: &MetadataMap) -> Result<Arc<Cluster>, Status> {
        self.meant(metadata)?;
        let cluster = self.cluster.read().unwrap_or_else(PoisonError::into_inner);
        let cluster = cluster.clone();
        cluster.ok_or_else(|| Status::unavailable("this node is starting"))
    }

    fn open(
        &self,
        channel: Channel,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<BoxStream<'static, Result<Message, Status>>>, Status> {
        let replica = self.meant(request.metadata())?;
        let requests: Messages = request
            .into_inner()
            // A connection that breaks off ends the requests; the other end knows why.
            .take_while(|message| std::future::ready(message.is_ok()))
            .filter_map(|message| std::future::ready(message.ok()))
            .map(|message| message.body)
            .boxed();
        let answers: Answers<PeerError> = replica.answer_channel(channel, requests);
        let answers = answers.map(|answer| match answer {
            Ok(body) => Ok(Message { body }),
            Err(error) => Err(status(&error)),
        });
        Ok(Response::new(answers.boxed()))
    }
}

async fn answer(replica: &Handle, request: CallRequest) -> Result<CallResponse, Status> {
    let CallRequest { verb, body } = request;
    let known = Verb::try_from(verb).ok().and_then(call);
    let Some(call) = known else {
        return Err(Status::unimplemented(format!("verb {verb} is unknown")));
    };
    let answer = replica.answer(call, body).await;
    let body = answer.map_err(|error| status(&error))?;
    Ok(CallResponse { body })
}

fn status(error: &PeerError) -> Status {
    let reason = error.to_string();
    match error {
        PeerError::Refused { .. } => Status::invalid_argument(reason),
        PeerError::Failed { .. } => Status::internal(reason),
        PeerError::Stopped(_) => Status::unavailable(reason),
    }
}

fn call(verb: Verb) -> Option<Call> {
    Call::ALL
        .into_iter()
        .find(|call| super::links::verb(*call) == verb)
}

/// The service over a desk that the node keeps too.
#[derive(Clone)]
struct Service(Arc<Desk>);

#[tonic::async_trait]
impl peer_server::Peer for Service {
    type AppendStream = BoxStream<'static, Result<Message, Status>>;
    type SnapshotStream = BoxStream<'static, Result<Message, Status>>;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let standing = self.0.lock().clone();
        let members = self.0.running().map(|replica| replica.membership());
        let cluster_id = match standing.belongs {
            true => standing.identity.cluster_id.0.to_be_bytes().to_vec(),
            false => Vec::new(),
        };
        Ok(Response::new(HelloResponse {
            node_id: standing.identity.node_id,
            cluster_id: cluster_id.into(),
            founders: standing.founders.iter().map(member).collect(),
            members: members
                .unwrap_or_default()
                .members
                .iter()
                .map(|known| member(&known.peer))
                .collect(),
            peers: standing.peers,
            log_format_min: standing.formats.oldest.into(),
            log_format_max: standing.formats.newest.into(),
        }))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallResponse>, Status> {
        let replica = self.0.meant(request.metadata())?;
        let answer = answer(&replica, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn calls(
        &self,
        request: Request<CallsRequest>,
    ) -> Result<Response<CallsResponse>, Status> {
        let replica = self.0.meant(request.metadata())?;
        let CallsRequest { calls } = request.into_inner();
        if calls.len() > CALLS_MAX {
            return Err(Status::invalid_argument(format!(
                "{} calls in one request, expected at most {CALLS_MAX}",
                calls.len()
            )));
        }
        let answers = calls.into_iter().map(|call| answer(&replica, call));
        let answers = future::join_all(answers).await;
        Ok(Response::new(CallsResponse {
            answers: answers.into_iter().map(bundled).collect(),
        }))
    }

    async fn append(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.0.open(Channel::Append, request)
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.0.open(Channel::Snapshot, request)
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let replica = self.0.replica()?;
        let new = request.into_inner().member.map(peer);
        let new = new.ok_or_else(|| Status::invalid_argument("member is missing"))?;
        // Whoever answers there is the member: an address that was copied by mistake must not cost a
        // member that lives its place.
        let there = self.0.links.hello(&new.address).await;
        let there = there.map_err(|error| Status::failed_precondition(error.to_string()))?;
        if there.node_id != new.node_id {
            return Err(Status::failed_precondition(format!(
                "{} is answered by node {:x}, not by {:x}: give each node an address of its own",
                new.address, there.node_id, new.node_id
            )));
        }
        if let Some(formats) = formats(there.log_format_min, there.log_format_max) {
            replica.note_formats(there.node_id, formats);
        }
        let (node_id, address) = (new.node_id, new.address.clone());
        let before = replica.membership();
        // While one takes the other's place, both are members at this address.
        let lost = before
            .members
            .iter()
            .find(|m| m.peer.address == new.address && m.peer.node_id != new.node_id);
        let change = match lost {
            Some(lost) => {
                if !self.0.replaces_lost {
                    return Ok(Response::new(JoinResponse {
                        is_member: false,
                        reason: format!(
                            "{} is member {:x}, which has lost its data directory: `mgctl member \
                             replace` puts node {:x} in its place",
                            new.address, lost.peer.node_id, new.node_id
                        ),
                    }));
                }
                MemberChange::Replace {
                    old: lost.peer.node_id,
                    new,
                }
            }
            None => MemberChange::Add(new),
        };
        let changed = replica.change_members(change).await;
        // It asks until it has what it came for, so what has not changed is not told again.
        if changed.is_ok() && before.get(node_id).is_none() {
            let node = format!("{node_id:x}");
            match lost {
                Some(lost) => {
                    let old = format!("{:x}", lost.peer.node_id);
                    warn!(
                        address,
                        old,
                        new = node,
                        "a member that lost its data is replaced"
                    );
                }
                None => info!(address, node, "a node joins as a learner"),
            }
        }
        // Whoever was named to form the cluster votes in it, though it came later. As long as it has
        // not caught up it is refused, and asks again.
        let is_named = self.0.lock().peers.contains(&address);
        let changed = match changed {
            Ok(members) if is_named && !members.get(node_id).is_some_and(|new| new.is_voter) => {
                let promote = MemberChange::Promote { node_id };
                replica.change_members(promote).await
            }
            changed => changed,
        };
        Ok(Response::new(match changed {
            Ok(_) => JoinResponse {
                is_member: true,
                reason: String::new(),
            },
            Err(error) => JoinResponse {
                is_member: false,
                reason: error.to_string(),
            },
        }))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let cluster = self.0.meant_cluster(request.metadata())?;
        Ok(Response::new(cluster.answer_status()))
    }

    async fn digest(
        &self,
        request: Request<DigestRequest>,
    ) -> Result<Response<DigestResponse>, Status> {
        let cluster = self.0.meant_cluster(request.metadata())?;
        let digest = cluster.answer_digest(request.into_inner().position).await;
        let digest = digest.map_err(Status::aborted)?;
        Ok(Response::new(DigestResponse {
            digest: digest.encode_to_vec().into(),
        }))
    }

    async fn drain(
        &self,
        request: Request<DrainRequest>,
    ) -> Result<Response<DrainResponse>, Status> {
        let cluster = self.0.meant_cluster(request.metadata())?;
        let drained = cluster.drain_here(request.into_inner().resume).await;
        Ok(Response::new(DrainResponse {
            drained: drained.encode_to_vec().into(),
        }))
    }

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let cluster = self.0.meant_cluster(request.metadata())?;
        let malformed = |reason: &str| Status::invalid_argument(format!("alarm {reason}"));
        let cleared = match request.into_inner().what {
            None => return Err(malformed("is neither raised nor cleared")),
            Some(What::Raise(bytes)) => {
                let alarm = v1::ClusterAlarm::decode(bytes)
                    .ok()
                    .and_then(Alarm::of_wire);
                let alarm = alarm.ok_or_else(|| malformed("is not one that this node knows"))?;
                // Every node sees that for itself.
                if alarm.kind == Kind::DiskFull {
                    return Err(malformed("of a full disk is raised by nobody else"));
                }
                let members = self.0.replica()?.membership();
                if members.get(alarm.node_id).is_none() {
                    return Err(malformed("is about a node that is no member"));
                }
                cluster.raise_here(alarm);
                0
            }
            Some(What::Condemn(bytes)) => {
                let alarm = v1::ClusterAlarm::decode(bytes)
                    .ok()
                    .and_then(Alarm::of_wire);
                let alarm = alarm.ok_or_else(|| malformed("is not one that this node knows"))?;
                let own = self.0.replica()?.identity().node_id;
                if alarm.kind != Kind::Diverged || alarm.node_id != own {
                    return Err(malformed("condemns another node, or for another reason"));
                }
                cluster.condemn_here(alarm).await;
                0
            }
            Some(What::Clear(bytes)) => {
                let which = v1::ClearAlarmsRequest::decode(bytes)
                    .map_err(|_| malformed("to clear is malformed"))?;
                let which = read::cluster::which_alarms(which)
                    .map_err(|violation| malformed(&violation.description))?;
                cluster.clear_here(which)
            }
        };
        Ok(Response::new(AlarmResponse { cleared }))
    }
}

/// Serves until what it returns is dropped. Connections end with what they carry.
pub fn serve(listener: TcpListener, desk: Arc<Desk>) -> oneshot::Sender<()> {
    let service = peer_server::PeerServer::new(Service(desk))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
        // Log entries come by the megabyte; in frames of 16 KiB each would be taken apart in sixty.
        .max_frame_size(FRAME_BYTES_MAX)
        .add_service(service);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let stopped = async {
            let _: Result<(), _> = stopped.await;
        };
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, stopped).await {
            warn!(%error, "peer server ended");
        }
    });
    stop
}
