//! Get: one memory by its key.

use memorygate_core::{
    embedding::ModelId,
    filter::{Archive, Filter},
    key::Key,
    moment::Moment,
    name::Namespace,
    scope::Reader,
    shown::Shown,
    state,
};
use memorygate_raft::StateSnapshot;

use crate::{
    backend::Backend,
    deadline::Deadline,
    error::Error,
    past::{self, Look},
    position::Position,
    stored,
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub namespace: Namespace,
    pub key: Key,
    pub reader: Reader,
    pub at_least: Option<Position>,
    pub linearizable: bool,
    pub as_of: Option<Moment>,
}

pub struct Answer {
    pub memory: Shown,
    pub model: ModelId,
    pub position: Position,
}

/// What the reader may not see is answered as what is not there.
pub async fn get(backend: &Backend, wanted: Wanted, deadline: Deadline) -> Result<Answer, Error> {
    let (as_of, at_least) = (wanted.as_of, wanted.at_least);
    let from = past::read_from(backend, as_of, at_least, wanted.linearizable, deadline);
    let snapshot = backend.snapshot_at_least(from.await?, deadline).await?;
    let position = backend.position(snapshot.position());
    let key = wanted.key;
    let found = backend
        .reads
        .run(deadline, move || find(&snapshot, &wanted))
        .await??;
    let (memory, model) = found.ok_or(Error::NotFound { key })?;
    Ok(Answer {
        memory,
        model,
        position,
    })
}

fn find(snapshot: &StateSnapshot, wanted: &Wanted) -> Result<Option<(Shown, ModelId)>, Error> {
    let mut look = Look::new(snapshot, &wanted.namespace, wanted.as_of)?;
    let any = Filter {
        archive: Archive::With,
        ..Filter::default()
    };
    let found = match state::memory(snapshot, &wanted.namespace, wanted.key)? {
        Some(memory) => look.passing(wanted.key, memory, &any, &wanted.reader)?,
        None => None,
    };
    look.finish()?;
    let Some(memory) = found else {
        return Ok(None);
    };
    let model = stored::model(snapshot, &wanted.namespace, wanted.key)?;
    let shown = Shown::to(&wanted.reader, snapshot, &wanted.namespace, memory)?;
    Ok(Some((shown, model)))
}
