//! How a namespace is consolidated, and how far.

use memorygate_core::{request::RequestId, time::TimeMs};
use memorygate_proto::v1;

pub use memorygate_core::consolidation::Policy;

use crate::{error::Violations, position::Position, time};

#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// As it was set.
    pub policy: Policy,
    /// With the server's defaults where nothing is set.
    pub effective: Policy,
    /// All that was learned up to this position was compared with what is near it.
    pub through: u64,
    /// When the last pass ended; `None` if none did.
    pub last_pass_at: Option<TimeMs>,
    /// Positions of the log since `through`, of whatever they are: also those of other namespaces, and those
    /// that the pass itself wrote, so that it is above 0 right after one that changed something.
    pub behind: u64,
    pub position: Position,
}

/// Sets all of a namespace's policy.
#[derive(Clone, Debug, PartialEq)]
pub struct SetPolicy {
    pub policy: Policy,
    /// Made by the client if unset. Set it to repeat a write whose outcome is unknown.
    pub request_id: Option<RequestId>,
}

impl SetPolicy {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            request_id: None,
        }
    }

    #[must_use]
    pub fn request_id(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    pub(crate) fn check(&self) -> Violations {
        let mut violations = Violations::default();
        violations.check("policy", self.policy.check());
        violations
    }

    pub(super) fn to_wire(&self, namespace: String, id: RequestId) -> v1::SetPolicyRequest {
        let Policy {
            paused,
            merge_from,
            fade_below,
            keep_days,
        } = self.policy;
        v1::SetPolicyRequest {
            request_id: id.to_string(),
            namespace,
            policy: Some(v1::ConsolidationPolicy {
                paused,
                merge_from,
                fade_below,
                keep_days,
            }),
        }
    }
}

impl From<Policy> for SetPolicy {
    fn from(policy: Policy) -> Self {
        Self::new(policy)
    }
}

impl Status {
    pub(super) fn from_wire(wire: v1::GetPolicyResponse) -> Result<Self, String> {
        let last_pass_at = wire.last_pass_at.map(time::from_wire).transpose();
        Ok(Self {
            policy: policy(wire.policy)?,
            effective: policy(wire.effective)?,
            through: wire.through,
            last_pass_at: last_pass_at.map_err(|e| format!("last_pass_at: {e}"))?,
            behind: wire.behind,
            position: Position::from_wire(wire.position)?,
        })
    }
}

fn policy(wire: Option<v1::ConsolidationPolicy>) -> Result<Policy, String> {
    let wire = wire.ok_or("policy is missing")?;
    Ok(Policy {
        paused: wire.paused,
        merge_from: wire.merge_from,
        fade_below: wire.fade_below,
        keep_days: wire.keep_days,
    })
}
