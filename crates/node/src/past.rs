//! The past: how memories were at a moment, for the reads that ask as of one.
//!
//! It decides which moments this node can tell of. What a memory was is told by the rows of history
//! ([`Past`]); where those are not kept any more the read is refused, and never answered wrong.

use memorygate_core::{
    filter::Filter,
    key::Key,
    memory::Memory,
    moment::Moment,
    name::Namespace,
    scope::Reader,
    state::{Lost, Past, ReadError, Then},
};
use memorygate_raft::StateSnapshot;

use crate::{backend::Backend, deadline::Deadline, error::Error, position::Position};

/// What a read has to wait for, see [`Backend::read_from`]. As of a moment that the state has passed it waits until
/// all of that moment is there. One as of a time that the log has not passed is as of now, and asks the leader:
/// what was written by then may not be here yet.
pub(crate) async fn read_from(
    backend: &Backend,
    as_of: Option<Moment>,
    at_least: Option<Position>,
    linearizable: bool,
    deadline: Deadline,
) -> Result<Option<Position>, Error> {
    let Some(moment) = as_of else {
        return backend.read_from(at_least, linearizable, deadline).await;
    };
    let (passed, reached) = {
        let snapshot = backend.raft.state().snapshot();
        (snapshot.clock(), snapshot.position())
    };
    let (is_now, whole) = match moment {
        Moment::Position(asked) => (false, asked.min(reached)),
        Moment::Time(time) => {
            let now = backend.clock.now().max(passed);
            if time > now {
                return Err(Error::ToCome { time, now });
            }
            (time >= passed, reached)
        }
    };
    let asked = at_least
        .map(|position| backend.index_of(position))
        .transpose()?;
    let from = backend.position(whole.max(asked.unwrap_or(0)));
    let linearizable = linearizable || is_now;
    backend.read_from(Some(from), linearizable, deadline).await
}

/// The memories of a namespace, as of a moment or as they are.
pub(crate) struct Look<'a> {
    state: &'a StateSnapshot,
    namespace: &'a Namespace,
    past: Option<Past>,
    /// From when on all that was looked at is known, if some of it was not.
    lost: Option<Lost>,
}

impl<'a> Look<'a> {
    pub(crate) fn new(
        state: &'a StateSnapshot,
        namespace: &'a Namespace,
        as_of: Option<Moment>,
    ) -> Result<Self, Error> {
        if let Some(Moment::Position(asked)) = as_of
            && asked > state.position()
        {
            let reached = state.position();
            return Err(Error::NotReached { asked, reached });
        }
        Ok(Self {
            state,
            namespace,
            past: as_of.map(|moment| Past::at(state, moment)).transpose()?,
            lost: None,
        })
    }

    /// The memory as it was, if it was there and passes. What does not pass by what never changes of it is not
    /// looked at: nobody is told of a memory that they may not see, not even that it is not known.
    pub(crate) fn passing(
        &mut self,
        key: Key,
        memory: Memory,
        filter: &Filter,
        reader: &Reader,
    ) -> Result<Option<Memory>, ReadError> {
        let now = self.state.clock();
        let Some(past) = &self.past else {
            return Ok(Some(memory).filter(|memory| filter.passes(memory, reader, now)));
        };
        if !filter.lasting().passes(&memory, reader, now) {
            return Ok(None);
        }
        match past.memory(self.state, self.namespace, key, memory)? {
            Then::NotYet => Ok(None),
            // What is still there had not expired at any moment.
            Then::Was(was) => {
                let created = was.created.at;
                Ok(Some(*was).filter(|was| filter.passes(was, reader, created)))
            }
            Then::Lost(lost) => {
                let later = self.lost.map_or(lost, |known| known.later(lost));
                self.lost = Some(later);
                Ok(None)
            }
        }
    }

    /// Whether all that was looked at is known.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self.lost {
            None => Ok(()),
            Some(lost) => Err(Error::NotKept(lost)),
        }
    }
}
