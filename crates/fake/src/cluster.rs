//! Several servers that are one cluster: they hold one store, and each says who leads.
//!
//! Each runs on a runtime of its own, so that it can be killed as a process is: its connections
//! break, and nobody listens any more.

mod operations;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use memorygate_client::InMemoryStore;
use memorygate_proto::v1::{
    cluster_server::ClusterServer, consolidation_server::ConsolidationServer,
    memory_gate_server::MemoryGateServer,
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, transport::Server};

use self::operations::Operations;
use super::{Call, Fake, Fault, detailed};

/// What all nodes know. A test changes it as it likes.
pub struct State {
    pub cluster_id: u128,
    pub term: u64,
    /// Place of the leader among the nodes.
    pub leader: Option<usize>,
    pub members: Vec<Member>,
    /// Questions for the members that arrived, by node.
    pub asked: Vec<usize>,
    pub operations: Vec<String>,
    /// Whether `verify` finds a difference.
    pub is_diverged: bool,
    pub alarms: Vec<memorygate_proto::v1::ClusterAlarm>,
    pub snapshots: Vec<String>,
    /// Writes in flight that a drain reports, one number a call; 0 after the last.
    pub writes_in_flight: Vec<u64>,
    /// Calls on the backup store, by node.
    pub asked_of_store: Vec<usize>,
    /// Bytes of each snapshot file.
    pub snapshot_file: Vec<u8>,
    /// Whether answers to operations are lost, and a snapshot file that is sent breaks off.
    pub is_cut_off: bool,
}

#[derive(Clone)]
pub struct Member {
    pub node_id: String,
    pub peer_address: String,
    /// What the cluster says, which need not be where it listens.
    pub client_address: String,
    pub is_voter: bool,
    pub is_draining: bool,
    /// Reads that ask for a position wait for ever.
    pub is_behind: bool,
    pub is_hung: bool,
    pub is_away: bool,
}

pub struct FakeCluster {
    pub nodes: Vec<Node>,
    state: Arc<Mutex<State>>,
}

pub struct Node {
    pub fake: Fake,
    address: SocketAddr,
    operations: Operations,
    runtime: Option<Runtime>,
}

impl FakeCluster {
    /// Starts one of which the first node leads.
    pub async fn start(count: usize) -> Self {
        let store = InMemoryStore::default();
        let state = Arc::new(Mutex::new(State {
            cluster_id: store.position().cluster_id,
            term: 1,
            leader: Some(0),
            members: Vec::new(),
            asked: Vec::new(),
            operations: Vec::new(),
            is_diverged: false,
            alarms: Vec::new(),
            snapshots: Vec::new(),
            writes_in_flight: Vec::new(),
            asked_of_store: Vec::new(),
            snapshot_file: Vec::new(),
            is_cut_off: false,
        }));
        let mut nodes = Vec::new();
        for at in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            state.lock().unwrap().members.push(Member {
                node_id: format!("{:02x}{at:014x}", 0xa1 + at),
                peer_address: format!("127.0.0.1:{}", 7431 + at),
                client_address: address.to_string(),
                is_voter: true,
                is_draining: false,
                is_behind: false,
                is_hung: false,
                is_away: false,
            });
            let rule = {
                let state = Arc::clone(&state);
                move |call: &Call| what_becomes_of(call, at, &state.lock().unwrap())
            };
            let mut node = Node {
                fake: Fake {
                    store: store.clone(),
                    rule: Some(Arc::new(rule)),
                    ..Fake::default()
                },
                address,
                operations: Operations {
                    at,
                    state: Arc::clone(&state),
                },
                runtime: None,
            };
            node.serve(listener.into_std().unwrap());
            nodes.push(node);
        }
        Self { nodes, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// As `kill -9` does.
    pub fn kill(&mut self, at: usize) {
        self.nodes[at].kill();
        let mut state = self.state();
        state.members[at].is_away = true;
        if state.leader == Some(at) {
            state.leader = None;
        }
    }

    /// Starts it again at the same address.
    pub async fn restart(&mut self, at: usize) {
        let listener = TcpListener::bind(self.nodes[at].address).await.unwrap();
        self.nodes[at].serve(listener.into_std().unwrap());
        let mut state = self.state();
        state.members[at].is_away = false;
        state.members[at].is_draining = false;
    }

    pub fn elect(&self, at: usize) {
        let mut state = self.state();
        state.term += 1;
        state.leader = Some(at);
    }

    /// What arrived at each node since the last time.
    pub fn calls(&self) -> Vec<Vec<&'static str>> {
        let names = |node: &Node| node.fake.calls().iter().map(|c| c.name).collect();
        self.nodes.iter().map(names).collect()
    }
}

/// What a node makes of a call: any node takes a write and hands it to the leader.
fn what_becomes_of(call: &Call, at: usize, state: &State) -> Fault {
    let me = &state.members[at];
    let refuse = |reason| Fault::Status(detailed(Code::Unavailable, reason, Some("failed"), None));
    let writes = !call.request_id.is_empty();
    match call {
        _ if me.is_hung => Fault::Hang,
        _ if writes && me.is_draining => refuse("DRAINING"),
        _ if writes && state.leader.is_none() => refuse("NOT_LEADER"),
        Call {
            at_least: Some(_), ..
        } if me.is_behind => Fault::Hang,
        _ => Fault::Pass,
    }
}

impl Node {
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(&mut self, listener: std::net::TcpListener) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let memory = MemoryGateServer::new(self.fake.clone());
        let consolidation = ConsolidationServer::new(self.fake.clone());
        let cluster = ClusterServer::new(self.operations.clone());
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            Server::builder()
                .add_service(memory)
                .add_service(cluster)
                .add_service(consolidation)
                .serve_with_incoming(incoming)
                .await
        });
        self.runtime = Some(runtime);
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On its way out it drops every task, and so every socket, before this returns.
            std::thread::spawn(move || drop(runtime)).join().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
