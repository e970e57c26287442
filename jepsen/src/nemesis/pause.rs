//! SIGSTOP and SIGCONT: a node that thinks no time has passed.

use rand::Rng as _;
use tokio::time::sleep;

use super::{Effect, Scene};

/// How the kernel shows a stopped process.
const STOPPED: char = 'T';

pub(super) async fn strike(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    let mut victims = vec![scene.victim().await];
    if scene.random.random_bool(0.3) {
        let others: Vec<usize> = scene.shuffled();
        let others = others.into_iter().filter(|at| *at != victims[0]);
        let more: Vec<usize> = others.take(scene.cluster.majority() - 1).collect();
        victims.extend(more);
    }
    scene.cluster.notice_exits()?;
    scene.cluster.start_all()?;
    for at in &victims {
        scene.cluster.pause(*at)?;
    }
    sleep(scene.hold).await;
    let is_stopped = |at: &usize| scene.cluster.node(*at).process_state() == Some(STOPPED);
    let stopped: Vec<usize> = victims.iter().copied().filter(is_stopped).collect();
    for at in &victims {
        scene.cluster.resume(*at)?;
    }
    if stopped == victims {
        let text = format!("nodes {stopped:?} stood still for {:?}", scene.hold);
        Ok(Effect::Seen(text))
    } else {
        let text = format!("of nodes {victims:?} only {stopped:?} stood still");
        Ok(Effect::Nothing(text))
    }
}
