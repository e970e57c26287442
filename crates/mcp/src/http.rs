//! The protocol over streamable HTTP, for assistants that share one server.
//!
//! ```text
//! connection (bounded) ▶ path ▶ bearer token ▶ Host and Origin (rmcp) ▶ body (bounded) ▶ Server
//! ```
//!
//! Nothing is kept between two requests: no session has to be bounded or found again, and any number of
//! servers can stand behind one address. Answers are JSON; there is no stream to listen to, because the
//! server has nothing to say that it was not asked.

mod guard;

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

pub use self::guard::{Guard, Open, TOKEN_BYTES_MIN, Token, TokenError};
use crate::{MESSAGE_BYTES_MAX, Server};

/// Where the protocol is served.
pub const PATH: &str = "/mcp";

/// Connections that are open at the same time; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 256;

/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the body of a request may take to arrive, beside the time of its call.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long requests that are under way may take to end once the server is to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Wait after a connection could not be accepted, as when no more files can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Protocol = StreamableHttpService<Server, NeverSessionManager>;
type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Serves until `stop` is done, then lets what is under way end. A call on the cluster takes no longer
/// than `call_timeout`, as the server's client is set.
pub async fn serve(
    listener: TcpListener,
    server: Server,
    guard: Guard,
    call_timeout: Duration,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MESSAGE_BYTES_MAX)
        .with_allowed_hosts(guard.hosts().iter().cloned())
        .with_allowed_origins(guard.origins().iter().cloned())
        .enforce_origin_validation();
    config.sse_keep_alive = None;
    let protocol: Protocol =
        StreamableHttpService::new(move || Ok(server.clone()), Arc::default(), config);
    let door = Arc::new(Door {
        protocol,
        guard,
        request_timeout: call_timeout.saturating_add(BODY_TIMEOUT),
    });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = async {
            let place = place.await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => accepted,
        };
        // Those that ended are not kept.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (door, stopped) = (Arc::clone(&door), stopped.clone());
                connections.spawn(connection(stream, door, stopped, place));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    stopping.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What takes longer is cut off: its caller sees a broken connection.
    let _ = tokio::time::timeout(STOP_TIMEOUT, ended).await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    door: Arc<Door>,
    mut stopped: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stopping = async {
        // An error says that nobody is there any more who could stop the server: it has stopped.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    // A connection that breaks is its client's matter.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// What every request passes.
struct Door {
    protocol: Protocol,
    guard: Guard,
    request_timeout: Duration,
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() != PATH {
            let text = format!("not found: the Model Context Protocol is served at {PATH}\n");
            return plain(StatusCode::NOT_FOUND, text);
        }
        if !self.guard.lets_in(request.headers()) {
            let text = "unauthorized: send the server's token as \"Authorization: Bearer TOKEN\"\n";
            let mut answer = plain(StatusCode::UNAUTHORIZED, text.to_owned());
            answer.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer realm=\"memorygate\""),
            );
            return answer;
        }
        let answer = self.protocol.handle(request);
        match tokio::time::timeout(self.request_timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let most = self.request_timeout.as_secs();
                let text = format!("the request took longer than {most} s\n");
                plain(StatusCode::REQUEST_TIMEOUT, text)
            }
        }
    }
}

fn plain(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
