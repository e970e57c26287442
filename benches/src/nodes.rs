//! Several servers that form one cluster: real processes on loopback, each with a directory and
//! addresses that stay.

use anyhow::Context as _;
use futures::future::try_join_all;
use memorygate_client::{Client, Settings};

use crate::{
    options::Options,
    server::{Server, free_address},
};

/// The servers, in the order of their places.
#[derive(Debug)]
pub(crate) struct Nodes {
    servers: Vec<Server>,
}

impl Nodes {
    /// Servers that were told of each other and are not started. Settings are as for
    /// [`Server::start_with`].
    pub(crate) fn prepare(
        options: &Options,
        count: usize,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            options.endpoint.is_none(),
            "this bench stops and kills servers, so it starts its own: leave --endpoint out"
        );
        let peers: Vec<String> = (0..count)
            .map(|_| free_address().map(|address| address.to_string()))
            .collect::<Result<_, _>>()?;
        let all = peers.join(",");
        let server = |own: &String| {
            let mut settings = settings.to_vec();
            settings.extend([("cluster.listen", own.as_str()), ("cluster.peers", &all)]);
            Server::prepare(options, &settings)
        };
        let servers = peers.iter().map(server).collect::<Result<_, _>>()?;
        Ok(Self { servers })
    }

    /// The same, started and ready.
    pub(crate) async fn start(
        options: &Options,
        count: usize,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut nodes = Self::prepare(options, count, settings)?;
        for server in &mut nodes.servers {
            server.spawn()?;
        }
        nodes.wait_ready().await?;
        eprintln!("cluster: {count} servers are ready");
        Ok(nodes)
    }

    /// Waits until every one is ready.
    pub(crate) async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let waiting = self
            .servers
            .iter_mut()
            .enumerate()
            .map(async |(at, server)| {
                let ready = server.wait_ready().await;
                ready.with_context(|| format!("start node {}", at + 1))
            });
        try_join_all(waiting).await.map(drop)
    }

    pub(crate) fn into_servers(self) -> Vec<Server> {
        self.servers
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    pub(crate) fn server(&self, at: usize) -> &Server {
        &self.servers[at]
    }

    pub(crate) fn server_mut(&mut self, at: usize) -> &mut Server {
        &mut self.servers[at]
    }

    /// A client that knows all of them and has otherwise default settings.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let endpoints = self.servers.iter().map(Server::endpoint);
        Client::new(Settings::new(endpoints)).context("connect")
    }

    /// A client that asks one of them and no other.
    pub(crate) fn client_of(&self, at: usize) -> anyhow::Result<Client> {
        let settings = Settings {
            follow_members: false,
            ..Settings::new([self.servers[at].endpoint()])
        };
        Client::new(settings).context("connect")
    }
}
