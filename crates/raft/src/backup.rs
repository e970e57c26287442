//! A snapshot as one file: made beside live traffic, verified byte by byte, restored into a new cluster.
//!
//! ```text
//! bytes   what
//! 8       89 "MGSNAP" 0a
//! 4       format of the file, little-endian
//! 4       bytes of the manifest, little-endian
//! …       manifest: JSON, see [`Manifest`]
//! …       the parts, one after the other, in the manifest's order
//! 32      SHA-256 of everything before it; nothing follows
//! ```
//!
//! The framing is our own and not tar's, because the manifest already says what a tar header would, and
//! a tar has bytes that its readers skip: padding, unused header fields, what follows the end. Here
//! every byte is under a digest, and there is one way to read it.
//!
//! It holds no vote and no log, and nothing of a node's identity counts: whoever restores it begins a
//! new cluster, see [`restore()`].

mod manifest;
pub mod read;
pub mod restore;
pub mod write;

pub use self::{
    manifest::Manifest,
    read::{ReadError, verify},
    restore::{Restore, RestoreError, Restored, restore},
    write::{Backup, SaveError},
};
pub use crate::snapshots::manifest::Part;

/// What a snapshot file begins with: no text has the first byte, and a transfer as text breaks the last.
const MAGIC: [u8; 8] = *b"\x89MGSNAP\n";

/// The layout of the file that this program reads and writes.
pub const FORMAT: u32 = 1;

/// Bytes of a manifest, at most: 16 MiB are 100,000 parts, a state of more than 6 TB.
const MANIFEST_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Bytes read, hashed and written at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Magic, format, length of the manifest.
const HEAD_BYTES: usize = 8 + 4 + 4;

/// SHA-256.
const TRAILER_BYTES: usize = 32;
