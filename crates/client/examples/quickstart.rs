//! Learn, recall, and say what helped: the whole API in one page.
//!
//! Start a server with `memorygate serve`, then:
//!
//! ```text
//! cargo run --release -p memorygate-client --example quickstart
//! ```
//!
//! `MEMORYGATE_ENDPOINT` names another server than the one on this machine.

use std::{
    env,
    error::Error,
    io::{self, Write},
};

use memorygate_client::{
    Client, Experience, Filter, GiveFeedback, Kind, Outcome, Recall,
    client::ENDPOINT_DEFAULT,
    domain,
    time::{self, Direction},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::var("MEMORYGATE_ENDPOINT").unwrap_or(ENDPOINT_DEFAULT.to_owned());
    run(&endpoint, &mut io::stdout()).await
}

pub(crate) async fn run(endpoint: &str, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    // Nothing is sent yet: the client connects at its first call. A namespace of its own keeps the
    // example apart from what else is stored there.
    let client = Client::connect(endpoint)?.in_namespace("quickstart");

    // 1. Learn. When this returns, both lessons are durable; a lesson that is learned again (as when
    //    this example runs a second time) reinforces the memory that it became.
    let lessons = vec![
        Experience::new(
            "checkout pods were OOMKilled every night: the report job shares their limit of 256Mi. \
             512Mi holds; better still, the job got a deployment of its own.",
            domain::INFRASTRUCTURE,
        )
        .importance(0.8)
        .agent("troubleshooter-1")
        .session("ticket-4711")
        .metadata("cluster", "prod-eu-1"),
        Experience::new(
            "login failed for everyone at midnight: the ingress certificate had expired, since the \
             renewal job ran without permission to write the secret.",
            domain::INCIDENT_RESPONSE,
        )
        .importance(0.9)
        .agent("responder-2"),
    ];
    let reply = match client.learn(lessons).await {
        Ok(reply) => reply,
        // An error says what to do next. After an unknown outcome, the same request id makes sure
        // that a repeat stores nothing twice; the client did so itself a few times already.
        Err(error) => {
            if error.kind() == Kind::Retry && error.outcome() == Outcome::Failed {
                writeln!(out, "is a server running at {endpoint}?")?;
            }
            return Err(error.into());
        }
    };
    for learned in &reply.learned {
        let how = if learned.created {
            "created"
        } else {
            "reinforced"
        };
        writeln!(out, "{how} {}", learned.key)?;
    }

    // 2. Recall, in other words. The client reads its own writes on any node of the cluster.
    let question = Recall::new("containers get killed for memory although the app uses little")
        .limit(3)
        // What happened long ago may not hold any more.
        .filter(Filter::new().since(time::parse("365d", time::now(), Direction::Ago)?));
    let found = client.recall(&question).await?.results;
    for recalled in &found {
        let memory = &recalled.memory;
        let age = time::relative(memory.last_seen_at, time::now());
        writeln!(out, "\n{:+.3}  {} ({age})", recalled.score, memory.content)?;
        // The score is the sum of its parts: nothing about an answer is unexplained.
        for (name, part) in recalled.parts.named() {
            if part != 0.0 {
                writeln!(out, "        {part:+.3} {name}")?;
            }
        }
    }

    // 3. Say what helped. The next one who asks finds it sooner.
    if let Some(best) = found.first() {
        let helped = GiveFeedback::new(best.memory.key, 1.0).reason("led straight to the cause");
        let rated = client.feedback(&helped).await?;
        writeln!(out, "\nrated {}, now version {}", rated.key, rated.version)?;
    }
    Ok(())
}
