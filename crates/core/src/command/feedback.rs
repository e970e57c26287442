//! Feedback: how useful a memory was to someone who recalled it.

use minicbor::{Decode, Encode};

use crate::{
    apply::{Context, Outcome, Rejection, Target},
    limits,
    memory::{Invalid, Memory},
    name::Name,
    state::{self, Doing, Read, ReadError, Transaction, What},
};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct GiveFeedback {
    #[n(0)]
    pub target: Target,
    /// -1 (misled) to 1 (solved it).
    #[n(1)]
    pub score: f32,
    /// Why, for whoever reads the log; at most [`limits::REASON_BYTES_MAX`] bytes.
    #[n(2)]
    pub reason: String,
    #[n(3)]
    pub agent: Option<Name>,
}

impl GiveFeedback {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if !(-1.0..=1.0).contains(&self.score) {
            return Err(Invalid::Score { actual: self.score });
        }
        if self.reason.len() > limits::REASON_BYTES_MAX {
            return Err(Invalid::ReasonTooLong {
                actual: self.reason.len(),
            });
        }
        Ok(())
    }

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
        new.feedback.add(self.score);
        // What proves useful is remembered again.
        if self.score > 0.0 {
            new.archived = None;
        }
        new.version += 1;
        new.updated_at = context.now;
        let outcome = self.target.changed(key, &new);
        self.count_for_learner(tx, &old)?;
        let doing = Doing {
            what: What::Rated {
                score: self.score,
                reason: self.reason.clone(),
            },
            by: self.agent.clone(),
        };
        tx.change((&self.target.namespace, key), &old, new, doing, context)?;
        Ok(Ok(outcome))
    }

    /// What is said of a memory is said of whoever learned it, if someone else says so and gives a name.
    fn count_for_learner<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        memory: &Memory,
    ) -> Result<(), ReadError> {
        let (Some(learner), Some(by)) = (&memory.agent, &self.agent) else {
            return Ok(());
        };
        if learner == by {
            return Ok(());
        }
        let namespace = &self.target.namespace;
        let mut trust = state::trust(tx, namespace, learner)?;
        trust.add(self.score);
        tx.set_trust(namespace, learner, &trust)
    }
}
