//! The arithmetic of measuring: percentiles, medians, and how much of what was asked for came back.
//!
//! Nothing here knows what was measured.

use std::collections::BTreeSet;

/// Measured values in ascending order; there is at least one.
#[derive(Clone, Debug)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// `None` without a value, since nothing was measured then. Panics on NaN: a measured time is a
    /// number.
    pub(crate) fn new(mut values: Vec<f64>) -> Option<Self> {
        assert!(
            values.iter().all(|v| !v.is_nan()),
            "a measured value is a number"
        );
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    /// The smallest value that at least `percent` of all values do not exceed (nearest rank).
    /// `percent` is above 0 and at most 100.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        assert!(
            percent > 0.0 && percent <= 100.0,
            "a percentile lies in (0, 100]"
        );
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    /// The middle value, or the mean of the middle two.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.0[middle]
        } else {
            (self.0[middle - 1] + self.0[middle]) / 2.0
        }
    }

    pub(crate) fn least(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn greatest(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// The share of `wanted` among the first `k` of `found`. Each place of `found` holds everything that
/// stands for it, so one result can bring back several. `wanted` is not empty.
pub(crate) fn recall_at<T: Ord>(k: usize, found: &[BTreeSet<T>], wanted: &BTreeSet<T>) -> f64 {
    assert!(
        !wanted.is_empty(),
        "a question without evidence has no recall"
    );
    let is_found = |one: &&T| found.iter().take(k).any(|place| place.contains(one));
    wanted.iter().filter(is_found).count() as f64 / wanted.len() as f64
}

/// 1 if any of `wanted` is among the first `k` of `found`, else 0.
pub(crate) fn hit_at<T: Ord>(k: usize, found: &[BTreeSet<T>], wanted: &BTreeSet<T>) -> f64 {
    f64::from(recall_at(k, found, wanted) > 0.0)
}

/// Half the width of the 95 % confidence interval of a mean of `values`, by the normal
/// approximation: 1.96 standard errors.
pub(crate) fn mean_margin(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    if values.len() < 2 {
        return f64::INFINITY;
    }
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    1.96 * (variance / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        Sample::new(values.to_vec()).unwrap()
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        // Wikipedia's worked example of the nearest-rank method.
        let example = sample(&[50.0, 15.0, 35.0, 20.0, 40.0]);
        let at = |percent| example.percentile(percent);
        assert_eq!(
            (at(5.0), at(30.0), at(40.0), at(50.0)),
            (15.0, 20.0, 20.0, 35.0)
        );
        assert_eq!(at(100.0), 50.0);
        let hundred = sample(&(1..=100).map(f64::from).collect::<Vec<_>>());
        assert_eq!(
            (hundred.percentile(50.0), hundred.percentile(99.0)),
            (50.0, 99.0)
        );
        assert_eq!(sample(&[7.0]).percentile(99.0), 7.0);
        assert!(Sample::new(Vec::new()).is_none());
    }

    #[test]
    fn the_median_lies_between_the_middle_two() {
        assert_eq!(sample(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(sample(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        let three = sample(&[3.0, 1.0, 2.0]);
        assert_eq!(
            (three.least(), three.greatest(), three.mean(), three.count()),
            (1.0, 3.0, 2.0, 3)
        );
    }

    #[test]
    fn recall_is_the_share_of_the_evidence_that_came_back() {
        let places = |names: &[&'static str]| {
            names
                .iter()
                .map(|n| n.split(' ').collect())
                .collect::<Vec<BTreeSet<_>>>()
        };
        let wanted: BTreeSet<_> = ["a", "b", "c", "d"].into();
        let found = places(&["x", "b", "y", "a", "d"]);
        let at = |k| recall_at(k, &found, &wanted);
        assert_eq!(
            (at(1), at(2), at(4), at(5), at(20)),
            (0.0, 0.25, 0.5, 0.75, 0.75)
        );
        assert_eq!(
            (hit_at(1, &found, &wanted), hit_at(2, &found, &wanted)),
            (0.0, 1.0)
        );
        // One memory that stands for two turns brings back both.
        assert_eq!(recall_at(1, &places(&["a c"]), &wanted), 0.5);
        // The same evidence twice is found once.
        assert_eq!(recall_at(2, &places(&["a", "a"]), &wanted), 0.25);
        assert_eq!(recall_at(5, &[], &wanted), 0.0);
    }

    #[test]
    fn the_margin_of_a_mean_shrinks_with_more_values() {
        // Variance of {0, 1} with n - 1: 0.5; standard error sqrt(0.5 / 2) = 0.5.
        assert!((mean_margin(&[0.0, 1.0]) - 0.98).abs() < 1e-12);
        assert_eq!(mean_margin(&[1.0; 10]), 0.0);
        assert_eq!(mean_margin(&[1.0]), f64::INFINITY);
    }
}
