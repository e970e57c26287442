//! Three nodes: they form one cluster whatever happens, and any of them takes any request.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::join_all;
use memorygate_core::format::Formats;
use memorygate_node::{node::Node, settings::Settings};
use memorygate_proto::{
    peer::{
        AlarmRequest, CallRequest, DigestRequest, DrainRequest, HelloRequest, JoinRequest,
        StatusRequest, alarm_request::What, peer_client::PeerClient,
    },
    v1::{
        AlarmKind, ClusterAlarm, LearnRequest, ListAlarmsRequest, Position, RecallRequest,
        cluster_client::ClusterClient,
    },
};
use prost::Message as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tonic::{
    Code,
    metadata::{BinaryMetadataValue, MetadataMap},
    transport::Channel,
};

use crate::server::{
    Client, Clock, Disk, NOW_MS, Start, a_moment, ask, client, contents, experience,
};

/// What webhooks of its nodes ask for.
pub const HOOK_TOKEN: &str = "test-token-of-webhooks-0123";

/// Nodes on one machine, each with a directory and addresses that stay.
pub struct Cluster {
    pub dir: TempDir,
    pub peers: Vec<String>,
    /// Where clients connect.
    pub grpc: Vec<String>,
    pub nodes: Vec<Option<Node>>,
    pub disks: Vec<Disk>,
    /// The formats of the log that each node's program reads.
    pub formats: Vec<Formats>,
    pub clock: Clock,
    adjust: fn(&mut Settings),
}

/// Addresses that nothing listens on now.
pub fn addresses(count: usize) -> Vec<String> {
    // On a host of their own, so that no connection takes the port of a node that is down.
    let [a, b, c] = rand::random::<[u8; 3]>().map(|byte| byte.clamp(1, 254));
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::new(127, a, b, c), 0)).unwrap())
        .collect();
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    listeners.iter().map(address).collect()
}

impl Cluster {
    pub fn new(count: usize) -> Self {
        let mut peers = addresses(2 * count);
        let grpc = peers.split_off(count);
        Self {
            dir: tempfile::tempdir().unwrap(),
            peers,
            grpc,
            nodes: (0..count).map(|_| None).collect(),
            disks: (0..count).map(|_| Disk::empty()).collect(),
            formats: vec![Formats::OWN; count],
            clock: Clock::at(NOW_MS),
            adjust: |_| (),
        }
    }

    pub async fn formed(count: usize) -> Self {
        Self::formed_with(count, |_| ()).await
    }

    pub async fn formed_with(count: usize, adjust: fn(&mut Settings)) -> Self {
        let mut cluster = Self::new(count);
        cluster.adjust = adjust;
        cluster.form().await;
        cluster
    }

    /// A cluster of programs that read these formats of the log.
    pub async fn formed_of(formats: &[Formats]) -> Self {
        let mut cluster = Self::new(formats.len());
        cluster.formats = formats.to_vec();
        cluster.form().await;
        cluster
    }

    async fn form(&mut self) {
        let starting = join_all((0..self.nodes.len()).map(|at| self.node(at))).await;
        self.nodes = starting.into_iter().map(Some).collect();
        self.leader().await;
    }

    pub fn data(&self, at: usize) -> PathBuf {
        self.dir.path().join(at.to_string())
    }

    pub fn start(&self, at: usize) -> Start {
        let mut start = start(&self.data(at), &self.peers[at], &self.peers);
        start.settings.server.grpc_address = self.grpc[at].parse().unwrap();
        start.disk = self.disks[at].clone();
        start.formats = self.formats[at];
        start.clock = self.clock.clone();
        (self.adjust)(&mut start.settings);
        start
    }

    /// The node id of the node at a place.
    pub fn id(&self, at: usize) -> u64 {
        let node = self.nodes[at].as_ref().unwrap();
        node.backend().raft.identity().node_id
    }

    pub async fn operator(&self, at: usize) -> Operator {
        operator(self.nodes[at].as_ref().unwrap()).await
    }

    pub async fn node(&self, at: usize) -> Node {
        let starting = self.start(at).node();
        let started = timeout(Duration::from_secs(60), starting).await;
        started.expect("it starts within a minute").unwrap()
    }

    pub async fn restart(&mut self, at: usize) {
        let node = self.node(at).await;
        self.nodes[at] = Some(node);
    }

    pub async fn stop(&mut self, at: usize) {
        self.nodes[at].take().unwrap().shutdown().await;
    }

    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// The place of the node that all running ones take for the leader.
    pub async fn leader(&self) -> usize {
        eventually("a leader", || {
            let leaders: BTreeSet<Option<u64>> = self
                .running()
                .map(|node| Some(node.backend().raft.metrics().leader?.node_id))
                .collect();
            let [Some(leader)] = leaders.into_iter().collect::<Vec<_>>()[..] else {
                return None;
            };
            self.nodes.iter().position(|node| {
                node.as_ref()
                    .is_some_and(|n| n.backend().raft.identity().node_id == leader)
            })
        })
        .await
    }

    pub async fn client(&self, at: usize) -> Client {
        client(self.nodes[at].as_ref().unwrap()).await
    }

    /// Which clusters the running nodes are of.
    pub fn ids(&self) -> BTreeSet<String> {
        self.running()
            .map(|node| node.backend().raft.identity().cluster_id.to_string())
            .collect()
    }

    /// Waits until all stand at one position, and compares the hashes of what they hold.
    pub async fn agree(&self) {
        eventually("one state on all nodes", || {
            let states: BTreeSet<(u64, String)> = self
                .running()
                .map(|node| {
                    let snapshot = node.backend().raft.state().snapshot();
                    (snapshot.position(), snapshot.digest().to_string())
                })
                .collect();
            (states.len() == 1).then_some(())
        })
        .await;
    }

    pub async fn shutdown(mut self) {
        for node in self.nodes.drain(..).flatten() {
            node.shutdown().await;
        }
    }
}

/// A client of the service `Cluster`.
pub type Operator = ClusterClient<Channel>;

pub async fn operator(node: &Node) -> Operator {
    let endpoint = format!("http://{}", node.grpc_address());
    ClusterClient::connect(endpoint).await.unwrap()
}

pub fn start(dir: &Path, own: &str, peers: &[String]) -> Start {
    let mut start = Start::new(dir);
    start.settings.cluster.listen = Some(own.parse().unwrap());
    start.settings.cluster.peers = peers.join(",").parse().unwrap();
    start.settings.raft.heartbeat_ms = 100;
    // Many tests share two cores: a leader that is late for a moment must not lose its place.
    start.settings.raft.election_timeout_min_ms = 1_500;
    start.settings.raft.election_timeout_max_ms = 2_500;
    let variable = "MEMORYGATE_WEBHOOK_TOKEN".to_owned();
    start.environment = vec![(variable, HOOK_TOKEN.to_owned())];
    start
}

pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            a_moment().await;
        }
    };
    let seen = timeout(Duration::from_secs(60), seen).await;
    seen.unwrap_or_else(|_| panic!("{what}: not within a minute"))
}

pub async fn learn(client: &mut Client, content: &str) -> Position {
    let request = LearnRequest {
        experiences: vec![experience(content)],
        ..LearnRequest::default()
    };
    let learned = client.learn(request).await.unwrap().into_inner();
    learned.position.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_learned_on_any_node_is_recalled_on_every_other() {
    let cluster = Cluster::formed(3).await;
    let mut clients = Vec::new();
    for at in 0..3 {
        clients.push(cluster.client(at).await);
    }
    let mut last = None;
    for n in 0..9 {
        let content = format!("lesson {n}");
        let position = learn(&mut clients[n % 3], &content).await;
        for reader in &mut clients {
            // Read your own write, on whichever node.
            let question = RecallRequest {
                at_least: Some(position.clone()),
                ..ask(&content)
            };
            let found = reader.recall(question).await.unwrap().into_inner();
            assert_eq!(contents(&found)[0], content);
        }
        last = Some(position);
    }
    cluster.agree().await;
    // One position, one answer, to the byte.
    let mut answers = BTreeSet::new();
    for reader in &mut clients {
        let question = RecallRequest {
            at_least: last.clone(),
            ..ask("lesson")
        };
        let answer = reader.recall(question).await.unwrap().into_inner();
        answers.insert(answer.encode_to_vec());
    }
    assert_eq!(answers.len(), 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_without_its_leader_and_takes_it_back() {
    let mut cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    let mut client = cluster.client(other).await;
    learn(&mut client, "before").await;
    cluster.stop(leader).await;
    learn(&mut client, "without it").await;
    cluster.restart(leader).await;
    let mut back = cluster.client(leader).await;
    let position = learn(&mut back, "after").await;
    let question = RecallRequest {
        at_least: Some(position),
        ..ask("without it")
    };
    let found = back.recall(question).await.unwrap().into_inner();
    assert_eq!(contents(&found)[0], "without it");
    cluster.agree().await;
    cluster.shutdown().await;
}

/// Whatever the order of starts, and however often one is interrupted, one cluster forms.
#[tokio::test(flavor = "multi_thread")]
async fn one_cluster_forms_in_any_order_of_starts() {
    let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]];
    for (round, order) in orders.into_iter().enumerate() {
        let mut cluster = Cluster::new(3);
        for (nth, at) in order.into_iter().enumerate() {
            if nth < 2 {
                // It cannot form a cluster yet, and is ended while it tries.
                let pause = Duration::from_millis(50 * (1 + round as u64));
                let begun = timeout(pause, cluster.start(at).node()).await;
                assert!(begun.is_err(), "two of three form no cluster");
                let address = &cluster.peers[at];
                eventually("a free address", || TcpListener::bind(address).ok()).await;
            }
        }
        let starting = order.map(|at| {
            let start = cluster.start(at);
            async move { (at, start.node().await.unwrap()) }
        });
        let started = timeout(Duration::from_secs(60), join_all(starting)).await;
        let started: BTreeMap<usize, Node> = started.unwrap().into_iter().collect();
        cluster.nodes = started.into_values().map(Some).collect();
        cluster.leader().await;
        assert_eq!(cluster.ids().len(), 1);
        let members = cluster.nodes[0]
            .as_ref()
            .unwrap()
            .backend()
            .raft
            .membership();
        assert_eq!(members.members.len(), 3);
        // A restart finds the same cluster.
        let ids = cluster.ids();
        cluster.stop(order[0]).await;
        cluster.restart(order[0]).await;
        cluster.leader().await;
        assert_eq!(cluster.ids(), ids);
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_comes_back_as_another_in_its_place() {
    let mut cluster = Cluster::formed(3).await;
    let lost = (cluster.leader().await + 1) % 3;
    let mut client = cluster.client((lost + 1) % 3).await;
    learn(&mut client, "before").await;
    let old = {
        let node = cluster.nodes[lost].as_ref().unwrap();
        node.backend().raft.identity().node_id
    };
    cluster.stop(lost).await;
    std::fs::remove_dir_all(cluster.data(lost)).unwrap();
    cluster.restart(lost).await;
    let new = {
        let node = cluster.nodes[lost].as_ref().unwrap();
        node.backend().raft.identity().node_id
    };
    assert_ne!(old, new);
    eventually("the new node votes and the old one is gone", || {
        let members = cluster.nodes[lost].as_ref()?.backend().raft.membership();
        let is_in = members.get(new).is_some_and(|member| member.is_voter);
        (is_in && members.get(old).is_none() && !members.is_joint).then_some(())
    })
    .await;
    assert_eq!(cluster.ids().len(), 1);
    cluster.agree().await;
    let mut back = cluster.client(lost).await;
    let position = learn(&mut back, "after").await;
    let question = RecallRequest {
        at_least: Some(position),
        ..ask("before")
    };
    let found = back.recall(question).await.unwrap().into_inner();
    assert_eq!(contents(&found)[0], "before");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_no_founder_joins_as_a_learner() {
    let cluster = Cluster::formed(1).await;
    let mut first = cluster.client(0).await;
    let position = learn(&mut first, "before").await;
    let own = addresses(1).remove(0);
    let dir = tempfile::tempdir().unwrap();
    let joiner = start(dir.path(), &own, &cluster.peers)
        .node()
        .await
        .unwrap();
    let node_id = joiner.backend().raft.identity().node_id;
    eventually("a learner", || {
        let members = cluster.nodes[0].as_ref()?.backend().raft.membership();
        let member = members.get(node_id)?;
        (!member.is_voter && member.peer.address == own).then_some(())
    })
    .await;
    let mut client = client(&joiner).await;
    let question = RecallRequest {
        at_least: Some(position),
        ..ask("before")
    };
    let found = client.recall(question).await.unwrap().into_inner();
    assert_eq!(contents(&found)[0], "before");
    // A learner takes writes too: the leader does them.
    learn(&mut client, "on the learner").await;
    joiner.shutdown().await;
    cluster.shutdown().await;
}

/// A message with who sends it and who is meant.
fn with<T>(message: T, metadata: &MetadataMap) -> tonic::Request<T> {
    tonic::Request::from_parts(metadata.clone(), tonic::Extensions::default(), message)
}

/// Garbage, strangers and messages for others are refused, and nothing changes.
#[tokio::test(flavor = "multi_thread")]
async fn the_peer_port_refuses_whoever_is_no_member() {
    let cluster = Cluster::formed(3).await;
    let node = cluster.nodes[0].as_ref().unwrap();
    let before = node.backend().raft.metrics().term;
    let address = node.peer_address().unwrap();
    let mut garbage = tokio::net::TcpStream::connect(address).await.unwrap();
    garbage.write_all(&[0xff; 4096]).await.unwrap();
    drop(garbage);
    let mut browser = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n";
    browser.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(60), browser.read_to_end(&mut answer)).await;
    // The connection is closed, by whichever way.
    let _ = read.expect("a browser is sent away");
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    let mut peer = PeerClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    let hello = peer.hello(HelloRequest {}).await.unwrap().into_inner();
    assert_eq!(hello.members.len(), 3);
    let call = |from: Option<Vec<u8>>, to: u64| {
        let mut request = tonic::Request::new(CallRequest::default());
        if let Some(from) = from {
            let to = memorygate_proto::peer::Target { node_id: to }.encode_to_vec();
            let metadata = request.metadata_mut();
            metadata.insert_bin(
                "memorygate-from-bin",
                BinaryMetadataValue::from_bytes(&from),
            );
            metadata.insert_bin("memorygate-to-bin", BinaryMetadataValue::from_bytes(&to));
        }
        request
    };
    let identity = |cluster_id: &[u8], node_id: u64, incarnation: u64| {
        memorygate_proto::peer::Identity {
            cluster_id: cluster_id.to_vec().into(),
            node_id,
            incarnation,
            group: 0,
        }
        .encode_to_vec()
    };
    let own = hello.cluster_id.to_vec();
    let refused = [
        (call(None, 0), Code::InvalidArgument, "members only"),
        (
            call(Some(vec![0xff; 9]), 0),
            Code::InvalidArgument,
            "malformed",
        ),
        (
            call(Some(identity(&[7; 16], 1, 1)), hello.node_id),
            Code::FailedPrecondition,
            "this node is of cluster",
        ),
        (
            call(Some(identity(b"short", 1, 1)), hello.node_id),
            Code::InvalidArgument,
            "16 bytes",
        ),
        (
            call(Some(identity(&own, 1, 1)), hello.node_id ^ 1),
            Code::FailedPrecondition,
            "has lost its disk or its address",
        ),
        (
            call(Some(identity(&own, 1, 1)), hello.node_id),
            Code::Unimplemented,
            "verb 0 is unknown",
        ),
        (
            call(Some(identity(&own, 1, 2)), hello.node_id),
            Code::FailedPrecondition,
            "two servers claim one id",
        ),
    ];
    for (request, code, text) in refused {
        let status = peer.call(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    // Operations are for members as well, and alarms are about members.
    let meant = |from: Vec<u8>| call(Some(from), hello.node_id).metadata().clone();
    let stranger = meant(identity(&[7; 16], 1, 1));
    let own_incarnation = node.backend().raft.identity().incarnation;
    let member = meant(identity(&own, hello.node_id, own_incarnation));
    let status = peer.status(with(StatusRequest {}, &stranger)).await;
    assert_eq!(status.unwrap_err().code(), Code::FailedPrecondition);
    let drain = DrainRequest { resume: false };
    let status = peer.drain(with(drain, &stranger)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let digest = DigestRequest { position: 1 };
    let status = peer.digest(with(digest, &stranger)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let status = peer.digest(with(digest, &member)).await.unwrap_err();
    assert!(status.message().contains("no marker"), "{status}");
    let raise = |bytes: Vec<u8>| AlarmRequest {
        what: Some(What::Raise(bytes.into())),
    };
    let about = |node_id: &str, kind: AlarmKind| {
        let alarm = ClusterAlarm {
            node_id: node_id.to_owned(),
            kind: kind.into(),
            ..ClusterAlarm::default()
        };
        raise(alarm.encode_to_vec())
    };
    let condemn = |raising: AlarmRequest| match raising.what {
        Some(What::Raise(alarm)) => AlarmRequest {
            what: Some(What::Condemn(alarm)),
        },
        other => panic!("it raises nothing: {other:?}"),
    };
    let known = format!("{:016x}", hello.node_id);
    let other = format!("{:016x}", cluster.id(1));
    assert_ne!(known, other);
    let alarm = about(&known, AlarmKind::Corrupt);
    let status = peer.alarm(with(alarm, &stranger)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    for (alarm, text) in [
        (AlarmRequest::default(), "neither raised nor cleared"),
        (raise(vec![0xff; 9]), "not one that this node knows"),
        (about("7", AlarmKind::Corrupt), "no member"),
        (about(&known, AlarmKind::DiskFull), "nobody else"),
        (about(&known, AlarmKind::Unspecified), "not one that"),
        (
            condemn(raise(vec![0xff; 9])),
            "not one that this node knows",
        ),
        (
            condemn(about(&other, AlarmKind::Diverged)),
            "condemns another",
        ),
        (condemn(about(&known, AlarmKind::Corrupt)), "another reason"),
    ] {
        let status = peer.alarm(with(alarm, &member)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    let mut operator = cluster.operator(0).await;
    let alarms = operator.list_alarms(ListAlarmsRequest {}).await.unwrap();
    assert!(alarms.into_inner().alarms.is_empty());
    assert!(!node.backend().drain.is_draining());
    // Somebody who gives the address of a member that lives.
    for (address, text) in [
        (cluster.peers[1].clone(), "is answered by node"),
        (addresses(1).remove(0), "cannot reach"),
    ] {
        let stranger = memorygate_proto::peer::Member {
            node_id: 9,
            address,
        };
        let request = JoinRequest {
            member: Some(stranger),
        };
        let status = peer.join(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    assert_eq!(node.backend().raft.membership().members.len(), 3);
    assert_eq!(node.backend().raft.metrics().term, before);
    cluster.agree().await;
    cluster.shutdown().await;
}
