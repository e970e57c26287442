//! Whether all members hold the same: a marker in the log names a position, each member reads its
//! whole state as of there from its disk, and what they found is compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use memorygate_proto::v1;
use memorygate_raft::{DigestError, Membership, Peer};
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::{
    ALARM_WITHIN, Cluster,
    alarms::{Alarm, Kind},
    by_address, condemning,
};
use crate::{
    deadline::Deadline,
    error::{Error, Outcome},
    wire::write,
};

/// How long a member may take to read its whole state, however long the caller waits.
const READ_WITHIN: Duration = Duration::from_secs(600);

/// A member that cannot be reached is tried again so long: it may have been cut off a moment ago, and
/// then the connection to it is not made anew yet.
const REACHED_WITHIN: Duration = Duration::from_secs(3);

const REACH_EVERY: Duration = Duration::from_millis(200);

impl Cluster {
    /// Has every member read its state at one position. Those that differ from the others are named
    /// by an alarm, and are out of service if most members are right.
    pub async fn verify(&self, deadline: Deadline) -> Result<v1::VerifyResponse, Error> {
        let waiting = "waiting for a marker to be committed";
        let marking = self.backend.raft.mark();
        let position = deadline.limit(waiting, Outcome::Failed, marking).await??;
        let membership = self.backend.raft.membership();
        let members = by_address(&membership);
        let within = deadline.left().min(READ_WITHIN);
        let asked = members
            .iter()
            .map(|member| self.digest_of(&member.peer, position, within));
        let members = join_all(asked).await;
        let compared = compare(&members);
        for node_id in &compared.differing {
            let alarm = Alarm {
                node_id: *node_id,
                kind: Kind::Diverged,
                reason: format!(
                    "its state at position {position} differs from what the others hold or from \
                     what it has counted itself"
                ),
                remedy: "check its disk; then empty its data directory and let it join as a new \
                         member; keep a copy if the others may be wrong"
                    .to_owned(),
                since: self.backend.clock.now(),
            };
            self.raise(alarm.clone()).await;
            if compared.is_certain {
                self.condemn(alarm, &membership).await;
            }
        }
        Ok(v1::VerifyResponse {
            position: Some(write::position(self.backend.position(position))),
            members,
            is_equal: compared.is_equal,
            different_namespaces: compared.different_namespaces.into_iter().collect(),
        })
    }

    /// Has a member stop that is wrong for certain.
    async fn condemn(&self, alarm: Alarm, membership: &Membership) {
        if alarm.node_id == self.node_id() {
            return self.condemn_here(alarm).await;
        }
        let Some(member) = membership.get(alarm.node_id) else {
            return;
        };
        let request = condemning(&alarm);
        let told = self.links.alarm(&member.peer, request, ALARM_WITHIN);
        if let Err(error) = told.await {
            warn!(%error, "member that differs from the others was not stopped");
        }
    }

    /// This node is wrong for certain: it stops, and does not serve what it holds again.
    pub(crate) async fn condemn_here(&self, alarm: Alarm) {
        self.raise_here(alarm.clone());
        let raft = self.backend.raft.clone();
        let condemning = tokio::task::spawn_blocking(move || raft.condemn(&alarm.reason));
        if let Err(error) = condemning.await {
            warn!(%error, "node that differs from the others was not stopped");
        }
    }

    async fn digest_of(&self, member: &Peer, position: u64, within: Duration) -> v1::MemberDigest {
        let node_id = format!("{:016x}", member.node_id);
        let unreachable = |reason: String| v1::MemberDigest {
            node_id: node_id.clone(),
            unreachable: reason,
            ..v1::MemberDigest::default()
        };
        if member.node_id == self.node_id() {
            return match timeout(within, self.own_digest(position)).await {
                Ok(Ok(digest)) => digest,
                Ok(Err(error)) => unreachable(error.to_string()),
                Err(_) => unreachable(format!("it did not read its state within {within:?}")),
            };
        }
        let patience = Instant::now() + REACHED_WITHIN.min(within);
        let answer = loop {
            match self.links.digest(member, position, within).await {
                Ok(answer) => break answer,
                Err(error) if error.is_undelivered() && Instant::now() < patience => {
                    sleep(REACH_EVERY).await;
                }
                Err(error) => return unreachable(error.to_string()),
            }
        };
        match v1::MemberDigest::decode(answer.digest) {
            Ok(digest) if digest.node_id == node_id => digest,
            Ok(digest) => unreachable(format!("it speaks of node {:?}", digest.node_id)),
            Err(error) => unreachable(error.to_string()),
        }
    }

    /// What another member is told that asks.
    pub(crate) async fn answer_digest(&self, position: u64) -> Result<v1::MemberDigest, String> {
        match timeout(READ_WITHIN, self.own_digest(position)).await {
            Ok(digest) => digest.map_err(|error| error.to_string()),
            Err(_) => Err(format!("state was not read within {READ_WITHIN:?}")),
        }
    }

    async fn own_digest(&self, position: u64) -> Result<v1::MemberDigest, DigestError> {
        let read = self.backend.raft.digests_at(position).await?;
        let namespaces = read.found.by_name().into_iter();
        Ok(v1::MemberDigest {
            node_id: self.node_id_text(),
            unreachable: String::new(),
            state_hash: read.found.all.to_string(),
            matches_own_count: read.is_as_counted(),
            namespaces: namespaces
                .map(|(name, digest)| (name, digest.to_string()))
                .collect(),
            rows: read.found.rows,
        })
    }
}

/// What the digests of all members say together.
#[derive(Debug, PartialEq, Eq)]
struct Compared {
    is_equal: bool,
    /// Members that hold something else than most, or than they have counted.
    differing: BTreeSet<u64>,
    /// Whether most members are right, so that the others are wrong whoever has not answered.
    is_certain: bool,
    different_namespaces: BTreeSet<String>,
}

fn compare(members: &[v1::MemberDigest]) -> Compared {
    let answers = || {
        members
            .iter()
            .filter(|member| member.unreachable.is_empty())
    };
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for member in answers() {
        *holders.entry(&member.state_hash).or_default() += 1;
    }
    // Without a majority nobody can tell who is right.
    let most = holders
        .iter()
        .find(|(_, count)| **count > answers().count() / 2);
    let is_right = |member: &v1::MemberDigest| {
        member.matches_own_count && most.is_some_and(|(hash, _)| **hash == member.state_hash)
    };
    let right = answers().filter(|member| is_right(member)).count();
    let wrong = answers().filter(|member| !is_right(member));
    let differing: BTreeSet<u64> = wrong
        .filter_map(|member| u64::from_str_radix(&member.node_id, 16).ok())
        .collect();
    let names: BTreeSet<&String> = answers()
        .flat_map(|member| member.namespaces.keys())
        .collect();
    let is_different = |name: &&String| {
        let digests: BTreeSet<_> = answers()
            .map(|member| member.namespaces.get(*name))
            .collect();
        digests.len() > 1
    };
    Compared {
        is_equal: differing.is_empty() && answers().count() == members.len(),
        differing,
        is_certain: right > members.len() / 2,
        different_namespaces: names.into_iter().filter(is_different).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(node_id: u64, hash: &str) -> v1::MemberDigest {
        let namespaces = [("same", "1"), ("other", hash)];
        v1::MemberDigest {
            node_id: format!("{node_id:016x}"),
            state_hash: hash.to_owned(),
            matches_own_count: true,
            namespaces: namespaces
                .map(|(name, hash)| (name.to_owned(), hash.to_owned()))
                .into(),
            ..v1::MemberDigest::default()
        }
    }

    fn check(members: &[v1::MemberDigest]) -> String {
        let Compared {
            is_equal,
            differing,
            is_certain,
            different_namespaces,
        } = compare(members);
        let certain = if is_certain { "certain" } else { "uncertain" };
        format!("equal={is_equal} {certain} {differing:?} {different_namespaces:?}")
    }

    #[test]
    fn whoever_differs_from_most_or_from_its_own_count_is_named() {
        let [a, b, c] = [digest(1, "x"), digest(2, "x"), digest(3, "x")];
        assert_eq!(
            check(&[a.clone(), b.clone(), c.clone()]),
            "equal=true certain {} {}"
        );
        assert_eq!(
            check(&[a.clone(), b.clone(), digest(3, "y")]),
            "equal=false certain {3} {\"other\"}"
        );
        let miscounted = v1::MemberDigest {
            matches_own_count: false,
            ..c.clone()
        };
        assert_eq!(
            check(&[a.clone(), b.clone(), miscounted]),
            "equal=false certain {3} {}"
        );
        let silent = v1::MemberDigest {
            unreachable: "gone".to_owned(),
            node_id: c.node_id,
            ..v1::MemberDigest::default()
        };
        assert_eq!(
            check(&[a.clone(), b, silent.clone()]),
            "equal=false certain {} {}"
        );
        // Two that differ, and nobody to say who is right.
        assert_eq!(
            check(&[a, digest(2, "y"), silent]),
            "equal=false uncertain {1, 2} {\"other\"}"
        );
    }
}
