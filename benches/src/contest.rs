//! Two clusters of three on this machine, asked to do the same: MemoryGate and etcd.
//!
//! ```text
//!             ┌─ memorygate ×3   Learn(experience with its vector)   Get
//! callers ────┤
//!             └─ etcd ×3         Put(key, the same bytes)            Range
//! ```
//!
//! Every server is a process of its own with its data on the same disk; callers, connections and the
//! way a call is made are the same for both.

pub(crate) mod etcd;
pub(crate) mod memorygate;
pub(crate) mod values;

use std::{fs, time::Duration};

use anyhow::Context as _;
use rustix::param::clock_ticks_per_second;
use tonic::{Status, transport::Channel};

use self::{etcd::Etcd, memorygate::MemoryGate};
use crate::rpc;

/// Nodes of each cluster.
pub(crate) const NODES: usize = 3;

/// Connections to one node that its callers share.
const CONNECTIONS: usize = 8;

/// Milliseconds between a leader's heartbeats, of both.
pub(crate) const HEARTBEAT_MS: u64 = 200;

/// The election timeout of both: after so many milliseconds without a word from the leader, at least,
/// a follower stands for election. Each draws a random time on top.
pub(crate) const ELECTION_TIMEOUT_MS: u64 = 1_000;

/// What was written where, so that it can be read.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The memory's key, or the key in etcd.
    pub(crate) key: String,
    /// How far the log of MemoryGate was; etcd has no such token.
    pub(crate) position: Option<memorygate_proto::v1::Position>,
}

/// How a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As of a moment after it began.
    Linearizable,
    /// At least as of the write that is read.
    Session,
}

/// A cluster whose nodes run.
pub(crate) enum Contender {
    MemoryGate(MemoryGate),
    Etcd(Etcd),
}

impl Contender {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::MemoryGate(_) => "memorygate",
            Self::Etcd(_) => "etcd",
        }
    }

    /// What its keys in the report begin with.
    pub(crate) fn prefix(&self) -> &'static str {
        match self {
            Self::MemoryGate(_) => "",
            Self::Etcd(_) => "etcd_",
        }
    }

    /// Connections of its own for so many callers.
    pub(crate) fn lines(&self) -> anyhow::Result<Lines> {
        let endpoints = match self {
            Self::MemoryGate(cluster) => cluster.endpoints(),
            Self::Etcd(cluster) => cluster.endpoints(),
        };
        Ok(Lines {
            is_etcd: matches!(self, Self::Etcd(_)),
            ..Lines::to(&endpoints)?
        })
    }

    /// Which node leads now, if one does.
    pub(crate) async fn leader(&self) -> anyhow::Result<Option<usize>> {
        match self {
            Self::MemoryGate(cluster) => Ok(cluster.leader().await),
            Self::Etcd(cluster) => cluster.leader().await,
        }
    }

    /// Kills one node with SIGKILL.
    pub(crate) fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        match self {
            Self::MemoryGate(cluster) => cluster.nodes[node].kill(),
            Self::Etcd(cluster) => cluster.kill(node),
        }
    }

    /// Starts a node that was killed and waits until it takes part again.
    pub(crate) async fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        match self {
            Self::MemoryGate(cluster) => cluster.nodes[node].restart().await.map(drop),
            Self::Etcd(cluster) => cluster.restart(node).await,
        }
    }

    /// Waits until nothing is left to do from what was written, such as indexing it.
    pub(crate) async fn settle(&self) -> anyhow::Result<Duration> {
        match self {
            Self::MemoryGate(cluster) => cluster.settle().await,
            Self::Etcd(_) => Ok(Duration::ZERO),
        }
    }

    /// Processor time of each node so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Vec<Duration>> {
        let ids = match self {
            Self::MemoryGate(cluster) => cluster.process_ids()?,
            Self::Etcd(cluster) => cluster.process_ids()?,
        };
        ids.into_iter().map(cpu_of).collect()
    }
}

/// Connections to all nodes of a cluster.
#[derive(Clone)]
pub(crate) struct Lines {
    channels: Vec<Vec<Channel>>,
    is_etcd: bool,
}

impl Lines {
    /// Connections to servers of ours.
    pub(crate) fn to(endpoints: &[String]) -> anyhow::Result<Self> {
        let channels = endpoints.iter().map(|endpoint| {
            let channels = (0..CONNECTIONS).map(|_| rpc::connect(endpoint));
            channels.collect::<anyhow::Result<Vec<_>>>()
        });
        Ok(Self {
            channels: channels.collect::<anyhow::Result<_>>()?,
            is_etcd: false,
        })
    }

    /// The connection of caller `caller` to `node`.
    fn channel(&self, node: usize, caller: usize) -> &Channel {
        let channels = &self.channels[node % self.channels.len()];
        &channels[caller / self.channels.len() % channels.len()]
    }

    /// Stores a value and returns when it is durable on a quorum.
    pub(crate) async fn write(
        &self,
        node: usize,
        caller: usize,
        value: values::Value,
    ) -> Result<Written, Status> {
        let channel = self.channel(node, caller);
        if self.is_etcd {
            etcd::put(channel, value).await
        } else {
            memorygate::learn(channel, value).await
        }
    }

    /// Reads what was written; it must be there.
    pub(crate) async fn read(
        &self,
        node: usize,
        caller: usize,
        written: &Written,
        reading: Reading,
    ) -> Result<(), Status> {
        let channel = self.channel(node, caller);
        if self.is_etcd {
            etcd::range(channel, written).await
        } else {
            memorygate::get(channel, written, reading).await
        }
    }
}

/// Processor time of a process: its own and the system's for it.
fn cpu_of(process_id: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat"));
    let stat = stat.context("read the processor time of a server")?;
    let ticks = ticks_of(&stat).context("read the processor time of a server")?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / clock_ticks_per_second() as f64,
    ))
}

/// `utime` and `stime`, the 14th and 15th field. The second is the program's name in brackets, which
/// may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 1";
        assert_eq!(ticks_of(stat), Some(200));
        assert_eq!(ticks_of("7 (a"), None);
        assert!(cpu_of(std::process::id()).is_ok());
    }
}
