//! How a node that does not lead takes writes and linearizable reads: it asks the leader.
//!
//! A write that may have reached a leader without an answer is sent again only under a request id,
//! which makes the repeat harmless; and if it then gets no answer either, its outcome is unknown,
//! whatever the last attempt said.

use std::{future::Future, time::Duration};

use memorygate_core::{
    command::{Command, Envelope},
    request::RequestId,
};
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, sleep, timeout};

use super::{Applied, BarrierError, Handle, ProposeError, encoded, leader_of};
use crate::{
    message,
    transport::{Call, Peer, TransportError},
};

/// How soon a leader that could not be reached is tried again, if nobody else becomes it.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// How many elections, at their longest, a request waits for a leader that takes it. One is enough
/// where a majority can be reached.
const ELECTIONS_WAITED: u32 = 2;

/// How long one request waits for a leader.
struct Patience {
    began: Instant,
    until: Instant,
}

impl Patience {
    fn waited_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Handle {
    /// Has the leader stamp `command` with its clock and append it to the log, and waits until it
    /// is applied there; see [`Self::wait_applied`] for here.
    ///
    /// An id given as `request` makes a repeat get the first answer. Acknowledged means: synced to
    /// the disks of a quorum. Dropping the future does not take the proposal back.
    pub async fn propose(
        &self,
        command: Command,
        request: Option<RequestId>,
    ) -> Result<Applied, ProposeError> {
        let mut envelope = Envelope {
            // The leader puts its own.
            time: self.shared.clock.now(),
            request,
            command,
        };
        let within = Duration::from_millis(self.shared.settings.propose_timeout_ms);
        let deadline = Instant::now() + within;
        let patience = self.patience(deadline);
        // Why an attempt that may have been appended to a log had no answer.
        let mut lost_sight = None;
        loop {
            let proposed = match self.other_leader() {
                // A node that has stopped refuses it here.
                None => self.propose_here(&mut envelope).await,
                Some(_) if !self.is_running() => self.propose_here(&mut envelope).await,
                Some(leader) => {
                    let asked = self.propose_there(&envelope, &leader, deadline);
                    // Without an id it cannot be asked again, so an old leader's answer is waited
                    // for.
                    let forwarded = tokio::select! {
                        answer = asked => answer,
                        () = self.another_than(&leader), if request.is_some() => {
                            Err(ProposeError::Unknown {
                                reason: format!("{} does not lead any more", leader.address),
                            })
                        }
                    };
                    if let Err(ProposeError::Unknown { reason }) = &forwarded
                        && request.is_some()
                    {
                        lost_sight = Some(reason.clone());
                        Err(ProposeError::NotLeader {
                            leader: Some(leader),
                        })
                    } else {
                        forwarded
                    }
                }
            };
            match (proposed, &lost_sight) {
                (Ok(applied), _) => return Ok(applied),
                (Err(error @ ProposeError::NotLeader { .. }), seen) => {
                    if !self.wait_for_leader(&patience).await {
                        return Err(match (seen, error) {
                            (Some(reason), _) => ProposeError::Unknown {
                                reason: reason.clone(),
                            },
                            (None, ProposeError::NotLeader { leader: None }) => {
                                ProposeError::NoQuorum {
                                    waited_ms: patience.waited_ms(),
                                }
                            }
                            (None, error) => error,
                        });
                    }
                }
                (Err(_), Some(reason)) => {
                    return Err(ProposeError::Unknown {
                        reason: reason.clone(),
                    });
                }
                (Err(error), None) => return Err(error),
            }
        }
    }

    async fn propose_there(
        &self,
        envelope: &Envelope,
        leader: &Peer,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        let bytes = encoded(envelope, self.format())?;
        let _share = self.share(bytes.len())?;
        let left = deadline.saturating_duration_since(Instant::now());
        match self.call(leader, Call::Propose, bytes, left).await {
            Ok(answer) => message::decode_proposed(&answer).unwrap_or_else(|malformed| {
                Err(ProposeError::Unknown {
                    reason: malformed.to_string(),
                })
            }),
            Err(error) if error.is_undelivered() => Err(ProposeError::NotLeader {
                leader: Some(leader.clone()),
            }),
            Err(error) => Err(ProposeError::Unknown {
                reason: error.to_string(),
            }),
        }
    }

    /// Has the leader confirm with a quorum that it leads, and waits until this node has applied
    /// all that was committed when it was asked. What is read here after it, at the position
    /// returned or a later one, is linearizable.
    pub async fn linearizable(&self) -> Result<u64, BarrierError> {
        #[cfg(feature = "planted-bugs")]
        if crate::planted::Bug::StaleRead.is_planted() {
            return Ok(self.position());
        }
        let index = self.committed().await?;
        self.wait_applied(index).await?;
        Ok(index)
    }

    /// Has the leader confirm with a quorum that it leads, and say what was committed when it was
    /// asked. This node may not have applied it yet.
    pub async fn committed(&self) -> Result<u64, BarrierError> {
        let within = Duration::from_millis(self.shared.settings.propose_timeout_ms);
        let deadline = Instant::now() + within;
        let patience = self.patience(deadline);
        loop {
            self.check_running()?;
            let confirmed = match self.other_leader() {
                None => self.confirm_here().await,
                Some(leader) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let request = message::encode(&());
                    let asked = self.call(&leader, Call::ReadIndex, request, left).await;
                    let no_quorum = |reason: String| BarrierError::NoQuorum { reason };
                    asked
                        .map_err(|error: TransportError| no_quorum(error.to_string()))
                        .and_then(|answer| {
                            message::decode::<Result<u64, BarrierError>>(&answer)
                                .map_err(|malformed| no_quorum(malformed.to_string()))?
                        })
                }
            };
            match confirmed {
                Ok(index) => return Ok(index),
                Err(error @ BarrierError::Stopped(_)) if !self.is_running() => return Err(error),
                Err(error) => {
                    if !self.wait_for_leader(&patience).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The leader, if it is known and not this node. As [`Self::metrics`] has it, without all else
    /// that those say: it is asked at every write.
    fn other_leader(&self) -> Option<Peer> {
        let watched = self.shared.raft.metrics();
        let raft = watched.borrow_watched();
        let leader = leader_of(&raft, self.shared.quorum.leads_by(&raft))?;
        if leader == self.node_id() {
            return None;
        }
        let node = raft.membership_config.membership().get_node(&leader);
        Some(Peer {
            node_id: leader,
            address: node.map(|node| node.address.clone()).unwrap_or_default(),
        })
    }

    /// Resolves when this node hears of a leader other than `old`.
    async fn another_than(&self, old: &Peer) {
        let mut leading = self.shared.leading.subscribe();
        let is_other = |leader: Option<u64>| leader.is_some_and(|leader| leader != old.node_id);
        if leading.wait_for(|now| is_other(now.leader)).await.is_err() {
            std::future::pending().await
        }
    }

    fn patience(&self, deadline: Instant) -> Patience {
        let elections = Duration::from_millis(self.shared.settings.election_timeout_max_ms);
        let now = Instant::now();
        Patience {
            began: now,
            until: deadline.min(now + ELECTIONS_WAITED * elections),
        }
    }

    /// Waits for news of who leads, or a moment. False when it has lasted too long.
    async fn wait_for_leader(&self, patience: &Patience) -> bool {
        let mut metrics = self.shared.raft.metrics();
        let before = metrics.borrow_watched().current_leader;
        let news = async {
            while metrics.changed().await.is_ok() {
                if metrics.borrow_watched().current_leader != before {
                    return;
                }
            }
            sleep(RETRY_AFTER).await;
        };
        let _ = timeout(RETRY_AFTER, news).await;
        Instant::now() < patience.until
    }

    pub(super) fn call(
        &self,
        to: &Peer,
        call: Call,
        request: bytes::Bytes,
        within: Duration,
    ) -> impl Future<Output = Result<bytes::Bytes, TransportError>> + Send + use<> {
        self.shared.transport.call(to, call, request, within)
    }
}
