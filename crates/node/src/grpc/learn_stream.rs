//! `LearnStream`: batches committed as they arrive, one answer at the end.
//!
//! What was committed before a stream breaks stays. The error names the batch that failed, so that
//! the caller knows how far it came. A stream is let in as a whole.

use std::sync::Arc;

use memorygate_proto::v1;
use tonic::{Request, Status, Streaming};

use super::{Api, guard::Held, status::Call};
use crate::{
    backend::Backend,
    deadline::Deadline,
    error::{Error, Outcome},
    learn,
    wire::{read, write},
};

pub(super) async fn learn_stream(
    api: &Api,
    request: Request<Streaming<v1::LearnRequest>>,
) -> Result<v1::LearnStreamResponse, Status> {
    let deadline: Option<Deadline> = request
        .metadata()
        .contains_key("grpc-timeout")
        .then(|| super::deadline(&request));
    let backend = &*api.backend;
    let at = |error: &Error, committed: u64| {
        let status = api.status(Call::Mutating, error);
        at(&status, committed)
    };
    // A stream that was taken is finished; a drained node waits for it as long as the grace lasts.
    let _write = backend.drain.admit().map_err(|e| at(&e, 0))?;
    let held = request.extensions().get::<Arc<Held>>().cloned();
    let mut batches = request.into_inner();
    let mut answer = v1::LearnStreamResponse::default();
    loop {
        // A stream without a deadline may take as long as it likes, each batch of it may not.
        let per_batch = deadline.unwrap_or_else(|| Deadline::after(None));
        let waiting = "waiting for the next batch of the stream";
        let next = match deadline {
            Some(deadline) => deadline
                .limit(waiting, Outcome::Failed, batches.message())
                .await
                .map_err(|e| at(&e, answer.batches))?,
            None => batches.message().await,
        };
        let Some(request) = next? else {
            return Ok(answer);
        };
        let learned = learn(backend, request, per_batch)
            .await
            .map_err(|e| at(&e, answer.batches))?;
        answer.batches += 1;
        for one in learned.learned {
            if one.created {
                answer.created += 1;
            } else {
                answer.reinforced += 1;
            }
        }
        answer.position = Some(write::position(learned.position));
        if let Some(held) = &held {
            held.release();
        }
    }
}

async fn learn(
    backend: &Backend,
    request: v1::LearnRequest,
    deadline: Deadline,
) -> Result<learn::Answer, Error> {
    let batch = read::learn(request, backend.clock.now())?;
    learn::learn(backend, batch, deadline).await
}

/// A batch's failure; the message says how many were committed before.
fn at(status: &Status, committed: u64) -> Status {
    let message = format!("batch {committed} of the stream: {}", status.message());
    Status::with_details(status.code(), message, status.details().to_vec().into())
}
