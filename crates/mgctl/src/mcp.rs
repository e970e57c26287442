//! `mgctl mcp`: the memory of any assistant that speaks the Model Context Protocol.
//!
//! It decides from where a token comes and when the server stops. What the protocol says is decided in
//! `memorygate-mcp`. Standard output belongs to the protocol; everything else goes to standard error.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use memorygate_client::recall::NAMESPACES_MAX;
use memorygate_mcp::{
    Guard, Server,
    http::{self, Token},
    stdio,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{args::Global, failure::Usage, output::Output};

/// Tries of a call at each server.
const ATTEMPTS_MAX: u32 = 4;

/// Holds the token of the HTTP server, if no file does. A command line is seen by every process.
const TOKEN_VARIABLE: &str = "MEMORYGATE_MCP_TOKEN";

const EXAMPLES: &str = r#"Examples:
  mgctl mcp --agent ada --team sre
  mgctl mcp --agent ada --namespace checkout --namespace ops
  mgctl mcp --listen 127.0.0.1:7414 --read-only
  mgctl mcp --listen 0.0.0.0:7414 --token-file token --allow-host memory.example.com

Setting up an assistant:
  One that starts its servers itself (Claude Desktop, Claude Code, Cursor, VS Code and others) takes this
  in its configuration, under "mcpServers" ("servers" in VS Code):

    {
      "mcpServers": {
        "memorygate": {
          "command": "mgctl",
          "args": ["mcp", "--endpoint", "http://127.0.0.1:7411", "--agent", "ada", "--team", "sre"]
        }
      }
    }

  One server for many, over HTTP:

    MEMORYGATE_MCP_TOKEN=$(cat token) mgctl mcp --listen 0.0.0.0:7414 --allow-host memory.example.com

    {
      "mcpServers": {
        "memorygate": {
          "type": "http",
          "url": "http://memory.example.com:7414/mcp",
          "headers": {"Authorization": "Bearer TOKEN"}
        }
      }
    }

  There is no TLS in it: let a proxy that has it stand before a server that other machines reach.

Tools: memory_recall, memory_learn, memory_feedback, memory_get, memory_list, memory_share,
memory_forget.
Namespaces, agent and teams are those of the server's options; a model cannot choose others. Of several namespaces
the first is where lessons are learned and listed; memory_recall looks in all of them, or in those that it names."#;

/// Serve the memory to assistants that speak the Model Context Protocol
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Serve streamable HTTP at this address, path /mcp, instead of standard input and output
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Ask for the bearer token in this file; MEMORYGATE_MCP_TOKEN may hold one instead. Required unless
    /// the address is a loopback one
    #[arg(long, value_name = "PATH", requires = "listen")]
    token_file: Option<PathBuf>,
    /// A name, besides the address and localhost, that the server is reached by; may be repeated
    #[arg(long, value_name = "HOST", requires = "listen")]
    allow_host: Vec<String>,
    /// An origin whose pages a browser may ask from, such as `https://app.example.com:443`; may be repeated
    #[arg(long, value_name = "ORIGIN", requires = "listen")]
    allow_origin: Vec<String>,
    /// Offer only the tools that change nothing
    #[arg(long)]
    read_only: bool,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let namespaces = &global.namespace;
    if namespaces.len() > NAMESPACES_MAX {
        let actual = namespaces.len();
        bail!(Usage(format!(
            "{actual} namespaces, expected at most {NAMESPACES_MAX}"
        )));
    }
    let mut server = Server::new(global.client_with(ATTEMPTS_MAX)?);
    server = server.reading(namespaces.iter().cloned());
    if args.read_only {
        server = server.read_only();
    }
    let Some(address) = args.listen else {
        return Ok(stdio::serve(server).await?);
    };
    let token = token(&args)?;
    // Before the port is bound: nobody shall be let in meanwhile.
    let guard = Guard::new(address, token, args.allow_host, args.allow_origin).map_err(|open| {
        Usage(format!(
            "{open}: set {TOKEN_VARIABLE} or --token-file, or listen on 127.0.0.1"
        ))
    })?;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))?;
    let bound = listener.local_addr().context("read the port")?;
    let mut terminate = signal(SignalKind::terminate()).context("wait for signals")?;
    output.note(&format!("serving on http://{bound}{}", http::PATH));
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let timeout = global.timeout_or_default();
    Box::pin(http::serve(listener, server, guard, timeout, stop))
        .await
        .context("serve")
}

fn token(args: &Args) -> anyhow::Result<Option<Token>> {
    let (text, place) = match &args.token_file {
        Some(path) => {
            let place = path.display().to_string();
            let text = fs::read_to_string(path).with_context(|| format!("read {place}"))?;
            (text, place)
        }
        None => match std::env::var(TOKEN_VARIABLE) {
            Ok(text) if !text.trim().is_empty() => (text, TOKEN_VARIABLE.to_owned()),
            Ok(_) | Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Usage(format!("{TOKEN_VARIABLE} is not UTF-8")).into());
            }
        },
    };
    let token = Token::parse(&text).map_err(|error| Usage(format!("{place}: {error}")))?;
    Ok(Some(token))
}
