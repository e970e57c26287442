//! `Update`.

use memorygate_core::command::Command;
use memorygate_proto::v1;
use tonic::Request;

use crate::{backend::Backend, error::Error, wire::read};

pub(super) async fn update(
    backend: &Backend,
    request: Request<v1::UpdateRequest>,
) -> Result<v1::MutationResponse, Error> {
    super::mutate(backend, request, read::update, Command::Update).await
}
