//! What the planner proposes, and what it leaves alone.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{
    command::consolidate::Step,
    consolidation::{Looked, Material, Nearby, Planned, Policy, Reason, Seen, plan, worth},
    embedding::DIMENSION,
    key::Key,
    limits,
    memory::{self, Archived, Created, Feedback, Link, Memory, Relation, Used},
    name::{Domain, Name},
    rank,
    scope::Scope,
    time::{DAY_MS, TimeMs},
};

const NOW: TimeMs = TimeMs(1_000 * DAY_MS);

const POD: &str = "checkout pods were killed for lack of memory, raising the limit helped";

fn key(number: u8) -> Key {
    Key([number; 16])
}

fn memory(content: &str) -> Memory {
    Memory {
        scope: Scope::Shared,
        content: content.to_owned(),
        domain: Domain::parse("infrastructure").unwrap(),
        occurred_at: NOW,
        importance: 0.5,
        metadata: BTreeMap::new(),
        agent: None,
        session: None,
        links: BTreeSet::new(),
        expires_at: None,
        pinned: false,
        version: 3,
        occurrences: 1,
        last_seen_at: NOW,
        feedback: Feedback::default(),
        created: Created {
            index: 1,
            offset: 0,
            at: NOW,
        },
        updated_at: NOW,
        used: Used::default(),
        archived: None,
        merged: BTreeSet::new(),
        shared: BTreeMap::new(),
        changed_index: 0,
    }
}

/// At an angle in one plane, so that cosines are known.
fn seen(number: u8, degrees: f32, memory: Memory) -> Seen {
    let mut dense = vec![0.0; DIMENSION];
    dense[0] = degrees.to_radians().cos();
    dense[1] = degrees.to_radians().sin();
    Seen {
        key: key(number),
        memory,
        dense,
    }
}

fn nearby(centre: &Seen, near: &[&Seen]) -> Nearby {
    Nearby {
        centre: centre.clone(),
        near: near.iter().map(|seen| (*seen).clone()).collect(),
        in_conflict: BTreeSet::new(),
    }
}

fn planned(changed: &[Nearby], looked: &[Looked], policy: &Policy) -> Vec<Planned> {
    let material = Material {
        changed,
        looked,
        now: NOW,
    };
    plan(
        material,
        &mut BTreeSet::new(),
        policy,
        &rank::Settings::default(),
    )
}

/// The keys that a merge keeps and takes in, by their numbers.
fn merges(steps: &[Planned]) -> Vec<(u8, Vec<u8>)> {
    let merge = |planned: &Planned| match &planned.step {
        Step::Merge { keep, absorb } => {
            let absorbed = absorb.iter().map(|a| a.key.0[0]).collect();
            Some((keep.key.0[0], absorbed))
        }
        Step::Fade { .. } | Step::Conflict { .. } | Step::Relink { .. } => None,
    };
    steps.iter().filter_map(merge).collect()
}

#[test]
fn a_chain_of_small_steps_makes_no_large_one() {
    // Each is 25 degrees (.906) from the next, and 50 (.64) from the one after it.
    let chain: Vec<Seen> = (0..5)
        .map(|i| seen(i, f32::from(i) * 25.0, memory(POD)))
        .collect();
    let all: Vec<&Seen> = chain.iter().collect();
    let changed: Vec<Nearby> = chain.iter().map(|centre| nearby(centre, &all)).collect();
    let steps = planned(&changed, &[], &Policy::default());
    assert_eq!(merges(&steps), [(0, vec![1]), (2, vec![3])]);
    let Reason::SaysTheSame { cosine } = steps[0].reason else {
        panic!("{steps:?}");
    };
    assert!((cosine - 0.906).abs() < 0.001, "{cosine}");
    let strict = Policy {
        merge_from: Some(0.95),
        ..Policy::default()
    };
    assert_eq!(merges(&planned(&changed, &[], &strict)), []);
}

#[test]
fn what_says_most_is_kept_and_nothing_is_lost_that_only_one_says() {
    let longer = format!("{POD} after the rollout of the cache");
    let (short, long) = (seen(1, 0.0, memory(POD)), seen(2, 1.0, memory(&longer)));
    let steps = planned(&[nearby(&short, &[&long])], &[], &Policy::default());
    assert_eq!(merges(&steps), [(2, vec![1])]);
    let other = format!("{POD} under the load of the campaign");
    let other = seen(3, 2.0, memory(&other));
    let steps = planned(&[nearby(&long, &[&other])], &[], &Policy::default());
    assert_eq!(merges(&steps), [], "each says something of its own");
    // A pinned one stays, so the longer one cannot be taken in.
    let pinned = Memory {
        pinned: true,
        ..memory(POD)
    };
    let pinned = seen(4, 0.0, pinned);
    assert_eq!(
        merges(&planned(
            &[nearby(&long, &[&pinned])],
            &[],
            &Policy::default()
        )),
        []
    );
}

#[test]
fn only_what_may_be_merged_is() {
    let centre = seen(1, 0.0, memory(POD));
    let unlike = [
        Memory {
            scope: Scope::Agent(Name::parse("a").unwrap()),
            ..memory(POD)
        },
        Memory {
            domain: Domain::parse("deployment").unwrap(),
            ..memory(POD)
        },
        Memory {
            expires_at: Some(NOW),
            ..memory(POD)
        },
        Memory {
            archived: Some(Archived {
                reason: memory::Reason::Faded,
                at: NOW,
            }),
            ..memory(POD)
        },
        memory("the certificate of the gateway had expired"),
    ];
    for (at, unlike) in (2..).zip(unlike) {
        let other = seen(at, 0.0, unlike);
        let steps = planned(&[nearby(&centre, &[&other])], &[], &Policy::default());
        assert_eq!(steps, [], "{at}");
    }
    let other = seen(9, 0.0, memory(POD));
    let mut apart = nearby(&centre, &[&other]);
    apart.in_conflict.insert(other.key);
    assert_eq!(planned(&[apart], &[], &Policy::default()), []);
    let full = Memory {
        merged: (0..limits::MERGED_MAX as u64)
            .map(|i| Key((u128::from(i) + 1_000).to_be_bytes()))
            .collect(),
        ..memory(POD)
    };
    let full = seen(10, 0.0, full);
    assert_eq!(
        planned(&[nearby(&centre, &[&full])], &[], &Policy::default()),
        []
    );
    let many: Vec<Seen> = (20..80).map(|i| seen(i, 0.0, memory(POD))).collect();
    let many: Vec<&Seen> = many.iter().collect();
    let steps = planned(&[nearby(&centre, &many)], &[], &Policy::default());
    assert_eq!(merges(&steps)[0].1.len(), limits::MERGE_MAX);
}

#[test]
fn a_neighbour_that_says_something_else_and_more_is_in_nobodys_way() {
    let other =
        "the orders database ran out of connections since a retry loop leaked them all night";
    let (a, b) = (seen(1, 0.0, memory(POD)), seen(2, 1.0, memory(POD)));
    let other = seen(3, 0.5, memory(other));
    let steps = planned(&[nearby(&a, &[&other, &b])], &[], &Policy::default());
    assert_eq!(merges(&steps), [(1, vec![2])]);
}

#[test]
fn no_memory_is_in_two_steps() {
    let (a, b) = (seen(1, 0.0, memory(POD)), seen(2, 0.0, memory(POD)));
    let opposite = "never raise the limit when checkout pods are killed for lack of memory";
    let c = seen(3, 0.0, memory(opposite));
    let changed = [
        nearby(&a, &[&b, &c]),
        nearby(&b, &[&a, &c]),
        nearby(&c, &[&a, &b]),
    ];
    let old = Memory {
        last_seen_at: TimeMs(0),
        updated_at: TimeMs(0),
        ..memory(POD)
    };
    let looked = [1, 2].map(|number| Looked {
        key: key(number),
        memory: old.clone(),
        moved: Vec::new(),
    });
    let steps = planned(&changed, &looked, &Policy::default());
    assert_eq!(merges(&steps), [(1, vec![2])]);
    assert_eq!(steps.len(), 1, "{steps:?}");
}

#[test]
fn only_the_worthless_and_unused_fades() {
    let old = Memory {
        last_seen_at: TimeMs(NOW.0 - 400 * DAY_MS),
        updated_at: TimeMs(NOW.0 - 400 * DAY_MS),
        ..memory(POD)
    };
    let fades = |memory: Memory, policy: Policy| {
        let looked = Looked {
            key: key(1),
            memory,
            moved: Vec::new(),
        };
        let steps = planned(&[], &[looked], &policy);
        match steps.as_slice() {
            [] => false,
            [
                Planned {
                    step: Step::Fade { .. },
                    reason: Reason::WorthLittle { .. },
                },
            ] => true,
            other => panic!("{other:?}"),
        }
    };
    let policy = Policy::default;
    assert!(fades(old.clone(), policy()));
    let mut proven = old.clone();
    proven.feedback.add(1.0);
    let used = Memory {
        used: Used {
            count: 1,
            last_at: TimeMs(NOW.0 - 89 * DAY_MS),
        },
        ..old.clone()
    };
    let pinned = Memory {
        pinned: true,
        ..old.clone()
    };
    let of_long_ago = Memory {
        updated_at: NOW,
        ..old.clone()
    };
    for kept in [proven, used, pinned, of_long_ago, memory(POD)] {
        assert!(!fades(kept.clone(), policy()), "{kept:?}");
    }
    let never = Policy {
        fade_below: Some(0.0),
        ..policy()
    };
    let long = Policy {
        keep_days: Some(500),
        ..policy()
    };
    assert!(!fades(old.clone(), never));
    assert!(!fades(old, long));
}

#[test]
fn worth_grows_with_what_proved_itself_and_falls_with_time() {
    let settings = rank::Settings::default();
    let of = |change: fn(&mut Memory)| {
        let mut changed = memory(POD);
        change(&mut changed);
        worth(&changed, NOW, &settings)
    };
    let plain = of(|_| ());
    assert!((0.0..=1.0).contains(&plain));
    assert!(of(|m| m.importance = 1.0) > plain);
    assert!(of(|m| m.feedback.add(1.0)) > plain);
    assert!(of(|m| m.feedback.add(-1.0)) < plain);
    let lucky = of(|m| m.feedback.add(1.0));
    assert!(
        of(|m| (0..10).for_each(|_| m.feedback.add(0.9))) > lucky,
        "ten outweigh one"
    );
    assert!(of(|m| m.used.count = 5) > plain);
    assert!(of(|m| m.occurrences = 5) > plain);
    let ten_days_ago = |m: &mut Memory| {
        m.last_seen_at = TimeMs(NOW.0 - 10 * DAY_MS);
        m.updated_at = m.last_seen_at;
    };
    assert!(of(ten_days_ago) < plain);
}

#[test]
fn a_link_follows_what_took_the_place_of_its_target() {
    let link = Link {
        relation: Relation::CausedBy,
        target: key(7),
    };
    let looked = Looked {
        key: key(1),
        memory: memory(POD),
        moved: vec![(link, key(8))],
    };
    let steps = planned(&[], &[looked], &Policy::default());
    let [
        Planned {
            step: Step::Relink {
                relation, from, to, ..
            },
            reason: Reason::TargetMoved,
        },
    ] = steps.as_slice()
    else {
        panic!("{steps:?}");
    };
    assert_eq!(
        (*relation, *from, *to),
        (Relation::CausedBy, key(7), key(8))
    );
}
