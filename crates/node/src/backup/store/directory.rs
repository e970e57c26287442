//! Snapshot files in a directory, which may be a mounted share. Everything here blocks.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use memorygate_raft::{
    ClusterId, FreeSpace,
    backup::{Backup, SaveError, write},
};

use super::{FILES_MAX, Listed};
use crate::backup::FileName;

#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Left free on the disk of the data directory.
    reserve_bytes: u64,
}

impl Directory {
    pub(super) fn new(path: &str) -> Self {
        Self {
            path: crate::settings::expand_home(Path::new(path)),
            reserve_bytes: 0,
        }
    }

    pub(super) fn is_inside(&self, data_dir: &Path) -> bool {
        self.path.starts_with(data_dir)
    }

    /// Leaves so much free where the data directory is on the same disk.
    pub(super) fn reserve(&mut self, bytes: u64, data_dir: &Path) {
        let device = |path: &Path| {
            let metadata = path.ancestors().find_map(|path| fs::metadata(path).ok());
            metadata.map(|metadata| metadata.dev())
        };
        if device(&self.path) == device(data_dir) {
            self.reserve_bytes = bytes;
        }
    }

    /// One more than there may be, at most, in no order that means something.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = BTreeMap::new();
        for entry in entries {
            let entry = entry?;
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let metadata = match entry.metadata() {
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
            let listed = Listed {
                name,
                bytes: metadata.len(),
                version: format!("{:?}", modified.unwrap_or_default()),
            };
            files.insert(name, listed);
            if files.len() > FILES_MAX {
                break;
            }
        }
        Ok(files.into_values().collect())
    }

    /// Makes the directory, and removes what an attempt of this cluster's left that a crash ended.
    pub(super) fn prepare(&self, cluster_id: ClusterId) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let whole = path.with_extension("");
            let name = whole.file_name().and_then(|name| name.to_str());
            let name = name.and_then(|name| name.parse::<FileName>().ok());
            let is_own = name.is_some_and(|name| name.cluster_id == cluster_id);
            if is_own && path == write::unfinished(&whole) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    pub(super) fn save(
        &self,
        name: &FileName,
        backup: &Backup,
        disk: &dyn FreeSpace,
    ) -> Result<(), SaveError> {
        backup.save(&self.file(name), disk, self.reserve_bytes)
    }

    pub(super) fn remove(&self, name: &FileName) -> io::Result<()> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    pub(super) fn open(&self, name: &FileName) -> io::Result<File> {
        File::open(self.file(name))
    }

    fn file(&self, name: &FileName) -> PathBuf {
        self.path.join(name.to_string())
    }
}
