//! `Get`.

use memorygate_proto::v1;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    get,
    wire::{read, write},
};

pub(super) async fn get(
    backend: &Backend,
    request: Request<v1::GetRequest>,
) -> Result<v1::GetResponse, Error> {
    let deadline = super::deadline(&request);
    let wanted = read::get(request.into_inner())?;
    let (namespace, key) = (wanted.namespace.clone(), wanted.key);
    let answer = get::get(backend, wanted, deadline).await?;
    Ok(v1::GetResponse {
        memory: Some(write::memory(&namespace, key, answer.memory, answer.model)),
        position: Some(write::position(answer.position)),
    })
}
