//! A node: everything wired together, started in order and stopped in order.
//!
//! ```text
//! listeners ─▶ HTTP (alive, not ready) ─▶ data directory ─▶ index catches up ─▶ Raft ─▶ gRPC
//!                                           (one lock)        (in background)
//! ```
//!
//! It is a library, so that tests run a real server in their own process, on ports that the system
//! chooses and with any embedder.

mod grpc_server;
mod http_server;

use std::{collections::BTreeSet, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use memorygate_core::{embedding::Embedder, format::Formats};
use memorygate_index::embed::{MiniLm, pool::Pool};
use memorygate_raft::{
    Clock, First, FreeSpace, Handle, NoTransport, Open, OpenError, Replica, StartError, Statvfs,
    Transport, dir::DataDir,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tracing::{info, warn};

use crate::{
    backend::Backend,
    backup::{self, Backups},
    catch_up::{self, CatchUp},
    cluster::{self, Cluster, alarms::Alarm, drain::Drain},
    compute::Compute,
    consolidation::{self, Uses},
    error::Error,
    expiry,
    health::Health,
    hooks::{self, Hooks},
    peer::{
        desk::{self, Desk, Standing},
        forming::{self, Plan},
        links::{Caller, Links},
    },
    projection::Projection,
    settings::{Address, Settings, expand_home, threads_or_cores},
    telemetry::metrics::{EmbedObserver, Metrics, StorageObserver},
};

/// Reads of the state that wait for a thread.
const READS_QUEUE_MAX: usize = 4096;

/// Where in the data directory the index has its checkpoints.
const INDEX_DIR: &str = "index";

/// A running node. Dropping it stops nothing: call [`Node::shutdown`].
pub struct Node {
    backend: Arc<Backend>,
    cluster: Arc<Cluster>,
    pool: Pool,
    health: Arc<Health>,
    grpc_address: SocketAddr,
    http_address: SocketAddr,
    peer: Option<PeerServer>,
    stop_grpc: oneshot::Sender<()>,
    stop_http: oneshot::Sender<()>,
    grpc: JoinHandle<()>,
    http: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
    grace: Duration,
}

/// What listens to other nodes.
struct PeerServer {
    address: SocketAddr,
    desk: Arc<Desk>,
    /// Ends it when it is dropped.
    _stop: oneshot::Sender<()>,
}

/// Also when a start is given up half-way.
impl Drop for PeerServer {
    fn drop(&mut self) {
        self.desk.stopped();
    }
}

/// Loads the model that the settings name, off the asynchronous threads.
pub async fn load_model(settings: &Settings) -> anyhow::Result<Arc<dyn Embedder>> {
    let dir = expand_home(&settings.model.dir);
    let threads = threads_or_cores(settings.model.threads);
    let load = move || MiniLm::open(&dir, threads);
    let model = tokio::task::spawn_blocking(load)
        .await
        .context("load model")?;
    Ok(Arc::new(model.context("load model")?))
}

impl Node {
    /// Starts a node. When this returns it answers on its addresses; recalls wait until
    /// [`Node::ready`].
    pub async fn start(
        settings: Settings,
        embedder: Arc<dyn Embedder>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let disk = Arc::new(Statvfs);
        let environment = environment();
        Self::start_with(settings, embedder, clock, disk, Formats::OWN, environment).await
    }

    /// As [`Node::start`], with a given answer to how much room the disk has, as a version of the
    /// program that reads these formats of the log, and with these variables in its environment.
    pub async fn start_with(
        settings: Settings,
        embedder: Arc<dyn Embedder>,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn FreeSpace>,
        formats: Formats,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        settings.check().context("check settings")?;
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        let token = hooks::token(&settings.webhook, &environment).context("read webhook token")?;
        let backups = Backups::new(
            &settings.backup,
            &expand_home(&settings.data.dir),
            settings.raft.disk_reserve_bytes,
            disk.clone(),
            environment,
        )
        .context("open backup store")?;
        let metrics = Arc::new(Metrics::new());
        let started_at = clock.now();
        metrics.start_time_seconds.set(started_at.0 as f64 / 1000.0);
        let health = Arc::new(Health::new(metrics.clone()));
        let hooks = Arc::new(Hooks::new(&settings.webhook, token, metrics.clone()));
        // An address that is in use is said before a large directory is opened.
        let grpc_listener = bind(&settings.server.grpc_address).await?;
        let http_listener = bind(&settings.server.http_address).await?;
        let grpc_address = grpc_listener.local_addr().context("read gRPC address")?;
        let http_address = http_listener.local_addr().context("read HTTP address")?;
        let (stop_http, http) = http_server::serve(http_listener, health.clone(), hooks.clone());

        let model = embedder.model();
        let opened = open(&settings, &metrics, &clock, &disk, formats).await;
        let Opened {
            raft,
            index,
            peer,
            joining,
            links,
        } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                http.abort();
                return Err(error);
            }
        };
        let observer = Arc::new(EmbedObserver(metrics.clone()));
        let pool = Pool::start(embedder, settings.model.pool(), observer)
            .context("start embedding threads")?;
        let backend = Arc::new(Backend {
            embedder: pool.handle(),
            reads: Compute::new(
                "reads",
                threads_or_cores(settings.recall.threads).max(4),
                READS_QUEUE_MAX,
            ),
            recalls: Compute::new(
                "recalls",
                threads_or_cores(settings.recall.threads),
                settings.recall.queue_max,
            ),
            clock,
            ranking: settings.ranking.clone(),
            consolidation: settings.consolidation.passes(),
            uses: Uses::new(settings.consolidation.uses().is_some()),
            model,
            message_bytes_max: settings.server.message_bytes_max,
            metrics: metrics.clone(),
            backups,
            storage_failure: watch::Sender::new(None),
            drain: Drain::default(),
            catch_up: CatchUp::default(),
            raft,
            index,
        });
        let own = cluster::Own {
            client_address: settings
                .client_address(grpc_address.port())
                .unwrap_or_default(),
            started_at,
        };
        let cluster = Arc::new(Cluster::new(backend.clone(), links, own));
        health.started(cluster.clone());
        hooks.started(&backend);
        if let Some(peer) = &peer {
            peer.desk.serves(cluster.clone());
        }
        let (stop_grpc, grpc, reporter) =
            grpc_server::serve(grpc_listener, &settings, &cluster, &health).await?;
        let mut background = vec![
            reporter,
            tokio::spawn(expiry::run(backend.clone())),
            tokio::spawn(backup::run(backend.clone())),
            tokio::spawn(consolidation::run(backend.clone())),
            tokio::spawn(consolidation::count_uses(
                backend.clone(),
                settings.consolidation.uses(),
            )),
            tokio::spawn(catch_up::run(backend.clone())),
            tokio::spawn(backend.index.clone().watch()),
            tokio::spawn(cluster.clone().run()),
        ];
        background.extend(joining);
        let identity = backend.raft.identity();
        info!(
            grpc = %grpc_address,
            http = %http_address,
            cluster = %identity.cluster_id,
            node = %format!("{:016x}", identity.node_id),
            position = backend.raft.position(),
            model = %format!("{:016x}", model.0),
            data = %settings.data.dir.display(),
            version = env!("CARGO_PKG_VERSION"),
            "node serves",
        );
        Ok(Self {
            backend,
            cluster,
            pool,
            health,
            grpc_address,
            http_address,
            peer,
            stop_grpc,
            stop_http,
            grpc,
            http,
            background,
            grace: Duration::from_millis(settings.server.shutdown_grace_ms),
        })
    }

    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where other nodes connect, if they may.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer.as_ref().map(|peer| peer.address)
    }

    /// What calls work with, for tests that look behind the API.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Waits until recalls can be answered with all that was committed when this node was started.
    pub async fn ready(&self) -> Result<(), Error> {
        self.backend.index.ready().await?;
        self.backend.catch_up.done().await;
        Ok(())
    }

    /// Waits until this node must not serve any more, and says why and what to do.
    pub async fn failed(&self) -> String {
        let mut fatal = self.backend.raft.fatal();
        let raft = async {
            loop {
                if let Some(fatal) = fatal.borrow_and_update().as_ref() {
                    return fatal.to_string();
                }
                if fatal.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut storage = self.backend.storage_failure.subscribe();
        let storage = async {
            match storage
                .wait_for(Option::is_some)
                .await
                .map(|reason| reason.clone())
            {
                Ok(Some(reason)) => reason,
                Ok(None) | Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = raft => reason,
            reason = storage => reason,
            reason = self.backend.index.failed() => reason,
        }
    }

    /// Stops in order: hands over leadership, takes nothing new, finishes what is in work for as long as the grace lasts,
    /// closes the log, writes the index. The data directory is free when this returns.
    pub async fn shutdown(self) {
        self.cluster.announce_failure().await;
        self.health.stopping();
        // Others need not find out by waiting that it is gone, and callers go elsewhere at once.
        self.cluster.drain_here(false).await;
        // A receiver that is gone has stopped by itself.
        let _ = self.stop_grpc.send(());
        let mut grpc = self.grpc;
        if tokio::time::timeout(self.grace, &mut grpc).await.is_err() {
            warn!(
                grace_ms = self.grace.as_millis(),
                "requests are still in work: they are cut off"
            );
            grpc.abort();
        }
        for task in self.background {
            task.abort();
            let _ = task.await;
        }
        // It may have been elected again, or all others drained too.
        self.cluster.leave().await;
        self.backend.raft.shutdown().await;
        drop(self.peer);
        let (index, pool) = (self.backend.index.clone(), self.pool);
        let close = move || {
            index.close();
            drop(pool);
        };
        let closed = tokio::task::spawn_blocking(close).await;
        if let Err(error) = closed {
            warn!(%error, "index could not be closed");
        }
        let _ = self.stop_http.send(());
        let _ = self.http.await;
    }
}

/// The variables of this process, as far as they are text. Object stores are reached as they say.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

async fn bind(address: &Address) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address.as_str())
        .await
        .with_context(|| format!("listen on {address}"))
}

/// A replica that has started, with what belongs to it.
struct Opened {
    raft: Handle,
    index: Arc<Projection>,
    peer: Option<PeerServer>,
    /// Has this node added to its cluster.
    joining: Option<JoinHandle<()>>,
    /// The way to the others.
    links: Arc<Links>,
}

/// Opens the data directory, finds the other nodes, lets the index catch up beside, and takes part
/// in the log.
async fn open(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    disk: &Arc<dyn FreeSpace>,
    formats: Formats,
) -> anyhow::Result<Opened> {
    let dir = expand_home(&settings.data.dir);
    let links = Arc::new(Links::default());
    let found = match &settings.cluster.listen {
        None => None,
        Some(listen) => Some(find_others(settings, &dir, listen, &links, formats).await?),
    };
    let open = Open {
        dir: dir.clone(),
        settings: settings.raft.clone(),
        clock: clock.clone(),
        observer: Arc::new(StorageObserver(metrics.clone())),
        disk: disk.clone(),
        formats,
    };
    if let Some(found) = &found {
        links.set_caller(found.caller);
    }
    let shown = dir.display().to_string();
    let opened = tokio::task::spawn_blocking(move || Replica::open(open))
        .await
        .context("open data directory")?;
    let announce = async |damage: Option<String>| {
        if let (Some(found), Some(damage)) = (&found, damage) {
            let alarm = Alarm::corrupt(found.caller.node_id, damage, clock.now());
            cluster::announce(&links, &found.others, &alarm).await;
        }
    };
    let replica = match opened {
        Ok(replica) => replica,
        Err(error) => {
            announce(damage(&error)).await;
            return Err(error).with_context(|| format!("open data directory {shown}"));
        }
    };
    let identity = *replica.identity();
    let index = Projection::start(
        &Path::new(&dir).join(INDEX_DIR),
        &settings.index,
        replica.state().clone(),
        identity.cluster_id,
        metrics.clone(),
    )
    .context("start index")?;
    let Some(found) = found else {
        let first = First::Alone {
            address: settings.server.grpc_address.to_string(),
        };
        let starting = replica.start(index.clone(), first, Arc::new(NoTransport));
        return Ok(Opened {
            raft: starting.await.context("start replica")?,
            index,
            peer: None,
            joining: None,
            links,
        });
    };
    let Found {
        plan,
        first,
        desk,
        peer,
        caller,
        others,
    } = found;
    let transport: Arc<dyn Transport> = links.clone();
    let raft = match replica.start(index.clone(), first, transport).await {
        Ok(raft) => raft,
        Err(error) => {
            if let StartError::Open(cause) = &error
                && let Some(damage) = damage(cause)
            {
                let alarm = Alarm::corrupt(caller.node_id, damage, clock.now());
                cluster::announce(&links, &others, &alarm).await;
            }
            if let StartError::Fatal(fatal) = &error
                && let Some(alarm) = Alarm::of_fatal(caller.node_id, fatal, clock.now())
            {
                cluster::announce(&links, &others, &alarm).await;
            }
            return Err(error).context("start replica");
        }
    };
    desk.started(raft.clone());
    let members = raft.membership();
    // A member that was removed does not come back by itself.
    let is_new = members.members.is_empty() && raft.metrics().last_log == 0;
    // It was interrupted while it caught up.
    let is_named = plan.peers.contains(&plan.own);
    let is_learner = members
        .get(identity.node_id)
        .is_some_and(|member| !member.is_voter);
    let joining = (is_new || (is_named && is_learner))
        .then(|| tokio::spawn(forming::join(plan, identity.node_id, links.clone())));
    Ok(Opened {
        raft,
        index,
        peer: Some(peer),
        joining,
        links,
    })
}

/// What is known once the other nodes were found.
struct Found {
    plan: Plan,
    first: First,
    desk: Arc<Desk>,
    peer: PeerServer,
    caller: Caller,
    /// Addresses of other nodes, as they were when the cluster began or as the settings have them.
    others: BTreeSet<String>,
}

/// What is damaged, if it is that which keeps a data directory from being opened.
fn damage(error: &OpenError) -> Option<String> {
    let is_damage = matches!(
        error,
        OpenError::Corrupt { .. } | OpenError::Incomplete { .. }
    );
    is_damage.then(|| error.to_string())
}

async fn find_others(
    settings: &Settings,
    dir: &Path,
    listen: &Address,
    links: &Arc<Links>,
    formats: Formats,
) -> anyhow::Result<Found> {
    let listener = bind(listen).await?;
    let address = listener.local_addr().context("read peer address")?;
    let own = match &settings.cluster.advertise {
        Some(advertise) => advertise.to_string(),
        // Port 0 is the system's choice.
        None if listen.as_str().ends_with(":0") => address.to_string(),
        None => listen.to_string(),
    };
    let plan = Plan {
        own,
        peers: settings
            .cluster
            .peers
            .iter()
            .map(ToString::to_string)
            .collect(),
    };
    let (path, expected) = (dir.to_owned(), settings.raft.expected_cluster_id);
    let opening = tokio::task::spawn_blocking(move || DataDir::open(&path, expected));
    let mut dir = opening
        .await
        .context("open data directory")?
        .context("open data directory")?;
    let standing = Standing {
        identity: *dir.identity(),
        // From the first answer on: nobody may take it for one that is free.
        belongs: dir.identity().formed || dir.is_restored() || !dir.founders().is_empty(),
        founders: dir.founders().to_vec(),
        peers: plan.peers.clone(),
        formats,
    };
    let replaces_lost = settings.cluster.replace_lost;
    let desk = Arc::new(Desk::new(standing, links.clone(), replaces_lost));
    let peer = PeerServer {
        address,
        desk: desk.clone(),
        _stop: desk::serve(listener, desk.clone()),
    };
    let first = forming::agree(&mut dir, &plan, links, &desk).await?;
    let identity = dir.identity();
    let caller = Caller {
        cluster_id: identity.cluster_id,
        node_id: identity.node_id,
        incarnation: identity.incarnation,
    };
    let founders = dir.founders().iter().map(|peer| peer.address.clone());
    let mut others: BTreeSet<String> = founders.chain(plan.peers.iter().cloned()).collect();
    others.remove(&plan.own);
    Ok(Found {
        plan,
        first,
        desk,
        peer,
        caller,
        others,
    })
}
