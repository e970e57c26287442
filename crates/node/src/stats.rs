//! Stats: what is stored, and where this node stands.

use memorygate_core::{
    name::Namespace,
    state::{NamespaceInfo, StateDigest, namespace_info},
    time::TimeMs,
};

use crate::{backend::Backend, deadline::Deadline, error::Error, position::Position};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// All if absent.
    pub namespace: Option<Namespace>,
    pub at_least: Option<Position>,
    pub linearizable: bool,
}

pub struct Answer {
    pub position: Position,
    pub index_position: u64,
    pub digest: StateDigest,
    pub clock: TimeMs,
    pub namespaces: Vec<(Namespace, NamespaceInfo)>,
}

pub async fn stats(backend: &Backend, scope: Scope, deadline: Deadline) -> Result<Answer, Error> {
    let from = backend.read_from(scope.at_least, scope.linearizable, deadline);
    let snapshot = backend.snapshot_at_least(from.await?, deadline).await?;
    let read = move || -> Result<_, Error> {
        let namespaces = match scope.namespace {
            None => snapshot.namespaces()?,
            Some(one) => match namespace_info(&*snapshot, &one)? {
                Some(info) => vec![(one, info)],
                None => Vec::new(),
            },
        };
        Ok((
            snapshot.position(),
            snapshot.digest(),
            snapshot.clock(),
            namespaces,
        ))
    };
    let (index, digest, clock, namespaces) = backend.reads.run(deadline, read).await??;
    Ok(Answer {
        position: backend.position(index),
        index_position: backend.index.position(),
        digest,
        clock,
        namespaces,
    })
}
