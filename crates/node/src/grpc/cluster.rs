//! The service `memorygate.v1.Cluster`: thin handlers over [`Cluster`], one file for each group of
//! calls.

mod alarms;
mod members;
mod operations;
mod snapshots;
mod verify;

use std::sync::Arc;

use futures::stream::BoxStream;
use memorygate_proto::v1::{self, cluster_server};
use tonic::{Request, Response, Status};

use super::{deadline, status, status::Call};
use crate::{cluster::Cluster, error::Error};

#[derive(Clone)]
pub struct ClusterApi {
    pub cluster: Arc<Cluster>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl cluster_server::Cluster for ClusterApi {
    type SaveSnapshotStream = BoxStream<'static, Result<v1::SaveSnapshotResponse, Status>>;

    async fn members(&self, _: Request<v1::MembersRequest>) -> Answer<v1::MembersResponse> {
        Ok(Response::new(members::members(&self.cluster)))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let deadline = deadline(&request);
        answer(
            Call::Reading,
            members::status(&self.cluster, deadline).await,
        )
    }

    async fn change_member(
        &self,
        request: Request<v1::ChangeMemberRequest>,
    ) -> Answer<v1::MembersResponse> {
        let changed = operations::change_member(&self.cluster, request).await;
        answer(Call::Mutating, changed)
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Answer<v1::TransferLeaderResponse> {
        let transferred = operations::transfer_leader(&self.cluster, request).await;
        answer(Call::Mutating, transferred)
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answer<v1::DrainResponse> {
        answer(
            Call::Mutating,
            operations::drain(&self.cluster, request).await,
        )
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Answer<v1::VerifyResponse> {
        answer(Call::Reading, verify::verify(&self.cluster, request).await)
    }

    async fn list_alarms(
        &self,
        _: Request<v1::ListAlarmsRequest>,
    ) -> Answer<v1::ListAlarmsResponse> {
        Ok(Response::new(alarms::list(&self.cluster)))
    }

    async fn clear_alarms(
        &self,
        request: Request<v1::ClearAlarmsRequest>,
    ) -> Answer<v1::ClearAlarmsResponse> {
        answer(Call::Mutating, alarms::clear(&self.cluster, request).await)
    }

    async fn create_snapshot(
        &self,
        request: Request<v1::CreateSnapshotRequest>,
    ) -> Answer<v1::CreateSnapshotResponse> {
        snapshots::create(&self.cluster, request).await
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Answer<v1::ListSnapshotsResponse> {
        snapshots::list(&self.cluster, request).await
    }

    async fn save_snapshot(
        &self,
        request: Request<v1::SaveSnapshotRequest>,
    ) -> Answer<Self::SaveSnapshotStream> {
        snapshots::save(&self.cluster, request).await
    }

    async fn verify_snapshot(
        &self,
        request: Request<v1::VerifySnapshotRequest>,
    ) -> Answer<v1::VerifySnapshotResponse> {
        snapshots::verify(&self.cluster, request).await
    }
}

fn answer<T>(call: Call, result: Result<T, Error>) -> Answer<T> {
    result
        .map(Response::new)
        .map_err(|error| status::of(&error, call))
}
