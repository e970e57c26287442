//! A node's disk takes writes and refuses to sync them: the node must end by itself, and the others
//! must know why until it is back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use memorygate_proto::v1::AlarmKind;
use tokio::time::{Instant, sleep};

use super::{Effect, Scene, wipe};

/// Between two looks at the alarms.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn strike(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    scene.cluster.healthy(scene.recovery).await?;
    let at = scene.victim().await;
    let node_id = wipe::node_id(scene.cluster, at).await;
    let node_id = node_id.context("the members are not told")?;
    let before = refused(scene, at)?;
    preload(scene)?.refuse_syncs(at, true)?;
    let ended = scene.cluster.ended(at, scene.recovery).await;
    preload(scene)?.refuse_syncs(at, false)?;
    let exit = ended.context("refuse to sync for a node")?;
    let refused = refused(scene, at)? - before;
    ensure!(
        !exit.status.success(),
        "node {at} ended well although its disk refused {refused} syncs: {exit}"
    );
    until(scene, at, &node_id, true).await?;
    sleep(scene.hold).await;
    scene.cluster.start(at)?;
    until(scene, at, &node_id, false).await?;
    let text = format!(
        "node {at} ended after {refused} refused syncs; the others had an alarm about it until it was \
         back"
    );
    Ok(if refused > 0 {
        Effect::Seen(text)
    } else {
        Effect::Nothing(text)
    })
}

fn preload<'a>(scene: &'a Scene<'_>) -> anyhow::Result<&'a crate::cluster::preload::Preload> {
    let preload = scene.cluster.preload.as_ref();
    preload.context("the servers do not run over the preload library")
}

fn refused(scene: &Scene<'_>, at: usize) -> anyhow::Result<u64> {
    preload(scene)?.refused_syncs(at)
}

/// Waits until all others have an alarm about a node's disk in the status of the cluster, or none has.
async fn until(
    scene: &Scene<'_>,
    at: usize,
    node_id: &str,
    is_expected: bool,
) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let mut said = Vec::new();
        for caller in scene.cluster.callers().iter().filter(|c| c.node() != at) {
            if let Some(status) = caller.status().await.done() {
                said.push(status.alarms.iter().any(|alarm| {
                    alarm.node_id == node_id && alarm.kind() == AlarmKind::StorageFailed
                }));
            }
        }
        let are_all_here = said.len() + 1 == scene.cluster.count();
        if are_all_here && said.iter().all(|has| *has == is_expected) {
            return Ok(());
        }
        let what = if is_expected { "an" } else { "no" };
        ensure!(
            start.elapsed() < scene.recovery,
            "the others are to have {what} alarm about the disk of node {at}, and after {:?} they say \
             {said:?}",
            scene.recovery
        );
        sleep(POLL).await;
    }
}
