//! `ListTrust` and `SetTrust`.

use memorygate_core::{apply::Outcome as Done, command::Command, name::Name, state, trust::Trust};
use memorygate_proto::v1;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    grpc::deadline,
    mutate::Mutation,
    wire::{read, write},
};

pub(super) async fn list(
    backend: &Backend,
    request: Request<v1::ListTrustRequest>,
) -> Result<v1::ListTrustResponse, Error> {
    let deadline = deadline(&request);
    let page = read::consolidation::trusts(request.get_ref())?;
    let snapshot = backend.raft.state().snapshot();
    let position = backend.position(snapshot.position());
    // One more, to know whether that is all.
    let look = move || -> Result<_, Error> {
        let after = page.after.as_ref();
        let known = state::trusts(&*snapshot, &page.namespace, after, page.size + 1)?;
        Ok((known, page.size))
    };
    let (mut known, size) = backend.reads.run(deadline, look).await??;
    let is_last = known.len() <= size;
    known.truncate(size);
    let next = known.last().filter(|_| !is_last);
    Ok(v1::ListTrustResponse {
        next_page_token: next.map(|(agent, _)| agent.to_string()).unwrap_or_default(),
        agents: known.iter().map(agent_trust).collect(),
        position: Some(write::position(position)),
    })
}

fn agent_trust((agent, trust): &(Name, Trust)) -> v1::AgentTrust {
    v1::AgentTrust {
        agent: agent.to_string(),
        trust: trust.value(),
        ratings: trust.count,
        positive: trust.positive,
        negative: trust.negative,
        set: trust.set,
    }
}

pub(super) async fn set(
    backend: &Backend,
    request: Request<v1::SetTrustRequest>,
) -> Result<v1::SetTrustResponse, Error> {
    let deadline = deadline(&request);
    let Mutation { request, command } = read::consolidation::set_trust(request.get_ref())?;
    let _write = backend.drain.admit()?;
    let command = Command::SetTrust(command);
    match backend.propose(command, request, deadline).await? {
        (Done::TrustSet, position) => Ok(v1::SetTrustResponse {
            position: Some(write::position(position)),
        }),
        _ => Err(Error::other_call()),
    }
}
