//! Update: change what a caller may say about a memory after it was learned.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use crate::{
    apply::{Context, Outcome, Rejection, Target},
    limits,
    memory::{self, Invalid},
    state::{Doing, Read, ReadError, Transaction, What},
    time::TimeMs,
};

/// Content, domain and scope make a memory's identity and cannot be changed: learn anew and link.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Update {
    #[n(0)]
    pub target: Target,
    /// The version that the caller decided by; any if absent.
    #[n(1)]
    pub expected_version: Option<u64>,
    #[n(2)]
    pub importance: Option<f32>,
    #[n(3)]
    pub pinned: Option<bool>,
    #[n(4)]
    pub expiry: Option<Expiry>,
    #[n(5)]
    pub set_metadata: BTreeMap<String, String>,
    #[n(6)]
    pub remove_metadata: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Expiry {
    #[n(0)]
    Never,
    #[n(1)]
    At(#[n(0)] TimeMs),
}

impl Update {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if let Some(importance) = self.importance {
            memory::check_importance(importance)?;
        }
        if let Some(Expiry::At(at)) = self.expiry {
            TimeMs::new(at.0)?;
        }
        if self.remove_metadata.len() > limits::METADATA_ENTRIES_MAX {
            return Err(Invalid::MetadataEntries {
                actual: self.remove_metadata.len(),
            });
        }
        memory::check_metadata(&self.set_metadata)
    }

    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let (key, old) = match self.target.find(tx, context, self.expected_version)? {
            Ok(found) => found,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let mut new = old.clone();
        if let Some(importance) = self.importance {
            new.importance = importance;
        }
        if let Some(pinned) = self.pinned {
            new.pinned = pinned;
        }
        match self.expiry {
            None => {}
            Some(Expiry::Never) => new.expires_at = None,
            Some(Expiry::At(at)) => new.expires_at = Some(at),
        }
        new.metadata
            .retain(|name, _| !self.remove_metadata.contains(name));
        new.metadata.extend(self.set_metadata.clone());
        if let Err(invalid) = memory::check_metadata(&new.metadata) {
            return Ok(Err(Rejection::invalid(&invalid)));
        }
        if new == old {
            return Ok(Ok(self.target.unchanged(key, &old)));
        }
        new.version += 1;
        new.updated_at = context.now;
        let outcome = self.target.changed(key, &new);
        let doing = Doing {
            what: What::Updated,
            by: self.target.reader.agent.clone(),
        };
        tx.change((&self.target.namespace, key), &old, new, doing, context)?;
        Ok(Ok(outcome))
    }
}
