//! The gRPC server: thin handlers, one file each, over [`Backend`].
//!
//! A handler converts the request ([`crate::wire::read`]), calls the module that does the work, and
//! converts the answer ([`crate::wire::write`]). It decides nothing.

pub mod cluster;
pub mod consolidation;
mod feedback;
mod forget;
mod get;
pub mod guard;
mod history;
mod learn;
mod learn_stream;
mod link;
mod list;
mod recall;
mod restore;
mod share;
mod stats;
pub mod status;
mod update;

use std::sync::Arc;

use memorygate_core::command::Command;
use memorygate_proto::v1::{self, memory_gate_server::MemoryGate};
use tonic::{Request, Response, Status, Streaming};

use self::status::Call;
use crate::{
    backend::Backend,
    deadline::Deadline,
    error::{Error, Violation},
    mutate::{self, Mutation},
    wire::write,
};

/// The service `memorygate.v1.MemoryGate`.
#[derive(Clone)]
pub struct Api {
    pub backend: Arc<Backend>,
}

#[tonic::async_trait]
impl MemoryGate for Api {
    async fn learn(
        &self,
        request: Request<v1::LearnRequest>,
    ) -> Result<Response<v1::LearnResponse>, Status> {
        self.answer(Call::Mutating, learn::learn(&self.backend, request).await)
    }

    async fn learn_stream(
        &self,
        request: Request<Streaming<v1::LearnRequest>>,
    ) -> Result<Response<v1::LearnStreamResponse>, Status> {
        learn_stream::learn_stream(self, request)
            .await
            .map(Response::new)
    }

    async fn recall(
        &self,
        request: Request<v1::RecallRequest>,
    ) -> Result<Response<v1::RecallResponse>, Status> {
        self.answer(Call::Reading, recall::recall(&self.backend, request).await)
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        self.answer(Call::Reading, get::get(&self.backend, request).await)
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        self.answer(Call::Reading, list::list(&self.backend, request).await)
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        self.answer(
            Call::Reading,
            history::history(&self.backend, request).await,
        )
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        self.answer(Call::Mutating, update::update(&self.backend, request).await)
    }

    async fn feedback(
        &self,
        request: Request<v1::FeedbackRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        self.answer(
            Call::Mutating,
            feedback::feedback(&self.backend, request).await,
        )
    }

    async fn forget(
        &self,
        request: Request<v1::ForgetRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        self.answer(Call::Mutating, forget::forget(&self.backend, request).await)
    }

    async fn link(
        &self,
        request: Request<v1::LinkRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        self.answer(Call::Mutating, link::link(&self.backend, request).await)
    }

    async fn share(
        &self,
        request: Request<v1::ShareRequest>,
    ) -> Result<Response<v1::ShareResponse>, Status> {
        self.answer(Call::Mutating, share::share(&self.backend, request).await)
    }

    async fn restore(
        &self,
        request: Request<v1::RestoreRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        self.answer(
            Call::Mutating,
            restore::restore(&self.backend, request).await,
        )
    }

    async fn stats(
        &self,
        request: Request<v1::StatsRequest>,
    ) -> Result<Response<v1::StatsResponse>, Status> {
        self.answer(Call::Reading, stats::stats(&self.backend, request).await)
    }
}

impl Api {
    fn answer<T>(&self, call: Call, result: Result<T, Error>) -> Result<Response<T>, Status> {
        result
            .map(Response::new)
            .map_err(|error| self.status(call, &error))
    }

    fn status(&self, call: Call, error: &Error) -> Status {
        if let Error::Storage(reason) = error {
            self.backend.storage_failed(reason);
        }
        status::of(error, call)
    }
}

/// The deadline that the guard set.
fn deadline<T>(request: &Request<T>) -> Deadline {
    request
        .extensions()
        .get()
        .copied()
        .unwrap_or_else(|| Deadline::after(None))
}

/// The four calls that change one memory differ in their conversion alone.
async fn mutate<M, C>(
    backend: &Backend,
    request: Request<M>,
    read: impl FnOnce(M) -> Result<Mutation<C>, Violation>,
    command: impl FnOnce(C) -> Command,
) -> Result<v1::MutationResponse, Error> {
    let deadline = deadline(&request);
    let mutation = read(request.into_inner())?.map(command);
    let _write = backend.drain.admit()?;
    let answer = mutate::mutate(backend, mutation, deadline).await?;
    Ok(v1::MutationResponse {
        key: answer.key.to_string(),
        version: answer.version,
        changed: answer.changed,
        position: Some(write::position(answer.position)),
    })
}
