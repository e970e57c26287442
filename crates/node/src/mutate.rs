//! Update, feedback, forget, link: one committed command about one memory.

use memorygate_core::{apply::Outcome as Done, command::Command, key::Key, request::RequestId};

use crate::{backend::Backend, deadline::Deadline, error::Error, position::Position};

/// A command and the id that it runs under.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation<C> {
    pub request: Option<RequestId>,
    pub command: C,
}

/// What became of the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub key: Key,
    /// 0 if it is gone.
    pub version: u64,
    pub changed: bool,
    pub position: Position,
}

pub async fn mutate(
    backend: &Backend,
    mutation: Mutation<Command>,
    deadline: Deadline,
) -> Result<Answer, Error> {
    let Mutation { request, command } = mutation;
    let (done, position) = backend.propose(command, request, deadline).await?;
    match done {
        Done::Mutated {
            key,
            version,
            changed,
        } => Ok(Answer {
            key,
            version,
            changed,
            position,
        }),
        Done::Learned(_)
        | Done::Expired { .. }
        | Done::Marked
        | Done::Format { .. }
        | Done::Consolidated { .. }
        | Done::Undone { .. }
        | Done::UsesCounted { .. }
        | Done::PolicySet
        | Done::TrustSet => Err(Error::other_call()),
    }
}

impl<C> Mutation<C> {
    /// The same mutation with its command as one of all commands.
    pub fn map(self, command: impl FnOnce(C) -> Command) -> Mutation<Command> {
        Mutation {
            request: self.request,
            command: command(self.command),
        }
    }
}
