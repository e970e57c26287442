//! Wall clocks that jump and do not agree.

use std::time::Duration;

use anyhow::Context as _;
use rand::Rng as _;
use tokio::time::sleep;

use super::{Effect, Scene};

const JUMP_MS_MAX: i64 = 3_600_000;

/// Jumps in one strike.
const JUMPS: u32 = 4;

pub(super) async fn strike(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    let count = scene.cluster.count();
    let readings = |scene: &Scene<'_>| -> anyhow::Result<Vec<u64>> {
        let preload = scene.cluster.preload.as_ref();
        let preload = preload.context("the servers do not run over the preload library")?;
        (0..count).map(|at| preload.shifted_readings(at)).collect()
    };
    let before = readings(scene)?;
    let mut offsets_ms = vec![0; count];
    for _ in 0..JUMPS {
        for offset_ms in &mut offsets_ms {
            *offset_ms = match scene.random.random_range(0..4) {
                0 => 0,
                1 => scene.random.random_range(-2_000..2_000),
                _ => scene.random.random_range(-JUMP_MS_MAX..JUMP_MS_MAX),
            };
        }
        if let Some(preload) = &scene.cluster.preload {
            preload.set_clocks(&offsets_ms)?;
        }
        sleep(scene.hold.max(Duration::from_secs(1)) / JUMPS).await;
    }
    let after = readings(scene)?;
    let felt: u64 = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .sum();
    if let Some(preload) = &scene.cluster.preload {
        preload.set_clocks(&vec![0; count])?;
    }
    let text = format!("{felt} readings of wall clocks were off, the last by {offsets_ms:?} ms");
    Ok(if felt > 0 {
        Effect::Seen(text)
    } else {
        Effect::Nothing(text)
    })
}
