//! One node after another is stopped and comes back as a newer program on the same data.
//!
//! The log must stay in the format that all members read until the last one is new, be written in the
//! newer one then, and close the way back: the old program refuses such a log.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use memorygate_proto::v1;
use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::{caller::Answer, cluster::Cluster};

/// Between two looks at what the members say of formats.
const POLL: Duration = Duration::from_millis(200);

/// A node that is asked to stop hands over and finishes what it has taken before it ends.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// In every version's words about a log that it does not read.
const REFUSAL: &str = "writes its log in format";

pub(super) async fn strike(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    let newer = scene.cluster.newer_server();
    let newer = newer.context("no newer server is known")?.to_owned();
    let order = scene.shuffled();
    if order
        .iter()
        .any(|at| scene.cluster.node(*at).program() == newer)
    {
        let text = "nodes run the newer program already, and there is no way back";
        return Ok(Effect::Nothing(text.to_owned()));
    }
    scene.cluster.healthy(scene.recovery).await?;
    let count = scene.cluster.count();
    let old_format = agreed(scene, |formats| formats.len() == count).await?;
    for (done, at) in order.iter().enumerate() {
        scene.cluster.stop(*at, STOP_PATIENCE).await?;
        scene.cluster.install(*at, newer.clone());
        scene.cluster.start(*at)?;
        scene.cluster.healthy(scene.recovery).await?;
        if done + 1 == count {
            break;
        }
        let is_heard = |newest: &[u32]| newest.iter().filter(|f| **f > old_format).count() > done;
        let format = agreed(scene, is_heard).await?;
        // For as long as the leader looks again and again whether all read the newer one.
        sleep(scene.hold).await;
        let still = agreed(scene, is_heard).await?;
        ensure!(
            format == old_format && still == old_format,
            "{} of {count} nodes are new, and the log is written in format {still}, which not all read",
            done + 1
        );
    }
    let new_format = raised(scene, old_format).await?;
    let at = scene.any();
    let refusal = go_back(scene, at, newer).await?;
    Ok(Effect::Seen(format!(
        "nodes {order:?} were replaced one by one; the log stayed in format {old_format} until the \
         last was new and is written in {new_format} now, which the old program refuses: {refusal}"
    )))
}

/// The format of the log, once all nodes say the same and what the members read at most, in order of
/// their addresses, is as expected.
async fn agreed(scene: &Scene<'_>, is_expected: impl Fn(&[u32]) -> bool) -> anyhow::Result<u32> {
    let start = Instant::now();
    loop {
        let said = statuses(scene.cluster).await;
        let first = said.first().map_or(0, |status| status.log_format);
        let is_one = said.len() == scene.cluster.count()
            && said.iter().all(|status| status.log_format == first);
        let is_as_expected = |status: &v1::StatusResponse| is_expected(&newest(status));
        if is_one && said.iter().all(is_as_expected) {
            return Ok(first);
        }
        if start.elapsed() > scene.recovery {
            bail!(
                "the nodes do not say the same of the log's format within {:?}: {:?}",
                scene.recovery,
                words(&said)
            );
        }
        sleep(POLL).await;
    }
}

/// Waits until all nodes write a newer format than `old`.
async fn raised(scene: &Scene<'_>, old: u32) -> anyhow::Result<u32> {
    let start = Instant::now();
    loop {
        let said = statuses(scene.cluster).await;
        let first = said.first().map_or(0, |status| status.log_format);
        let is_one = said.len() == scene.cluster.count()
            && said.iter().all(|status| status.log_format == first);
        if is_one && first > old {
            return Ok(first);
        }
        ensure!(
            start.elapsed() < scene.recovery,
            "all nodes are new, and the log is not written in a newer format than {old} within {:?}: \
             {:?}",
            scene.recovery,
            words(&said)
        );
        sleep(POLL).await;
    }
}

/// Starts the program that ran before on what the newer one has written; returns why it refuses.
async fn go_back(
    scene: &mut Scene<'_>,
    at: usize,
    newer: std::path::PathBuf,
) -> anyhow::Result<String> {
    let older = scene.cluster.server().to_owned();
    scene.cluster.stop(at, STOP_PATIENCE).await?;
    scene.cluster.install(at, older);
    scene.cluster.start(at)?;
    let ended = scene.cluster.ended(at, scene.recovery).await;
    scene.cluster.kill(at)?;
    scene.cluster.install(at, newer);
    scene.cluster.start(at)?;
    let exit = ended.context("start the old program on a log in a newer format")?;
    let refusal = exit.tail.lines().find(|line| line.contains(REFUSAL));
    let refusal = refusal.with_context(|| format!("it did not say why it refuses: {exit}"))?;
    ensure!(!exit.status.success(), "it refused with success: {exit}");
    Ok(refusal.to_owned())
}

async fn statuses(cluster: &Cluster) -> Vec<v1::StatusResponse> {
    let mut said = Vec::new();
    for caller in cluster.callers() {
        if let Answer::Done(status) = caller.status().await {
            said.push(status);
        }
    }
    said
}

/// What each member reads at most; 0 for one that has not answered.
fn newest(status: &v1::StatusResponse) -> Vec<u32> {
    let members = status.members.iter();
    members.map(|member| member.log_format_max).collect()
}

fn words(said: &[v1::StatusResponse]) -> Vec<String> {
    let one = |status: &v1::StatusResponse| {
        let newest = newest(status);
        format!("it writes {}, members read {newest:?}", status.log_format)
    };
    said.iter().map(one).collect()
}
