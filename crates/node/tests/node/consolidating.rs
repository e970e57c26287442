//! Consolidation: what is merged, archived and found to conflict, and how it is taken back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use memorygate_node::node::Node;
use memorygate_proto::v1::{
    self, Archive, Experience, FeedbackRequest, Filter, GetRequest, RecallRequest, RestoreRequest,
    consolidation_client::ConsolidationClient, planned_step::Step,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    cluster::Cluster,
    server::{Server, Start, a_moment, ask, client, contents, everything, experience, failure},
};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Each pair says the same in other words; the last stands alone.
const LESSONS: [&str; 5] = [
    "the checkout pods were killed for lack of memory and raising the limit helped",
    "raising the limit helped and the checkout pods were killed for lack of memory",
    "renew the certificate of the gateway before the rollout starts",
    "before the rollout starts renew the certificate of the gateway",
    "a full disk of the database stopped every write",
];

struct Asker(ConsolidationClient<Channel>);

impl Asker {
    async fn of(server: &Server) -> Self {
        Self::at(&server.node).await
    }

    async fn at(node: &Node) -> Self {
        let endpoint = format!("http://{}", node.grpc_address());
        Self(ConsolidationClient::connect(endpoint).await.unwrap())
    }

    async fn plan(&mut self, everything: bool) -> v1::PlanConsolidationResponse {
        let request = v1::PlanConsolidationRequest {
            everything,
            ..v1::PlanConsolidationRequest::default()
        };
        let planned = self.0.plan_consolidation(request).await;
        planned.unwrap().into_inner()
    }

    async fn try_run(&mut self, everything: bool) -> Result<v1::RunConsolidationResponse, Status> {
        let request = v1::RunConsolidationRequest {
            everything,
            ..v1::RunConsolidationRequest::default()
        };
        let mut messages = self.0.run_consolidation(request).await?.into_inner();
        let mut last = None;
        while let Some(message) = messages.message().await? {
            last = Some(message);
        }
        Ok(last.expect("a pass ends with a message"))
    }

    async fn run(&mut self, everything: bool) -> v1::RunConsolidationResponse {
        let ran = self.try_run(everything).await.unwrap();
        assert!(ran.finished);
        ran
    }

    async fn epochs(&mut self) -> Vec<v1::EpochSummary> {
        let request = v1::ListEpochsRequest::default();
        self.0
            .list_epochs(request)
            .await
            .unwrap()
            .into_inner()
            .epochs
    }

    async fn undo(&mut self, id: u64) -> Result<v1::UndoEpochResponse, Status> {
        let request = v1::UndoEpochRequest {
            id,
            ..v1::UndoEpochRequest::default()
        };
        Ok(self.0.undo_epoch(request).await?.into_inner())
    }

    async fn set(&mut self, policy: v1::ConsolidationPolicy) -> Result<(), Status> {
        let request = v1::SetPolicyRequest {
            policy: Some(policy),
            ..v1::SetPolicyRequest::default()
        };
        self.0.set_policy(request).await.map(drop)
    }

    async fn conflicts(&mut self, resolved: bool) -> Vec<v1::ConflictingPair> {
        let request = v1::ListConflictsRequest {
            resolved,
            ..v1::ListConflictsRequest::default()
        };
        let listed = self.0.list_conflicts(request).await;
        listed.unwrap().into_inner().conflicts
    }
}

async fn learned(server: &mut Server, texts: &[&str]) -> Vec<String> {
    let experiences = texts.iter().map(|text| experience(text)).collect();
    let learned = server.learn(experiences).await.learned;
    learned.into_iter().map(|learned| learned.key).collect()
}

async fn get(server: &mut Server, key: &str) -> v1::Memory {
    let request = GetRequest {
        key: key.to_owned(),
        ..GetRequest::default()
    };
    let answer = server.client.get(request).await.unwrap().into_inner();
    answer.memory.unwrap()
}

/// (live, archived).
async fn counts(server: &mut Server) -> (u64, u64) {
    let stats = server.stats().await;
    (stats.namespaces[0].memories, stats.namespaces[0].archived)
}

#[tokio::test(flavor = "multi_thread")]
async fn near_duplicates_become_one_memory_and_come_apart_again() {
    let mut server = Server::start().await;
    let mut asker = Asker::of(&server).await;
    let keys = learned(&mut server, &LESSONS).await;
    let before = server.stats().await;

    let plan = asker.plan(false).await;
    assert_eq!((plan.merges, plan.fades, plan.conflicts), (2, 0, 0));
    assert_eq!((plan.compared, plan.steps.len()), (5, 2));
    for step in &plan.steps {
        let Some(Step::Merge(merge)) = &step.step else {
            panic!("expected a merge, found {step:?}");
        };
        assert!(merge.cosine > 0.85, "{}", merge.cosine);
        assert!(LESSONS.contains(&merge.keep.as_ref().unwrap().content.as_str()));
    }
    assert_eq!(server.stats().await.state_hash, before.state_hash, "a plan");

    let ran = asker.run(false).await;
    assert_eq!((ran.done, ran.refused, ran.epochs), (2, 0, 1));
    assert_eq!(counts(&mut server).await, (3, 2));
    let of_pods: Vec<v1::Memory> = [
        get(&mut server, &keys[0]).await,
        get(&mut server, &keys[1]).await,
    ]
    .into();
    let (kept, gone) = match &of_pods[0].archived {
        None => (&of_pods[0], &of_pods[1]),
        Some(_) => (&of_pods[1], &of_pods[0]),
    };
    assert_eq!(
        (&kept.merged, kept.occurrences),
        (&vec![gone.key.clone()], 2)
    );
    let archived = gone.archived.as_ref().unwrap();
    assert_eq!(
        (archived.reason.as_str(), &archived.replaced_by),
        ("merged", &kept.key)
    );

    let request = RestoreRequest {
        key: gone.key.clone(),
        ..RestoreRequest::default()
    };
    let refused = server.client.restore(request).await.unwrap_err();
    assert_eq!(failure(&refused).0, "FailedPrecondition MERGED");

    // What a caller says of the one that is gone reaches the one in its place.
    let request = FeedbackRequest {
        key: gone.key.clone(),
        score: 1.0,
        ..FeedbackRequest::default()
    };
    let answer = server.client.feedback(request).await.unwrap().into_inner();
    assert_eq!(answer.key, kept.key);
    assert_eq!(get(&mut server, &kept.key).await.feedback.unwrap().count, 1);

    let epochs = asker.epochs().await;
    assert_eq!(epochs.len(), 1);
    assert_eq!(epochs[0].steps.len(), 2);
    // Feedback came after it, so it cannot be taken back as if nothing had been.
    let refused = asker.undo(epochs[0].id).await.unwrap_err();
    let (text, details) = failure(&refused);
    assert_eq!(text, "FailedPrecondition CHANGED_SINCE");
    assert_eq!(details.error_info().unwrap().metadata["changed"], kept.key);
    assert!(refused.message().contains(&kept.key), "{refused:?}");
    assert_eq!(
        asker.run(false).await.looked_at,
        5,
        "all were compared before"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_undone_is_as_if_it_had_never_been_and_stays_so() {
    let mut server = Server::start().await;
    let mut asker = Asker::of(&server).await;
    learned(&mut server, &LESSONS).await;
    let listed = server.contents("rollout").await;
    asker.run(false).await;
    let epoch = asker.epochs().await[0].id;
    assert_eq!(asker.undo(epoch).await.unwrap().steps, 2);
    assert_eq!(counts(&mut server).await, (5, 0));
    assert_eq!(server.contents("rollout").await, listed);
    assert_eq!(asker.epochs().await, []);
    assert_eq!(asker.run(false).await.done, 0, "nobody wants it merged");
    let again = asker.undo(epoch).await.unwrap_err();
    assert_eq!(failure(&again).0, "NotFound NOT_FOUND");
    // Whoever asks for everything means it.
    assert_eq!(asker.run(true).await.done, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_new_memories_are_compared() {
    let mut server = Server::start().await;
    let mut asker = Asker::of(&server).await;
    learned(&mut server, &LESSONS[..1]).await;
    assert_eq!(asker.run(false).await.done, 0);
    learned(&mut server, &LESSONS[2..3]).await;
    assert_eq!(asker.plan(false).await.compared, 1);
    learned(&mut server, &LESSONS[1..2]).await;
    let plan = asker.plan(false).await;
    assert_eq!(
        (plan.compared, plan.merges),
        (2, 1),
        "an old one is a neighbour"
    );
    assert_eq!(asker.plan(true).await.compared, 3);
    assert_eq!(asker.run(false).await.done, 1);
    assert_eq!(asker.plan(false).await.compared, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unused_fades_and_comes_back_when_asked_for() {
    let mut server = Server::start().await;
    let mut asker = Asker::of(&server).await;
    let keys = learned(&mut server, &LESSONS[2..3]).await;
    let pinned = Experience {
        pinned: true,
        ..experience("the pinned lesson")
    };
    server.learn(vec![pinned]).await;
    server.clock.advance(80 * DAY_MS);
    learned(&mut server, &["of today"]).await;
    assert_eq!(asker.run(false).await.done, 0, "80 days are not enough");
    server.clock.advance(320 * DAY_MS);
    learned(&mut server, &["of today again"]).await;
    let plan = asker.plan(false).await;
    let Some(Step::Fade(fade)) = &plan.steps[0].step else {
        panic!("expected a fade, found {plan:?}");
    };
    assert!(fade.unused_days > 399.0 && fade.worth < 0.05, "{fade:?}");
    asker.run(false).await;
    let memory = get(&mut server, &keys[0]).await;
    assert_eq!(memory.archived.unwrap().reason, "faded");

    assert!(
        !server
            .contents("certificate of the gateway")
            .await
            .contains(&memory.content)
    );
    for (archive, has_live) in [(Archive::Included, true), (Archive::Only, false)] {
        let request = RecallRequest {
            filter: Some(Filter {
                archive: archive.into(),
                ..Filter::default()
            }),
            at_least: Some(server.position().await),
            ..ask("certificate of the gateway")
        };
        let found = contents(&server.recall(request).await);
        assert!(found.contains(&memory.content));
        let live = "of today again".to_owned();
        assert_eq!(found.contains(&live), has_live, "{found:?}");
    }
    let request = RestoreRequest {
        key: keys[0].clone(),
        reader: everything(),
        ..RestoreRequest::default()
    };
    server.client.restore(request).await.unwrap();
    assert!(
        server
            .contents("certificate of the gateway")
            .await
            .contains(&memory.content)
    );
    assert_eq!(asker.run(false).await.done, 0, "someone wanted it back");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contradictions_are_kept_apart_until_someone_decides() {
    let mut server = Server::start().await;
    let mut asker = Asker::of(&server).await;
    let keys = learned(
        &mut server,
        &[
            "raise the memory limit of the checkout pods when they are killed",
            "do not raise the memory limit of the checkout pods when they are killed",
        ],
    )
    .await;
    let ran = asker.run(false).await;
    assert_eq!((ran.done, counts(&mut server).await), (1, (2, 0)));
    let found = asker.conflicts(false).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].resolved_at.is_none());
    assert_eq!(asker.plan(true).await.conflicts, 0, "it is known");

    let request = v1::ResolveConflictRequest {
        key: keys[1].clone(),
        other: keys[0].clone(),
        ..v1::ResolveConflictRequest::default()
    };
    asker.0.resolve_conflict(request).await.unwrap();
    assert_eq!(
        (
            asker.conflicts(false).await.len(),
            asker.conflicts(true).await.len()
        ),
        (0, 1)
    );
    let wrong = get(&mut server, &keys[0]).await.archived.unwrap();
    assert_eq!(
        (wrong.reason.as_str(), &wrong.replaced_by),
        ("superseded", &keys[1])
    );
    let right = get(&mut server, &keys[1]).await;
    assert_eq!(right.links[0].relation, "supersedes");
    asker.run(true).await;
    assert_eq!(get(&mut server, &keys[1]).await.links, right.links);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_decides_and_a_pause_stops_everything() {
    let mut server = Server::start().await;
    let mut asker = Asker::of(&server).await;
    learned(&mut server, &LESSONS).await;
    let policy = v1::ConsolidationPolicy::default;
    for (bad, field) in [
        (
            v1::ConsolidationPolicy {
                merge_from: Some(f32::NAN),
                ..policy()
            },
            "policy",
        ),
        (
            v1::ConsolidationPolicy {
                merge_from: Some(0.4),
                ..policy()
            },
            "policy",
        ),
        (
            v1::ConsolidationPolicy {
                fade_below: Some(1.5),
                ..policy()
            },
            "policy",
        ),
        (
            v1::ConsolidationPolicy {
                keep_days: Some(40_000),
                ..policy()
            },
            "policy",
        ),
    ] {
        crate::server::assert_invalid(&asker.set(bad).await.unwrap_err(), field);
    }
    let paused = v1::ConsolidationPolicy {
        paused: true,
        ..policy()
    };
    asker.set(paused).await.unwrap();
    let refused = asker.try_run(false).await.unwrap_err();
    assert_eq!(
        failure(&refused).0,
        "FailedPrecondition CONSOLIDATION_PAUSED"
    );
    let strict = v1::ConsolidationPolicy {
        merge_from: Some(1.0),
        ..policy()
    };
    asker.set(strict).await.unwrap();
    let request = v1::GetPolicyRequest::default();
    let got = asker.0.get_policy(request).await.unwrap().into_inner();
    assert_eq!(got.policy, Some(strict));
    assert_eq!(got.effective.unwrap().keep_days, Some(90));
    assert_eq!((got.through, got.last_pass_at), (0, None));
    asker.set(policy()).await.unwrap();
    assert_eq!(asker.run(false).await.done, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pass_wrote_itself_counts_as_written_since_it_looked() {
    let mut server = Server::start().await;
    learned(&mut server, &LESSONS).await;
    let mut asker = Asker::of(&server).await;
    for done in [2, 0] {
        assert_eq!(asker.run(false).await.done, done);
        let request = v1::GetPolicyRequest::default();
        let got = asker.0.get_policy(request).await.unwrap().into_inner();
        // The steps, and how far the pass came; the second had nothing to write.
        assert_eq!(got.behind, 2);
        assert_eq!(got.through + got.behind, got.position.unwrap().index);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_name_their_field() {
    let server = Server::start().await;
    let mut asker = Asker::of(&server).await;
    let refused = asker.undo(0).await.unwrap_err();
    crate::server::assert_invalid(&refused, "id");
    let request = v1::PlanConsolidationRequest {
        limit: 1001,
        ..Default::default()
    };
    let refused = asker.0.plan_consolidation(request).await.unwrap_err();
    crate::server::assert_invalid(&refused, "limit");
    let request = v1::RunConsolidationRequest {
        namespace: "No!".to_owned(),
        ..Default::default()
    };
    let refused = asker.0.run_consolidation(request).await.unwrap_err();
    crate::server::assert_invalid(&refused, "namespace");
    let request = v1::ListConflictsRequest {
        page_token: "x".to_owned(),
        ..Default::default()
    };
    let refused = asker.0.list_conflicts(request).await.unwrap_err();
    crate::server::assert_invalid(&refused, "page_token");
    let request = v1::ResolveConflictRequest {
        key: "0".repeat(32),
        other: "1".repeat(32),
        ..Default::default()
    };
    let refused = asker.0.resolve_conflict(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_consolidates_by_itself_and_uses_are_written_down() {
    let own = tempfile::tempdir().unwrap();
    let mut start = Start::new(&own.path().join("data"));
    start.settings.consolidation.interval_s = 1;
    start.settings.consolidation.uses_interval_s = 1;
    let mut server = Server::with(start).await;
    let keys = learned(&mut server, &LESSONS).await;
    let patience = Duration::from_secs(60);
    let merged = async {
        while counts(&mut server).await != (3, 2) {
            server.clock.advance(1_000);
            a_moment().await;
        }
    };
    tokio::time::timeout(patience, merged).await.unwrap();
    assert_eq!(
        server.contents("a full disk of the database").await[0],
        LESSONS[4]
    );
    let used = async {
        while get(&mut server, &keys[4]).await.uses == 0 {
            a_moment().await;
        }
    };
    tokio::time::timeout(patience, used).await.unwrap();
    let memory = get(&mut server, &keys[4]).await;
    assert_eq!(
        (memory.uses, memory.version),
        (1, 1),
        "a use is no new version"
    );
    assert!(memory.last_used_at.is_some());
    server.stop().await;
}

/// The same lesson about incident `number`, put in three ways.
fn told(number: usize) -> [String; 3] {
    let (what, why) = ("consumers lagged behind", "one partition got most keys");
    let id = format!("inc{number}");
    [
        format!("{id}: {what} because {why}"),
        format!("because {why} {what} ({id})"),
        format!("{what} in {id} because {why}"),
    ]
}

/// All memories of a node, archived ones too.
async fn everything_on(node: &Node) -> BTreeMap<String, v1::Memory> {
    let mut client = client(node).await;
    let mut memories = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListRequest {
            reader: everything(),
            filter: Some(Filter {
                archive: Archive::Included.into(),
                ..Filter::default()
            }),
            page_token,
            ..v1::ListRequest::default()
        };
        let page = client.list(request).await.unwrap().into_inner();
        memories.extend(page.memories.into_iter().map(|m| (m.key.clone(), m)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return memories;
        }
    }
}

/// Passes run on all nodes at once, callers judge what is being merged, and the leader goes in the middle
/// of it: every occurrence and every judgement is there once, and all replicas hold the same.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_counted_twice_by_passes_everywhere_while_the_leader_goes() {
    const INCIDENTS: usize = 24;
    let mut cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    let mut clients = Vec::new();
    for at in 0..3 {
        clients.push(cluster.client(at).await);
    }
    let mut keys: Vec<Vec<String>> = Vec::new();
    for number in 0..INCIDENTS {
        let experiences = told(number).iter().map(|text| experience(text)).collect();
        let request = v1::LearnRequest {
            experiences,
            ..v1::LearnRequest::default()
        };
        let learned = clients[number % 3]
            .learn(request)
            .await
            .unwrap()
            .into_inner();
        keys.push(learned.learned.into_iter().map(|l| l.key).collect());
    }
    let mut askers = Vec::new();
    for node in &cluster.nodes {
        askers.push(Asker::at(node.as_ref().unwrap()).await);
    }
    let passes = futures::future::join_all(askers.into_iter().map(|mut asker| async move {
        for _ in 0..4 {
            // The node that goes breaks its pass off.
            let _ = asker.try_run(true).await;
        }
    }));
    let stays = (leader + 1) % 3;
    let mut judge = clients[stays].clone();
    let judged: Vec<String> = keys.iter().flatten().cloned().collect();
    let judging = async move {
        for (at, key) in judged.iter().enumerate() {
            let request = FeedbackRequest {
                request_id: format!("1-{at:032x}"),
                key: key.clone(),
                score: 1.0,
                ..FeedbackRequest::default()
            };
            // Until it is known to be done: once, whatever happens meanwhile.
            while judge.feedback(request.clone()).await.is_err() {
                a_moment().await;
            }
        }
    };
    let going = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.stop(leader).await;
    };
    tokio::time::timeout(Duration::from_secs(120), async {
        tokio::join!(passes, judging, going)
    })
    .await
    .unwrap();
    cluster.restart(leader).await;
    cluster.leader().await;
    let mut asker = Asker::at(cluster.nodes[stays].as_ref().unwrap()).await;
    asker.run(true).await;
    cluster.agree().await;

    let memories = everything_on(cluster.nodes[leader].as_ref().unwrap()).await;
    assert_eq!(memories.len(), 3 * INCIDENTS);
    let mut taken_in = BTreeSet::new();
    for memory in memories.values().filter(|m| m.archived.is_none()) {
        for key in &memory.merged {
            assert!(taken_in.insert(key.clone()), "{key} was taken in twice");
        }
    }
    for of_incident in &keys {
        let live: Vec<&v1::Memory> = of_incident
            .iter()
            .map(|key| &memories[key])
            .filter(|memory| memory.archived.is_none())
            .collect();
        assert_eq!(live.len(), 1, "{of_incident:?}");
        assert_eq!(live[0].occurrences, 3);
        assert_eq!(live[0].feedback.unwrap().count, 3);
        for key in of_incident.iter().filter(|key| **key != live[0].key) {
            let mut at = &memories[key];
            while let Some(archived) = &at.archived {
                at = &memories[&archived.replaced_by];
            }
            assert_eq!(at.key, live[0].key);
        }
    }
    cluster.shutdown().await;
}
