//! The servers of one cluster: where a call goes, and how the members are followed.
//!
//! ```text
//! call ──▶ choose ──▶ Table ◀── what became of the attempt
//!                       ▲
//!                       └── follow: who belongs to the cluster and who leads, asked beside the calls
//! ```
//!
//! `table.rs` decides, without a clock and without a network; this module owns the connections and
//! asks the members while the client is in use. It never delays a call.

mod follow;
mod table;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use self::table::Table;
pub(super) use self::table::{Choice, Purpose};
use super::settings::Settings;
use crate::error::Trouble;

pub(super) struct Servers {
    settings: Settings,
    table: Mutex<Table>,
    /// Counts what makes it worth trying again at once: a leader is known, a server is back.
    better: watch::Sender<u64>,
    /// Whether the members are being asked.
    is_asking: AtomicBool,
}

/// One address, and the connection there.
pub(super) struct Server {
    /// Unique among the servers of one client.
    pub(super) id: u64,
    pub(super) address: String,
    endpoint: Endpoint,
    /// Connected at its first use, since that wants a runtime.
    channel: OnceLock<Channel>,
    /// Calls that it has not answered yet.
    in_flight: AtomicUsize,
}

/// A call that is under way at a server, for as long as this lives.
pub(super) struct Asked {
    pub(super) server: Arc<Server>,
}

impl Servers {
    /// `seeds` is not empty.
    pub(super) fn new(settings: Settings, seeds: Vec<Endpoint>) -> Self {
        Self {
            table: Mutex::new(Table::new(seeds)),
            settings,
            better: watch::Sender::new(0),
            is_asking: AtomicBool::new(false),
        }
    }

    /// The server to ask next. `tried` are those that failed since the last wait.
    pub(super) fn choose(self: &Arc<Self>, purpose: Purpose, tried: &[u64]) -> Choice<Asked> {
        let choice = self.lock().choose(purpose, tried, Instant::now());
        self.follow();
        match choice {
            Choice::Ask(server) => Choice::Ask(Asked::new(server)),
            Choice::AllTried => Choice::AllTried,
            Choice::AllForeign => Choice::AllForeign,
        }
    }

    /// Notes that a server answered.
    pub(super) fn answered(&self, server: &Server) {
        self.lock().answered(server.id);
    }

    /// Notes that a server did not do what was asked, and finds out how the cluster stands.
    pub(super) fn failed(self: &Arc<Self>, server: &Server, purpose: Purpose, trouble: Trouble) {
        self.lock()
            .failed(server.id, purpose, trouble, Instant::now());
        self.follow();
    }

    /// Whether some server may do what another cannot right now.
    pub(super) fn are_several(&self) -> bool {
        self.lock().are_several()
    }

    /// Whether the cluster has said who its members are.
    pub(super) fn are_followed(&self) -> bool {
        self.lock().is_following()
    }

    /// Reports when it is worth trying again before a wait is over.
    pub(super) fn better(&self) -> watch::Receiver<u64> {
        self.better.subscribe()
    }

    /// Notes of which cluster the answers are.
    pub(super) fn know_cluster(&self, cluster_id: u128) {
        self.lock().know_cluster(cluster_id);
    }

    /// Forgets which cluster it was.
    pub(super) fn reset(&self) {
        self.lock().reset();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every change of the table is whole before anything in it can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    fn new(id: u64, endpoint: Endpoint) -> Self {
        Self {
            id,
            address: endpoint.uri().to_string().trim_end_matches('/').to_owned(),
            endpoint,
            channel: OnceLock::new(),
            in_flight: AtomicUsize::new(0),
        }
    }

    pub(super) fn channel(&self) -> Channel {
        let connect = || self.endpoint.connect_lazy();
        self.channel.get_or_init(connect).clone()
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Asked {
    fn new(server: Arc<Server>) -> Self {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { server }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
