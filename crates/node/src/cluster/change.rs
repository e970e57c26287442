//! Changes of the members and of who leads, as an operator asks for them.
//!
//! Whoever is named by an address is asked first who it is, so that a mistyped address changes
//! nothing. What is so already is no error, because a caller may not have heard that it is.

use memorygate_proto::v1;
use memorygate_raft::{MemberChange, MemberError, Membership, Peer};
use tracing::info;

use super::Cluster;
use crate::{
    deadline::Deadline,
    error::{Error, Outcome},
    peer::{cluster_id, formats},
};

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Lets a node that waits at this address follow.
    Add {
        address: String,
    },
    Promote(u64),
    Demote(u64),
    Remove(u64),
    /// Puts the node that waits at this address in the place of `old`.
    Replace {
        old: u64,
        address: String,
    },
}

impl Cluster {
    /// Changes one member, by way of the leader, and answers who the members are then.
    pub async fn change(
        &self,
        change: Change,
        deadline: Deadline,
    ) -> Result<v1::MembersResponse, Error> {
        let (change, new) = match change {
            Change::Add { address } => {
                let new = self.newcomer(address, deadline).await?;
                (MemberChange::Add(new.clone()), Some(new))
            }
            Change::Promote(node_id) => (MemberChange::Promote { node_id }, None),
            Change::Demote(node_id) => (MemberChange::Demote { node_id }, None),
            Change::Remove(node_id) => (MemberChange::Remove { node_id }, None),
            Change::Replace { old, address } => {
                let new = self.newcomer(address, deadline).await?;
                let change = MemberChange::Replace {
                    old,
                    new: new.clone(),
                };
                (change, Some(new))
            }
        };
        let waiting = "waiting for the change of members to be committed";
        let changing = self.backend.raft.change_members(change.clone());
        let changed = deadline.limit(waiting, Outcome::Unknown, changing).await?;
        let members = match changed {
            Ok(members) => members,
            Err(error) => {
                let known = self.backend.raft.membership();
                if !is_so_already(&change, &error, &known, new.as_ref()) {
                    return Err(error.into());
                }
                known
            }
        };
        info!(?change, "members are changed");
        Ok(self.members_of(&members))
    }

    /// Has another voter lead; the one that is furthest if it is not said which.
    pub async fn transfer(
        &self,
        to: Option<u64>,
        deadline: Deadline,
    ) -> Result<v1::TransferLeaderResponse, Error> {
        let waiting = "waiting for the new leader";
        let handing_over = self.backend.raft.hand_over(to);
        let leader = deadline
            .limit(waiting, Outcome::Unknown, handing_over)
            .await??;
        info!(to = leader.address, "leadership is handed over");
        Ok(v1::TransferLeaderResponse {
            leader: format!("{:016x}", leader.node_id),
            term: self.backend.raft.metrics().term,
        })
    }

    /// Who waits at an address to become a member.
    async fn newcomer(&self, address: String, deadline: Deadline) -> Result<Peer, Error> {
        let waiting = "asking the new node who it is";
        let asked = self.links.hello(&address);
        let there = match deadline.limit(waiting, Outcome::Failed, asked).await? {
            Ok(there) => there,
            Err(error) => {
                let reason = error.to_string();
                return Err(Error::NobodyThere { address, reason });
            }
        };
        let here = self.backend.raft.identity().cluster_id;
        let reason = match cluster_id(&there.cluster_id) {
            Some(cluster_id) if cluster_id == here => {
                let node_id = there.node_id;
                if let Some(formats) = formats(there.log_format_min, there.log_format_max) {
                    self.backend.raft.note_formats(node_id, formats);
                }
                return Ok(Peer { node_id, address });
            }
            Some(other) => format!(
                "it belongs to cluster {other}, not {here}: empty its data directory if it should \
                 change clusters"
            ),
            None => "it belongs to no cluster yet: start it with --peers that name a member of \
                     this one"
                .to_owned(),
        };
        Err(Error::Foreign { address, reason })
    }
}

/// Whether what was asked for is refused only because it is so.
fn is_so_already(
    change: &MemberChange,
    error: &MemberError,
    known: &Membership,
    new: Option<&Peer>,
) -> bool {
    match (change, error) {
        (MemberChange::Promote { .. }, MemberError::Voter { .. })
        | (MemberChange::Demote { .. }, MemberError::Learner { .. }) => true,
        // The one that was to go is gone, and the other is in its place.
        (MemberChange::Replace { old, .. }, MemberError::Unknown { node_id }) => {
            let member = new.and_then(|new| known.get(new.node_id));
            old == node_id && member.is_some_and(|member| Some(&member.peer) == new)
        }
        _ => false,
    }
}
