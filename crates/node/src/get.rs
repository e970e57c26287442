//! Get: one memory by its key.

use memorygate_core::{
    embedding::ModelId,
    key::Key,
    memory::Memory,
    name::Namespace,
    scope::Reader,
    shown::Shown,
    state::{self, ReadError},
};
use memorygate_raft::StateSnapshot;

use crate::{backend::Backend, deadline::Deadline, error::Error, position::Position, stored};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub namespace: Namespace,
    pub key: Key,
    pub reader: Reader,
    pub at_least: Option<Position>,
    pub linearizable: bool,
}

pub struct Answer {
    pub memory: Shown,
    pub model: ModelId,
    pub position: Position,
}

/// What the reader may not see is answered as what is not there.
pub async fn get(backend: &Backend, wanted: Wanted, deadline: Deadline) -> Result<Answer, Error> {
    let from = backend.read_from(wanted.at_least, wanted.linearizable, deadline);
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

fn find(snapshot: &StateSnapshot, wanted: &Wanted) -> Result<Option<(Shown, ModelId)>, ReadError> {
    let memory = state::memory(snapshot, &wanted.namespace, wanted.key)?;
    let now = snapshot.clock();
    let visible = |m: &Memory| wanted.reader.sees(&m.scope) && !m.is_expired(now);
    let Some(memory) = memory.filter(visible) else {
        return Ok(None);
    };
    let model = stored::model(snapshot, &wanted.namespace, wanted.key)?;
    let shown = Shown::to(&wanted.reader, snapshot, &wanted.namespace, memory)?;
    Ok(Some((shown, model)))
}
