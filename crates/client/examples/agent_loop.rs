//! An agent's loop: context in before each task, the lesson out after it, in the background.
//!
//! Start a server with `memorygate serve`, then:
//!
//! ```text
//! cargo run --release -p memorygate-client --example agent_loop
//! ```
//!
//! `MEMORYGATE_ENDPOINT` names another server than the one on this machine. The "work" here is a
//! table; put a language model, a script or a person in its place.

use std::{
    env,
    error::Error,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use memorygate_client::{
    Background, Client, Interaction, LearningContext, MemoryGateway, PromptAdapter, Receipt,
    adapter::Budget, client::ENDPOINT_DEFAULT, domain,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::var("MEMORYGATE_ENDPOINT").unwrap_or(ENDPOINT_DEFAULT.to_owned());
    run(&endpoint, &mut io::stdout()).await
}

pub(crate) async fn run(endpoint: &str, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(endpoint)?.in_namespace("agent-loop");

    // Takes what nobody can ask for any more, see below.
    let lost = Arc::new(Mutex::new(Vec::new()));

    // The gateway sits between the agent and its memory. Any `KnowledgeStore` will do: hand it
    // `InMemoryStore::new()` to try this without a server.
    let gateway = MemoryGateway::new(Arc::new(client))
        // What is recalled is rendered into at most 800 tokens, quoted so that no memory can pose
        // as an instruction.
        .with_adapter(Arc::new(PromptAdapter::new(Budget::Tokens(800))))
        .with_recall_limit(5)
        // Lessons are learned behind the agent's back. The queue is bounded: when it is full, the
        // agent waits. Whatever cannot be stored comes back from `flush`; what nobody can ask for
        // any more ends here.
        .in_background(Background {
            on_lost: Some(Arc::new({
                let lost = Arc::clone(&lost);
                move |more| {
                    lost.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(more)
                }
            })),
            ..Background::default()
        });

    let tasks = [
        ("rollout of checkout 5.12 is stuck at 50 %", "checkout"),
        ("rollout of billing 2.3 is stuck at 25 %", "billing"),
        ("rollout of checkout 5.13 is stuck at 50 %", "checkout"),
    ];
    for (number, (task, service)) in tasks.into_iter().enumerate() {
        // Everything that is learned and asked while at this task is learned and asked in its
        // context: by this agent, in this session.
        let context = LearningContext::new(task)
            .domain(domain::DEPLOYMENT)
            .agent("deployer-1")
            .session(format!("rollout-{number}"))
            .metadata("service", service);

        // Before: what do we know of this?
        let known = gateway.context_for(&context).await?;
        writeln!(out, "── {task}\n{}", known.text)?;

        // The work itself.
        let (action, observed) = work(service);

        // After: the lesson, and which memories were of use.
        let mut done = Interaction::new(action).succeeded(observed).importance(0.6);
        if let Some(best) = known.used.first() {
            done = done.rated(*best, 0.5);
        }
        match gateway.learn_from_interaction(&context, done).await? {
            Receipt::Queued => writeln!(out, "(the lesson is queued)\n")?,
            Receipt::Acknowledged(stored) => writeln!(out, "stored as {}\n", stored.learned.key)?,
        }
        // Only so that the next task of this short example finds it already.
        for unstored in gateway.flush().await.failed {
            writeln!(out, "not stored: {}", unstored.error)?;
        }
    }

    // Before the program ends: wait for everything, and look at what could not be stored.
    let mut unstored = gateway.close().await.failed;
    unstored.append(&mut lost.lock().unwrap_or_else(PoisonError::into_inner));
    for unstored in unstored {
        writeln!(out, "not stored: {}", unstored.error)?;
    }
    Ok(())
}

fn work(service: &str) -> (String, &'static str) {
    match service {
        "checkout" => (
            "raised maxUnavailable of checkout from 0 to 1".to_owned(),
            "with 0 and a full node pool no old pod may go before a new one fits; it went through",
        ),
        other => (
            format!("looked at the readiness probe of {other}"),
            "the probe asked for a path that the new version has renamed",
        ),
    }
}
