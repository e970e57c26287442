//! Positions that the log marks, each kept with the state as of exactly there until somebody has it
//! read whole, newer marks push it out, or it grows old: a snapshot that is held keeps the disk
//! space of what was changed since.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use memorygate_core::state::{Digests, ReadError, StateDigest};

use super::StateSnapshot;

/// Marks kept at once.
const MARKS_MAX: usize = 4;

/// How long a state is held for whoever asks for its digests. It is let go of with the next applied
/// batch: while none is applied, holding it costs nothing.
const HELD_FOR: Duration = Duration::from_secs(60);

/// The whole state as of one marked position, read from the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDigests {
    /// Index of the marker.
    pub position: u64,
    /// What this replica had counted while applying.
    pub counted: StateDigest,
    /// What its rows are.
    pub found: Digests,
}

impl StateDigests {
    /// Whether the rows on the disk are those that were written.
    pub fn is_as_counted(&self) -> bool {
        self.counted == self.found.all
    }
}

/// Why there are no digests of a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error(
        "this node did not apply position {position}, it got a snapshot that ends at {installed}: \
         mark a new position"
    )]
    Skipped { position: u64, installed: u64 },
    #[error(
        "no state is held for position {position}: it is no marker, or an old one, or from before \
         the last start: mark a new position"
    )]
    NotHeld { position: u64 },
    #[error("read the state as of position {position}: {reason}")]
    Read { position: u64, reason: String },
    #[error(transparent)]
    Stopped(#[from] crate::Stopped),
}

#[derive(Default)]
pub(super) struct Marks {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Oldest first.
    marks: VecDeque<Mark>,
    /// Where the last installed snapshot ended; 0 without one.
    installed: u64,
}

struct Mark {
    position: u64,
    held: Held,
}

#[derive(Clone)]
enum Held {
    State(Arc<StateSnapshot>, Instant),
    Digests(Arc<StateDigests>),
}

impl Marks {
    /// Keeps the state right after a marker.
    pub(super) fn keep(&self, state: Arc<StateSnapshot>) {
        let mut kept = self.kept();
        if kept.marks.len() == MARKS_MAX {
            kept.marks.pop_front();
        }
        kept.marks.push_back(Mark {
            position: state.position(),
            held: Held::State(state, Instant::now()),
        });
    }

    /// Lets go of states that nobody has asked for.
    pub(super) fn forget_old(&self) {
        self.kept().marks.retain(|mark| match &mark.held {
            Held::State(_, since) => since.elapsed() < HELD_FOR,
            Held::Digests(_) => true,
        });
    }

    /// From here on, what comes before `position` was not applied but copied.
    pub(super) fn installed(&self, position: u64) {
        self.kept().installed = position;
    }

    /// Reads the state as of `position`, once: whoever asks again gets the same. `go_on` is asked
    /// now and then whether to go on, and why not. It blocks.
    pub(super) fn digests(
        &self,
        position: u64,
        go_on: impl Fn() -> Result<(), crate::Stopped>,
    ) -> Result<Arc<StateDigests>, DigestError> {
        let state = match self.held(position)? {
            Held::Digests(digests) => return Ok(digests),
            Held::State(state, _) => state,
        };
        let found = read_all(&state, go_on).map_err(|stop| match stop {
            Stop::Read(error) => DigestError::Read {
                position,
                reason: error.to_string(),
            },
            Stop::Stopped(stopped) => stopped.into(),
        })?;
        let digests = Arc::new(StateDigests {
            position,
            counted: state.digest(),
            found,
        });
        let mut kept = self.kept();
        if let Some(mark) = kept.marks.iter_mut().find(|m| m.position == position) {
            mark.held = Held::Digests(digests.clone());
        }
        Ok(digests)
    }

    fn held(&self, position: u64) -> Result<Held, DigestError> {
        let kept = self.kept();
        let mark = kept.marks.iter().find(|mark| mark.position == position);
        match mark {
            Some(mark) => Ok(mark.held.clone()),
            None if position <= kept.installed => Err(DigestError::Skipped {
                position,
                installed: kept.installed,
            }),
            None => Err(DigestError::NotHeld { position }),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Stop {
    Read(ReadError),
    Stopped(crate::Stopped),
}

fn read_all(
    state: &StateSnapshot,
    go_on: impl Fn() -> Result<(), crate::Stopped>,
) -> Result<Digests, Stop> {
    let mut stopped = None;
    let read = state.digests(|| match go_on() {
        Ok(()) => true,
        Err(why) => {
            stopped = Some(why);
            false
        }
    });
    match (read, stopped) {
        (_, Some(why)) => Err(Stop::Stopped(why)),
        (Ok(digests), None) => Ok(digests),
        (Err(error), None) => Err(Stop::Read(error)),
    }
}
