//! The index on disk, so that a restart need not read and prepare every memory again.
//!
//! ```text
//! magic · format · cluster · position · namespaces · crc
//! then for each namespace, each a section (kind · length · crc · bytes):
//!     memories   name, and of each memory what filters, sessions and identity need
//!     words      lengths and postings
//!     bits       memory of each vector, sign bits of each vector
//!     vectors    f32, little endian, up to 1,024 a section, as often as needed
//! end section
//! ```
//!
//! Memories are numbered anew, without gaps, so a checkpoint holds no tombstones and says nothing of
//! history. It is written beside the old one and put in its place when it is on disk; whatever is
//! wrong with it is an error by name, and the caller rebuilds. What it holds depends on how words
//! are cut (`lexical::tokens`) and how vectors are rotated (`dense::signs`): when either
//! changes, so must [`FORMAT`].

pub(crate) mod sections;

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read as _, Write as _},
    path::Path,
};

use self::sections::{Fields, Kind};
use crate::{
    faiss,
    index::Index,
    namespace::stored::{self, Image},
};

/// The layout that this program reads and writes.
pub const FORMAT: u32 = 2;

const MAGIC: [u8; 8] = *b"MGINDEX\0";

/// Magic, format, cluster, position, namespaces, and the CRC of these.
const HEADER_BYTES: usize = 8 + 4 + 16 + 8 + 4 + 4;

/// Names a cluster: its 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId(pub u128);

/// An image of an index at one position. Its vectors are shared with the index.
pub struct Checkpoint {
    cluster: ClusterId,
    position: u64,
    memories: u64,
    namespaces: Vec<Image>,
}

/// An index as it was at a position.
#[derive(Debug)]
pub struct Loaded {
    pub position: u64,
    pub index: Index,
}

/// Why a checkpoint is not used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("there is no index checkpoint")]
    Missing,
    #[error("read index checkpoint: {0}")]
    Io(#[from] io::Error),
    #[error("file is no index checkpoint")]
    Foreign,
    #[error("index checkpoint has format {actual}, expected {FORMAT}")]
    Format { actual: u32 },
    #[error("index checkpoint is of cluster {actual:032x}, expected {expected:032x}")]
    Cluster { expected: u128, actual: u128 },
    #[error("index checkpoint is damaged in {part}: {reason}")]
    Damaged { part: &'static str, reason: String },
    #[error(transparent)]
    Faiss(#[from] faiss::Error),
}

impl Checkpoint {
    /// Takes the image: copies all but the vectors.
    pub fn of(index: &Index, cluster: ClusterId, position: u64) -> Self {
        let namespaces = index
            .namespaces()
            .map(|(name, index)| Image::of(name, index))
            .collect();
        Self {
            cluster,
            position,
            memories: index.sizes().memories as u64,
            namespaces,
        }
    }

    /// Memories that it holds.
    pub fn memories(&self) -> u64 {
        self.memories
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes the file: it is there as a whole and on disk, or as it was before. Returns its bytes.
    pub fn write(&self, path: &Path) -> io::Result<u64> {
        let staged = path.with_extension("new");
        let written = self.write_staged(&staged).and_then(|bytes| {
            fs::rename(&staged, path)?;
            // The new name must survive a crash too.
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(bytes)
        });
        if written.is_err() {
            // On a full disk half a file is worse than none; that it stays is no second error.
            let _ = fs::remove_file(&staged);
        }
        written
    }

    fn write_staged(&self, path: &Path) -> io::Result<u64> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(&self.header())?;
        for namespace in &self.namespaces {
            namespace.write(&mut file)?;
        }
        sections::write(&mut file, Kind::End, &[])?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }

    fn header(&self) -> Vec<u8> {
        let namespaces = u32::try_from(self.namespaces.len()).expect("far fewer namespaces fit");
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(MAGIC);
        header.extend(FORMAT.to_le_bytes());
        header.extend(self.cluster.0.to_le_bytes());
        header.extend(self.position.to_le_bytes());
        header.extend(namespaces.to_le_bytes());
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        header
    }
}

/// Reads the index of `cluster` back.
pub fn load(path: &Path, cluster: ClusterId) -> Result<Loaded, LoadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LoadError::Missing),
        Err(error) => return Err(error.into()),
    };
    let mut file = BufReader::with_capacity(1 << 20, file);
    let (position, namespaces) = read_header(&mut file, cluster)?;
    let mut index = Index::default();
    for _ in 0..namespaces {
        let (name, namespace) = stored::read(&mut file)?;
        index.put(name, namespace);
    }
    sections::read(&mut file, Kind::End)?;
    if file.read(&mut [0_u8])? > 0 {
        return Err(damaged("end", "something follows it"));
    }
    Ok(Loaded { position, index })
}

fn read_header(file: &mut impl io::Read, cluster: ClusterId) -> Result<(u64, u32), LoadError> {
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(LoadError::Foreign);
        }
        Err(error) => return Err(error.into()),
    }
    let (magic, fields) = header
        .split_first_chunk()
        .expect("the header begins with the magic");
    if *magic != MAGIC {
        return Err(LoadError::Foreign);
    }
    // The format before the CRC: what a newer format's header holds is not for this program to know.
    let mut fields = Fields::of(fields);
    let actual = u32::from_le_bytes(fields.take().expect("the header holds a format"));
    if actual != FORMAT {
        return Err(LoadError::Format { actual });
    }
    let of_header = "the header has its fixed length";
    let actual = u128::from_le_bytes(fields.take().expect(of_header));
    let position = u64::from_le_bytes(fields.take().expect(of_header));
    let namespaces = u32::from_le_bytes(fields.take().expect(of_header));
    let crc = u32::from_le_bytes(fields.take().expect(of_header));
    if crc != crc32c::crc32c(&header[..HEADER_BYTES - 4]) {
        return Err(damaged("header", "its checksum does not match"));
    }
    if actual != cluster.0 {
        return Err(LoadError::Cluster {
            expected: cluster.0,
            actual,
        });
    }
    Ok((position, namespaces))
}

fn damaged(part: &'static str, reason: impl Into<String>) -> LoadError {
    LoadError::Damaged {
        part,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{self, State};

    const CLUSTER: ClusterId = ClusterId(0x1234);

    fn state(history: &[(u64, u64)]) -> State {
        let mut state = State::default();
        for (number, seed) in history {
            state.apply(*number, *seed);
        }
        state
    }

    /// The index of a state with holes and tombstones, as one that lived has them.
    fn lived(history: &[(u64, u64)]) -> Index {
        let (mut state, mut index) = (State::default(), Index::default());
        for (number, seed) in history {
            index
                .apply(&Index::prepare(&state.apply(*number, *seed)))
                .unwrap();
        }
        index
    }

    fn some_history() -> Vec<(u64, u64)> {
        (0..90).map(|i| (i * 7 % 25, i * 31)).collect()
    }

    fn error(path: &Path) -> String {
        load(path, CLUSTER).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_foreign_or_newer_file_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        assert!(matches!(load(&path, CLUSTER), Err(LoadError::Missing)));
        fs::write(&path, b"short").unwrap();
        assert_eq!(error(&path), "file is no index checkpoint");
        fs::write(&path, [7; 4096]).unwrap();
        assert_eq!(error(&path), "file is no index checkpoint");
        let index = lived(&some_history());
        Checkpoint::of(&index, ClusterId(0x99), 5)
            .write(&path)
            .unwrap();
        assert_eq!(
            error(&path),
            format!(
                "index checkpoint is of cluster {:032x}, expected {:032x}",
                0x99, 0x1234
            )
        );
        Checkpoint::of(&index, CLUSTER, 5).write(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 3;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(error(&path), "index checkpoint has format 3, expected 2");
        assert!(
            error(dir.path()).starts_with("read index checkpoint: "),
            "a folder is no file"
        );
    }

    /// What follows from the layout, from how words are cut and from how vectors are rotated: if
    /// this changes, [`FORMAT`] must too, or old files are taken for what they are not.
    #[test]
    fn the_bytes_of_a_format_are_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        Checkpoint::of(&lived(&some_history()), CLUSTER, 5)
            .write(&path)
            .unwrap();
        assert_eq!(
            (FORMAT, crc32c::crc32c(&fs::read(&path).unwrap())),
            (2, 0x00a8_81f2)
        );
    }

    #[test]
    fn damage_anywhere_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let index = lived(&some_history());
        let bytes = Checkpoint::of(&index, CLUSTER, 5).write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        assert_eq!(bytes, whole.len() as u64);
        for at in (0..whole.len()).step_by(97).chain(0..HEADER_BYTES + 13) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(load(&path, CLUSTER).is_err(), "byte {at}");
        }
        for end in (0..whole.len()).step_by(1013) {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(load(&path, CLUSTER).is_err(), "cut at {end}");
        }
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert_eq!(
            error(&path),
            "index checkpoint is damaged in end: something follows it"
        );
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let index = lived(&some_history());
        Checkpoint::of(&index, CLUSTER, 5).write(&path).unwrap();
        fs::create_dir(dir.path().join("checkpoint.new")).unwrap();
        assert!(Checkpoint::of(&index, CLUSTER, 6).write(&path).is_err());
        assert_eq!(load(&path, CLUSTER).unwrap().position, 5);
        let missing = dir.path().join("no/such/folder");
        assert!(Checkpoint::of(&index, CLUSTER, 6).write(&missing).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_read_back_answers_and_lives_on_as_before(
            history in prop::collection::vec((0_u64..30, any::<u64>()), 0..120),
            later in prop::collection::vec((0_u64..30, any::<u64>()), 0..40),
            position in any::<u64>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("checkpoint");
            let index = lived(&history);
            Checkpoint::of(&index, CLUSTER, position).write(&path).unwrap();
            let Loaded { position: loaded, index: mut read } = load(&path, CLUSTER).unwrap();
            prop_assert_eq!(loaded, position);
            prop_assert_eq!(samples::answers(&read), samples::answers(&index));
            prop_assert_eq!(read.sizes().tombstones, 0);
            let mut state = state(&history);
            for (number, seed) in later {
                read.apply(&Index::prepare(&state.apply(number, seed))).unwrap();
            }
            prop_assert_eq!(samples::answers(&read), samples::answers(&samples::index_of(&state)));
        }
    }
}
