//! An assistant: a client of the protocol in this process.

use memorygate_client::{Client, Reader, Settings};
use memorygate_fake::Fake;
use memorygate_mcp::{Server, stdio};
use rmcp::{
    RoleClient, ServiceExt as _,
    model::{CallToolRequestParams, CallToolResult, JsonObject},
    service::RunningService,
};
use serde_json::Value;

/// Bytes on their way between client and server.
const PIPE_BYTES: usize = 64 * 1024;

pub(super) struct Assistant {
    pub(super) session: RunningService<RoleClient, ()>,
}

/// Acts for an agent of a team.
pub(super) fn server(address: &str) -> Server {
    server_for(address, Reader::agent("ada").team("sre"))
}

pub(super) fn server_for(address: &str, reader: Reader) -> Server {
    let settings = Settings {
        reader,
        attempts_max: 1,
        ..Settings::new([address])
    };
    Server::new(Client::new(settings).unwrap())
}

impl Assistant {
    pub(super) async fn start() -> (Self, Fake) {
        let (fake, address) = Fake::start().await;
        (Self::of(server(&address)).await, fake)
    }

    pub(super) async fn of(server: Server) -> Self {
        let (here, there) = tokio::io::duplex(PIPE_BYTES);
        let (read, write) = tokio::io::split(there);
        tokio::spawn(stdio::serve_over(server, read, write));
        let session = ().serve(tokio::io::split(here)).await.unwrap();
        Self { session }
    }

    /// The whole result of a call.
    pub(super) async fn result(&self, tool: &'static str, arguments: Value) -> CallToolResult {
        let arguments: JsonObject = serde_json::from_value(arguments).unwrap();
        let request = CallToolRequestParams::new(tool).with_arguments(arguments);
        self.session.call_tool(request).await.unwrap()
    }

    /// What a model reads, and what a program does; a refusal fails the test.
    pub(super) async fn call(&self, tool: &'static str, arguments: Value) -> (String, Value) {
        let result = self.result(tool, arguments).await;
        let text = text(&result);
        assert_eq!(result.is_error, Some(false), "{text}");
        (text, result.structured_content.unwrap())
    }

    /// What a model reads when it is refused.
    pub(super) async fn refused(&self, tool: &'static str, arguments: Value) -> String {
        let result = self.result(tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{}", text(&result));
        text(&result)
    }
}

fn text(result: &CallToolResult) -> String {
    let [one] = result.content.as_slice() else {
        panic!("{} parts, expected one", result.content.len());
    };
    one.as_text().unwrap().text.clone()
}
