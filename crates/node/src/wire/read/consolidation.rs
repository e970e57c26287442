//! What the requests of the service `Consolidation` mean.

use memorygate_core::{
    apply::Target,
    command::{ResolveConflict, SetTrust},
    consolidation::Policy,
    key::Key,
    limits, memory,
    name::{Name, Namespace},
    request::RequestId,
    scope::Reader,
};
use memorygate_proto::v1;

use super::{key, limit, request_id};
use crate::{error::Violation, mutate::Mutation};

/// Steps of a plan that are shown where nothing is said.
const STEPS_DEFAULT: usize = 100;

/// Epochs that are shown where nothing is said.
const EPOCHS_DEFAULT: usize = 20;

pub struct Plan {
    pub namespace: Namespace,
    pub everything: bool,
    pub limit: usize,
}

pub fn plan(request: &v1::PlanConsolidationRequest) -> Result<Plan, Violation> {
    Ok(Plan {
        namespace: namespace(&request.namespace)?,
        everything: request.everything,
        limit: limit("limit", request.limit, STEPS_DEFAULT, limits::PAGE_MAX)?,
    })
}

pub struct Run {
    pub namespace: Namespace,
    pub everything: bool,
}

pub fn run(request: &v1::RunConsolidationRequest) -> Result<Run, Violation> {
    Ok(Run {
        namespace: namespace(&request.namespace)?,
        everything: request.everything,
    })
}

pub struct Epochs {
    pub namespace: Namespace,
    pub before: u64,
    pub limit: usize,
}

pub fn epochs(request: &v1::ListEpochsRequest) -> Result<Epochs, Violation> {
    Ok(Epochs {
        namespace: namespace(&request.namespace)?,
        before: match request.before {
            0 => u64::MAX,
            before => before,
        },
        limit: limit("limit", request.limit, EPOCHS_DEFAULT, limits::PAGE_MAX)?,
    })
}

pub fn undo(
    request: &v1::UndoEpochRequest,
) -> Result<(Option<RequestId>, Namespace, u64), Violation> {
    if request.id == 0 {
        let reason = "is 0, expected the position of an epoch: list them to find it";
        return Err(Violation::at("id", reason));
    }
    Ok((
        request_id(&request.request_id)?,
        namespace(&request.namespace)?,
        request.id,
    ))
}

pub fn set_policy(
    request: v1::SetPolicyRequest,
) -> Result<(Option<RequestId>, Namespace, Policy), Violation> {
    let policy = request
        .policy
        .ok_or_else(|| Violation::at("policy", "is not set"))?;
    let policy = Policy {
        paused: policy.paused,
        merge_from: policy.merge_from,
        fade_below: policy.fade_below,
        keep_days: policy.keep_days,
    };
    policy.check().map_err(|e| Violation::at("policy", e))?;
    Ok((
        request_id(&request.request_id)?,
        namespace(&request.namespace)?,
        policy,
    ))
}

pub struct Conflicts {
    pub namespace: Namespace,
    pub resolved: bool,
    pub size: usize,
    pub after: Option<(Key, Key)>,
}

pub fn conflicts(request: &v1::ListConflictsRequest) -> Result<Conflicts, Violation> {
    let after = match request.page_token.as_str() {
        "" => None,
        token => {
            let (a, b) = token
                .split_once('-')
                .ok_or_else(|| Violation::at("page_token", "is not from the answer before"))?;
            Some((key("page_token", a)?, key("page_token", b)?))
        }
    };
    Ok(Conflicts {
        namespace: namespace(&request.namespace)?,
        resolved: request.resolved,
        size: limit("page_size", request.page_size, 100, limits::PAGE_MAX)?,
        after,
    })
}

pub struct Trusts {
    pub namespace: Namespace,
    pub size: usize,
    pub after: Option<Name>,
}

pub fn trusts(request: &v1::ListTrustRequest) -> Result<Trusts, Violation> {
    let after = Name::parse_optional(&request.page_token);
    Ok(Trusts {
        namespace: namespace(&request.namespace)?,
        size: limit("page_size", request.page_size, 100, limits::PAGE_MAX)?,
        after: after.map_err(|e| Violation::at("page_token", e))?,
    })
}

pub fn set_trust(request: &v1::SetTrustRequest) -> Result<Mutation<SetTrust>, Violation> {
    if let Some(actual) = request.trust
        && !(0.0..=1.0).contains(&actual)
    {
        return Err(Violation::at("trust", memory::Invalid::Trust { actual }));
    }
    Ok(Mutation {
        request: request_id(&request.request_id)?,
        command: SetTrust {
            namespace: namespace(&request.namespace)?,
            agent: Name::parse(&request.agent).map_err(|e| Violation::at("agent", e))?,
            trust: request.trust,
        },
    })
}

pub fn resolve_conflict(
    request: v1::ResolveConflictRequest,
) -> Result<Mutation<ResolveConflict>, Violation> {
    Ok(Mutation {
        request: request_id(&request.request_id)?,
        command: ResolveConflict {
            target: Target {
                namespace: namespace(&request.namespace)?,
                key: key("key", &request.key)?,
                reader: Reader::operator(),
            },
            other: key("other", &request.other)?,
            both_hold: request.both_hold,
        },
    })
}

/// `default` if empty.
pub fn namespace(name: &str) -> Result<Namespace, Violation> {
    super::namespace(name)
}
