//! Resolve a conflict: someone says which of two memories is right, or that both are.

use minicbor::{Decode, Encode};

use crate::{
    apply::{Context, Outcome, Rejection, Target},
    key::Key,
    limits,
    memory::{Archived, Invalid, Link, Reason, Relation},
    state::{self, Conflict, Doing, Read, ReadError, Transaction, What},
};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ResolveConflict {
    /// One of the two: the right one, unless both are.
    #[n(0)]
    pub target: Target,
    #[n(1)]
    pub other: Key,
    /// Both hold: only the conflict goes. Otherwise the other one is superseded and archived.
    #[n(2)]
    pub both_hold: bool,
}

impl ResolveConflict {
    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let namespace = &self.target.namespace;
        let (key, right) = match self.target.find(tx, context, None)? {
            Ok(found) => found,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let other = Target {
            key: self.other,
            ..self.target.clone()
        };
        let (other_key, wrong) = match other.find(tx, context, None)? {
            Ok(found) => found,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let pair = (self.target.key, self.other);
        let Some(conflict) = state::conflict(tx, namespace, pair)? else {
            return Ok(Err(Rejection::NoConflict {
                a: pair.0,
                b: pair.1,
            }));
        };
        let resolved = Some(Conflict {
            resolved_at: Some(context.now),
            ..conflict
        });
        if self.both_hold || key == other_key {
            tx.set_conflict(namespace, pair, resolved)?;
            return Ok(Ok(self.target.changed(key, &right)));
        }
        let mut new = right.clone();
        new.links.insert(Link {
            relation: Relation::Supersedes,
            target: other_key,
        });
        if new.links.len() > limits::LINKS_MAX {
            return Ok(Err(Rejection::invalid(&Invalid::Links {
                actual: new.links.len(),
            })));
        }
        tx.set_conflict(namespace, pair, resolved)?;
        new.version += 1;
        new.updated_at = context.now;
        let outcome = self.target.changed(key, &new);
        let by = self.target.reader.agent.clone();
        let doing = |what| Doing {
            what,
            by: by.clone(),
        };
        let upheld = doing(What::Upheld { over: other_key });
        tx.change((namespace, key), &right, new, upheld, context)?;
        let mut archived = wrong.clone();
        archived.archived = Some(Archived {
            reason: Reason::Superseded { by: key },
            at: context.now,
        });
        archived.version += 1;
        archived.updated_at = context.now;
        let superseded = doing(What::Superseded { by: key });
        tx.change(
            (namespace, other_key),
            &wrong,
            archived,
            superseded,
            context,
        )?;
        Ok(Ok(outcome))
    }
}
