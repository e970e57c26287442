//! Bugs on purpose, one chosen by `MEMORYGATE_PLANTED_BUG`: the fault tests must catch each of them.
//!
//! Only builds with the feature `planted-bugs` have any of this. What each does wrong stands here;
//! where it does so is marked by the feature's name.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    sync::{LazyLock, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use memorygate_core::{command::Envelope, request::RequestId, time::TimeMs};

use crate::handle::{Applied, ProposeError};

/// Names the bug of this process.
const VARIABLE: &str = "MEMORYGATE_PLANTED_BUG";

/// What is wrong with this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Log entries are acknowledged when they are written and not synced.
    AckBeforeSync,
    /// A linearizable read asks nobody.
    StaleRead,
    /// Answers to request ids are remembered by the leader alone.
    LocalDedup,
    /// Entries are applied at the time of whoever applies them.
    LocalClock,
    /// A node that lost its disk comes back under its old id.
    KeptIdentity,
    /// Steps of a plan are done whatever has changed since; see the core's `planted.rs`.
    StalePlan,
}

impl Bug {
    pub(crate) fn is_planted(self) -> bool {
        static CHOSEN: LazyLock<Option<Bug>> = LazyLock::new(|| {
            let name = std::env::var(VARIABLE).ok()?;
            let bug = Bug::named(&name);
            assert!(
                bug.is_some(),
                "{VARIABLE} is {name:?}, which is no bug's name"
            );
            if bug == Some(Bug::StalePlan) {
                memorygate_core::planted::apply_stale_plans();
            }
            bug
        });
        *CHOSEN == Some(self)
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "ack-before-sync" => Some(Self::AckBeforeSync),
            "stale-read" => Some(Self::StaleRead),
            "local-dedup" => Some(Self::LocalDedup),
            "local-clock" => Some(Self::LocalClock),
            "kept-identity" => Some(Self::KeptIdentity),
            "stale-plan" => Some(Self::StalePlan),
            _ => None,
        }
    }
}

/// The time that an entry is applied at.
pub(crate) fn at_local_time(mut envelope: Envelope) -> Envelope {
    if Bug::LocalClock.is_planted() {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        envelope.time = TimeMs(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX));
    }
    envelope
}

static ANSWERS: Mutex<BTreeMap<RequestId, Applied>> = Mutex::new(BTreeMap::new());

/// The answer that this process remembers, or the id to remember it by, which nobody else gets.
pub(crate) fn local_answer(envelope: &mut Envelope) -> Result<Applied, Option<RequestId>> {
    if !Bug::LocalDedup.is_planted() {
        return Err(None);
    }
    let Some(request) = envelope.request.take() else {
        return Err(None);
    };
    let answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    answers.get(&request).cloned().ok_or(Some(request))
}

pub(crate) fn remember(request: Option<RequestId>, result: &Result<Applied, ProposeError>) {
    if let (Some(request), Ok(applied)) = (request, result) {
        let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(request, applied.clone());
    }
}

/// Node id and incarnation of whoever uses this directory, again and again.
pub(crate) fn kept_identity(directory: &Path) -> Option<(u64, u64)> {
    Bug::KeptIdentity.is_planted().then(|| {
        let mut hasher = DefaultHasher::new();
        directory.hash(&mut hasher);
        let node_id = hasher.finish();
        (node_id, node_id.rotate_left(32))
    })
}
