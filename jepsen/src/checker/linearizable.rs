//! Whether each register behaved as if its operations had happened one after another, each at some
//! moment between its question and its answer.
//!
//! The search of Wing and Gong with Lowe's memory: what was tried before (a set of operations done,
//! and the value after them) is not tried again. Keys are judged one by one, which is enough because
//! linearizability is local.

use std::collections::{BTreeMap, HashSet};

use crate::{
    caller::Answer,
    findings::Findings,
    history::Operation,
    workload::{
        count_outcomes,
        register::{Ask, INITIAL, Told},
    },
};

/// States that are looked at for one key; beyond, the key is undecided, which counts as a violation.
const STATES_MAX: usize = 5_000_000;

/// The verdict over one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Linearizable,
    Violated,
    /// More states than this looks at.
    Undecided,
}

/// Judges all keys of a history.
pub fn check(history: &[Operation<Ask>]) -> Findings {
    let mut findings = Findings::default();
    let writes = history
        .iter()
        .filter(|operation| matches!(operation.call, Ask::CompareAndSet { .. }));
    count_outcomes(writes.map(|operation| &operation.answer), &mut findings);
    for (key, operations) in by_key(history) {
        versions(key, &operations, &mut findings);
        let verdict = decide(&operations);
        if verdict != Verdict::Linearizable {
            findings.illegal.insert(key);
        }
        match verdict {
            Verdict::Linearizable => {}
            Verdict::Violated => findings.violate(format!(
                "the history of register {key} ({} operations) is not linearizable",
                operations.len()
            )),
            Verdict::Undecided => findings.violate(format!(
                "the history of register {key} could not be decided within {STATES_MAX} states"
            )),
        }
    }
    findings
}

fn by_key(history: &[Operation<Ask>]) -> BTreeMap<u64, Vec<&Operation<Ask>>> {
    let mut keys: BTreeMap<u64, Vec<&Operation<Ask>>> = BTreeMap::new();
    for operation in history {
        keys.entry(operation.call.key())
            .or_default()
            .push(operation);
    }
    keys
}

/// Two values never share a version.
fn versions(key: u64, operations: &[&Operation<Ask>], findings: &mut Findings) {
    let mut values: BTreeMap<u64, u64> = BTreeMap::new();
    for operation in operations {
        let seen = match (operation.call, &operation.answer) {
            (_, Answer::Done(Told::Value { version, value })) => (*version, *value),
            (Ask::CompareAndSet { new, .. }, Answer::Done(Told::Swapped { version })) => {
                (*version, new)
            }
            _ => continue,
        };
        let first = *values.entry(seen.0).or_insert(seen.1);
        if first != seen.1 {
            findings.violate(format!(
                "version {} of register {key} is {first} and {}",
                seen.0, seen.1
            ));
        }
    }
}

/// What an operation does at its moment.
#[derive(Clone, Copy, Debug)]
enum Step {
    Sees(u64),
    Swaps {
        old: u64,
        new: u64,
    },
    /// It found another value than this.
    Misses(u64),
    /// It swaps if it can, and nobody knows.
    MaySwap {
        old: u64,
        new: u64,
    },
}

impl Step {
    /// What `operation` did, if it can have done anything that others notice.
    fn of(operation: &Operation<Ask>) -> Option<Self> {
        match (operation.call, &operation.answer) {
            (Ask::Read { .. }, Answer::Done(Told::Value { value, .. })) => Some(Self::Sees(*value)),
            (Ask::CompareAndSet { old, new, .. }, Answer::Done(_)) => {
                Some(Self::Swaps { old, new })
            }
            (Ask::CompareAndSet { old, .. }, Answer::Refused(_)) => Some(Self::Misses(old)),
            (Ask::CompareAndSet { old, new, .. }, Answer::Unknown(_)) => {
                Some(Self::MaySwap { old, new })
            }
            (Ask::Read { .. } | Ask::CompareAndSet { .. }, _) => None,
        }
    }

    /// The value after it; `None` if it cannot happen at `value`.
    fn at(self, value: u64) -> Option<u64> {
        match self {
            Self::Sees(seen) => (seen == value).then_some(value),
            Self::Swaps { old, new } => (old == value).then_some(new),
            Self::Misses(old) => (old != value).then_some(value),
            Self::MaySwap { old, new } => Some(if old == value { new } else { value }),
        }
    }
}

struct Interval {
    step: Step,
    invoked_us: u64,
    /// `u64::MAX` if it may still happen after everything else.
    completed_us: u64,
}

fn decide(operations: &[&Operation<Ask>]) -> Verdict {
    let mut intervals: Vec<Interval> = operations
        .iter()
        .filter_map(|operation| {
            let step = Step::of(operation)?;
            let is_open = matches!(step, Step::MaySwap { .. });
            Some(Interval {
                step,
                invoked_us: operation.invoked_us,
                completed_us: if is_open {
                    u64::MAX
                } else {
                    operation.completed_us
                },
            })
        })
        .collect();
    intervals.sort_by_key(|interval| interval.invoked_us);
    search(&intervals)
}

/// Which operations are done.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }
}

fn search(intervals: &[Interval]) -> Verdict {
    let none = Done(vec![0; intervals.len().div_ceil(64)]);
    let mut seen: HashSet<(Done, u64)> = HashSet::new();
    let mut open = vec![(none, INITIAL)];
    while let Some((done, value)) = open.pop() {
        // Only what began before everything undone has ended can be next.
        let is_undone = |at: &usize| !done.has(*at);
        let Some(first_end) = (0..intervals.len())
            .filter(is_undone)
            .map(|at| intervals[at].completed_us)
            .min()
        else {
            return Verdict::Linearizable;
        };
        if first_end == u64::MAX {
            // What is left may as well never happen.
            return Verdict::Linearizable;
        }
        let candidates = (0..intervals.len())
            .take_while(|at| intervals[*at].invoked_us <= first_end)
            .filter(is_undone);
        // Pushed in reverse, so that the earliest is tried first.
        let candidates: Vec<usize> = candidates.collect();
        for at in candidates.into_iter().rev() {
            let step = intervals[at].step;
            let Some(next) = step.at(value) else {
                continue;
            };
            if matches!(step, Step::MaySwap { .. }) && next == value {
                // Without effect it needs no moment.
                continue;
            }
            let mut done = done.clone();
            done.set(at);
            if seen.insert((done.clone(), next)) {
                open.push((done, next));
            }
        }
        if seen.len() > STATES_MAX {
            return Verdict::Undecided;
        }
    }
    Verdict::Violated
}
