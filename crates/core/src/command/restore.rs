//! Restore: take a faded or superseded memory out of the archive.

use minicbor::{Decode, Encode};

use crate::{
    apply::{Context, Outcome, Rejection, Target},
    memory::Reason,
    state::{Doing, Read, ReadError, Transaction, What},
};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Restore {
    #[n(0)]
    pub target: Target,
}

impl Restore {
    /// A memory that was merged or shared cannot be restored alone: its evidence is part of another one.
    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let old = match self.target.find_itself(tx, context, None)? {
            Ok(memory) => memory,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let key = self.target.key;
        match old.archived.map(|archived| archived.reason) {
            None => return Ok(Ok(self.target.unchanged(key, &old))),
            Some(Reason::Merged { into }) => {
                return Ok(Err(Rejection::Merged { key, into }));
            }
            Some(Reason::Shared { .. } | Reason::Withheld) => {
                return Ok(Err(Rejection::Shared { key }));
            }
            Some(Reason::Faded | Reason::Superseded { .. }) => {}
        }
        let mut new = old.clone();
        new.archived = None;
        // As a use: it would fade again at the next pass.
        new.used.last_at = context.now;
        new.version += 1;
        new.updated_at = context.now;
        let outcome = self.target.changed(key, &new);
        let doing = Doing {
            what: What::Restored,
            by: self.target.reader.agent.clone(),
        };
        tx.change((&self.target.namespace, key), &old, new, doing, context)?;
        Ok(Ok(outcome))
    }
}
