//! A node loses its disk; it comes back as a new member in the old one's place.

use tokio::time::sleep;

use super::{Effect, Scene};
use crate::cluster::Cluster;

pub(super) async fn strike(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    // One disk at a time: a second one while the first is being replaced is a lost majority.
    scene.cluster.healthy(scene.recovery).await?;
    let at = scene.victim().await;
    let before = node_id(scene.cluster, at).await;
    scene.cluster.kill(at)?;
    scene.cluster.wipe(at)?;
    sleep(scene.hold / 4).await;
    scene.cluster.start(at)?;
    let took = scene.cluster.healthy(scene.recovery).await?;
    let after = node_id(scene.cluster, at).await;
    Ok(if before.is_some() && after.is_some() && before != after {
        Effect::Seen(format!(
            "node {at} lost its disk; its place was taken {took:?} after its start"
        ))
    } else {
        Effect::Nothing(format!(
            "node {at} was {before:?} and came back as {after:?}"
        ))
    })
}

/// Under which id the member at this place is known.
pub(super) async fn node_id(cluster: &Cluster, at: usize) -> Option<String> {
    for caller in cluster.callers() {
        if let Some(reply) = caller.members().await.done() {
            let address = cluster.advertised(at).to_string();
            let member = reply
                .members
                .into_iter()
                .find(|m| m.peer_address == address);
            if let Some(member) = member {
                return Some(member.node_id);
            }
        }
    }
    None
}
