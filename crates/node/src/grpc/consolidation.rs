//! The service `memorygate.v1.Consolidation`: thin handlers, in files by what they are about.

mod conflicts;
mod epochs;
mod passes;
mod policies;
mod trust;

use std::sync::Arc;

use futures::stream::BoxStream;
use memorygate_proto::v1::{self, consolidation_server};
use tonic::{Request, Response, Status};

use super::{Api, status::Call};
use crate::backend::Backend;

#[derive(Clone)]
pub struct ConsolidationApi {
    api: Api,
}

impl ConsolidationApi {
    pub fn new(backend: Arc<Backend>) -> Self {
        Self {
            api: Api { backend },
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl consolidation_server::Consolidation for ConsolidationApi {
    type RunConsolidationStream = BoxStream<'static, Result<v1::RunConsolidationResponse, Status>>;

    async fn plan_consolidation(
        &self,
        request: Request<v1::PlanConsolidationRequest>,
    ) -> Answer<v1::PlanConsolidationResponse> {
        let planned = passes::plan(&self.api.backend, request).await;
        self.api.answer(Call::Reading, planned)
    }

    async fn run_consolidation(
        &self,
        request: Request<v1::RunConsolidationRequest>,
    ) -> Answer<Self::RunConsolidationStream> {
        let running = passes::run(&self.api, request);
        self.api.answer(Call::Mutating, running)
    }

    async fn list_epochs(
        &self,
        request: Request<v1::ListEpochsRequest>,
    ) -> Answer<v1::ListEpochsResponse> {
        let listed = epochs::list(&self.api.backend, request).await;
        self.api.answer(Call::Reading, listed)
    }

    async fn undo_epoch(
        &self,
        request: Request<v1::UndoEpochRequest>,
    ) -> Answer<v1::UndoEpochResponse> {
        let undone = epochs::undo(&self.api.backend, request).await;
        self.api.answer(Call::Mutating, undone)
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Answer<v1::GetPolicyResponse> {
        let policy = policies::get(&self.api.backend, request).await;
        self.api.answer(Call::Reading, policy)
    }

    async fn set_policy(
        &self,
        request: Request<v1::SetPolicyRequest>,
    ) -> Answer<v1::SetPolicyResponse> {
        let set = policies::set(&self.api.backend, request).await;
        self.api.answer(Call::Mutating, set)
    }

    async fn list_conflicts(
        &self,
        request: Request<v1::ListConflictsRequest>,
    ) -> Answer<v1::ListConflictsResponse> {
        let listed = conflicts::list(&self.api.backend, request).await;
        self.api.answer(Call::Reading, listed)
    }

    async fn resolve_conflict(
        &self,
        request: Request<v1::ResolveConflictRequest>,
    ) -> Answer<v1::MutationResponse> {
        let resolved = conflicts::resolve(&self.api.backend, request).await;
        self.api.answer(Call::Mutating, resolved)
    }

    async fn list_trust(
        &self,
        request: Request<v1::ListTrustRequest>,
    ) -> Answer<v1::ListTrustResponse> {
        let listed = trust::list(&self.api.backend, request).await;
        self.api.answer(Call::Reading, listed)
    }

    async fn set_trust(
        &self,
        request: Request<v1::SetTrustRequest>,
    ) -> Answer<v1::SetTrustResponse> {
        let set = trust::set(&self.api.backend, request).await;
        self.api.answer(Call::Mutating, set)
    }
}
