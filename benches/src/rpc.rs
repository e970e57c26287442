//! One unary gRPC call, the same lean way to whichever server is measured.

use std::time::Duration;

use anyhow::Context as _;
use prost::Message;
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// How long a connection may take to be made; both ends are on this machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A connection that is made when it is first used, and again whenever it broke.
pub(crate) fn connect(endpoint: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).context("read an endpoint")?;
    Ok(endpoint
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true)
        .connect_lazy())
}

/// Calls the method at `path`, such as `/etcdserverpb.KV/Put`.
pub(crate) async fn call<Q, R>(
    channel: &Channel,
    path: &'static str,
    request: Q,
) -> Result<R, Status>
where
    Q: Message + 'static,
    R: Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Q, R>::default();
    let path = PathAndQuery::from_static(path);
    let reply = grpc.unary(Request::new(request), path, codec).await?;
    Ok(reply.into_inner())
}
