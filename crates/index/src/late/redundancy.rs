//! How much of a query's piece is said by its other pieces already.
//!
//! The weight of a piece tells how rare it is, as if pieces came one without the other. They do not:
//! "the rate limiter turned callers away" is one fact in six rare pieces, which together outweigh the one
//! rare name that says of which service it is told. Over the candidates it shows: what is one fact fits
//! the same memories well and the others badly. So the weight of a piece is divided by the number of pieces
//! that fit as it does, itself included: by the sum of `max(0, r)⁶` over the pieces, with r the
//! correlation of how well both fit the candidates. The high power counts what goes together nearly always
//! and leaves out what only leans the same way; from the fourth to the eighth all do as well.
//!
//! Of few candidates a correlation says little: of three, in which one fits everything, all pieces of the
//! question are one. So r² is the adjusted coefficient of determination (Ezekiel), which is what it would be
//! of many, and is drawn towards none as if [`UNCORRELATED`] more candidates had been seen.

use super::Fit;

/// Products that one query costs at most, some milliseconds: pairs of its pieces times candidates that are
/// looked at. Those come in the order of their keys, which are digests, so the first are as good as any. A query
/// of 300 pieces has 356 of them; of one of thousands nothing is concluded.
const PRODUCTS_MAX: usize = 16_000_000;

/// Two candidates determine each other whatever they are.
const SAMPLES_MIN: usize = 3;

/// Candidates without any correlation that are counted beside those that are there. Half or twice as many do as
/// well; none costs four points of the first places where there are four candidates.
const UNCORRELATED: f64 = 10.0;

/// By piece: what is left of its weight, 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Redundancy(Vec<f64>);

impl Redundancy {
    /// By how the pieces of one query fit the candidates. All of `fits` are of that query.
    pub fn of<'a>(fits: impl IntoIterator<Item = &'a Fit>) -> Self {
        let mut fits: Vec<&Fit> = fits.into_iter().collect();
        let pieces = fits.first().map_or(0, |fit| fit.best.len());
        let pairs = pieces * pieces.saturating_sub(1) / 2;
        fits.truncate(PRODUCTS_MAX / pairs.max(1));
        if fits.len() < SAMPLES_MIN {
            return Self(vec![1.0; pieces]);
        }
        let deviations: Vec<Vec<f64>> = (0..pieces)
            .map(|piece| deviations(fits.iter().map(|fit| f64::from(fit.best[piece]))))
            .collect();
        let mut alike = vec![1.0; pieces];
        for (one, of_one) in deviations.iter().enumerate() {
            for (other, of_other) in deviations.iter().enumerate().skip(one + 1) {
                let determined = determined(dot(of_one, of_other), fits.len());
                let both = determined * determined * determined;
                alike[one] += both;
                alike[other] += both;
            }
        }
        Self(alike.into_iter().map(|alike| 1.0 / alike).collect())
    }

    pub(super) fn left(&self) -> impl Iterator<Item = f64> {
        self.0.iter().copied()
    }
}

/// Distances from the mean, scaled to length 1; zeros where all values are alike.
fn deviations(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter_mut().for_each(|value| *value -= mean);
    let length = dot(&values, &values).sqrt();
    if length > 0.0 {
        values.iter_mut().for_each(|value| *value /= length);
    }
    values
}

/// How much of one piece the other determines, 0 to 1, by their correlation over so many samples; 0 where
/// one falls as the other rises.
fn determined(correlation: f64, samples: usize) -> f64 {
    if correlation <= 0.0 {
        return 0.0;
    }
    let (own, samples) = (1.0 - correlation * correlation, samples as f64);
    let adjusted = (1.0 - own * (samples - 1.0) / (samples - 2.0)).clamp(0.0, 1.0);
    adjusted * samples / (samples + UNCORRELATED)
}

/// Eight sums beside each other, added in one order: it has one value everywhere, and is fast.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(best: &[Vec<i32>]) -> Vec<f64> {
        let fit = |best: &Vec<i32>| Fit {
            best: best.clone(),
            ..Fit::default()
        };
        let fits: Vec<Fit> = best.iter().map(fit).collect();
        Redundancy::of(&fits).0
    }

    #[test]
    fn pieces_that_fit_the_same_memories_share_one_weight() {
        // The first two rise together, the third falls as they rise, the fourth has nothing to do with them.
        let candidate = |at: i32| vec![at, 3 * at + 7, -at, if at % 4 < 2 { 5 } else { -5 }];
        let candidates: Vec<Vec<i32>> = (0..200).map(candidate).collect();
        let left = left(&candidates);
        let near = |left: f64, expected: f64| (left - expected).abs() < 1e-6;
        let both = 1.0 / (1.0 + (200.0_f64 / 210.0).powi(3));
        assert!(near(left[0], both) && near(left[1], both), "{left:?}");
        assert!(near(left[2], 1.0) && near(left[3], 1.0), "{left:?}");
    }

    #[test]
    fn of_few_candidates_nothing_is_concluded() {
        // One of three fits everything that is asked.
        let left = left(&[vec![9, 8, 7, 0], vec![1, 0, 2, 1], vec![0, 1, 1, 0]]);
        assert!(left.iter().all(|left| *left > 0.95), "{left:?}");
    }

    #[test]
    fn what_is_alike_everywhere_and_what_is_seen_too_seldom_keeps_its_weight() {
        assert!(left(&[]).is_empty());
        assert_eq!(left(&[vec![1, 2, 3]]), [1.0; 3]);
        assert_eq!(left(&[vec![1, 2], vec![5, 9]]), [1.0; 2]);
        assert_eq!(left(&vec![vec![4, 4]; 50]), [1.0; 2]);
        // A query as long as can be would cost seconds.
        let long = |at: i32| vec![at; 8192];
        assert_eq!(left(&(0..9).map(long).collect::<Vec<_>>()), [1.0; 8192]);
    }

    proptest! {
        #[test]
        fn no_piece_gains_and_none_is_silenced(
            best in prop::collection::vec(prop::collection::vec(-40_000_i32..40_000, 7), 0..60),
        ) {
            for left in left(&best) {
                prop_assert!((1.0 / 7.0 - 1e-9..=1.0).contains(&left), "{}", left);
            }
        }
    }
}
