//! `ListConflicts` and `ResolveConflict`.

use memorygate_core::{
    command::Command,
    key::Key,
    name::Namespace,
    shown::Shown,
    state::{self, Conflict},
};
use memorygate_proto::v1;
use memorygate_raft::StateSnapshot;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    grpc::{deadline, mutate},
    stored,
    wire::{read, write},
};

/// Rows read at once: there are two for each pair.
const ROWS: usize = 256;

/// Texts in one page: it fits into the 4 MiB that gRPC clients accept by default.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) async fn list(
    backend: &Backend,
    request: Request<v1::ListConflictsRequest>,
) -> Result<v1::ListConflictsResponse, Error> {
    let deadline = deadline(&request);
    let page = read::consolidation::conflicts(request.get_ref())?;
    let snapshot = backend.raft.state().snapshot();
    let position = backend.position(snapshot.position());
    let look = move || read_page(&snapshot, &page);
    let (conflicts, next) = backend.reads.run(deadline, look).await??;
    Ok(v1::ListConflictsResponse {
        conflicts,
        next_page_token: next.map(|(a, b)| format!("{a}-{b}")).unwrap_or_default(),
        position: Some(write::position(position)),
    })
}

type Page = (Vec<v1::ConflictingPair>, Option<(Key, Key)>);

fn read_page(
    snapshot: &StateSnapshot,
    page: &read::consolidation::Conflicts,
) -> Result<Page, Error> {
    let (mut pairs, mut after, mut bytes) = (Vec::new(), page.after, 0);
    loop {
        let rows = state::conflicts(snapshot, &page.namespace, after, ROWS)?;
        let is_last = rows.len() < ROWS;
        for ((a, b), conflict) in rows {
            if a < b && (page.resolved || conflict.resolved_at.is_none()) {
                if pairs.len() == page.size || bytes > PAGE_BYTES_MAX {
                    return Ok((pairs, after));
                }
                let pair = pair(snapshot, &page.namespace, (a, b), &conflict)?;
                bytes += [&pair.a, &pair.b]
                    .into_iter()
                    .flatten()
                    .map(|memory| memory.content.len() + 1024)
                    .sum::<usize>();
                pairs.push(pair);
            }
            after = Some((a, b));
        }
        if is_last {
            return Ok((pairs, None));
        }
    }
}

fn pair(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    (a, b): (Key, Key),
    conflict: &Conflict,
) -> Result<v1::ConflictingPair, Error> {
    let memory = |key: Key| -> Result<Option<v1::Memory>, Error> {
        let model = stored::model(snapshot, namespace, key)?;
        let memory = state::memory(snapshot, namespace, key)?;
        let shown = memory.map(Shown::to_operator);
        Ok(shown.map(|shown| write::memory(namespace, key, shown, model)))
    };
    Ok(v1::ConflictingPair {
        a: memory(a)?,
        b: memory(b)?,
        found_at: Some(write::time(conflict.found_at)),
        resolved_at: conflict.resolved_at.map(write::time),
    })
}

pub(super) async fn resolve(
    backend: &Backend,
    request: Request<v1::ResolveConflictRequest>,
) -> Result<v1::MutationResponse, Error> {
    let read = read::consolidation::resolve_conflict;
    mutate(backend, request, read, Command::ResolveConflict).await
}
