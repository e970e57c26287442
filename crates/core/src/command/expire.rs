//! Expire: remove memories whose time has come, and forget changes that are too long ago. The leader
//! proposes it when something is due; its stamp also moves the log's time on when nobody writes.

use minicbor::{Decode, Encode};

use crate::{
    apply::{Context, Outcome, Rejection},
    state::{Read, ReadError, Transaction},
};

/// Memories that one command removes at most, so that no entry holds the log up for long.
pub const EXPIRE_MAX: usize = 256;

/// … and changes of memories that it forgets, with memories that go or since they are too long ago; the
/// memory with which they become more is the last.
const CHANGES_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Expire {}

impl Expire {
    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let due = tx.due(context.now, EXPIRE_MAX)?;
        let mut removed = 0;
        let changes_before = tx.history_removed();
        for (namespace, key) in due {
            let memory = tx
                .memory(&namespace, key)?
                .expect("an expiry row is kept exactly as long as its memory");
            tx.remove(&namespace, key, &memory)?;
            removed += 1;
            if tx.history_removed() - changes_before > CHANGES_MAX {
                return Ok(Ok(Outcome::Expired { removed }));
            }
        }
        tx.forget_old_changes(context.now, CHANGES_MAX)?;
        Ok(Ok(Outcome::Expired { removed }))
    }
}
