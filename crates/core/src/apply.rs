//! `apply`: the one function that changes the replicated state.
//!
//! It is pure: the same rows, index and command give the same new rows, the same answer and the same
//! digest on every replica, today and when the log is replayed. It decides whether a request was
//! seen before, moves the log's time, and hands the command to its file in [`crate::command`].

use minicbor::{Decode, Encode};

use crate::{
    command::{Command, Envelope, learn::Learned},
    key::Key,
    memory::{Invalid, Memory},
    name::Namespace,
    request::{Age, RequestId},
    scope::Reader,
    state::{self, Read, ReadError, Transaction},
    time::TimeMs,
};

/// Answers forgotten at each entry, at most: more than one entry can add, so the table shrinks back
/// to its window.
const FORGOTTEN_PER_ENTRY: usize = 4;

/// Where a command stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub index: u64,
    /// The log's time, this command's stamp included.
    pub now: TimeMs,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    #[n(0)]
    Learned(#[n(0)] Vec<Learned>),
    #[n(1)]
    Mutated {
        #[n(0)]
        key: Key,
        /// After the change; 0 if the memory is gone.
        #[n(1)]
        version: u64,
        #[n(2)]
        changed: bool,
    },
    #[n(2)]
    Expired {
        #[n(0)]
        removed: u32,
    },
    #[n(3)]
    Marked,
    /// The log's format from here on.
    #[n(4)]
    Format {
        #[n(0)]
        format: u8,
    },
    #[n(5)]
    Consolidated {
        #[n(0)]
        done: u32,
        /// Steps whose memories had changed since they were planned.
        #[n(1)]
        refused: u32,
    },
    #[n(6)]
    Undone {
        #[n(0)]
        steps: u32,
    },
    #[n(7)]
    UsesCounted {
        /// Memories that were there.
        #[n(0)]
        counted: u32,
    },
    #[n(8)]
    PolicySet,
    #[n(9)]
    TrustSet,
}

/// Why a command changed nothing. Every replica decides the same.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Rejection {
    #[n(0)]
    #[error("no memory {key} in this namespace for this reader")]
    NotFound {
        #[n(0)]
        key: Key,
    },
    #[n(1)]
    #[error("memory {key} has version {actual}, expected {expected}")]
    Version {
        #[n(0)]
        key: Key,
        #[n(1)]
        expected: u64,
        #[n(2)]
        actual: u64,
    },
    #[n(2)]
    #[error("{reason}")]
    Invalid {
        #[n(0)]
        reason: String,
    },
    #[n(3)]
    #[error(
        "request id {id} is too old to tell whether it was run: read what is stored, then use a new id"
    )]
    RequestExpired {
        #[n(0)]
        id: RequestId,
    },
    #[n(4)]
    #[error(
        "request id {id} names a position that this cluster has not reached (it is at {index})"
    )]
    RequestFromFuture {
        #[n(0)]
        id: RequestId,
        #[n(1)]
        index: u64,
    },
    #[n(5)]
    #[error(
        "no consolidation {id} in this namespace: it did nothing here, was undone, or is over 90 days old"
    )]
    NoEpoch {
        #[n(0)]
        id: u64,
    },
    #[n(6)]
    #[error("consolidation {id} cannot be undone: what it left was changed since: {}", listed(.keys))]
    ChangedSince {
        #[n(0)]
        id: u64,
        /// In order.
        #[n(1)]
        keys: Vec<Key>,
    },
    #[n(7)]
    #[error("memories {a} and {b} are not known to be in conflict")]
    NoConflict {
        #[n(0)]
        a: Key,
        #[n(1)]
        b: Key,
    },
    #[n(8)]
    #[error("memory {key} was merged into {into}: undo the consolidation that did it")]
    Merged {
        #[n(0)]
        key: Key,
        #[n(1)]
        into: Key,
    },
    /// Without the other key: who may see the one may not see the other.
    #[n(9)]
    #[error(
        "memory {key} was shared and lives on in a wider scope: it cannot be taken back from there"
    )]
    Shared {
        #[n(0)]
        key: Key,
    },
}

fn listed(keys: &[Key]) -> String {
    let keys: Vec<String> = keys.iter().map(Key::to_string).collect();
    keys.join(", ")
}

impl Rejection {
    pub(crate) fn invalid(invalid: &Invalid) -> Self {
        Self::Invalid {
            reason: invalid.to_string(),
        }
    }
}

/// The answer to a command, remembered under its request id.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reply {
    /// Index of the entry that was answered so first.
    #[n(0)]
    pub index: u64,
    #[n(1)]
    pub result: Result<Outcome, Rejection>,
}

/// Applies the entry at `index`. An error is the storage's, and nothing of the transaction may then
/// be stored.
pub fn apply<R: Read>(
    tx: &mut Transaction<'_, R>,
    index: u64,
    envelope: &Envelope,
) -> Result<Reply, ReadError> {
    let now = tx.clock()?.max(envelope.time);
    tx.set_clock(now)?;
    let oldest_known = index.saturating_sub(crate::limits::REQUEST_WINDOW_POSITIONS);
    tx.forget_answers(oldest_known, FORGOTTEN_PER_ENTRY)?;
    let Some(id) = envelope.request else {
        let result = run(tx, &Context { index, now }, &envelope.command)?;
        return Ok(Reply { index, result });
    };
    match id.age_at(index) {
        Age::Known => {}
        Age::Expired => {
            return Ok(Reply {
                index,
                result: Err(Rejection::RequestExpired { id }),
            });
        }
        Age::Future => {
            return Ok(Reply {
                index,
                result: Err(Rejection::RequestFromFuture { id, index }),
            });
        }
    }
    if let Some(first) = tx.answer(id)? {
        return Ok(first);
    }
    let result = run(tx, &Context { index, now }, &envelope.command)?;
    let reply = Reply { index, result };
    tx.remember(id, &reply);
    Ok(reply)
}

fn run<R: Read>(
    tx: &mut Transaction<'_, R>,
    context: &Context,
    command: &Command,
) -> Result<Result<Outcome, Rejection>, ReadError> {
    if let Err(invalid) = command.check() {
        return Ok(Err(Rejection::invalid(&invalid)));
    }
    match command {
        Command::Learn(command) => command.apply(tx, context),
        Command::Update(command) => command.apply(tx, context),
        Command::Feedback(command) => command.apply(tx, context),
        Command::Forget(command) => command.apply(tx, context),
        Command::Link(command) => command.apply(tx, context),
        Command::Expire(command) => command.apply(tx, context),
        Command::Mark(command) => Ok(Ok(command.apply())),
        Command::SetFormat(command) => command.apply(tx).map(Ok),
        Command::Consolidate(command) => command.apply(tx, context),
        Command::UndoConsolidation(command) => command.apply(tx, context),
        Command::CountUses(command) => command.apply(tx, context),
        Command::ResolveConflict(command) => command.apply(tx, context),
        Command::Restore(command) => command.apply(tx, context),
        Command::SetPolicy(command) => command.apply(tx),
        Command::Share(command) => command.apply(tx, context),
        Command::SetTrust(command) => command.apply(tx),
    }
}

/// The memory that a command is about, and on whose behalf.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Target {
    #[n(0)]
    pub namespace: Namespace,
    #[n(1)]
    pub key: Key,
    #[n(2)]
    pub reader: Reader,
}

impl Target {
    /// The memory, if it is there, not expired, visible and of the version asked for, or the one that
    /// took its place, under its key. What is there but not visible is answered as what is not there.
    pub(crate) fn find<R: Read>(
        &self,
        tx: &Transaction<'_, R>,
        context: &Context,
        expected_version: Option<u64>,
    ) -> Result<Result<(Key, Memory), Rejection>, ReadError> {
        let Some(key) = state::replacement(tx, &self.namespace, self.key)? else {
            return Ok(Err(Rejection::NotFound { key: self.key }));
        };
        let target = Self {
            key,
            ..self.clone()
        };
        let found = target.find_itself(tx, context, expected_version)?;
        let is_missing = matches!(found, Err(Rejection::NotFound { .. }));
        Ok(found.map(|memory| (key, memory)).map_err(|rejection| {
            if is_missing {
                // The caller knows no other key.
                Rejection::NotFound { key: self.key }
            } else {
                rejection
            }
        }))
    }

    /// The same for the memory under this very key, archived or not.
    pub(crate) fn find_itself<R: Read>(
        &self,
        tx: &Transaction<'_, R>,
        context: &Context,
        expected_version: Option<u64>,
    ) -> Result<Result<Memory, Rejection>, ReadError> {
        let key = self.key;
        let found = tx
            .memory(&self.namespace, key)?
            .filter(|m| self.reader.sees(&m.scope) && !m.is_expired(context.now));
        Ok(match (found, expected_version) {
            (None, _) => Err(Rejection::NotFound { key }),
            (Some(memory), Some(expected)) if memory.version != expected => {
                Err(Rejection::Version {
                    key,
                    expected,
                    actual: memory.version,
                })
            }
            (Some(memory), _) => Ok(memory),
        })
    }

    pub(crate) fn changed(&self, key: Key, memory: &Memory) -> Outcome {
        Outcome::Mutated {
            key,
            version: memory.version,
            changed: true,
        }
    }

    pub(crate) fn unchanged(&self, key: Key, memory: &Memory) -> Outcome {
        Outcome::Mutated {
            key,
            version: memory.version,
            changed: false,
        }
    }
}
