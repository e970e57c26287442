//! Webhooks, over real HTTP: who may tell something, what becomes of it, and that it is learned once.

use std::sync::atomic::Ordering;

use futures::{StreamExt as _, stream::FuturesUnordered};
use memorygate_proto::v1::{ListRequest, Memory, RecallRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    cluster::{Cluster, HOOK_TOKEN},
    server::{Client, Server, Start, a_moment, ask},
};

async fn server_in(dir: &std::path::Path) -> Server {
    let mut start = Start::new(dir);
    let name = "MEMORYGATE_WEBHOOK_TOKEN".to_owned();
    start.environment = vec![(name, HOOK_TOKEN.to_owned())];
    start.settings.webhook.namespace = "ops".to_owned();
    Server::with(start).await
}

fn bearer() -> String {
    format!("Authorization: Bearer {HOOK_TOKEN}")
}

/// A request with these lines in its head: code, head and body of the answer.
async fn ask_http(address: &str, line: &str, head: &[&str], body: &[u8]) -> (u16, String, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for header in head {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(request.as_bytes()).await.unwrap();
    // Whoever refuses may close before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_lowercase(), body.to_owned())
}

async fn post(server: &Server, path: &str, head: &[&str], message: &Value) -> (u16, String) {
    let address = server.node.http_address().to_string();
    let line = format!("POST {path}");
    let body = message.to_string();
    let (code, _, body) = ask_http(&address, &line, head, body.as_bytes()).await;
    (code, body)
}

/// A message that has to be taken: how many events were learned, known and ignored.
async fn told(address: &str, hook: &str, message: &Value) -> (u64, u64, u64) {
    let line = format!("POST /v1/hooks/{hook}");
    let body = message.to_string();
    let (code, _, body) = ask_http(address, &line, &[&bearer()], body.as_bytes()).await;
    assert_eq!(code, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    let count = |name: &str| told[name].as_u64().unwrap();
    (count("learned"), count("known"), count("ignored"))
}

fn alert(name: &str, status: &str, description: &str) -> Value {
    let ends_at = match status {
        "resolved" => "2025-05-31T22:30:00Z",
        _ => "0001-01-01T00:00:00Z",
    };
    json!({
        "status": status,
        "labels": {"alertname": name, "severity": "critical", "pod": "checkout-7f9c"},
        "annotations": {"description": description},
        "startsAt": "2025-05-31T22:00:00Z",
        "endsAt": ends_at,
    })
}

fn notification(alerts: Vec<Value>) -> Value {
    json!({
        "version": "4", "groupKey": "{}:{team=\"sre\"}", "status": "firing", "receiver": "memory",
        "alerts": alerts,
    })
}

fn job(id: u64, status: &str) -> Value {
    json!({
        "object_kind": "build", "build_id": id, "build_name": "deploy-prod", "build_stage": "deploy",
        "build_status": status, "build_failure_reason": "script_failure",
        "project": {"path_with_namespace": "shop/checkout"}, "pipeline_id": 7, "ref": "main",
    })
}

/// All memories of a namespace, in the order of their contents.
async fn memories(client: &mut Client, namespace: &str) -> Vec<Memory> {
    let list = ListRequest {
        namespace: namespace.to_owned(),
        linearizable: true,
        ..ListRequest::default()
    };
    let mut memories = client.list(list).await.unwrap().into_inner().memories;
    memories.sort_by(|a, b| a.content.cmp(&b.content));
    memories
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_learned_once_however_often_it_is_delivered() {
    let own = tempfile::tempdir().unwrap();
    let mut server = server_in(own.path()).await;
    let address = server.node.http_address().to_string();
    let first = alert("PodOOMKilled", "firing", "limit is 256Mi");
    let one = notification(vec![first.clone(), first.clone()]);
    assert_eq!(told(&address, "alertmanager", &one).await, (1, 0, 0));
    assert_eq!(told(&address, "alertmanager", &one).await, (0, 1, 0));
    // What people wrote about it may change while it fires, and others come into the group.
    let second = alert("QueueFull", "firing", "depth is 9000");
    let changed = alert("PodOOMKilled", "firing", "limit is 512Mi");
    let two = notification(vec![changed, second]);
    assert_eq!(told(&address, "alertmanager", &two).await, (1, 1, 0));

    let memories = memories(&mut server.client, "ops").await;
    assert_eq!(memories.len(), 2);
    let memory = &memories[0];
    assert!(
        memory
            .content
            .starts_with("Alert PodOOMKilled (critical) is firing.")
    );
    assert_eq!(
        (memory.occurrences, memory.domain.as_str()),
        (1, "incident_response")
    );
    assert_eq!(memory.agent, "alertmanager");
    assert_eq!(memory.metadata["label.pod"], "checkout-7f9c");
    server
        .metric("memorygate_hook_events_total{hook=\"alertmanager\",result=\"learned\"} 2")
        .await;
    server
        .metric("memorygate_hook_deliveries_total{code=\"200\",hook=\"alertmanager\"} 3")
        .await;
    server.stop().await;

    // The log remembers, not the process.
    let server = server_in(own.path()).await;
    let address = server.node.http_address().to_string();
    assert_eq!(told(&address, "alertmanager", &two).await, (0, 2, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_alert_reaches_the_memory_of_its_beginning() {
    let own = tempfile::tempdir().unwrap();
    let mut server = server_in(own.path()).await;
    let address = server.node.http_address().to_string();
    let firing = notification(vec![alert("PodOOMKilled", "firing", "limit is 256Mi")]);
    told(&address, "alertmanager", &firing).await;
    // The text is another by now; the alert is the same.
    let resolved = notification(vec![alert("PodOOMKilled", "resolved", "limit is 512Mi")]);
    assert_eq!(told(&address, "alertmanager", &resolved).await, (1, 0, 0));
    assert_eq!(told(&address, "alertmanager", &resolved).await, (0, 1, 0));
    let memories = memories(&mut server.client, "ops").await;
    let [beginning, end] = memories.as_slice() else {
        panic!("{memories:?}");
    };
    assert!(end.content.contains("was resolved"), "{}", end.content);
    assert_eq!(end.metadata["fired_for_s"], "1800");
    let links = |memory: &Memory| -> Vec<(String, String)> {
        let links = memory.links.iter();
        links.map(|l| (l.relation.clone(), l.key.clone())).collect()
    };
    assert_eq!(
        links(beginning),
        [("resolved_by".to_owned(), end.key.clone())]
    );
    assert_eq!(
        links(end),
        [("relates_to".to_owned(), beginning.key.clone())]
    );
    assert_eq!(beginning.occurrences, 1);

    let found = server
        .recall(RecallRequest {
            namespace: "ops".to_owned(),
            limit: 1,
            link_hops: 1,
            linearizable: true,
            ..ask("PodOOMKilled is firing limit is 256Mi")
        })
        .await;
    let found: Vec<_> = found.results.into_iter().filter_map(|r| r.memory).collect();
    assert!(found.iter().any(|m| m.key == end.key), "{found:?}");
    // An end whose beginning was never told is learned as it is.
    let alone = notification(vec![alert("QueueFull", "resolved", "depth is 10")]);
    assert_eq!(told(&address, "alertmanager", &alone).await, (1, 0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_is_learned_in_the_way_that_its_system_tells_it() {
    let own = tempfile::tempdir().unwrap();
    let mut server = server_in(own.path()).await;
    let gitlab = format!("X-Gitlab-Token: {HOOK_TOKEN}");
    let json = "Content-Type: application/json; charset=utf-8";
    let gitlab = ["X-Gitlab-Event: Job Hook", gitlab.as_str(), json];
    let (code, body) = post(
        &server,
        "/v1/hooks/ci?namespace=shop",
        &gitlab,
        &job(1, "failed"),
    )
    .await;
    assert_eq!(
        (code, body.as_str()),
        (200, r#"{"learned":1,"known":0,"ignored":0}"#)
    );
    let (code, body) = post(
        &server,
        "/v1/hooks/ci?namespace=shop",
        &gitlab,
        &job(2, "success"),
    )
    .await;
    assert_eq!(
        (code, body.as_str()),
        (200, r#"{"learned":0,"known":0,"ignored":1}"#)
    );
    let memories = memories(&mut server.client, "shop").await;
    assert_eq!(memories.len(), 1);
    assert!(
        memories[0].content.contains("deploy-prod"),
        "{}",
        memories[0].content
    );
    assert_eq!(memories[0].domain, "deployment");

    // By `openssl dgst -sha256 -hmac TOKEN`.
    let signature = "0ecd3b7010ffc0c04b0bd39c2a0796fe297df6c5a9d4a4aabea78c6bf47305e9";
    let signature = format!("X-Hub-Signature-256: sha256={signature}");
    let github = ["X-GitHub-Event: ping", signature.as_str()];
    let address = server.node.http_address().to_string();
    let ping = br#"{"hook_id":1,"zen":"Keep it logically awesome."}"#;
    let (code, _, body) = ask_http(&address, "POST /v1/hooks/ci", &github, ping).await;
    assert_eq!(
        (code, body.as_str()),
        (200, r#"{"learned":0,"known":0,"ignored":1}"#)
    );
    let other = br#"{"hook_id":2,"zen":"Keep it logically awesome."}"#;
    let (code, _, _) = ask_http(&address, "POST /v1/hooks/ci", &github, other).await;
    assert_eq!(code, 401);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_refused_with_the_reason_and_nothing_is_learned() {
    let own = tempfile::tempdir().unwrap();
    let mut server = server_in(own.path()).await;
    let address = server.node.http_address().to_string();
    let good = notification(vec![alert("A", "firing", "x")]);
    for head in [
        vec![],
        vec!["Authorization: Bearer other"],
        vec!["Authorization: Basic eA=="],
    ] {
        let (code, body) = post(&server, "/v1/hooks/alertmanager", &head, &good).await;
        assert_eq!(code, 401);
        assert!(
            body.contains("unauthorized") && !body.contains(HOOK_TOKEN),
            "{body}"
        );
    }
    let bearer = bearer();
    let head = [bearer.as_str()];
    let mut unstarted = alert("A", "firing", "x");
    unstarted["startsAt"] = json!("yesterday");
    for (path, message, expected) in [
        ("alertmanager", json!([]), "message: invalid length 0"),
        ("alertmanager", json!({"version": "4"}), "groupKey"),
        (
            "alertmanager",
            notification(vec![unstarted]),
            "alerts[0].startsAt",
        ),
        (
            "alertmanager",
            json!({"version": "3", "groupKey": "", "status": "firing", "alerts": []}),
            "version",
        ),
        ("ci", json!({"hello": "world"}), "neither a job of GitHub"),
        (
            "alertmanager?namespace=No%20Name",
            good.clone(),
            "namespace: ",
        ),
        (
            "alertmanager?team=sre",
            good.clone(),
            "query: expected ?namespace=NAME",
        ),
    ] {
        let (code, body) = post(&server, &format!("/v1/hooks/{path}"), &head, &message).await;
        assert_eq!(code, 400, "{path}: {body}");
        let error: Value = serde_json::from_str(&body).unwrap();
        let error = error["error"].as_str().unwrap();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    let form = [
        bearer.as_str(),
        "Content-Type: application/x-www-form-urlencoded",
    ];
    let (code, body) = post(&server, "/v1/hooks/ci", &form, &job(1, "failed")).await;
    assert_eq!(code, 415);
    assert!(body.contains("expected \\\"application/json\\\""), "{body}");
    let (code, _, body) = ask_http(&address, "POST /v1/hooks/ci", &head, b"{\"job\": ").await;
    assert_eq!(code, 400);
    assert!(body.contains("message is not JSON"), "{body}");
    let many: Vec<Value> = (0..1001)
        .map(|number| alert(&format!("A{number}"), "firing", "x"))
        .collect();
    let (code, body) = post(
        &server,
        "/v1/hooks/alertmanager",
        &head,
        &notification(many),
    )
    .await;
    assert_eq!(code, 400);
    assert!(
        body.contains("1001 alerts, expected at most 1000"),
        "{body}"
    );
    let large = vec![b' '; 4 * 1024 * 1024 + 1];
    let (code, _, _) = ask_http(&address, "POST /v1/hooks/ci", &head, &large).await;
    assert_eq!(code, 413);
    let (code, answer, _) = ask_http(&address, "GET /v1/hooks/ci", &head, b"").await;
    assert_eq!(code, 405);
    assert!(answer.contains("allow: post"), "{answer}");
    assert_eq!(
        ask_http(&address, "POST /v1/hooks/other", &head, b"")
            .await
            .0,
        404
    );
    assert!(server.stats().await.namespaces.is_empty());
    server.stop().await;

    let off = Server::start().await;
    let (code, body) = post(&off, "/v1/hooks/alertmanager", &head, &good).await;
    assert_eq!(code, 404);
    assert!(
        body.contains("webhooks are off: set webhook.token_file"),
        "{body}"
    );
    off.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_writes_are_refused_senders_are_asked_to_come_back() {
    let own = tempfile::tempdir().unwrap();
    let mut server = server_in(own.path()).await;
    let address = server.node.http_address().to_string();
    server.disk.0.store(1 << 20, Ordering::SeqCst);
    let body = notification(vec![alert("A", "firing", "x")]).to_string();
    // The node looks at the disk at most ten times a second.
    let full = |number: u64| {
        let message = notification(vec![alert(&format!("A{number}"), "firing", "x")]);
        let address = address.clone();
        async move {
            let head = [bearer()];
            let head = [head[0].as_str()];
            let body = message.to_string();
            ask_http(
                &address,
                "POST /v1/hooks/alertmanager",
                &head,
                body.as_bytes(),
            )
            .await
        }
    };
    let mut number = 0;
    let (code, head, answer) = loop {
        let answer = full(number).await;
        if answer.0 != 200 {
            break answer;
        }
        number += 1;
        a_moment().await;
    };
    assert_eq!(code, 503, "{answer}");
    assert!(head.contains("retry-after: 5"), "{head}");
    assert!(answer.contains("disk is nearly full"), "{answer}");
    let before = server
        .stats()
        .await
        .namespaces
        .iter()
        .map(|n| n.memories)
        .sum::<u64>();
    assert_eq!(before, number, "what was refused is not there");
    server.disk.0.store(u64::MAX, Ordering::SeqCst);
    let bearer = bearer();
    loop {
        let line = "POST /v1/hooks/alertmanager";
        let (code, _, answer) = ask_http(&address, line, &[&bearer], body.as_bytes()).await;
        if code == 200 {
            break;
        }
        assert_eq!(code, 503, "{answer}");
        a_moment().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_node_an_alert_is_delivered_to_it_is_learned_once() {
    let cluster = Cluster::formed(3).await;
    let mut delivered = Vec::new();
    let message = notification(vec![alert("A", "firing", "x"), alert("B", "firing", "y")]);
    for node in cluster.running() {
        let address = node.http_address().to_string();
        delivered.push(told(&address, "alertmanager", &message).await);
    }
    assert_eq!(delivered, [(2, 0, 0), (0, 2, 0), (0, 2, 0)]);
    let mut client = cluster.client(1).await;
    let memories = memories(&mut client, "default").await;
    let seen: Vec<u32> = memories.iter().map(|m| m.occurrences).collect();
    assert_eq!(seen, [1, 1]);

    // At the same time, to all of them.
    let message = notification(vec![alert("C", "firing", "z")]);
    let addresses: Vec<String> = cluster
        .running()
        .map(|n| n.http_address().to_string())
        .collect();
    let all = addresses
        .iter()
        .map(|address| told(address, "alertmanager", &message));
    futures::future::join_all(all).await;
    let memories = self::memories(&mut client, "default").await;
    let seen: Vec<u32> = memories.iter().map(|m| m.occurrences).collect();
    assert_eq!(seen, [1, 1, 1]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_pretends_to_have_signed_keeps_nobody_out() {
    let own = tempfile::tempdir().unwrap();
    let server = server_in(own.path()).await;
    let address = server.node.http_address().to_string();
    let signature = format!("X-Hub-Signature-256: sha256={}", "00".repeat(32));
    // Four bodies are waited for, and come never; all others are sent away.
    let mut answers = FuturesUnordered::new();
    for _ in 0..32 {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST /v1/hooks/ci HTTP/1.1\r\nHost: {address}\r\n{signature}\r\nContent-Length: 9\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        answers.push(async move {
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            answer
        });
    }
    for _ in 0..28 {
        assert_eq!(&answers.next().await.unwrap(), b"HTTP/1.1 503");
    }
    assert_eq!(told(&address, "ci", &job(1, "failed")).await, (1, 0, 0));
    drop(answers);
    server.stop().await;
}

/// Delivers a message as Alertmanager does: again after every 503.
async fn told_in_the_end(address: String, message: Value) {
    let body = message.to_string();
    let head = bearer();
    loop {
        let line = "POST /v1/hooks/alertmanager";
        let (code, _, answer) = ask_http(&address, line, &[&head], body.as_bytes()).await;
        match code {
            200 => return,
            503 => a_moment().await,
            _ => panic!("{code} {answer}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_loses_its_leader_half_way_is_learned_once_when_it_is_repeated() {
    let mut cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    let alerts = (0..40).map(|number| alert(&format!("A{number:02}"), "firing", "x"));
    let message = notification(alerts.collect());
    let others = (0..3).filter(|at| *at != leader);
    let addresses: Vec<String> = others
        .map(|at| cluster.running().nth(at).expect("all run").http_address())
        .map(|address| address.to_string())
        .collect();
    let deliveries: Vec<_> = addresses
        .iter()
        .map(|address| tokio::spawn(told_in_the_end(address.clone(), message.clone())))
        .collect();
    cluster.stop(leader).await;
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(
        told(&addresses[0], "alertmanager", &message).await,
        (0, 40, 0)
    );
    let mut client = cluster.client((leader + 1) % 3).await;
    let memories = memories(&mut client, "default").await;
    assert_eq!(memories.len(), 40);
    assert!(memories.iter().all(|memory| memory.occurrences == 1));
    cluster.shutdown().await;
}
