//! SIGKILL of one, a majority or all.

use tokio::time::sleep;

use super::{Effect, Scene};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    One,
    Majority,
    All,
}

pub(super) async fn strike(scene: &mut Scene<'_>, who: Who) -> anyhow::Result<Effect> {
    let victims = match who {
        Who::One => vec![scene.victim().await],
        Who::Majority => {
            let majority = scene.cluster.majority();
            scene.shuffled().into_iter().take(majority).collect()
        }
        Who::All => (0..scene.cluster.count()).collect(),
    };
    let mut killed = Vec::new();
    for at in &victims {
        if scene.cluster.kill(*at)? {
            killed.push(*at);
        }
    }
    sleep(scene.hold).await;
    scene.cluster.start_all()?;
    if killed == victims {
        Ok(Effect::Seen(format!("SIGKILL ended nodes {killed:?}")))
    } else {
        let text = format!("of nodes {victims:?} only {killed:?} ran and were ended by SIGKILL");
        Ok(Effect::Nothing(text))
    }
}
