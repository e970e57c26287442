//! Prometheus metrics of one node, each with its name, unit and help in one place.
//!
//! Every node has a registry of its own, so that several can run in one process. Gauges that mirror
//! a state are set when they are asked for, see [`Metrics::encode`].

use std::time::Duration;

use memorygate_index::embed::pool;
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

/// Upper bounds in seconds, from a memory access to a patient caller.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Upper bounds of counts, by powers of two.
const COUNTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// The stages of a recall, as `stage` labels.
pub mod stage {
    pub const EMBED: &str = "embed";
    pub const FILTER: &str = "filter";
    pub const SEARCH: &str = "search";
    pub const READ: &str = "read";
    pub const LATE: &str = "late";
    pub const RANK: &str = "rank";
    pub const RECORDS: &str = "records";
}

/// All metrics of a node.
pub struct Metrics {
    registry: Registry,
    pub requests: IntCounterVec,
    pub request_seconds: HistogramVec,
    pub requests_in_flight: IntGauge,
    pub received_bytes: IntCounter,
    pub in_flight_bytes: IntGauge,
    pub embed_seconds: HistogramVec,
    pub embedded_texts: IntCounterVec,
    pub embed_queue: IntGaugeVec,
    pub embed_refused: IntCounterVec,
    pub embed_batch_seconds: HistogramVec,
    pub embed_batch_texts: HistogramVec,
    pub embedded_pieces: IntCounterVec,
    pub propose_seconds: HistogramVec,
    pub log_sync_seconds: Histogram,
    pub log_sync_entries: Histogram,
    pub log_bytes: IntCounter,
    pub apply_seconds: Histogram,
    pub applied_entries: IntCounter,
    pub snapshot_seconds: Histogram,
    pub consolidation_passes: IntCounter,
    pub consolidation_steps: IntCounterVec,
    pub consolidation_refused: IntCounter,
    pub hook_deliveries: IntCounterVec,
    pub hook_events: IntCounterVec,
    pub backups: IntCounter,
    pub backup_failures: IntCounter,
    pub backup_failing: IntGauge,
    pub backup_time_seconds: Gauge,
    pub index_lag_seconds: Histogram,
    pub index_lag: IntGauge,
    pub index_rebuilds: IntCounter,
    pub index_checkpoints: IntCounter,
    pub recall_seconds: HistogramVec,
    pub recall_candidates: Histogram,
    pub recall_queue: IntGauge,
    pub positions: IntGaugeVec,
    pub memories: IntGauge,
    pub namespaces: IntGauge,
    pub leader: IntGauge,
    pub storage_full: IntGauge,
    pub disk_free_bytes: IntGauge,
    pub proposals_in_flight: IntGauge,
    pub ready: IntGaugeVec,
    pub term: IntGauge,
    pub draining: IntGauge,
    pub writes_in_flight: IntGauge,
    pub members: IntGaugeVec,
    pub member_lag: IntGaugeVec,
    pub alarms: IntGaugeVec,
    pub resident_bytes: IntGauge,
    pub start_time_seconds: Gauge,
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build = int_gauges(
            r,
            "memorygate_build_info",
            "1; the version is a label.",
            &["version"],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            requests: counters(
                r,
                "memorygate_requests_total",
                "Requests answered, by method and gRPC code.",
                &["method", "code"],
            ),
            request_seconds: histograms(
                r,
                "memorygate_request_seconds",
                "Time from a request's head to its answer.",
                SECONDS,
                &["method"],
            ),
            requests_in_flight: int_gauge(r, "memorygate_requests_in_flight", "Requests in work."),
            received_bytes: counter(
                r,
                "memorygate_received_bytes_total",
                "Bytes of request bodies received.",
            ),
            in_flight_bytes: int_gauge(
                r,
                "memorygate_in_flight_bytes",
                "Received bytes of the requests in work.",
            ),
            embed_seconds: histograms(
                r,
                "memorygate_embed_seconds",
                "Time to embed what one call brought, waiting included.",
                SECONDS,
                &["kind"],
            ),
            embedded_texts: counters(
                r,
                "memorygate_embedded_texts_total",
                "Texts embedded.",
                &["kind"],
            ),
            embed_queue: int_gauges(
                r,
                "memorygate_embed_queue_texts",
                "Texts that wait to be embedded.",
                &["kind"],
            ),
            embed_refused: counters(
                r,
                "memorygate_embed_refused_texts_total",
                "Texts refused because too many waited.",
                &["kind"],
            ),
            embed_batch_seconds: histograms(
                r,
                "memorygate_embed_batch_seconds",
                "Time of one forward pass over a batch of texts.",
                SECONDS,
                &["kind"],
            ),
            embed_batch_texts: histograms(
                r,
                "memorygate_embed_batch_texts",
                "Texts that shared one forward pass.",
                COUNTS,
                &["kind"],
            ),
            embedded_pieces: counters(
                r,
                "memorygate_embedded_pieces_total",
                "Word pieces whose states were made.",
                &["kind"],
            ),
            propose_seconds: histograms(
                r,
                "memorygate_propose_seconds",
                "Time from a proposal to its applied answer.",
                SECONDS,
                &["command"],
            ),
            log_sync_seconds: histogram(
                r,
                "memorygate_log_sync_seconds",
                "Time of one sync of the log, its write included.",
                SECONDS,
            ),
            log_sync_entries: histogram(
                r,
                "memorygate_log_sync_entries",
                "Log entries that shared one sync.",
                COUNTS,
            ),
            log_bytes: counter(r, "memorygate_log_bytes_total", "Bytes written to the log."),
            apply_seconds: histogram(
                r,
                "memorygate_apply_seconds",
                "Time to apply one batch of committed entries, its write included.",
                SECONDS,
            ),
            applied_entries: counter(
                r,
                "memorygate_applied_entries_total",
                "Log entries applied.",
            ),
            snapshot_seconds: histogram(
                r,
                "memorygate_snapshot_seconds",
                "Time to build one snapshot.",
                SECONDS,
            ),
            consolidation_passes: counter(
                r,
                "memorygate_consolidation_passes_total",
                "Consolidation passes that this node began.",
            ),
            consolidation_steps: counters(
                r,
                "memorygate_consolidation_steps_total",
                "Steps of consolidation that this node proposed, by kind.",
                &["kind"],
            ),
            consolidation_refused: counter(
                r,
                "memorygate_consolidation_refused_total",
                "Of these, steps that met something that had changed meanwhile.",
            ),
            hook_deliveries: counters(
                r,
                "memorygate_hook_deliveries_total",
                "Messages to webhooks that were answered, by hook and HTTP code.",
                &["hook", "code"],
            ),
            hook_events: counters(
                r,
                "memorygate_hook_events_total",
                "What they told of, by hook and whether it was learned, known or of no interest.",
                &["hook", "result"],
            ),
            backups: counter(
                r,
                "memorygate_backups_total",
                "Scheduled snapshot files that were written and read back.",
            ),
            backup_failures: counter(
                r,
                "memorygate_backup_failures_total",
                "Scheduled snapshots that failed; each is tried again.",
            ),
            backup_failing: int_gauge(
                r,
                "memorygate_backup_failing",
                "1 on the leader while scheduled snapshots fail: see its log, then the store.",
            ),
            backup_time_seconds: gauge(
                r,
                "memorygate_backup_time_seconds",
                "When this node wrote the last scheduled snapshot, in seconds since 1970.",
            ),
            index_lag_seconds: histogram(
                r,
                "memorygate_index_lag_seconds",
                "Time from the application of a batch until recalls see it.",
                SECONDS,
            ),
            index_lag: int_gauge(
                r,
                "memorygate_index_lag_positions",
                "Log positions by which the index is behind the state.",
            ),
            index_rebuilds: counter(
                r,
                "memorygate_index_rebuilds_total",
                "Times that the index was rebuilt from the state.",
            ),
            index_checkpoints: counter(
                r,
                "memorygate_index_checkpoints_total",
                "Checkpoints of the index on disk, the one loaded at the start included.",
            ),
            recall_seconds: histograms(
                r,
                "memorygate_recall_stage_seconds",
                "Time that each stage of a recall took.",
                SECONDS,
                &["stage"],
            ),
            recall_candidates: histogram(
                r,
                "memorygate_recall_candidates",
                "Candidates of one recall.",
                COUNTS,
            ),
            recall_queue: int_gauge(
                r,
                "memorygate_recall_queue_requests",
                "Recalls that wait for a thread.",
            ),
            positions: int_gauges(
                r,
                "memorygate_position",
                "Log positions: last in the log, committed, applied, indexed.",
                &["of"],
            ),
            memories: int_gauge(r, "memorygate_memories", "Memories stored."),
            namespaces: int_gauge(r, "memorygate_namespaces", "Namespaces that hold a memory."),
            leader: int_gauge(r, "memorygate_leader", "1 while this node leads."),
            storage_full: int_gauge(
                r,
                "memorygate_storage_full",
                "1 while writes are refused because the disk is nearly full.",
            ),
            disk_free_bytes: int_gauge(
                r,
                "memorygate_disk_free_bytes",
                "Bytes free on the disk of the data directory.",
            ),
            proposals_in_flight: int_gauge(
                r,
                "memorygate_proposals_in_flight",
                "Proposals that wait for their answers.",
            ),
            ready: int_gauges(
                r,
                "memorygate_ready",
                "1 for each readiness check that passes.",
                &["check"],
            ),
            term: int_gauge(r, "memorygate_term", "Term of the log."),
            draining: int_gauge(
                r,
                "memorygate_draining",
                "1 while this node is drained and takes no writes.",
            ),
            writes_in_flight: int_gauge(
                r,
                "memorygate_writes_in_flight",
                "Writes of callers that were taken and are not answered.",
            ),
            members: int_gauges(
                r,
                "memorygate_members",
                "Members of the cluster, as this node knows them.",
                &["kind"],
            ),
            member_lag: int_gauges(
                r,
                "memorygate_member_lag_entries",
                "Entries of the leader's log that a member has not applied, as last heard.",
                &["node"],
            ),
            alarms: int_gauges(
                r,
                "memorygate_alarms",
                "Active alarms of the cluster, by kind.",
                &["kind"],
            ),
            resident_bytes: int_gauge(
                r,
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            ),
            start_time_seconds: gauge(
                r,
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            ),
            registry,
        }
    }

    /// All metrics as Prometheus reads them.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("metrics whose names were accepted are encoded to memory");
        text
    }

    /// Records how long a stage of a recall took.
    pub fn stage(&self, stage: &str, took: Duration) {
        self.recall_seconds
            .with_label_values(&[stage])
            .observe(took.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What the storage threads report.
pub struct StorageObserver(pub std::sync::Arc<Metrics>);

impl memorygate_raft::Observer for StorageObserver {
    fn log_synced(&self, entries: usize, bytes: usize, took: Duration) {
        self.0.log_sync_seconds.observe(took.as_secs_f64());
        self.0.log_sync_entries.observe(entries as f64);
        self.0.log_bytes.inc_by(bytes as u64);
    }

    fn applied(&self, entries: usize, took: Duration) {
        self.0.apply_seconds.observe(took.as_secs_f64());
        self.0.applied_entries.inc_by(entries as u64);
    }

    fn snapshot_built(&self, _bytes: u64, took: Duration) {
        self.0.snapshot_seconds.observe(took.as_secs_f64());
    }
}

/// What the embedding threads report.
pub struct EmbedObserver(pub std::sync::Arc<Metrics>);

impl pool::Observer for EmbedObserver {
    fn batch(&self, batch: &pool::Batch) {
        let kind = [label(batch.kind)];
        let metrics = &self.0;
        let took = batch.took.as_secs_f64();
        metrics
            .embed_batch_seconds
            .with_label_values(&kind)
            .observe(took);
        metrics
            .embed_batch_texts
            .with_label_values(&kind)
            .observe(batch.texts as f64);
        metrics
            .embedded_pieces
            .with_label_values(&kind)
            .inc_by(batch.pieces as u64);
    }

    fn refused(&self, kind: pool::Kind, texts: usize) {
        self.0
            .embed_refused
            .with_label_values(&[label(kind)])
            .inc_by(texts as u64);
    }
}

/// The `kind` of a metric about embedding.
pub fn label(kind: pool::Kind) -> &'static str {
    match kind {
        pool::Kind::Memory => "memory",
        pool::Kind::Query => "query",
    }
}

const NAMES: &str = "metric names are written once, in this file, by Prometheus's rules";

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> C {
    registry.register(Box::new(metric.clone())).expect(NAMES);
    metric
}

fn counter(r: &Registry, name: &str, help: &str) -> IntCounter {
    register(r, IntCounter::new(name, help).expect(NAMES))
}

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(
        r,
        IntCounterVec::new(Opts::new(name, help), labels).expect(NAMES),
    )
}

fn gauge(r: &Registry, name: &str, help: &str) -> Gauge {
    register(r, Gauge::new(name, help).expect(NAMES))
}

fn int_gauge(r: &Registry, name: &str, help: &str) -> IntGauge {
    register(r, IntGauge::new(name, help).expect(NAMES))
}

fn int_gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(
        r,
        IntGaugeVec::new(Opts::new(name, help), labels).expect(NAMES),
    )
}

fn histogram(r: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(r, Histogram::with_opts(options).expect(NAMES))
}

fn histograms(
    r: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(r, HistogramVec::new(options, labels).expect(NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::new();
        metrics.requests.with_label_values(&["Recall", "Ok"]).inc();
        metrics.stage(stage::RANK, Duration::from_millis(3));
        let text = String::from_utf8(metrics.encode()).unwrap();
        assert!(text.contains("memorygate_requests_total{code=\"Ok\",method=\"Recall\"} 1"));
        assert!(
            text.contains("memorygate_recall_stage_seconds_bucket{stage=\"rank\",le=\"0.005\"} 1")
        );
        for family in metrics.registry.gather() {
            let name = family.name();
            assert!(
                name.starts_with("memorygate_") || name.starts_with("process_"),
                "{name}"
            );
            let is_counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
            assert_eq!(is_counter, name.ends_with("_total"), "{name}");
            assert!(family.help().ends_with('.'), "{name}");
        }
    }
}
