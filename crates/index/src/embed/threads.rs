//! The threads that one kind of text is computed on.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// A pool of its own, or none for one thread: then the caller's thread does the work.
pub(super) struct Threads {
    count: usize,
    pool: Option<ThreadPool>,
}

impl Threads {
    pub(super) fn new(name: &'static str, count: usize) -> Result<Self, ThreadPoolBuildError> {
        let builder = || ThreadPoolBuilder::new().thread_name(move |i| format!("{name}-{i}"));
        let pool = (count > 1)
            .then(|| builder().num_threads(count).build())
            .transpose()?;
        Ok(Self {
            count: count.max(1),
            pool,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Computes something that may use rayon where [`Self::count`] is more than one.
    pub(super) fn run<T: Send>(&self, compute: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(compute),
            None => compute(),
        }
    }
}
