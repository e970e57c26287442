//! Streamable HTTP, in bytes: who is let in, what is refused, and what an answer looks like.

use std::time::Duration;

use memorygate_fake::Fake;
use memorygate_mcp::{
    Guard, MESSAGE_BYTES_MAX,
    http::{self, Token},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use super::assistant::server;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

struct Site {
    port: u16,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
    _fake: Fake,
}

impl Site {
    async fn start(token: Option<&str>) -> Self {
        let (fake, memories) = Fake::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let token = token.map(|text| Token::parse(text).unwrap());
        let hosts = ["memory.example.com".to_owned()];
        let origins = ["https://app.example.com:443".to_owned()];
        let guard = Guard::new(address, token, hosts, origins).unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(http::serve(
            listener,
            server(&memories),
            guard,
            Duration::from_secs(30),
            async {
                let _ = stopped.await;
            },
        ));
        Self {
            port: address.port(),
            stop,
            serving,
            _fake: fake,
        }
    }

    /// Sends one request, with these lines of the head, and returns status, head and body.
    async fn ask(&self, line: &str, head: &[&str], body: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        for header in head {
            request.push_str(header);
            request.push_str("\r\n");
        }
        if !head.iter().any(|header| header.starts_with("Host:")) {
            request.push_str(&format!("Host: 127.0.0.1:{}\r\n", self.port));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(request.as_bytes()).await.unwrap();
        // A server that refuses may close before it has read everything.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn post(&self, head: &[&str], message: &Value) -> (u16, String, String) {
        let mut all = vec![
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
        ];
        all.extend(head);
        self.ask("POST /mcp", &all, message.to_string().as_bytes())
            .await
    }
}

fn hello() -> Value {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    })
}

fn call(tool: &str, arguments: &Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params})
}

#[tokio::test]
async fn requests_are_answered_as_json_without_a_session() {
    let site = Site::start(None).await;
    let (status, head, body) = site.post(&[], &hello()).await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(!head.contains("mcp-session-id"), "{head}");
    let hello: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(hello["result"]["serverInfo"]["name"], "memorygate");
    let version = "MCP-Protocol-Version: 2025-06-18";
    let lesson = json!({"content": "the proxy drops idle connections", "domain": "infrastructure"});
    let (status, _, body) = site.post(&[version], &call("memory_learn", &lesson)).await;
    assert_eq!(status, 200, "{body}");
    let (status, _, body) = site
        .post(
            &[version],
            &call("memory_recall", &json!({"query": "idle connections"})),
        )
        .await;
    assert_eq!(status, 200);
    let found: Value = serde_json::from_str(&body).unwrap();
    let memory = &found["result"]["structuredContent"]["memories"][0];
    assert_eq!(memory["content"], "the proxy drops idle connections");
}

#[tokio::test]
async fn whoever_lacks_the_token_is_not_let_in() {
    let site = Site::start(Some(SECRET)).await;
    let good = format!("Authorization: Bearer {SECRET}");
    assert_eq!(site.post(&[&good], &hello()).await.0, 200);
    for head in [
        &[][..],
        &["Authorization: Bearer 0123456789abcdef0123456789abcdee"],
    ] {
        let (status, head, body) = site.post(head, &hello()).await;
        assert_eq!(status, 401);
        assert!(head.contains("www-authenticate: bearer"), "{head}");
        assert!(body.contains("Authorization: Bearer TOKEN"), "{body}");
        assert!(!body.contains(SECRET));
    }
}

#[tokio::test]
async fn a_page_in_a_browser_and_another_name_are_refused() {
    let site = Site::start(None).await;
    let status = |head: &'static str| {
        let site = &site;
        async move { site.post(&[head], &hello()).await.0 }
    };
    assert_eq!(status("Origin: https://evil.example.com").await, 403);
    assert_eq!(status("Origin: null").await, 403);
    assert_eq!(status("Origin: https://app.example.com").await, 200);
    assert_eq!(status("Host: evil.example.com").await, 403);
    assert_eq!(status("Host: memory.example.com").await, 200);
    assert_eq!(status("Host: localhost:1").await, 200);
}

#[tokio::test]
async fn what_is_no_request_of_the_protocol_is_refused() {
    let site = Site::start(None).await;
    let (status, _, body) = site.ask("POST /", &[], b"{}").await;
    assert_eq!(status, 404);
    assert!(body.contains("/mcp"), "{body}");
    assert_eq!(
        site.ask("GET /mcp", &["Accept: text/event-stream"], b"")
            .await
            .0,
        405
    );
    assert_eq!(site.ask("DELETE /mcp", &[], b"").await.0, 405);
    assert_eq!(site.ask("POST /mcp", &[], b"{}").await.0, 406);
    let typed = [
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
    ];
    let (status, _, body) = site.ask("POST /mcp", &typed, b"{\"jsonrpc\":").await;
    assert!((400..500).contains(&status), "{status} {body}");
    let large = vec![b' '; MESSAGE_BYTES_MAX + 1];
    assert_eq!(site.ask("POST /mcp", &typed, &large).await.0, 413);
}

#[tokio::test]
async fn a_server_that_is_stopped_ends() {
    let site = Site::start(None).await;
    assert_eq!(site.post(&[], &hello()).await.0, 200);
    // A connection that is kept open and says nothing holds nobody up.
    let idle = TcpStream::connect(("127.0.0.1", site.port)).await.unwrap();
    site.stop.send(()).unwrap();
    site.serving.await.unwrap().unwrap();
    drop(idle);
    let refused = TcpStream::connect(("127.0.0.1", site.port)).await;
    assert!(refused.is_err());
}
