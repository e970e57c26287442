//! `CreateSnapshot`, `ListSnapshots`, `SaveSnapshot` and `VerifySnapshot`.

use std::io::Read;

use futures::{StreamExt as _, stream, stream::BoxStream};
use memorygate_proto::v1;
use memorygate_raft::{SnapshotError, backup::Manifest};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use tracing::warn;

use crate::{
    backend::Backend,
    backup::{Backups, Described, Error, FileName, pipe},
    cluster::Cluster,
    position::GROUP,
};

type Answer<T> = Result<Response<T>, Status>;

/// What is on its way to a caller, at most: a megabyte each.
const AHEAD: usize = 2;

pub(super) async fn create(
    cluster: &Cluster,
    _: Request<v1::CreateSnapshotRequest>,
) -> Answer<v1::CreateSnapshotResponse> {
    let backend = cluster.backend();
    let made = backend.backups.create(backend).await.map_err(status)?;
    Ok(Response::new(v1::CreateSnapshotResponse {
        snapshot: Some(describe(&made)),
        store: store(&backend.backups)?,
    }))
}

pub(super) async fn list(
    cluster: &Cluster,
    _: Request<v1::ListSnapshotsRequest>,
) -> Answer<v1::ListSnapshotsResponse> {
    let backups = &cluster.backend().backups;
    let (files, unreadable) = backups.list().await.map_err(status)?;
    for error in unreadable {
        warn!(%error, "a snapshot in the store is left out of the list");
    }
    Ok(Response::new(v1::ListSnapshotsResponse {
        snapshots: files.iter().map(describe).collect(),
        store: store(backups)?,
    }))
}

pub(super) async fn verify(
    cluster: &Cluster,
    request: Request<v1::VerifySnapshotRequest>,
) -> Answer<v1::VerifySnapshotResponse> {
    let name = request.into_inner().name;
    let verified = cluster.backend().backups.verify(&name).await;
    Ok(Response::new(v1::VerifySnapshotResponse {
        snapshot: Some(describe(&verified.map_err(status)?)),
    }))
}

pub(super) async fn save(
    cluster: &Cluster,
    request: Request<v1::SaveSnapshotRequest>,
) -> Answer<BoxStream<'static, Result<v1::SaveSnapshotResponse, Status>>> {
    let name = request.into_inner().name;
    let backend = cluster.backend();
    let (described, chunks) = match name.as_str() {
        "" => made(backend).await,
        name => kept(&backend.backups, name).await,
    }
    .map_err(status)?;
    let head = v1::SaveSnapshotResponse {
        snapshot: Some(describe(&described)),
        chunk: Vec::new(),
    };
    let rest = stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        let message = chunk.map(|chunk| v1::SaveSnapshotResponse {
            snapshot: None,
            chunk: chunk.into(),
        });
        Some((message, chunks))
    });
    Ok(Response::new(stream::iter([Ok(head)]).chain(rest).boxed()))
}

type Chunks = mpsc::Receiver<Result<bytes::Bytes, Status>>;

/// A snapshot of this node's state now.
async fn made(backend: &Backend) -> Result<(Described, Chunks), Error> {
    let (name, backup) = backend.backups.make(backend).await?;
    let manifest = backup.manifest().clone();
    let (mut out, mut written) = pipe::to_async();
    let (sender, chunks) = mpsc::channel(AHEAD);
    let writing = tokio::task::spawn_blocking(move || backup.write_to(&mut out).map(drop));
    tokio::spawn(async move {
        while let Some(chunk) = written.recv().await {
            if sender.send(Ok(chunk)).await.is_err() {
                // The caller went away, which the writer hears of.
                return;
            }
        }
        let failed = match writing.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        warn!(error = failed, "snapshot could not be sent to its end");
        // Without its end the file is refused by whoever reads it.
        let _ = sender.send(Err(Status::data_loss(failed))).await;
    });
    Ok((described(name, manifest), chunks))
}

/// A file of the store, as it is: the caller verifies it.
async fn kept(backups: &Backups, name: &str) -> Result<(Described, Chunks), Error> {
    let name: FileName = name.parse()?;
    let store = backups.store()?;
    let manifest = store.peek(&name).await?;
    let mut from = store.reader(&name).await?;
    let (sender, chunks) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut chunk = Vec::with_capacity(pipe::CHUNK_BYTES);
            let most = pipe::CHUNK_BYTES as u64;
            let read = Read::take(&mut from, most).read_to_end(&mut chunk);
            let next = match read {
                Ok(0) => return,
                Ok(_) => Ok(chunk.into()),
                Err(error) => Err(Status::unavailable(format!("read snapshot: {error}"))),
            };
            let is_last = next.is_err();
            if sender.blocking_send(next).is_err() || is_last {
                return;
            }
        }
    });
    Ok((described(name, manifest), chunks))
}

fn described(name: FileName, manifest: Manifest) -> Described {
    Described {
        bytes: manifest.file_bytes(),
        name,
        manifest,
    }
}

fn describe(file: &Described) -> v1::SnapshotDescription {
    let Described {
        name,
        manifest,
        bytes,
    } = file;
    let ms = manifest.created_at_ms;
    let nanos = i32::try_from(ms.rem_euclid(1_000)).expect("it is below a thousand") * 1_000_000;
    v1::SnapshotDescription {
        name: name.to_string(),
        position: Some(v1::Position {
            cluster_id: manifest.cluster_id.to_string(),
            group: GROUP,
            index: manifest.position,
        }),
        created_at: Some(prost_types::Timestamp {
            seconds: ms.div_euclid(1_000),
            nanos,
        }),
        bytes: *bytes,
        state_hash: manifest.state_hash.clone(),
        memories: manifest.memories,
    }
}

fn store(backups: &Backups) -> Result<String, Status> {
    Ok(backups.store().map_err(status)?.shown().to_owned())
}

/// What a caller does next.
fn status(error: Error) -> Status {
    let text = error.to_string();
    match error {
        Error::NoStore | Error::Location { .. } | Error::TooMany { .. } => {
            Status::failed_precondition(text)
        }
        Error::Name(_) => Status::invalid_argument(text),
        Error::Missing { .. } => Status::not_found(text),
        Error::Read { .. } => Status::data_loss(text),
        Error::Make(SnapshotError::Empty) => Status::failed_precondition(text),
        Error::Save(memorygate_raft::backup::SaveError::NoRoom { .. }) => {
            Status::resource_exhausted(text)
        }
        Error::Make(_) | Error::Save(_) | Error::Store { .. } => Status::unavailable(text),
        Error::Internal { .. } => Status::internal(text),
    }
}
