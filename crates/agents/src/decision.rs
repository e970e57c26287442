//! What an agent proposes, how sure it is, and why.

use memorygate_client::Key;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Decision {
    /// In the order in which to try them: one that was never tried may come before one that is known to be
    /// poor.
    pub proposals: Vec<Proposal>,
    /// True if nothing that is known speaks for the first one clearly enough: ask a person, and tell
    /// the agent what came of it.
    pub abstained: bool,
    /// Why, in a sentence for a person.
    pub explanation: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    pub action: String,
    /// The probability that it works, 0 to 1.
    pub confidence: f32,
    /// The same before it was held against the record in similar cases; kept with the case.
    pub weighed: f32,
    /// The past cases that it was weighed by, the most similar first.
    pub evidence: Vec<Key>,
}

impl Decision {
    /// The action to take: `None` if the agent does not know.
    pub fn chosen(&self) -> Option<&Proposal> {
        self.best().filter(|_| !self.abstained)
    }

    /// The action to try first, even where the agent does not know.
    pub fn best(&self) -> Option<&Proposal> {
        self.proposals.first()
    }
}
