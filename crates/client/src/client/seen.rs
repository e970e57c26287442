//! The newest position that a client has seen: what its reads must not fall behind, and what its
//! request ids are made from.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::position::Position;

/// A position seen longer ago than this is not used for a new request id: ids are answered for
/// 1,000,000 log positions, and at 10,000 writes a second those last 100 s.
const FRESH: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Option<(Position, Instant)>>);

impl Seen {
    pub(super) fn position(&self) -> Option<Position> {
        self.lock().map(|(position, _)| position)
    }

    /// The newest position, if it was seen not too long ago.
    pub(super) fn fresh(&self) -> Option<Position> {
        let (position, at) = (*self.lock())?;
        (at.elapsed() < FRESH).then_some(position)
    }

    /// Notes a position of an answer. Errors with the position known so far if the two are of
    /// different logs.
    pub(super) fn note(&self, new: Position) -> Result<(), Position> {
        let mut seen = self.lock();
        match &mut *seen {
            Some((known, _)) if !known.is_comparable(&new) => return Err(*known),
            Some((known, at)) if known.index <= new.index => (*known, *at) = (new, Instant::now()),
            // An answer from behind says nothing new.
            Some(_) => {}
            None => *seen = Some((new, Instant::now())),
        }
        Ok(())
    }

    pub(super) fn reset(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Position, Instant)>> {
        // Nothing that holds the lock can leave a half-written value behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_positions_of_the_same_log_are_noted() {
        let at = |cluster_id, index| Position {
            cluster_id,
            group: 0,
            index,
        };
        let seen = Seen::default();
        assert_eq!(seen.position(), None);
        assert_eq!(seen.note(at(1, 5)), Ok(()));
        assert_eq!(seen.note(at(1, 3)), Ok(()));
        assert_eq!(seen.position(), Some(at(1, 5)));
        assert_eq!(seen.note(at(2, 9)), Err(at(1, 5)));
        assert_eq!(seen.fresh(), Some(at(1, 5)));
        seen.reset();
        assert_eq!(seen.position(), None);
    }
}
