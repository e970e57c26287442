//! Three servers of ours as one cluster.

use std::time::{Duration, Instant};

use anyhow::ensure;
use memorygate_proto::v1;
use tonic::{Status, transport::Channel};

use super::{ELECTION_TIMEOUT_MS, HEARTBEAT_MS, NODES, Reading, Written, values::Value};
use crate::{nodes::Nodes, options::Options, rpc, server::Server};

/// Where everything is learned.
pub(crate) const NAMESPACE: &str = "bench";

/// Between two looks at where the nodes stand.
const POLL: Duration = Duration::from_millis(20);

/// An index that is further behind than it can work off within this hangs.
const SETTLE_WITHIN: Duration = Duration::from_secs(600);

pub(crate) struct MemoryGate {
    pub(crate) nodes: Vec<Server>,
}

impl MemoryGate {
    /// Three nodes that have formed a cluster and are ready.
    pub(crate) async fn start(options: &Options, more: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (heartbeat, timeout) = (HEARTBEAT_MS.to_string(), ELECTION_TIMEOUT_MS.to_string());
        let mut settings = vec![
            ("raft.heartbeat_ms", heartbeat.as_str()),
            ("raft.election_timeout_min_ms", timeout.as_str()),
        ];
        settings.extend_from_slice(more);
        let nodes = Nodes::start(options, NODES, &settings)
            .await?
            .into_servers();
        let cluster = Self { nodes };
        let started = Instant::now();
        while cluster.leader().await.is_none() {
            ensure!(
                started.elapsed() < SETTLE_WITHIN,
                "no node became the leader"
            );
            tokio::time::sleep(POLL).await;
        }
        eprintln!(
            "memorygate: {NODES} nodes, {}",
            cluster.endpoints().join(" ")
        );
        Ok(cluster)
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.endpoint().to_owned())
            .collect()
    }

    pub(crate) fn process_ids(&self) -> anyhow::Result<Vec<u32>> {
        self.nodes.iter().map(Server::process_id).collect()
    }

    /// The node that says that it leads. A node that does not answer does not lead.
    pub(crate) async fn leader(&self) -> Option<usize> {
        for (at, node) in self.nodes.iter().enumerate() {
            let Ok(metrics) = node.metrics().await else {
                continue;
            };
            if metrics
                .value("memorygate_leader")
                .is_ok_and(|leads| leads > 0.0)
            {
                return Some(at);
            }
        }
        None
    }

    /// Waits until every node has applied and indexed all that is in the log of any.
    pub(crate) async fn settle(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let mut last: u64 = 0;
        for node in &self.nodes {
            let position = stats(node.endpoint()).await?.position;
            last = last.max(position.map_or(0, |position| position.index));
        }
        for node in &self.nodes {
            while stats(node.endpoint()).await?.index_position < last {
                ensure!(
                    started.elapsed() < SETTLE_WITHIN,
                    "a node has not indexed position {last} within {SETTLE_WITHIN:?}"
                );
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(started.elapsed())
    }
}

/// Where a node stands.
pub(crate) async fn stats(endpoint: &str) -> anyhow::Result<v1::StatsResponse> {
    let channel = rpc::connect(endpoint)?;
    let request = v1::StatsRequest {
        namespace: NAMESPACE.to_owned(),
        ..v1::StatsRequest::default()
    };
    Ok(rpc::call(&channel, "/memorygate.v1.MemoryGate/Stats", request).await?)
}

pub(super) async fn learn(channel: &Channel, value: Value) -> Result<Written, Status> {
    let request = v1::LearnRequest {
        request_id: String::new(),
        namespace: NAMESPACE.to_owned(),
        experiences: vec![value.experience],
    };
    let reply: v1::LearnResponse =
        rpc::call(channel, "/memorygate.v1.MemoryGate/Learn", request).await?;
    let learned = reply.learned.into_iter().next();
    let learned = learned.ok_or_else(|| Status::internal("nothing was learned"))?;
    Ok(Written {
        key: learned.key,
        position: reply.position,
    })
}

pub(super) async fn get(
    channel: &Channel,
    written: &Written,
    reading: Reading,
) -> Result<(), Status> {
    let request = v1::GetRequest {
        namespace: NAMESPACE.to_owned(),
        key: written.key.clone(),
        reader: None,
        at_least: match reading {
            Reading::Session => written.position.clone(),
            Reading::Linearizable => None,
        },
        linearizable: reading == Reading::Linearizable,
        as_of: None,
    };
    let reply: v1::GetResponse =
        rpc::call(channel, "/memorygate.v1.MemoryGate/Get", request).await?;
    match reply.memory {
        Some(_) => Ok(()),
        None => Err(Status::internal("what was written is not there")),
    }
}
