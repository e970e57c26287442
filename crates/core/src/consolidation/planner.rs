//! The plan of one pass.

use std::collections::BTreeSet;

use super::{Likeness, Policy, Saying, worth};
use crate::{
    command::consolidate::{Step, Versioned},
    key::Key,
    limits,
    memory::{Created, Link, Memory},
    rank,
    time::{DAY_MS, TimeMs},
};

/// Sum of feedback, good less bad, from which on a memory is of proven use and does not fade.
const PROVEN_FROM: f64 = 1.0;

/// A memory as the planner sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub key: Key,
    pub memory: Memory,
    /// Of its first window, unit length.
    pub dense: Vec<f32>,
}

/// A memory that changed, and what the index finds near it.
#[derive(Clone, Debug)]
pub struct Nearby {
    pub centre: Seen,
    /// Nearest first.
    pub near: Vec<Seen>,
    /// Keys that were found to contradict the centre, decided or not: these stay apart.
    pub in_conflict: BTreeSet<Key>,
}

/// A memory that is looked at in its turn, whether it changed or not.
#[derive(Clone, Debug)]
pub struct Looked {
    pub key: Key,
    pub memory: Memory,
    /// Its links to archived memories, and what took the place of each.
    pub moved: Vec<(Link, Key)>,
}

/// A step and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub step: Step,
    pub reason: Reason,
}

/// Why a step is planned.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The smallest cosine between the one that is kept and the others.
    SaysTheSame {
        cosine: f32,
    },
    Contradicts {
        cosine: f32,
    },
    /// What it is worth, and for how many days nobody needed it.
    WorthLittle {
        worth: f64,
        unused_days: f64,
    },
    /// What it links to was archived.
    TargetMoved,
}

/// What a part of a pass is planned from.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    pub changed: &'a [Nearby],
    pub looked: &'a [Looked],
    /// The time in the log.
    pub now: TimeMs,
}

/// Plans what to merge and what to flag among what changed and its neighbours, and what fades or is
/// linked anew of what was looked at. A memory is in one step at most, of all parts of a pass that share
/// `taken`, so the order of the steps decides nothing.
pub fn plan(
    material: Material<'_>,
    taken: &mut BTreeSet<Key>,
    policy: &Policy,
    settings: &rank::Settings,
) -> Vec<Planned> {
    let mut steps: Vec<Planned> = Vec::new();
    let Material {
        changed,
        looked,
        now,
    } = material;
    for nearby in changed {
        if taken.contains(&nearby.centre.key) || !can_change(&nearby.centre.memory, now) {
            continue;
        }
        let step =
            merge(nearby, taken, now, policy).or_else(|| conflict(nearby, taken, now, policy));
        if let Some(step) = step {
            taken.extend(step.step.consumes().iter().map(|c| c.key));
            steps.push(step);
        }
    }
    for looked in looked {
        if taken.contains(&looked.key) || !can_change(&looked.memory, now) {
            continue;
        }
        if let Some(step) = fade(looked, now, policy, settings).or_else(|| relink(looked)) {
            taken.insert(looked.key);
            steps.push(step);
        }
    }
    steps
}

fn can_change(memory: &Memory, now: TimeMs) -> bool {
    !memory.is_archived() && !memory.is_expired(now)
}

/// Those near enough to the centre, nearest first, with their cosines.
fn close<'a>(
    nearby: &'a Nearby,
    taken: &BTreeSet<Key>,
    now: TimeMs,
    policy: &Policy,
) -> Vec<(&'a Seen, f32)> {
    let from = policy.merge_from();
    let centre = &nearby.centre;
    let of = |seen: &'a Seen| {
        let cosine = dot(&centre.dense, &seen.dense);
        let fits = seen.key != centre.key
            && !taken.contains(&seen.key)
            && !nearby.in_conflict.contains(&seen.key)
            && can_change(&seen.memory, now)
            && seen.memory.scope == centre.memory.scope
            && seen.memory.domain == centre.memory.domain
            && cosine >= from;
        fits.then_some((seen, cosine))
    };
    nearby.near.iter().filter_map(of).collect()
}

type Preference = (bool, usize, u32, u32, std::cmp::Reverse<Created>);

/// One merge of the centre and all that say the same as the one that is kept: near the centre alone is
/// not enough, or a chain of small steps would make one memory of many lessons.
fn merge(nearby: &Nearby, taken: &BTreeSet<Key>, now: TimeMs, policy: &Policy) -> Option<Planned> {
    let from = policy.merge_from();
    let own = Saying::of(&nearby.centre.memory.content);
    let mut group: Vec<(&Seen, Saying)> = close(nearby, taken, now, policy)
        .into_iter()
        .map(|(seen, _)| (seen, Saying::of(&seen.memory.content)))
        .filter(|(_, saying)| saying.compare(&own) == Likeness::Same)
        .collect();
    group.insert(0, (&nearby.centre, own));
    group.sort_by_key(|(seen, saying)| std::cmp::Reverse(preference(seen, saying)));
    let ((keep, saying), others) = group.split_first()?;
    let saying = saying.clone();
    let (mut absorb, mut least, mut said) = (Vec::new(), 1.0_f32, vec![(saying, &keep.dense)]);
    let mut shared = keep.memory.shared.len();
    for (other, own) in others {
        let cosine = dot(&keep.dense, &other.dense);
        let fits_all = said.iter().all(|(saying, dense)| {
            saying.compare(own) == Likeness::Same && dot(dense, &other.dense) >= from
        });
        let has_room = keep.memory.merged.len() + absorb.len() + 1 + other.memory.merged.len()
            <= limits::MERGED_MAX
            && absorb.len() < limits::MERGE_MAX
            && shared + other.memory.shared.len() <= limits::SHARINGS_MAX;
        // What the kept one does not say would be lost to recalls.
        let is_covered = said[0].0.covers(own);
        if fits_all && is_covered && has_room && !other.memory.pinned {
            least = least.min(cosine);
            said.push((own.clone(), &other.dense));
            absorb.push(versioned(other));
            shared += other.memory.shared.len();
        }
    }
    (!absorb.is_empty()).then(|| Planned {
        step: Step::Merge {
            keep: versioned(keep),
            absorb,
        },
        reason: Reason::SaysTheSame { cosine: least },
    })
}

/// A pinned one is kept, or the one that says most, was most often judged, was met most often, is oldest.
fn preference(seen: &Seen, saying: &Saying) -> Preference {
    let memory = &seen.memory;
    (
        memory.pinned,
        saying.len(),
        memory.feedback.count,
        memory.occurrences,
        std::cmp::Reverse(memory.created),
    )
}

/// The nearest that contradicts the centre.
fn conflict(
    nearby: &Nearby,
    taken: &BTreeSet<Key>,
    now: TimeMs,
    policy: &Policy,
) -> Option<Planned> {
    let own = Saying::of(&nearby.centre.memory.content);
    let opposite = |(seen, cosine): (&Seen, f32)| {
        let is = Saying::of(&seen.memory.content).compare(&own) == Likeness::Opposite;
        is.then(|| Planned {
            step: Step::Conflict {
                a: versioned(&nearby.centre),
                b: versioned(seen),
            },
            reason: Reason::Contradicts { cosine },
        })
    };
    close(nearby, taken, now, policy)
        .into_iter()
        .find_map(opposite)
}

fn fade(
    looked: &Looked,
    now: TimeMs,
    policy: &Policy,
    settings: &rank::Settings,
) -> Option<Planned> {
    let memory = &looked.memory;
    let unused_days = now.since(memory.last_touched_at()) as f64 / DAY_MS as f64;
    let proven = memory.feedback.positive - memory.feedback.negative >= PROVEN_FROM;
    if memory.pinned || proven || unused_days < f64::from(policy.keep_days()) {
        return None;
    }
    let worth = worth(memory, now, settings);
    (worth < f64::from(policy.fade_below())).then(|| Planned {
        step: Step::Fade {
            memory: looked.versioned(),
        },
        reason: Reason::WorthLittle { worth, unused_days },
    })
}

/// One link of a memory at a time: the step makes another version of it.
fn relink(looked: &Looked) -> Option<Planned> {
    looked.moved.first().map(|(link, to)| Planned {
        step: Step::Relink {
            memory: looked.versioned(),
            relation: link.relation,
            from: link.target,
            to: *to,
        },
        reason: Reason::TargetMoved,
    })
}

impl Looked {
    fn versioned(&self) -> Versioned {
        Versioned {
            key: self.key,
            version: self.memory.version,
        }
    }
}

fn versioned(seen: &Seen) -> Versioned {
    Versioned {
        key: seen.key,
        version: seen.memory.version,
    }
}

/// In the order of the numbers, so that the sum has one value.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
