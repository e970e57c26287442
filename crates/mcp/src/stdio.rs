//! The protocol over standard input and output, as an assistant that starts the server itself speaks
//! it. Nothing else may be written to standard output.

use rmcp::{
    ServiceExt as _,
    service::ServerInitializeError,
    transport::{async_rw::AsyncRwTransport, stdio_pipes},
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{MESSAGE_BYTES_MAX, Server};

/// Why the protocol ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the client does not speak the Model Context Protocol: {0}")]
    Greeting(Box<ServerInitializeError>),
    #[error("a task of the server failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Serves one client over standard input and output until it closes its end.
pub async fn serve(server: Server) -> Result<(), Error> {
    let (read, write) = stdio_pipes();
    Box::pin(serve_over(server, read, write)).await
}

/// The same over any pair of streams.
pub async fn serve_over<R, W>(server: Server, read: R, write: W) -> Result<(), Error>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let transport =
        AsyncRwTransport::new_server(read, write).with_max_line_length(MESSAGE_BYTES_MAX);
    let running = match server.serve(transport).await {
        Ok(running) => running,
        // A client that leaves before it said anything wanted nothing.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(Error::Greeting(Box::new(error))),
    };
    running.waiting().await?;
    Ok(())
}
