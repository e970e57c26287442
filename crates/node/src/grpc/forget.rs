//! `Forget`.

use memorygate_core::command::Command;
use memorygate_proto::v1;
use tonic::Request;

use crate::{backend::Backend, error::Error, wire::read};

pub(super) async fn forget(
    backend: &Backend,
    request: Request<v1::ForgetRequest>,
) -> Result<v1::MutationResponse, Error> {
    super::mutate(backend, request, read::forget, Command::Forget).await
}
