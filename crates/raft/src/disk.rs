//! Turns writes away before the disk is full.
//!
//! A log write that meets a full disk stops the node (a failed write is never retried), so proposals
//! are refused while there is still room for what is in flight, for flushes and for compaction.
//! Reads go on, and proposals are taken again once there is clearly room: a quarter of the reserve
//! more, so that a disk at the edge does not open and close with every compaction.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

/// How long one look at the file system serves. Proposals within it see the same answer, so this
/// times the write rate of the disk must fit into the reserve: 100 ms at 1 GB/s are 100 MB.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Tells how much room a file system has left.
pub trait FreeSpace: Send + Sync + 'static {
    /// Bytes that an unprivileged process can still write below `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Bytes of the whole file system; 0 if that is not known.
    fn total_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(0)
    }
}

/// Asks the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statvfs;

impl FreeSpace for Statvfs {
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }
}

/// What must be free for writes to be taken again, as a share of the reserve.
const BACK_NUMERATOR: u64 = 5;
const BACK_DENOMINATOR: u64 = 4;

/// Too little room is left to take a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("disk has {free_bytes} bytes free, expected at least {reserve_bytes}")]
pub struct StorageFull {
    pub free_bytes: u64,
    pub reserve_bytes: u64,
}

/// Answers whether writes may be proposed.
pub(crate) struct Guard {
    disk: Arc<dyn FreeSpace>,
    path: PathBuf,
    reserve_bytes: u64,
    last: Mutex<Look>,
}

#[derive(Clone, Copy)]
struct Look {
    at: Option<Instant>,
    free_bytes: u64,
    /// Since it fell below the reserve, until it is well above.
    is_full: bool,
}

impl Guard {
    pub(crate) fn new(disk: Arc<dyn FreeSpace>, path: &Path, reserve_bytes: u64) -> Self {
        Self {
            disk,
            path: path.to_owned(),
            reserve_bytes,
            last: Mutex::new(Look {
                at: None,
                free_bytes: u64::MAX,
                is_full: false,
            }),
        }
    }

    pub(crate) fn check(&self) -> Result<(), StorageFull> {
        self.check_for(0)
    }

    /// Whether `bytes` more leave the reserve untouched.
    pub(crate) fn check_for(&self, bytes: u64) -> Result<(), StorageFull> {
        let look = self.look();
        let least = match look.is_full {
            true => self.back_bytes(),
            false => self.reserve_bytes,
        };
        let needed = least.saturating_add(bytes);
        if look.free_bytes < needed {
            Err(StorageFull {
                free_bytes: look.free_bytes,
                reserve_bytes: needed,
            })
        } else {
            Ok(())
        }
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.look().free_bytes
    }

    /// 0 if it is not known.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.disk.total_bytes(&self.path).unwrap_or(0)
    }

    /// What must be free for writes to be taken again after the disk was full.
    fn back_bytes(&self) -> u64 {
        self.reserve_bytes.saturating_mul(BACK_NUMERATOR) / BACK_DENOMINATOR
    }

    /// At most [`LOOK_EVERY`] old. A file system that does not answer counts as it last did: the log
    /// write that follows will tell.
    fn look(&self) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return *last;
        }
        match self.disk.free_bytes(&self.path) {
            Ok(free_bytes) => last.free_bytes = free_bytes,
            Err(error) => warn!(%error, path = %self.path.display(), "free space is not known"),
        }
        last.at = Some(Instant::now());
        let was_full = last.is_full;
        last.is_full = last.free_bytes
            < match was_full {
                true => self.back_bytes(),
                false => self.reserve_bytes,
            };
        if last.is_full && !was_full {
            warn!(
                free_bytes = last.free_bytes,
                reserve_bytes = self.reserve_bytes,
                "disk is almost full, writes are refused"
            );
        } else if was_full && !last.is_full {
            info!(
                free_bytes = last.free_bytes,
                "disk has room again, writes are taken"
            );
        }
        *last
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Fake(AtomicU64);

    impl FreeSpace for Fake {
        fn free_bytes(&self, _: &Path) -> io::Result<u64> {
            match self.0.load(Ordering::SeqCst) {
                0 => Err(io::Error::other("no answer")),
                free => Ok(free),
            }
        }
    }

    #[test]
    fn writes_are_refused_below_the_reserve_and_taken_again_above_it() {
        let disk = Arc::new(Fake(AtomicU64::new(100)));
        let guard = Guard::new(disk.clone(), Path::new("/"), 50);
        let look_again = || guard.last.lock().unwrap().at = None;
        assert_eq!(guard.check(), Ok(()));
        disk.0.store(49, Ordering::SeqCst);
        assert_eq!(guard.check(), Ok(()), "one look serves for a while");
        look_again();
        let full = guard.check().unwrap_err();
        assert_eq!(
            full.to_string(),
            "disk has 49 bytes free, expected at least 62"
        );
        disk.0.store(0, Ordering::SeqCst);
        look_again();
        assert_eq!(
            guard.check().unwrap_err().free_bytes,
            full.free_bytes,
            "no answer changes nothing"
        );
        // At the edge it stays as it is.
        disk.0.store(61, Ordering::SeqCst);
        look_again();
        let still = guard.check().unwrap_err();
        assert_eq!((still.free_bytes, still.reserve_bytes), (61, 62));
        disk.0.store(62, Ordering::SeqCst);
        look_again();
        assert_eq!(guard.check(), Ok(()));
        disk.0.store(50, Ordering::SeqCst);
        look_again();
        assert_eq!(guard.check(), Ok(()), "what is above the reserve is taken");
    }

    #[test]
    fn the_operating_system_knows_how_much_is_free() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Statvfs.free_bytes(dir.path()).unwrap() > 0);
        assert!(Statvfs.free_bytes(&dir.path().join("absent")).is_err());
    }
}
