//! Late interaction: how well a memory's word pieces answer each of a query's word pieces.
//!
//! For every piece of the query the best dot product with any state of a window, weighted by the
//! piece's inverse document frequency and by what other pieces leave of it, divided by the weights' sum
//! (MaxSim, ColBERT); less a penalty for the window's length, as the more pieces there are, the likelier
//! one fits by chance. A memory is as good as its best window.
//!
//! ```text
//! query state [384 × f32] ── quantised once ──▶ [384 × i8] × scale ─┐
//! window states [n × 384 sign bits], where they lie in the record ──┴─▶ integers ─▶ max: a fit a candidate
//! fits of all candidates ──▶ redundancy: what is left of each weight ──▶ Σ weight × fit: a score a candidate
//! ```
//!
//! A state is unit length and only its signs are kept: it stands for `±1/√384` in each dimension.
//! Dot products are computed in integers, which have one value on every CPU, whatever registers
//! it has; after that a fixed sequence of `f64` operations.

mod kernel;
mod redundancy;

use memorygate_core::embedding::{DIMENSION, Embedding, ModelId, STATE_BYTES};

use self::kernel::Quantised;
pub use self::redundancy::Redundancy;
use crate::{dot::Vector, logarithm::ln};

/// The sign bits of one token state.
pub type State = [u8; STATE_BYTES];

/// Reads sign bits where they lie. `None` if the bytes are no whole number of states.
pub fn states(bytes: &[u8]) -> Option<&[State]> {
    let (states, rest) = bytes.as_chunks::<STATE_BYTES>();
    rest.is_empty().then_some(states)
}

/// The pieces of a query, made ready to be compared with many windows.
#[derive(Clone, Debug)]
pub struct Query {
    /// Whose states it can be compared with.
    model: ModelId,
    pieces: Vec<Quantised>,
    /// For each piece what one unit of its integer dot product is worth, and its weight.
    terms: Vec<Term>,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    unit: f64,
    weight: f64,
}

impl Query {
    /// A query without pieces, for states of `model`.
    pub fn new(model: ModelId) -> Self {
        Self {
            model,
            pieces: Vec::new(),
            terms: Vec::new(),
        }
    }

    /// Adds a piece of the query by its rotated, unit-length state. The state is rounded to 255
    /// steps between its largest value and that value's negative. `weight` is above zero.
    pub fn add(&mut self, state: &Vector, weight: f64) {
        let largest = state.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        assert!(
            largest.is_finite(),
            "a state holds a value that is not finite"
        );
        if largest == 0.0 {
            return;
        }
        let step = f64::from(largest) / 127.0;
        let mut steps = [0_i8; DIMENSION];
        for (steps, x) in steps.iter_mut().zip(state) {
            // |x / step| <= 127, so that the cast keeps the value.
            *steps = (f64::from(*x) / step).round() as i8;
        }
        self.push(Quantised::new(&steps), step, weight);
    }

    /// Adds a piece of a memory that answered well, by the sign bits of its state
    /// (pseudo-relevance feedback). `weight` is above zero.
    pub fn add_signs(&mut self, state: &State, weight: f64) {
        let mut steps = [0_i8; DIMENSION];
        for (d, steps) in steps.iter_mut().enumerate() {
            *steps = if state[d / 8] >> (d % 8) & 1 == 1 {
                1
            } else {
                -1
            };
        }
        self.push(Quantised::new(&steps), STATE_UNIT, weight);
    }

    fn push(&mut self, piece: Quantised, step: f64, weight: f64) {
        assert!(
            weight > 0.0 && weight.is_finite(),
            "weight of a piece is {weight}"
        );
        self.pieces.push(piece);
        self.terms.push(Term {
            unit: step * STATE_UNIT,
            weight,
        });
    }

    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How a memory answers the query, by its stored embedding; see [`Query::fit`]. `None` too where
    /// another model made the embedding.
    pub fn fit_embedding(&self, memory: &Embedding) -> Option<Fit> {
        if memory.model != self.model {
            return None;
        }
        let windows = memory.windows.iter().map(|w| {
            states(&w.states.signs).expect("apply stores only embeddings with whole states")
        });
        self.fit(windows)
    }

    /// How a memory with these windows answers each piece. `None` where there is nothing to compare: no
    /// window holds a state, or the query has no piece.
    pub fn fit<'a>(&self, windows: impl IntoIterator<Item = &'a [State]>) -> Option<Fit> {
        let mut fit = Fit::default();
        if self.is_empty() {
            return None;
        }
        for states in windows.into_iter().filter(|states| !states.is_empty()) {
            let mut best = Vec::with_capacity(self.len());
            kernel::best(&self.pieces, states, &mut best);
            if fit.best.is_empty() {
                fit.best.clone_from(&best);
            }
            for (of_all, own) in fit.best.iter_mut().zip(&best) {
                *of_all = (*of_all).max(*own);
            }
            fit.windows.push(Window {
                states: states.len(),
                best,
            });
        }
        (!fit.windows.is_empty()).then_some(fit)
    }

    /// The score of a memory: that of its best window. `fit` and `redundancy` are of this query.
    pub fn score(&self, fit: &Fit, redundancy: &Redundancy, length_penalty: f64) -> f64 {
        let scores = fit
            .windows
            .iter()
            .map(|window| self.window(window, redundancy, length_penalty));
        scores
            .max_by(f64::total_cmp)
            .expect("a fit has at least one window")
    }

    fn window(&self, window: &Window, redundancy: &Redundancy, length_penalty: f64) -> f64 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for ((term, best), left) in self.terms.iter().zip(&window.best).zip(redundancy.left()) {
            let weight = term.weight * left;
            sum += weight * (term.unit * f64::from(*best));
            weights += weight;
        }
        sum / weights - length_penalty * ln(1.0 + window.states as f64)
    }
}

/// How well one memory answers each piece of a query: largest dot products, in the steps of the pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// By piece: with any state of any window.
    best: Vec<i32>,
    /// Those that hold a state; at least one.
    windows: Vec<Window>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    states: usize,
    /// By piece: with any state of this window.
    best: Vec<i32>,
}

/// `1/√384`: the size of a unit-length state in each of its dimensions. Written out, for a square
/// root is no constant expression.
const STATE_UNIT: f64 = 0.051_031_036_307_982_884;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    fn unit(values: Vec<f32>) -> Vector {
        memorygate_core::embedding::unit(&values)
            .unwrap()
            .try_into()
            .unwrap()
    }

    /// The score of a memory that is the only candidate, so that each piece has its whole weight.
    fn score<'a>(
        query: &Query,
        windows: impl IntoIterator<Item = &'a [State]>,
        length_penalty: f64,
    ) -> Option<f64> {
        let fit = query.fit(windows)?;
        Some(query.score(&fit, &Redundancy::of([&fit]), length_penalty))
    }

    fn signs(state: &Vector) -> State {
        let mut signs = [0; STATE_BYTES];
        for (d, x) in state.iter().enumerate() {
            signs[d / 8] |= u8::from(*x >= 0.0) << (d % 8);
        }
        signs
    }

    /// MaxSim in floating point, as the reference has it.
    fn plain(query: &[(Vector, f64)], states: &[Vector], penalty: f64) -> f64 {
        let dot = |q: &Vector, s: &Vector| -> f64 {
            q.iter()
                .zip(s)
                .map(|(q, s)| f64::from(*q) * if *s >= 0.0 { 1.0 } else { -1.0 })
                .sum()
        };
        let best = |q: &Vector| {
            states
                .iter()
                .map(|s| dot(q, s) / 384_f64.sqrt())
                .max_by(f64::total_cmp)
                .unwrap()
        };
        let sum: f64 = query.iter().map(|(q, weight)| weight * best(q)).sum();
        let weights: f64 = query.iter().map(|(_, weight)| weight).sum();
        sum / weights - penalty * (1.0 + states.len() as f64).ln()
    }

    fn vector() -> impl Strategy<Value = Vector> {
        prop::collection::vec(-1.0_f32..1.0, DIMENSION).prop_map(unit)
    }

    #[test]
    fn the_unit_of_a_state_is_exact() {
        assert_eq!(STATE_UNIT.to_bits(), (1.0 / 384_f64.sqrt()).to_bits());
    }

    #[test]
    fn nothing_to_compare_has_no_score() {
        let mut query = Query::new(samples::MODEL);
        assert_eq!(score(&query, [[[0xff; STATE_BYTES]].as_slice()], 0.0), None);
        query.add(&[0.0; DIMENSION], 1.0);
        assert!(query.is_empty(), "a state without direction says nothing");
        query.add_signs(&[0xff; STATE_BYTES], 1.0);
        assert_eq!(query.len(), 1);
        assert_eq!(score(&query, [], 0.0), None);
        assert_eq!(score(&query, [[].as_slice()], 0.0), None);
    }

    #[test]
    fn a_state_fits_itself_perfectly_and_its_opposite_not_at_all() {
        let mut query = Query::new(samples::MODEL);
        query.add_signs(&[0b0101_0011; STATE_BYTES], 2.0);
        let (same, opposite) = ([[0b0101_0011; STATE_BYTES]], [[0b1010_1100; STATE_BYTES]]);
        assert!((score(&query, [same.as_slice()], 0.0).unwrap() - 1.0).abs() < 1e-12);
        assert!((score(&query, [opposite.as_slice()], 0.0).unwrap() + 1.0).abs() < 1e-12);
        let best = score(&query, [opposite.as_slice(), same.as_slice()], 0.0);
        assert_eq!(
            best,
            score(&query, [same.as_slice()], 0.0),
            "the best window counts"
        );
        let penalised = score(&query, [same.as_slice()], 0.5).unwrap();
        assert!((penalised - (1.0 - 0.5 * 2_f64.ln())).abs() < 1e-12);
    }

    #[test]
    fn states_of_another_model_are_not_compared() {
        let embedding = samples::embedding(3);
        let fit = |model| {
            let mut query = Query::new(model);
            query.add_signs(&[0x55; STATE_BYTES], 1.0);
            query.fit_embedding(&embedding)
        };
        assert!(fit(samples::MODEL).is_some());
        assert_eq!(fit(ModelId(99)), None);
        assert_eq!(fit(ModelId::GIVEN), None);
    }

    #[test]
    fn bytes_that_are_no_whole_states_are_not_read() {
        assert_eq!(states(&[0; 96]).map(<[State]>::len), Some(2));
        assert_eq!(states(&[0; 95]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn comes_to_the_floating_point_reference(
            query in prop::collection::vec((vector(), 0.1_f64..9.0), 1..8),
            memory in prop::collection::vec(vector(), 1..20),
            penalty in 0.0_f64..0.1,
        ) {
            let mut ready = Query::new(samples::MODEL);
            for (state, weight) in &query {
                ready.add(state, *weight);
            }
            let states: Vec<State> = memory.iter().map(signs).collect();
            let actual = score(&ready, [states.as_slice()], penalty).unwrap();
            let expected = plain(&query, &memory, penalty);
            // A step is largest/127; rounding errs by at most half of one in each dimension, and
            // 384 independent errors come to far less than their sum.
            prop_assert!((actual - expected).abs() < 2e-3, "{actual} is not {expected}");
        }
    }
}
