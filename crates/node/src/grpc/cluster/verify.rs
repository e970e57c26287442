//! `Verify`.

use memorygate_proto::v1;
use tonic::Request;

use crate::{cluster::Cluster, error::Error, grpc::deadline};

pub(super) async fn verify(
    cluster: &Cluster,
    request: Request<v1::VerifyRequest>,
) -> Result<v1::VerifyResponse, Error> {
    cluster.verify(deadline(&request)).await
}
