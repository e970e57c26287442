//! Short real runs: three processes, a load, a kill and a partition, and a verdict.

use std::path::PathBuf;

use clap::Parser;
use memorygate_jepsen::run::{self, Options, Verdict};
use tokio::sync::Mutex;

/// One cluster at a time: more would only wait for each other's processor.
static TURN: Mutex<()> = Mutex::const_new(());

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// A program that cargo built beside this very test.
fn program(name: &str, how: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.parent().unwrap().parent().unwrap().join(name);
    assert!(
        program.is_file(),
        "no server at {}; run `{how}`",
        program.display()
    );
    program
}

fn server() -> PathBuf {
    program("memorygate", "cargo build --release --workspace")
}

/// As a version to come, which reads one format of the log more.
fn newer_server() -> PathBuf {
    program("memorygate-next-format", "make newer")
}

/// Where `make setup` puts the model.
fn model_dir() -> PathBuf {
    let dir = match std::env::var_os("MEMORYGATE_MODEL__DIR") {
        Some(dir) => dir.into(),
        None => PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
            .join("../.model/all-MiniLM-L6-v2"),
    };
    assert!(
        dir.is_dir(),
        "no model in {}; run `make setup`",
        dir.display()
    );
    dir
}

async fn check(arguments: &str) -> Verdict {
    let _turn = TURN.lock().await;
    let output = tempfile::tempdir().unwrap();
    let words = ["run"].into_iter().chain(arguments.split_whitespace());
    let mut options = Line::parse_from(words).options;
    options.server = Some(server());
    if options.nemesis.iter().any(|nemesis| nemesis == "upgrade") {
        options.newer_server = Some(newer_server());
    }
    options.model_dir = Some(model_dir());
    options.output = Some(output.path().to_owned());
    // Other tests share the machine.
    options.recovery = 180;
    options.rate = 60;
    let verdict = run::run(&options).await.unwrap();
    assert!(verdict.valid, "{verdict:#?}");
    assert!(verdict.acknowledged > 0 && verdict.recovered);
    assert_eq!(
        (verdict.lost, verdict.phantom, verdict.violations),
        (0, 0, 0)
    );
    assert!(verdict.faults_by_kind.values().all(|faults| *faults > 0));
    for name in [
        "history.jsonl",
        "history.edn",
        "timeline.svg",
        "report.md",
        "verdict.json",
    ] {
        assert!(output.path().join(name).is_file(), "{name} is written");
    }
    verdict
}

#[tokio::test]
async fn a_set_loses_nothing_to_a_kill_and_a_partition() {
    check("--workload set --nemesis kill-one,partition-halves --time 12 --hold 3").await;
}

#[tokio::test]
async fn registers_are_linearizable_under_a_kill_and_a_lonely_leader() {
    let verdict =
        check("--workload register --nemesis kill-one,leader-alone --time 12 --hold 3").await;
    assert!(
        verdict.second_judge.starts_with("porcupine")
            || verdict.second_judge.starts_with("did not"),
        "{}",
        verdict.second_judge
    );
}

#[tokio::test]
async fn sessions_see_their_own_writes_on_loopback_without_root() {
    check("--workload session --nemesis kill-one,one-way --time 12 --hold 3 --network loopback")
        .await;
}

#[tokio::test]
async fn feedback_counts_once_when_everybody_is_killed() {
    check("--workload feedback --nemesis kill-all --time 8 --hold 2 --network loopback").await;
}

#[tokio::test]
async fn consolidation_neither_loses_nor_repeats_when_its_leader_is_killed_or_alone() {
    let verdict =
        check("--workload consolidation --nemesis kill-one,leader-alone --time 12 --hold 3").await;
    assert!(verdict.counts["merges"] > 0 && verdict.counts["undone"] > 0);
}

/// Two programs whose formats differ: what is written before, between and after is all there.
#[tokio::test]
async fn nodes_are_replaced_one_by_one_by_a_newer_program_and_there_is_no_way_back() {
    check("--workload set --nemesis upgrade --time 10 --hold 3").await;
}

#[tokio::test]
async fn a_node_whose_disk_refuses_to_sync_ends_and_the_others_say_why() {
    check("--workload set --nemesis sync-fails --time 8 --hold 2 --network loopback").await;
}
