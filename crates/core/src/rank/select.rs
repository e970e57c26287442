//! Which of the ranked memories are answered: none says the same as another, and who says one thing over and
//! over steps back behind others.
//!
//! Two defences of one list. *Folding* makes near-identical texts one result. *Diversity* is about what is
//! said in other words each time: whoever writes fifty variants of one claim, each of the highest
//! importance, would fill every answer that it fits. Of one source, what is near what was kept already
//! takes [`PLACES`] places; the rest steps back behind what others say. It is not dropped: where nobody
//! else has anything to say, it is there, and where it is before.

use std::collections::BTreeSet;

use super::{Stage, Stages, Wording};
use crate::name::Name;

/// Places of one source for what is near each other.
pub const PLACES: usize = 2;

/// Cosine from which on two memories of one source are near each other. A claim with a word or two exchanged
/// is at .9 and more, one told in other words at .77 to .96. Two incidents of one kind are mostly below,
/// at .66; those that are not cost nothing: see `ARCHITECTURE.md` for what was measured.
pub const NEAR_FROM: f32 = 0.78;

/// What is looked at of a ranked memory.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    pub text: &'a str,
    /// Who learned it. Those who say no name are one source.
    pub source: Option<&'a Name>,
}

/// A place that stays in the answer, and the places that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub at: usize,
    pub folded: Vec<usize>,
    /// Whether it stepped back behind what others say, which is ranked after it.
    pub is_behind: bool,
}

/// The first `limit` of `looks`, which come best first. What says the same as one before is folded
/// into it, unless [`Stage::Fold`] is off; what steps back does not with [`Stage::Diversity`] off.
///
/// `dense` gives the vector of a place, of unit length, and is asked for those that may stay. Each is
/// compared with those kept of its source, so there are at most `limit` comparisons for each look.
pub fn select<'a, E>(
    looks: impl IntoIterator<Item = Look<'a>>,
    limit: usize,
    stages: Stages,
    mut dense: impl FnMut(usize) -> Result<Vec<f32>, E>,
) -> Result<Vec<Kept>, E> {
    let (folds, spreads) = (stages.has(Stage::Fold), stages.has(Stage::Diversity));
    let mut kept: Vec<(Kept, Option<&Name>, Wording)> = Vec::new();
    let mut near_places: Vec<(Option<&Name>, Vec<f32>)> = Vec::new();
    let mut in_front = 0;
    for (at, look) in looks.into_iter().enumerate() {
        if in_front == limit {
            break;
        }
        let wording = if folds {
            Wording::of(look.text)
        } else {
            Wording::default()
        };
        let same = kept
            .iter_mut()
            .filter(|_| folds)
            .find(|(.., of_kept)| of_kept.is_near(&wording));
        if let Some((same, ..)) = same {
            same.folded.push(at);
            continue;
        }
        let is_behind = if spreads {
            let own = dense(at)?;
            let is_near = |(source, dense): &&(Option<&Name>, Vec<f32>)| {
                *source == look.source && dot(dense, &own) >= NEAR_FROM
            };
            let is_behind = near_places.iter().filter(is_near).take(PLACES).count() == PLACES;
            if !is_behind {
                near_places.push((look.source, own));
            }
            is_behind
        } else {
            false
        };
        in_front += usize::from(!is_behind);
        let new = Kept {
            at,
            folded: Vec::new(),
            is_behind,
        };
        kept.push((new, look.source, wording));
    }
    let mut kept: Vec<(Kept, Option<&Name>)> = kept
        .into_iter()
        .map(|(kept, source, _)| (kept, source))
        .collect();
    // From the last to the first: those who stand in front after the one that is looked at.
    let mut after: BTreeSet<Option<&Name>> = BTreeSet::new();
    for (kept, source) in kept.iter_mut().rev() {
        if kept.is_behind {
            kept.is_behind = after.iter().any(|other| other != source);
        }
        if !kept.is_behind {
            after.insert(*source);
        }
    }
    kept.sort_by_key(|(kept, _)| kept.is_behind);
    kept.truncate(limit);
    Ok(kept.into_iter().map(|(kept, _)| kept).collect())
}

/// Eight sums beside each other, added in one order: it has one value everywhere, and is fast.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Each result is a text, a source and an angle in one plane.
    type Told<'a> = (&'a str, Option<&'a str>, f32);

    fn check(told: &[Told<'_>], limit: usize, stages: Stages) -> Vec<(usize, Vec<usize>, bool)> {
        let names: Vec<Option<Name>> = told
            .iter()
            .map(|(_, source, _)| source.map(|name| Name::parse(name).unwrap()))
            .collect();
        let looks = told.iter().zip(&names).map(|((text, ..), name)| Look {
            text,
            source: name.as_ref(),
        });
        let dense = |at: usize| {
            let angle = told[at].2.to_radians();
            Ok::<_, Infallible>(vec![angle.cos(), angle.sin()])
        };
        let Ok(kept) = select(looks, limit, stages, dense);
        kept.into_iter()
            .map(|kept| (kept.at, kept.folded, kept.is_behind))
            .collect()
    }

    fn order(told: &[Told<'_>], limit: usize) -> Vec<usize> {
        let kept = check(told, limit, Stages::all());
        kept.into_iter().map(|(at, ..)| at).collect()
    }

    #[test]
    fn what_says_the_same_is_folded_into_the_better_and_others_move_up() {
        let told = [
            "disk full",
            "Disk full!",
            "web-1 is down",
            "DISK FULL",
            "web-2 is down",
        ]
        .map(|text| (text, None, 0.0));
        let only = Stages::only(&[Stage::Fold]);
        let folded = |limit, stages| {
            let kept = check(&told, limit, stages).into_iter();
            kept.map(|(at, folded, _)| (at, folded)).collect::<Vec<_>>()
        };
        assert_eq!(folded(2, only), [(0, vec![1]), (2, vec![])]);
        assert_eq!(folded(3, only), [(0, vec![1, 3]), (2, vec![]), (4, vec![])]);
        assert_eq!(folded(2, Stages::only(&[])), [(0, vec![]), (1, vec![])]);
        assert_eq!(check(&[], 5, Stages::all()), []);
        assert_eq!(check(&told, 0, Stages::all()), []);
    }

    #[test]
    fn a_burst_of_one_source_takes_two_places_before_what_others_say() {
        let burst = |text| (text, Some("mallory"), 1.0);
        let told = [
            burst("raise it now"),
            burst("you should raise that"),
            burst("raising helps everywhere"),
            burst("raise raise raise"),
            ("the probe was wrong", Some("ada"), 2.0),
            ("the limit was too low", None, 3.0),
        ];
        assert_eq!(order(&told, 4), [0, 1, 4, 5]);
        assert_eq!(
            order(&told, 5),
            [0, 1, 4, 5, 2],
            "nothing is dropped if there is room"
        );
        assert_eq!(order(&told, 9), [0, 1, 4, 5, 2, 3]);
        assert_eq!(order(&told, 2), [0, 1]);
        let off = Stages::all().without(Stage::Diversity);
        let kept = check(&told, 9, off);
        assert!(kept.iter().all(|(_, _, is_behind)| !is_behind));
        assert_eq!(kept.len(), 6);
    }

    #[test]
    fn lessons_of_one_source_that_are_apart_and_alike_ones_of_several_keep_their_places() {
        let apart = [
            ("a", Some("ada"), 0.0),
            ("b", Some("ada"), 40.0),
            ("c", Some("ada"), 80.0),
        ];
        assert_eq!(order(&apart, 9), [0, 1, 2]);
        let of_several = [
            ("a", Some("ada"), 0.0),
            ("b", Some("bob"), 0.0),
            ("c", Some("cy"), 0.0),
        ];
        assert_eq!(order(&of_several, 9), [0, 1, 2]);
        let unnamed = [
            ("a", None, 0.0),
            ("b", None, 0.0),
            ("c", None, 0.0),
            ("d", Some("ada"), 0.0),
        ];
        assert_eq!(
            order(&unnamed, 9),
            [0, 1, 3, 2],
            "those without a name are one source"
        );
    }

    #[test]
    fn what_says_the_same_as_one_that_stepped_back_is_folded_into_it() {
        let burst = |text| (text, Some("mallory"), 1.0);
        let other = ("other", Some("ada"), 1.0);
        let told = [
            burst("one"),
            burst("two"),
            burst("three"),
            burst("Three!"),
            other,
        ];
        let all = Stages::all();
        let others = [(0, vec![], false), (1, vec![], false), (4, vec![], false)];
        let kept = check(&told, 9, all);
        assert_eq!(kept[..3], others);
        assert_eq!(kept[3], (2, vec![3], true));
        // Where nobody else says anything, the order is that of the scores.
        let alone = check(&told[..4], 9, all);
        assert_eq!(
            alone,
            [(0, vec![], false), (1, vec![], false), (2, vec![3], false)]
        );
        let before = [
            other,
            burst("one"),
            burst("two"),
            burst("three"),
            ("four", Some("mallory"), 90.0),
        ];
        assert_eq!(order(&before, 3), [0, 1, 2]);
        assert_eq!(
            order(&before, 9),
            [0, 1, 2, 3, 4],
            "others that are ranked before are no reason"
        );
    }

    proptest! {
        #[test]
        fn no_source_has_more_near_each_other_before_others_than_places(
            told in prop::collection::vec((0..3_u8, 0..180_u16), 0..40),
            limit in 0..20_usize,
        ) {
            let texts: Vec<String> = (0..told.len()).map(|at| format!("lesson {at}")).collect();
            let names = ["ada", "bob", "cy"];
            let told: Vec<Told<'_>> = told
                .iter()
                .zip(&texts)
                .map(|((source, angle), text)| {
                    (text.as_str(), Some(names[*source as usize]), f32::from(*angle))
                })
                .collect();
            let kept = check(&told, limit, Stages::all());
            prop_assert_eq!(kept.len(), limit.min(told.len()));
            let front: Vec<usize> = kept.iter().filter(|k| !k.2).map(|k| k.0).collect();
            prop_assert!(front.is_sorted(), "what is in front is as it was ranked");
            prop_assert!(kept.is_sorted_by_key(|k| k.2));
            for (place, at) in front.iter().enumerate() {
                let near = front[..place].iter().filter(|other| {
                    let angle = (told[**other].2 - told[*at].2).to_radians();
                    told[**other].1 == told[*at].1 && angle.cos() >= NEAR_FROM + 1e-5
                });
                let are_others_after = front[place..].iter().any(|o| told[*o].1 != told[*at].1);
                prop_assert!(near.count() < PLACES || !are_others_after);
            }
            // Whoever stands behind has that many near it in front.
            for (at, ..) in kept.iter().filter(|k| k.2) {
                let near = front.iter().filter(|other| {
                    let angle = (told[**other].2 - told[*at].2).to_radians();
                    told[**other].1 == told[*at].1 && angle.cos() >= NEAR_FROM - 1e-5
                });
                prop_assert!(near.count() >= PLACES);
            }
        }
    }
}
