//! A disk that changes bytes: the node must notice, must not serve what is wrong, and is replaced.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rand::{Rng as _, rngs::StdRng};
use tokio::time::sleep;

use super::{Effect, Scene, wipe};
use crate::cluster::node::check_directory;

/// Bytes that are changed in one strike.
const BYTES: usize = 64;

/// Directories whose files are of consequence.
const PLACES: &[&str] = &["log", "state", "snapshots"];

pub(super) async fn strike(scene: &mut Scene<'_>) -> anyhow::Result<Effect> {
    scene.cluster.healthy(scene.recovery).await?;
    let at = scene.victim().await;
    scene.cluster.kill(at)?;
    let data = scene.cluster.node(at).data().to_owned();
    let place = PLACES[scene.random.random_range(0..PLACES.len())];
    let changed = corrupt(&data, place, scene.random)?;
    let Some(changed) = changed else {
        scene.cluster.start(at)?;
        return Ok(Effect::Nothing(format!(
            "node {at} has no file in its {place}"
        )));
    };
    let (is_whole, words) = check_directory(scene.cluster.node(at).program(), &data)?;
    scene.cluster.start(at)?;
    sleep(scene.hold).await;
    let exits = scene.cluster.exits().len();
    scene.cluster.notice_exits()?;
    let has_left = scene.cluster.exits().len() > exits;
    // Whatever it did, its disk is not to be trusted.
    scene.cluster.kill(at)?;
    scene.cluster.wipe(at)?;
    scene.cluster.start(at)?;
    scene.cluster.healthy(scene.recovery).await?;
    let after = wipe::node_id(scene.cluster, at).await;
    let name = changed.strip_prefix(&data).unwrap_or(&changed).display();
    Ok(if has_left || !is_whole {
        Effect::Seen(format!(
            "{BYTES} bytes of {name} of node {at} were changed; the node {}; its place was taken by \
             {after:?}",
            if has_left {
                "refused to serve"
            } else {
                "served without what was damaged, which its check finds"
            }
        ))
    } else {
        Effect::Nothing(format!(
            "{BYTES} bytes of {name} of node {at} were changed, and nothing was read there: {words}"
        ))
    })
}

/// Changes bytes in the middle of one of the larger files below `place`.
fn corrupt(data: &Path, place: &str, random: &mut StdRng) -> anyhow::Result<Option<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![data.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).context("list a data directory")? {
            let path = entry.context("list a data directory")?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.components().any(|part| part.as_os_str() == place) {
                let is_content = path.extension().is_some_and(|e| e == "sst" || e == "log");
                let bytes = fs::metadata(&path).context("look at a file")?.len();
                if is_content && bytes > 0 {
                    files.push((bytes, path));
                }
            }
        }
    }
    files.sort();
    let Some((bytes, path)) = files.pop() else {
        return Ok(None);
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .context("open a file to change")?;
    // Not the very end: a torn tail is what any crash leaves.
    let last = (bytes / 2).max(1);
    for _ in 0..BYTES {
        let at = random.random_range(0..last);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).context("read a byte")?;
        file.write_all_at(&[byte[0] ^ random.random_range(1..=u8::MAX)], at)
            .context("change a byte")?;
    }
    Ok(Some(path))
}
