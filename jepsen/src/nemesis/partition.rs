//! Links that carry nothing, in several shapes. Clients reach every node all the same.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::{Instant, sleep};

use super::{Effect, Scene};

/// Between two looks at whether the cut is felt.
const LOOK: Duration = Duration::from_millis(100);

/// How long a flapping link stays as it is.
const FLAP_MS: std::ops::RangeInclusive<u64> = 200..=1_200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Halves,
    Ring,
    OneWay,
    LeaderAlone,
}

pub(super) async fn strike(scene: &mut Scene<'_>, shape: Shape) -> anyhow::Result<Effect> {
    let cuts = match shape {
        Shape::Halves => halves(scene),
        Shape::Ring => ring(&scene.shuffled()),
        Shape::OneWay => one_way(scene).await,
        Shape::LeaderAlone => {
            let leader = match scene.cluster.leader().await {
                Some(leader) => leader,
                None => scene.any(),
            };
            let others = (0..scene.cluster.count()).filter(|at| *at != leader);
            both_ways(&[leader], &others.collect::<Vec<_>>())
        }
    };
    let seen = cut(scene, &cuts, scene.hold).await?;
    Ok(judge(&cuts, &seen))
}

pub(super) async fn flap(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    let end = Instant::now() + scene.hold;
    let (mut times, mut felt) = (0, 0);
    while Instant::now() < end {
        let cuts = halves(scene);
        let cut_for = Duration::from_millis(scene.random.random_range(FLAP_MS));
        let seen = cut(scene, &cuts, cut_for).await?;
        times += 1;
        felt += u32::from(!seen.is_empty());
        sleep(Duration::from_millis(scene.random.random_range(FLAP_MS))).await;
    }
    if felt > 0 {
        let text =
            format!("links were cut {times} times; members waited in vain in {felt} of them");
        Ok(Effect::Seen(text))
    } else {
        Ok(Effect::Nothing(format!(
            "links were cut {times} times, and nobody noticed"
        )))
    }
}

/// Cuts, waits, mends; returns the pairs that were seen to wait in vain.
async fn cut(
    scene: &Scene<'_>,
    cuts: &[(usize, usize)],
    hold: Duration,
) -> anyhow::Result<Vec<(usize, usize)>> {
    let before = scene.cluster.held(cuts);
    for (from, to) in cuts {
        scene.cluster.cut(*from, *to)?;
    }
    let end = Instant::now() + hold;
    let mut seen = Vec::new();
    while Instant::now() < end {
        sleep(LOOK.min(end - Instant::now())).await;
        for pair in scene.cluster.silent(cuts, &before) {
            if !seen.contains(&pair) {
                seen.push(pair);
            }
        }
    }
    scene.cluster.mend()?;
    Ok(seen)
}

fn judge(cuts: &[(usize, usize)], seen: &[(usize, usize)]) -> Effect {
    if seen.is_empty() {
        Effect::Nothing(format!(
            "links {cuts:?} were cut, and nothing was sent on them"
        ))
    } else {
        Effect::Seen(format!(
            "links {cuts:?} were cut; messages waited in vain on {seen:?}"
        ))
    }
}

fn halves(scene: &mut Scene<'_>) -> Vec<(usize, usize)> {
    let nodes = scene.shuffled();
    let (many, few) = nodes.split_at(scene.cluster.majority());
    both_ways(many, few)
}

async fn one_way(scene: &mut Scene<'_>) -> Vec<(usize, usize)> {
    let one = scene.victim().await;
    let is_mute = scene.random.random_bool(0.5);
    (0..scene.cluster.count())
        .filter(|other| *other != one)
        .map(|other| if is_mute { (one, other) } else { (other, one) })
        .collect()
}

/// In a circle, each reaches its neighbours only; of three, the middle one reaches both others.
fn ring(nodes: &[usize]) -> Vec<(usize, usize)> {
    let count = nodes.len();
    let are_neighbours = |one: usize, other: usize| {
        let distance = one.abs_diff(other);
        // A circle of three has no pair that is apart, so there it is open.
        distance <= (count / 4).max(1) || count > 3 && count - distance <= (count / 4).max(1)
    };
    let mut cuts = Vec::new();
    for one in 0..count {
        for other in 0..count {
            if !are_neighbours(one, other) {
                cuts.push((nodes[one], nodes[other]));
            }
        }
    }
    cuts
}

fn both_ways(these: &[usize], those: &[usize]) -> Vec<(usize, usize)> {
    let pairs = these
        .iter()
        .flat_map(|one| those.iter().map(|other| (*one, *other)));
    pairs
        .flat_map(|(one, other)| [(one, other), (other, one)])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(count: usize) {
        let nodes: Vec<usize> = (0..count).collect();
        let cuts = ring(&nodes);
        let reach = |one: usize| -> BTreeSet<usize> {
            let is_open = |other: &usize| !cuts.contains(&(one, *other));
            nodes.iter().copied().filter(is_open).collect()
        };
        let views: BTreeSet<BTreeSet<usize>> = nodes.iter().map(|one| reach(*one)).collect();
        assert_eq!(views.len(), count, "no two see the same majority");
        assert!(views.iter().all(|view| view.len() > count / 2), "{views:?}");
        assert!(!cuts.is_empty());
    }

    #[test]
    fn in_a_ring_each_sees_a_majority_of_its_own() {
        check(3);
        check(5);
    }
}
