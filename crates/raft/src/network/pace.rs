//! A learner that is far behind is brought up at a pace that leaves the processors to those who use
//! the cluster: nobody waits for it, as they may for a voter.
//!
//! It gets one request after another, with a pause after each answer that is a multiple of the time that
//! the answer took: beside writing the entries down the member applies and indexes them. One that would
//! never get there so, since much is written meanwhile, is sent all that it can take.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use openraft::raft::AppendEntriesRequest;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::types::{LogId, TypeConfig};

/// Committed entries that a member lacks before it is far behind: a few requests' worth.
const FAR_BEHIND: u64 = 2048;

/// A pause is so many times as long as the answer before it took.
const PAUSE_SHARE: u32 = 6;

/// The longest pause, well below the time after which a silent leader is replaced.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How far a member is, seen from a stream of requests to it.
struct Pace<W> {
    is_waited_for: W,
    answered: watch::Receiver<u64>,
    /// Requests that were given out.
    sent: u64,
    /// The leader's commit index with the last of them.
    committed: u64,
}

impl<W: Fn() -> bool> Pace<W> {
    /// Returns when `request` may be sent.
    async fn wait_for(&mut self, request: &AppendEntriesRequest<TypeConfig>) {
        let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| id.index);
        let entries = request.entries.len() as u64;
        let committed = index(&request.leader_commit);
        let written = committed.saturating_sub(self.committed);
        let is_far_behind = index(&request.prev_log_id) + entries + FAR_BEHIND < committed;
        let gains = 2 * written < entries;
        if is_far_behind && gains && !(self.is_waited_for)() {
            let asked = Instant::now();
            let sent = self.sent;
            // A stream whose answers are not awaited any more is over.
            if self
                .answered
                .wait_for(|answered| *answered >= sent)
                .await
                .is_ok()
            {
                sleep((asked.elapsed() * PAUSE_SHARE).min(PAUSE_MAX)).await;
            }
        }
        self.committed = committed;
        self.sent += 1;
    }
}

/// `requests`, held back while the member is far behind and nobody waits for it; `answered` counts its
/// answers.
pub(super) fn paced(
    requests: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send,
    answered: watch::Receiver<u64>,
    is_waited_for: impl Fn() -> bool + Send,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send {
    let pace = Pace {
        is_waited_for,
        answered,
        sent: 0,
        // So the first is not held back.
        committed: 0,
    };
    futures::stream::unfold(
        (pace, Box::pin(requests)),
        |(mut pace, mut requests)| async move {
            let request = requests.next().await?;
            pace.wait_for(&request).await;
            Some((request, (pace, requests)))
        },
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt as _, stream};
    use openraft::EntryPayload;

    use super::*;
    use crate::types::{Entry, LeaderId, Proposal, Vote};

    fn log_id(index: u64) -> LogId {
        LogId {
            leader_id: LeaderId {
                term: 1,
                node_id: 1,
            },
            index,
        }
    }

    fn request(previous: u64, entries: u64, committed: u64) -> AppendEntriesRequest<TypeConfig> {
        let entry = |at| Entry {
            log_id: log_id(at),
            payload: EntryPayload::Normal(Proposal(Bytes::new())),
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(previous)),
            entries: (previous + 1..=previous + entries).map(entry).collect(),
            leader_commit: Some(log_id(committed)),
        }
    }

    /// How many of three requests of a hundred entries go out before one is answered. All do when all are.
    async fn check(lag: u64, written: u64, is_waited_for: bool) -> u64 {
        let requests = (0..3).map(|i| request(100 * i, 100, lag + written * i));
        let answered = watch::Sender::new(0);
        let requests = stream::iter(requests);
        let paced = paced(requests, answered.subscribe(), || is_waited_for);
        let mut paced = Box::pin(paced.fuse());
        let mut at_once = 0;
        while let Some(Some(_)) = paced.next().now_or_never() {
            at_once += 1;
        }
        for sent in at_once..3 {
            answered.send_replace(sent);
            assert!(paced.next().await.is_some());
        }
        assert!(paced.next().await.is_none());
        at_once
    }

    #[tokio::test]
    async fn a_learner_that_is_far_behind_gets_one_request_after_another() {
        assert_eq!(check(10_000, 0, false).await, 1);
        assert_eq!(check(10_000, 49, false).await, 1);
        assert_eq!(check(10_000, 50, false).await, 3, "it gains too little");
        assert_eq!(check(10_000, 0, true).await, 3, "it has a vote");
        assert_eq!(check(2_000, 0, false).await, 3, "it is near");
    }
}
