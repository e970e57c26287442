//! Recall: what is found, in which order, why, and that it is always the same.

use std::collections::BTreeMap;

use memorygate_proto::v1::{
    self, Experience, FeedbackRequest, Filter, LinkTarget, RecallRequest, RecallResponse, Stage,
    Weights,
};
use prost::Message as _;
use prost_types::Timestamp;

use crate::server::{NOW_MS, Server, ask, contents, experience};

fn days_ago(days: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: NOW_MS / 1000 - days * 24 * 3600,
        nanos: 0,
    })
}

/// Some forty memories over sessions, domains and times, learned in several entries.
async fn learn_some(server: &mut Server) -> v1::Position {
    let subjects = [
        "checkout pod",
        "payment service",
        "nginx ingress",
        "postgres replica",
    ];
    let events = [
        "was OOMKilled after the rollout",
        "timed out under load",
        "lost its certificate",
        "ran out of disk",
        "was restarted by the probe",
    ];
    let mut last = None;
    for (i, subject) in subjects.iter().enumerate() {
        let lessons = events.iter().enumerate().flat_map(|(j, event)| {
            (0..2).map(move |k| Experience {
                session: format!("incident-{i}-{}", j / 2),
                domain: ["infrastructure", "deployment"][j % 2].to_owned(),
                agent: format!("agent-{k}"),
                occurred_at: days_ago((i * 10 + j * 2 + k) as i64),
                importance: Some(0.1 * (j as f32) + 0.3),
                metadata: [("team".to_owned(), format!("t{}", (i + k) % 3))].into(),
                ..experience(&format!("the {subject} {event} on node {}", j * 2 + k))
            })
        });
        last = server.learn(lessons.collect()).await.position;
    }
    last.unwrap()
}

fn at(position: &v1::Position, query: &str) -> RecallRequest {
    RecallRequest {
        at_least: Some(position.clone()),
        ..ask(query)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_memory_comes_first_with_its_score_taken_apart() {
    let mut server = Server::start().await;
    let position = learn_some(&mut server).await;
    let question = RecallRequest {
        // What one agent says over and over would step back.
        without: vec![Stage::Diversity as i32],
        ..at(&position, "which postgres replica ran out of disk")
    };
    let answer = server.recall(question).await;
    assert!(contents(&answer)[0].starts_with("the postgres replica ran out of disk"));
    assert_eq!(answer.position, Some(position));
    for result in &answer.results {
        let p = result.parts.unwrap();
        let relevance = p.late + p.lexical + p.dense + p.expansion + p.session;
        let sum = relevance + p.recency + p.importance + p.usefulness + p.trust + p.link;
        assert!(
            (sum - result.score).abs() < 1e-4,
            "{p:?} do not sum to {}",
            result.score
        );
        assert!(
            p.raw_lexical > 0.0 && p.raw_dense != 0.0 && p.raw_late != 0.0,
            "{p:?}"
        );
    }
    assert!(answer.results.is_sorted_by(|a, b| a.score >= b.score));
}

#[tokio::test(flavor = "multi_thread")]
async fn read_your_writes_by_the_position_of_the_write() {
    let mut server = Server::start().await;
    for i in 0..50 {
        let content = format!("lesson with the unique word uniq{i}");
        let (_, position) = server.learn_one(experience(&content)).await;
        let answer = server.recall(at(&position, &format!("uniq{i}"))).await;
        assert_eq!(contents(&answer)[0], content);
        assert!(answer.position.unwrap().index >= position.index);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_at_the_same_position_has_the_same_bytes() {
    let mut server = Server::start().await;
    let position = learn_some(&mut server).await;
    let questions = [
        "pod OOMKilled",
        "certificate lost",
        "what was restarted",
        "node 3",
    ];
    let mut first: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for _ in 0..20 {
        for question in questions {
            let answer = server.recall(at(&position, question)).await;
            let bytes = answer.encode_to_vec();
            assert_eq!(
                &bytes,
                first.entry(question).or_insert_with(|| bytes.clone())
            );
        }
    }
}

/// An index read back from its checkpoint, one that caught up by the journal and one that was built
/// anew answer alike, although their slots, rows and sessions are numbered differently.
#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_a_caught_up_and_a_rebuilt_index_answer_with_the_same_bytes() {
    let mut server = Server::start().await;
    learn_some(&mut server).await;
    // A history: some are gone, one came again, one was changed.
    let listed = server
        .client
        .list(v1::ListRequest {
            page_size: 9,
            ..Default::default()
        })
        .await;
    let keys: Vec<String> = listed
        .unwrap()
        .into_inner()
        .memories
        .into_iter()
        .map(|m| m.key)
        .collect();
    for key in &keys[..4] {
        let forget = v1::ForgetRequest {
            key: key.clone(),
            ..Default::default()
        };
        server.client.forget(forget).await.unwrap();
    }
    let index = server.node.backend().index.clone();
    tokio::task::spawn_blocking(move || index.checkpoint())
        .await
        .unwrap()
        .unwrap();
    let feedback = FeedbackRequest {
        key: keys[5].clone(),
        score: 1.0,
        ..Default::default()
    };
    server.client.feedback(feedback).await.unwrap();
    server
        .learn(vec![experience(
            "the checkout pod was OOMKilled once more, on node 77",
        )])
        .await;

    let questions = [
        "pod OOMKilled on node",
        "who ran out of disk",
        "certificate",
        "probe",
    ];
    let mut answers: Vec<Vec<Vec<RecallResponse>>> = Vec::new();
    let checkpoint = server.dir.join("index/checkpoint");
    let old = std::fs::read(&checkpoint).unwrap();
    let dir = server.dir.clone();
    let mut guard = None;
    for run in ["lived", "loaded", "caught up", "rebuilt"] {
        let position = server.position().await;
        let mut round = Vec::new();
        for question in questions {
            let mut both = Vec::new();
            for link_hops in [0, 1] {
                let request = RecallRequest {
                    link_hops,
                    limit: 40,
                    ..at(&position, question)
                };
                let mut answer = server.recall(request).await;
                // A restart is an entry of its own in the log.
                answer.position = None;
                both.push(answer);
            }
            round.push(both);
        }
        answers.push(round);
        guard = server.stop().await.or(guard);
        match run {
            "lived" => {}
            "loaded" => std::fs::write(&checkpoint, &old).unwrap(),
            _ => {
                let _ = std::fs::remove_file(&checkpoint);
            }
        }
        server = Server::on(&dir).await;
    }
    for (i, round) in answers.iter().enumerate().skip(1) {
        assert_eq!(round, &answers[0], "run {i}");
    }
    server.stop().await;
    drop(guard);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_bound_what_is_answered() {
    let mut server = Server::start().await;
    let position = learn_some(&mut server).await;
    let with = |filter: Filter| RecallRequest {
        filter: Some(filter),
        limit: 100,
        ..at(&position, "the pod on node")
    };
    let memories = |answer: RecallResponse| {
        answer
            .results
            .into_iter()
            .map(|r| r.memory.unwrap())
            .collect::<Vec<_>>()
    };
    let list = |s: &str| vec![s.to_owned()];
    let all = memories(server.recall(with(Filter::default())).await);
    assert_eq!(all.len(), 40);
    let filter = Filter {
        domains: list("deployment"),
        ..Filter::default()
    };
    let found = memories(server.recall(with(filter)).await);
    assert!(found.len() == 16 && found.iter().all(|m| m.domain == "deployment"));
    let filter = Filter {
        agents: list("agent-1"),
        ..Filter::default()
    };
    let found = memories(server.recall(with(filter)).await);
    assert!(found.len() == 20 && found.iter().all(|m| m.agent == "agent-1"));
    let filter = Filter {
        sessions: list("incident-2-0"),
        ..Filter::default()
    };
    let found = memories(server.recall(with(filter)).await);
    assert!(found.len() == 4 && found.iter().all(|m| m.session == "incident-2-0"));
    let metadata = [("team".to_owned(), "t1".to_owned())].into();
    let found = memories(
        server
            .recall(with(Filter {
                metadata,
                ..Filter::default()
            }))
            .await,
    );
    assert_eq!(
        found.len(),
        all.iter().filter(|m| m.metadata["team"] == "t1").count()
    );
    assert!(found.iter().all(|m| m.metadata["team"] == "t1"));
    let (since, until) = (days_ago(12), days_ago(4));
    let seconds = |t: Option<Timestamp>| t.unwrap().seconds;
    let found = memories(
        server
            .recall(with(Filter {
                since,
                until,
                ..Filter::default()
            }))
            .await,
    );
    let within =
        |m: &&v1::Memory| (seconds(since)..seconds(until)).contains(&seconds(m.occurred_at));
    assert!(!found.is_empty() && found.iter().all(|m| within(&m)));
    assert_eq!(found.len(), all.iter().filter(within).count());
    let filter = Filter {
        min_importance: Some(0.6),
        ..Filter::default()
    };
    let found = memories(server.recall(with(filter)).await);
    assert!(!found.is_empty() && found.iter().all(|m| m.importance >= 0.6));
    let nothing = Filter {
        agents: list("nobody"),
        ..Filter::default()
    };
    assert_eq!(memories(server.recall(with(nothing)).await), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_can_be_switched_off() {
    let mut server = Server::start().await;
    let position = learn_some(&mut server).await;
    let without = |stages: &[Stage]| RecallRequest {
        without: stages.iter().map(|s| *s as i32).collect(),
        limit: 5,
        ..at(&position, "postgres replica ran out of disk")
    };
    let parts = |answer: &RecallResponse| {
        answer
            .results
            .iter()
            .map(|r| r.parts.unwrap())
            .collect::<Vec<_>>()
    };
    type Part = (Stage, fn(&v1::ScoreParts) -> f32);
    let each: [Part; 8] = [
        (Stage::Dense, |p| p.dense),
        (Stage::Lexical, |p| p.lexical),
        (Stage::Late, |p| p.late),
        (Stage::Expansion, |p| p.expansion),
        (Stage::Session, |p| p.session),
        (Stage::Recency, |p| p.recency),
        (Stage::Importance, |p| p.importance),
        (Stage::Usefulness, |p| p.usefulness),
    ];
    for (stage, part) in each {
        let answer = server.recall(without(&[stage])).await;
        assert_eq!(answer.results.len(), 5, "{stage:?}");
        assert!(parts(&answer).iter().all(|p| part(p) == 0.0), "{stage:?}");
    }
    let lexical_only = without(&[
        Stage::Dense,
        Stage::Late,
        Stage::Expansion,
        Stage::Session,
        Stage::Recency,
    ]);
    let answer = server.recall(lexical_only).await;
    assert!(contents(&answer)[0].contains("postgres replica ran out of disk"));
    assert!(
        parts(&answer)
            .iter()
            .all(|p| p.raw_dense == 0.0 && p.raw_late == 0.0)
    );
    let neighbours = server.recall(without(&[Stage::Neighbours])).await;
    let lent = server.recall(without(&[])).await;
    let lexical = |answer: &RecallResponse| {
        parts(answer)
            .iter()
            .map(|p| p.raw_lexical)
            .fold(0.0_f32, f32::max)
    };
    assert!(lexical(&lent) > lexical(&neighbours), "neighbours lend");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_can_set_weights_for_itself() {
    let mut server = Server::start().await;
    let old = Experience {
        occurred_at: days_ago(400),
        ..experience("the pod was restarted by hand")
    };
    let new = Experience {
        occurred_at: days_ago(0),
        ..experience("a pod was restarted again")
    };
    let position = server.learn(vec![old, new]).await.position.unwrap();
    let question = "the pod was restarted by hand";
    let plain = server.recall(at(&position, question)).await;
    assert_eq!(contents(&plain)[0], question);
    let weights = Some(Weights {
        recency: Some(100.0),
        ..Weights::default()
    });
    let recent = server
        .recall(RecallRequest {
            weights,
            ..at(&position, question)
        })
        .await;
    assert_eq!(contents(&recent)[0], "a pod was restarted again");
    let again = server.recall(at(&position, question)).await;
    assert_eq!(again, plain, "for itself alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_moves_a_memory_up() {
    let mut server = Server::start().await;
    let alike = ["restart the pod alpha", "restart the pod beta"];
    let others = (0..20).map(|i| experience(&format!("an unrelated note number{i}")));
    let lessons = alike.iter().map(|c| experience(c)).chain(others).collect();
    let learned = server.learn(lessons).await.learned;
    let before = server.contents("restart the pod").await;
    let loser = alike.iter().position(|c| *c == before[1]).unwrap();
    for _ in 0..10 {
        let key = learned[loser].key.clone();
        let feedback = FeedbackRequest {
            key,
            score: 1.0,
            ..FeedbackRequest::default()
        };
        server.client.feedback(feedback).await.unwrap();
    }
    assert_eq!(server.contents("restart the pod").await[0], alike[loser]);
}

#[tokio::test(flavor = "multi_thread")]
async fn near_identical_memories_are_folded_and_the_next_move_up() {
    let mut server = Server::start().await;
    let text = "the nightly batch filled the disk of the metrics host";
    let lessons = vec![
        experience(text),
        experience(&text.to_uppercase()),
        experience(&format!("{text}!")),
        experience("the metrics host was moved to a larger disk"),
    ];
    let position = server.learn(lessons).await.position.unwrap();
    let request = RecallRequest {
        limit: 2,
        ..at(&position, text)
    };
    let folded = server.recall(request.clone()).await;
    assert_eq!(folded.results.len(), 2);
    assert_eq!(folded.results[0].folded.len(), 2);
    assert_eq!(
        contents(&folded)[1],
        "the metrics host was moved to a larger disk"
    );
    let without = vec![Stage::Fold as i32];
    let plain = server.recall(RecallRequest { without, ..request }).await;
    assert!(plain.results.iter().all(|r| r.folded.is_empty()));
    assert!(
        contents(&plain)
            .iter()
            .all(|c| c.to_lowercase().starts_with(text))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hop_along_links_adds_what_the_results_link_to() {
    let mut server = Server::start().await;
    let cause = Experience {
        domain: "deployment".to_owned(),
        ..experience("somebody lowered a quota in march")
    };
    let (cause, _) = server.learn_one(cause).await;
    let links = vec![LinkTarget {
        relation: "caused_by".to_owned(),
        key: cause.clone(),
    }];
    let effect = Experience {
        links,
        ..experience("checkout pods were evicted at noon")
    };
    let (effect, position) = server.learn_one(effect).await;
    // Fills the candidates, so that the cause is none by itself.
    let others = (0..120)
        .map(|i| experience(&format!("checkout pods note {i}")))
        .collect();
    server.learn(others).await;
    let request = RecallRequest {
        limit: 1,
        ..at(&position, "checkout pods were evicted at noon")
    };
    let plain = server.recall(request.clone()).await;
    assert_eq!(plain.results.len(), 1);
    let hop = RecallRequest {
        link_hops: 1,
        ..request
    };
    let answer = server.recall(hop.clone()).await;
    assert_eq!(answer.results.len(), 2);
    let linked = &answer.results[1];
    assert_eq!(linked.memory.as_ref().unwrap().key, cause);
    let from = linked.linked_from.as_ref().unwrap();
    assert_eq!((from.relation.as_str(), &from.key), ("caused_by", &effect));
    let parts = linked.parts.unwrap();
    assert_eq!(
        parts,
        v1::ScoreParts {
            link: linked.score,
            ..Default::default()
        }
    );
    assert!(linked.score < answer.results[0].score);
    // The filter bounds what links bring too.
    let filter = Some(Filter {
        domains: vec!["infrastructure".to_owned()],
        ..Filter::default()
    });
    let bounded = server.recall(RecallRequest { filter, ..hop }).await;
    assert_eq!(bounded.results.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_vectors_are_found_by_vectors_and_need_no_model() {
    let mut server = Server::start().await;
    let vector = |seed: usize| {
        (0..384)
            .map(|d| ((d * seed) % 7) as f32 - 3.1)
            .collect::<Vec<_>>()
    };
    let lessons = (1..6)
        .map(|i| Experience {
            vector: vector(i),
            ..experience(&format!("given number{i}"))
        })
        .collect();
    let answer = server.learn(lessons).await;
    let request = RecallRequest {
        vector: vector(3),
        limit: 2,
        at_least: answer.position,
        ..RecallRequest::default()
    };
    let found = server.recall(request.clone()).await;
    assert_eq!(contents(&found)[0], "given number3");
    assert!((found.results[0].parts.unwrap().raw_dense - 1.0).abs() < 1e-5);
    assert_eq!(
        found.results[0].memory.as_ref().unwrap().model,
        "0000000000000000"
    );
    // With a text too, the words count and the text is not embedded.
    let both = RecallRequest {
        query: "number5".to_owned(),
        ..request
    };
    let found = server.recall(both).await;
    assert!(contents(&found).contains(&"given number5".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_and_an_unknown_namespace_find_nothing() {
    let mut server = Server::start().await;
    let answer = server.recall(ask("anything")).await;
    assert!(answer.results.is_empty() && answer.position.is_some());
    server.learn(vec![experience("anything")]).await;
    let elsewhere = RecallRequest {
        namespace: "elsewhere".to_owned(),
        ..ask("anything")
    };
    assert_eq!(server.recall(elsewhere).await.results, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_beyond_the_candidates_gives_all_that_match() {
    let mut server = Server::start().await;
    let mut last = None;
    for batch in 0..3 {
        let lessons = (0..200).map(|i| experience(&format!("pod number {}", batch * 200 + i)));
        last = server.learn(lessons.collect()).await.position;
    }
    let request = RecallRequest {
        limit: 1000,
        ..at(&last.unwrap(), "pod number")
    };
    assert_eq!(server.recall(request).await.results.len(), 600);
}
