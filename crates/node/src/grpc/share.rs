//! `Share`.

use memorygate_core::command::Command;
use memorygate_proto::v1;
use tonic::Request;

use crate::{backend::Backend, error::Error, wire::read};

pub(super) async fn share(
    backend: &Backend,
    request: Request<v1::ShareRequest>,
) -> Result<v1::ShareResponse, Error> {
    let shared = super::mutate(backend, request, read::share, Command::Share).await?;
    Ok(v1::ShareResponse {
        key: shared.key,
        version: shared.version,
        changed: shared.changed,
        position: shared.position,
    })
}
