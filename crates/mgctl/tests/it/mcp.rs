//! `mgctl mcp`: what is the program's own about it. What the tools do is tested in `memorygate-mcp`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use serde_json::{Value, json};

use super::run::Mgctl;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn hello() -> Value {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_protocol_is_on_standard_output() {
    let mgctl = Mgctl::start().await;
    let learn = json!({
        "name": "memory_learn",
        "arguments": {"content": "retries need jitter", "domain": "deployment", "visibility": "private"},
    });
    let input = [
        hello(),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": learn}),
    ];
    let mut child = mgctl.spawn(&["mcp", "--agent", "ada", "--namespace", "team-a"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    for message in input {
        writeln!(stdin, "{message}").unwrap();
    }
    let mut answer = || -> Value {
        let line = stdout.next().unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    };
    assert_eq!(answer()["result"]["serverInfo"]["name"], "memorygate");
    assert_eq!(answer()["result"]["structuredContent"]["created"], true);
    drop(stdin);
    assert!(child.wait().unwrap().success(), "it ends with its input");
    assert!(stdout.next().is_none());
    let listed = mgctl
        .json(&["list", "--agent", "ada", "--namespace", "team-a"])
        .await;
    assert_eq!(listed["scope"], json!({"agent": "ada"}));
    let silent = mgctl.run(&["mcp"]).await;
    assert_eq!(
        (silent.code, silent.out.as_str()),
        (0, ""),
        "{}",
        silent.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http_asks_for_a_token_and_ends_by_a_signal() {
    let mgctl = Mgctl::start().await;
    let open = mgctl.run(&["mcp", "--listen", "0.0.0.0:0"]).await.failed();
    assert_eq!(open.0, 2);
    assert!(
        open.1.contains("set MEMORYGATE_MCP_TOKEN or --token-file"),
        "{}",
        open.1
    );

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let path = path.to_str().unwrap();
    std::fs::write(path, "short\n").unwrap();
    let args = ["mcp", "--listen", "127.0.0.1:0", "--token-file", path];
    let short = mgctl.run(&args).await.failed();
    assert_eq!(short.0, 2);
    assert!(
        short.1.contains("token has 5 bytes, expected at least 16"),
        "{}",
        short.1
    );
    std::fs::write(path, format!("{SECRET}\n")).unwrap();
    let mut child = mgctl.spawn(&args);
    let mut messages = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    messages.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("serving on http://").unwrap();
    let address = address.strip_suffix("/mcp").unwrap();
    let ask = |head: &str| {
        let body = hello().to_string();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /mcp HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{head}\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("").starts_with("HTTP/1.1 401 "));
    let answer = ask(&format!("Authorization: Bearer {SECRET}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    assert_eq!(rest, "");
}
