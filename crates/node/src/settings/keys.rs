//! The one table of settings: what each key is called, its unit and what it does.
//!
//! `memorygate config print`, the error for a wrong key and the documentation come from here; a test
//! holds that the table and [`super::Settings`] have the same keys.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key`, as in the file.
    pub name: &'static str,
    /// Of the value; empty where it has none.
    pub unit: &'static str,
    /// One or more sentences.
    pub help: &'static str,
}

impl Key {
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name without its section.
    pub fn field(&self) -> &'static str {
        self.name
            .split_once('.')
            .map_or(self.name, |(_, field)| field)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!(
            "{ENVIRONMENT_PREFIX}{}",
            self.name.replace('.', "__").to_uppercase()
        )
    }
}

/// What the environment variables of all settings start with.
pub const ENVIRONMENT_PREFIX: &str = "MEMORYGATE_";

/// What each section is about, in the order in which they are printed.
pub const SECTIONS: &[(&str, &str)] = &[
    (
        "server",
        "What the node listens on, and how much it takes at once.",
    ),
    (
        "cluster",
        "The other nodes, and how they find each other. Without it, a node is a cluster of its own.",
    ),
    ("data", "Where everything is stored."),
    ("model", "The embedding model and the threads that run it."),
    ("recall", "The threads that search and rank."),
    (
        "ranking",
        "Weights and sizes of the ranking. A recall may set the weights for itself.",
    ),
    ("index", "The derived index: vectors and words."),
    ("raft", "The replicated log and the state on disk."),
    (
        "consolidation",
        "What becomes of memories in the background.",
    ),
    (
        "webhook",
        "What alerts and failed jobs are told to, below /v1/hooks/ of server.http_address.",
    ),
    ("backup", "Snapshot files, and where they are kept."),
    ("log", "What the node says about itself."),
];

const fn key(name: &'static str, unit: &'static str, help: &'static str) -> Key {
    Key { name, unit, help }
}

/// All settings, by section.
pub const KEYS: &[Key] = &[
    key(
        "server.grpc_address",
        "HOST:PORT",
        "Where agents and mgctl connect.",
    ),
    key(
        "server.http_address",
        "HOST:PORT",
        "Where /metrics, /livez and /readyz are served, and webhooks if there is a token for them. Keep it \
         inside: nobody but the webhooks asks who somebody is.",
    ),
    key(
        "server.advertise",
        "HOST:PORT",
        "Where agents and mgctl reach this node; the cluster tells them. Without it, server.grpc_address, \
         and where that means all addresses, the host of cluster.advertise.",
    ),
    key(
        "server.requests_max",
        "requests",
        "Requests in work at once; more are refused with RESOURCE_EXHAUSTED and a hint when to retry.",
    ),
    key(
        "server.message_bytes_max",
        "bytes",
        "Size of one message, received or sent, at most. At least 8388608.",
    ),
    key(
        "server.in_flight_bytes_max",
        "bytes",
        "Received bytes of all requests in work together, at most; more are refused with \
         RESOURCE_EXHAUSTED.",
    ),
    key(
        "server.shutdown_grace_ms",
        "milliseconds",
        "How long a stopping node waits for the requests in work.",
    ),
    key(
        "cluster.listen",
        "HOST:PORT",
        "Where other nodes connect; without it the node is alone. Keep it inside: whoever reaches it can \
         act as a member.",
    ),
    key(
        "cluster.advertise",
        "HOST:PORT",
        "Where other nodes find this one, by a name or address that stays: it is how the cluster knows \
         a member. Without it, as cluster.listen.",
    ),
    key(
        "cluster.peers",
        "HOST:PORT,HOST:PORT,...",
        "The advertised addresses of the nodes that form the cluster, this one among them; the same on \
         each of them. A node that is not among them joins the cluster that they formed, without a vote; \
         one that is and comes later gets its vote once it has caught up.",
    ),
    key(
        "cluster.replace_lost",
        "true or false",
        "Whether a node that comes back without its data takes its own place again as a new member. \
         Otherwise it waits for `mgctl member replace`.",
    ),
    key(
        "data.dir",
        "directory",
        "The data directory. One node at a time uses it. A leading ~/ is the home directory.",
    ),
    key(
        "model.dir",
        "directory",
        "Where the files of all-MiniLM-L6-v2 are; `memorygate model fetch` puts them there. A \
         leading ~/ is the home directory.",
    ),
    key(
        "model.threads",
        "threads",
        "Threads that embed, beside those of everything else; 0 for as many as there are cores.",
    ),
    key(
        "model.queue_texts_max",
        "texts",
        "Texts that wait to be embedded, at most; more are refused with RESOURCE_EXHAUSTED. At least \
         256.",
    ),
    key(
        "model.queue_bytes_max",
        "bytes",
        "Size of these texts together, with what is read before them, at most. At least 25165824.",
    ),
    key(
        "model.batch_texts_max",
        "texts",
        "Texts of concurrent callers that share one forward pass, at most.",
    ),
    key(
        "model.batch_bytes_max",
        "bytes",
        "Size of these texts together, at most; a single longer text still goes.",
    ),
    key(
        "recall.threads",
        "threads",
        "Recalls that search and rank at the same time; 0 for as many as there are cores.",
    ),
    key(
        "recall.queue_max",
        "requests",
        "Recalls and lists that wait for a thread, at most; more are refused with RESOURCE_EXHAUSTED.",
    ),
    key(
        "ranking.late",
        "weight, 0 to 100",
        "Late interaction over token states, as a z-score.",
    ),
    key("ranking.lexical", "weight, 0 to 100", "BM25, as a z-score."),
    key(
        "ranking.dense",
        "weight, 0 to 100",
        "Cosine of the dense vectors, as a z-score.",
    ),
    key(
        "ranking.expansion",
        "weight, 0 to 100",
        "Pseudo-relevance feedback, as a z-score.",
    ),
    key(
        "ranking.session",
        "weight, 0 to 100",
        "What the best three of a session lend to each of its memories.",
    ),
    key(
        "ranking.recency",
        "weight, 0 to 100",
        "What a memory of this moment has over an endlessly old one.",
    ),
    key(
        "ranking.importance",
        "weight, 0 to 100",
        "What importance 1 has over importance 0.5.",
    ),
    key(
        "ranking.usefulness",
        "weight, 0 to 100",
        "What perfect feedback has over none.",
    ),
    key(
        "ranking.trust",
        "weight, 0 to 100",
        "What a memory of a fully trusted agent has over one of an agent of whom nothing is known.",
    ),
    key(
        "ranking.candidates",
        "memories",
        "Candidates taken by words and again by vector, before they are joined. 1 to 10000.",
    ),
    key(
        "ranking.neighbour",
        "share, 0 to 1",
        "What a memory lends of its BM25 score to the next and the previous of its session.",
    ),
    key(
        "ranking.far_neighbour",
        "share, 0 to 1",
        "The same for the one after and before those.",
    ),
    key(
        "ranking.length_penalty",
        "score, 0 to 1",
        "Taken from the late-interaction score times ln(1 + word pieces): the more pieces a text \
         has, the likelier one fits by chance.",
    ),
    key(
        "ranking.expansion_memories",
        "memories",
        "Best memories from which pseudo-relevance feedback takes word pieces. 0 to 100.",
    ),
    key(
        "ranking.expansion_pieces",
        "word pieces",
        "Word pieces that it takes. 0 to 1000.",
    ),
    key(
        "ranking.link",
        "share, 0 to 1",
        "Share of a memory's score that one hop along a link passes on.",
    ),
    key(
        "ranking.half_life_days",
        "days",
        "Time after which recency has halved, for domains that are not named below.",
    ),
    key(
        "ranking.half_life_days_by_domain",
        "days by domain",
        "Time after which recency has halved, by domain. A table; a domain that is set here joins \
         the defaults.",
    ),
    key(
        "index.queue_max",
        "batches",
        "Applied batches that wait for the index, at most; beyond, the index catches up from the \
         change journal.",
    ),
    key(
        "index.checkpoint_changes",
        "changes",
        "The index is written to disk after so many changes, or as many as it held memories then if \
         those are more, so that a restart need not rebuild it.",
    ),
    key(
        "index.checkpoint_interval_s",
        "seconds",
        "It is written too when the last checkpoint is so old and something has changed.",
    ),
    key(
        "raft.heartbeat_ms",
        "milliseconds",
        "Time between a leader's heartbeats. At least 10.",
    ),
    key(
        "raft.election_timeout_min_ms",
        "milliseconds",
        "Time without a heartbeat after which a follower may stand for election, at least. At least \
         three heartbeats.",
    ),
    key(
        "raft.election_timeout_max_ms",
        "milliseconds",
        "The same, at most: each follower draws its own between the two. A leader that has heard \
         nothing from a majority for half of it takes no writes.",
    ),
    key(
        "raft.propose_timeout_ms",
        "milliseconds",
        "Time that a write may take before its outcome is reported as unknown.",
    ),
    key(
        "raft.in_flight_max",
        "writes",
        "Writes that wait for their answers at once; more are refused with RESOURCE_EXHAUSTED.",
    ),
    key(
        "raft.in_flight_bytes_max",
        "bytes",
        "Encoded size of these writes together, at most. 8388608 to 4294967295.",
    ),
    key(
        "raft.group_commit_bytes_max",
        "bytes",
        "Log entries that share one sync, at most (one entry always goes).",
    ),
    key(
        "raft.log_cache_bytes",
        "bytes",
        "Newest log entries that are kept in memory, so that applying them reads no disk.",
    ),
    key(
        "raft.log_entries_kept",
        "log entries",
        "Entries kept behind the last snapshot, so that a follower that was away for a moment needs \
         no snapshot.",
    ),
    key(
        "raft.snapshot_log_bytes",
        "bytes",
        "A snapshot is built when so much was appended to the log since the last.",
    ),
    key(
        "raft.snapshot_interval_s",
        "seconds",
        "A snapshot is built when the last is so old and the log has grown since.",
    ),
    key(
        "raft.snapshots_kept",
        "snapshots",
        "Snapshots kept on disk; they share files with the state.",
    ),
    key(
        "raft.block_cache_bytes",
        "bytes",
        "State and log blocks cached in memory. At least 1048576.",
    ),
    key(
        "raft.write_buffer_bytes",
        "bytes",
        "Recent state writes held in memory until they are flushed to a table. At least 1048576.",
    ),
    key(
        "raft.journal_positions_max",
        "log positions",
        "How far the change journal reaches back: an index that is further behind is rebuilt.",
    ),
    key(
        "raft.disk_reserve_bytes",
        "bytes",
        "Writes are refused with RESOURCE_EXHAUSTED while the disk has less room; reads go on.",
    ),
    key(
        "raft.expected_cluster_id",
        "32 hexadecimal digits",
        "The cluster that the data directory must belong to. Unset: any.",
    ),
    key(
        "consolidation.interval_s",
        "seconds",
        "Time between two passes over a namespace that has changed: near-duplicates are merged, what is \
         of little worth is archived, contradictions are found. 0: never by itself.",
    ),
    key(
        "consolidation.share",
        "share, 0.01 to 1",
        "Of one thread's time, what such a pass takes at most.",
    ),
    key(
        "consolidation.uses_interval_s",
        "seconds",
        "Time between two log entries that count which memories recalls returned. 0: they are not \
         counted.",
    ),
    key(
        "webhook.token_file",
        "file",
        "Holds the token that senders prove themselves by, at least 16 characters: as a bearer token, as \
         GitLab's secret token, or as the secret that GitHub signs with. Empty: MEMORYGATE_WEBHOOK_TOKEN of \
         the environment; if there is none either, there are no webhooks.",
    ),
    key(
        "webhook.namespace",
        "name",
        "Where what they tell is learned, unless their address names another by ?namespace=NAME.",
    ),
    key(
        "backup.store",
        "directory or URL",
        "Where snapshot files are kept, the same on each node: a directory or file:///DIRECTORY (such as a \
         mounted share), and not on the disk that it is a backup of; or s3://BUCKET/PREFIX, with \
         AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment, or the role \
         of the machine. Empty: nowhere.",
    ),
    key(
        "backup.s3_endpoint",
        "https://HOST:PORT",
        "The object store of an s3:// URL, if it is not Amazon's. Empty: AWS_ENDPOINT_URL_S3 or \
         AWS_ENDPOINT_URL of the environment, else Amazon's.",
    ),
    key(
        "backup.s3_region",
        "region",
        "Of the bucket. Empty: AWS_REGION or AWS_DEFAULT_REGION of the environment, else us-east-1.",
    ),
    key(
        "backup.s3_allow_http",
        "true or false",
        "Takes an endpoint of http://, over which everyone on the way reads the snapshots. \
         AWS_ALLOW_HTTP=true in the environment does the same.",
    ),
    key(
        "backup.interval_s",
        "seconds",
        "The leader writes a snapshot file when the newest one is so old and something has changed. 0: \
         never by itself.",
    ),
    key(
        "backup.keep",
        "files",
        "Snapshot files of this cluster that are kept; older ones are removed after a scheduled snapshot. \
         Only files that were read back whole count. At least 1.",
    ),
    key(
        "log.format",
        "text or json",
        "One line an event for people, or one JSON object an event.",
    ),
    key(
        "log.level",
        "level or filter",
        "error, warn, info, debug, trace, or a filter such as \"info,memorygate_raft=debug\". A level \
         alone is for MemoryGate; libraries say less.",
    ),
];

/// The key called `name`, if there is one.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}

/// The known name nearest to one that is not known: by the whole name, or by its last part, in
/// case only the section is wrong.
pub fn nearest(unknown: &str) -> &'static str {
    let field = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let similarity = |known: &str| {
        let whole = strsim::normalized_damerau_levenshtein(known, unknown);
        let last = strsim::normalized_damerau_levenshtein(&field(known), &field(unknown));
        whole.max(last * 0.95)
    };
    let mut best = KEYS[0].name;
    for key in KEYS {
        if similarity(key.name) > similarity(best) {
            best = key.name;
        }
    }
    best
}
