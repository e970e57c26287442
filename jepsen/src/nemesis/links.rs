//! Slow, lossy and disorderly links, made by the proxy, since not every kernel has netem.

use tokio::time::sleep;

use super::{Effect, Scene};
use crate::cluster::proxy::Link;

const DELAY_MS_MAX: u64 = 150;
const LOSS_PERCENT: u8 = 10;
const OVERTAKEN_PERCENT: u8 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Delay,
    Loss,
    Reorder,
}

pub(super) async fn strike(scene: &Scene<'_>, trouble: Trouble) -> anyhow::Result<Effect> {
    let link = match trouble {
        Trouble::Delay => Link {
            delay_ms_max: DELAY_MS_MAX,
            ..Link::default()
        },
        Trouble::Loss => Link {
            loss_percent: LOSS_PERCENT,
            ..Link::default()
        },
        Trouble::Reorder => Link {
            overtaken_percent: OVERTAKEN_PERCENT,
            ..Link::default()
        },
    };
    let count = |scene: &Scene<'_>| {
        let total = scene.cluster.proxy().map(|proxy| proxy.total());
        let total = total.unwrap_or_default();
        match trouble {
            Trouble::Delay => total.delayed,
            Trouble::Loss => total.lost,
            Trouble::Reorder => total.overtaken,
        }
    };
    let before = count(scene);
    scene
        .cluster
        .change_links(|conditions| conditions.all().for_each(|l| *l = link))?;
    sleep(scene.hold).await;
    scene.cluster.mend()?;
    let frames = count(scene) - before;
    let verb = match trouble {
        Trouble::Delay => "delayed",
        Trouble::Loss => "lost and sent anew",
        Trouble::Reorder => "overtaken",
    };
    let text = format!("{frames} frames were {verb}");
    Ok(if frames > 0 {
        Effect::Seen(text)
    } else {
        Effect::Nothing(text)
    })
}
