//! Holds a running server to the contracts of `KnowledgeStore` and `KnowledgeHistory`: the suite that the
//! in-memory store passes, over the wire.
//!
//! ```text
//! cargo run --release -p memorygate-client --example conformance
//! ```
//!
//! It writes into namespaces of its own, `conformance-TIME.*`, and panics where the server breaks
//! the contract. `MEMORYGATE_ENDPOINT` names another server than the one on this machine.

use std::{
    env,
    error::Error,
    io::{self, Write},
};

use memorygate_client::{Client, client::ENDPOINT_DEFAULT, conformance, time};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::var("MEMORYGATE_ENDPOINT").unwrap_or(ENDPOINT_DEFAULT.to_owned());
    run(&endpoint, &mut io::stdout()).await
}

pub(crate) async fn run(endpoint: &str, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(endpoint)?;
    let prefix = format!("conformance-{}", time::now().0);
    conformance::check_all(&client, &prefix).await;
    conformance::check_history(&client, &prefix).await;
    writeln!(out, "{endpoint} keeps the contract of a knowledge store")?;
    Ok(())
}
