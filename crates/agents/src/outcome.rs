//! What came of a decision.

use memorygate_client::Verdict;

/// Told by whoever saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// What was seen, in a sentence; may be empty.
    pub observed: String,
    /// What was done; the likeliest proposal if unset.
    pub done: Option<String>,
    /// What would have been right, if anybody knows.
    pub right_action: Option<String>,
}

impl Outcome {
    pub fn succeeded(observed: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Success,
            observed: observed.into(),
            done: None,
            right_action: None,
        }
    }

    pub fn failed(observed: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failure,
            ..Self::succeeded(observed)
        }
    }

    /// This was done, whatever was proposed.
    #[must_use]
    pub fn by(mut self, action: impl Into<String>) -> Self {
        self.done = Some(action.into());
        self
    }

    /// Another action was right: that it is, is learned as a success of that one.
    #[must_use]
    pub fn right_was(mut self, action: impl Into<String>) -> Self {
        self.right_action = Some(action.into());
        self
    }
}
