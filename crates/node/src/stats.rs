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
}

pub struct Answer {
    pub position: Position,
    pub index_position: u64,
    pub digest: StateDigest,
    pub clock: TimeMs,
    pub namespaces: Vec<(Namespace, NamespaceInfo)>,
}

pub async fn stats(backend: &Backend, scope: Scope, deadline: Deadline) -> Result<Answer, Error> {
    let snapshot = backend.snapshot_at_least(scope.at_least, deadline).await?;
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
