//! `History`.

use memorygate_proto::v1;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    history,
    wire::{read, write},
};

pub(super) async fn history(
    backend: &Backend,
    request: Request<v1::HistoryRequest>,
) -> Result<v1::HistoryResponse, Error> {
    let deadline = super::deadline(&request);
    let wanted = read::history(request.into_inner())?;
    let answer = history::history(backend, wanted, deadline).await?;
    Ok(v1::HistoryResponse {
        complete: answer.lineage.is_complete,
        events: answer.lineage.told.into_iter().map(write::event).collect(),
        next_page_token: answer.next.map(history::token).unwrap_or_default(),
        position: Some(write::position(answer.position)),
    })
}
