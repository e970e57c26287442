//! Runs work that computes or reads disks on threads of its own, so that the asynchronous ones stay
//! free for the network and for Raft: a bounded number at once, and a bounded number waiting.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tracing::Span;

use crate::{
    deadline::Deadline,
    error::{Error, Outcome},
};

/// A number of threads and the queue before them.
pub struct Compute {
    what: &'static str,
    threads: Semaphore,
    waiting: AtomicUsize,
    queue_max: usize,
}

/// Counts one caller in the queue for as long as it lives, even if its call is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Compute {
    /// `what` is queued, for the error when the queue is full.
    pub fn new(what: &'static str, threads: usize, queue_max: usize) -> Self {
        Self {
            what,
            threads: Semaphore::new(threads),
            waiting: AtomicUsize::new(0),
            queue_max,
        }
    }

    /// How many wait for a thread.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Runs `work` when a thread is free. A call that is given up while it waits runs nothing.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let permit = match self.threads.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
                let _waiting = Waiting(&self.waiting);
                if ahead >= self.queue_max {
                    let max = self.queue_max;
                    return Err(Error::Overloaded {
                        what: format!(
                            "{ahead} {} wait for a thread, expected at most {max}",
                            self.what
                        ),
                    });
                }
                deadline
                    .limit(
                        "waiting for a thread",
                        Outcome::Failed,
                        self.threads.acquire(),
                    )
                    .await?
                    .expect("the semaphore is never closed")
            }
        };
        let span = Span::current();
        let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
        drop(permit);
        done.map_err(|error| Error::Internal {
            reason: format!("{} failed: {error}", self.what),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded_and_waits_no_longer_than_the_deadline() {
        let compute = Arc::new(Compute::new("tests", 1, 1));
        let far = Deadline::after(Some(Duration::from_secs(60)));
        let (release, held) = mpsc::sync_channel::<()>(1);
        let (started, start) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let compute = compute.clone();
            async move {
                let work = move || {
                    started.send(()).unwrap();
                    held.recv().unwrap();
                };
                compute.run(far, work).await
            }
        });
        start.await.unwrap();
        let near = Deadline::after(Some(Duration::from_millis(5)));
        let waited = compute.run(near, || ()).await.unwrap_err();
        assert!(
            matches!(
                waited,
                Error::Deadline {
                    outcome: Outcome::Failed,
                    ..
                }
            ),
            "{waited}"
        );
        assert_eq!(compute.waiting(), 0, "who gave up waits no more");
        let second = tokio::spawn({
            let compute = compute.clone();
            async move { compute.run(far, || 7).await }
        });
        while compute.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let refused = compute.run(far, || ()).await.unwrap_err();
        assert!(matches!(refused, Error::Overloaded { .. }), "{refused}");
        release.send(()).unwrap();
        assert_eq!(second.await.unwrap().unwrap(), 7);
        first.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_frees_its_thread() {
        let compute = Compute::new("tests", 1, 1);
        let deadline = Deadline::after(None);
        let failed: Result<(), Error> = compute.run(deadline, || panic!("on purpose")).await;
        assert!(matches!(failed, Err(Error::Internal { .. })));
        assert_eq!(compute.run(deadline, || 1).await.unwrap(), 1);
    }
}
