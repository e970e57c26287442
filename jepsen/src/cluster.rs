//! A cluster of real server processes, what they are connected by, and the handles to break both.
//!
//! ```text
//! with root:      node ─ namespace ─ veth ─┐               without: node ─ loopback ─ proxy ─ node
//!                 node ─ namespace ─ veth ─┼─ bridge ─ us
//!                 node ─ namespace ─ veth ─┘
//! ```
//!
//! In namespaces packets themselves are lost; through the proxy, bytes wait. Everything made here is
//! removed when the cluster is dropped.

pub mod namespaces;
pub mod node;
pub mod preload;
pub mod proxy;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use memorygate_proto::v1;
use tokio::time::sleep;

use self::{
    namespaces::Namespaces,
    node::{Addresses, Exit, Node},
    preload::Preload,
    proxy::{Conditions, Proxy, Sources},
};
use crate::{
    caller::{Answer, Caller},
    workload::vector,
};

/// Between two looks at whether something has come about.
const POLL: Duration = Duration::from_millis(100);

/// One question about health; a node that is slower than this is not well.
const HEALTH_PATIENCE: Duration = Duration::from_secs(3);

/// Where the probes of health are stored, away from what workloads count.
const HEALTH_NAMESPACE: &str = "jepsen-health";

/// A directory on a small disk has this much room.
pub const SMALL_DISK_BYTES: u64 = 192 * 1024 * 1024;

/// What lies between the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wires {
    /// Network namespaces, veth pairs and a bridge; needs root.
    Namespaces,
    /// The loopback device and a proxy of our own.
    Loopback,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Settings {
    pub nodes: usize,
    pub server: PathBuf,
    /// One that reads a newer format of the log, to be installed over the other.
    pub newer_server: Option<PathBuf>,
    pub model_dir: PathBuf,
    /// Where data directories and logs go.
    pub directory: PathBuf,
    pub wires: Wires,
    /// Whether links go through the proxy; always so on loopback.
    pub is_proxied: bool,
    /// Whether every data directory is a small file system of its own; needs root.
    pub has_small_disks: bool,
    /// Whether the processes run over the library that can set clocks and forget unsynced writes.
    pub is_preloaded: bool,
    /// More `--set` arguments, `section.key=value`.
    pub settings: Vec<String>,
    /// More of the environment.
    pub environment: Vec<(String, String)>,
    /// How long a client waits for one answer.
    pub patience: Duration,
}

/// Nodes and what connects them.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: processes first, then what they run in.
    nodes: Vec<Node>,
    proxy: Option<Proxy>,
    namespaces: Option<Namespaces>,
    callers: Vec<Caller>,
    disks: Vec<PathBuf>,
    pub preload: Option<Preload>,
    exits: Vec<(usize, Exit)>,
    server: PathBuf,
    newer_server: Option<PathBuf>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        for disk in &self.disks {
            // A file system that nobody uses can be taken off; nothing else can be done about one.
            let _ = std::process::Command::new("umount").arg(disk).status();
        }
    }
}

impl Cluster {
    /// Makes everything and starts no process.
    pub async fn new(settings: &Settings) -> anyhow::Result<Self> {
        ensure!(settings.nodes >= 1, "a cluster has at least one node");
        let namespaces = match settings.wires {
            Wires::Namespaces => Some(Namespaces::new(settings.nodes)?),
            Wires::Loopback => None,
        };
        let addresses = addresses(settings.nodes, namespaces.as_ref())?;
        let is_proxied = settings.is_proxied || namespaces.is_none();
        let proxy = if is_proxied {
            let host = namespaces
                .as_ref()
                .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |n| IpAddr::V4(n.host()));
            let targets: Vec<SocketAddr> = addresses.iter().map(|a| a.listen).collect();
            let sources = match &namespaces {
                Some(_) => Sources::by_address(targets.iter().map(SocketAddr::ip)),
                None => Sources::by_owner(settings.nodes),
            };
            Some(Proxy::new(host, &targets, sources).await?)
        } else {
            None
        };
        let advertised: Vec<SocketAddr> = match &proxy {
            Some(proxy) => proxy.addresses().to_vec(),
            None => addresses.iter().map(|a| a.listen).collect(),
        };
        let preload = if settings.is_preloaded {
            Some(Preload::build(&settings.directory, settings.nodes)?)
        } else {
            None
        };
        let mut cluster = Self {
            nodes: Vec::new(),
            proxy,
            namespaces,
            callers: Vec::new(),
            disks: Vec::new(),
            preload,
            exits: Vec::new(),
            server: settings.server.clone(),
            newer_server: settings.newer_server.clone(),
        };
        let peers: Vec<String> = advertised.iter().map(SocketAddr::to_string).collect();
        for (at, addresses) in addresses.into_iter().enumerate() {
            cluster
                .callers
                .push(Caller::new(at, addresses.grpc, settings.patience)?);
            let disk = settings.directory.join(format!("disk-{at}"));
            fs::create_dir_all(&disk).context("make a place for a node")?;
            if settings.has_small_disks {
                mount_small(&disk)?;
                cluster.disks.push(disk.clone());
            }
            let data = disk.join("data");
            fs::create_dir_all(&data).context("make a data directory")?;
            let mut arguments = vec!["serve".to_owned()];
            let mut flag = |name: &str, value: String| {
                arguments.push(name.to_owned());
                arguments.push(value);
            };
            flag("--data-dir", data.display().to_string());
            flag("--model-dir", settings.model_dir.display().to_string());
            flag("--grpc-address", addresses.grpc.to_string());
            flag("--http-address", addresses.http.to_string());
            flag("--peer-address", addresses.listen.to_string());
            flag("--advertise", peers[at].clone());
            flag("--peers", peers.join(","));
            for setting in &settings.settings {
                flag("--set", setting.clone());
            }
            let mut environment = settings.environment.clone();
            if let Some(preload) = &cluster.preload {
                environment.extend(preload.environment(at, &data));
            }
            let namespace = cluster.namespaces.as_ref().map(|n| n.name(at));
            cluster.nodes.push(Node::new(
                settings.server.clone(),
                arguments,
                environment,
                namespace,
                data,
                settings.directory.join(format!("node-{at}.log")),
                addresses,
            ));
        }
        Ok(cluster)
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// How many must agree.
    pub fn majority(&self) -> usize {
        self.count() / 2 + 1
    }

    /// One door for each node, in order.
    pub fn callers(&self) -> &[Caller] {
        &self.callers
    }

    pub fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    /// Where members reach node `at`.
    pub fn advertised(&self, at: usize) -> SocketAddr {
        match &self.proxy {
            Some(proxy) => proxy.addresses()[at],
            None => self.nodes[at].addresses().listen,
        }
    }

    pub fn start(&mut self, at: usize) -> anyhow::Result<()> {
        if let Some(preload) = &self.preload {
            preload.write_back_if_much(at, self.nodes[at].data())?;
        }
        self.nodes[at].start()?;
        if let Some(proxy) = &self.proxy {
            proxy.belongs(at, self.nodes[at].id());
        }
        Ok(())
    }

    pub fn start_all(&mut self) -> anyhow::Result<()> {
        (0..self.count()).try_for_each(|at| {
            if self.nodes[at].is_started() {
                Ok(())
            } else {
                self.start(at)
            }
        })
    }

    /// SIGKILL; `false` if there was nothing to kill.
    pub fn kill(&mut self, at: usize) -> anyhow::Result<bool> {
        self.notice_exits()?;
        self.nodes[at].kill()
    }

    /// The program that all nodes ran first.
    pub fn server(&self) -> &Path {
        &self.server
    }

    /// The program to be installed over it, if there is one.
    pub fn newer_server(&self) -> Option<&Path> {
        self.newer_server.as_deref()
    }

    /// SIGTERM; returns when the process has ended, and well.
    pub async fn stop(&mut self, at: usize, within: Duration) -> anyhow::Result<()> {
        self.nodes[at].terminate()?;
        let exit = self.ended(at, within).await?;
        ensure!(
            exit.status.success(),
            "node {at} was asked to stop and failed: {exit}"
        );
        Ok(())
    }

    /// Waits until the process of a node ends, as it is expected to.
    pub async fn ended(&mut self, at: usize, within: Duration) -> anyhow::Result<Exit> {
        let start = Instant::now();
        loop {
            if let Some(exit) = self.nodes[at].ended()? {
                return Ok(exit);
            }
            ensure!(
                self.nodes[at].is_started(),
                "node {at} does not run, so it does not end"
            );
            ensure!(
                start.elapsed() < within,
                "node {at} still runs after {within:?}"
            );
            sleep(POLL).await;
        }
    }

    /// Has a stopped node run another program on its data.
    pub fn install(&mut self, at: usize, program: PathBuf) {
        self.nodes[at].install(program);
    }

    pub fn pause(&mut self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].pause()
    }

    pub fn resume(&mut self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].resume()
    }

    /// Removes all that the stopped node has stored.
    pub fn wipe(&mut self, at: usize) -> anyhow::Result<()> {
        ensure!(!self.nodes[at].is_started(), "node {at} runs");
        for entry in fs::read_dir(self.nodes[at].data()).context("list a data directory")? {
            let path = entry.context("list a data directory")?.path();
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        if let Some(preload) = &self.preload {
            preload.forget(at, self.nodes[at].data())?;
        }
        Ok(())
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub fn cut(&self, from: usize, to: usize) -> anyhow::Result<()> {
        match (&self.proxy, &self.namespaces) {
            (Some(proxy), _) => {
                proxy.change(|conditions| conditions.link(from, to).is_cut = true);
                Ok(())
            }
            (None, Some(namespaces)) => namespaces.cut(from, to),
            (None, None) => unreachable!("nodes on loopback are always behind the proxy"),
        }
    }

    /// Changes what the proxy does to the bytes on its way.
    pub fn change_links(&self, change: impl FnOnce(&mut Conditions)) -> anyhow::Result<()> {
        let proxy = self.proxy.as_ref();
        proxy
            .context("links do not go through the proxy")?
            .change(change);
        Ok(())
    }

    /// What the proxy has done so far.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// All links carry everything again.
    pub fn mend(&self) -> anyhow::Result<()> {
        if let Some(proxy) = &self.proxy {
            proxy.change(|conditions| *conditions = Conditions::new(self.count()));
        }
        self.namespaces.as_ref().map_or(Ok(()), Namespaces::mend)
    }

    /// Pairs out of `cuts` whose traffic is seen to wait: frames held by the proxy since `before`, or
    /// sockets that send the same again and again.
    pub fn silent(&self, cuts: &[(usize, usize)], before: &[u64]) -> Vec<(usize, usize)> {
        let is_silent = |(at, &(from, to)): (usize, &(usize, usize))| {
            let seen = match &self.proxy {
                Some(proxy) => proxy.counts(from, to).held > before[at],
                None => {
                    let (one, other) = (&self.nodes[from], &self.nodes[to]);
                    one.sends_in_vain(other.addresses().listen.ip())
                        || other.sends_in_vain(one.addresses().listen.ip())
                }
            };
            seen.then_some((from, to))
        };
        cuts.iter().enumerate().filter_map(is_silent).collect()
    }

    /// Frames that the proxy holds back on each of `cuts`, to compare with later.
    pub fn held(&self, cuts: &[(usize, usize)]) -> Vec<u64> {
        let count = |&(from, to): &(usize, usize)| {
            self.proxy
                .as_ref()
                .map_or(0, |proxy| proxy.counts(from, to).held)
        };
        cuts.iter().map(count).collect()
    }

    /// The node that most others take for the leader, if they say.
    pub async fn leader(&self) -> Option<usize> {
        let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
        for caller in &self.callers {
            let patient = caller.patient(Duration::from_millis(500));
            let Some(reply) = patient.members().await.done() else {
                continue;
            };
            let leader = reply.members.iter().find(|member| member.is_leader);
            let at = leader.and_then(|leader| self.place(&leader.peer_address));
            if let Some(at) = at {
                *votes.entry(at).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, votes)| *votes)
            .map(|(at, _)| at)
    }

    /// Which node members reach at this address.
    pub fn place(&self, peer_address: &str) -> Option<usize> {
        (0..self.count()).find(|at| self.advertised(*at).to_string() == peer_address)
    }

    /// Notes and forgets the processes that ended by themselves.
    pub fn notice_exits(&mut self) -> anyhow::Result<()> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if let Some(exit) = node.ended()? {
                // The whole tail is for the verdict; one that ends again and again says the same.
                let last = exit.tail.lines().last().unwrap_or_default();
                eprintln!("node {at} ended by itself ({}): {last}", exit.status);
                self.exits.push((at, exit));
            }
        }
        Ok(())
    }

    /// All processes that ended by themselves.
    pub fn exits(&self) -> &[(usize, Exit)] {
        &self.exits
    }

    /// Everything runs, nothing is cut, paused or slow any more.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        self.mend()?;
        if let Some(preload) = &self.preload {
            preload.set_clocks(&vec![0; self.count()])?;
            (0..self.count()).try_for_each(|at| preload.refuse_syncs(at, false))?;
        }
        for at in 0..self.count() {
            if self.nodes[at].is_paused() {
                self.resume(at)?;
            }
        }
        self.notice_exits()?;
        self.start_all()
    }

    /// Waits until a cluster to which nothing was done yet is well, and says how long that took. A node
    /// that ends then would end again.
    pub async fn formed(&mut self, within: Duration) -> anyhow::Result<Duration> {
        let start = Instant::now();
        while let Err(problem) = self.is_healthy().await {
            self.notice_exits()?;
            if let Some((at, exit)) = self.exits.first() {
                bail!("node {at} ended before any fault: {exit}");
            }
            if start.elapsed() > within {
                bail!("the cluster is not well after {within:?}: {problem:#}");
            }
            sleep(POLL).await;
        }
        Ok(start.elapsed())
    }

    /// Waits until every node takes a write and reads what all of them took, and every node is a
    /// voter. Restarts what ends by itself, as an operator's supervisor would. Returns how long it
    /// took.
    pub async fn healthy(&mut self, within: Duration) -> anyhow::Result<Duration> {
        let start = Instant::now();
        loop {
            let problem = match self.is_healthy().await {
                Ok(()) => return Ok(start.elapsed()),
                Err(problem) => problem,
            };
            if start.elapsed() > within {
                bail!("the cluster is not well after {within:?}: {problem:#}");
            }
            self.notice_exits()?;
            self.start_all()?;
            sleep(POLL).await;
        }
    }

    async fn is_healthy(&self) -> anyhow::Result<()> {
        let mut last: Option<v1::Position> = None;
        for caller in &self.callers {
            let request = v1::LearnRequest {
                namespace: HEALTH_NAMESPACE.to_owned(),
                experiences: vec![v1::Experience {
                    content: format!("node {} takes writes", caller.node()),
                    domain: "health".to_owned(),
                    vector: vector(0),
                    ..v1::Experience::default()
                }],
                ..v1::LearnRequest::default()
            };
            match caller.patient(HEALTH_PATIENCE).learn(request).await {
                Answer::Done(reply) => last = reply.position,
                Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => {
                    bail!("node {} takes no write: {why}", caller.node());
                }
            }
        }
        for caller in &self.callers {
            let request = v1::StatsRequest {
                at_least: last.clone(),
                ..v1::StatsRequest::default()
            };
            let answer = caller.patient(HEALTH_PATIENCE).stats(request).await;
            if let Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) = answer {
                bail!("node {} has not caught up: {why}", caller.node());
            }
        }
        match self.callers[0].patient(HEALTH_PATIENCE).members().await {
            Answer::Done(reply) => {
                let voters = reply.members.iter().filter(|m| m.is_voter).count();
                ensure!(
                    voters == self.count() && reply.members.len() == self.count(),
                    "{voters} voters of {} members, expected {}",
                    reply.members.len(),
                    self.count()
                );
            }
            Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => {
                bail!("members are not told: {why}")
            }
        }
        Ok(())
    }

    /// Waits until all nodes stand at one position, and returns it with the state hash of each.
    pub async fn state_hashes(&self, within: Duration) -> anyhow::Result<(u64, Vec<String>)> {
        let start = Instant::now();
        loop {
            let mut states = Vec::new();
            for caller in &self.callers {
                let caller = caller.patient(HEALTH_PATIENCE);
                if let Some(stats) = caller.stats(v1::StatsRequest::default()).await.done() {
                    let index = stats.position.map_or(0, |position| position.index);
                    states.push((index, stats.state_hash));
                }
            }
            let first = states.first().map_or(0, |(index, _)| *index);
            if states.len() == self.count() && states.iter().all(|(index, _)| *index == first) {
                return Ok((first, states.into_iter().map(|(_, hash)| hash).collect()));
            }
            let positions: Vec<u64> = states.iter().map(|(index, _)| *index).collect();
            ensure!(
                start.elapsed() < within,
                "the nodes do not come to one position within {within:?}: {positions:?}"
            );
            sleep(POLL).await;
        }
    }
}

fn addresses(nodes: usize, namespaces: Option<&Namespaces>) -> anyhow::Result<Vec<Addresses>> {
    if let Some(namespaces) = namespaces {
        let address = |at, port| SocketAddr::from((namespaces.address(at), port));
        return Ok((0..nodes)
            .map(|at| Addresses {
                grpc: address(at, 7411),
                http: address(at, 7412),
                listen: address(at, 7413),
            })
            .collect());
    }
    // All are bound at once, so that no two are the same; on a host of their own, so that no
    // connection of another process takes the port of a node that is down.
    let [a, b, c] = rand::random::<[u8; 3]>().map(|byte| byte.clamp(1, 254));
    let host = Ipv4Addr::new(127, a, b, c);
    let listeners: Vec<TcpListener> = (0..nodes * 3)
        .map(|_| TcpListener::bind((host, 0)))
        .collect::<Result<_, _>>()
        .context("find free ports")?;
    let ports: Vec<SocketAddr> = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<_, _>>()
        .context("find free ports")?;
    let addresses = ports.chunks(3).map(|ports| Addresses {
        grpc: ports[0],
        http: ports[1],
        listen: ports[2],
    });
    Ok(addresses.collect())
}

fn mount_small(directory: &Path) -> anyhow::Result<()> {
    let status = std::process::Command::new("mount")
        .args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={SMALL_DISK_BYTES}"),
            "memorygate-jepsen",
        ])
        .arg(directory)
        .status()
        .context("run mount")?;
    ensure!(
        status.success(),
        "mount a small file system on {}: {status} (this needs root)",
        directory.display()
    );
    Ok(())
}
