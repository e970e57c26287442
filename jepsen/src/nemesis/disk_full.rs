//! A file system without a byte left: another file has taken them all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use rand::Rng as _;
use tokio::time::sleep;

use super::{Effect, Scene};
use crate::cluster::SMALL_DISK_BYTES;

/// What is written at once, and the smallest piece that is tried in the end.
const PIECE_BYTES: usize = 1 << 20;

/// What a disk is left with when it is only nearly full.
const LITTLE_BYTES: u64 = 2 << 20;

pub(super) async fn strike(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    let at = scene.victim().await;
    let data = scene.cluster.node(at).data().to_owned();
    let filler = data.with_file_name("filler");
    let leaves = if scene.random.random_bool(0.7) {
        0
    } else {
        LITTLE_BYTES
    };
    let taken = fill(&filler, leaves);
    sleep(scene.hold).await;
    fs::remove_file(&filler).context("give the disk its room back")?;
    scene.cluster.notice_exits()?;
    scene.cluster.start_all()?;
    let taken = taken.context("fill a disk")?;
    Ok(Effect::Seen(format!(
        "another file took {taken} bytes of node {at}'s disk until it was full{}",
        if leaves > 0 { ", less a little" } else { "" }
    )))
}

/// Writes until there is no room; then gives `leaves` bytes back.
fn fill(path: &Path, leaves: u64) -> io::Result<u64> {
    let mut file = File::create(path)?;
    let piece = vec![0xAA; PIECE_BYTES];
    let (mut taken, mut length) = (0, piece.len());
    while length > 0 && taken < SMALL_DISK_BYTES {
        match file.write(&piece[..length]) {
            Ok(written) => taken += written as u64,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => length /= 2,
            Err(error) => return Err(error),
        }
    }
    file.set_len(taken.saturating_sub(leaves))?;
    Ok(taken)
}
