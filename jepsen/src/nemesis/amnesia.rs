//! The case that node ids are made anew for: of three nodes A, B and C, C is down while A and B
//! acknowledge; then A goes down and B loses its disk. B and C are two of three, and together they
//! do not know what was acknowledged: they must not act as a majority.

use memorygate_proto::v1;
use tokio::time::sleep;

use super::{Effect, Scene};
use crate::cluster::Cluster;

pub(super) async fn strike(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    scene.cluster.healthy(scene.recovery).await?;
    let nodes = scene.shuffled();
    let (knowing, lagging) = nodes.split_at(scene.cluster.majority());
    let (forgetful, others) = (knowing[0], &knowing[1..]);
    let before = newest(scene.cluster, knowing).await;
    for at in lagging {
        scene.cluster.kill(*at)?;
    }
    sleep(scene.hold / 2).await;
    let after = newest(scene.cluster, knowing).await;
    for at in knowing {
        scene.cluster.kill(*at)?;
    }
    scene.cluster.wipe(forgetful)?;
    scene.cluster.start(forgetful)?;
    for at in lagging {
        scene.cluster.start(*at)?;
    }
    sleep(scene.hold * 2).await;
    for at in others {
        scene.cluster.start(*at)?;
    }
    scene.cluster.healthy(scene.recovery).await?;
    let text = format!(
        "nodes {lagging:?} were down from position {before} to {after}, then node {forgetful} lost its \
         disk, and nodes {others:?} were down"
    );
    Ok(if after > before {
        Effect::Seen(text)
    } else {
        Effect::Nothing(text)
    })
}

/// The last position that one of these nodes has applied.
async fn newest(cluster: &Cluster, nodes: &[usize]) -> u64 {
    let mut newest = 0;
    for at in nodes {
        let stats = cluster.callers()[*at].stats(v1::StatsRequest::default());
        let position = stats.await.done().and_then(|stats| stats.position);
        newest = newest.max(position.map_or(0, |position| position.index));
    }
    newest
}
