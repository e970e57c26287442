//! What this node answers to other members.
//!
//! Whoever carries the messages has checked who they are from and that they are meant for this node
//! of this cluster.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use memorygate_core::command::Envelope;
use openraft::{error::Fatal, raft::StreamAppendResult};
use serde::Serialize;

use super::{Handle, ProposeError, Stopped, members::Asked};
use crate::{
    message::{self, Malformed},
    snapshots::{
        transfer::{self, Answer, Offer, ReceiveError, Receiving},
        turns::Turn,
    },
    state_machine,
    transport::{Answers, Call, Channel, Messages},
    types::{TypeConfig, Vote},
};

/// Why a member gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The same request will never be answered.
    #[error("{reason}")]
    Refused { reason: String },
    #[error("{reason}")]
    Failed { reason: String },
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<Malformed> for PeerError {
    fn from(malformed: Malformed) -> Self {
        Self::Refused {
            reason: malformed.to_string(),
        }
    }
}

impl From<ReceiveError> for PeerError {
    fn from(error: ReceiveError) -> Self {
        let reason = error.to_string();
        match error {
            ReceiveError::Malformed(_) | ReceiveError::Chunk { .. } => Self::Refused { reason },
            ReceiveError::Refused { .. }
            | ReceiveError::Short { .. }
            | ReceiveError::Silence
            | ReceiveError::Io(_) => Self::Failed { reason },
        }
    }
}

impl Handle {
    /// Answers what another member asks once.
    pub async fn answer(&self, call: Call, request: Bytes) -> Result<Bytes, PeerError> {
        self.check_running()?;
        let raft = &self.shared.raft;
        match call {
            Call::Vote => answered(raft.vote(message::decode(&request)?).await),
            Call::PreVote => answered(raft.pre_vote(message::decode(&request)?).await),
            Call::TransferLeader => answered(
                raft.handle_transfer_leader(message::decode(&request)?)
                    .await,
            ),
            Call::Propose if self.shared.gate.is_draining() => {
                let leader = self.metrics().leader;
                let refused = Err(ProposeError::NotLeader {
                    leader: leader.filter(|leader| leader.node_id != self.node_id()),
                });
                Ok(message::encode_proposed(&refused))
            }
            Call::Propose => {
                let read = Envelope::from_bytes(&request, self.formats());
                let mut envelope = read.map_err(|error| {
                    PeerError::from(Malformed {
                        reason: error.to_string(),
                    })
                })?;
                let proposed = self.propose_here(&mut envelope).await;
                Ok(message::encode_proposed(&proposed))
            }
            Call::ReadIndex => Ok(message::encode(&self.confirm_here().await)),
            Call::HandOver => {
                let to = message::decode(&request)?;
                Ok(message::encode(&self.hand_over_here(to).await))
            }
            Call::ChangeMembers => {
                let Asked { change, formats } = message::decode(&request)?;
                let changed = self.change_members_here(change, formats).await;
                Ok(message::encode(&changed))
            }
        }
    }

    /// Answers what another member sends on a channel, in its order. The answers end with the
    /// requests, or after an error.
    pub fn answer_channel(&self, channel: Channel, requests: Messages) -> Answers<PeerError> {
        if let Err(stopped) = self.check_running() {
            return stream::once(std::future::ready(Err(stopped.into()))).boxed();
        }
        match channel {
            Channel::Append => self.answer_appends(requests),
            Channel::Snapshot => {
                let handle = self.clone();
                handle.answer_snapshot(requests)
            }
        }
    }

    fn answer_appends(&self, requests: Messages) -> Answers<PeerError> {
        let malformed = Arc::new(Mutex::new(None));
        let found = malformed.clone();
        let decoded = requests
            .map(|request| message::decode_append(&request))
            .scan((), move |(), decoded| {
                let request = decoded.map_err(|malformed| {
                    *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(malformed);
                });
                std::future::ready(request.ok())
            });
        let appended = self.shared.raft.stream_append(decoded);
        let answers = appended.map(
            |appended: Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>| {
                answered(appended)
            },
        );
        // What was readable is answered first.
        let last = async move {
            let malformed = malformed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            malformed.map(|malformed| Err(PeerError::from(malformed)))
        };
        answers
            .chain(last.into_stream().filter_map(std::future::ready))
            .boxed()
    }

    fn answer_snapshot(self, requests: Messages) -> Answers<PeerError> {
        enum Step {
            Offered(Messages),
            Receiving(Box<Receiving>, Vote, Messages, Turn),
            Over,
        }
        let first = Step::Offered(requests);
        stream::unfold((self, first), |(handle, step)| async move {
            let (answer, next) = match step {
                Step::Offered(mut requests) => match handle.offered(&mut requests).await {
                    Ok((receiving, vote, turn)) => {
                        let wants = Answer::Wants(receiving.wants().to_vec());
                        let next = Step::Receiving(Box::new(receiving), vote, requests, turn);
                        (Ok(message::encode(&wants)), next)
                    }
                    Err(error) => (Err(error), Step::Over),
                },
                Step::Receiving(receiving, vote, requests, turn) => {
                    let installed = handle.receive(*receiving, vote, requests, turn).await;
                    let answer = installed.map(|vote| message::encode(&Answer::Done(vote)));
                    (answer, Step::Over)
                }
                Step::Over => return None,
            };
            Some((answer, (handle, next)))
        })
        .boxed()
    }

    async fn offered(&self, requests: &mut Messages) -> Result<(Receiving, Vote, Turn), PeerError> {
        let Some(offer) = transfer::next_message(requests).await? else {
            return Err(PeerError::Refused {
                reason: "snapshot channel ended without an offer".to_owned(),
            });
        };
        let Offer { vote, manifest } = message::decode(&offer)?;
        // A second sender would write into the same files.
        let turn = self.shared.receiving.take().await;
        let snapshots = self.shared.snapshots.clone();
        let begun = blocking(move || {
            manifest
                .validate()
                .map_err(|reason| ReceiveError::Refused { reason })?;
            Receiving::begin(&snapshots, manifest)
        });
        let receiving = begun.await?;
        let room = self.shared.guard.check_for(receiving.bytes_wanted());
        room.map_err(|full| PeerError::Failed {
            reason: full.to_string(),
        })?;
        Ok((receiving, vote, turn))
    }

    async fn receive(
        &self,
        mut receiving: Receiving,
        vote: Vote,
        mut requests: Messages,
        mut turn: Turn,
    ) -> Result<Vote, PeerError> {
        while let Some(chunk) = tokio::select! {
            next = transfer::next_message(&mut requests) => next?,
            () = turn.is_wanted() => return Err(PeerError::Failed {
                reason: "a later transfer has begun".to_owned(),
            }),
        } {
            receiving = blocking(move || {
                receiving.write(&chunk)?;
                Ok(receiving)
            })
            .await?;
        }
        let snapshots = self.shared.snapshots.clone();
        let files = blocking(move || receiving.finish(&snapshots)).await?;
        let snapshot = state_machine::describe(files);
        let installed = self.shared.raft.install_full_snapshot(vote, snapshot).await;
        installed
            .map(|answer| answer.vote)
            .map_err(|_| self.stopped().into())
    }
}

fn answered<A: Serialize, E: std::fmt::Display>(result: Result<A, E>) -> Result<Bytes, PeerError> {
    match result {
        Ok(answer) => Ok(message::encode(&answer)),
        Err(error) => Err(PeerError::Stopped(Stopped {
            reason: error.to_string(),
        })),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReceiveError> + Send + 'static,
) -> Result<T, PeerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(PeerError::from),
        Err(error) => Err(PeerError::Failed {
            reason: error.to_string(),
        }),
    }
}
