//! What happened to a memory, and how memories were: told to whom may see them, and never told wrong.

use memorygate_proto::v1::{
    self, FeedbackRequest, Filter, ForgetRequest, GetRequest, HistoryRequest, LinkRequest,
    LinkTarget, ListRequest, RecallRequest, Scope, UpdateRequest,
    consolidation_client::ConsolidationClient, get_request, list_request, recall_request,
};
use tonic::{Code, Status};

use crate::server::{
    NOW_MS, Server, a_moment, agent, ask, assert_invalid, contents, everything, experience, failure,
};

const DAY_MS: i64 = 24 * 3600 * 1000;

fn timestamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: ms / 1000,
        nanos: (ms % 1000 * 1_000_000) as i32,
    }
}

fn of(key: &str) -> HistoryRequest {
    HistoryRequest {
        key: key.to_owned(),
        ..HistoryRequest::default()
    }
}

async fn history(server: &mut Server, request: HistoryRequest) -> v1::HistoryResponse {
    server.client.history(request).await.unwrap().into_inner()
}

async fn rate(server: &mut Server, key: &str, score: f32, reason: &str) -> v1::Position {
    let request = FeedbackRequest {
        key: key.to_owned(),
        reader: everything(),
        score,
        reason: reason.to_owned(),
        agent: "bob".to_owned(),
        ..FeedbackRequest::default()
    };
    let rated = server.client.feedback(request).await.unwrap().into_inner();
    rated.position.unwrap()
}

async fn set(server: &mut Server, key: &str, name: &str, value: &str) -> v1::Position {
    let request = UpdateRequest {
        key: key.to_owned(),
        reader: agent("ada"),
        set_metadata: [(name.to_owned(), value.to_owned())].into(),
        ..UpdateRequest::default()
    };
    let updated = server.client.update(request).await.unwrap().into_inner();
    updated.position.unwrap()
}

fn private(content: &str) -> v1::Experience {
    v1::Experience {
        agent: "ada".to_owned(),
        scope: Some(Scope {
            kind: Some(v1::scope::Kind::Agent("ada".to_owned())),
        }),
        ..experience(content)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_to_a_memory_is_told_to_whom_may_see_it() {
    let mut server = Server::start().await;
    let texts = [
        "raise the memory limit of the pod to 512Mi",
        "raise the memory limit of the pods to 512Mi",
    ];
    let mut keys = Vec::new();
    for text in texts {
        keys.push(server.learn_one(experience(text)).await.0);
    }
    rate(&mut server, &keys[1], -0.5, "it was the cache").await;
    set(&mut server, &keys[0], "stage", "tried").await;
    let other = server.learn_one(experience("the printer was out of paper"));
    let other = other.await.0;
    let link = LinkRequest {
        key: keys[0].clone(),
        target: Some(LinkTarget {
            relation: "relates_to".to_owned(),
            key: other.clone(),
        }),
        ..LinkRequest::default()
    };
    server.client.link(link).await.unwrap();

    let endpoint = format!("http://{}", server.node.grpc_address());
    let mut consolidation = ConsolidationClient::connect(endpoint).await.unwrap();
    let mut ran = consolidation
        .run_consolidation(v1::RunConsolidationRequest::default())
        .await
        .unwrap()
        .into_inner();
    while ran.message().await.unwrap().is_some() {}
    let epochs = consolidation.list_epochs(v1::ListEpochsRequest::default());
    let epoch = epochs.await.unwrap().into_inner().epochs[0].clone();
    let merge = &epoch.steps[0];
    assert_eq!((merge.kind.as_str(), epoch.steps.len()), ("merge", 1));
    let (kept, gone) = (merge.key.clone(), merge.others[0].clone());

    let whole = history(&mut server, of(&kept)).await;
    assert!(whole.complete && whole.next_page_token.is_empty());
    assert!(whole.events.is_sorted_by(|a, b| a.position >= b.position));
    let find = |kind: &str| {
        let mut events = whole.events.iter();
        events.find(|event| event.kind == kind).unwrap()
    };
    let (took_in, merged) = (find("took_in"), find("merged"));
    assert_eq!((took_in.position, merged.position), (epoch.id, epoch.id));
    assert_eq!(
        (&took_in.others, &merged.others),
        (&vec![gone.clone()], &vec![kept.clone()])
    );
    let rated = find("rated");
    assert_eq!((&rated.key, rated.score), (&keys[1], Some(-0.5)));
    assert_eq!(
        (rated.reason.as_str(), rated.agent.as_str()),
        ("it was the cache", "bob")
    );
    let updated = find("updated");
    assert_eq!((&updated.key, updated.agent.as_str()), (&keys[0], "ada"));
    let change = &updated.changes[0];
    assert_eq!(
        (
            change.field.as_str(),
            change.before.as_deref(),
            change.after.as_deref()
        ),
        ("metadata.stage", None, Some("tried"))
    );
    assert_eq!(find("linked").link.as_ref().unwrap().key, other);
    assert_eq!(
        whole.events.iter().filter(|e| e.kind == "learned").count(),
        2
    );

    // Page by page it is the same.
    let mut paged = Vec::new();
    let mut token = String::new();
    loop {
        let request = HistoryRequest {
            page_size: 2,
            page_token: token,
            ..of(&kept)
        };
        let page = history(&mut server, request).await;
        paged.extend(page.events);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, whole.events);

    // What is undone leaves no trace.
    let undo = v1::UndoEpochRequest {
        id: epoch.id,
        ..v1::UndoEpochRequest::default()
    };
    consolidation.undo_epoch(undo).await.unwrap();
    let undone = history(&mut server, of(&kept)).await;
    assert!(undone.complete && !undone.events.iter().any(|e| e.kind == "took_in"));

    let (secret, _) = server
        .learn_one(private("the password of the vault rotates"))
        .await;
    rate(&mut server, &secret, 1.0, "only ada may know why").await;
    for reader in [None, agent("bob"), agent("")] {
        let request = HistoryRequest {
            reader,
            ..of(&secret)
        };
        let refused = server.client.history(request).await.unwrap_err();
        assert_eq!(failure(&refused).0, "NotFound NOT_FOUND");
        assert!(!refused.message().contains("why"));
    }
    let elsewhere = HistoryRequest {
        namespace: "other".to_owned(),
        reader: everything(),
        ..of(&secret)
    };
    let refused = server.client.history(elsewhere).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let own = HistoryRequest {
        reader: agent("ada"),
        ..of(&secret)
    };
    assert_eq!(history(&mut server, own.clone()).await.events.len(), 2);
    let forget = ForgetRequest {
        key: secret.clone(),
        reader: agent("ada"),
        ..ForgetRequest::default()
    };
    server.client.forget(forget).await.unwrap();
    assert_eq!(
        server.client.history(own).await.unwrap_err().code(),
        Code::NotFound
    );
    // Learned anew it begins anew.
    server
        .learn_one(private("the password of the vault rotates"))
        .await;
    let own = HistoryRequest {
        reader: agent("ada"),
        ..of(&secret)
    };
    assert_eq!(history(&mut server, own).await.events.len(), 1);

    for (request, field) in [
        (
            HistoryRequest {
                page_size: 1001,
                ..of(&kept)
            },
            "page_size",
        ),
        (
            HistoryRequest {
                page_token: "01".to_owned(),
                ..of(&kept)
            },
            "page_token",
        ),
        (of("x"), "key"),
        (
            HistoryRequest {
                namespace: "A".to_owned(),
                ..of(&kept)
            },
            "namespace",
        ),
    ] {
        let refused = server.client.history(request).await.unwrap_err();
        assert_invalid(&refused, field);
    }
}

/// A recall of everything, as of a moment.
fn recall_as_of(as_of: recall_request::AsOf) -> RecallRequest {
    RecallRequest {
        as_of: Some(as_of),
        ..ask("checkout returned bad gateway")
    }
}

fn at(position: &v1::Position) -> recall_request::AsOf {
    recall_request::AsOf::AsOfPosition(position.index)
}

async fn refused(server: &mut Server, request: RecallRequest) -> Status {
    server.client.recall(request).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_as_of_a_moment_finds_memories_as_they_were() {
    let mut server = Server::start().await;
    let old = "checkout returned bad gateway: the keep-alive was too short";
    let (key, first) = server.learn_one(experience(old)).await;
    server.clock.advance(1000);
    let staged = set(&mut server, &key, "stage", "old").await;
    server.clock.advance(1000);
    set(&mut server, &key, "stage", "new").await;
    rate(&mut server, &key, 1.0, "solved it").await;
    server.clock.advance(1000);
    let new = "checkout returned bad gateway once more: the pool was full";
    let (_, last) = server.learn_one(experience(new)).await;

    let version = |answer: &v1::RecallResponse| {
        let memory = answer.results[0].memory.as_ref().unwrap();
        assert_eq!(memory.content, old);
        (memory.version, memory.metadata.get("stage").cloned())
    };
    let stage = |name: &str| Some(name.to_owned());
    let then = server.recall(recall_as_of(at(&first))).await;
    assert_eq!(contents(&then), [old], "the other was not learned yet");
    assert_eq!(version(&then), (1, None));
    let then = server.recall(recall_as_of(at(&staged))).await;
    assert_eq!(version(&then), (2, stage("old")));
    // By time it is what the last write by then had left.
    for (ms, expected) in [
        (NOW_MS, (1, None)),
        (NOW_MS + 999, (1, None)),
        (NOW_MS + 1000, (2, stage("old"))),
        (NOW_MS + 2000, (4, stage("new"))),
    ] {
        let time = recall_request::AsOf::AsOfTime(timestamp(ms));
        let then = server.recall(recall_as_of(time)).await;
        assert_eq!(contents(&then), [old]);
        assert_eq!(version(&then), expected, "{ms}");
    }
    let before_all = recall_request::AsOf::AsOfTime(timestamp(NOW_MS - 1));
    assert!(
        server
            .recall(recall_as_of(before_all))
            .await
            .results
            .is_empty()
    );
    let at_zero = recall_request::AsOf::AsOfPosition(0);
    assert!(
        server
            .recall(recall_as_of(at_zero))
            .await
            .results
            .is_empty()
    );

    // Filters ask of what was.
    let with_stage = |name: &str, as_of| RecallRequest {
        filter: Some(Filter {
            metadata: [("stage".to_owned(), name.to_owned())].into(),
            ..Filter::default()
        }),
        as_of,
        ..recall_as_of(at(&staged))
    };
    for (name, as_of, count) in [
        ("old", Some(at(&staged)), 1),
        ("new", Some(at(&staged)), 0),
        ("old", None, 0),
        ("new", None, 1),
    ] {
        let found = server.recall(with_stage(name, as_of)).await.results;
        assert_eq!(found.len(), count, "{name} {as_of:?}");
    }

    // As of now it answers as without.
    let now = server.recall(recall_as_of(at(&last))).await;
    let plain = RecallRequest {
        as_of: None,
        ..recall_as_of(at(&last))
    };
    let plain = server.recall(plain).await;
    assert_eq!(now.results, plain.results);
    assert_eq!(now.results.len(), 2);

    // Get and list know the same moments.
    let get = |as_of| GetRequest {
        key: key.clone(),
        as_of: Some(as_of),
        ..GetRequest::default()
    };
    let position = get_request::AsOf::AsOfPosition;
    let got = server
        .client
        .get(get(position(staged.index)))
        .await
        .unwrap();
    assert_eq!(got.into_inner().memory.unwrap().version, 2);
    let not_yet = server.client.get(get(position(first.index - 1))).await;
    assert_eq!(not_yet.unwrap_err().code(), Code::NotFound);
    let list = |index| ListRequest {
        as_of: Some(list_request::AsOf::AsOfPosition(index)),
        page_size: 1,
        ..ListRequest::default()
    };
    let page = server
        .client
        .list(list(staged.index))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (page.memories[0].version, page.next_page_token.as_str()),
        (2, "")
    );
    let page = server
        .client
        .list(list(last.index))
        .await
        .unwrap()
        .into_inner();
    let other_moment = ListRequest {
        page_token: page.next_page_token,
        ..list(staged.index)
    };
    let status = server.client.list(other_moment).await.unwrap_err();
    assert_invalid(&status, "page_token");

    // What is still to come is refused.
    let ahead = recall_request::AsOf::AsOfPosition(last.index + 1000);
    let status = refused(&mut server, recall_as_of(ahead)).await;
    assert_eq!(failure(&status).0, "OutOfRange MOMENT_TO_COME");
    let tomorrow = recall_request::AsOf::AsOfTime(timestamp(NOW_MS + DAY_MS));
    let status = refused(&mut server, recall_as_of(tomorrow)).await;
    assert_eq!(failure(&status).0, "OutOfRange MOMENT_TO_COME");
    let bad = recall_request::AsOf::AsOfTime(timestamp(-5000));
    let status = refused(&mut server, recall_as_of(bad)).await;
    assert_invalid(&status, "as_of_time");
    // The clock of the node has gone on and nobody has written: it is as of now.
    server.clock.advance(5000);
    let idle = recall_request::AsOf::AsOfTime(timestamp(NOW_MS + 6000));
    assert_eq!(server.recall(recall_as_of(idle)).await.results.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_what_is_kept_the_past_is_refused_and_only_to_whom_may_see_it() {
    let mut server = Server::start().await;
    let text = "checkout returned bad gateway: the secret was rotated";
    let (key, first) = server.learn_one(private(text)).await;
    set(&mut server, &key, "stage", "one").await;
    let (_, shared) = server
        .learn_one(experience("checkout returned bad gateway for all"))
        .await;
    server.clock.advance(91 * DAY_MS);
    // The leader finds by itself that the change is too long ago.
    let as_ada = RecallRequest {
        reader: agent("ada"),
        ..recall_as_of(at(&first))
    };
    let status = loop {
        match server.client.recall(as_ada.clone()).await {
            Ok(answer) => {
                let memory = answer.into_inner().results.remove(0).memory.unwrap();
                assert_eq!(memory.version, 1, "right as long as it is known");
                a_moment().await;
            }
            Err(status) => break status,
        }
    };
    let (text, details) = failure(&status);
    assert_eq!(text, "OutOfRange PAST_NOT_KEPT");
    let known = &details.error_info().unwrap().metadata;
    assert_eq!(known["oldest_position"], (first.index + 1).to_string());
    assert_eq!(known["oldest_time"], "2025-06-01T00:00:00Z");
    assert!(
        status.message().contains(&known["oldest_position"]),
        "{}",
        status.message()
    );
    // From there on it is known.
    let oldest = recall_request::AsOf::AsOfPosition(first.index + 1);
    let then = RecallRequest {
        as_of: Some(oldest),
        ..as_ada.clone()
    };
    let then = server.recall(then).await;
    assert_eq!(then.results[0].memory.as_ref().unwrap().version, 2);
    // Who may not see the memory hears nothing of it.
    for reader in [None, agent("bob")] {
        let request = RecallRequest {
            reader: reader.clone(),
            ..recall_as_of(at(&first))
        };
        assert!(server.recall(request).await.results.is_empty());
        let request = RecallRequest {
            reader,
            ..recall_as_of(at(&shared))
        };
        let found = contents(&server.recall(request).await);
        assert_eq!(found, ["checkout returned bad gateway for all"]);
    }
    let whole = HistoryRequest {
        reader: agent("ada"),
        ..of(&key)
    };
    assert!(!history(&mut server, whole).await.complete);
}
