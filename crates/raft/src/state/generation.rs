//! The directories that the state lives in, one after the other.
//!
//! An installed snapshot becomes a new directory beside the one in use; a pointer file, replaced
//! atomically, names the one that counts. Readers of the old state keep it open; its directory goes
//! when the last of them is done. Whatever the pointer does not name is removed at the next start,
//! so a crash at any line leaves either the old state or the new one.

use std::{
    fs, io,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::warn;

use crate::{
    dir::{Lock, OpenError},
    durable,
    failpoint::Failpoints,
    fatal::Alarm,
    rocks::{Kind, Memory, Mode, Store},
};

const POINTER: &str = "current";
const NAME_DIGITS: usize = 10;

/// The parent of all generations.
pub(crate) struct Root {
    path: PathBuf,
    memory: Memory,
    alarm: Alarm,
    failpoints: Failpoints,
    lock: Arc<Lock>,
}

/// One open state database.
pub(crate) struct Generation {
    number: u64,
    /// Dropped by hand, because its directory can only be removed after it is closed.
    store: ManuallyDrop<Store>,
    is_retired: AtomicBool,
    /// Other processes are kept out as long as anybody reads.
    _lock: Arc<Lock>,
}

impl Root {
    pub(crate) fn new(
        path: &Path,
        memory: Memory,
        alarm: Alarm,
        failpoints: Failpoints,
        lock: Arc<Lock>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            memory,
            alarm,
            failpoints,
            lock,
        }
    }

    /// Opens the generation in use, after removing what a crash left beside it. `None` if no
    /// generation was ever made.
    pub(crate) fn open(&self) -> Result<Option<Generation>, OpenError> {
        let Some(number) = current(&self.path)? else {
            return Ok(None);
        };
        // First, so that nothing is removed for a pointer that leads nowhere.
        let generation = self.open_dir(number, Mode::Existing)?;
        let kept = self.dir(number);
        for entry in self.entries()? {
            if entry != kept && entry != self.pointer() {
                warn!(path = %entry.display(), "left by an interrupted change of the state, removed");
                let removed = if entry.is_dir() {
                    durable::remove_dir(&entry)
                } else {
                    fs::remove_file(&entry)
                };
                removed.map_err(|error| OpenError::io("remove", &entry, error))?;
            }
        }
        Ok(Some(generation))
    }

    /// Makes the first, empty generation. What an interrupted attempt left is removed.
    pub(crate) fn create(&self) -> Result<Generation, OpenError> {
        durable::remove_dir(&self.path)
            .and_then(|()| fs::create_dir_all(&self.path))
            .map_err(|error| OpenError::io("create", &self.path, error))?;
        self.open_dir(1, Mode::Create)
    }

    /// An empty directory for the generation after `number`.
    pub(crate) fn prepare(&self, number: u64) -> io::Result<PathBuf> {
        let dir = self.dir(number + 1);
        durable::remove_dir(&dir)?;
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Opens what was put into the directory that [`Self::prepare`] made after `number`.
    pub(crate) fn open_prepared(&self, number: u64) -> Result<Generation, OpenError> {
        self.open_dir(number + 1, Mode::Existing)
    }

    /// From now on this generation counts, after a crash too.
    pub(crate) fn point_to(&self, generation: &Generation) -> io::Result<()> {
        self.failpoints.hit("state: before the pointer")?;
        point_to(&self.path, generation.number)?;
        self.failpoints.hit("state: after the pointer")
    }

    fn entries(&self) -> Result<Vec<PathBuf>, OpenError> {
        let read = || {
            fs::read_dir(&self.path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<Vec<_>>>()
        };
        read().map_err(|error| OpenError::io("list", &self.path, error))
    }

    fn open_dir(&self, number: u64, mode: Mode) -> Result<Generation, OpenError> {
        let dir = self.dir(number);
        let store = Store::open(Kind::State, mode, &dir, &self.memory, self.alarm.clone())?;
        Ok(Generation {
            number,
            store: ManuallyDrop::new(store),
            is_retired: AtomicBool::new(false),
            _lock: self.lock.clone(),
        })
    }

    fn dir(&self, number: u64) -> PathBuf {
        self.path.join(name(number))
    }

    fn pointer(&self) -> PathBuf {
        self.path.join(POINTER)
    }
}

/// Where the first generation below `root` is.
pub(crate) fn first_dir(root: &Path) -> PathBuf {
    root.join(name(1))
}

/// Makes the first generation below `root` the one in use.
pub(crate) fn point_to_first(root: &Path) -> io::Result<()> {
    point_to(root, 1)
}

fn point_to(root: &Path, number: u64) -> io::Result<()> {
    durable::replace(&root.join(POINTER), pointer_text(number).as_bytes())
}

/// The directory of the generation in use below `root`.
pub(crate) fn current_dir(root: &Path) -> Result<PathBuf, OpenError> {
    match current(root)? {
        Some(number) => Ok(root.join(name(number))),
        None => Err(OpenError::corrupt(root, "no generation is in use")),
    }
}

fn current(root: &Path) -> Result<Option<u64>, OpenError> {
    let pointer = root.join(POINTER);
    let bytes = match fs::read(&pointer) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| OpenError::io("read", &pointer, error))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let number = text.get(..NAME_DIGITS).and_then(|name| name.parse().ok());
    match number {
        Some(number) if pointer_text(number) == text => Ok(Some(number)),
        Some(_) | None => Err(OpenError::corrupt(&pointer, format!("it says {text:?}"))),
    }
}

/// The generation's name and the CRC-32C of it.
fn pointer_text(number: u64) -> String {
    let name = name(number);
    let checksum = crc32c::crc32c(name.as_bytes());
    format!("{name} {checksum:08x}\n")
}

fn name(number: u64) -> String {
    format!("{number:0NAME_DIGITS$}")
}

impl Generation {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Another generation counts now: this one's directory goes with its last reader.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let path = self.store.path().to_owned();
        #[expect(
            unsafe_code,
            reason = "a field has to be dropped before the end of drop"
        )]
        // SAFETY: the store is dropped here and nowhere else, and nothing uses it afterwards: this
        // is the last line of `drop` that touches it.
        unsafe {
            ManuallyDrop::drop(&mut self.store);
        }
        if *self.is_retired.get_mut()
            && let Err(error) = durable::remove_dir(&path)
        {
            // The next start removes it.
            warn!(%error, path = %path.display(), "old state could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dir::DataDir, settings::Settings};

    #[test]
    fn a_pointer_that_leads_nowhere_removes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let memory = Memory::new(&Settings::default());
        let data = DataDir::open(&dir.path().join("data"), None).unwrap();
        let (alarm, failpoints) = (Alarm::new(), Failpoints::default());
        let root = Root::new(&path, memory, alarm, failpoints, data.lock());
        let first = root.create().unwrap();
        root.point_to(&first).unwrap();
        drop(first);
        let pointer = path.join(POINTER);
        assert_eq!(
            fs::read_to_string(&pointer).unwrap(),
            "0000000001 3b9654c7\n"
        );
        let found = |text: &[u8]| {
            fs::write(&pointer, text).unwrap();
            let error = root.open().err().unwrap();
            assert!(path.join("0000000001").exists());
            error.to_string()
        };
        let damaged: [&[u8]; 5] = [
            b"",
            b"x",
            b"\xff000000001 3b9654c7\n",
            b"0000000001\n",
            b"0000000003 3b9654c7\n",
        ];
        for text in damaged {
            let error = found(text);
            assert!(error.contains("is corrupt: it says"), "{error}");
        }
        let error = found(pointer_text(3).as_bytes());
        assert!(error.contains("0000000003 is corrupt"), "{error}");
        fs::write(&pointer, pointer_text(1)).unwrap();
        fs::write(path.join("current.new"), "").unwrap();
        fs::create_dir(path.join("0000000002")).unwrap();
        assert_eq!(root.open().unwrap().unwrap().number(), 1);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
        assert!(current_dir(dir.path()).is_err());
    }
}
