//! `Feedback`.

use memorygate_core::command::Command;
use memorygate_proto::v1;
use tonic::Request;

use crate::{backend::Backend, error::Error, wire::read};

pub(super) async fn feedback(
    backend: &Backend,
    request: Request<v1::FeedbackRequest>,
) -> Result<v1::MutationResponse, Error> {
    super::mutate(backend, request, read::feedback, Command::Feedback).await
}
