//! A server under test, and short ways to ask it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use memorygate_core::{embedding::Embedder, format::Formats, time::TimeMs};
use memorygate_index::embed::stub::Stub;
use memorygate_node::{node::Node, settings::Settings};
use memorygate_proto::v1::{
    self, Experience, LearnRequest, LearnResponse, Reader, RecallRequest, RecallResponse,
    memory_gate_client::MemoryGateClient,
};
use memorygate_raft::FreeSpace;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status, transport::Channel};
use tonic_types::{ErrorDetails, StatusExt as _};

pub type Client = MemoryGateClient<Channel>;

/// 2025-06-01T00:00:00Z.
pub const NOW_MS: i64 = 1_748_736_000_000;

/// A clock that stands where a test puts it.
#[derive(Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    pub fn at(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms)))
    }

    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

/// A disk with as much room as a test says.
#[derive(Clone)]
pub struct Disk(pub Arc<AtomicU64>);

impl Disk {
    pub fn empty() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl FreeSpace for Disk {
    fn free_bytes(&self, _: &Path) -> std::io::Result<u64> {
        Ok(self.0.load(Ordering::SeqCst))
    }
}

/// What a server is started with.
pub struct Start {
    pub settings: Settings,
    pub clock: Clock,
    pub embedder: Arc<dyn Embedder>,
    pub disk: Disk,
    /// Those that the program reads.
    pub formats: Formats,
    /// Variables.
    pub environment: Vec<(String, String)>,
}

impl Start {
    pub fn new(dir: &Path) -> Self {
        let mut settings = Settings::default();
        settings.data.dir = dir.to_owned();
        settings.server.grpc_address = "127.0.0.1:0".parse().unwrap();
        settings.server.http_address = "127.0.0.1:0".parse().unwrap();
        settings.server.shutdown_grace_ms = 5_000;
        // Nothing is written that the test does not write.
        settings.consolidation.interval_s = 0;
        settings.consolidation.uses_interval_s = 0;
        settings.raft.block_cache_bytes = 8 << 20;
        settings.raft.write_buffer_bytes = 8 << 20;
        Self {
            settings,
            clock: Clock::at(NOW_MS),
            embedder: Arc::new(Stub),
            disk: Disk::empty(),
            formats: Formats::OWN,
            environment: Vec::new(),
        }
    }

    pub async fn node(self) -> anyhow::Result<Node> {
        let Self {
            settings,
            clock,
            embedder,
            disk,
            formats,
            environment,
        } = self;
        let now = move || TimeMs(clock.0.load(Ordering::SeqCst));
        let (clock, disk) = (Arc::new(now), Arc::new(disk));
        Node::start_with(settings, embedder, clock, disk, formats, environment).await
    }
}

/// A running server with a client.
pub struct Server {
    pub node: Node,
    pub client: Client,
    pub clock: Clock,
    pub disk: Disk,
    pub dir: PathBuf,
    /// Removed when the server is dropped, if it is the server's own.
    _own: Option<TempDir>,
}

impl Server {
    /// On an empty directory of its own.
    pub async fn start() -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut server = Self::with(Start::new(&own.path().join("data"))).await;
        server._own = Some(own);
        server
    }

    pub async fn on(dir: &Path) -> Self {
        Self::with(Start::new(dir)).await
    }

    pub async fn with(start: Start) -> Self {
        let (clock, disk) = (start.clock.clone(), start.disk.clone());
        let dir = start.settings.data.dir.clone();
        let node = start.node().await.unwrap();
        node.ready().await.unwrap();
        let client = client(&node).await;
        Self {
            node,
            client,
            clock,
            disk,
            dir,
            _own: None,
        }
    }

    pub async fn learn(&mut self, experiences: Vec<Experience>) -> LearnResponse {
        let request = LearnRequest {
            experiences,
            ..LearnRequest::default()
        };
        self.client.learn(request).await.unwrap().into_inner()
    }

    /// Learns one experience and returns its key and the position.
    pub async fn learn_one(&mut self, experience: Experience) -> (String, v1::Position) {
        let answer = self.learn(vec![experience]).await;
        (answer.learned[0].key.clone(), answer.position.unwrap())
    }

    pub async fn recall(&mut self, request: RecallRequest) -> RecallResponse {
        self.client.recall(request).await.unwrap().into_inner()
    }

    /// Contents of what is recalled at the latest position, best first.
    pub async fn contents(&mut self, query: &str) -> Vec<String> {
        let request = RecallRequest {
            at_least: Some(self.position().await),
            ..ask(query)
        };
        contents(&self.recall(request).await)
    }

    pub async fn stats(&mut self) -> v1::StatsResponse {
        self.client
            .stats(v1::StatsRequest::default())
            .await
            .unwrap()
            .into_inner()
    }

    pub async fn position(&mut self) -> v1::Position {
        self.stats().await.position.unwrap()
    }

    pub async fn http(&self, path: &str) -> (u16, String) {
        http(&self.node.http_address().to_string(), path).await
    }

    /// Waits until the server's metrics have this line; panics when they still have not after a
    /// minute.
    pub async fn metric(&self, line: &str) {
        let shown = async {
            while !self.http("/metrics").await.1.lines().any(|has| has == line) {
                a_moment().await;
            }
        };
        let patience = std::time::Duration::from_secs(60);
        let in_time = tokio::time::timeout(patience, shown).await;
        in_time.unwrap_or_else(|_| panic!("metrics never had {line:?}"));
    }

    /// Stops the server; its directory stays as long as the returned guard, if it is its own.
    pub async fn stop(self) -> Option<TempDir> {
        drop(self.client);
        self.node.shutdown().await;
        self._own
    }
}

pub async fn client(node: &Node) -> Client {
    let endpoint = format!("http://{}", node.grpc_address());
    let client = MemoryGateClient::connect(endpoint).await.unwrap();
    client
        .max_decoding_message_size(64 << 20)
        .max_encoding_message_size(64 << 20)
}

/// An experience with nothing but a content.
pub fn experience(content: &str) -> Experience {
    Experience {
        content: content.to_owned(),
        domain: "infrastructure".to_owned(),
        ..Experience::default()
    }
}

/// A question of someone who sees what is shared.
pub fn ask(query: &str) -> RecallRequest {
    RecallRequest {
        query: query.to_owned(),
        ..RecallRequest::default()
    }
}

pub fn agent(name: &str) -> Option<Reader> {
    Some(Reader {
        agent: name.to_owned(),
        ..Reader::default()
    })
}

pub fn everything() -> Option<Reader> {
    Some(Reader {
        everything: true,
        ..Reader::default()
    })
}

pub fn contents(response: &RecallResponse) -> Vec<String> {
    let content = |r: &v1::Recalled| r.memory.as_ref().unwrap().content.clone();
    response.results.iter().map(content).collect()
}

/// A failure as `CODE REASON field`, and all details.
pub fn failure(status: &Status) -> (String, ErrorDetails) {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("{status:?} has no details"));
    assert_eq!(info.domain, "memorygate");
    let field = details
        .bad_request()
        .map(|b| b.field_violations[0].field.clone());
    let text = format!(
        "{:?} {} {}",
        status.code(),
        info.reason,
        field.unwrap_or_default()
    );
    (text.trim_end().to_owned(), details)
}

/// A refused request: INVALID_ARGUMENT for this field, and of a mutating call that it failed.
pub fn assert_invalid(status: &Status, field: &str) {
    let (text, details) = failure(status);
    assert_eq!(
        text,
        format!("InvalidArgument INVALID {field}").trim_end(),
        "{status:?}"
    );
    assert_eq!(status.code(), Code::InvalidArgument);
    let outcome = details
        .error_info()
        .unwrap()
        .metadata
        .get("outcome")
        .cloned();
    assert!(outcome.is_none_or(|o| o == "failed"));
}

/// Between two looks at something that comes by itself.
pub async fn a_moment() {
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
}

/// GET over HTTP/1.1: the code and the body.
pub async fn http(address: &str, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (code, body)
}
