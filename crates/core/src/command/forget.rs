//! Forget: remove a memory for good, at its owner's wish.

use minicbor::{Decode, Encode};

use crate::{
    apply::{Context, Outcome, Rejection, Target},
    limits,
    memory::Invalid,
    state::{Read, ReadError, Transaction},
};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Forget {
    #[n(0)]
    pub target: Target,
    #[n(1)]
    pub expected_version: Option<u64>,
    /// At most [`limits::REASON_BYTES_MAX`] bytes.
    #[n(2)]
    pub reason: String,
}

impl Forget {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.reason.len() > limits::REASON_BYTES_MAX {
            return Err(Invalid::ReasonTooLong {
                actual: self.reason.len(),
            });
        }
        Ok(())
    }

    /// Memories that were merged into it go too: they are the same lesson. Of one that was merged itself
    /// only the words go; what it gave to the memory in its place stays there.
    ///
    /// Links that point to the memory stay: they are their sources' own, and may name what comes
    /// later.
    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let old = match self
            .target
            .find_itself(tx, context, self.expected_version)?
        {
            Ok(memory) => memory,
            Err(rejection) => return Ok(Err(rejection)),
        };
        tx.remove(&self.target.namespace, self.target.key, &old)?;
        Ok(Ok(Outcome::Mutated {
            key: self.target.key,
            version: 0,
            changed: true,
        }))
    }
}
