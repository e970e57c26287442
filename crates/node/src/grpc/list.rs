//! `List`.

use memorygate_proto::v1;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    list,
    wire::{read, write},
};

pub(super) async fn list(
    backend: &Backend,
    request: Request<v1::ListRequest>,
) -> Result<v1::ListResponse, Error> {
    let deadline = super::deadline(&request);
    let page = read::list(request.into_inner())?;
    let namespace = page.namespace.clone();
    let answer = list::list(backend, page, deadline).await?;
    let memories = answer.memories.into_iter();
    Ok(v1::ListResponse {
        memories: memories
            .map(|(k, m, model)| write::memory(&namespace, k, m, model))
            .collect(),
        next_page_token: answer
            .next
            .map(|token| token.to_string())
            .unwrap_or_default(),
        position: Some(write::position(answer.position)),
    })
}
