//! `Stats`.

use memorygate_proto::v1;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    stats,
    wire::{read, write},
};

pub(super) async fn stats(
    backend: &Backend,
    request: Request<v1::StatsRequest>,
) -> Result<v1::StatsResponse, Error> {
    let deadline = super::deadline(&request);
    let answer = stats::stats(backend, read::stats(request.into_inner())?, deadline).await?;
    let namespaces = answer
        .namespaces
        .into_iter()
        .map(|(name, info)| v1::NamespaceStats {
            namespace: name.to_string(),
            memories: info.memories,
            archived: info.archived,
            by_domain: info
                .by_domain
                .iter()
                .map(|(d, n)| (d.to_string(), *n))
                .collect(),
        });
    Ok(v1::StatsResponse {
        position: Some(write::position(answer.position)),
        index_position: answer.index_position,
        state_hash: answer.digest.to_string(),
        clock: Some(write::time(answer.clock)),
        namespaces: namespaces.collect(),
        node_id: format!("{:016x}", backend.raft.identity().node_id),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        model: format!("{:016x}", backend.model.0),
        disk_full: backend.raft.storage_full().is_some(),
    })
}
