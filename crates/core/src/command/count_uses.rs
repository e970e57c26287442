//! Count uses: which memories were among the results of recalls. Each node counts its own and
//! proposes them together now and then, so that a recall costs no write.

use minicbor::{Decode, Encode};

use crate::{
    apply::{Context, Outcome, Rejection},
    key::Key,
    limits,
    memory::Invalid,
    name::Namespace,
    state::{self, Read, ReadError, Transaction},
    time::TimeMs,
};

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CountUses {
    /// At most [`limits::USES_MAX`].
    #[n(0)]
    pub uses: Vec<Use>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Use {
    #[n(0)]
    pub namespace: Namespace,
    #[n(1)]
    pub key: Key,
    #[n(2)]
    pub count: u32,
    /// By the clock of the node that answered; later than the log's time counts as that.
    #[n(3)]
    pub last_at: TimeMs,
}

impl CountUses {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let actual = self.uses.len();
        if actual > limits::USES_MAX {
            return Err(Invalid::Uses { actual });
        }
        Ok(())
    }

    /// What took a memory's place is used in its stead. A memory that is gone is not.
    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let mut counted = 0;
        for used in &self.uses {
            let Some(key) = state::replacement(tx, &used.namespace, used.key)? else {
                continue;
            };
            let Some(old) = tx.memory(&used.namespace, key)? else {
                continue;
            };
            let mut new = old.clone();
            new.used.count = old.used.count.saturating_add(used.count);
            new.used.last_at = old.used.last_at.max(used.last_at.min(context.now));
            tx.touch(&used.namespace, key, &old, new)?;
            counted += 1;
        }
        Ok(Ok(Outcome::UsesCounted { counted }))
    }
}
