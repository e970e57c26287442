//! Members come, go and take each other's places; what cannot be done is refused with nothing
//! changed.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::sleep;

use super::{
    cluster::{Nodes, eventually, peer_of, settings},
    learn, run,
};
use crate::{
    Handle, Member, MemberChange, MemberError, Membership, Peer, PeerError, Settings,
    transport::{Call, Channel},
};

fn node_id(handle: &Handle) -> u64 {
    handle.identity().node_id
}

async fn refusal(nodes: &Nodes, change: MemberChange) -> MemberError {
    let before = nodes.any().membership().members;
    let error = nodes.any().change_members(change).await.unwrap_err();
    let identities = |members: &[Member]| -> Vec<(Peer, bool)> {
        members
            .iter()
            .map(|member| (member.peer.clone(), member.is_voter))
            .collect()
    };
    let after = nodes.any().membership().members;
    assert_eq!(identities(&after), identities(&before));
    error
}

#[test]
fn a_node_joins_follows_votes_and_leaves() {
    run(async {
        let settings = settings();
        let mut nodes = Nodes::form(1, &settings).await;
        nodes
            .leader()
            .await
            .propose(learn("first"), None)
            .await
            .unwrap();
        for _ in 0..2 {
            let at = nodes.join(&settings).await;
            let node_id = nodes.handles[at].as_ref().unwrap().identity().node_id;
            let leader = nodes.any();
            let add = MemberChange::Add(peer_of(node_id));
            let members = leader.change_members(add.clone()).await.unwrap();
            assert!(!members.get(node_id).unwrap().is_voter);
            // Whoever did not hear the answer may ask again.
            leader.change_members(add).await.unwrap();
            eventually("a learner that follows", || {
                let matched = leader.membership().get(node_id)?.matched?;
                (matched >= leader.metrics().last_log).then_some(())
            })
            .await;
            let promote = MemberChange::Promote { node_id };
            let members = leader.change_members(promote).await.unwrap();
            assert!(members.get(node_id).unwrap().is_voter);
        }
        nodes.agree().await;
        // A follower is asked, and has the leader do it.
        let follower = nodes.followers().await[0].clone();
        let leaving = nodes.followers().await[1].identity().node_id;
        let demote = MemberChange::Demote { node_id: leaving };
        let members = follower.change_members(demote).await.unwrap();
        assert!(!members.get(leaving).unwrap().is_voter);
        let remove = MemberChange::Remove { node_id: leaving };
        let members = follower.change_members(remove).await.unwrap();
        assert_eq!(members.get(leaving), None);
        assert_eq!(members.members.len(), 2);
        nodes.shutdown().await;
    });
}

#[test]
fn a_new_node_takes_the_place_of_a_lost_one() {
    run(async {
        let settings = settings();
        let mut nodes = Nodes::form(3, &settings).await;
        let before: Vec<u64> = nodes.running().iter().map(node_id).collect();
        nodes.stop_a_follower().await;
        let after: Vec<u64> = nodes.running().iter().map(node_id).collect();
        let old = *before.iter().find(|id| !after.contains(id)).unwrap();
        nodes
            .leader()
            .await
            .propose(learn("without it"), None)
            .await
            .unwrap();
        let at = nodes.join(&settings).await;
        let node_id = nodes.handles[at].as_ref().unwrap().identity().node_id;
        // Under the address of the lost one, as a pod that lost its volume.
        let new = Peer {
            node_id,
            address: peer_of(old).address,
        };
        let replace = MemberChange::Replace {
            old,
            new: new.clone(),
        };
        let members = nodes.leader().await.change_members(replace).await.unwrap();
        assert_eq!(members.get(old), None);
        assert!(members.get(node_id).unwrap().is_voter);
        assert_eq!(members.at(&new.address).unwrap().peer, new);
        nodes.agree().await;
        nodes.shutdown().await;
    });
}

/// Begins to replace a lost member of five and stops between the two steps of it: the first is in the
/// log of those that are left. The future goes on with the second as soon as it is asked again.
struct Halfway {
    nodes: Nodes,
    leader: Handle,
    replace: MemberChange,
    old: u64,
    new: Peer,
}

type Changing = std::pin::Pin<Box<dyn Future<Output = Result<Membership, MemberError>> + Send>>;

async fn halfway(is_other_address: bool) -> (Halfway, Changing) {
    // A leader that is cut off for a moment stays the leader.
    let settings = Settings {
        election_timeout_min_ms: 1_500,
        election_timeout_max_ms: 3_000,
        ..settings()
    };
    let mut nodes = Nodes::form(5, &settings).await;
    let before: Vec<u64> = nodes.running().iter().map(node_id).collect();
    nodes.stop_a_follower().await;
    let after: Vec<u64> = nodes.running().iter().map(node_id).collect();
    let old = *before.iter().find(|id| !after.contains(id)).unwrap();
    let at = nodes.join(&settings).await;
    let new_id = node_id(nodes.handles[at].as_ref().unwrap());
    let mut new = peer_of(new_id);
    if !is_other_address {
        new.address = peer_of(old).address;
    }
    let leader = nodes.leader_among(&nodes.running()[..4]).await;
    let replace = MemberChange::Replace {
        old,
        new: new.clone(),
    };
    leader.add(&new).await.unwrap();
    eventually("a learner that follows", || {
        let matched = leader.membership().get(new_id)?.matched?;
        (matched >= leader.metrics().last_log).then_some(())
    })
    .await;
    // The first step gets as far as the leader's own log, so that there is no second one yet.
    nodes.board.isolate(node_id(&leader));
    let (asked, change) = (leader.clone(), replace.clone());
    let mut changing: Changing = Box::pin(async move { asked.change_members(change).await });
    let is_halfway = async {
        while !leader.membership().is_joint {
            sleep(Duration::from_millis(5)).await;
        }
        // Until the lines that are cut are known to be.
        sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        biased;
        () = is_halfway => {}
        changed = &mut changing => panic!("it was to wait for the others: {changed:?}"),
    }
    nodes.board.heal();
    let others = nodes.running();
    eventually("the first step on all", || {
        let has = |handle: &Handle| handle.membership().is_joint;
        others.iter().all(has).then_some(())
    })
    .await;
    let halfway = Halfway {
        nodes,
        leader,
        replace,
        old,
        new,
    };
    (halfway, changing)
}

impl Halfway {
    /// Nobody asks for it again, and yet all `who` see the new member in the old one's place.
    async fn is_finished_for(&self, who: &[Handle]) {
        eventually("the second step", || {
            let is_done = |handle: &Handle| {
                let members = handle.membership();
                let has_come = members.get(self.new.node_id).is_some_and(|m| m.is_voter);
                !members.is_joint && members.get(self.old).is_none() && has_come
            };
            who.iter().all(is_done).then_some(())
        })
        .await;
    }

    /// Whoever does not know may ask again, and is told that the old one is gone.
    async fn ends(self) {
        self.nodes.leader().await;
        for handle in self.nodes.running() {
            let refused = loop {
                match handle.change_members(self.replace.clone()).await {
                    // It has not heard yet who leads, or the leader does not know yet that it has
                    // finished the change.
                    Err(MemberError::NotLeader { .. } | MemberError::InProgress) => {
                        sleep(Duration::from_millis(50)).await;
                    }
                    answer => break answer,
                }
            };
            assert_eq!(refused, Err(MemberError::Unknown { node_id: self.old }));
        }
        let leader = self.nodes.leader().await;
        leader.propose(learn("afterwards"), None).await.unwrap();
        assert_eq!(leader.membership().voters(), 5);
        self.nodes.agree().await;
        self.nodes.shutdown().await;
    }
}

#[test]
fn a_replacement_whose_leader_is_lost_between_its_steps_is_finished_by_the_next() {
    run(async {
        let (halfway, changing) = halfway(false).await;
        let lost = halfway.leader.identity().node_id;
        halfway.nodes.board.isolate(lost);
        drop(changing);
        let mut left = halfway.nodes.running();
        left.retain(|handle| handle.identity().node_id != lost);
        halfway.is_finished_for(&left).await;
        halfway.nodes.board.heal();
        halfway.is_finished_for(&halfway.nodes.running()).await;
        halfway.ends().await;
    });
}

#[test]
fn a_replacement_whose_caller_is_lost_between_its_steps_is_finished() {
    run(async {
        let (halfway, changing) = halfway(true).await;
        // As long as it is under way, nobody else changes members.
        let add = MemberChange::Add(peer_of(1));
        let refused = halfway.leader.change_members(add).await;
        assert_eq!(refused, Err(MemberError::InProgress));
        drop(changing);
        halfway.is_finished_for(&halfway.nodes.running()).await;
        halfway.ends().await;
    });
}

#[test]
fn a_replacement_that_was_lost_before_its_steps_can_be_asked_for_again() {
    run(async {
        let settings = settings();
        let mut nodes = Nodes::form(3, &settings).await;
        let old = node_id(&nodes.followers().await[0]);
        let at = nodes.join(&settings).await;
        let new_id = node_id(nodes.handles[at].as_ref().unwrap());
        let new = Peer {
            node_id: new_id,
            address: peer_of(old).address,
        };
        // All that the lost leader has done of it: the new one follows, under the same address.
        let leader = nodes.leader_among(&nodes.running()[..3]).await;
        leader.add(&new).await.unwrap();
        let lost = leader.identity().node_id;
        eventually("it follows on all", || {
            let has = |handle: &Handle| handle.membership().get(new_id).is_some();
            nodes.running().iter().all(has).then_some(())
        })
        .await;
        nodes.board.isolate(lost);
        let mut left = nodes.running();
        left.retain(|handle| node_id(handle) != lost);
        let next = nodes.leader_among(&left).await;
        let replace = MemberChange::Replace { old, new };
        let members = next.change_members(replace).await.unwrap();
        assert!(members.get(new_id).unwrap().is_voter && !members.is_joint);
        assert_eq!(members.get(old), None);
        nodes.board.heal();
        let at = nodes.place_of(|handle| node_id(handle) == old);
        nodes.stop(at).await;
        nodes.agree().await;
        nodes.shutdown().await;
    });
}

#[test]
fn leadership_is_handed_over() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        let leader = nodes.leader().await;
        let target = nodes.followers().await[0].identity().node_id;
        let new = leader.transfer_leader(Some(target)).await.unwrap();
        assert_eq!(new.node_id, target);
        assert_eq!(nodes.leader().await.identity().node_id, target);
        let refused = leader.transfer_leader(None).await.unwrap_err();
        assert!(
            matches!(refused, MemberError::NotLeader { .. }),
            "{refused}"
        );
        let unknown = nodes.leader().await.transfer_leader(Some(1)).await;
        assert_eq!(unknown, Err(MemberError::Unknown { node_id: 1 }));
        nodes.any().propose(learn("goes on"), None).await.unwrap();
        nodes.agree().await;
        nodes.shutdown().await;
    });
}

#[test]
fn what_cannot_be_changed_is_refused() {
    run(async {
        let settings = settings();
        let mut nodes = Nodes::form(1, &settings).await;
        let leader = nodes.leader().await;
        let own = leader.identity().node_id;
        leader.propose(learn("first"), None).await.unwrap();
        let last = MemberError::LastVoter { node_id: own };
        for change in [
            MemberChange::Remove { node_id: own },
            MemberChange::Demote { node_id: own },
        ] {
            assert_eq!(refusal(&nodes, change).await, last);
        }
        for change in [
            MemberChange::Promote { node_id: 9 },
            MemberChange::Demote { node_id: 9 },
            MemberChange::Remove { node_id: 9 },
            MemberChange::Replace {
                old: 9,
                new: peer_of(10),
            },
        ] {
            let unknown = MemberError::Unknown { node_id: 9 };
            assert_eq!(refusal(&nodes, change).await, unknown);
        }
        let taken = refusal(
            &nodes,
            MemberChange::Add(Peer {
                node_id: 9,
                address: peer_of(own).address,
            }),
        )
        .await;
        assert!(matches!(taken, MemberError::AddressTaken { .. }), "{taken}");
        let known = refusal(
            &nodes,
            MemberChange::Add(Peer {
                node_id: own,
                address: "elsewhere:1".to_owned(),
            }),
        )
        .await;
        assert!(matches!(known, MemberError::Known { .. }), "{known}");
        for address in ["", "no-port", ":1", "host:port", "host:99999"] {
            let add = MemberChange::Add(Peer {
                node_id: 9,
                address: address.to_owned(),
            });
            let refused = refusal(&nodes, add).await;
            assert!(matches!(refused, MemberError::Address { .. }), "{refused}");
        }
        // A learner that nobody can reach lacks everything.
        for n in 0..1_100 {
            let learned = leader.propose(learn(&format!("more {n}")), None);
            learned.await.unwrap();
        }
        let absent = MemberChange::Add(peer_of(9));
        leader.change_members(absent).await.unwrap();
        let promote = MemberChange::Promote { node_id: 9 };
        let lagging = refusal(&nodes, promote).await;
        assert!(matches!(lagging, MemberError::Lagging { .. }), "{lagging}");
        nodes.join(&settings).await;
        nodes.shutdown().await;
    });
}

#[test]
fn garbage_from_a_member_is_refused_and_changes_nothing() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        let node = nodes.leader().await;
        let before = (node.metrics().term, node.membership());
        for call in Call::ALL {
            if call == Call::ReadIndex {
                continue;
            }
            for garbage in [&b""[..], b"\x01", b"\x01{}", b"\x09", b"\x01[\"x\"]"] {
                let refused = node.answer(call, Bytes::from_static(garbage)).await;
                assert!(
                    matches!(refused, Err(PeerError::Refused { .. })),
                    "{call} {garbage:?}: {refused:?}"
                );
            }
        }
        for channel in Channel::ALL {
            let garbage = stream::iter([Bytes::from_static(b"\x01garbage")]).boxed();
            let answers: Vec<_> = node.answer_channel(channel, garbage).collect().await;
            assert!(
                matches!(answers.as_slice(), [Err(PeerError::Refused { .. })]),
                "{channel}: {answers:?}"
            );
        }
        assert_eq!(
            (node.metrics().term, node.membership().members.len()),
            (before.0, before.1.members.len())
        );
        nodes.agree().await;
        nodes.shutdown().await;
    });
}
