//! The examples run, and show what they say.

use memorygate_fake::Fake;

#[allow(dead_code, reason = "main is for whoever runs it by itself")]
#[path = "../../examples/agent_loop.rs"]
mod agent_loop;
#[allow(dead_code, reason = "main is for whoever runs it by itself")]
#[path = "../../examples/conformance.rs"]
mod conformance;
#[allow(dead_code, reason = "main is for whoever runs it by itself")]
#[path = "../../examples/quickstart.rs"]
mod quickstart;

#[tokio::test]
async fn quickstart_learns_recalls_and_rates() {
    let (_fake, address) = Fake::start().await;
    for begins in ["created ", "reinforced "] {
        let mut out = Vec::new();
        quickstart::run(&address, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(begins), "{text}");
        assert!(text.contains("checkout pods were OOMKilled"), "{text}");
        assert!(text.contains("\nrated "), "{text}");
    }
}

#[tokio::test]
async fn the_agent_finds_what_it_learned_two_tasks_ago() {
    let (_fake, address) = Fake::start().await;
    let mut out = Vec::new();
    agent_loop::run(&address, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    let (_, third) = text.split_once("── rollout of checkout 5.13").unwrap();
    assert!(
        third.contains("| Done: raised maxUnavailable of checkout"),
        "{text}"
    );
    assert!(!text.contains("not stored"), "{text}");
}

#[tokio::test]
async fn a_server_can_be_held_to_the_contract() {
    let (_fake, address) = Fake::start().await;
    let mut out = Vec::new();
    conformance::run(&address, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("keeps the contract"), "{text}");
}
