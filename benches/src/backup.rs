//! `backup`: is a snapshot file that was saved under load the state of one moment, is any damage to it
//! seen, and does a fresh cluster that is made of it hold the same?
//!
//! ```text
//! fill ──▶ save, while writers go on ──▶ flip bytes: each file is refused
//!                                    └─▶ restore on one of three empty nodes ──▶ same state hash on all
//! ```

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use futures::TryStreamExt as _;
use memorygate_client::{Client, cluster::Snapshot};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    lessons::Lessons,
    nodes::Nodes,
    options::Options,
    progress::Progress,
    report::{Report, Table},
    statistics::Sample,
    teach::teach,
};

/// Writers that go on while the snapshot is saved.
const WRITERS: u64 = 4;

/// Between two writes of one of them.
const PAUSE: Duration = Duration::from_millis(5);

/// The restored nodes must hold the snapshot's state within this.
const RESTORED_WITHIN: Duration = Duration::from_secs(120);

/// Between two looks at them.
const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Experiences that are stored before.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    memories: u32,
    /// Bytes of the file that are flipped, one at a time.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    flips: u32,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let settings = [("log.level", "warn")];
    let mut nodes = Nodes::start(options, 3, &settings).await?;
    let client = nodes.client()?;
    let mut lessons = Lessons::new(options.seed);
    let lessons: Vec<_> = (0..arguments.memories)
        .map(|_| lessons.lesson().vector(lessons.vector()))
        .collect();
    teach(&client, "experiences", &lessons).await?;
    drop(lessons);

    let dir = tempfile::tempdir().context("make a directory for the snapshot")?;
    let path = dir.path().join("saved.snapshot");
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let seed = options.seed + 1 + writer;
        writers.spawn(write(client.clone(), seed, is_over.clone()));
    }
    let start = Instant::now();
    let snapshot = save(&client, &path).await?;
    let save_s = start.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    let mut times_ms = Vec::new();
    while let Some(of_writer) = writers.join_next().await {
        times_ms.extend(of_writer.context("a writer panicked")??);
    }
    let writes = Sample::new(times_ms).context("nothing was written while the file was saved")?;
    eprintln!(
        "saved: {} bytes at position {} in {save_s:.1} s",
        snapshot.bytes, snapshot.position.index
    );
    for at in 0..nodes.len() {
        nodes.server_mut(at).stop().await?;
    }

    let server = nodes.server(0);
    ensure!(verify(server, &path)?, "the saved file is refused");
    let undetected = flip(server, &path, arguments.flips, options.seed)?;

    let mut fresh = Nodes::prepare(options, 3, &settings)?;
    let data_dir = fresh.server(0).data_dir()?;
    let start = Instant::now();
    let restored = fresh.server(0).run(&[
        "restore".as_ref(),
        "--from".as_ref(),
        path.as_os_str(),
        "--data-dir".as_ref(),
        data_dir.as_os_str(),
    ])?;
    ensure!(
        restored.status.success(),
        "restore failed: {}",
        String::from_utf8_lossy(&restored.stderr)
    );
    for at in 0..fresh.len() {
        fresh.server_mut(at).spawn()?;
    }
    fresh.wait_ready().await?;
    let different = compare(&fresh, &snapshot).await?;
    let restore_s = start.elapsed().as_secs_f64();

    let mut report = Report::new("backup");
    report.count("memories", snapshot.memories);
    report.count("bytes", snapshot.bytes);
    report.number("save_s", save_s);
    report.count("writes_meanwhile", writes.count() as u64);
    report.number("write_p99_ms_meanwhile", writes.percentile(99.0));
    report.count("flipped", u64::from(arguments.flips));
    report.count("flips_not_refused", undetected);
    report.number("restore_s", restore_s);
    report.count("nodes_restored", fresh.len() as u64);
    report.count("nodes_different", different);
    let mut table = Table::new(
        "a snapshot file under load, restored into three nodes",
        [
            "memories",
            "MiB",
            "save s",
            "writes meanwhile",
            "flips refused",
            "restore s",
            "same state hash",
        ],
    );
    table.row([
        snapshot.memories.to_string(),
        format!("{:.0}", snapshot.bytes as f64 / 1048576.0),
        format!("{save_s:.1}"),
        writes.count().to_string(),
        format!(
            "{} of {}",
            u64::from(arguments.flips) - undetected,
            arguments.flips
        ),
        format!("{restore_s:.1}"),
        format!("{} of {}", fresh.len() as u64 - different, fresh.len()),
    ]);
    report.table(table);
    if undetected > 0 {
        report.failure(format!("{undetected} damaged files were taken"));
    }
    if different > 0 {
        report.failure(format!(
            "{different} nodes do not hold the snapshot's state"
        ));
    }
    Ok(report)
}

/// Milliseconds of each write until it is over.
async fn write(client: Client, seed: u64, is_over: Arc<AtomicBool>) -> anyhow::Result<Vec<f64>> {
    let (mut lessons, mut times_ms) = (Lessons::new(seed), Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let lesson = lessons.lesson().vector(lessons.vector());
        let start = Instant::now();
        client.learn(lesson).await.context("learn meanwhile")?;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        sleep(PAUSE).await;
    }
    Ok(times_ms)
}

async fn save(client: &Client, path: &Path) -> anyhow::Result<Snapshot> {
    let mut file = File::create(path).context("create the snapshot file")?;
    let saved = client.cluster().save_snapshot(None).await;
    let (snapshot, mut chunks) = saved.context("save a snapshot")?;
    while let Some(chunk) = chunks.try_next().await.context("save a snapshot")? {
        file.write_all(&chunk).context("write the snapshot file")?;
    }
    Ok(snapshot)
}

fn verify(server: &crate::server::Server, path: &Path) -> anyhow::Result<bool> {
    let output = server.run(&["snapshot".as_ref(), "verify".as_ref(), path.as_os_str()])?;
    Ok(output.status.success())
}

/// How many of the flipped files were not refused: the first byte, the last, and random ones.
fn flip(server: &crate::server::Server, path: &Path, flips: u32, seed: u64) -> anyhow::Result<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .context("open the snapshot file")?;
    let bytes = file.metadata()?.len();
    let mut progress = Progress::new("flip a byte", flips as usize);
    let mut undetected = 0;
    for number in 0..flips {
        let at = match number {
            0 => 0,
            1 => bytes - 1,
            _ => random.random_range(0..bytes),
        };
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        let flipped = byte[0] ^ (1 << random.random_range(0..8));
        file.write_all_at(&[flipped], at)?;
        if verify(server, path)? {
            eprintln!("a flip at byte {at} of {bytes} is not refused");
            undetected += 1;
        }
        file.write_all_at(&byte, at)?;
        progress.add(1);
    }
    progress.finish();
    ensure!(
        verify(server, path)?,
        "the file is refused with no byte flipped"
    );
    Ok(undetected)
}

/// How many nodes do not come to hold the snapshot's state.
async fn compare(nodes: &Nodes, snapshot: &Snapshot) -> anyhow::Result<u64> {
    let start = Instant::now();
    let mut different = 0;
    for at in 0..nodes.len() {
        let client = nodes.client_of(at)?;
        loop {
            let stats = client.stats().await.context("read stats")?;
            if stats.state_hash == snapshot.state_hash {
                break;
            }
            if start.elapsed() > RESTORED_WITHIN {
                eprintln!(
                    "node {} has state hash {}, the snapshot {}",
                    at + 1,
                    stats.state_hash,
                    snapshot.state_hash
                );
                different += 1;
                break;
            }
            sleep(POLL).await;
        }
    }
    Ok(different)
}
