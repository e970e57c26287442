//! Consolidation over the wire.

use std::time::Duration;

use futures::TryStreamExt as _;
use memorygate_client::{
    Archive, Client, Experience, Filter, GiveFeedback, Key, Kind, List, Outcome, Settings,
    consolidation::{ListConflicts, PlannedStep, Policy, Progress, Reach, Resolve, StepKind, Undo},
    memory::Reason,
};
use memorygate_fake::{Fake, Fault, cluster::FakeCluster, detailed};
use tonic::{Code, Status};

fn client<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Client {
    Client::new(Settings {
        backoff_initial: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        ..Settings::new(endpoints)
    })
    .unwrap()
}

async fn learn(client: &Client, text: &str) -> Key {
    let lesson = Experience::new(text, "infrastructure");
    client.learn(lesson).await.unwrap().learned[0].key
}

/// Two that say the same, and two that contradict each other.
async fn with_work(client: &Client) -> [Key; 4] {
    [
        learn(client, "raise the memory limit of the pod to 512Mi").await,
        learn(client, "raise the memory limit of the pods to 512Mi").await,
        learn(client, "raise the timeout of the ingress proxy").await,
        learn(client, "do not raise the timeout of the ingress proxy").await,
    ]
}

async fn pass(client: &Client) -> Result<Vec<Progress>, memorygate_client::Error> {
    let pass = client.consolidation().run(Reach::New).await?;
    pass.try_collect().await
}

#[tokio::test]
async fn a_pass_is_planned_run_listed_and_undone() {
    let (_fake, address) = Fake::start().await;
    let client = client([&address]);
    let keys = with_work(&client).await;
    let consolidation = client.consolidation();
    let plan = consolidation.plan(Reach::New, 1).await.unwrap();
    assert_eq!((plan.merges, plan.conflicts, plan.fades), (1, 1, 0));
    assert_eq!((plan.steps.len(), plan.compared), (1, 4));
    let plan = consolidation.plan(Reach::New, 10).await.unwrap();
    let merge = plan.steps.iter().find_map(|step| match step {
        PlannedStep::Merge {
            keep,
            absorb,
            cosine,
        } => Some((keep, absorb, cosine)),
        PlannedStep::Fade { .. } | PlannedStep::Conflict { .. } | PlannedStep::Relink { .. } => {
            None
        }
    });
    let (keep, absorb, cosine) = merge.unwrap();
    assert!(keys[..2].contains(&keep.key) && keys[..2].contains(&absorb[0].key));
    assert!(*cosine > 0.85 && keep.version == 1);
    assert!(absorb[0].content.starts_with("raise the memory limit"));

    let messages = pass(&client).await.unwrap();
    let [begun, ended] = messages.as_slice() else {
        panic!("two messages, not {messages:?}");
    };
    assert!(!begun.finished && ended.finished);
    assert_eq!((ended.done, ended.refused, ended.epochs), (2, 0, 1));
    assert_eq!(client.position(), ended.position);

    let list = List::new().filter(Filter::new().archive(Archive::Only));
    let archived = client.list_page(&list).await.unwrap().memories.remove(0);
    assert_eq!(archived.key, absorb[0].key);
    assert_eq!(archived.replaced_by(), Some(keep.key));
    let merged = client.get(keep.key).await.unwrap().unwrap().merged;
    assert_eq!(merged, [absorb[0].key].into());
    let stats = client.stats().await.unwrap().namespaces.remove(0);
    assert_eq!((stats.memories, stats.archived), (3, 1));
    let refused = client.restore(archived.key).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Fix);

    let epoch = consolidation
        .epochs(None, 10)
        .await
        .unwrap()
        .epochs
        .remove(0);
    let mut kinds: Vec<_> = epoch.steps.iter().map(|step| step.kind).collect();
    kinds.sort();
    assert_eq!(kinds, [Some(StepKind::Merge), Some(StepKind::Conflict)]);
    let before = consolidation.epochs(Some(epoch.id), 10).await.unwrap();
    assert_eq!(before.epochs, []);
    let undone = consolidation.undo(epoch.id).await.unwrap();
    assert_eq!(undone.steps, 2);
    let gone = consolidation.undo(epoch.id).await.unwrap_err();
    assert_eq!(
        (gone.kind(), gone.outcome()),
        (Kind::NotFound, Outcome::Failed)
    );
}

#[tokio::test]
async fn an_undo_names_what_was_changed_since() {
    let (fake, address) = Fake::start().await;
    let client = client([&address]);
    with_work(&client).await;
    pass(&client).await.unwrap();
    let consolidation = client.consolidation();
    let epoch = consolidation
        .epochs(None, 1)
        .await
        .unwrap()
        .epochs
        .remove(0);
    let merge = epoch.steps.iter().find(|s| s.kind == Some(StepKind::Merge));
    let kept = merge.unwrap().key;
    client
        .feedback(&GiveFeedback::new(kept, 1.0))
        .await
        .unwrap();
    // The first answer to the same request settles what became of it.
    fake.fail([Fault::Afterwards(Status::unavailable("cut off"))]);
    let refused = consolidation.undo(epoch.id).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.outcome(), refused.attempts()),
        (Kind::Conflict, Outcome::Failed, 2)
    );
    assert_eq!(refused.changed(), [kept]);
    assert!(refused.message().contains(&kept.to_string()), "{refused}");
}

#[tokio::test]
async fn a_policy_is_set_as_a_whole_and_kept_per_namespace() {
    let (fake, address) = Fake::start().await;
    let client = client([&address]);
    learn(&client, "anything").await;
    let consolidation = client.consolidation();
    let policy = Policy {
        paused: true,
        fade_below: Some(0.0),
        ..Policy::default()
    };
    fake.calls();
    fake.fail([Fault::Afterwards(Status::unavailable("cut off"))]);
    consolidation.set_policy(policy.clone()).await.unwrap();
    let calls = fake.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].request_id, calls[1].request_id);
    let status = consolidation.status().await.unwrap();
    assert_eq!(status.policy, policy);
    assert_eq!(status.effective.merge_from, Some(Policy::MERGE_FROM));
    assert_eq!((status.last_pass_at, status.through), (None, 0));
    assert!(status.behind > 0);
    let refused = pass(&client).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.outcome()),
        (Kind::Fix, Outcome::Failed)
    );
    let elsewhere = client.in_namespace("elsewhere").consolidation();
    assert!(!elsewhere.status().await.unwrap().policy.paused);

    fake.fail([Fault::Status(detailed(
        Code::FailedPrecondition,
        "CONSOLIDATION_PAUSED",
        Some("failed"),
        None,
    ))]);
    assert_eq!(pass(&client).await.unwrap_err().kind(), Kind::Fix);
}

#[tokio::test]
async fn conflicts_are_listed_page_by_page_and_decided() {
    let (_fake, address) = Fake::start().await;
    let client = client([&address]);
    let consolidation = client.consolidation();
    for what in [
        "raise the timeout of the ingress proxy",
        "restart the database every night",
        "enable swap on the build machines",
    ] {
        learn(&client, what).await;
        learn(&client, &format!("do not {what}")).await;
    }
    pass(&client).await.unwrap();
    let list = ListConflicts::new().page_size(2);
    let page = consolidation.conflicts_page(&list).await.unwrap();
    assert_eq!(page.conflicts.len(), 2);
    assert!(page.next.is_some());
    let all = consolidation.conflicts(list.clone());
    let all: Vec<_> = all.try_collect().await.unwrap();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|pair| pair.a.key < pair.b.key));

    let (right, wrong) = (all[0].a.key, all[0].b.key);
    let decided = consolidation
        .resolve(&Resolve::new(right, wrong))
        .await
        .unwrap();
    assert_eq!((decided.key, decided.version), (right, 2));
    let archived = client.get(wrong).await.unwrap().unwrap().archived;
    assert_eq!(archived.unwrap().reason, Reason::Superseded { by: right });
    let both = Resolve::new(all[1].a.key, all[1].b.key).both_hold();
    consolidation.resolve(&both).await.unwrap();
    let left: Vec<_> = consolidation
        .conflicts(list.clone())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(left, [all[2].clone()]);
    let known = consolidation.conflicts(list.resolved());
    assert_eq!(known.try_collect::<Vec<_>>().await.unwrap().len(), 3);
    let restored = client.restore(wrong).await.unwrap();
    assert!(restored.changed);
    let unknown = Resolve::new(right, right);
    let unknown = consolidation.resolve(&unknown).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_pass_is_sent_once() {
    let (fake, address) = Fake::start().await;
    let client = client([&address]);
    with_work(&client).await;
    fake.calls();
    fake.fail([Fault::Afterwards(Status::unavailable("cut off"))]);
    let error = pass(&client).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Retry, Outcome::Unknown)
    );
    assert_eq!(fake.calls().len(), 1);
    fake.fail([Fault::Empty]);
    let error = pass(&client).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Retry, Outcome::Unknown)
    );
    assert!(
        error.message().contains("ended before the pass did"),
        "{error}"
    );
}

#[tokio::test]
async fn a_pass_is_run_by_whoever_is_there() {
    let mut cluster = FakeCluster::start(3).await;
    let addresses = cluster.addresses();
    let client = || {
        let settings = Settings::new(&addresses);
        Client::new(Settings {
            follow_members: false,
            ..settings
        })
        .unwrap()
    };
    cluster.kill(0);
    assert!(pass(&client()).await.unwrap()[1].finished);
    assert_eq!(cluster.calls().concat(), ["run"]);
    cluster.kill(1);
    cluster.kill(2);
    let error = pass(&client()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Retry, Outcome::Failed)
    );
    assert_eq!(error.attempts(), 3);
}

#[tokio::test]
async fn an_operator_is_answered_by_the_leader() {
    let cluster = FakeCluster::start(3).await;
    let client = client([&cluster.addresses()[0]]);
    cluster.elect(2);
    let knows_all = || (0..3).all(|at| cluster.state().asked.contains(&at));
    for _ in 0..500 {
        client.stats().await.unwrap();
        if knows_all() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..20 {
        client.stats().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.calls();
    pass(&client).await.unwrap();
    let consolidation = client.consolidation();
    consolidation.plan(Reach::Everything, 10).await.unwrap();
    consolidation.status().await.unwrap();
    consolidation.epochs(None, 10).await.unwrap();
    let asked = ["run", "plan", "get_policy", "list_epochs"].to_vec();
    assert_eq!(cluster.calls(), [vec![], vec![], asked]);
}

#[tokio::test]
async fn bad_requests_are_not_sent() {
    let (fake, address) = Fake::start().await;
    let client = client([&address]);
    let consolidation = client.consolidation();
    let refused = |error: memorygate_client::Error, field: &str| {
        assert_eq!((error.kind(), error.attempts()), (Kind::Fix, 0));
        assert_eq!(error.violations()[0].field, field);
    };
    refused(
        consolidation.plan(Reach::New, 0).await.unwrap_err(),
        "limit",
    );
    refused(consolidation.epochs(None, 1001).await.unwrap_err(), "limit");
    refused(
        consolidation.epochs(Some(0), 1).await.unwrap_err(),
        "before",
    );
    refused(consolidation.undo(Undo::new(0)).await.unwrap_err(), "id");
    let policy = Policy {
        keep_days: Some(40_000),
        ..Policy::default()
    };
    refused(
        consolidation.set_policy(policy).await.unwrap_err(),
        "policy",
    );
    let list = ListConflicts::new().page_size(0);
    refused(
        consolidation.conflicts_page(&list).await.unwrap_err(),
        "page_size",
    );
    let nowhere = client.in_namespace("").consolidation();
    refused(nowhere.status().await.unwrap_err(), "namespace");
    assert_eq!(fake.calls(), []);
}

#[tokio::test]
async fn a_reply_that_makes_no_sense_is_said_to_be_one() {
    let (fake, address) = Fake::start().await;
    let client = client([&address]);
    learn(&client, "anything").await;
    let consolidation = client.consolidation();
    let check = |error: memorygate_client::Error, outcome| {
        assert_eq!((error.kind(), error.outcome()), (Kind::Report, outcome));
        assert!(error.message().contains("malformed"), "{error}");
    };
    fake.fail(vec![Fault::Empty; 5]);
    check(
        consolidation.plan(Reach::New, 1).await.unwrap_err(),
        Outcome::Failed,
    );
    check(consolidation.status().await.unwrap_err(), Outcome::Failed);
    check(
        consolidation.epochs(None, 1).await.unwrap_err(),
        Outcome::Failed,
    );
    let set = consolidation.set_policy(Policy::default()).await;
    check(set.unwrap_err(), Outcome::Unknown);
    let list = ListConflicts::new();
    check(
        consolidation.conflicts_page(&list).await.unwrap_err(),
        Outcome::Failed,
    );
}
