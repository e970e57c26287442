//! What a memory is worth keeping in mind.

use crate::{
    memory::Memory,
    rank,
    time::{DAY_MS, TimeMs},
};

/// Of importance and proven usefulness, what the first weighs.
const IMPORTANCE_SHARE: f64 = 0.5;

/// Uses from which on a memory counts as used often.
const USES_OFTEN: f64 = 8.0;

/// From 0 (nothing is lost without it) to 1.
///
/// ```text
/// worth = (½ importance + ½ proven usefulness) × (1 + habit) / 2 × 2^(-age / half-life)
/// ```
///
/// - *proven usefulness* is the mean of the Beta posterior less one standard deviation, so that one
///   lucky outcome does not count as much as ten ([`crate::memory::Feedback::proven_usefulness`]).
/// - *age* is the time since it last happened, was learned or was used, and the half-life that of its
///   domain: memory decays exponentially and is refreshed by use (Ebbinghaus, Über das Gedächtnis,
///   1885; as a forgetting rate for stored items, Wozniak and Gorzelanczyk, 1994).
/// - *habit* grows with the logarithm of how often it was met and used, up to 1: power-law practice
///   in ACT-R's base-level activation (Anderson and Schooler, Reflections of the Environment in
///   Memory, 1991), bounded.
pub fn worth(memory: &Memory, now: TimeMs, settings: &rank::Settings) -> f64 {
    let merit = IMPORTANCE_SHARE * f64::from(memory.importance)
        + (1.0 - IMPORTANCE_SHARE) * memory.feedback.proven_usefulness();
    let met = f64::from(memory.occurrences.saturating_sub(1)) + f64::from(memory.used.count);
    let habit = (libm::log1p(met) / libm::log1p(USES_OFTEN)).min(1.0);
    let half_life_ms = settings.half_life_days(&memory.domain) * DAY_MS as f64;
    let age = now.since(memory.last_touched_at()) as f64 / half_life_ms;
    merit * (1.0 + habit) / 2.0 * libm::exp2(-age)
}
