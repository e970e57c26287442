//! Snapshots on schedule, on the leader alone, and which old ones go.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::{Backups, Error, FileName, store::Listed};
use crate::backend::Backend;

/// Looks in a period, and how often at most and at least.
const LOOKS: u64 = 10;
const LOOK_MIN: Duration = Duration::from_secs(1);
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Takes a snapshot each period, until it is dropped. What fails is tried again at the next look.
pub async fn run(backend: Arc<Backend>) {
    let backups = &backend.backups;
    if backups.interval_s == 0 || backups.store.is_none() {
        return;
    }
    let look_every = Duration::from_secs(backups.interval_s / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
    let mut ticks = interval(look_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut verified = BTreeSet::new();
    let mut is_failing = false;
    loop {
        ticks.tick().await;
        let metrics = &backend.metrics;
        if !backend.raft.is_leader() {
            // Whoever leads now says how it goes.
            metrics.backup_failing.set(0);
            is_failing = false;
            continue;
        }
        match look(backups, &backend, &mut verified).await {
            Ok(_) => {
                if is_failing {
                    info!("scheduled snapshots work again");
                }
                is_failing = false;
                metrics.backup_failing.set(0);
            }
            Err(failed) => {
                metrics.backup_failures.inc();
                metrics.backup_failing.set(1);
                if !is_failing {
                    error!(error = %failed, "scheduled snapshot failed, it is tried again");
                }
                is_failing = true;
            }
        }
    }
}

/// Takes a snapshot if one is due, and removes those that are too many. Returns whether one was taken.
async fn look(
    backups: &Backups,
    backend: &Backend,
    verified: &mut BTreeSet<Listed>,
) -> Result<bool, Error> {
    let store = backups.store()?;
    let cluster_id = backend.raft.identity().cluster_id;
    let own = |listed: &Listed| listed.name.cluster_id == cluster_id;
    let files: Vec<Listed> = store.list().await?.into_iter().filter(own).collect();
    // What is there no more needs not be remembered.
    verified.retain(|known| files.contains(known));
    let good = good(backups, &files, verified, 1).await?;
    let now = backend.clock.now().0;
    let period_ms = i64::try_from(backups.interval_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let is_due = good.first().is_none_or(|newest| {
        // A file of the future was made by a clock that was wrong.
        let age_ms = now.saturating_sub(newest.created_at_ms);
        age_ms >= period_ms || age_ms < 0
    });
    let is_unchanged = good
        .first()
        .is_some_and(|newest| newest.position >= backend.raft.position());
    if !is_due || is_unchanged {
        return Ok(false);
    }
    let made = backups.create(backend).await?;
    backend.metrics.backups.inc();
    backend
        .metrics
        .backup_time_seconds
        .set(now as f64 / 1_000.0);
    info!(
        name = %made.name,
        position = made.manifest.position,
        bytes = made.bytes,
        store = store.shown(),
        "snapshot saved"
    );
    retain(backups, verified, made.name).await?;
    Ok(true)
}

/// Removes the oldest files of a cluster beyond those to keep. Only files of which every byte was
/// verified count, once while this node leads; the newest is never removed, nor one that is damaged,
/// for a person to look at.
async fn retain(
    backups: &Backups,
    verified: &mut BTreeSet<Listed>,
    newest: FileName,
) -> Result<(), Error> {
    let store = backups.store()?;
    let files = store.list().await?;
    let own = |listed: &Listed| listed.name.cluster_id == newest.cluster_id;
    let files: Vec<Listed> = files.into_iter().filter(own).collect();
    let kept = good(backups, &files, verified, backups.keep).await?;
    let Some(oldest) = kept.get(backups.keep.saturating_sub(1)) else {
        return Ok(());
    };
    for file in &files {
        if newer(&file.name, oldest) || file.name == *oldest || file.name == newest {
            continue;
        }
        // It may be damaged: then it is not one that counts, and stays.
        if good(backups, std::slice::from_ref(file), verified, 1)
            .await?
            .is_empty()
        {
            continue;
        }
        store.delete(&file.name).await?;
        info!(name = %file.name, "old snapshot removed");
    }
    Ok(())
}

/// Up to `count` of the newest files that are whole, newest first.
async fn good(
    backups: &Backups,
    files: &[Listed],
    verified: &mut BTreeSet<Listed>,
    count: usize,
) -> Result<Vec<FileName>, Error> {
    let store = backups.store()?;
    let mut files: Vec<&Listed> = files.iter().collect();
    files.sort_by_key(|file| std::cmp::Reverse(order(&file.name)));
    let mut good = Vec::new();
    for file in files {
        if good.len() == count {
            break;
        }
        if !verified.contains(file) {
            match store.verify(&file.name).await {
                Ok(_) => {
                    verified.insert(file.clone());
                }
                Err(Error::Missing { .. }) => continue,
                Err(error @ Error::Read { .. }) => {
                    warn!(%error, "a snapshot in the store does not count");
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        good.push(file.name);
    }
    Ok(good)
}

fn newer(a: &FileName, b: &FileName) -> bool {
    order(a) > order(b)
}

fn order(name: &FileName) -> (u64, i64) {
    (name.position, name.created_at_ms)
}
