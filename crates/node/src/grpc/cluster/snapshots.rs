//! `CreateSnapshot`, `ListSnapshots`, `SaveSnapshot` and `VerifySnapshot`.

use futures::stream::BoxStream;
use memorygate_proto::v1;
use tonic::{Request, Response, Status};

use crate::cluster::Cluster;

type Answer<T> = Result<Response<T>, Status>;

pub(super) fn create(
    _cluster: &Cluster,
    _request: &Request<v1::CreateSnapshotRequest>,
) -> Answer<v1::CreateSnapshotResponse> {
    Err(Status::unimplemented("CreateSnapshot is not served yet"))
}

pub(super) fn list(
    _cluster: &Cluster,
    _request: &Request<v1::ListSnapshotsRequest>,
) -> Answer<v1::ListSnapshotsResponse> {
    Err(Status::unimplemented("ListSnapshots is not served yet"))
}

pub(super) fn save(
    _cluster: &Cluster,
    _request: &Request<v1::SaveSnapshotRequest>,
) -> Answer<BoxStream<'static, Result<v1::SaveSnapshotResponse, Status>>> {
    Err(Status::unimplemented("SaveSnapshot is not served yet"))
}

pub(super) fn verify(
    _cluster: &Cluster,
    _request: &Request<v1::VerifySnapshotRequest>,
) -> Answer<v1::VerifySnapshotResponse> {
    Err(Status::unimplemented("VerifySnapshot is not served yet"))
}
