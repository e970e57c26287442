//! How openraft reaches other members. A lone voter has none, so every call says that.

use std::{future::Future, sync::Arc};

use openraft::{
    AnyError, RaftNetworkFactory, RaftNetworkV2,
    error::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
    },
};

use crate::{
    snapshots::SnapshotFiles,
    types::{Node, Snapshot, TypeConfig, Vote},
};

/// The network of a cluster of one.
pub(crate) struct Alone;

fn unreachable() -> Unreachable<TypeConfig> {
    Unreachable::new(&AnyError::error("this node has no connection to others"))
}

impl RaftNetworkFactory<TypeConfig> for Alone {
    type Network = Self;

    async fn new_client(&mut self, _target: u64, _node: &Node) -> Self {
        Self
    }
}

impl RaftNetworkV2<TypeConfig> for Alone {
    type SnapshotData = Arc<SnapshotFiles>;

    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(unreachable().into())
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(unreachable().into())
    }

    async fn pre_vote(
        &mut self,
        _request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(unreachable().into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn nobody_is_reached() {
        let mut network = Alone.new_client(1, &Node::default()).await;
        let option = || RPCOption::new(Duration::from_secs(1));
        let vote = Vote::new(1, 1);
        let ask = || VoteRequest::new(vote, None);
        let append = AppendEntriesRequest {
            vote,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        let appended = RaftNetworkV2::append_entries(&mut network, append, option()).await;
        let voted = RaftNetworkV2::vote(&mut network, ask(), option()).await;
        // A pre-vote that is not answered must not count as granted.
        let pre_voted = RaftNetworkV2::pre_vote(&mut network, ask(), option()).await;
        assert!(appended.is_err() && voted.is_err() && pre_voted.is_err());
    }
}
