//! `ChangeMember`, `TransferLeader` and `Drain`.

use memorygate_proto::v1;
use tonic::Request;

use crate::{cluster::Cluster, error::Error, grpc::deadline, wire::read};

pub(super) async fn change_member(
    cluster: &Cluster,
    request: Request<v1::ChangeMemberRequest>,
) -> Result<v1::MembersResponse, Error> {
    let deadline = deadline(&request);
    let change = read::cluster::change(request.into_inner())?;
    cluster.change(change, deadline).await
}

pub(super) async fn transfer_leader(
    cluster: &Cluster,
    request: Request<v1::TransferLeaderRequest>,
) -> Result<v1::TransferLeaderResponse, Error> {
    let deadline = deadline(&request);
    let to = read::cluster::some_node_id("to", &request.into_inner().to)?;
    cluster.transfer(to, deadline).await
}

pub(super) async fn drain(
    cluster: &Cluster,
    request: Request<v1::DrainRequest>,
) -> Result<v1::DrainResponse, Error> {
    let deadline = deadline(&request);
    let v1::DrainRequest { node_id, resume } = request.into_inner();
    let node_id = read::cluster::some_node_id("node_id", &node_id)?;
    cluster.drain(node_id, resume, deadline).await
}
