//! Changes that an operator makes: a member goes and another comes, the leader hands over.

use std::time::Duration;

use anyhow::{Context as _, bail};
use memorygate_proto::v1::{NewMember, change_member_request::Change};
use tokio::time::{Instant, sleep};

use super::{Effect, Scene, wipe};
use crate::{caller::Answer, cluster::Cluster};

/// Between two attempts at a change.
const PAUSE: Duration = Duration::from_millis(300);

/// A change waits until it is committed and may have to wait for a learner to catch up.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn churn(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    scene.cluster.healthy(scene.recovery).await?;
    let at = scene.victim().await;
    let old = wipe::node_id(scene.cluster, at).await;
    let old = old.context("the members are not told")?;
    change(scene, &Change::Remove(old.clone())).await?;
    let left = members(scene.cluster).await;
    scene.cluster.kill(at)?;
    scene.cluster.wipe(at)?;
    sleep(scene.hold / 4).await;
    scene.cluster.start(at)?;
    let peer_address = scene.cluster.advertised(at).to_string();
    let add = Change::Add(NewMember { peer_address });
    // A node that finds its place empty may have taken it by itself.
    if wipe::node_id(scene.cluster, at).await.is_none() {
        change(scene, &add).await?;
    }
    let new = wipe::node_id(scene.cluster, at).await;
    let new = new.context("the added member is not told")?;
    change(scene, &Change::Promote(new.clone())).await?;
    scene.cluster.healthy(scene.recovery).await?;
    let is_gone = left.is_some_and(|left| !left.contains(&old));
    Ok(if is_gone && new != old {
        Effect::Seen(format!(
            "member {old} was removed, and {new} added and promoted"
        ))
    } else {
        Effect::Nothing(format!("member {old} was removed and is {new} now"))
    })
}

pub(super) async fn transfer(scene: &Scene<'_>) -> anyhow::Result<Effect> {
    let Some(before) = scene.cluster.leader().await else {
        return Ok(Effect::Nothing("nobody leads".to_owned()));
    };
    let mut last = String::new();
    for caller in scene.cluster.callers() {
        match caller
            .patient(PATIENCE)
            .transfer_leader(String::new())
            .await
        {
            Answer::Done(reply) => {
                sleep(PAUSE).await;
                let after = scene.cluster.leader().await;
                return Ok(if after.is_some_and(|after| after != before) {
                    Effect::Seen(format!(
                        "node {before} handed over to {after:?} in term {}",
                        reply.term
                    ))
                } else {
                    Effect::Nothing(format!("node {before} led, and {after:?} leads"))
                });
            }
            Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => last = why,
        }
    }
    Ok(Effect::Nothing(format!("no node transfers: {last}")))
}

/// Repeats a change, which may be done already, at one node after another.
async fn change(scene: &Scene<'_>, change: &Change) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut last = String::new();
    while start.elapsed() < scene.recovery {
        for caller in scene.cluster.callers() {
            match caller.patient(PATIENCE).change_member(change.clone()).await {
                Answer::Done(_) => return Ok(()),
                Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => last = why,
            }
        }
        sleep(PAUSE).await;
    }
    bail!(
        "{change:?} was not done within {:?}: {last}",
        scene.recovery
    )
}

/// Ids of all members, as the first node that answers knows them.
async fn members(cluster: &Cluster) -> Option<Vec<String>> {
    for caller in cluster.callers() {
        if let Some(reply) = caller.members().await.done() {
            return Some(reply.members.into_iter().map(|m| m.node_id).collect());
        }
    }
    None
}
