//! Link: say how one memory refers to another.

use minicbor::{Decode, Encode};

use crate::{
    apply::{Context, Outcome, Rejection, Target},
    limits,
    memory::{Invalid, Link},
    state::{self, Doing, Read, ReadError, Transaction, What},
};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct SetLink {
    /// The memory that gets or loses the link.
    #[n(0)]
    pub target: Target,
    #[n(1)]
    pub link: Link,
    #[n(2)]
    pub remove: bool,
}

impl SetLink {
    /// A new link must lead to a memory that is there and that the caller may see; an old one can
    /// be removed whether or not its end still exists.
    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let (key, old) = match self.target.find(tx, context, None)? {
            Ok(found) => found,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let mut new = old.clone();
        let changed = if self.remove {
            new.links.remove(&self.link)
        } else {
            let end = state::memory(tx, &self.target.namespace, self.link.target)?;
            if !end.is_some_and(|m| self.target.reader.sees(&m.scope) && !m.is_expired(context.now))
            {
                return Ok(Err(Rejection::NotFound {
                    key: self.link.target,
                }));
            }
            new.links.insert(self.link)
        };
        if !changed {
            return Ok(Ok(self.target.unchanged(key, &old)));
        }
        if new.links.len() > limits::LINKS_MAX {
            return Ok(Err(Rejection::invalid(&Invalid::Links {
                actual: new.links.len(),
            })));
        }
        new.version += 1;
        new.updated_at = context.now;
        let outcome = self.target.changed(key, &new);
        let doing = Doing {
            what: if self.remove {
                What::Unlinked(self.link)
            } else {
                What::Linked(self.link)
            },
            by: self.target.reader.agent.clone(),
        };
        tx.change((&self.target.namespace, key), &old, new, doing, context)?;
        Ok(Ok(outcome))
    }
}
