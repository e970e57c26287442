//! Teaches a server many experiences in order.

use anyhow::Context as _;
use memorygate_client::{Client, Experience, Key, Learn, Settings, TimeMs, time};

use crate::{progress::Progress, server::Server};

/// Experiences of one write: as many as share forward passes well.
pub(crate) const BATCH: usize = 64;

/// What became of them.
#[derive(Debug)]
pub(crate) struct Taught {
    /// Of each experience, in order; equal ones have one key.
    pub(crate) keys: Vec<Key>,
    /// From the first write to the last answer.
    pub(crate) elapsed_s: f64,
}

/// A client of this server with default settings.
pub(crate) fn connect(server: &Server) -> anyhow::Result<Client> {
    Client::new(Settings::new([server.endpoint()])).context("connect")
}

/// What namespaces of this run end with: on a server that ran before, something that no earlier run
/// had, so that what is there already is neither found nor reinforced.
pub(crate) fn run_suffix(server: &Server) -> String {
    if server.is_own() {
        return String::new();
    }
    let TimeMs(now) = time::now();
    format!("-{now:x}")
}

/// Learns `experiences` batch after batch; returns when all are acknowledged and can be found.
pub(crate) async fn teach(
    client: &Client,
    what: &str,
    experiences: &[Experience],
) -> anyhow::Result<Taught> {
    let mut progress = Progress::new(format!("learn {what}"), experiences.len());
    let mut keys = Vec::with_capacity(experiences.len());
    for batch in experiences.chunks(BATCH) {
        let reply = client
            .learn(Learn::new(batch.iter().cloned()))
            .await
            .context("learn")?;
        keys.extend(reply.learned.iter().map(|learned| learned.key));
        progress.add(batch.len());
    }
    let taught = Taught {
        keys,
        elapsed_s: progress.finish(),
    };
    wait_until_indexed(client).await?;
    Ok(taught)
}

/// Waits until what this client wrote can be found: a recall at the position of the last write is
/// answered only then.
pub(crate) async fn wait_until_indexed(client: &Client) -> anyhow::Result<()> {
    client.stats().await.context("read stats")?;
    let recall = memorygate_client::Recall::new("anything").limit(1);
    client.recall(&recall).await.context("wait for the index")?;
    Ok(())
}
