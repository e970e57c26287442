//! The service `Cluster`, and reads that name how new they must be.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use memorygate_core::format::Formats;
use memorygate_proto::v1::{
    ChangeMemberRequest, GetRequest, ListAlarmsRequest, ListRequest, MembersRequest,
    MembersResponse, NewMember, RecallRequest, ReplaceMember, Role, StatsRequest, StatusRequest,
    TransferLeaderRequest, VerifyRequest, change_member_request::Change,
};
use prost::Message as _;
use tonic::Status;

use crate::{
    cluster::{Cluster, Operator, addresses, eventually, learn, operator, start},
    server::{Server, a_moment, ask, contents, failure},
};

pub async fn members(operator: &mut Operator) -> MembersResponse {
    let members = operator.members(MembersRequest {}).await.unwrap();
    members.into_inner()
}

pub async fn change(operator: &mut Operator, change: Change) -> Result<MembersResponse, Status> {
    let request = ChangeMemberRequest {
        change: Some(change),
    };
    loop {
        match operator.change_member(request.clone()).await {
            Ok(changed) => return Ok(changed.into_inner()),
            // A node that joins asks for itself too, and changes are made one by one.
            Err(refused) if failure(&refused).0 == "Aborted CHANGE_IN_PROGRESS" => a_moment().await,
            Err(refused) => return Err(refused),
        }
    }
}

pub fn add(address: &str) -> Change {
    Change::Add(NewMember {
        peer_address: address.to_owned(),
    })
}

fn replace(old: &str, address: &str) -> Change {
    Change::Replace(ReplaceMember {
        old: old.to_owned(),
        peer_address: address.to_owned(),
    })
}

/// Each member as `voter leader`, in the order of the answer.
fn shown(members: &MembersResponse) -> Vec<String> {
    let text = |has: bool, name: &str| if has { name.to_owned() } else { String::new() };
    let members = members.members.iter();
    members
        .map(|m| text(m.is_voter, "voter") + &text(m.is_leader, " leader"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_knows_the_members_and_where_they_stand() {
    let mut cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    let mut writer = cluster.client(leader).await;
    learn(&mut writer, "a lesson").await;
    for at in 0..3 {
        let mut operator = cluster.operator(at).await;
        // Where clients connect is heard from each member.
        let known = loop {
            let known = members(&mut operator).await;
            if known.members.iter().all(|m| !m.client_address.is_empty()) {
                break known;
            }
            a_moment().await;
        };
        assert_eq!(known.node_id, format!("{:016x}", cluster.id(at)));
        assert!(known.term > 0);
        let peers: Vec<&String> = known.members.iter().map(|m| &m.peer_address).collect();
        let mut sorted = cluster.peers.clone();
        sorted.sort();
        assert_eq!(peers, sorted.iter().collect::<Vec<_>>());
        for member in &known.members {
            let place = cluster.peers.iter().position(|p| *p == member.peer_address);
            let place = place.unwrap();
            assert_eq!(member.client_address, cluster.grpc[place]);
            assert_eq!(member.node_id, format!("{:016x}", cluster.id(place)));
            assert_eq!(member.is_leader, place == leader);
            assert!(member.is_voter && !member.is_draining);
        }
        let status = operator
            .status(StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        assert!(status.is_writable);
        assert!(status.alarms.is_empty());
        assert_eq!(status.cluster_id, known.cluster_id);
        assert!(Formats::OWN.reads(u8::try_from(status.log_format).unwrap()));
        for member in &status.members {
            assert_eq!(member.unreachable, "");
            let is_leader = member.member.as_ref().unwrap().is_leader;
            let role = if is_leader {
                Role::Leader
            } else {
                Role::Follower
            };
            assert_eq!(member.role(), role);
            assert!(member.last_log > 0 && member.term == known.term);
            assert_eq!(member.server_version, env!("CARGO_PKG_VERSION"));
            let reads = (member.log_format_min, member.log_format_max);
            let own = (Formats::OWN.oldest.into(), Formats::OWN.newest.into());
            assert_eq!(reads, own);
            assert_eq!(member.clock_offset_ms.abs() / 1000, 0);
            assert!(member.started_at.is_some());
        }
    }
    // One that is gone is said to be; the others go on.
    let gone = (leader + 1) % 3;
    cluster.stop(gone).await;
    let mut operator = cluster.operator(leader).await;
    let status = operator
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.is_writable);
    let unreachable = |member: &&memorygate_proto::v1::MemberStatus| !member.unreachable.is_empty();
    let silent: Vec<_> = status.members.iter().filter(unreachable).collect();
    let [silent] = silent[..] else {
        panic!("one is gone: {status:?}");
    };
    let member = silent.member.as_ref().unwrap();
    assert_eq!(member.peer_address, cluster.peers[gone]);
    assert_eq!(
        member.client_address, cluster.grpc[gone],
        "it was heard before"
    );
    // Without a majority nothing is written.
    cluster.stop((leader + 2) % 3).await;
    let status = operator
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(!status.is_writable);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_node_is_its_only_member() {
    let server = Server::start().await;
    let mut operator = operator(&server.node).await;
    let known = members(&mut operator).await;
    assert_eq!(shown(&known), ["voter leader"]);
    assert_eq!(known.members[0].node_id, known.node_id);
    let grpc = server.node.grpc_address().to_string();
    assert_eq!(known.members[0].client_address, grpc);
    let status = operator
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.is_writable);
    assert_eq!(status.members[0].lag, 0);
    let removed = change(&mut operator, Change::Remove(known.node_id.clone())).await;
    assert_eq!(
        failure(&removed.unwrap_err()).0,
        "FailedPrecondition LAST_VOTER"
    );
    server
        .metric("memorygate_requests_total{code=\"Ok\",method=\"Members\"} 1")
        .await;
    server.metric("memorygate_leader 1").await;
    server.metric("memorygate_members{kind=\"voter\"} 1").await;
    server.metric("memorygate_alarms{kind=\"corrupt\"} 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_sees_on_any_node_what_was_acknowledged_on_another() {
    let cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    for n in 0..12 {
        let (writer, reader) = (n % 3, (n + 1) % 3);
        let content = format!("lesson {n}");
        let mut writer = cluster.client(writer).await;
        let mut reader = cluster.client(reader).await;
        let written = learn(&mut writer, &content).await;
        let recalled = reader.recall(RecallRequest {
            linearizable: true,
            ..ask(&content)
        });
        let recalled = recalled.await.unwrap().into_inner();
        assert_eq!(contents(&recalled)[0], content);
        assert!(recalled.position.unwrap().index >= written.index);
        let key = recalled.results[0].memory.as_ref().unwrap().key.clone();
        // Nothing is known of a position here either.
        let mut third = cluster.client((n + 2) % 3).await;
        let got = third.get(GetRequest {
            key,
            linearizable: true,
            ..GetRequest::default()
        });
        assert_eq!(
            got.await.unwrap().into_inner().memory.unwrap().content,
            content
        );
        let listed = third.list(ListRequest {
            linearizable: true,
            page_size: 1000,
            ..ListRequest::default()
        });
        assert_eq!(listed.await.unwrap().into_inner().memories.len(), n + 1);
        let stats = reader.stats(StatsRequest {
            linearizable: true,
            ..StatsRequest::default()
        });
        let stats = stats.await.unwrap().into_inner();
        assert_eq!(stats.namespaces[0].memories, n as u64 + 1);
        assert!(stats.position.unwrap().index >= written.index);
    }
    assert_eq!(cluster.leader().await, leader);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_linearizable_read_fails_and_a_plain_one_answers() {
    let mut cluster = Cluster::formed_with(3, |settings| {
        settings.raft.propose_timeout_ms = 2_000;
    })
    .await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader).await;
    let position = learn(&mut client, "before").await;
    cluster.stop((leader + 1) % 3).await;
    cluster.stop((leader + 2) % 3).await;
    let question = |linearizable: bool| RecallRequest {
        linearizable,
        at_least: Some(position.clone()),
        ..ask("before")
    };
    let refused = client.recall(question(true)).await.unwrap_err();
    assert_eq!(failure(&refused).0, "Unavailable NO_QUORUM");
    let mut hurried = tonic::Request::new(question(true));
    hurried.set_timeout(Duration::from_millis(300));
    let late = client.recall(hurried).await.unwrap_err();
    assert_eq!(failure(&late).0, "DeadlineExceeded DEADLINE");
    let found = client.recall(question(false)).await.unwrap().into_inner();
    assert_eq!(contents(&found), ["before"]);
    cluster.shutdown().await;
}

/// Whatever an operator mistypes changes nothing and is answered by what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_members_that_make_no_sense_are_refused() {
    let cluster = Cluster::formed(3).await;
    let stranger = Cluster::formed(1).await;
    let mut operator = cluster.operator(0).await;
    let before = members(&mut operator).await;
    let id = |at: usize| format!("{:016x}", cluster.id(at));
    let nobody = addresses(1).remove(0);
    let refusals = [
        (Change::Promote("7".to_owned()), "NotFound UNKNOWN_MEMBER"),
        (Change::Demote("7".to_owned()), "NotFound UNKNOWN_MEMBER"),
        (Change::Remove("7".to_owned()), "NotFound UNKNOWN_MEMBER"),
        (
            Change::Remove("node-1".to_owned()),
            "InvalidArgument INVALID remove",
        ),
        (
            Change::Promote(String::new()),
            "InvalidArgument INVALID promote",
        ),
        (add("nowhere"), "InvalidArgument INVALID add.peer_address"),
        (
            replace("zz", &nobody),
            "InvalidArgument INVALID replace.old",
        ),
        (add(&nobody), "FailedPrecondition NOBODY_THERE"),
        (replace(&id(1), &nobody), "FailedPrecondition NOBODY_THERE"),
        (add(&stranger.peers[0]), "FailedPrecondition FOREIGN_NODE"),
        (
            replace(&id(1), &stranger.peers[0]),
            "FailedPrecondition FOREIGN_NODE",
        ),
        (
            replace(&id(1), &cluster.peers[2]),
            "AlreadyExists MEMBER_EXISTS",
        ),
        // A port that answers and is no peer's.
        (add(&cluster.grpc[1]), "FailedPrecondition NOBODY_THERE"),
    ];
    for (wrong, expected) in refusals {
        let refused = change(&mut operator, wrong.clone()).await.unwrap_err();
        assert_eq!(failure(&refused).0, expected, "{wrong:?}: {refused:?}");
        let (_, details) = failure(&refused);
        let info = details.error_info().unwrap();
        assert_eq!(info.metadata["outcome"], "failed", "{wrong:?}");
    }
    let nothing = ChangeMemberRequest { change: None };
    let refused = operator.change_member(nothing).await.unwrap_err();
    assert_eq!(failure(&refused).0, "InvalidArgument INVALID change");
    for (to, expected) in [
        ("7", "NotFound UNKNOWN_MEMBER"),
        ("x", "InvalidArgument INVALID to"),
    ] {
        let to = TransferLeaderRequest { to: to.to_owned() };
        let refused = operator.transfer_leader(to).await.unwrap_err();
        assert_eq!(failure(&refused).0, expected);
    }
    // What is so already is no error.
    change(&mut operator, Change::Promote(id(1))).await.unwrap();
    change(&mut operator, add(&cluster.peers[1])).await.unwrap();
    let after = members(&mut operator).await;
    let who = |known: &MembersResponse| -> Vec<(String, bool)> {
        let members = known.members.iter();
        members.map(|m| (m.node_id.clone(), m.is_voter)).collect()
    };
    assert_eq!(who(&before), who(&after));
    cluster.agree().await;
    stranger.shutdown().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_added_promoted_demoted_and_removed() {
    let mut cluster = Cluster::formed_with(3, |settings| {
        settings.cluster.replace_lost = false;
    })
    .await;
    let mut writer = cluster.client(1).await;
    learn(&mut writer, "before").await;
    // One that has lost its disk waits to be put in its place.
    let lost = (cluster.leader().await + 1) % 3;
    let old = format!("{:016x}", cluster.id(lost));
    let mut operator = cluster.operator((lost + 1) % 3).await;
    cluster.stop(lost).await;
    std::fs::remove_dir_all(cluster.data(lost)).unwrap();
    cluster.restart(lost).await;
    let new = format!("{:016x}", cluster.id(lost));
    let taken = change(&mut operator, add(&cluster.peers[lost])).await;
    assert_eq!(
        failure(&taken.unwrap_err()).0,
        "AlreadyExists ADDRESS_TAKEN"
    );
    assert!(!ids(&members(&mut operator).await).contains(&new));
    let swap = replace(&old, &cluster.peers[lost]);
    let after = change(&mut operator, swap.clone()).await.unwrap();
    assert!(ids(&after).contains(&new) && !ids(&after).contains(&old));
    assert_eq!(after.members.iter().filter(|m| m.is_voter).count(), 3);
    // Whoever did not hear that it was done asks again.
    change(&mut operator, swap).await.unwrap();

    // A fourth that no setting names: it comes as a learner.
    let dir = tempfile::tempdir().unwrap();
    let own = addresses(1).remove(0);
    let joiner = start(dir.path(), &own, &cluster.peers)
        .node()
        .await
        .unwrap();
    let fourth = format!("{:016x}", joiner.backend().raft.identity().node_id);
    // It asks to be added by itself, too: one change at a time.
    while let Err(busy) = change(&mut operator, add(&own)).await {
        assert_eq!(failure(&busy).0, "Aborted CHANGE_IN_PROGRESS");
    }
    let role = |known: &MembersResponse| {
        let member = known.members.iter().find(|m| m.node_id == fourth);
        member.map(|member| member.is_voter)
    };
    assert_eq!(role(&members(&mut operator).await), Some(false));
    let lead = TransferLeaderRequest { to: fourth.clone() };
    let refused = operator.transfer_leader(lead).await.unwrap_err();
    assert_eq!(failure(&refused).0, "FailedPrecondition NO_VOTER");
    let mut promoted = change(&mut operator, Change::Promote(fourth.clone())).await;
    while let Err(lagging) = &promoted {
        assert_eq!(failure(lagging).0, "FailedPrecondition LAGGING");
        promoted = change(&mut operator, Change::Promote(fourth.clone())).await;
    }
    assert_eq!(role(&promoted.unwrap()), Some(true));
    let demoted = change(&mut operator, Change::Demote(fourth.clone())).await;
    assert_eq!(role(&demoted.unwrap()), Some(false));
    change(&mut operator, Change::Demote(fourth.clone()))
        .await
        .unwrap();
    let removed = change(&mut operator, Change::Remove(fourth.clone())).await;
    assert_eq!(role(&removed.unwrap()), None);
    joiner.shutdown().await;
    cluster.agree().await;
    cluster.shutdown().await;
}

fn ids(known: &MembersResponse) -> BTreeSet<String> {
    known.members.iter().map(|m| m.node_id.clone()).collect()
}

/// A learner that is not there lacks what was written meanwhile: it would hold up the cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_lags_is_not_promoted() {
    let cluster = Cluster::formed(1).await;
    let mut operator = cluster.operator(0).await;
    let dir = tempfile::tempdir().unwrap();
    let own = addresses(1).remove(0);
    let joiner = start(dir.path(), &own, &cluster.peers)
        .node()
        .await
        .unwrap();
    let learner = joiner.backend().raft.identity().node_id;
    eventually("a learner", || {
        let members = cluster.nodes[0].as_ref()?.backend().raft.membership();
        members.get(learner).map(drop)
    })
    .await;
    joiner.shutdown().await;
    let writers = (0..16).map(|writer| {
        let cluster = &cluster;
        async move {
            let mut client = cluster.client(0).await;
            for n in 0..80 {
                learn(&mut client, &format!("writer {writer} lesson {n}")).await;
            }
        }
    });
    join_all(writers).await;
    let promote = Change::Promote(format!("{learner:x}"));
    let refused = change(&mut operator, promote).await.unwrap_err();
    let (text, details) = failure(&refused);
    assert_eq!(text, "FailedPrecondition LAGGING");
    assert!(details.retry_info().is_some(), "it may catch up");
    let known = members(&mut operator).await;
    assert_eq!(known.members.iter().filter(|m| m.is_voter).count(), 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_an_operator_wants_it() {
    let cluster = Cluster::formed(3).await;
    for round in 0..3 {
        let (old, asked) = (cluster.leader().await, round % 3);
        let target = (old + 1) % 3;
        let mut operator = cluster.operator(asked).await;
        let to = TransferLeaderRequest {
            to: format!("{:016x}", cluster.id(target)),
        };
        let moved = operator.transfer_leader(to.clone()).await.unwrap();
        assert_eq!(moved.into_inner().leader, to.to);
        assert_eq!(cluster.leader().await, target);
        // Again: it leads already.
        let again = operator.transfer_leader(to.clone()).await.unwrap();
        assert_eq!(again.into_inner().leader, to.to);
    }
    let old = cluster.leader().await;
    let mut operator = cluster.operator((old + 1) % 3).await;
    let anybody = TransferLeaderRequest::default();
    let moved = operator
        .transfer_leader(anybody)
        .await
        .unwrap()
        .into_inner();
    assert_ne!(moved.leader, format!("{:016x}", cluster.id(old)));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_recalls_at_one_position_are_the_same_bytes_on_all_nodes() {
    let cluster = Cluster::formed(3).await;
    let mut writer = cluster.client(0).await;
    let mut last = None;
    for n in 0..60 {
        let content = format!(
            "lesson {n}: when service {} fails after step {}, restart {}",
            n % 7,
            n % 5,
            n % 3
        );
        last = Some(learn(&mut writer, &content).await);
    }
    cluster.agree().await;
    let mut readers = Vec::new();
    for at in 0..3 {
        readers.push(cluster.client(at).await);
    }
    for n in 0..1_000 {
        let question = RecallRequest {
            at_least: last.clone(),
            limit: 1 + n % 20,
            link_hops: n % 2,
            ..ask(&format!(
                "what to do when service {} fails at step {n}",
                n % 11
            ))
        };
        let asked = readers
            .iter_mut()
            .map(|reader| reader.recall(question.clone()));
        let answers = join_all(asked).await.into_iter();
        let answers: BTreeSet<Vec<u8>> = answers
            .map(|answer| answer.unwrap().into_inner().encode_to_vec())
            .collect();
        assert_eq!(answers.len(), 1, "recall {n}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_address_can_be_advertised() {
    let mut start = crate::server::Start::new(&tempfile::tempdir().unwrap().path().join("data"));
    start.settings.server.advertise = Some("memory.example:7411".parse().unwrap());
    let server = Server::with(start).await;
    let known = members(&mut operator(&server.node).await).await;
    assert_eq!(known.members[0].client_address, "memory.example:7411");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_read_the_same_state_from_their_disks() {
    let mut cluster = Cluster::formed(3).await;
    let mut writer = cluster.client(0).await;
    for n in 0..20 {
        learn(&mut writer, &format!("lesson {n}")).await;
    }
    let mut operator = cluster.operator(1).await;
    let verified = operator
        .verify(VerifyRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(verified.is_equal, "{verified:?}");
    assert_eq!(verified.members.len(), 3);
    let hashes: BTreeSet<_> = verified.members.iter().map(|m| &m.state_hash).collect();
    assert_eq!(hashes.len(), 1);
    for member in &verified.members {
        assert_eq!(member.unreachable, "");
        assert!(member.matches_own_count && member.rows >= 20);
        assert!(member.namespaces.contains_key("default"), "{member:?}");
    }
    assert!(verified.different_namespaces.is_empty());
    // One that does not answer is named, and not taken for one that differs.
    let gone = (cluster.leader().await + 1) % 3;
    let mut operator = cluster.operator((gone + 1) % 3).await;
    cluster.stop(gone).await;
    let verified = operator
        .verify(VerifyRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(!verified.is_equal);
    let silent = verified
        .members
        .iter()
        .filter(|m| !m.unreachable.is_empty());
    assert_eq!(silent.count(), 1);
    assert!(verified.different_namespaces.is_empty());
    let alarms = operator.list_alarms(ListAlarmsRequest {}).await.unwrap();
    assert!(alarms.into_inner().alarms.is_empty());
    cluster.shutdown().await;
}
