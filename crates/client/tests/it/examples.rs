//! The examples run, and show what they say.

use std::{path::Path, process::Command};

use crate::fake::Fake;

/// Runs a built example against a fresh server and returns what it printed, each time.
async fn run(name: &'static str, times: usize) -> Vec<String> {
    let (_fake, address) = Fake::start().await;
    // Cargo puts examples beside the binaries of the same build.
    let binaries = Path::new(env!("CARGO_BIN_EXE_mgctl")).parent().unwrap();
    let example = binaries.join("examples").join(name);
    let mut printed = Vec::new();
    for _ in 0..times {
        let mut command = Command::new(&example);
        command.env("MEMORYGATE_ENDPOINT", &address);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{error}");
        printed.push(String::from_utf8(output.stdout).unwrap());
    }
    printed
}

#[tokio::test]
async fn quickstart_learns_recalls_and_rates() {
    let printed = run("quickstart", 2).await;
    assert!(printed[0].starts_with("created "), "{}", printed[0]);
    assert!(printed[1].starts_with("reinforced "), "{}", printed[1]);
    for text in printed {
        assert!(text.contains("checkout pods were OOMKilled"), "{text}");
        assert!(text.contains("\nrated "), "{text}");
    }
}

#[tokio::test]
async fn the_agent_finds_what_it_learned_two_tasks_ago() {
    let printed = run("agent_loop", 1).await.remove(0);
    let (_, third) = printed.split_once("── rollout of checkout 5.13").unwrap();
    assert!(
        third.contains("| Done: raised maxUnavailable of checkout"),
        "{printed}"
    );
    assert!(
        !printed.contains("not stored") && !printed.contains("lost:"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_server_can_be_held_to_the_contract() {
    let printed = run("conformance", 1).await.remove(0);
    assert!(printed.contains("keeps the contract"), "{printed}");
}
