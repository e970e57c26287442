//! Nodes are killed and lose every write that they had not synced.

use anyhow::Context as _;
use rand::Rng as _;
use tokio::time::sleep;

use super::{Effect, Scene};

pub(super) async fn strike(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    let nodes = scene.shuffled();
    let count = match scene.random.random_range(0..4) {
        0 => 1,
        1 => scene.cluster.majority(),
        // As when the power of the whole room goes.
        _ => nodes.len(),
    };
    let victims = &nodes[..count];
    for at in victims {
        scene.cluster.kill(*at)?;
    }
    let (mut writes, mut names) = (0, 0);
    for at in victims {
        let preload = scene.cluster.preload.as_ref();
        let preload = preload.context("the servers do not run over the preload library")?;
        let data = scene.cluster.node(*at).data().to_owned();
        let forgotten = preload.power_cut(*at, &data, scene.random)?;
        writes += forgotten.writes;
        names += forgotten.names;
    }
    sleep(scene.hold / 4).await;
    scene.cluster.start_all()?;
    let text = format!(
        "nodes {victims:?} lost {writes} unsynced writes and {names} unsynced changes of names"
    );
    Ok(if writes + names > 0 {
        Effect::Seen(text)
    } else {
        Effect::Nothing(text)
    })
}
