//! How far agents are trusted, and an operator's word about one.

use memorygate_core::{limits::PAGE_MAX, memory::Invalid, name::Name, request::RequestId};
use memorygate_proto::v1;

use crate::{error::Violations, page, position::Position};

/// What is known of one agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentTrust {
    pub agent: String,
    /// 0 to 1; 0.5 is that in an agent of whom nothing is known.
    pub trust: f32,
    /// Ratings that others gave to its memories.
    pub ratings: u32,
    /// Sum of the positive ones.
    pub positive: f64,
    /// Sum of the negative ones' absolute values.
    pub negative: f64,
    /// An operator's word, if there is one: `trust` is this, then.
    pub set: Option<f32>,
}

/// Which agents to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTrust {
    /// 1 to 1000.
    pub page_size: usize,
    /// Where to go on: [`TrustPage::next`] of the page before; empty for the start.
    pub page_token: String,
}

impl Default for ListTrust {
    fn default() -> Self {
        Self {
            page_size: PAGE_MAX,
            page_token: String::new(),
        }
    }
}

impl ListTrust {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn page_size(mut self, size: usize) -> Self {
        self.page_size = size;
        self
    }

    #[must_use]
    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.page_token = token.into();
        self
    }

    pub(crate) fn check(&self) -> (Violations, Option<Name>) {
        let mut violations = page::check_size(self.page_size);
        let after = violations.check("page_token", Name::parse_optional(&self.page_token));
        (violations, after.flatten())
    }

    pub(super) fn to_wire(&self, namespace: String) -> v1::ListTrustRequest {
        v1::ListTrustRequest {
            namespace,
            page_size: page::size_to_wire(self.page_size),
            page_token: self.page_token.clone(),
        }
    }
}

/// One page of agents, in the order of their names.
#[derive(Clone, Debug, PartialEq)]
pub struct TrustPage {
    pub agents: Vec<AgentTrust>,
    /// `None` after the last page.
    pub next: Option<String>,
    pub position: Position,
}

impl TrustPage {
    pub(super) fn from_wire(wire: v1::ListTrustResponse) -> Result<Self, String> {
        let agents = wire.agents.into_iter().map(|agent| AgentTrust {
            agent: agent.agent,
            trust: agent.trust,
            ratings: agent.ratings,
            positive: agent.positive,
            negative: agent.negative,
            set: agent.set,
        });
        Ok(Self {
            agents: agents.collect(),
            next: page::next_from_wire(wire.next_page_token),
            position: Position::from_wire(wire.position)?,
        })
    }
}

/// Says how far an agent is trusted, whatever others find of its memories, or takes that back.
#[derive(Clone, Debug, PartialEq)]
pub struct SetTrust {
    pub agent: String,
    /// 0 (not at all) to 1; `None` takes the word back.
    pub trust: Option<f32>,
    /// Made by the client if unset. Set it to repeat a write whose outcome is unknown.
    pub request_id: Option<RequestId>,
}

impl SetTrust {
    pub fn to(agent: impl Into<String>, trust: f32) -> Self {
        Self {
            agent: agent.into(),
            trust: Some(trust),
            request_id: None,
        }
    }

    /// What others find of its memories counts again.
    pub fn clear(agent: impl Into<String>) -> Self {
        Self {
            trust: None,
            ..Self::to(agent, 0.0)
        }
    }

    #[must_use]
    pub fn request_id(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    pub(crate) fn check(&self) -> (Violations, Option<Name>) {
        let mut violations = Violations::default();
        let agent = violations.check("agent", Name::parse(&self.agent));
        if let Some(actual) = self.trust
            && !(0.0..=1.0).contains(&actual)
        {
            violations.add("trust", Invalid::Trust { actual });
        }
        (violations, agent)
    }

    pub(super) fn to_wire(&self, namespace: String, id: RequestId) -> v1::SetTrustRequest {
        v1::SetTrustRequest {
            request_id: id.to_string(),
            namespace,
            agent: self.agent.clone(),
            trust: self.trust,
        }
    }
}
