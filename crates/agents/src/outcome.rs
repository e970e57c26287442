//! What came of a decision.

use memorygate_client::Verdict;

/// Told by whoever saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// What was seen, in a sentence; may be empty.
    pub observed: String,
    /// What would have been right, or was done instead, if anybody knows.
    pub right_action: Option<String>,
}

impl Outcome {
    pub fn succeeded(observed: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Success,
            observed: observed.into(),
            right_action: None,
        }
    }

    pub fn failed(observed: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failure,
            ..Self::succeeded(observed)
        }
    }

    /// Another action was right: that it is, is learned as a success of that one.
    #[must_use]
    pub fn right_was(mut self, action: impl Into<String>) -> Self {
        self.right_action = Some(action.into());
        self
    }
}
