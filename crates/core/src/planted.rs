//! A bug on purpose, which the fault tests must catch. Only builds with the feature `planted-bugs` have
//! it; whoever starts the process chooses it, since nothing here looks around.

use std::sync::atomic::{AtomicBool, Ordering};

static APPLIES_STALE_PLANS: AtomicBool = AtomicBool::new(false);

/// From now on a planned step is done whatever has changed since it was planned.
pub fn apply_stale_plans() {
    APPLIES_STALE_PLANS.store(true, Ordering::Relaxed);
}

pub(crate) fn applies_stale_plans() -> bool {
    APPLIES_STALE_PLANS.load(Ordering::Relaxed)
}
