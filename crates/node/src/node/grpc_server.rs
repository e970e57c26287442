//! The gRPC server with reflection and health, until it is told to stop.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use memorygate_proto::{
    DESCRIPTORS,
    v1::{
        cluster_server::ClusterServer, consolidation_server::ConsolidationServer,
        memory_gate_server::MemoryGateServer,
    },
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    codec::CompressionEncoding,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::warn;

use crate::{
    cluster::Cluster,
    grpc::{
        Api,
        cluster::ClusterApi,
        consolidation::ConsolidationApi,
        guard::{Bounds, Guard},
    },
    health::Health,
    settings::Settings,
};

/// What the health service knows: the whole server, which has the empty name, and its services.
const SERVICES: [&str; 4] = [
    "",
    "memorygate.v1.MemoryGate",
    "memorygate.v1.Cluster",
    "memorygate.v1.Consolidation",
];

/// How often the health service is told how the node is.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// A connection that says nothing is asked this often whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Returns what stops the server, the server, and the task that keeps its health service true.
pub(super) async fn serve(
    listener: TcpListener,
    settings: &Settings,
    cluster: &Arc<Cluster>,
    health: &Arc<Health>,
) -> anyhow::Result<(oneshot::Sender<()>, JoinHandle<()>, JoinHandle<()>)> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    report(&reporter, false).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("describe services")?;
    let backend = cluster.backend();
    let bounds = Bounds::new(
        settings.server.requests_max,
        settings.server.in_flight_bytes_max,
        backend.metrics.clone(),
    );
    let max = settings.server.message_bytes_max;
    let api = MemoryGateServer::new(Api {
        backend: backend.clone(),
    })
    .max_decoding_message_size(max)
    .max_encoding_message_size(max)
    .accept_compressed(CompressionEncoding::Gzip)
    .send_compressed(CompressionEncoding::Gzip);
    let cluster_api = ClusterServer::new(ClusterApi {
        cluster: cluster.clone(),
    })
    .max_decoding_message_size(max)
    .max_encoding_message_size(max)
    .accept_compressed(CompressionEncoding::Gzip)
    .send_compressed(CompressionEncoding::Gzip);
    let consolidation_api = ConsolidationServer::new(ConsolidationApi::new(backend.clone()))
        .max_decoding_message_size(max)
        .max_encoding_message_size(max)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .layer(Guard(Arc::new(bounds)))
        .add_service(api)
        .add_service(cluster_api)
        .add_service(consolidation_api)
        .add_service(health_service)
        .add_service(reflection);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, stopped).await {
            warn!(%error, "gRPC server ended");
        }
    });
    Ok((
        stop,
        task,
        tokio::spawn(keep_reporting(reporter, health.clone())),
    ))
}

async fn keep_reporting(reporter: HealthReporter, health: Arc<Health>) {
    let mut last = false;
    loop {
        let is_ready = health
            .ready()
            .iter()
            .all(|c| !c.decides || c.failure.is_none());
        if last != is_ready {
            report(&reporter, is_ready).await;
            last = is_ready;
        }
        tokio::time::sleep(REPORT_EVERY).await;
    }
}

async fn report(reporter: &HealthReporter, is_ready: bool) {
    let status = if is_ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}
