//! `Restore`.

use memorygate_core::command::Command;
use memorygate_proto::v1;
use tonic::Request;

use crate::{backend::Backend, error::Error, wire::read};

pub(super) async fn restore(
    backend: &Backend,
    request: Request<v1::RestoreRequest>,
) -> Result<v1::MutationResponse, Error> {
    super::mutate(backend, request, read::restore, Command::Restore).await
}
