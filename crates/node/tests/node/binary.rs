//! The real binary: its command line, and a process that is killed while it writes.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use memorygate_proto::v1::{
    Experience, GetRequest, LearnRequest, StatsRequest, memory_gate_client::MemoryGateClient,
};

use crate::server::{Client, experience};

fn memorygate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memorygate"));
    command.env_remove("MEMORYGATE_CONFIG");
    command
}

fn run(arguments: &[&str]) -> Output {
    memorygate().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Where `make setup` puts the model.
pub fn model_dir() -> PathBuf {
    let dir = std::env::var_os("MEMORYGATE_MODEL_DIR").map_or_else(
        || {
            PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
                .join("../../.model/all-MiniLM-L6-v2")
        },
        PathBuf::from,
    );
    assert!(
        dir.is_dir(),
        "no model in {}; run `make setup`",
        dir.display()
    );
    dir
}

#[test]
fn printed_defaults_are_a_file_that_can_be_used() {
    let printed = run(&["config", "print", "--defaults"]);
    assert!(printed.status.success());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("memorygate.toml");
    std::fs::write(&file, &printed.stdout).unwrap();
    let path = file.to_str().unwrap();
    let checked = run(&["config", "check", "--config", path]);
    assert_eq!(text(&checked.stdout), "settings are valid\n");
    let again = run(&["config", "print", "--config", path]);
    assert_eq!(text(&again.stdout), text(&printed.stdout));
    let set = run(&["config", "print", "--set", "ranking.recency=0.375"]);
    assert!(text(&set.stdout).contains("\nrecency = 0.375\n"));
}

#[test]
fn a_wrong_setting_is_refused_with_the_nearest_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("memorygate.toml");
    std::fs::write(&file, "[server]\ngrpc_port = 7411\n").unwrap();
    let refused = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    let error = text(&refused.stderr);
    assert!(
        error.contains("unknown setting server.grpc_port in file"),
        "{error}"
    );
    assert!(
        error.contains("did you mean server.grpc_address?"),
        "{error}"
    );
    let refused = memorygate()
        .args(["config", "check"])
        .env("MEMORYGATE_RAFT__HEARTBEAT", "1")
        .output()
        .unwrap();
    let error = text(&refused.stderr);
    assert!(error.contains("did you mean raft.heartbeat_ms?"), "{error}");
}

#[test]
fn a_missing_model_names_the_command_that_fetches_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    for arguments in [
        ["serve", "--model-dir", path].as_slice(),
        &["model", "check", "--model-dir", path],
    ] {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(1));
        let error = text(&refused.stderr);
        assert!(error.contains("run `memorygate model fetch`"), "{error}");
    }
}

#[test]
fn a_model_is_copied_from_a_directory_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("model");
    let (from, to) = (model_dir(), to.to_str().unwrap());
    let arguments = [
        "model",
        "fetch",
        "--from-dir",
        from.to_str().unwrap(),
        "--model-dir",
        to,
    ];
    let fetched = run(&arguments);
    assert!(fetched.status.success(), "{}", text(&fetched.stderr));
    assert!(text(&fetched.stdout).contains("verified: SHA-256"));
    assert!(run(&["model", "check", "--model-dir", to]).status.success());
    let again = run(&arguments);
    assert!(text(&again.stdout).contains("is there already"));
    std::fs::write(Path::new(to).join("tokenizer.json"), "{}").unwrap();
    let wrong = run(&["model", "check", "--model-dir", to]);
    assert!(
        text(&wrong.stderr).contains("has SHA-256"),
        "{}",
        text(&wrong.stderr)
    );
    assert!(run(&arguments).status.success(), "a wrong file is replaced");
}

/// A server process on ports that it chooses.
struct Process {
    child: Child,
    client: Client,
}

impl Process {
    async fn start(data: &Path) -> Self {
        let mut child = memorygate()
            .args([
                "serve",
                "--grpc-address",
                "127.0.0.1:0",
                "--http-address",
                "127.0.0.1:0",
            ])
            .args(["--log-format", "json", "--data-dir"])
            .arg(data)
            .arg("--model-dir")
            .arg(model_dir())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut address = None;
        let mut lines = log.lines().map_while(Result::ok);
        for line in lines.by_ref() {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["message"] == "node serves" {
                address = event["grpc"].as_str().map(ToOwned::to_owned);
                break;
            }
        }
        // The rest of the log must be read, or the process waits for it.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.expect("the process said where it serves");
        let client = MemoryGateClient::connect(format!("http://{address}"))
            .await
            .unwrap();
        Self { child, client }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn given(content: &str) -> LearnRequest {
    let experience = Experience {
        vector: vec![1.0; 384],
        ..experience(content)
    };
    LearnRequest {
        experiences: vec![experience],
        ..LearnRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_it_writes_has_everything_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let process = Process::start(&data).await;
    let (acknowledge, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    for writer in 0..4 {
        let (mut client, acknowledge) = (process.client.clone(), acknowledge.clone());
        tokio::spawn(async move {
            for i in 0.. {
                let content = format!("lesson {writer}-{i}");
                let Ok(answer) = client.learn(given(&content)).await else {
                    break;
                };
                let key = answer.into_inner().learned[0].key.clone();
                acknowledge.send((key, content)).unwrap();
            }
        });
    }
    drop(acknowledge);
    let mut all = Vec::new();
    while all.len() < 200 {
        all.push(acknowledged.recv().await.unwrap());
    }
    // SIGKILL, with four writes in flight.
    process.kill();
    while let Some(one) = acknowledged.recv().await {
        all.push(one);
    }
    let mut process = Process::start(&data).await;
    for (key, content) in &all {
        let request = GetRequest {
            key: key.clone(),
            ..GetRequest::default()
        };
        let memory = process
            .client
            .get(request)
            .await
            .unwrap()
            .into_inner()
            .memory
            .unwrap();
        assert_eq!(&memory.content, content);
    }
    let stats = |process: &Process| {
        let mut client = process.client.clone();
        async move {
            client
                .stats(StatsRequest::default())
                .await
                .unwrap()
                .into_inner()
        }
    };
    let after = stats(&process).await;
    let memories = after.namespaces[0].memories as usize;
    assert!(
        (all.len()..=all.len() + 4).contains(&memories),
        "{memories} of {}",
        all.len()
    );
    process.kill();
    let process = Process::start(&data).await;
    assert_eq!(stats(&process).await.state_hash, after.state_hash);
    process.kill();
    let checked = run(&["check", data.to_str().unwrap()]);
    assert!(
        checked.status.success(),
        "{}{}",
        text(&checked.stdout),
        text(&checked.stderr)
    );
    assert!(text(&checked.stdout).contains(&after.state_hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_process_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut process = Process::start(&data).await;
    process.client.learn(given("x")).await.unwrap();
    let pid = process.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    drop(process.client);
    assert!(process.child.wait().unwrap().success());
    assert!(
        data.join("index/checkpoint").is_file(),
        "the index was written"
    );
}
