//! `Recall`.

use memorygate_proto::v1;
use prost::Message as _;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    recall,
    wire::{read, write},
};

pub(super) async fn recall(
    backend: &Backend,
    request: Request<v1::RecallRequest>,
) -> Result<v1::RecallResponse, Error> {
    let deadline = super::deadline(&request);
    let query = read::recall(request.into_inner(), &backend.ranking)?;
    let answer = recall::recall(backend, query, deadline).await?;
    let results = answer.results.into_iter().map(|found| v1::Recalled {
        memory: Some(write::memory(
            &found.namespace,
            found.key,
            found.memory,
            found.model,
        )),
        score: found.score as f32,
        parts: Some(write::parts(&found.parts, &found.raw)),
        folded: found.folded.iter().map(ToString::to_string).collect(),
        linked_from: found.linked_from.as_ref().map(write::link),
    });
    let response = v1::RecallResponse {
        results: results.collect(),
        position: Some(write::position(answer.position)),
    };
    let (actual, max) = (response.encoded_len(), backend.message_bytes_max);
    if actual > max {
        return Err(Error::AnswerTooLarge { actual, max });
    }
    Ok(response)
}
