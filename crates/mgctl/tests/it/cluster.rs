//! What an operator sees of a cluster and does to it.

use memorygate_proto::v1;
use prost_types::Timestamp;
use serde_json::Value;

use super::run::{Ran, command, finish};
use memorygate_fake::cluster::FakeCluster;

async fn run(cluster: &FakeCluster, args: &[&str]) -> Ran {
    let mut command = command(args);
    command.env("MEMORYGATE_ENDPOINT", cluster.addresses().join(","));
    finish(command, Vec::new()).await
}

async fn json(cluster: &FakeCluster, args: &[&str]) -> (i32, Value) {
    let mut args = args.to_vec();
    args.extend(["--output", "json"]);
    let ran = run(cluster, &args).await;
    (ran.code, serde_json::from_str(&ran.out).unwrap())
}

/// A cluster of which the addresses read alike in every run.
async fn cluster() -> FakeCluster {
    let cluster = FakeCluster::start(3).await;
    {
        let mut state = cluster.state();
        state.cluster_id = 0xc1;
        for (at, member) in state.members.iter_mut().enumerate() {
            member.client_address = format!("node-{at}:7411");
            member.peer_address = format!("node-{at}:7413");
        }
    }
    cluster
}

fn alarm() -> v1::ClusterAlarm {
    v1::ClusterAlarm {
        node_id: "a300000000000002".to_owned(),
        kind: v1::AlarmKind::Corrupt as i32,
        reason: "state/000012.sst: block checksum mismatch at 4096".to_owned(),
        remedy: "stop the node, empty its data directory, start it again".to_owned(),
        since: Some(Timestamp {
            seconds: 1_767_225_600,
            nanos: 0,
        }),
    }
}

#[tokio::test]
async fn status_is_told_at_a_glance() {
    let cluster = cluster().await;
    assert_eq!(
        run(&cluster, &["cluster", "status"]).await.ok(),
        "\
healthy: 3 of 3 members, leader a100000000000000 (node-0:7413), writes are taken

  MEMBER    ROLE      STATE  TERM  APPLIED  LAG  INDEX LAG  DISK FREE       VERSION  ADDRESS
* a1000000  leader    ok        1     1234    0          0  31.5 GiB (32%)    0.1.0  node-0:7411
  a2000000  follower  ok        1     1234    0          0  31.5 GiB (32%)    0.1.0  node-1:7411
  a3000000  follower  ok        1     1234    0          0  31.5 GiB (32%)    0.1.0  node-2:7411
"
    );
    let (code, document) = json(&cluster, &["cluster", "status"]).await;
    assert_eq!((code, &document["is_healthy"]), (0, &Value::Bool(true)));
    let leader = &document["members"][0];
    assert_eq!(
        (&leader["role"], &leader["is_leader"]),
        (&"leader".into(), &true.into())
    );
    assert_eq!(
        (&leader["index_lag"], &leader["state"]),
        (&0.into(), &"ok".into())
    );
    assert_eq!(leader["started_at"], "2026-01-01T00:00:00Z");
}

#[tokio::test]
async fn trouble_is_marked_and_exits_with_1() {
    let cluster = cluster().await;
    {
        let mut state = cluster.state();
        state.members[1].is_draining = true;
        state.members[2].is_away = true;
        state.alarms.push(alarm());
    }
    let ran = run(&cluster, &["cluster", "status"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let text = ran.out;
    assert!(
        text.starts_with(
            "\
degraded: 1 of 3 members, leader a100000000000000 (node-0:7413), writes are taken, 1 alarm

  MEMBER    ROLE      STATE        TERM  APPLIED  LAG  INDEX LAG  DISK FREE       VERSION  ADDRESS
* a1000000  leader    ok              1     1234    0          0  31.5 GiB (32%)    0.1.0  node-0:7411
! a2000000  follower  draining        1     1234    0          0  31.5 GiB (32%)    0.1.0  node-1:7411
! a3000000  voter     unreachable     -        -    -          -               -        -  node-2:7411

! a3000000 did not answer: cannot connect: connection refused

! corrupt at a300000000000002, since 2026-01-01T00:00:00Z ("
        ),
        "{text}"
    );
    assert!(
        text.ends_with(
            ")
  what: state/000012.sst: block checksum mismatch at 4096
  do:   stop the node, empty its data directory, start it again
"
        ),
        "{text}"
    );
    let (code, document) = json(&cluster, &["cluster", "status"]).await;
    assert_eq!((code, &document["is_healthy"]), (1, &Value::Bool(false)));
    assert_eq!(document["alarms"][0]["kind"], "corrupt");
    let away = &document["members"][2];
    assert_eq!(away["unreachable"], "cannot connect: connection refused");
    assert_eq!(
        (&away["state"], &away["term"]),
        (&"unreachable".into(), &Value::Null)
    );

    cluster.state().leader = None;
    let ran = run(&cluster, &["cluster", "status"]).await;
    let first = ran.out.lines().next().unwrap();
    assert_eq!(
        first,
        "down: 0 of 3 members, no leader, writes are refused, 1 alarm"
    );
}

#[tokio::test]
async fn a_member_that_catches_up_is_not_well_yet() {
    let cluster = cluster().await;
    cluster.state().members[2].is_voter = false;
    cluster.state().members[2].is_behind = true;
    let (code, document) = json(&cluster, &["cluster", "status"]).await;
    let learner = &document["members"][2];
    assert_eq!(
        (&learner["role"], &learner["lag"]),
        (&"learner".into(), &345.into())
    );
    assert_eq!(
        (code, &learner["state"]),
        (0, &"ok".into()),
        "a moment behind"
    );
}

#[tokio::test]
async fn status_is_looked_at_again_and_again() {
    let cluster = cluster().await;
    let mut command = command(&["cluster", "status", "--watch=0.1", "-o", "json"]);
    command.env("MEMORYGATE_ENDPOINT", cluster.addresses().join(","));
    let lines = tokio::task::spawn_blocking(move || {
        use std::io::{BufRead as _, BufReader};
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let lines: Vec<String> = out.lines().take(3).map(Result::unwrap).collect();
        // Nobody reads any more, so it ends by itself.
        (lines, child.wait().unwrap().code())
    });
    let (lines, code) = lines.await.unwrap();
    assert_eq!((lines.len(), code), (3, Some(0)));
    assert!(lines.iter().all(|l| l.contains("\"is_healthy\":true")));
}

#[tokio::test]
async fn members_are_listed_as_a_node_knows_them() {
    let cluster = cluster().await;
    cluster.state().members[1].is_voter = false;
    cluster.state().members[2].client_address = String::new();
    assert_eq!(
        run(&cluster, &["cluster", "members"]).await.ok(),
        "\
MEMBER            ROLE     STATE  PEER ADDRESS  CLIENT ADDRESS
a100000000000000  leader   -      node-0:7413   node-0:7411
a200000000000001  learner  -      node-1:7413   node-1:7411
a300000000000002  voter    -      node-2:7413   -

3 members of cluster 000000000000000000000000000000c1 in term 1, as a100000000000000 knows them
"
    );
    let (_, document) = json(&cluster, &["cluster", "members"]).await;
    assert_eq!(document["members"][1]["is_voter"], false);
    assert_eq!(document["answered_by"], "a100000000000000");
}

#[tokio::test]
async fn verify_says_whether_all_hold_the_same() {
    let cluster = cluster().await;
    assert_eq!(
        run(&cluster, &["cluster", "verify"]).await.ok(),
        "\
MEMBER            STATE HASH        ROWS  STATE
a100000000000000  aaaaaaaaaaaaaaaa    42  as counted
a200000000000001  aaaaaaaaaaaaaaaa    42  as counted
a300000000000002  aaaaaaaaaaaaaaaa    42  as counted

equal: 3 members hold the same at 000000000000000000000000000000c1/0/1234
"
    );
    cluster.state().is_diverged = true;
    let ran = run(&cluster, &["cluster", "verify"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    for expected in [
        "a300000000000002  bbbbbbbbbbbbbbbb    42  not as counted\n",
        "different: the members do not hold the same at ",
        "  differs: default\n",
        "do: keep the members",
    ] {
        assert!(
            ran.out.contains(expected),
            "{expected:?} is not in\n{}",
            ran.out
        );
    }
    let (code, document) = json(&cluster, &["cluster", "verify"]).await;
    assert_eq!((code, &document["is_equal"]), (1, &Value::Bool(false)));
    assert_eq!(document["different_namespaces"][0], "default");
}

#[tokio::test]
async fn members_are_changed_by_id_prefix_or_address() {
    let cluster = cluster().await;
    let first = |ran: Ran| ran.ok().lines().next().unwrap().to_owned();
    for (args, told, done) in [
        (
            &["member", "demote", "a3"][..],
            "a300000000000002 (node-2:7413) is a learner",
            "Demote(\"a300000000000002\")",
        ),
        (
            &["member", "promote", "node-2:7411"],
            "a300000000000002 (node-2:7413) votes",
            "Promote(\"a300000000000002\")",
        ),
        (
            &["member", "add", "node-3:7413"],
            "added node-3:7413 as a learner; give it a vote once it has caught up: mgctl member promote node-3:7413",
            "Add(NewMember { peer_address: \"node-3:7413\" })",
        ),
        (
            &["member", "remove", "node-3:7413", "--yes"],
            "removed 00000000deadbeef (node-3:7413); it can be stopped",
            "Remove(\"00000000deadbeef\")",
        ),
        (
            &["member", "replace", "A2", "node-9:7413"],
            "replaced a200000000000001 (node-1:7413) by node-9:7413",
            "Replace(ReplaceMember { old: \"a200000000000001\", peer_address: \"node-9:7413\" })",
        ),
    ] {
        assert_eq!(first(run(&cluster, args).await), told);
        assert_eq!(cluster.state().operations.pop().unwrap(), done);
    }
    for (name, message) in [
        (
            "node-7:7413",
            "no member \"node-7:7413\", expected a node id",
        ),
        ("a", "\"a\" may mean any of 2 members"),
    ] {
        let (code, told) = run(&cluster, &["member", "promote", name]).await.failed();
        assert_eq!(code, 2);
        assert!(told.contains(message), "{told}");
    }
    assert!(cluster.state().operations.is_empty(), "nothing was changed");
    let (_, document) = json(&cluster, &["member", "demote", "a1"]).await;
    assert_eq!(document["members"][0]["is_voter"], false);
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_says_where_to_look() {
    let cluster = cluster().await;
    cluster.state().is_cut_off = true;
    let args = ["member", "demote", "a3", "--timeout", "1s"];
    let (code, message) = run(&cluster, &args).await.failed();
    assert_eq!(code, 4, "{message}");
    assert!(
        message.starts_with("error: demote a300000000000002 (node-2:7413): "),
        "{message}"
    );
    assert!(
        message.contains("next: it may have been done: look with `mgctl cluster members`"),
        "{message}"
    );
}

#[tokio::test]
async fn leadership_is_handed_over() {
    let cluster = cluster().await;
    let told = run(&cluster, &["leader", "transfer"]).await.ok();
    assert_eq!(told, "a200000000000001 (node-1:7413) leads in term 2\n");
    let (_, document) = json(&cluster, &["leader", "transfer", "a3"]).await;
    assert_eq!(document["leader"], "a300000000000002");
    assert_eq!(document["term"], 3);
}

#[tokio::test]
async fn a_node_is_drained_and_resumed() {
    let cluster = cluster().await;
    cluster.state().writes_in_flight = vec![3, 2];
    let told = run(&cluster, &["drain", "a1", "--wait", "30"]).await.ok();
    assert_eq!(
        told,
        "a100000000000000 (node-0:7413) takes no writes and has none in flight: it can be stopped\n"
    );
    assert_eq!(cluster.state().operations.len(), 3);
    assert!(cluster.state().members[0].is_draining);
    let told = run(&cluster, &["drain", "--resume"]).await.ok();
    assert_eq!(
        told, "a100000000000000 (node-0:7413) takes writes\n",
        "the one that answers"
    );
    assert!(!cluster.state().members[0].is_draining);
    cluster.state().writes_in_flight = vec![7];
    let ran = run(&cluster, &["drain", "a2", "--wait", "0"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("has 7 in flight"), "{}", ran.out);
    let (_, document) = json(&cluster, &["drain", "a2"]).await;
    assert_eq!(document["is_draining"], true);
    assert_eq!(document["writes_in_flight"], 0);
}

#[tokio::test]
async fn alarms_are_listed_and_taken_off() {
    let cluster = cluster().await;
    assert_eq!(run(&cluster, &["alarm", "list"]).await.ok(), "no alarms\n");
    cluster.state().alarms = vec![alarm(), alarm()];
    let told = run(&cluster, &["alarm", "list"]).await.ok();
    assert_eq!(
        told.matches("! corrupt at a300000000000002").count(),
        2,
        "{told}"
    );
    let (_, document) = json(&cluster, &["alarm", "list"]).await;
    assert_eq!(document["alarms"][1]["since"], "2026-01-01T00:00:00Z");
    let args = ["alarm", "clear", "--member", "a3", "--kind", "disk_full"];
    assert_eq!(run(&cluster, &args).await.ok(), "took 0 alarms off\n");
    assert_eq!(
        run(&cluster, &["alarm", "clear"]).await.ok(),
        "took 2 alarms off\n"
    );
}

#[tokio::test]
async fn a_server_from_before_there_were_clusters_is_told_to_be_one() {
    let (_fake, address) = memorygate_fake::Fake::start().await;
    let args = ["cluster", "status", "--endpoint", &address];
    let (code, message) = finish(command(&args), Vec::new()).await.failed();
    assert_eq!(code, 1);
    assert!(
        message.contains(&format!(
            "next: {address} runs a version that cannot do this: update it"
        )),
        "{message}"
    );
}
