//! Who the members are, and how the leader changes that.
//!
//! A change is refused before anything of it happens, or it is carried through: with two members'
//! difference by joint consensus, so that two majorities never decide apart. A leader that finds
//! itself between the two steps of a change that nobody carries on, because whoever led is gone,
//! finishes it: until then every decision takes two majorities, the old members' too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Weak,
    time::Duration,
};

use memorygate_core::format::Formats;
use openraft::{
    ChangeMembers, RaftMetrics,
    error::{ChangeMembershipError, ClientWriteError, RaftError},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep, timeout},
};
use tracing::{debug, info};

use super::{Handle, Shared, Stopped, at, peer};
use crate::{
    message,
    transport::{Call, Peer, TransportError},
    types::{Node, TypeConfig},
};

/// Entries that a learner may lack to be let vote. More, and a cluster that then loses a voter waits
/// until this one has them.
const LAG_MAX: u64 = 1_000;

/// How long a change waits for a learner to catch up.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(120);

/// How long a change may take to be committed.
const COMMITTED_WITHIN: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often a leader looks whether a change was left unfinished.
const UNFINISHED_LOOK_EVERY: Duration = Duration::from_millis(500);

/// A member, as the last membership entry in this node's log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub peer: Peer,
    /// Counts for quorums; a learner only follows.
    pub is_voter: bool,
    /// Index of the last log entry known to be on its disk; only the leader knows.
    pub matched: Option<u64>,
}

/// All members, by node id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub members: Vec<Member>,
    /// Whether a change is under way.
    pub is_joint: bool,
}

impl Membership {
    fn of(metrics: &RaftMetrics<TypeConfig>) -> Self {
        let membership = metrics.membership_config.membership();
        let matched = |node_id: &u64| {
            if *node_id == metrics.id {
                return metrics.replication.as_ref().and(metrics.last_log_index);
            }
            let matched = metrics.replication.as_ref()?.get(node_id)?;
            Some(matched.as_ref().map_or(0, |log_id| log_id.index))
        };
        let members = membership.nodes().map(|(node_id, node)| Member {
            peer: Peer {
                node_id: *node_id,
                address: node.address.clone(),
            },
            is_voter: membership.voter_ids().any(|voter| voter == *node_id),
            matched: matched(node_id),
        });
        Self {
            members: members.collect(),
            is_joint: membership.get_joint_config().len() > 1,
        }
    }

    pub fn get(&self, node_id: u64) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.peer.node_id == node_id)
    }

    pub fn at(&self, address: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.peer.address == address)
    }

    pub(crate) fn voters(&self) -> usize {
        self.members.iter().filter(|member| member.is_voter).count()
    }
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// Adds a node that follows and does not vote.
    Add(Peer),
    /// Lets a learner vote, once it has caught up.
    Promote { node_id: u64 },
    /// Makes a voter a learner.
    Demote { node_id: u64 },
    /// Removes a voter or learner.
    Remove { node_id: u64 },
    /// Puts a node in the place of another, with its vote if it has one.
    Replace { old: u64, new: Peer },
}

/// A change as the leader is asked for it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) change: MemberChange,
    /// What the new member says that it reads, if that is known.
    pub(super) formats: Option<Formats>,
}

/// Why the members are what they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum MemberError {
    #[error("this node is not the leader{}", at(leader))]
    NotLeader { leader: Option<Peer> },
    #[error("node {node_id:x} is not a member: `mgctl cluster status` lists them")]
    Unknown { node_id: u64 },
    #[error(
        "{address} is member {node_id:x} already: replace that member, or choose another address"
    )]
    AddressTaken { address: String, node_id: u64 },
    #[error("node {node_id:x} is a member already, at {address}")]
    Known { node_id: u64, address: String },
    #[error("node {node_id:x} is a voter already")]
    Voter { node_id: u64 },
    #[error("node {node_id:x} does not vote")]
    Learner { node_id: u64 },
    #[error("node {node_id:x} is the last voter: without one the cluster takes no writes")]
    LastVoter { node_id: u64 },
    #[error(
        "node {node_id:x} lacks {behind} log entries, expected at most {LAG_MAX}: wait until it has \
         caught up"
    )]
    Lagging { node_id: u64, behind: u64 },
    #[error(
        "the log is written in format {format}, and node {node_id:x} {}: start a version there that \
         reads it", said(*formats)
    )]
    Format {
        node_id: u64,
        format: u8,
        formats: Option<Formats>,
    },
    #[error("another change of members is under way: wait until it is done")]
    InProgress,
    #[error("address {address:?} is not of the form host:port")]
    Address { address: String },
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// It may have been committed, or may still be.
    #[error("outcome unknown: {reason}: `mgctl cluster status` tells")]
    Outcome { reason: String },
}

impl Handle {
    /// As the last membership entry in this node's log has it, committed or not.
    pub fn membership(&self) -> Membership {
        let watched = self.shared.raft.metrics();
        let metrics = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&watched);
        Membership::of(&metrics)
    }

    /// Changes the members, by way of the leader.
    pub async fn change_members(&self, change: MemberChange) -> Result<Membership, MemberError> {
        let within = CAUGHT_UP_WITHIN + 2 * COMMITTED_WITHIN;
        let formats = change
            .newcomer()
            .and_then(|peer| self.noted_formats(peer.node_id));
        match self.metrics().leader {
            Some(leader) if leader.node_id != self.node_id() => {
                let request = message::encode(&Asked { change, formats });
                let asked = self.call(&leader, Call::ChangeMembers, request, within);
                let answer = asked.await.map_err(|error| unanswered(&error, &leader))?;
                message::decode(&answer).unwrap_or_else(|malformed| {
                    Err(MemberError::Outcome {
                        reason: malformed.to_string(),
                    })
                })
            }
            _ => self.change_members_here(change, formats).await,
        }
    }

    /// Has `node_id`, or the voter that lacks least, take over from whoever leads.
    pub async fn hand_over(&self, node_id: Option<u64>) -> Result<Peer, MemberError> {
        match self.metrics().leader {
            Some(leader) if leader.node_id != self.node_id() => {
                let request = message::encode(&node_id);
                let asked = self.call(&leader, Call::HandOver, request, 2 * COMMITTED_WITHIN);
                let answer = asked.await.map_err(|error| unanswered(&error, &leader))?;
                message::decode(&answer).unwrap_or_else(|malformed| {
                    Err(MemberError::Outcome {
                        reason: malformed.to_string(),
                    })
                })
            }
            _ => self.hand_over_here(node_id).await,
        }
    }

    /// Hands leadership over to `node_id`, or to the voter that lacks least. Done already if that
    /// node leads.
    pub(super) async fn hand_over_here(&self, node_id: Option<u64>) -> Result<Peer, MemberError> {
        if let Some(leader) = self.metrics().leader
            && self.is_leader()
            && node_id == Some(leader.node_id)
        {
            return Ok(leader);
        }
        self.transfer_leader(node_id).await
    }

    /// Hands this node's leadership over to `node_id`, or to the voter that lacks least.
    pub async fn transfer_leader(&self, node_id: Option<u64>) -> Result<Peer, MemberError> {
        self.check_running()?;
        let membership = self.membership();
        if !self.is_leader() {
            return Err(MemberError::NotLeader {
                leader: self.metrics().leader,
            });
        }
        let others = membership
            .members
            .iter()
            .filter(|member| member.is_voter && member.peer.node_id != self.node_id());
        let target = match node_id {
            None => others
                .max_by_key(|member| member.matched)
                .ok_or(MemberError::LastVoter {
                    node_id: self.node_id(),
                })?,
            Some(node_id) => {
                let member = membership
                    .get(node_id)
                    .ok_or(MemberError::Unknown { node_id })?;
                if !member.is_voter {
                    return Err(MemberError::Learner { node_id });
                }
                member
            }
        };
        let node_id = target.peer.node_id;
        let triggered = self.shared.raft.trigger().transfer_leader(node_id).await;
        triggered.map_err(|_| self.stopped())?;
        let deadline = Instant::now() + COMMITTED_WITHIN;
        while Instant::now() < deadline {
            if self
                .metrics()
                .leader
                .is_some_and(|leader| leader.node_id == node_id)
            {
                return Ok(target.peer.clone());
            }
            sleep(LOOK_EVERY).await;
        }
        Err(MemberError::Outcome {
            reason: format!("node {node_id:x} did not become the leader in {COMMITTED_WITHIN:?}"),
        })
    }

    pub(super) async fn change_members_here(
        &self,
        change: MemberChange,
        formats: Option<Formats>,
    ) -> Result<Membership, MemberError> {
        self.check_running()?;
        if !self.is_leader() {
            return Err(MemberError::NotLeader {
                leader: self.metrics().leader,
            });
        }
        let Ok(_one_at_a_time) = self.shared.member_change.try_lock() else {
            return Err(MemberError::InProgress);
        };
        self.finish_change().await?;
        let members = self.membership();
        if let Some(peer) = change.newcomer()
            && members.get(peer.node_id).is_none()
        {
            self.check_formats(peer.node_id, formats)?;
        }
        match change {
            MemberChange::Add(peer) => {
                if let Some(known) = members.get(peer.node_id) {
                    return known_again(known, &peer).map(|()| members.clone());
                }
                check_address(&peer, &members, None)?;
                self.add(&peer).await?;
            }
            MemberChange::Promote { node_id } => {
                let member = members
                    .get(node_id)
                    .ok_or(MemberError::Unknown { node_id })?;
                if member.is_voter {
                    return Err(MemberError::Voter { node_id });
                }
                self.check_caught_up(node_id)?;
                let promote = ChangeMembers::AddVoterIds([node_id].into());
                self.commit(promote, true).await?;
            }
            MemberChange::Demote { node_id } => {
                check_not_last(&members, node_id)?;
                let member = members
                    .get(node_id)
                    .ok_or(MemberError::Unknown { node_id })?;
                if !member.is_voter {
                    return Err(MemberError::Learner { node_id });
                }
                let demote = ChangeMembers::RemoveVoters([node_id].into());
                self.commit(demote, true).await?;
            }
            MemberChange::Remove { node_id } => {
                let member = members
                    .get(node_id)
                    .ok_or(MemberError::Unknown { node_id })?;
                if member.is_voter {
                    check_not_last(&members, node_id)?;
                    let remove = ChangeMembers::RemoveVoters([node_id].into());
                    self.commit(remove, false).await?;
                } else {
                    let remove = ChangeMembers::RemoveNodes([node_id].into());
                    self.commit(remove, false).await?;
                }
            }
            MemberChange::Replace { old, new } => self.replace(&members, old, &new).await?,
        }
        Ok(self.membership())
    }

    async fn replace(&self, members: &Membership, old: u64, new: &Peer) -> Result<(), MemberError> {
        let Some(leaving) = members.get(old) else {
            return Err(MemberError::Unknown { node_id: old });
        };
        match members.get(new.node_id) {
            Some(known) if known.is_voter => {
                return Err(MemberError::Voter {
                    node_id: new.node_id,
                });
            }
            Some(known) => known_again(known, new)?,
            None => {
                check_address(new, members, Some(old))?;
                self.add(new).await?;
            }
        }
        if !leaving.is_voter {
            let remove = ChangeMembers::RemoveNodes([old].into());
            return self.commit(remove, false).await;
        }
        let deadline = Instant::now() + CAUGHT_UP_WITHIN;
        while let Err(lagging) = self.check_caught_up(new.node_id) {
            if Instant::now() >= deadline {
                return Err(lagging);
            }
            sleep(LOOK_EVERY).await;
        }
        let swap = ChangeMembers::Batch(vec![
            ChangeMembers::AddVoterIds([new.node_id].into()),
            ChangeMembers::RemoveVoters([old].into()),
        ]);
        self.commit(swap, false).await
    }

    /// Takes the second step of a change whose first was taken by a leader that is gone, or for a
    /// caller that is. Nobody else may be changing members.
    async fn finish_change(&self) -> Result<(), MemberError> {
        let Some(left) = self.unfinished() else {
            return Ok(());
        };
        // What was asked for is not in the log. Who leaves as another comes was replaced, and its
        // address may be the other's already; one that leaves alone was demoted or removed, and as
        // a learner it can still be either.
        let is_replacement = left.comes && left.leaves;
        let no_other = ChangeMembers::AddVoterIds(BTreeSet::new());
        self.commit(no_other, !is_replacement).await?;
        info!("a change of members that was interrupted is finished");
        Ok(())
    }

    fn unfinished(&self) -> Option<Unfinished> {
        let watched = self.shared.raft.metrics();
        let metrics = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&watched);
        let configs = metrics.membership_config.membership().get_joint_config();
        let [before, after] = configs.as_slice() else {
            return None;
        };
        Some(Unfinished {
            comes: !after.is_subset(before),
            leaves: !before.is_subset(after),
        })
    }

    pub(crate) async fn add(&self, peer: &Peer) -> Result<(), MemberError> {
        let node = Node {
            address: peer.address.clone(),
        };
        let nodes = BTreeMap::from([(peer.node_id, node)]);
        self.commit(ChangeMembers::AddNodes(nodes), true).await
    }

    /// Whether a member may vote, as far as the leader knows. One that is not seen to hold anything
    /// has not caught up however short the log is: with its vote, nothing might be committed until it
    /// answers.
    fn check_caught_up(&self, node_id: u64) -> Result<(), MemberError> {
        let membership = self.membership();
        let matched = membership
            .get(node_id)
            .and_then(|member| member.matched)
            .unwrap_or(0);
        let behind = self.metrics().last_log.saturating_sub(matched);
        if matched > 0 && behind <= LAG_MAX {
            return Ok(());
        }
        Err(MemberError::Lagging { node_id, behind })
    }

    async fn commit(
        &self,
        change: ChangeMembers<u64, Node>,
        retain: bool,
    ) -> Result<(), MemberError> {
        let changing = self.shared.raft.change_membership(change, retain);
        let outcome = |reason: String| MemberError::Outcome { reason };
        match timeout(COMMITTED_WITHIN, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Err(MemberError::NotLeader {
                    leader: peer(forward),
                })
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            )))) => Err(MemberError::InProgress),
            Ok(Err(RaftError::APIError(error))) => Err(outcome(error.to_string())),
            Ok(Err(RaftError::Fatal(_))) => Err(self.stopped().into()),
            Err(_) => Err(outcome(format!("not committed in {COMMITTED_WITHIN:?}"))),
        }
    }
}

/// A change of which one step of two is in the log.
struct Unfinished {
    /// Whether somebody gets a vote by it.
    comes: bool,
    /// Whether somebody loses one.
    leaves: bool,
}

/// Finishes what was left unfinished while this node leads.
pub(super) async fn keep_finishing(shared: Weak<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut ticks = interval(UNFINISHED_LOOK_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let handle = Handle { shared };
        if !handle.is_leader() || handle.unfinished().is_none() {
            continue;
        }
        // Whoever has it is between the steps.
        let Ok(_one_at_a_time) = handle.shared.member_change.try_lock() else {
            continue;
        };
        if let Err(error) = handle.finish_change().await {
            debug!(%error, "an interrupted change of members is not finished yet");
        }
    }
}

fn unanswered(error: &TransportError, leader: &Peer) -> MemberError {
    if error.is_undelivered() {
        MemberError::NotLeader {
            leader: Some(leader.clone()),
        }
    } else {
        MemberError::Outcome {
            reason: error.to_string(),
        }
    }
}

impl MemberChange {
    /// The node that becomes a member by this.
    fn newcomer(&self) -> Option<&Peer> {
        match self {
            Self::Add(peer) | Self::Replace { new: peer, .. } => Some(peer),
            Self::Promote { .. } | Self::Demote { .. } | Self::Remove { .. } => None,
        }
    }
}

fn said(formats: Option<Formats>) -> String {
    match formats {
        Some(formats) => format!("reads {formats}"),
        None => "has not said what it reads".to_owned(),
    }
}

/// The same member may be added again, since a caller may not have heard that it was.
fn known_again(known: &Member, again: &Peer) -> Result<(), MemberError> {
    if known.peer == *again {
        return Ok(());
    }
    Err(MemberError::Known {
        node_id: known.peer.node_id,
        address: known.peer.address.clone(),
    })
}

fn check_address(
    peer: &Peer,
    members: &Membership,
    except: Option<u64>,
) -> Result<(), MemberError> {
    let address = peer.address.clone();
    let is_plausible = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !is_plausible {
        return Err(MemberError::Address { address });
    }
    match members.at(&address) {
        Some(taken) if Some(taken.peer.node_id) != except => Err(MemberError::AddressTaken {
            address,
            node_id: taken.peer.node_id,
        }),
        Some(_) | None => Ok(()),
    }
}

fn check_not_last(members: &Membership, node_id: u64) -> Result<(), MemberError> {
    let is_last = members.voters() == 1 && members.get(node_id).is_some_and(|m| m.is_voter);
    if is_last {
        Err(MemberError::LastVoter { node_id })
    } else {
        Ok(())
    }
}
