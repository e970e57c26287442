//! A store behind a server keeps the same contract as one in the process.

use memorygate_client::{Client, conformance};

use memorygate_fake::Fake;

#[tokio::test]
async fn a_client_keeps_the_contract_of_a_knowledge_store() {
    let (_fake, address) = Fake::start().await;
    let client = Client::connect(address).unwrap();
    conformance::check_all(&client, "suite").await;
}

#[tokio::test]
async fn a_client_tells_the_past_as_the_contract_says() {
    let (_fake, address) = Fake::start().await;
    let client = Client::connect(address).unwrap();
    conformance::check_history(&client, "suite").await;
}
