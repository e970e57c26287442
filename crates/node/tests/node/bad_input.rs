//! One test for each way to send something bad: the field is named, nothing is stored, and the
//! server goes on.

use memorygate_proto::v1::{
    self, Experience, FeedbackRequest, Filter, ForgetRequest, GetRequest, LearnRequest,
    LinkRequest, LinkTarget, ListRequest, Position, Reader, RecallRequest, Scope, StatsRequest,
    UpdateRequest, Weights, scope,
};
use prost_types::Timestamp;
use tonic::Code;

use crate::server::{NOW_MS, Server, agent, ask, assert_invalid, experience, failure};

const KEY: &str = "00112233445566778899aabbccddeeff";

/// Learning `bad` after something good is refused for `field`, and neither is stored.
async fn refused(server: &mut Server, bad: Experience, field: &str) {
    let before = server.stats().await;
    let request = LearnRequest {
        experiences: vec![experience("something good"), bad],
        ..LearnRequest::default()
    };
    let status = server.client.learn(request).await.unwrap_err();
    assert_invalid(&status, &format!("experiences[1].{field}"));
    let after = server.stats().await;
    assert_eq!(after.namespaces, before.namespaces, "nothing is stored");
}

async fn recall_refused(server: &mut Server, bad: RecallRequest, field: &str) {
    assert_invalid(&server.client.recall(bad).await.unwrap_err(), field);
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_or_oversized_content() {
    let mut server = Server::start().await;
    refused(&mut server, experience(""), "content").await;
    refused(&mut server, experience(" \r\n\t\n"), "content").await;
    refused(
        &mut server,
        experience(&"x".repeat(64 * 1024 + 1)),
        "content",
    )
    .await;
    server
        .learn(vec![experience(&"word ".repeat(13_107))])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_of_metadata() {
    let mut server = Server::start().await;
    let metadata = [("k".to_owned(), "v".repeat(10 << 20))].into();
    refused(
        &mut server,
        Experience {
            metadata,
            ..experience("x")
        },
        "metadata",
    )
    .await;
    let metadata = (0..65).map(|i| (format!("k{i}"), String::new())).collect();
    refused(
        &mut server,
        Experience {
            metadata,
            ..experience("x")
        },
        "metadata",
    )
    .await;
    let metadata = [(String::new(), "v".to_owned())].into();
    refused(
        &mut server,
        Experience {
            metadata,
            ..experience("x")
        },
        "metadata",
    )
    .await;
    let metadata: std::collections::BTreeMap<_, _> =
        [("k".to_owned(), "v".repeat(10 << 20))].into();
    let update = UpdateRequest {
        key: KEY.to_owned(),
        set_metadata: metadata.clone(),
        ..UpdateRequest::default()
    };
    assert_invalid(
        &server.client.update(update).await.unwrap_err(),
        "set_metadata",
    );
    let filter = Some(Filter {
        metadata,
        ..Filter::default()
    });
    recall_refused(
        &mut server,
        RecallRequest { filter, ..ask("x") },
        "filter.metadata",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit() {
    let mut server = Server::start().await;
    let metadata = [("k".to_owned(), "v".repeat(20 << 20))].into();
    let request = LearnRequest {
        experiences: vec![Experience {
            metadata,
            ..experience("x")
        }],
        ..LearnRequest::default()
    };
    let status = server.client.learn(request).await.unwrap_err();
    let (text, details) = failure(&status);
    assert_eq!(text, "InvalidArgument MESSAGE_TOO_LARGE");
    assert_eq!(details.error_info().unwrap().metadata["outcome"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_empty_or_too_large() {
    let mut server = Server::start().await;
    let learn = |experiences| LearnRequest {
        experiences,
        ..LearnRequest::default()
    };
    assert_invalid(
        &server.client.learn(learn(vec![])).await.unwrap_err(),
        "experiences",
    );
    let many = (0..257)
        .map(|i| experience(&format!("lesson {i}")))
        .collect();
    assert_invalid(
        &server.client.learn(learn(many)).await.unwrap_err(),
        "experiences",
    );
    let large = (0..140)
        .map(|i| experience(&format!("{i} {}", "x".repeat(64_000))))
        .collect();
    let status = server.client.learn(learn(large)).await.unwrap_err();
    assert_eq!(
        failure(&status).0,
        "InvalidArgument COMMAND_TOO_LARGE experiences"
    );
    assert_eq!(server.stats().await.namespaces, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn importance_that_is_no_number_or_out_of_range() {
    let mut server = Server::start().await;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.1, 1.1] {
        let importance = Some(bad);
        refused(
            &mut server,
            Experience {
                importance,
                ..experience("x")
            },
            "importance",
        )
        .await;
        let update = UpdateRequest {
            key: KEY.to_owned(),
            importance,
            ..UpdateRequest::default()
        };
        assert_invalid(
            &server.client.update(update).await.unwrap_err(),
            "importance",
        );
        let filter = Some(Filter {
            min_importance: importance,
            ..Filter::default()
        });
        let bad = RecallRequest { filter, ..ask("x") };
        recall_refused(&mut server, bad, "filter.min_importance").await;
        let score = bad_score(importance);
        assert_invalid(&server.client.feedback(score).await.unwrap_err(), "score");
    }
}

/// A feedback whose score is as bad as that importance.
fn bad_score(importance: Option<f32>) -> FeedbackRequest {
    let score = importance.map_or(0.0, |i| if i.is_finite() { i * 20.0 } else { i });
    FeedbackRequest {
        key: KEY.to_owned(),
        score,
        ..FeedbackRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_are_no_number_or_out_of_range() {
    let mut server = Server::start().await;
    for bad in [f32::NAN, f32::INFINITY, -0.001, 100.5] {
        let weights = Some(Weights {
            recency: Some(bad),
            ..Weights::default()
        });
        recall_refused(
            &mut server,
            RecallRequest {
                weights,
                ..ask("x")
            },
            "weights.recency",
        )
        .await;
        let weights = Some(Weights {
            late: Some(bad),
            ..Weights::default()
        });
        recall_refused(
            &mut server,
            RecallRequest {
                weights,
                ..ask("x")
            },
            "weights.late",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_zero_is_ten_and_a_billion_is_refused() {
    let mut server = Server::start().await;
    let lessons = (0..15)
        .map(|i| experience(&format!("pod number{i} was restarted")))
        .collect();
    let at_least = server.learn(lessons).await.position;
    let zero = RecallRequest {
        at_least: at_least.clone(),
        ..ask("pod restarted")
    };
    assert_eq!(server.recall(zero.clone()).await.results.len(), 10);
    let most = RecallRequest {
        limit: 1000,
        ..zero
    };
    assert_eq!(server.recall(most).await.results.len(), 15);
    for limit in [1001, 1_000_000_000, u32::MAX] {
        recall_refused(
            &mut server,
            RecallRequest {
                limit,
                ..ask("pod")
            },
            "limit",
        )
        .await;
        let list = ListRequest {
            page_size: limit,
            ..ListRequest::default()
        };
        assert_invalid(&server.client.list(list).await.unwrap_err(), "page_size");
    }
}

/// A name that no domain can have is refused; one that nobody used lets nothing pass.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_domain_filter() {
    let mut server = Server::start().await;
    let at_least = server
        .learn(vec![experience("pod restarted")])
        .await
        .position;
    let with = |domain: &str| {
        let filter = Filter {
            domains: vec![domain.to_owned()],
            ..Filter::default()
        };
        RecallRequest {
            filter: Some(filter),
            at_least: at_least.clone(),
            ..ask("pod")
        }
    };
    for bad in ["", "Infra structure", "x\u{7f}", &"x".repeat(257)] {
        recall_refused(&mut server, with(bad), "filter.domains[0]").await;
    }
    assert_eq!(server.recall(with("nobody_used_it")).await.results, []);
    assert_eq!(server.recall(with("infrastructure")).await.results.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_with_too_many_values() {
    let mut server = Server::start().await;
    let agents = vec!["a".to_owned(); 1025];
    let filter = Some(Filter {
        agents,
        ..Filter::default()
    });
    recall_refused(
        &mut server,
        RecallRequest { filter, ..ask("x") },
        "filter.agents",
    )
    .await;
    let teams = vec!["a".to_owned(); 65];
    let reader = Some(Reader {
        teams,
        ..Reader::default()
    });
    recall_refused(
        &mut server,
        RecallRequest { reader, ..ask("x") },
        "reader.teams",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_before_1970_and_after_9999() {
    let mut server = Server::start().await;
    for seconds in [-1, i64::MIN, 253_402_300_800, i64::MAX] {
        let occurred_at = at(seconds);
        refused(
            &mut server,
            Experience {
                occurred_at,
                ..experience("x")
            },
            "occurred_at",
        )
        .await;
        let expires_at = at(seconds);
        refused(
            &mut server,
            Experience {
                expires_at,
                ..experience("x")
            },
            "expires_at",
        )
        .await;
        let filter = Some(Filter {
            until: at(seconds),
            ..Filter::default()
        });
        recall_refused(
            &mut server,
            RecallRequest { filter, ..ask("x") },
            "filter.until",
        )
        .await;
    }
    for nanos in [-1, 1_000_000_000] {
        let occurred_at = Some(Timestamp { seconds: 1, nanos });
        refused(
            &mut server,
            Experience {
                occurred_at,
                ..experience("x")
            },
            "occurred_at",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_in_the_year_9999() {
    let mut server = Server::start().await;
    let last = at(253_402_300_799);
    refused(
        &mut server,
        Experience {
            occurred_at: last,
            ..experience("x")
        },
        "occurred_at",
    )
    .await;
    let (key, _) = server
        .learn_one(Experience {
            expires_at: last,
            ..experience("gone in 9999")
        })
        .await;
    let memory = get(&mut server, &key).await;
    assert_eq!(memory.expires_at, last);
}

async fn get(server: &mut Server, key: &str) -> v1::Memory {
    let request = GetRequest {
        key: key.to_owned(),
        ..GetRequest::default()
    };
    server
        .client
        .get(request)
        .await
        .unwrap()
        .into_inner()
        .memory
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_more_than_a_day_ahead() {
    let mut server = Server::start().await;
    let day = 24 * 3600;
    let tomorrow = at(NOW_MS / 1000 + day);
    server
        .learn(vec![Experience {
            occurred_at: tomorrow,
            ..experience("tomorrow")
        }])
        .await;
    let later = at(NOW_MS / 1000 + day + 1);
    refused(
        &mut server,
        Experience {
            occurred_at: later,
            ..experience("x")
        },
        "occurred_at",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_of_the_wrong_dimension_or_without_direction() {
    let mut server = Server::start().await;
    let mut nan = vec![1.0; 384];
    nan[7] = f32::NAN;
    for vector in [
        vec![1.0; 383],
        vec![1.0; 385],
        vec![1.0],
        vec![0.0; 384],
        nan,
    ] {
        let bad = Experience {
            vector: vector.clone(),
            ..experience("x")
        };
        refused(&mut server, bad, "vector").await;
        recall_refused(
            &mut server,
            RecallRequest {
                vector,
                ..RecallRequest::default()
            },
            "vector",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_namespace() {
    let mut server = Server::start().await;
    let (key, _) = server.learn_one(experience("of default")).await;
    let namespace = "other".to_owned();
    let get = GetRequest {
        namespace: namespace.clone(),
        key: key.clone(),
        ..GetRequest::default()
    };
    let status = server.client.get(get).await.unwrap_err();
    assert_eq!(failure(&status).0, "NotFound NOT_FOUND");
    let update = UpdateRequest {
        namespace: namespace.clone(),
        key: key.clone(),
        pinned: Some(true),
        ..UpdateRequest::default()
    };
    assert_eq!(
        failure(&server.client.update(update).await.unwrap_err()).0,
        "NotFound NOT_FOUND"
    );
    let feedback = FeedbackRequest {
        namespace: namespace.clone(),
        key: key.clone(),
        ..Default::default()
    };
    assert_eq!(
        failure(&server.client.feedback(feedback).await.unwrap_err()).0,
        "NotFound NOT_FOUND"
    );
    let (other, _) = {
        let request = LearnRequest {
            namespace: namespace.clone(),
            experiences: vec![experience("of other")],
            ..LearnRequest::default()
        };
        let answer = server.client.learn(request).await.unwrap().into_inner();
        (answer.learned[0].key.clone(), answer.position)
    };
    let target = LinkTarget {
        relation: "caused_by".to_owned(),
        key: key.clone(),
    };
    let link = LinkRequest {
        namespace: namespace.clone(),
        key: other,
        target: Some(target),
        ..LinkRequest::default()
    };
    assert_eq!(
        failure(&server.client.link(link).await.unwrap_err()).0,
        "NotFound NOT_FOUND"
    );
    let forget = ForgetRequest {
        namespace,
        key: key.clone(),
        ..ForgetRequest::default()
    };
    let status = server.client.forget(forget).await.unwrap_err();
    let (text, details) = failure(&status);
    assert_eq!(text, "NotFound NOT_FOUND");
    assert_eq!(details.resource_info().unwrap().resource_name, key);
    assert_eq!(details.error_info().unwrap().metadata["outcome"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_names_and_ids_that_are_none() {
    let mut server = Server::start().await;
    for key in ["", "x", &KEY[1..], "00112233445566778899aabbccddeefg"] {
        let get = GetRequest {
            key: key.to_owned(),
            ..GetRequest::default()
        };
        assert_invalid(&server.client.get(get).await.unwrap_err(), "key");
    }
    for namespace in ["A", "a b", "ä", &"x".repeat(257)] {
        let stats = StatsRequest {
            namespace: namespace.to_owned(),
            ..StatsRequest::default()
        };
        assert_invalid(&server.client.stats(stats).await.unwrap_err(), "namespace");
        let recall = RecallRequest {
            namespace: namespace.to_owned(),
            ..ask("x")
        };
        recall_refused(&mut server, recall, "namespace").await;
    }
    for request_id in ["x", "1-2", "-1-00112233445566778899aabbccddeeff"] {
        let request = LearnRequest {
            request_id: request_id.to_owned(),
            experiences: vec![experience("x")],
            ..LearnRequest::default()
        };
        assert_invalid(
            &server.client.learn(request).await.unwrap_err(),
            "request_id",
        );
    }
    let control = "zero\0byte".to_owned();
    let agent = Experience {
        agent: control.clone(),
        ..experience("x")
    };
    refused(&mut server, agent, "agent").await;
    let session = Experience {
        session: control.clone(),
        ..experience("x")
    };
    refused(&mut server, session, "session").await;
    refused(
        &mut server,
        Experience {
            domain: String::new(),
            ..experience("x")
        },
        "domain",
    )
    .await;
    let kind = |kind| Experience {
        scope: Some(Scope { kind: Some(kind) }),
        ..experience("x")
    };
    refused(
        &mut server,
        kind(scope::Kind::Shared(false)),
        "scope.shared",
    )
    .await;
    refused(
        &mut server,
        kind(scope::Kind::Team(String::new())),
        "scope.team",
    )
    .await;
    refused(
        &mut server,
        kind(scope::Kind::Agent(control)),
        "scope.agent",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_relation_or_too_many_links() {
    let mut server = Server::start().await;
    let link = |relation: &str| LinkTarget {
        relation: relation.to_owned(),
        key: KEY.to_owned(),
    };
    let bad = Experience {
        links: vec![link("caused_by"), link("blames")],
        ..experience("x")
    };
    refused(&mut server, bad, "links[1].relation").await;
    let bad = Experience {
        links: vec![link("caused_by"); 65],
        ..experience("x")
    };
    refused(&mut server, bad, "links").await;
    let request = LinkRequest {
        key: KEY.to_owned(),
        ..LinkRequest::default()
    };
    assert_invalid(
        &server.client.link(request.clone()).await.unwrap_err(),
        "target",
    );
    let request = LinkRequest {
        target: Some(link("")),
        ..request
    };
    assert_invalid(
        &server.client.link(request).await.unwrap_err(),
        "target.relation",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_asks_for_nothing_or_for_what_is_unknown() {
    let mut server = Server::start().await;
    recall_refused(&mut server, ask(""), "query").await;
    recall_refused(&mut server, ask(" \n"), "query").await;
    recall_refused(&mut server, ask(&"x".repeat(8 * 1024 + 1)), "query").await;
    recall_refused(
        &mut server,
        RecallRequest {
            link_hops: 2,
            ..ask("x")
        },
        "link_hops",
    )
    .await;
    for stage in [0, 13, -1] {
        let without = vec![v1::Stage::Late as i32, stage];
        recall_refused(
            &mut server,
            RecallRequest {
                without,
                ..ask("x")
            },
            "without[1]",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_contradicts_itself() {
    let mut server = Server::start().await;
    let update = UpdateRequest {
        key: KEY.to_owned(),
        ..UpdateRequest::default()
    };
    let both = UpdateRequest {
        expires_at: at(5),
        clear_expires_at: true,
        ..update.clone()
    };
    assert_invalid(
        &server.client.update(both).await.unwrap_err(),
        "clear_expires_at",
    );
    let both = UpdateRequest {
        set_metadata: [("a".to_owned(), "b".to_owned())].into(),
        remove_metadata: vec!["a".to_owned()],
        ..update
    };
    assert_invalid(
        &server.client.update(both).await.unwrap_err(),
        "remove_metadata",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_another_cluster() {
    let mut server = Server::start().await;
    let (_, here) = server.learn_one(experience("x")).await;
    let elsewhere = Position {
        cluster_id: KEY.to_owned(),
        ..here.clone()
    };
    let at_least = Some(elsewhere);
    let status = server
        .client
        .recall(RecallRequest {
            at_least: at_least.clone(),
            ..ask("x")
        })
        .await;
    let (text, details) = failure(&status.unwrap_err());
    assert_eq!(text, "FailedPrecondition POSITION_OF_ANOTHER_CLUSTER");
    assert_eq!(
        details.error_info().unwrap().metadata["expected"],
        here.cluster_id
    );
    let stats = StatsRequest {
        at_least,
        ..StatsRequest::default()
    };
    let status = server.client.stats(stats).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let group = Some(Position {
        group: 1,
        ..here.clone()
    });
    let status = server
        .client
        .recall(RecallRequest {
            at_least: group,
            ..ask("x")
        })
        .await;
    assert_eq!(status.unwrap_err().code(), Code::FailedPrecondition);
    let none = Some(Position {
        cluster_id: "x".to_owned(),
        ..here
    });
    let bad = RecallRequest {
        at_least: none,
        ..ask("x")
    };
    recall_refused(&mut server, bad, "at_least.cluster_id").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_of_another_log() {
    let mut server = Server::start().await;
    let request = LearnRequest {
        request_id: format!("999999999-{KEY}"),
        experiences: vec![experience("x")],
        ..LearnRequest::default()
    };
    let status = server.client.learn(request).await.unwrap_err();
    assert_eq!(
        failure(&status).0,
        "FailedPrecondition REQUEST_ID_OF_ANOTHER_LOG"
    );
    assert_eq!(server.stats().await.namespaces, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_that_is_none_or_of_another_question() {
    let mut server = Server::start().await;
    let lessons = (0..3).map(|i| experience(&format!("lesson {i}"))).collect();
    server.learn(lessons).await;
    let first = ListRequest {
        page_size: 1,
        ..ListRequest::default()
    };
    let answer = server
        .client
        .list(first.clone())
        .await
        .unwrap()
        .into_inner();
    let token = answer.next_page_token;
    assert_ne!(token, "");
    let garbage = ListRequest {
        page_token: "garbage".to_owned(),
        ..first.clone()
    };
    assert_invalid(
        &server.client.list(garbage).await.unwrap_err(),
        "page_token",
    );
    let other = ListRequest {
        page_token: token.clone(),
        reader: agent("x"),
        ..first.clone()
    };
    assert_invalid(&server.client.list(other).await.unwrap_err(), "page_token");
    let next = ListRequest {
        page_token: token,
        page_size: 2,
        ..first
    };
    assert_eq!(
        server
            .client
            .list(next)
            .await
            .unwrap()
            .into_inner()
            .memories
            .len(),
        2
    );
}
