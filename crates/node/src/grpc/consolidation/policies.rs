//! `GetPolicy` and `SetPolicy`.

use memorygate_core::{
    apply::Outcome as Done,
    command::{Command, SetPolicy},
    consolidation::Policy,
    state::{self, Progress},
};
use memorygate_proto::v1;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    grpc::deadline,
    wire::{read, write},
};

pub(super) async fn get(
    backend: &Backend,
    request: Request<v1::GetPolicyRequest>,
) -> Result<v1::GetPolicyResponse, Error> {
    let deadline = deadline(&request);
    let namespace = read::consolidation::namespace(&request.get_ref().namespace)?;
    let snapshot = backend.raft.state().snapshot();
    let position = snapshot.position();
    let look = move || -> Result<_, Error> {
        let policy = state::policy(&*snapshot, &namespace)?;
        Ok((policy, state::progress(&*snapshot, &namespace)?))
    };
    let (policy, progress) = backend.reads.run(deadline, look).await??;
    let effective = Policy {
        paused: policy.paused,
        merge_from: Some(policy.merge_from()),
        fade_below: Some(policy.fade_below()),
        keep_days: Some(policy.keep_days()),
    };
    Ok(v1::GetPolicyResponse {
        policy: Some(write_policy(&policy)),
        effective: Some(write_policy(&effective)),
        through: progress.through,
        last_pass_at: (progress != Progress::default()).then(|| write::time(progress.at)),
        behind: position.saturating_sub(progress.through),
        position: Some(write::position(backend.position(position))),
    })
}

fn write_policy(policy: &Policy) -> v1::ConsolidationPolicy {
    v1::ConsolidationPolicy {
        paused: policy.paused,
        merge_from: policy.merge_from,
        fade_below: policy.fade_below,
        keep_days: policy.keep_days,
    }
}

pub(super) async fn set(
    backend: &Backend,
    request: Request<v1::SetPolicyRequest>,
) -> Result<v1::SetPolicyResponse, Error> {
    let deadline = deadline(&request);
    let (request, namespace, policy) = read::consolidation::set_policy(request.into_inner())?;
    let _write = backend.drain.admit()?;
    let command = Command::SetPolicy(SetPolicy { namespace, policy });
    match backend.propose(command, request, deadline).await? {
        (Done::PolicySet, position) => Ok(v1::SetPolicyResponse {
            position: Some(write::position(position)),
        }),
        _ => Err(Error::other_call()),
    }
}
