//! Whether this node lives and is ready, and the gauges that mirror its state.

use std::{
    fs,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use memorygate_index::embed::pool;

use crate::{
    backend::Backend,
    cluster::{Cluster, alarms::Kind},
    telemetry::metrics::{Metrics, label},
};

/// One thing that must be well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    /// Why it is not.
    pub failure: Option<String>,
    /// Whether the whole fails with it.
    pub decides: bool,
}

pub type Checks = Vec<Check>;

/// Answers from the first moment; until there is a backend the node is alive and not ready.
pub struct Health {
    metrics: Arc<Metrics>,
    cluster: OnceLock<Arc<Cluster>>,
    is_stopping: AtomicBool,
}

impl Health {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            cluster: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// The node has started; called once.
    pub fn started(&self, cluster: Arc<Cluster>) {
        assert!(self.cluster.set(cluster).is_ok(), "a node starts once");
    }

    fn backend(&self) -> Option<&Arc<Backend>> {
        self.cluster.get().map(|cluster| cluster.backend())
    }

    /// The node finishes what it has and takes nothing new.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// What a restart would mend.
    pub fn live(&self) -> Checks {
        let backend = self.backend();
        let fatal = backend.and_then(|b| {
            let fatal = b.raft.fatal().borrow().as_ref().map(ToString::to_string);
            fatal.or_else(|| b.storage_failure.borrow().clone())
        });
        let index = backend.and_then(|b| b.index.failure());
        vec![
            Check {
                name: "raft",
                failure: fatal,
                decides: true,
            },
            Check {
                name: "index",
                failure: index,
                decides: true,
            },
        ]
    }

    /// What this node can be asked for now.
    pub fn ready(&self) -> Checks {
        let Some(backend) = self.backend() else {
            let starting = Some("node is starting".to_owned());
            let check = |name, failure| Check {
                name,
                failure,
                decides: true,
            };
            return vec![
                check("raft", starting.clone()),
                check("index", starting),
                check("drain", None),
                check("disk", None),
            ];
        };
        let raft = if self.is_stopping.load(Ordering::Relaxed) {
            Some("node is stopping".to_owned())
        } else if let Some(fatal) = backend.raft.fatal().borrow().as_ref() {
            Some(fatal.to_string())
        } else if backend.raft.metrics().leader.is_none() {
            Some("no leader is known".to_owned())
        } else {
            backend.catch_up.state_lacks(backend.raft.position())
        };
        let index = backend
            .index
            .failure()
            .or_else(|| backend.index.not_ready())
            .or_else(|| backend.catch_up.index_lacks(backend.index.position()));
        let drain = backend.drain.is_draining();
        let drain = drain.then(|| "node is draining: it takes no writes".to_owned());
        let own = backend.raft.storage_full().map(|full| full.to_string());
        let full = own.or_else(|| backend.raft.refuses_writes().map(|full| full.to_string()));
        let disk = full.map(|full| format!("writes are refused: {full}"));
        vec![
            Check {
                name: "raft",
                failure: raft,
                decides: true,
            },
            Check {
                name: "index",
                failure: index,
                decides: true,
            },
            Check {
                name: "drain",
                failure: drain,
                decides: true,
            },
            Check {
                name: "disk",
                failure: disk,
                decides: false,
            },
        ]
    }

    /// Everything that Prometheus is told. Reads the state, so it blocks.
    pub fn metrics(&self) -> Vec<u8> {
        let metrics = &self.metrics;
        for check in self.ready() {
            let ready = i64::from(check.failure.is_none());
            metrics.ready.with_label_values(&[check.name]).set(ready);
        }
        if let Some(bytes) = resident_bytes() {
            metrics.resident_bytes.set(bytes);
        }
        if let Some(cluster) = self.cluster.get() {
            mirror(cluster.backend(), metrics);
            mirror_cluster(cluster, metrics);
        }
        metrics.encode()
    }
}

fn mirror(backend: &Backend, metrics: &Metrics) {
    let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let raft = backend.raft.metrics();
    let indexed = backend.index.position();
    for (of, index) in [
        ("last_log", raft.last_log),
        ("committed", raft.committed),
        ("applied", raft.applied),
        ("snapshot", raft.snapshot),
        ("indexed", indexed),
    ] {
        metrics.positions.with_label_values(&[of]).set(gauge(index));
    }
    metrics
        .index_lag
        .set(gauge(raft.applied.saturating_sub(indexed)));
    metrics.disk_free_bytes.set(gauge(raft.disk_free_bytes));
    metrics
        .proposals_in_flight
        .set(gauge(raft.in_flight as u64));
    metrics.leader.set(i64::from(backend.raft.is_leader()));
    metrics
        .storage_full
        .set(i64::from(backend.raft.storage_full().is_some()));
    metrics
        .recall_queue
        .set(gauge(backend.recalls.waiting() as u64));
    for kind in [pool::Kind::Memory, pool::Kind::Query] {
        let queued = backend.embedder.queued_texts(kind);
        metrics
            .embed_queue
            .with_label_values(&[label(kind)])
            .set(gauge(queued as u64));
    }
    if let Ok(namespaces) = backend.raft.state().snapshot().namespaces() {
        metrics.namespaces.set(gauge(namespaces.len() as u64));
        metrics.memories.set(gauge(
            namespaces.iter().map(|(_, info)| info.memories).sum(),
        ));
    }
}

fn mirror_cluster(cluster: &Cluster, metrics: &Metrics) {
    let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let backend = cluster.backend();
    let raft = backend.raft.metrics();
    metrics.term.set(gauge(raft.term));
    let draining = backend.drain.is_draining();
    metrics.draining.set(i64::from(draining));
    let writes = backend.drain.writes_in_flight();
    metrics.writes_in_flight.set(gauge(writes));
    let members = cluster.lags();
    let voters = members.iter().filter(|(member, _)| member.is_voter).count();
    for (kind, count) in [("voter", voters), ("learner", members.len() - voters)] {
        let members = metrics.members.with_label_values(&[kind]);
        members.set(gauge(count as u64));
    }
    // Whoever is no member any more has no line.
    metrics.member_lag.reset();
    for (member, lag) in members {
        let node = format!("{:016x}", member.peer.node_id);
        if let Some(lag) = lag {
            let gauge_of_it = metrics.member_lag.with_label_values(&[&node]);
            gauge_of_it.set(gauge(lag));
        }
    }
    let alarms = cluster.alarms();
    for kind in Kind::ALL {
        let active = alarms.iter().filter(|alarm| alarm.kind == kind).count();
        let alarms = metrics.alarms.with_label_values(&[kind.as_str()]);
        alarms.set(gauge(active as u64));
    }
}

/// What the operating system keeps of this process in memory; `None` where it does not say.
fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
