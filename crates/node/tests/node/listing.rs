//! Get, list and stats.

use std::collections::BTreeSet;

use memorygate_proto::v1::{
    self, Experience, Filter, GetRequest, ListRequest, NamespaceStats, StatsRequest,
};

use crate::server::{Server, experience};

#[tokio::test(flavor = "multi_thread")]
async fn pages_bring_every_memory_once_in_key_order() {
    let mut server = Server::start().await;
    for batch in 0..3 {
        let lessons = (0..200).map(|i| experience(&format!("lesson {}", batch * 200 + i)));
        server.learn(lessons.collect()).await;
    }
    for page_size in [1000, 100, 7] {
        let mut keys = Vec::new();
        let mut request = ListRequest {
            page_size,
            ..ListRequest::default()
        };
        loop {
            let answer = server
                .client
                .list(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert!(answer.memories.len() <= page_size as usize);
            keys.extend(answer.memories.into_iter().map(|m| m.key));
            if answer.next_page_token.is_empty() {
                break;
            }
            request.page_token = answer.next_page_token;
        }
        assert_eq!(keys.len(), 600, "pages of {page_size}");
        assert!(keys.is_sorted_by(|a, b| a < b), "pages of {page_size}");
    }
    let default = server
        .client
        .list(ListRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(default.memories.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_memories_make_short_pages() {
    let mut server = Server::start().await;
    for batch in 0..2 {
        let lesson =
            |i: usize| experience(&format!("{} {}", batch * 60 + i, "word ".repeat(12_000)));
        let vector = |e| Experience {
            vector: vec![1.0; 384],
            ..e
        };
        server
            .learn((0..60).map(lesson).map(vector).collect())
            .await;
    }
    let (mut pages, mut keys) = (0, BTreeSet::new());
    let mut request = ListRequest {
        page_size: 1000,
        ..ListRequest::default()
    };
    loop {
        let answer = server
            .client
            .list(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(
            prost::Message::encoded_len(&answer) < 4 << 20,
            "a page fits a client's default"
        );
        keys.extend(answer.memories.into_iter().map(|m| m.key));
        pages += 1;
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = answer.next_page_token;
    }
    assert_eq!(keys.len(), 120);
    assert!(pages >= 3, "{pages}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_passes_its_filter() {
    let mut server = Server::start().await;
    let lessons = (0..300).map(|i| Experience {
        agent: format!("agent-{}", i % 3),
        ..experience(&format!("lesson {i}"))
    });
    server.learn(lessons.clone().take(200).collect()).await;
    server.learn(lessons.skip(200).collect()).await;
    let filter = Filter {
        agents: vec!["agent-1".to_owned()],
        ..Filter::default()
    };
    let mut request = ListRequest {
        filter: Some(filter),
        page_size: 30,
        ..ListRequest::default()
    };
    let mut found = 0;
    loop {
        let answer = server
            .client
            .list(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(answer.memories.iter().all(|m| m.agent == "agent-1"));
        found += answer.memories.len();
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = answer.next_page_token;
    }
    assert_eq!(found, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_comes_back_as_it_was_learned() {
    let mut server = Server::start().await;
    let learned = Experience {
        importance: Some(0.75),
        metadata: [("service".to_owned(), "checkout".to_owned())].into(),
        agent: "ada".to_owned(),
        session: "incident-7".to_owned(),
        pinned: true,
        occurred_at: Some(prost_types::Timestamp {
            seconds: 5,
            nanos: 250_000_000,
        }),
        ..experience("raise the limit to 512Mi\nand say why")
    };
    let (key, position) = server.learn_one(learned.clone()).await;
    let request = GetRequest {
        key: key.clone(),
        at_least: Some(position.clone()),
        ..Default::default()
    };
    let answer = server.client.get(request).await.unwrap().into_inner();
    assert_eq!(answer.position, Some(position.clone()));
    let memory = answer.memory.unwrap();
    assert_eq!((&memory.key, memory.namespace.as_str()), (&key, "default"));
    assert_eq!(
        (
            memory.content,
            memory.domain,
            memory.metadata,
            memory.agent,
            memory.session
        ),
        (
            learned.content,
            learned.domain,
            learned.metadata,
            learned.agent,
            learned.session
        )
    );
    assert_eq!((memory.importance, memory.pinned), (0.75, true));
    assert_eq!(memory.occurred_at, learned.occurred_at);
    assert_eq!(memory.last_seen_at, learned.occurred_at);
    assert_eq!((memory.version, memory.occurrences), (1, 1));
    assert_eq!(memory.created_index, position.index);
    assert_eq!(memory.feedback.unwrap().usefulness, 0.5);
    let shared = v1::Scope {
        kind: Some(v1::scope::Kind::Shared(true)),
    };
    assert_eq!(memory.scope, Some(shared));
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_count_what_is_stored() {
    let mut server = Server::start().await;
    let empty = server.stats().await;
    assert_eq!((empty.namespaces.len(), empty.disk_full), (0, false));
    let deployed = Experience {
        domain: "deployment".to_owned(),
        ..experience("z")
    };
    server
        .learn(vec![experience("x"), experience("y"), deployed])
        .await;
    let other = v1::LearnRequest {
        namespace: "other".to_owned(),
        experiences: vec![experience("x")],
        ..Default::default()
    };
    let position = server
        .client
        .learn(other)
        .await
        .unwrap()
        .into_inner()
        .position;
    let stats = server.stats().await;
    assert_eq!(stats.position, position);
    let count = |namespace: &str, by: &[(&str, u64)]| NamespaceStats {
        archived: 0,
        namespace: namespace.to_owned(),
        memories: by.iter().map(|(_, n)| n).sum(),
        by_domain: by.iter().map(|(d, n)| ((*d).to_owned(), *n)).collect(),
    };
    let default = count("default", &[("infrastructure", 2), ("deployment", 1)]);
    let other = count("other", &[("infrastructure", 1)]);
    assert_eq!(stats.namespaces, [default, other.clone()]);
    assert_eq!((stats.state_hash.len(), stats.node_id.len()), (64, 16));
    let one = StatsRequest {
        namespace: "other".to_owned(),
        ..StatsRequest::default()
    };
    assert_eq!(
        server
            .client
            .stats(one)
            .await
            .unwrap()
            .into_inner()
            .namespaces,
        [other]
    );
    let none = StatsRequest {
        namespace: "none".to_owned(),
        ..StatsRequest::default()
    };
    assert_eq!(
        server
            .client
            .stats(none)
            .await
            .unwrap()
            .into_inner()
            .namespaces,
        []
    );
}
