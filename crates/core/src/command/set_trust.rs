//! Set trust: an operator's word about an agent, or that it is taken back.

use minicbor::{Decode, Encode};

use crate::{
    apply::{Outcome, Rejection},
    memory::Invalid,
    name::{Name, Namespace},
    state::{self, Read, ReadError, Transaction},
};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct SetTrust {
    #[n(0)]
    pub namespace: Namespace,
    #[n(1)]
    pub agent: Name,
    /// 0 to 1. Absent: the word is taken back, and what others found of its memories counts again.
    #[n(2)]
    pub trust: Option<f32>,
}

impl SetTrust {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        match self.trust {
            Some(actual) if !(0.0..=1.0).contains(&actual) => Err(Invalid::Trust { actual }),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let mut trust = state::trust(tx, &self.namespace, &self.agent)?;
        trust.set = self.trust;
        tx.set_trust(&self.namespace, &self.agent, &trust)?;
        Ok(Ok(Outcome::TrustSet))
    }
}
