//! Share: make a memory of a narrower scope one of a wider scope.
//!
//! A scope is part of a memory's key, so the shared one is another memory. In one entry it gets all that the
//! narrower one has, and that goes to the archive and leads there: whatever is said of the old key
//! afterwards reaches the new one. What is shared stays shared, as whoever read it knows it.

use minicbor::{Decode, Encode};

use super::evidence;
use crate::{
    apply::{Context, Outcome, Rejection, Target},
    key::Key,
    limits,
    memory::{Archived, Created, Invalid, Memory, Reason, Sharing},
    scope::{Reader, Scope},
    state::{self, Doing, Read, ReadError, Transaction, What},
};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Share {
    #[n(0)]
    pub target: Target,
    /// The version that the caller decided by; any if absent.
    #[n(1)]
    pub expected_version: Option<u64>,
    /// A team, or everyone.
    #[n(2)]
    pub with: Scope,
}

impl Share {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        match &self.with {
            Scope::Shared | Scope::Team(_) => Ok(()),
            Scope::Agent(_) => Err(Invalid::SharedWithAgent),
        }
    }

    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let Self { target, with, .. } = self;
        let namespace = &target.namespace;
        let (from, old) = match target.find(tx, context, self.expected_version)? {
            Ok(found) => found,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if old.scope == *with {
            return Ok(Ok(target.unchanged(from, &old)));
        }
        if let Err(unshareable) = may_share(&target.reader, &old.scope, with) {
            let reason = unshareable.to_string();
            return Ok(Err(Rejection::Invalid { reason }));
        }
        let own = Key::of(namespace, with, &old.domain, &old.content);
        // What says the same there may have been merged, or shared further.
        let (mut to, mut there) = state::current(tx, namespace, own)?;
        if let Some(gone) = there.take_if(|memory| memory.is_expired(context.now)) {
            tx.remove(namespace, to, &gone)?;
            (to, there) = (own, tx.memory(namespace, own)?);
        }
        let mut sharings = old.shared.clone();
        sharings.insert(
            from,
            Sharing {
                by: target.reader.agent.clone(),
                at: context.now,
                learned_at: old.created.at,
            },
        );
        let shared = match there {
            None => {
                let shared = Memory {
                    scope: with.clone(),
                    version: 1,
                    created: Created {
                        index: context.index,
                        offset: 0,
                        at: context.now,
                    },
                    updated_at: context.now,
                    archived: None,
                    merged: [].into(),
                    shared: sharings,
                    changed_index: 0,
                    ..old.clone()
                };
                let embedding = tx.embedding(namespace, from)?;
                tx.create(namespace, to, shared.clone(), embedding)?;
                shared
            }
            Some(known) => {
                let mut shared = known.clone();
                evidence::count(&mut shared, &old);
                // What was shared further than was asked for now learns nothing of what is written here.
                if shared.scope == *with {
                    evidence::say(&mut shared, &old);
                    shared.pinned |= old.pinned;
                }
                shared
                    .links
                    .retain(|link| link.target != from && link.target != to);
                shared.shared.extend(sharings);
                if shared.shared.len() > limits::SHARINGS_MAX {
                    let invalid = Invalid::Sharings {
                        actual: shared.shared.len(),
                    };
                    return Ok(Err(Rejection::invalid(&invalid)));
                }
                shared.archived = None;
                shared.version += 1;
                shared.updated_at = context.now;
                let doing = Doing {
                    what: What::GotShared,
                    by: target.reader.agent.clone(),
                };
                tx.change((namespace, to), &known, shared.clone(), doing, context)?;
                shared
            }
        };
        // What replaces it is there before it goes, in the same entry.
        let mut archived = old.clone();
        archived.archived = Some(Archived {
            reason: Reason::Shared { to },
            at: context.now,
        });
        archived.version += 1;
        archived.updated_at = context.now;
        let doing = Doing {
            what: What::Shared { to },
            by: target.reader.agent.clone(),
        };
        tx.change((namespace, from), &old, archived, doing, context)?;
        Ok(Ok(target.changed(to, &shared)))
    }
}

/// Why a memory that the caller sees is not shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unshareable {
    #[error(
        "memory is for everyone in the namespace: a memory cannot be made narrower, only forgotten"
    )]
    Narrower,
    #[error("memory is for another team: share it with everyone, or learn it for this team")]
    OtherTeam,
    #[error(
        "only the agent that the memory belongs to can share it: name it as the reader's agent"
    )]
    NotTheOwner,
    #[error(
        "only a member of the team that the memory belongs to can share it: name that team among the reader's"
    )]
    NoMember,
    #[error("only a member of a team can share a memory with it: name the team among the reader's")]
    NoMemberThere,
}

/// Whether this reader may make a memory of the scope `from` one of the scope `to`, which is another.
fn may_share(reader: &Reader, from: &Scope, to: &Scope) -> Result<(), Unshareable> {
    match (from, to) {
        (Scope::Shared, _) => return Err(Unshareable::Narrower),
        (Scope::Team(_), Scope::Team(_) | Scope::Agent(_)) => return Err(Unshareable::OtherTeam),
        (Scope::Team(team), Scope::Shared) if !reader.teams.contains(team) => {
            return Err(Unshareable::NoMember);
        }
        (Scope::Agent(agent), _) if reader.agent.as_ref() != Some(agent) => {
            return Err(Unshareable::NotTheOwner);
        }
        (Scope::Team(_) | Scope::Agent(_), _) => {}
    }
    match to {
        Scope::Team(team) if !reader.teams.contains(team) => Err(Unshareable::NoMemberThere),
        Scope::Shared | Scope::Team(_) | Scope::Agent(_) => Ok(()),
    }
}
