//! Feedback: say how useful a memory was.

use memorygate_core::{
    key::Key, limits::REASON_BYTES_MAX, memory::Invalid, name::Name, request::RequestId,
};
use memorygate_proto::v1;

use crate::{
    error::Violations,
    mutation::{Target, target_methods},
    scope::Reader,
};

#[derive(Clone, Debug, PartialEq)]
pub struct GiveFeedback {
    pub target: Target,
    /// -1 (misled) to 1 (solved it).
    pub score: f32,
    /// At most 1 KiB.
    pub reason: String,
    /// Who gives it; the reader's agent if unset.
    pub agent: Option<String>,
}

target_methods!(GiveFeedback);

impl GiveFeedback {
    pub fn new(key: Key, score: f32) -> Self {
        Self {
            target: Target::new(key),
            score,
            reason: String::new(),
            agent: None,
        }
    }

    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    #[must_use]
    pub fn agent(mut self, name: impl Into<String>) -> Self {
        self.agent = Some(name.into());
        self
    }

    pub(crate) fn check(&self) -> Violations {
        let mut violations = Violations::default();
        if !(-1.0..=1.0).contains(&self.score) {
            let actual = self.score;
            violations.add("score", Invalid::Score { actual });
        }
        if self.reason.len() > REASON_BYTES_MAX {
            let actual = self.reason.len();
            violations.add("reason", Invalid::ReasonTooLong { actual });
        }
        if let Some(agent) = &self.agent {
            violations.check("agent", Name::parse(agent));
        }
        violations
    }

    pub(crate) fn to_wire(
        &self,
        namespace: &str,
        reader: &Reader,
        id: RequestId,
    ) -> v1::FeedbackRequest {
        let agent = self.agent.as_ref().or(reader.agent.as_ref());
        v1::FeedbackRequest {
            request_id: id.to_string(),
            namespace: namespace.to_owned(),
            key: self.target.key.to_string(),
            reader: Some(reader.to_wire()),
            score: self.score,
            reason: self.reason.clone(),
            agent: agent.cloned().unwrap_or_default(),
        }
    }
}
