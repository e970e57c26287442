//! The time from the start of a process to a server that is ready, after it was stopped and after it
//! was killed.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use memorygate_client::Recall;

use crate::{
    report::{Report, Table},
    server::Server,
    teach::connect,
};

pub(super) async fn measure(
    server: &mut Server,
    namespace: &str,
    memories: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let header = [
        "restart",
        "stop s",
        "start to ready s",
        "first recall ms",
        "resident MiB",
    ];
    let mut table = Table::new("Restart", header);
    eprintln!("restart: SIGTERM");
    let stop_s = server.stop().await?.as_secs_f64();
    let restart_s = server.restart().await?.as_secs_f64();
    let first_ms = first_recall_ms(server, namespace, memories).await?;
    report.number("stop_s", stop_s);
    report.number("restart_s", restart_s);
    report.number("restart_first_recall_ms", first_ms);
    let resident_mib = server.resident_mib()?;
    report.number("restart_resident_mib", resident_mib);
    let row = |name: &str, stop_s: String, start_s: f64, first_ms: f64, resident_mib: f64| {
        [
            name.to_owned(),
            stop_s,
            format!("{start_s:.2}"),
            format!("{first_ms:.1}"),
            format!("{resident_mib:.0}"),
        ]
    };
    table.row(row(
        "after SIGTERM",
        format!("{stop_s:.2}"),
        restart_s,
        first_ms,
        resident_mib,
    ));

    eprintln!("restart: SIGKILL");
    server.kill()?;
    let restart_s = server.restart().await?.as_secs_f64();
    let first_ms = first_recall_ms(server, namespace, memories).await?;
    report.number("restart_after_kill_s", restart_s);
    table.row(row(
        "after SIGKILL",
        "–".into(),
        restart_s,
        first_ms,
        server.resident_mib()?,
    ));
    report.table(table);
    Ok(())
}

/// A server that says that it is ready answers, and has everything.
async fn first_recall_ms(server: &Server, namespace: &str, memories: u64) -> anyhow::Result<f64> {
    let client = connect(server)?.in_namespace(namespace);
    let start = Instant::now();
    let reply = client
        .recall(&Recall::new("pods restart after a rollout"))
        .await;
    let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
    ensure!(
        !reply.context("recall")?.results.is_empty(),
        "the first recall found nothing"
    );
    let stats = client.stats_of(namespace).await.context("read stats")?;
    let stored: u64 = stats.namespaces.iter().map(|n| n.memories).sum();
    ensure!(
        stored == memories,
        "{stored} memories after the restart, expected {memories}"
    );
    Ok(elapsed_ms)
}
