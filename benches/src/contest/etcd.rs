//! Three servers of etcd as one cluster, by its gRPC API.
//!
//! The few messages that are needed are written here by hand, with the numbers of etcd's `rpc.proto`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

use super::{ELECTION_TIMEOUT_MS, HEARTBEAT_MS, NODES, Written, values::Value};
use crate::{options::Options, rpc, server::free_address};

/// A cluster that has no leader by then has none at all.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Between two looks whether it has.
const POLL: Duration = Duration::from_millis(20);

pub(crate) struct Etcd {
    program: PathBuf,
    dir: TempDir,
    nodes: Vec<Node>,
}

struct Node {
    name: String,
    arguments: Vec<String>,
    endpoint: String,
    child: Option<Child>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

impl Etcd {
    /// Three nodes of the program `etcd` that have elected a leader; the data is below
    /// `--scratch`, as MemoryGate's is.
    pub(crate) async fn start(options: &Options, program: Option<&Path>) -> anyhow::Result<Self> {
        let program = program.map_or_else(|| PathBuf::from("etcd"), Path::to_owned);
        let dir = match &options.scratch {
            Some(parent) => TempDir::with_prefix_in("etcd-bench-", parent),
            None => TempDir::with_prefix("etcd-bench-"),
        };
        let dir = dir.context("make a directory for etcd")?;
        let url = || anyhow::Ok(format!("http://{}", free_address()?));
        let addresses = (0..NODES).map(|_| anyhow::Ok((url()?, url()?)));
        let addresses: Vec<(String, String)> = addresses.collect::<anyhow::Result<_>>()?;
        let members = (0..)
            .zip(&addresses)
            .map(|(at, (_, peer))| format!("n{at}={peer}"));
        let members = members.collect::<Vec<String>>().join(",");
        let mut cluster = Self {
            program,
            nodes: Vec::new(),
            dir,
        };
        for (at, (client, peer)) in addresses.into_iter().enumerate() {
            let name = format!("n{at}");
            let data = cluster.dir.path().join(&name).display().to_string();
            let arguments = [
                ("name", name.as_str()),
                ("data-dir", &data),
                ("listen-client-urls", &client),
                ("advertise-client-urls", &client),
                ("listen-peer-urls", &peer),
                ("initial-advertise-peer-urls", &peer),
                ("initial-cluster", &members),
                ("initial-cluster-state", "new"),
                ("heartbeat-interval", &HEARTBEAT_MS.to_string()),
                ("election-timeout", &ELECTION_TIMEOUT_MS.to_string()),
                // Its default of 2 GiB ends a long run.
                ("quota-backend-bytes", "8589934592"),
                ("log-level", "error"),
            ];
            let arguments = arguments
                .map(|(name, value)| format!("--{name}={value}"))
                .into();
            cluster.nodes.push(Node {
                name,
                arguments,
                endpoint: client,
                child: None,
            });
        }
        for at in 0..NODES {
            cluster.spawn(at)?;
        }
        let version = cluster.wait_for_leader().await?;
        eprintln!(
            "etcd {version}: {NODES} nodes, {}",
            cluster.endpoints().join(" ")
        );
        Ok(cluster)
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.endpoint.clone())
            .collect()
    }

    pub(crate) fn process_ids(&self) -> anyhow::Result<Vec<u32>> {
        let ids = self.nodes.iter().map(|node| {
            let child = node.child.as_ref();
            child.map(Child::id).context("an etcd does not run")
        });
        ids.collect()
    }

    pub(crate) async fn leader(&self) -> anyhow::Result<Option<usize>> {
        for (at, node) in self.nodes.iter().enumerate() {
            if let Ok(status) = status(&node.endpoint).await
                && status.leader != 0
                && status
                    .header
                    .is_some_and(|header| header.member_id == status.leader)
            {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    pub(crate) fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        let child = self.nodes[node].child.take();
        let mut child = child.context("an etcd that is to be killed does not run")?;
        child.kill().context("kill an etcd")?;
        child.wait().context("wait for the killed etcd")?;
        Ok(())
    }

    pub(crate) async fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        self.spawn(node)?;
        let started = Instant::now();
        while status(&self.nodes[node].endpoint)
            .await
            .map_or(true, |status| status.leader == 0)
        {
            ensure!(
                started.elapsed() < READY_WITHIN,
                "an etcd did not come back"
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn spawn(&mut self, at: usize) -> anyhow::Result<()> {
        let Self {
            program,
            dir,
            nodes,
        } = self;
        let node = &mut nodes[at];
        let log = dir.path().join(format!("{}.log", node.name));
        let log = File::options().create(true).append(true).open(log);
        let log = log.context("open the log of etcd")?;
        let spawned = Command::new(&*program)
            .args(&node.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open the log of etcd")?)
            .stderr(log)
            .spawn();
        node.child = Some(spawned.with_context(|| {
            format!(
                "run {}: etcd 3.6 is what MemoryGate is compared with; put it on the path, name it \
                 with --etcd, or leave it out with --without-etcd",
                program.display()
            )
        })?);
        Ok(())
    }

    /// Returns its version.
    async fn wait_for_leader(&mut self) -> anyhow::Result<String> {
        let started = Instant::now();
        loop {
            if let Some(leader) = self.leader().await? {
                return Ok(status(&self.nodes[leader].endpoint).await?.version);
            }
            for node in &mut self.nodes {
                if let Some(child) = &mut node.child
                    && let Some(status) = child.try_wait().context("look at etcd")?
                {
                    bail!("etcd {} ended before it was ready ({status})", node.name);
                }
            }
            ensure!(started.elapsed() < READY_WITHIN, "etcd has no leader");
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn status(endpoint: &str) -> anyhow::Result<StatusResponse> {
    let channel = rpc::connect(endpoint)?;
    let path = "/etcdserverpb.Maintenance/Status";
    Ok(rpc::call(&channel, path, StatusRequest {}).await?)
}

pub(super) async fn put(channel: &Channel, value: Value) -> Result<Written, Status> {
    let key = format!("bench/{:016x}", value.number);
    let request = PutRequest {
        key: key.clone().into_bytes(),
        value: value.encoded(),
    };
    let PutResponse {} = rpc::call(channel, "/etcdserverpb.KV/Put", request).await?;
    Ok(Written {
        key,
        position: None,
    })
}

pub(super) async fn range(channel: &Channel, written: &Written) -> Result<(), Status> {
    let request = RangeRequest {
        key: written.key.clone().into_bytes(),
    };
    let reply: RangeResponse = rpc::call(channel, "/etcdserverpb.KV/Range", request).await?;
    match reply.kvs.first() {
        Some(found) if !found.value.is_empty() => Ok(()),
        Some(_) | None => Err(Status::internal("what was written is not there")),
    }
}
