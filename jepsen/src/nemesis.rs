//! What breaks, and how it is seen that it did.
//!
//! Each fault is one function that breaks something, looks for the evidence, holds it for a while and
//! mends it. A fault without evidence did not happen, and a run in which a chosen fault never
//! happened proves nothing.

mod amnesia;
mod clock;
mod corrupt;
mod disk_full;
mod kill;
mod links;
mod members;
mod partition;
mod pause;
mod power_cut;
mod sync_fails;
mod upgrade;
mod wipe;

use std::time::Duration;

use clap::ValueEnum;
use rand::{Rng as _, rngs::StdRng};

use crate::cluster::Cluster;

/// What a fault needs of the machine or the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The library under the servers.
    pub preload: bool,
    /// Links through the proxy.
    pub proxy: bool,
    /// Small disks, which need root.
    pub small_disks: bool,
    /// A server that reads a newer format of the log.
    pub newer_server: bool,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Nemesis {
    KillOne,
    KillMajority,
    KillAll,
    Pause,
    PartitionHalves,
    MajorityRing,
    OneWay,
    LeaderAlone,
    Flapping,
    Delay,
    Loss,
    Reorder,
    Churn,
    Transfer,
    DiskFull,
    Wipe,
    Amnesia,
    Clock,
    Corrupt,
    PowerCut,
    SyncFails,
    Upgrade,
}

/// Whether a fault took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What was seen of it.
    Seen(String),
    /// Why it is as if it had not been.
    Nothing(String),
}

/// All that a fault works with.
pub struct Scene<'a> {
    pub cluster: &'a mut Cluster,
    pub random: &'a mut StdRng,
    /// How long something stays broken.
    pub hold: Duration,
    /// How long the cluster may take to be well again.
    pub recovery: Duration,
}

impl Scene<'_> {
    /// Any node.
    fn any(&mut self) -> usize {
        let count = self.cluster.count();
        self.random.random_range(0..count)
    }

    /// The leader half of the time, or else any node.
    async fn victim(&mut self) -> usize {
        if self.random.random_bool(0.5)
            && let Some(leader) = self.cluster.leader().await
        {
            return leader;
        }
        self.any()
    }

    /// All nodes in a random order.
    fn shuffled(&mut self) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..self.cluster.count()).collect();
        for at in (1..nodes.len()).rev() {
            nodes.swap(at, self.random.random_range(0..=at));
        }
        nodes
    }
}

impl Nemesis {
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        let value = value.expect("no variant is hidden");
        value.get_name().to_owned()
    }

    /// What it does, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Self::KillOne => "SIGKILL of one node, the leader half of the time",
            Self::KillMajority => "SIGKILL of a majority at once",
            Self::KillAll => "SIGKILL of all nodes at once",
            Self::Pause => {
                "SIGSTOP of one node or a majority, the leader half of the time; SIGCONT later"
            }
            Self::PartitionHalves => "a majority and a minority do not reach each other",
            Self::MajorityRing => "each node reaches a majority, and no two the same one",
            Self::OneWay => "what one node sends does not arrive, or nothing arrives at it",
            Self::LeaderAlone => "the leader reaches nobody; clients still reach it",
            Self::Flapping => "links are cut and mended again and again, faster than elections",
            Self::Delay => "every frame between members comes later, by up to 150 ms (proxy)",
            Self::Loss => "a tenth of the frames come after a retransmission timeout (proxy)",
            Self::Reorder => "data of one call overtakes that of another (proxy)",
            Self::Churn => "a member is removed, wiped, added anew and promoted",
            Self::Transfer => "another voter is made the leader",
            Self::DiskFull => "a node's file system has no byte left (small disk; root)",
            Self::Wipe => "a killed node loses its directory, and its successor takes its place",
            Self::Amnesia => {
                "those that lag and one that lost its disk are alone: no majority of them"
            }
            Self::Clock => "wall clocks jump by up to an hour, back and forth (preload library)",
            Self::Corrupt => {
                "bytes of a killed node's log, state or snapshot are changed; then it is replaced"
            }
            Self::PowerCut => "killed nodes lose every write that was not synced (preload library)",
            Self::SyncFails => {
                "a node's disk refuses to sync; the node ends by itself (preload library)"
            }
            Self::Upgrade => "nodes are replaced one by one by a newer program (--newer-server)",
        }
    }

    pub fn needs(self) -> Needs {
        let none = Needs::default();
        match self {
            Self::Delay | Self::Loss | Self::Reorder => Needs {
                proxy: true,
                ..none
            },
            Self::DiskFull => Needs {
                small_disks: true,
                ..none
            },
            Self::Clock | Self::PowerCut | Self::SyncFails => Needs {
                preload: true,
                ..none
            },
            Self::Upgrade => Needs {
                newer_server: true,
                ..none
            },
            Self::KillOne
            | Self::KillMajority
            | Self::KillAll
            | Self::Pause
            | Self::PartitionHalves
            | Self::MajorityRing
            | Self::OneWay
            | Self::LeaderAlone
            | Self::Flapping
            | Self::Churn
            | Self::Transfer
            | Self::Wipe
            | Self::Amnesia
            | Self::Corrupt => none,
        }
    }

    /// Whether a node may end by itself for it: one that cannot store or must not trust its disk.
    pub fn excuses_exits(self) -> bool {
        matches!(
            self,
            Self::DiskFull | Self::Corrupt | Self::Churn | Self::Wipe | Self::Amnesia
        )
    }

    /// Breaks, looks, holds and mends. An error is the harness's own.
    pub async fn strike(self, mut scene: Scene<'_>) -> anyhow::Result<Effect> {
        let scene = &mut scene;
        match self {
            Self::KillOne => kill::strike(scene, kill::Who::One).await,
            Self::KillMajority => kill::strike(scene, kill::Who::Majority).await,
            Self::KillAll => kill::strike(scene, kill::Who::All).await,
            Self::Pause => pause::strike(scene).await,
            Self::PartitionHalves => partition::strike(scene, partition::Shape::Halves).await,
            Self::MajorityRing => partition::strike(scene, partition::Shape::Ring).await,
            Self::OneWay => partition::strike(scene, partition::Shape::OneWay).await,
            Self::LeaderAlone => partition::strike(scene, partition::Shape::LeaderAlone).await,
            Self::Flapping => partition::flap(scene).await,
            Self::Delay => links::strike(scene, links::Trouble::Delay).await,
            Self::Loss => links::strike(scene, links::Trouble::Loss).await,
            Self::Reorder => links::strike(scene, links::Trouble::Reorder).await,
            Self::Churn => members::churn(scene).await,
            Self::Transfer => members::transfer(scene).await,
            Self::DiskFull => disk_full::strike(scene).await,
            Self::Wipe => wipe::strike(scene).await,
            Self::Amnesia => amnesia::strike(scene).await,
            Self::Clock => clock::strike(scene).await,
            Self::Corrupt => corrupt::strike(scene).await,
            Self::PowerCut => power_cut::strike(scene).await,
            Self::SyncFails => sync_fails::strike(scene).await,
            Self::Upgrade => upgrade::strike(scene).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_and_a_line() {
        let names: Vec<String> = Nemesis::all().iter().map(|n| n.name()).collect();
        assert_eq!(names.len(), 22);
        assert!(names.contains(&"kill-one".to_owned()), "{names:?}");
        assert!(Nemesis::all().iter().all(|n| n.about().len() < 90));
    }
}
