//! The real model behind a real server.

use std::sync::Arc;

use memorygate_index::embed::MiniLm;
use memorygate_proto::v1::{Experience, RecallRequest};

use crate::{
    binary::model_dir,
    server::{Server, Start, ask, contents, experience},
};

async fn with_model(dir: &std::path::Path) -> Server {
    let embedder = Arc::new(MiniLm::open(&model_dir(), 2).unwrap());
    Server::with(Start {
        embedder,
        ..Start::new(dir)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_in_other_words_brings_the_right_memory_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = with_model(dir.path()).await;
    let lessons = [
        "The checkout pods were OOMKilled after the rollout; raising the memory limit to 512Mi fixed it.",
        "The TLS certificate of the ingress expired on Sunday and nobody was alerted.",
        "A migration locked the orders table for ten minutes; run it with CONCURRENTLY next time.",
        "Reviews of changes to the payment module need a second pair of eyes.",
        "The staging cluster was unreachable since a firewall rule dropped UDP traffic.",
    ];
    let answer = server
        .learn(lessons.iter().map(|l| experience(l)).collect())
        .await;
    let questions = [
        ("containers killed because they used too much RAM", 0),
        (
            "why was the website not trusted by browsers at the weekend",
            1,
        ),
        ("database change blocked all writes", 2),
        ("who has to approve code that moves money", 3),
        ("network packets were lost in the test environment", 4),
    ];
    for (question, right) in questions {
        let request = RecallRequest {
            at_least: answer.position.clone(),
            ..ask(question)
        };
        assert_eq!(
            contents(&server.recall(request).await)[0],
            lessons[right],
            "{question}"
        );
    }
    server.stop().await;
}

/// An experience that says nothing without the one before it is found by what both say.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_read_in_the_light_of_the_ones_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = with_model(dir.path()).await;
    let turn = |content: &str, session: &str| Experience {
        session: session.to_owned(),
        ..experience(content)
    };
    let lessons = vec![
        turn("Why does the payment gateway time out every night?", "a"),
        turn(
            "Because of the backup. We moved it to six in the morning.",
            "a",
        ),
        turn("Which colour should the new dashboard have?", "b"),
        turn("Because of the old theme. We moved it to blue.", "b"),
    ];
    let answer = server.learn(lessons).await;
    let request = RecallRequest {
        limit: 2,
        at_least: answer.position,
        ..ask("what was the reason for the nightly payment gateway timeouts")
    };
    let found = contents(&server.recall(request).await);
    assert!(
        found.contains(&"Because of the backup. We moved it to six in the morning.".to_owned()),
        "{found:?}"
    );
    server.stop().await;
}

/// Text longer than the model's window is found by any part of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_is_found_by_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = with_model(dir.path()).await;
    let filler = "The weekly report lists deployments, reviews and open questions of the team. ";
    let long = format!(
        "{}In the end the broken SFP module of switch sw-14 was replaced.",
        filler.repeat(60)
    );
    let mut lessons = vec![experience(&long)];
    lessons.extend((0..20).map(|i| experience(&format!("{filler} Number {i}."))));
    let answer = server.learn(lessons).await;
    let request = RecallRequest {
        limit: 1,
        at_least: answer.position,
        ..ask("which optical transceiver was exchanged")
    };
    assert_eq!(contents(&server.recall(request).await), [long]);
    server.stop().await;
}
