//! Nobody is given what belongs to another: not by recall, list, get, links or any filter.

use memorygate_proto::v1::{
    Experience, FeedbackRequest, Filter, ForgetRequest, GetRequest, LearnRequest, LinkTarget,
    ListRequest, Reader, RecallRequest, Scope, UpdateRequest, scope::Kind,
};

use crate::server::{Server, agent, ask, everything, experience, failure};

fn of(kind: Kind, content: &str) -> Experience {
    Experience {
        scope: Some(Scope { kind: Some(kind) }),
        ..experience(content)
    }
}

/// One lesson in every scope of two namespaces, all in the same words but for the owner's.
async fn learn_secrets(server: &mut Server) {
    for namespace in ["default", "other"] {
        let secret =
            |who: &str| format!("the secret database password rotation of {who} in {namespace}");
        let session = |e: Experience| Experience {
            session: "rotation".to_owned(),
            ..e
        };
        let experiences = vec![
            session(experience(&secret("everyone"))),
            session(of(Kind::Agent("ada".to_owned()), &secret("ada"))),
            session(of(Kind::Agent("bob".to_owned()), &secret("bob"))),
            session(of(Kind::Team("sre".to_owned()), &secret("sre"))),
            // A team that is called like an agent is another owner.
            session(of(Kind::Team("ada".to_owned()), &secret("others"))),
        ];
        let request = LearnRequest {
            namespace: namespace.to_owned(),
            experiences,
            ..Default::default()
        };
        server.client.learn(request).await.unwrap();
    }
}

/// Filters that ask for all they can, as someone would who looks for a way around.
fn hostile_filters() -> Vec<Option<Filter>> {
    vec![
        None,
        Some(Filter::default()),
        Some(Filter {
            domains: vec!["infrastructure".to_owned()],
            ..Filter::default()
        }),
        Some(Filter {
            sessions: vec!["rotation".to_owned()],
            ..Filter::default()
        }),
        Some(Filter {
            min_importance: Some(0.0),
            ..Filter::default()
        }),
        Some(Filter {
            since: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 0,
            }),
            until: Some(prost_types::Timestamp {
                seconds: 253_402_300_799,
                nanos: 0,
            }),
            ..Filter::default()
        }),
    ]
}

async fn seen(server: &mut Server, reader: Option<Reader>, namespace: &str) -> Vec<String> {
    let mut all: Vec<Vec<String>> = Vec::new();
    let at_least = Some(server.position().await);
    for filter in hostile_filters() {
        let request = RecallRequest {
            namespace: namespace.to_owned(),
            reader: reader.clone(),
            filter: filter.clone(),
            limit: 1000,
            link_hops: 1,
            at_least: at_least.clone(),
            ..ask("secret database password rotation of ada bob sre")
        };
        let answer = server.recall(request).await;
        let folded = answer.results.iter().flat_map(|r| r.folded.clone());
        assert_eq!(folded.count(), 0, "owners differ, so the texts do");
        let mut recalled = crate::server::contents(&answer);
        recalled.sort();
        let request = ListRequest {
            namespace: namespace.to_owned(),
            reader: reader.clone(),
            filter,
            ..ListRequest::default()
        };
        let listed = server
            .client
            .list(request)
            .await
            .unwrap()
            .into_inner()
            .memories;
        let mut listed: Vec<String> = listed.into_iter().map(|m| m.content).collect();
        listed.sort();
        assert_eq!(recalled, listed);
        all.push(recalled);
    }
    assert!(all.iter().all(|found| *found == all[0]), "{all:?}");
    let owner = |content: &String| {
        content
            .split(" of ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert!(
        all[0]
            .iter()
            .all(|c| c.ends_with(&format!(" in {namespace}"))),
        "{all:?}"
    );
    all[0].iter().map(owner).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_sees_what_is_shared_and_what_is_his_own() {
    let mut server = Server::start().await;
    learn_secrets(&mut server).await;
    let team = |teams: &[&str]| {
        let teams = teams.iter().map(|t| (*t).to_owned()).collect();
        Some(Reader {
            teams,
            ..Reader::default()
        })
    };
    for namespace in ["default", "other"] {
        assert_eq!(seen(&mut server, None, namespace).await, ["everyone"]);
        assert_eq!(
            seen(&mut server, agent("eve"), namespace).await,
            ["everyone"]
        );
        assert_eq!(
            seen(&mut server, agent("ada"), namespace).await,
            ["ada", "everyone"]
        );
        assert_eq!(
            seen(&mut server, agent("bob"), namespace).await,
            ["bob", "everyone"]
        );
        assert_eq!(
            seen(&mut server, team(&["sre"]), namespace).await,
            ["everyone", "sre"]
        );
        let both = seen(&mut server, team(&["sre", "ada"]), namespace).await;
        assert_eq!(both, ["everyone", "others", "sre"]);
        let all = seen(&mut server, everything(), namespace).await;
        assert_eq!(all, ["ada", "bob", "everyone", "others", "sre"]);
    }
    assert_eq!(
        seen(&mut server, everything(), "nobody").await,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_memory_cannot_be_touched_or_told_from_an_absent_one() {
    let mut server = Server::start().await;
    let (key, _) = server
        .learn_one(of(Kind::Agent("ada".to_owned()), "ada's own"))
        .await;
    let absent = "ffffffffffffffffffffffffffffffff".to_owned();
    for reader in [
        None,
        agent("eve"),
        Some(Reader {
            teams: vec!["ada".to_owned()],
            ..Default::default()
        }),
    ] {
        let mut messages = Vec::new();
        for key in [key.clone(), absent.clone()] {
            let get = GetRequest {
                key: key.clone(),
                reader: reader.clone(),
                ..Default::default()
            };
            let update = UpdateRequest {
                key: key.clone(),
                reader: reader.clone(),
                pinned: Some(true),
                ..Default::default()
            };
            let feedback = FeedbackRequest {
                key: key.clone(),
                reader: reader.clone(),
                ..Default::default()
            };
            let forget = ForgetRequest {
                key: key.clone(),
                reader: reader.clone(),
                ..Default::default()
            };
            let refusals = [
                server.client.get(get).await.unwrap_err(),
                server.client.update(update).await.unwrap_err(),
                server.client.feedback(feedback).await.unwrap_err(),
                server.client.forget(forget).await.unwrap_err(),
            ];
            let text = |s: &tonic::Status| (failure(s).0, s.message().replace(&key, "KEY"));
            messages.push(refusals.iter().map(text).collect::<Vec<_>>());
        }
        assert_eq!(messages[0], messages[1]);
    }
    let get = GetRequest {
        key,
        reader: agent("ada"),
        ..GetRequest::default()
    };
    assert_eq!(
        server
            .client
            .get(get)
            .await
            .unwrap()
            .into_inner()
            .memory
            .unwrap()
            .version,
        1
    );
}

/// A link that its owner may follow shows others nothing.
#[tokio::test(flavor = "multi_thread")]
async fn links_lead_nobody_to_what_he_may_not_see() {
    let mut server = Server::start().await;
    let (secret, _) = server
        .learn_one(of(Kind::Agent("ada".to_owned()), "xyzzy plugh"))
        .await;
    let links = vec![LinkTarget {
        relation: "caused_by".to_owned(),
        key: secret.clone(),
    }];
    let (_, position) = server
        .learn_one(Experience {
            links,
            ..experience("the shared effect")
        })
        .await;
    let request = |reader| RecallRequest {
        reader,
        link_hops: 1,
        at_least: Some(position.clone()),
        ..ask("shared effect")
    };
    let mine = server.recall(request(agent("ada"))).await;
    assert_eq!(mine.results.len(), 2);
    let others = server.recall(request(agent("eve"))).await;
    assert_eq!(crate::server::contents(&others), ["the shared effect"]);
}

/// The statistics of a namespace are those of all its memories, but no text of another leaks
/// through expansion or the session's lift: only passing memories are candidates.
#[tokio::test(flavor = "multi_thread")]
async fn private_memories_are_no_candidates_for_others() {
    let mut server = Server::start().await;
    let mut lessons: Vec<Experience> = (0..150)
        .map(|i| {
            of(
                Kind::Agent("ada".to_owned()),
                &format!("kubernetes quota exceeded note{i}"),
            )
        })
        .collect();
    lessons.push(experience("kubernetes quota exceeded for everyone"));
    let answer = server.learn(lessons).await;
    let request = RecallRequest {
        reader: agent("eve"),
        at_least: answer.position,
        ..ask("kubernetes quota exceeded")
    };
    let found = server.recall(request).await;
    assert_eq!(
        crate::server::contents(&found),
        ["kubernetes quota exceeded for everyone"]
    );
}
