//! Sharing, several namespaces at once, trust, and what one source cannot do to an answer.

use memorygate_proto::v1::{
    self, Archive, Experience, FeedbackRequest, Filter, ForgetRequest, GetRequest, LearnRequest,
    LinkTarget, ListRequest, Memory, Reader, RecallRequest, RecallResponse, RestoreRequest, Scope,
    ShareRequest, Stage, consolidation_client::ConsolidationClient, scope::Kind,
};
use prost::Message as _;

use crate::server::{Server, agent, ask, assert_invalid, everything, experience, failure};

fn of(scope: Kind) -> Option<Scope> {
    Some(Scope { kind: Some(scope) })
}

fn with_team(team: &str) -> Option<Scope> {
    of(Kind::Team(team.to_owned()))
}

fn with_everyone() -> Option<Scope> {
    of(Kind::Shared(true))
}

fn member(agent: &str, team: &str) -> Option<Reader> {
    Some(Reader {
        agent: agent.to_owned(),
        teams: vec![team.to_owned()],
        everything: false,
    })
}

fn private(content: &str) -> Experience {
    Experience {
        scope: of(Kind::Agent("ada".to_owned())),
        agent: "ada".to_owned(),
        ..experience(content)
    }
}

async fn get(server: &mut Server, key: &str, reader: Option<Reader>) -> Option<Memory> {
    let request = GetRequest {
        key: key.to_owned(),
        reader,
        linearizable: true,
        ..GetRequest::default()
    };
    let got = server.client.get(request).await;
    got.ok().map(|got| got.into_inner().memory.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_is_shared_and_its_old_key_leads_to_it() {
    let mut server = Server::start().await;
    let (own, _) = server
        .learn_one(private("the canary of checkout needs ten minutes"))
        .await;
    let share = |reader, scope| ShareRequest {
        key: own.clone(),
        reader,
        scope,
        ..ShareRequest::default()
    };
    for (request, expected) in [
        (share(agent("bob"), with_everyone()), "NotFound NOT_FOUND"),
        (share(None, with_everyone()), "NotFound NOT_FOUND"),
        (
            share(everything(), with_everyone()),
            "InvalidArgument INVALID",
        ),
        (
            share(agent("ada"), with_team("sre")),
            "InvalidArgument INVALID",
        ),
        (share(agent("ada"), None), "InvalidArgument INVALID scope"),
        (
            share(agent("ada"), of(Kind::Agent("bob".to_owned()))),
            "InvalidArgument INVALID scope.agent",
        ),
        (
            share(agent("ada"), of(Kind::Shared(false))),
            "InvalidArgument INVALID scope.shared",
        ),
    ] {
        let refused = server.client.share(request.clone()).await.unwrap_err();
        assert_eq!(failure(&refused).0, expected, "{request:?}");
    }
    let stale = ShareRequest {
        expected_version: Some(7),
        ..share(agent("ada"), with_everyone())
    };
    let refused = server.client.share(stale).await.unwrap_err();
    assert_eq!(failure(&refused).0, "Aborted VERSION_MISMATCH");

    let with_sre = share(member("ada", "sre"), with_team("sre"));
    let shared = server.client.share(with_sre).await.unwrap().into_inner();
    assert!(shared.changed && shared.key != own && shared.version == 1);
    let of_team = get(&mut server, &shared.key, member("eve", "sre"))
        .await
        .unwrap();
    assert_eq!(of_team.agent, "ada");
    assert_eq!(of_team.shared_by[0].agent, "ada");
    assert_eq!(get(&mut server, &shared.key, agent("ada")).await, None);
    // Her own is hers still, but whom it was shared with is not told to one who is no member.
    let archived = |memory: Memory| {
        let archived = memory.archived.unwrap();
        (archived.reason, archived.replaced_by)
    };
    let as_member = get(&mut server, &own, member("ada", "sre")).await.unwrap();
    assert_eq!(
        archived(as_member),
        ("shared".to_owned(), shared.key.clone())
    );
    let alone = get(&mut server, &own, agent("ada")).await.unwrap();
    assert_eq!(archived(alone), ("withheld".to_owned(), String::new()));

    let feedback = FeedbackRequest {
        key: own.clone(),
        reader: member("ada", "sre"),
        score: 1.0,
        ..FeedbackRequest::default()
    };
    let rated = server.client.feedback(feedback).await.unwrap().into_inner();
    assert_eq!((rated.key, rated.version), (shared.key.clone(), 2));
    let restore = RestoreRequest {
        key: own.clone(),
        reader: agent("ada"),
        ..RestoreRequest::default()
    };
    let refused = server.client.restore(restore).await.unwrap_err();
    assert_eq!(failure(&refused).0, "FailedPrecondition SHARED");

    let recall = RecallRequest {
        reader: member("ada", "sre"),
        at_least: rated.position,
        ..ask("how long does the canary of checkout take")
    };
    let found = server.recall(recall).await;
    let keys: Vec<&str> = found
        .results
        .iter()
        .map(|r| r.memory.as_ref().unwrap().key.as_str())
        .collect();
    assert_eq!(
        keys,
        [shared.key.as_str()],
        "it is found once, in the wider scope"
    );
    let forget = ForgetRequest {
        key: shared.key,
        reader: member("eve", "sre"),
        ..ForgetRequest::default()
    };
    server.client.forget(forget).await.unwrap();
    assert_eq!(get(&mut server, &own, agent("ada")).await, None);
}

async fn learn_in(
    server: &mut Server,
    namespace: &str,
    experiences: Vec<Experience>,
) -> v1::Position {
    let request = LearnRequest {
        namespace: namespace.to_owned(),
        experiences,
        ..LearnRequest::default()
    };
    let learned = server.client.learn(request).await.unwrap().into_inner();
    learned.position.unwrap()
}

fn bytes_of(answer: &RecallResponse) -> Vec<u8> {
    answer.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_namespaces_answer_as_one() {
    let mut server = Server::start().await;
    let lesson = |what: &str, session: &str| Experience {
        session: session.to_owned(),
        ..experience(what)
    };
    for (namespace, extra) in [("ops", "in operations"), ("shop", "in the shop")] {
        let lessons = [
            "postgres replica lag grew",
            "the archive disk was full",
            "the certificate of the ingress expired",
        ];
        let lessons = lessons.map(|l| lesson(&format!("{l} {extra}"), "incident-1"));
        learn_in(&mut server, namespace, lessons.to_vec()).await;
    }
    let at_least = Some(server.position().await);
    let question = |namespace: &str, namespaces: &[&str]| RecallRequest {
        namespace: namespace.to_owned(),
        namespaces: namespaces.iter().map(|n| (*n).to_owned()).collect(),
        at_least: at_least.clone(),
        ..ask("why did the replica of postgres lag")
    };
    let alone = server.recall(question("ops", &[])).await;
    for same in [
        question("", &["ops"]),
        question("", &["ops", "nothing-here"]),
    ] {
        assert_eq!(bytes_of(&server.recall(same).await), bytes_of(&alone));
    }
    let both = server.recall(question("ops", &["shop"])).await;
    for same in [
        question("shop", &["ops"]),
        question("", &["shop", "ops", "zzz"]),
    ] {
        assert_eq!(bytes_of(&server.recall(same).await), bytes_of(&both));
    }
    let found: Vec<(&str, &str)> = both
        .results
        .iter()
        .map(|r| r.memory.as_ref().unwrap())
        .map(|m| (m.namespace.as_str(), m.content.as_str()))
        .collect();
    assert_eq!(found.len(), 6);
    assert!(
        found[..2]
            .iter()
            .all(|(_, text)| text.starts_with("postgres replica lag grew"))
    );
    assert!(found.iter().all(|(namespace, text)| match *namespace {
        "ops" => text.ends_with("in operations"),
        _ => text.ends_with("in the shop"),
    }));
    // A session of one name is another in each: what is said there is lifted by its own alone.
    let of = |answer: &RecallResponse, namespace: &str| -> Vec<f32> {
        let of = answer
            .results
            .iter()
            .filter(|r| r.memory.as_ref().unwrap().namespace == namespace);
        of.map(|r| r.parts.unwrap().session).collect()
    };
    let (ops, shop) = (of(&both, "ops"), of(&both, "shop"));
    assert!(ops.iter().all(|lift| *lift == ops[0]), "{ops:?}");
    assert!(shop.iter().all(|lift| *lift == shop[0]), "{shop:?}");
    assert_ne!(ops[0], shop[0]);

    for (namespace, namespaces, field) in [
        ("ops", vec!["ops"], "namespaces[0]"),
        ("", vec!["ops", "ops"], "namespaces[1]"),
        ("", vec!["NO"], "namespaces[0]"),
        ("", vec![""], "namespaces[0]"),
    ] {
        let refused = server.client.recall(question(namespace, &namespaces)).await;
        assert_invalid(&refused.unwrap_err(), field);
    }
    let many: Vec<String> = (0..17).map(|i| format!("n{i}")).collect();
    let request = RecallRequest {
        namespaces: many[..16].to_vec(),
        ..question("", &[])
    };
    assert_eq!(server.recall(request.clone()).await.results, []);
    for request in [
        RecallRequest {
            namespaces: many.clone(),
            ..request.clone()
        },
        RecallRequest {
            namespace: "ops".to_owned(),
            ..request
        },
    ] {
        assert_invalid(
            &server.client.recall(request).await.unwrap_err(),
            "namespaces",
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_trusted_by_what_others_find_of_its_memories() {
    let mut server = Server::start().await;
    let endpoint = format!("http://{}", server.node.grpc_address());
    let mut operator = ConsolidationClient::connect(endpoint).await.unwrap();
    let by = |agent: &str, text: &str| Experience {
        agent: agent.to_owned(),
        ..experience(text)
    };
    let (key, _) = server.learn_one(by("ada", "an older lesson of ada")).await;
    server
        .learn_one(by("ada", "the pods of checkout restart at night"))
        .await;
    server
        .learn_one(by("bob", "the pods of payment restart at night"))
        .await;
    for (agent, score) in [("ada", 1.0), ("", 1.0), ("cy", -1.0)] {
        let feedback = FeedbackRequest {
            key: key.clone(),
            score,
            agent: agent.to_owned(),
            ..FeedbackRequest::default()
        };
        server.client.feedback(feedback).await.unwrap();
    }
    let trust = async |server: &mut Server, without: Vec<i32>| -> Vec<(String, f32)> {
        let request = RecallRequest {
            at_least: Some(server.position().await),
            without,
            ..ask("pods restart at night")
        };
        let found = server.recall(request).await;
        let mut trust: Vec<(String, f32)> = found
            .results
            .iter()
            .map(|r| {
                (
                    r.memory.as_ref().unwrap().agent.clone(),
                    r.parts.unwrap().trust,
                )
            })
            .collect();
        trust.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        trust.dedup();
        trust
    };
    // One rating of nine counts, the prior's eight included: 0.3 × -1/9.
    let found = trust(&mut server, vec![]).await;
    assert_eq!(found.len(), 2);
    assert!((found[0].1 + 0.3 / 9.0).abs() < 1e-6, "{found:?}");
    assert_eq!(found[1], ("bob".to_owned(), 0.0));
    let off = trust(&mut server, vec![Stage::Trust as i32]).await;
    assert!(off.iter().all(|(_, trust)| *trust == 0.0));

    let set = |agent: &str, trust| v1::SetTrustRequest {
        agent: agent.to_owned(),
        trust,
        ..v1::SetTrustRequest::default()
    };
    operator.set_trust(set("bob", Some(0.0))).await.unwrap();
    assert_eq!(trust(&mut server, vec![]).await[1].1, -0.3);
    for (request, field) in [
        (set("", Some(0.5)), "agent"),
        (set("bob", Some(1.5)), "trust"),
        (set("bob", Some(f32::NAN)), "trust"),
    ] {
        assert_invalid(&operator.set_trust(request).await.unwrap_err(), field);
    }
    let list = |page_size, page_token: &str| v1::ListTrustRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..v1::ListTrustRequest::default()
    };
    let page = operator.list_trust(list(1, "")).await.unwrap().into_inner();
    assert_eq!(
        (page.agents[0].agent.as_str(), page.agents[0].ratings),
        ("ada", 1)
    );
    let last = operator
        .list_trust(list(1, &page.next_page_token))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (last.agents[0].agent.as_str(), last.agents[0].set),
        ("bob", Some(0.0))
    );
    assert_eq!(last.next_page_token, "");
    operator.set_trust(set("bob", None)).await.unwrap();
    let all = operator.list_trust(list(0, "")).await.unwrap().into_inner();
    assert_eq!(all.agents.len(), 1, "of bob nothing is known any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_one_source_does_not_fill_an_answer() {
    let mut server = Server::start().await;
    let by = |agent: &str, importance, text: String| Experience {
        agent: agent.to_owned(),
        importance: Some(importance),
        ..experience(&text)
    };
    let claims = [
        "disable",
        "turn off",
        "switch off",
        "remove",
        "drop",
        "stop using",
        "get rid of",
        "delete",
        "take out",
        "kill",
        "deactivate",
        "retire",
    ];
    let burst = claims.map(|verb| {
        let text = format!("to repair a slow checkout, {verb} the authentication of the gateway");
        by("mallory", 1.0, text)
    });
    server.learn(burst.to_vec()).await;
    let honest = [
        (
            "ada",
            "a slow checkout was repaired by a larger pool of connections",
        ),
        (
            "bob",
            "checkout was slow because the cache of the catalogue was cold",
        ),
        (
            "cy",
            "the gateway was slow: its authentication waited for a name server",
        ),
    ];
    let honest = honest.map(|(agent, text)| by(agent, 0.2, text.to_owned()));
    let position = server.learn(honest.to_vec()).await.position;
    let question = |without: Vec<i32>| RecallRequest {
        limit: 5,
        at_least: position.clone(),
        without,
        ..ask("how do I repair a slow checkout behind the gateway")
    };
    let sources = |answer: &RecallResponse| -> Vec<String> {
        let memories = answer.results.iter().map(|r| r.memory.as_ref().unwrap());
        memories.map(|m| m.agent.clone()).collect()
    };
    let count = |sources: &[String]| sources.iter().filter(|s| *s == "mallory").count();
    let undefended = sources(&server.recall(question(vec![Stage::Diversity as i32])).await);
    assert!(count(&undefended) >= 4, "{undefended:?}");
    let defended = sources(&server.recall(question(vec![])).await);
    // What is near each other takes two places; claims in words that are far from each other take two each.
    assert_eq!(defended.len(), 5);
    assert!(
        count(&defended) < count(&undefended),
        "{undefended:?} {defended:?}"
    );
    let all = RecallRequest {
        limit: 100,
        ..question(vec![])
    };
    assert_eq!(
        server.recall(all).await.results.len(),
        15,
        "nothing is dropped"
    );
}

/// Keys of memories that someone linked, shared, merged or archived, in every answer there is.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_names_what_its_reader_may_not_see() {
    let mut server = Server::start().await;
    let (secret, _) = server
        .learn_one(private("the secret cause of the outage"))
        .await;
    let (own, _) = server
        .learn_one(private("the outage of the checkout"))
        .await;
    let links = vec![LinkTarget {
        relation: "caused_by".to_owned(),
        key: secret.clone(),
    }];
    let (effect, _) = server
        .learn_one(Experience {
            links,
            ..experience("everyone knows of the outage")
        })
        .await;
    let share = ShareRequest {
        key: own.clone(),
        reader: agent("ada"),
        scope: with_everyone(),
        ..ShareRequest::default()
    };
    let shared = server.client.share(share).await.unwrap().into_inner();
    let hostile = [Archive::Unspecified, Archive::Included, Archive::Only].map(|archive| Filter {
        archive: archive as i32,
        agents: match archive {
            Archive::Unspecified => vec![],
            Archive::Included | Archive::Only => vec!["ada".to_owned(), String::from("bob")],
        },
        ..Filter::default()
    });
    let text = |message: &dyn std::fmt::Debug| format!("{message:?}");
    for reader in [None, agent("bob"), member("bob", "ada")] {
        let mut answers = Vec::new();
        for filter in hostile.clone().into_iter().chain([Filter::default()]) {
            let recall = RecallRequest {
                reader: reader.clone(),
                filter: Some(filter.clone()),
                link_hops: 1,
                limit: 1000,
                namespaces: vec!["elsewhere".to_owned(), "default".to_owned()],
                at_least: shared.position.clone(),
                ..ask("the outage and its secret cause")
            };
            answers.push(text(&server.recall(recall).await));
            let list = ListRequest {
                reader: reader.clone(),
                filter: Some(filter),
                ..ListRequest::default()
            };
            answers.push(text(&server.client.list(list).await.unwrap().into_inner()));
        }
        for key in [&shared.key, &effect] {
            let got = get(&mut server, key, reader.clone()).await.unwrap();
            assert_eq!(got.links, []);
            answers.push(text(&got));
        }
        for answer in answers {
            assert!(!answer.contains(&secret), "{answer}");
            assert!(!answer.contains(&own), "{answer}");
        }
    }
    let got = get(&mut server, &shared.key, None).await.unwrap();
    assert_eq!(
        (got.agent.as_str(), got.shared_by[0].agent.as_str()),
        ("ada", "ada")
    );
    let hers = get(&mut server, &effect, agent("ada")).await.unwrap();
    assert_eq!(hers.links[0].key, secret);
}
