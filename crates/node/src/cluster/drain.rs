//! Whether this node takes writes of its callers, and how many it has in work.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::Error;

/// A node that drains takes no new writes and finishes those that it has.
#[derive(Debug, Default)]
pub struct Drain {
    is_draining: AtomicBool,
    writes: AtomicU64,
}

impl Drain {
    /// Lets a write in; it counts until what is returned is dropped.
    pub fn admit(&self) -> Result<Write<'_>, Error> {
        // Counted before it is asked whether the node drains: whoever drains it and then counts none
        // knows that none comes.
        self.writes.fetch_add(1, Ordering::SeqCst);
        let write = Write(self);
        if self.is_draining() {
            return Err(Error::Draining);
        }
        Ok(write)
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    pub fn writes_in_flight(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self, is_draining: bool) {
        self.is_draining.store(is_draining, Ordering::SeqCst);
    }
}

/// One write in work.
#[derive(Debug)]
pub struct Write<'a>(&'a Drain);

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.0.writes.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_node_finishes_what_it_has_and_takes_nothing_new() {
        let drain = Drain::default();
        let write = drain.admit().unwrap();
        assert_eq!(drain.writes_in_flight(), 1);
        drain.set(true);
        assert!(matches!(drain.admit(), Err(Error::Draining)));
        assert_eq!(drain.writes_in_flight(), 1);
        drop(write);
        assert_eq!(drain.writes_in_flight(), 0);
        drain.set(false);
        assert!(drain.admit().is_ok());
    }
}
