//! What can be set: one TOML file, environment variables and flags, read and checked once at start.
//!
//! ```text
//! defaults ◀── file ◀── MEMORYGATE_SECTION__KEY ◀── flags      the later one wins, key by key
//!     └── one table of keys ([`keys::KEYS`]) names, explains and prints every one of them
//! ```
//!
//! A key that nobody knows is an error that names the nearest right one, wherever it came from.

pub mod keys;
mod layers;
mod print;

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use memorygate_core::{limits, name::Namespace, rank};
use memorygate_index::embed::pool;
use serde::{Deserialize, Serialize};

pub use self::{
    layers::{Layers, LoadError},
    print::to_commented_toml,
};

use crate::consolidation;

const MIB: usize = 1024 * 1024;

/// Everything that can be set. Each field is explained in [`keys::KEYS`], which is what users see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub server: Server,
    pub cluster: Cluster,
    pub data: Data,
    pub model: Model,
    pub recall: Recall,
    pub ranking: rank::Settings,
    pub index: Index,
    pub raft: memorygate_raft::Settings,
    pub consolidation: Consolidation,
    pub webhook: Webhook,
    pub backup: Backup,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub grpc_address: Address,
    pub http_address: Address,
    pub advertise: Option<Address>,
    pub requests_max: usize,
    pub message_bytes_max: usize,
    pub in_flight_bytes_max: usize,
    pub shutdown_grace_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            grpc_address: Address("127.0.0.1:7411".to_owned()),
            http_address: Address("127.0.0.1:7412".to_owned()),
            advertise: None,
            requests_max: 1024,
            message_bytes_max: 16 * MIB,
            in_flight_bytes_max: 256 * MIB,
            shutdown_grace_ms: 10_000,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    pub listen: Option<Address>,
    pub advertise: Option<Address>,
    pub peers: Addresses,
    pub replace_lost: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            listen: None,
            advertise: None,
            peers: Addresses::default(),
            replace_lost: true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    pub dir: PathBuf,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("memorygate-data"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    pub dir: PathBuf,
    pub threads: usize,
    pub queue_texts_max: usize,
    pub queue_bytes_max: usize,
    pub batch_texts_max: usize,
    pub batch_bytes_max: usize,
}

impl Default for Model {
    fn default() -> Self {
        let pool = pool::Settings::default();
        Self {
            dir: PathBuf::from("~/.cache/memorygate/all-MiniLM-L6-v2"),
            threads: 0,
            queue_texts_max: pool.queue_texts_max,
            queue_bytes_max: pool.queue_bytes_max,
            batch_texts_max: pool.batch_texts_max,
            batch_bytes_max: pool.batch_bytes_max,
        }
    }
}

impl Model {
    /// The settings of the threads that embed.
    pub fn pool(&self) -> pool::Settings {
        pool::Settings {
            queue_texts_max: self.queue_texts_max,
            queue_bytes_max: self.queue_bytes_max,
            batch_texts_max: self.batch_texts_max,
            batch_bytes_max: self.batch_bytes_max,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recall {
    pub threads: usize,
    pub queue_max: usize,
}

impl Default for Recall {
    fn default() -> Self {
        Self {
            threads: 0,
            queue_max: 512,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Index {
    pub queue_max: usize,
    pub checkpoint_changes: u64,
    pub checkpoint_interval_s: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            queue_max: 1024,
            checkpoint_changes: 20_000,
            checkpoint_interval_s: 300,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Consolidation {
    pub interval_s: u64,
    pub share: f64,
    pub uses_interval_s: u64,
}

impl Default for Consolidation {
    fn default() -> Self {
        Self {
            interval_s: 3600,
            share: 0.2,
            uses_interval_s: 10,
        }
    }
}

impl Consolidation {
    /// The settings of passes in the background.
    pub fn passes(&self) -> consolidation::Settings {
        consolidation::Settings {
            interval: seconds(self.interval_s),
            share: self.share,
        }
    }

    /// How often uses are written down, if they are.
    pub fn uses(&self) -> Option<Duration> {
        seconds(self.uses_interval_s)
    }
}

/// `None` for 0.
fn seconds(count: u64) -> Option<Duration> {
    (count > 0).then(|| Duration::from_secs(count))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    pub token_file: PathBuf,
    pub namespace: String,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            token_file: PathBuf::new(),
            namespace: "default".to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    pub store: String,
    pub s3_endpoint: String,
    pub s3_region: String,
    pub s3_allow_http: bool,
    pub interval_s: u64,
    pub keep: usize,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            store: String::new(),
            s3_endpoint: String::new(),
            s3_region: String::new(),
            s3_allow_http: false,
            interval_s: 0,
            keep: 7,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line an event, for people.
    Text,
    /// One JSON object an event, for programs.
    Json,
}

/// `HOST:PORT`. Resolved when it is bound; port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(String);

impl Address {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An IPv6 address stands in brackets.
    pub fn host(&self) -> &str {
        self.0.rsplit_once(':').map_or("", |(host, _)| host)
    }

    /// Whether it means all addresses of the machine, which nobody can connect to.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host(), "0.0.0.0" | "[::]" | "[::0]" | "*")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let is_address = text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if is_address {
            Ok(Self(text.to_owned()))
        } else {
            Err(AddressError {
                actual: text.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

/// Addresses, separated by commas; sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Addresses(Vec<Address>);

impl Addresses {
    pub fn iter(&self) -> impl Iterator<Item = &Address> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Addresses {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let mut addresses = parts.map(str::parse).collect::<Result<Vec<Address>, _>>()?;
        addresses.sort_by(|a, b| a.0.cmp(&b.0));
        addresses.dedup();
        Ok(Self(addresses))
    }
}

impl TryFrom<String> for Addresses {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Addresses> for String {
    fn from(addresses: Addresses) -> Self {
        let texts: Vec<String> = addresses.0.into_iter().map(String::from).collect();
        texts.join(",")
    }
}

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address is {actual:?}, expected HOST:PORT")]
pub struct AddressError {
    pub actual: String,
}

/// A setting that is readable and makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {actual}, expected {expected}")]
pub struct Invalid {
    /// As in [`keys::KEYS`].
    pub key: String,
    pub actual: String,
    pub expected: String,
}

impl Settings {
    /// Where clients reach the node that listens on `grpc_port`; `None` if no setting names its host.
    pub fn client_address(&self, grpc_port: u16) -> Option<String> {
        if let Some(advertise) = &self.server.advertise {
            return Some(advertise.to_string());
        }
        let cluster = [&self.cluster.advertise, &self.cluster.listen];
        let hosts = [Some(&self.server.grpc_address)]
            .into_iter()
            .chain(cluster.map(Option::as_ref));
        let named = hosts.flatten().find(|address| !address.is_wildcard());
        named.map(|address| format!("{}:{grpc_port}", address.host()))
    }

    /// Whether every value makes sense, alone and beside the others.
    pub fn check(&self) -> Result<(), Invalid> {
        let at_least = |key: &str, actual: usize, least: usize| {
            if actual >= least {
                return Ok(());
            }
            Err(Invalid {
                key: key.to_owned(),
                actual: actual.to_string(),
                expected: format!("at least {least}"),
            })
        };
        for (key, address) in [
            ("server.advertise", &self.server.advertise),
            ("cluster.advertise", &self.cluster.advertise),
        ] {
            if let Some(address) = address
                && (address.is_wildcard() || address.as_str().ends_with(":0"))
            {
                return Err(Invalid {
                    key: key.to_owned(),
                    actual: address.to_string(),
                    expected: "an address that others can connect to".to_owned(),
                });
            }
        }
        at_least("server.requests_max", self.server.requests_max, 1)?;
        // The largest command must be able to arrive.
        let message_least = limits::COMMAND_BYTES_MAX;
        at_least(
            "server.message_bytes_max",
            self.server.message_bytes_max,
            message_least,
        )?;
        at_least(
            "server.in_flight_bytes_max",
            self.server.in_flight_bytes_max,
            self.server.message_bytes_max,
        )?;
        // The largest batch must fit into an empty queue, each text with the two before it.
        at_least(
            "model.queue_texts_max",
            self.model.queue_texts_max,
            limits::BATCH_MAX,
        )?;
        let batch_least = limits::COMMAND_BYTES_MAX * (1 + crate::learn::BEFORE);
        at_least(
            "model.queue_bytes_max",
            self.model.queue_bytes_max,
            batch_least,
        )?;
        at_least("model.batch_texts_max", self.model.batch_texts_max, 1)?;
        at_least("model.batch_bytes_max", self.model.batch_bytes_max, 1)?;
        at_least("recall.queue_max", self.recall.queue_max, 1)?;
        at_least("index.queue_max", self.index.queue_max, 1)?;
        if !(0.01..=1.0).contains(&self.consolidation.share) {
            return Err(Invalid {
                key: "consolidation.share".to_owned(),
                actual: self.consolidation.share.to_string(),
                expected: "0.01 to 1".to_owned(),
            });
        }
        Namespace::parse(&self.webhook.namespace).map_err(|error| Invalid {
            key: "webhook.namespace".to_owned(),
            actual: format!("{:?} ({error})", self.webhook.namespace),
            expected: "the name of a namespace".to_owned(),
        })?;
        at_least("backup.keep", self.backup.keep, 1)?;
        if self.backup.interval_s > 0 && self.backup.store.is_empty() {
            return Err(Invalid {
                key: "backup.store".to_owned(),
                actual: "empty".to_owned(),
                expected: "a directory or an s3:// URL, since backup.interval_s is set".to_owned(),
            });
        }
        if self.cluster.listen.is_none() && !self.cluster.peers.is_empty() {
            return Err(Invalid {
                key: "cluster.listen".to_owned(),
                actual: "absent".to_owned(),
                expected: "an address that the peers can reach, since cluster.peers is set"
                    .to_owned(),
            });
        }
        if self.data.dir.as_os_str().is_empty() {
            return Err(Invalid {
                key: "data.dir".to_owned(),
                actual: "empty".to_owned(),
                expected: "a directory".to_owned(),
            });
        }
        crate::telemetry::check_level(&self.log.level).map_err(|reason| Invalid {
            key: "log.level".to_owned(),
            actual: format!("{:?} ({reason})", self.log.level),
            expected: "a level (error, warn, info, debug, trace) or a filter such as \
                       \"info,memorygate_raft=debug\""
                .to_owned(),
        })?;
        self.ranking.check().map_err(|invalid| {
            let key = format!("ranking.{}", invalid.name);
            // A name that is no key is a domain of the half-lives.
            let by_domain = || format!("ranking.half_life_days_by_domain.{}", invalid.name);
            Invalid {
                key: if keys::find(&key).is_some() {
                    key
                } else {
                    by_domain()
                },
                actual: invalid.actual,
                expected: invalid.expected.to_owned(),
            }
        })?;
        self.raft.validate().map_err(|invalid| Invalid {
            key: format!("raft.{}", invalid.name),
            actual: invalid.actual.to_string(),
            expected: invalid.expected,
        })
    }
}

/// `threads`, or as many as the machine has cores if that is 0.
pub fn threads_or_cores(threads: usize) -> usize {
    if threads > 0 {
        return threads;
    }
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// `path` with a leading `~/` replaced by the home directory.
pub fn expand_home(path: &std::path::Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        (Ok(_), None) | (Err(_), _) => path.to_owned(),
    }
}
