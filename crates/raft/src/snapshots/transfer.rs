//! A snapshot on its way to another member.
//!
//! ```text
//! leader ── offer: vote, manifest ──▶ follower     links what it has, keeps what came before
//!        ◀── wants: parts, from where ──
//!        ── chunk, chunk, … ──▶                     each with its checksum
//!        ── end ──▶                                 every file hashed, then installed
//!        ◀── vote ──
//! ```
//!
//! What was received before a connection broke off stays, and the next attempt goes on from there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::timeout};
use tracing::info;

use super::{SnapshotFiles, Snapshots, manifest::Manifest};
use crate::{
    durable,
    message::{self, Malformed},
    transport::{Answers, Channel, Messages, Peer, Transport, TransportError},
    types::Vote,
};

/// Bytes of a file in one message.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Messages read ahead of the connection.
const READ_AHEAD: usize = 2;

/// How long either end waits for the other's next message. The follower hashes files meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(60);

const CHUNK: u8 = 2;

/// Kind, part, offset, checksum.
const CHUNK_HEAD_BYTES: usize = 1 + 4 + 8 + 4;

/// What a leader begins with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) vote: Vote,
    pub(crate) manifest: Manifest,
}

/// What a follower answers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Wants(Vec<Want>),
    /// The snapshot is installed, or this vote is higher than the leader's.
    Done(Vote),
}

/// A part that a follower has not, or not all of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Want {
    /// Its place in the manifest.
    part: u32,
    /// Bytes that are there already.
    from: u64,
}

/// What names of staged directories begin with.
const RECEIVED: &str = "received-";

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("send a snapshot to {address}: {reason}")]
    Answer { address: String, reason: String },
}

/// Sends every file that `to` lacks, and returns its vote.
pub(crate) async fn send(
    transport: &dyn Transport,
    to: &Peer,
    vote: Vote,
    snapshot: Arc<SnapshotFiles>,
    open_within: Duration,
) -> Result<Vote, SendError> {
    let (chunks, queue) = mpsc::channel(READ_AHEAD);
    let offer = message::encode(&Offer {
        vote,
        manifest: snapshot.manifest().clone(),
    });
    let queued = stream::unfold(queue, |mut queue| async move {
        Some((queue.recv().await?, queue))
    });
    let requests = stream::once(std::future::ready(offer)).chain(queued);
    let opened = transport.open(to, Channel::Snapshot, requests.boxed(), open_within);
    let mut answers = opened.await?;
    let wants = match next(&mut answers, to).await? {
        // Another leader has been elected, or the same was sent before.
        Answer::Done(vote) => return Ok(vote),
        Answer::Wants(wants) => wants,
    };
    let count = snapshot.manifest().parts.len();
    if let Some(want) = wants.iter().find(|want| want.part as usize >= count) {
        return Err(SendError::Answer {
            address: to.address.clone(),
            reason: format!("it wants part {} of {count}", want.part),
        });
    }
    info!(
        to = to.address,
        position = snapshot.manifest().position(),
        parts = count,
        wanted = wants.len(),
        "sending a snapshot"
    );
    let feeding = feed(&snapshot, &wants, chunks);
    let answer = async {
        // It says something before the end only if it gives up.
        next(&mut answers, to).await
    };
    tokio::pin!(feeding, answer);
    let answered = tokio::select! {
        fed = &mut feeding => {
            fed?;
            answer.await?
        }
        answered = &mut answer => answered?,
    };
    match answered {
        Answer::Done(vote) => Ok(vote),
        Answer::Wants(_) => Err(SendError::Answer {
            address: to.address.clone(),
            reason: "it asked twice".to_owned(),
        }),
    }
}

async fn next(answers: &mut Answers<TransportError>, to: &Peer) -> Result<Answer, SendError> {
    let failed = |reason: String| SendError::Answer {
        address: to.address.clone(),
        reason,
    };
    match timeout(SILENCE_MAX, answers.next()).await {
        Ok(Some(answer)) => message::decode(&answer?).map_err(|error| failed(error.to_string())),
        Ok(None) => Err(failed("it ended without an answer".to_owned())),
        Err(_) => Err(failed(format!("no answer within {SILENCE_MAX:?}"))),
    }
}

/// Queues the chunks, then the end. Returns early when nobody takes them any more.
async fn feed(
    snapshot: &SnapshotFiles,
    wants: &[Want],
    chunks: mpsc::Sender<Bytes>,
) -> Result<(), SendError> {
    for want in wants {
        let part = &snapshot.manifest().parts[want.part as usize];
        let path = snapshot.path().join(&part.name);
        let (part_bytes, mut from) = (part.bytes, want.from);
        while from < part_bytes {
            let (path, want_part) = (path.clone(), want.part);
            let read = tokio::task::spawn_blocking(move || {
                chunk(&path, want_part, from).map_err(|source| SendError::Read { path, source })
            });
            let chunk = read.await.expect("reading does not panic")?;
            from += (chunk.len() - CHUNK_HEAD_BYTES) as u64;
            if chunks.send(chunk).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn chunk(path: &Path, part: u32, from: u64) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut data = Vec::with_capacity(CHUNK_BYTES);
    file.take(CHUNK_BYTES as u64).read_to_end(&mut data)?;
    if data.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = BytesMut::with_capacity(CHUNK_HEAD_BYTES + data.len());
    bytes.put_u8(CHUNK);
    bytes.put_u32(part);
    bytes.put_u64(from);
    bytes.put_u32(crc32c::crc32c(&data));
    bytes.put_slice(&data);
    Ok(bytes.freeze())
}

/// Why a snapshot was not received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("snapshot chunk: {reason}")]
    Chunk { reason: String },
    #[error("snapshot broke off: no message within {SILENCE_MAX:?}")]
    Silence,
    /// What there is stays for the next attempt.
    #[error("snapshot broke off: {name} has {actual} of {expected} bytes")]
    Short {
        name: String,
        actual: u64,
        expected: u64,
    },
    #[error("snapshot is not acceptable: {reason}")]
    Refused { reason: String },
    #[error("receive a snapshot: {0}")]
    Io(#[from] io::Error),
}

/// The next message; none at the end.
pub(crate) async fn next_message(messages: &mut Messages) -> Result<Option<Bytes>, ReceiveError> {
    timeout(SILENCE_MAX, messages.next())
        .await
        .map_err(|_| ReceiveError::Silence)
}

/// A snapshot that is being received.
pub(crate) struct Receiving {
    staged: PathBuf,
    manifest: Manifest,
    wants: Vec<Want>,
    /// The part that is being written.
    open: Option<(u32, File, u64)>,
}

impl Receiving {
    /// Looks what is there already. It links and hashes files, so it blocks.
    pub(crate) fn begin(snapshots: &Snapshots, manifest: Manifest) -> Result<Self, ReceiveError> {
        let body = serde_json::to_vec(&manifest).expect("numbers and texts are always JSON");
        let name = format!("{RECEIVED}{:.16}", format!("{:x}", Sha256::digest(body)));
        let staged = snapshots.staging.join(name);
        for entry in fs::read_dir(&snapshots.staging)? {
            let path = entry?.path();
            let is_received = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(RECEIVED));
            if is_received && path != staged {
                durable::remove_dir(&path)?;
            }
        }
        fs::create_dir_all(&staged)?;
        let latest = snapshots.latest();
        let mut wants = Vec::new();
        for (place, part) in (0..).zip(&manifest.parts) {
            let path = staged.join(&part.name);
            let from = match fs::metadata(&path) {
                Ok(there) => there.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let same = latest
                        .as_deref()
                        .filter(|l| l.manifest().parts.contains(part));
                    match same {
                        Some(latest) => {
                            fs::hard_link(latest.path().join(&part.name), &path)?;
                            part.bytes
                        }
                        None => 0,
                    }
                }
                Err(error) => return Err(error.into()),
            };
            if from > part.bytes {
                return Err(ReceiveError::Refused {
                    reason: format!("{} is longer than it should be", path.display()),
                });
            }
            if from < part.bytes {
                wants.push(Want { part: place, from });
            } else if part.bytes == 0 {
                File::create(&path)?;
            }
        }
        Ok(Self {
            staged,
            manifest,
            wants,
            open: None,
        })
    }

    pub(crate) fn wants(&self) -> &[Want] {
        &self.wants
    }

    /// Bytes that are to come.
    pub(crate) fn bytes_wanted(&self) -> u64 {
        let parts = &self.manifest.parts;
        self.wants
            .iter()
            .map(|want| parts[want.part as usize].bytes - want.from)
            .sum()
    }

    /// Writes the next chunk; blocks.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> Result<(), ReceiveError> {
        let refused = |reason: String| ReceiveError::Chunk { reason };
        let Some((head, data)) = chunk.split_first_chunk::<CHUNK_HEAD_BYTES>() else {
            return Err(refused(format!("it has {} bytes", chunk.len())));
        };
        if head[0] != CHUNK {
            return Err(refused(format!("it is of unknown kind {}", head[0])));
        }
        let part = u32::from_be_bytes(*head[1..].first_chunk().expect("17 bytes"));
        let offset = u64::from_be_bytes(*head[5..].first_chunk().expect("17 bytes"));
        let expected = u32::from_be_bytes(*head[13..].first_chunk().expect("17 bytes"));
        let actual = crc32c::crc32c(data);
        if actual != expected {
            return Err(refused(format!(
                "checksum is {actual:08x}, expected {expected:08x}"
            )));
        }
        let Some(whole) = self.manifest.parts.get(part as usize) else {
            return Err(refused(format!("there is no part {part}")));
        };
        let is_open = self.open.as_ref().is_some_and(|(open, ..)| *open == part);
        if !is_open {
            if !self.wants.iter().any(|want| want.part == part) {
                return Err(refused(format!("part {part} was not asked for")));
            }
            let path = self.staged.join(&whole.name);
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            let there = file.metadata()?.len();
            self.open = Some((part, file, there));
        }
        let (_, file, there) = self.open.as_mut().expect("it was opened");
        if offset != *there || offset + data.len() as u64 > whole.bytes {
            return Err(refused(format!(
                "bytes of part {part} from {offset}, expected from {there} of {}",
                whole.bytes
            )));
        }
        file.write_all(data)?;
        *there += data.len() as u64;
        Ok(())
    }

    /// Checks every byte. What is damaged is removed, so that the next attempt begins anew; it
    /// blocks.
    pub(crate) fn finish(self, snapshots: &Snapshots) -> Result<Arc<SnapshotFiles>, ReceiveError> {
        drop(self.open);
        // A connection that broke off ends like one that is done.
        for part in &self.manifest.parts {
            let actual = fs::metadata(self.staged.join(&part.name)).map_or(0, |there| there.len());
            if actual < part.bytes {
                return Err(ReceiveError::Short {
                    name: part.name.clone(),
                    actual,
                    expected: part.bytes,
                });
            }
        }
        self.manifest.write(&self.staged)?;
        let refused = |reason: String| ReceiveError::Refused { reason };
        let received = snapshots.received(&self.staged);
        let received = received.map_err(|error| refused(error.to_string()))?;
        if let Err(error) = snapshots.verify(&received) {
            durable::remove_dir(&self.staged)?;
            return Err(refused(error.to_string()));
        }
        Ok(received)
    }
}
