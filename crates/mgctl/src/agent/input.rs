//! Files that an agent reads, each within a bound.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

/// A file, or standard input for `-`.
pub(super) fn lines(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(Box::new(BufReader::new(file)))
}

/// All of it. One byte more than `limit` is read of what is longer, and that is refused.
pub(super) fn document(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = lines(path)?.take(limit as u64 + 1);
    reader
        .read_to_end(&mut bytes)
        .with_context(|| format!("read {}", path.display()))?;
    let shown = path.display();
    ensure!(
        bytes.len() <= limit,
        "read {shown}: it has more than {limit} bytes: cut out the part that matters"
    );
    Ok(bytes)
}

/// Standard input can be read only once.
pub(super) fn check_stdin<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> anyhow::Result<()> {
    let count = paths
        .into_iter()
        .filter(|path| path.as_os_str() == "-")
        .count();
    ensure!(
        count <= 1,
        "\"-\" is named {count} times, expected once: standard input is one file"
    );
    Ok(())
}
