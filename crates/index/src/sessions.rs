//! Memories of one session in the order in which they happened, and what they lend each other.
//!
//! What answers a question often stands next to what matches it: in the turn before, in the step
//! after. So a memory lends a share of its lexical score to its neighbours in the session.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use memorygate_core::{memory::Created, time::TimeMs};

use crate::bitmap::Bitmap;

/// No neighbour on that side.
const NONE: u32 = u32::MAX;

/// Where a memory stands: in its group by when it happened, then by when it was learned. No two
/// memories are created at the same place of the log, so no two have the same place here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Stands for a session within a scope. Its number depends on history and decides nothing but
    /// which memories stand together.
    pub(crate) group: u32,
    pub(crate) occurred_at: TimeMs,
    pub(crate) created: Created,
}

/// Which share of its score a memory lends, in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// To the memories right before and after it.
    pub adjacent: f64,
    /// To those one further.
    pub next_but_one: f64,
}

impl Shares {
    pub const NONE: Self = Self {
        adjacent: 0.0,
        next_but_one: 0.0,
    };
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            adjacent: 0.3,
            next_but_one: 0.15,
        }
    }
}

/// The sessions of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    order: BTreeMap<Place, u32>,
    /// By slot: the slots before and after it.
    sides: Vec<Sides>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sides {
    before: u32,
    after: u32,
}

const ALONE: Sides = Sides {
    before: NONE,
    after: NONE,
};

impl Sessions {
    /// Puts the memory in `slot` into its place, which no other holds.
    pub(crate) fn insert(&mut self, place: Place, slot: u32) {
        let taken = self.order.insert(place, slot);
        assert!(
            taken.is_none(),
            "two memories at one place of a session: {place:?}"
        );
        if slot as usize >= self.sides.len() {
            self.sides.resize(slot as usize + 1, ALONE);
        }
        let same = |(at, slot): (&Place, &u32)| (at.group == place.group).then_some(*slot);
        let before = self
            .order
            .range(..place)
            .next_back()
            .and_then(same)
            .unwrap_or(NONE);
        let after = self
            .order
            .range((Excluded(place), Unbounded))
            .next()
            .and_then(same)
            .unwrap_or(NONE);
        self.join(before, slot);
        self.join(slot, after);
    }

    /// Takes the memory out of its place; its neighbours become each other's.
    pub(crate) fn remove(&mut self, place: &Place) {
        let slot = self
            .order
            .remove(place)
            .expect("a memory is taken from where it was put");
        let Sides { before, after } = std::mem::replace(&mut self.sides[slot as usize], ALONE);
        self.join(before, after);
    }

    fn join(&mut self, before: u32, after: u32) {
        if let Some(sides) = self.sides.get_mut(before as usize) {
            sides.after = after;
        }
        if let Some(sides) = self.sides.get_mut(after as usize) {
            sides.before = before;
        }
    }

    /// Each passing memory's score with what passing neighbours lend it; 0 for all others.
    ///
    /// A memory that does not pass lends nothing: if it did, one agent's private memory would move
    /// another agent's answers. It still holds its place, so a filter brings nobody closer.
    pub(crate) fn lend(&self, mut scores: Vec<f64>, passing: &Bitmap, shares: Shares) -> Vec<f64> {
        passing.zero_others(&mut scores);
        if shares == Shares::NONE {
            return scores;
        }
        // There is nobody at `NONE`, which lies beyond every list of scores.
        let score = |slot: u32| scores.get(slot as usize).copied().unwrap_or(0.0);
        let mut lent = scores.clone();
        for (slot, lent) in (0..).zip(&mut lent) {
            let near = self.sides_of(slot);
            if near == ALONE {
                continue;
            }
            let far = Sides {
                before: self.sides_of(near.before).before,
                after: self.sides_of(near.after).after,
            };
            // The order of these sums is part of the result.
            *lent = *lent
                + shares.adjacent * score(near.before)
                + shares.adjacent * score(near.after)
                + shares.next_but_one * score(far.before)
                + shares.next_but_one * score(far.after);
        }
        passing.zero_others(&mut lent);
        lent
    }

    fn sides_of(&self, slot: u32) -> Sides {
        self.sides.get(slot as usize).copied().unwrap_or(ALONE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(group: u32, occurred_at: i64, index: u64) -> Place {
        let created = Created {
            index,
            offset: 0,
            at: TimeMs(0),
        };
        Place {
            group,
            occurred_at: TimeMs(occurred_at),
            created,
        }
    }

    /// Sessions as lists, neighbours by index.
    fn by_definition(
        lists: &[Vec<(Place, u32)>],
        scores: &[f64],
        passing: &Bitmap,
        shares: Shares,
    ) -> Vec<f64> {
        let own = |slot: usize| {
            if passing.contains(slot as u32) {
                scores[slot]
            } else {
                0.0
            }
        };
        let mut lent: Vec<f64> = (0..scores.len()).map(own).collect();
        for list in lists {
            let score = |at: Option<usize>| {
                let slot = at.and_then(|at| list.get(at)).map(|x| x.1);
                slot.filter(|s| passing.contains(*s))
                    .map_or(0.0, |s| scores[s as usize])
            };
            for (at, (_, slot)) in list.iter().enumerate().filter(|x| passing.contains(x.1.1)) {
                lent[*slot as usize] = score(Some(at))
                    + shares.adjacent * score(at.checked_sub(1))
                    + shares.adjacent * score(Some(at + 1))
                    + shares.next_but_one * score(at.checked_sub(2))
                    + shares.next_but_one * score(Some(at + 2));
            }
        }
        lent
    }

    #[test]
    fn a_score_is_lent_two_places_far_and_not_into_other_sessions() {
        let mut sessions = Sessions::default();
        for (slot, (group, at)) in (0..).zip([(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3)]) {
            sessions.insert(place(group, at, 0), slot);
        }
        let all = Bitmap::all(7);
        let lent = sessions.lend(
            vec![0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            &all,
            Shares::default(),
        );
        assert_eq!(lent, [0.3, 1.0, 0.3, 0.15, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn what_does_not_pass_lends_nothing_and_keeps_its_place() {
        let mut sessions = Sessions::default();
        for slot in 0..3 {
            sessions.insert(place(0, i64::from(slot), 0), slot);
        }
        let passing = Bitmap::where_true(3, |slot| slot != 1);
        let lent = sessions.lend(vec![1.0, 8.0, 0.0], &passing, Shares::default());
        assert_eq!(lent, [1.0, 0.0, 0.15]);
    }

    proptest! {
        #[test]
        fn only_what_is_there_and_its_order_matter(
            steps in prop::collection::vec((0_u32..3, 0_i64..4, 0_u32..16), 0..60),
            scores in prop::collection::vec(0.0_f64..9.0, 16),
            passing in any::<u16>(),
        ) {
            let mut sessions = Sessions::default();
            let mut held: BTreeMap<u32, Place> = BTreeMap::new();
            for (index, (group, at, slot)) in (0..).zip(steps) {
                if let Some(place) = held.remove(&slot) {
                    sessions.remove(&place);
                } else {
                    sessions.insert(place(group, at, index), slot);
                    held.insert(slot, place(group, at, index));
                }
            }
            let mut lists = vec![Vec::new(); 3];
            for (slot, place) in held {
                lists[place.group as usize].push((place, slot));
            }
            lists.iter_mut().for_each(|list| list.sort_unstable());
            let passing = Bitmap::where_true(16, |slot| passing >> slot & 1 == 1);
            let shares = Shares { adjacent: 0.37, next_but_one: 0.11 };
            let expected = by_definition(&lists, &scores, &passing, shares);
            prop_assert_eq!(sessions.lend(scores, &passing, shares), expected);
        }
    }
}
