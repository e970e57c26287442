//! `Learn`.

use memorygate_proto::v1;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    learn,
    wire::{read, write},
};

pub(super) async fn learn(
    backend: &Backend,
    request: Request<v1::LearnRequest>,
) -> Result<v1::LearnResponse, Error> {
    let deadline = super::deadline(&request);
    let batch = read::learn(request.into_inner(), backend.clock.now())?;
    let _write = backend.drain.admit()?;
    let answer = learn::learn(backend, batch, deadline).await?;
    Ok(v1::LearnResponse {
        learned: answer.learned.iter().map(write::learned).collect(),
        position: Some(write::position(answer.position)),
    })
}
