//! Set policy: how a namespace is to be consolidated.

use minicbor::{Decode, Encode};

use crate::{
    apply::{Outcome, Rejection},
    consolidation::Policy,
    memory::Invalid,
    name::Namespace,
    state::{Read, ReadError, Transaction},
};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct SetPolicy {
    #[n(0)]
    pub namespace: Namespace,
    #[n(1)]
    pub policy: Policy,
}

impl SetPolicy {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        Ok(self.policy.check()?)
    }

    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        tx.set_policy(&self.namespace, &self.policy)?;
        Ok(Ok(Outcome::PolicySet))
    }
}
