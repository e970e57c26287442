//! `ListEpochs` and `UndoEpoch`.

use std::collections::VecDeque;

use memorygate_core::{
    apply::Outcome as Done,
    command::{Command, UndoConsolidation, consolidate::Step},
    name::Namespace,
    state::{self, Epoch, ReadError},
};
use memorygate_proto::v1;
use memorygate_raft::StateSnapshot;
use tonic::Request;

use crate::{
    backend::Backend,
    error::Error,
    grpc::deadline,
    wire::{read, write},
};

/// Epochs read at once.
const EPOCHS: usize = 64;

pub(super) async fn list(
    backend: &Backend,
    request: Request<v1::ListEpochsRequest>,
) -> Result<v1::ListEpochsResponse, Error> {
    let deadline = deadline(&request);
    let read::consolidation::Epochs {
        namespace,
        before,
        limit,
    } = read::consolidation::epochs(request.get_ref())?;
    let snapshot = backend.raft.state().snapshot();
    let position = backend.position(snapshot.position());
    let look = move || newest(&snapshot, &namespace, before, limit);
    let epochs = backend.reads.run(deadline, look).await??;
    Ok(v1::ListEpochsResponse {
        epochs,
        position: Some(write::position(position)),
    })
}

/// The last `limit` before `before`. Rows are read in one direction only, so all before are read.
fn newest(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    before: u64,
    limit: usize,
) -> Result<Vec<v1::EpochSummary>, ReadError> {
    let mut newest: VecDeque<v1::EpochSummary> = VecDeque::new();
    let mut from = 0;
    loop {
        let part = state::epochs(snapshot, namespace, from, EPOCHS)?;
        let is_last = part.len() < EPOCHS;
        for (id, epoch) in part {
            if id >= before {
                return Ok(newest.into_iter().rev().collect());
            }
            if newest.len() == limit {
                newest.pop_front();
            }
            newest.push_back(summary(id, &epoch));
            from = id + 1;
        }
        if is_last {
            return Ok(newest.into_iter().rev().collect());
        }
    }
}

fn summary(id: u64, epoch: &Epoch) -> v1::EpochSummary {
    let step = |step: &Step| {
        let (key, others) = match step {
            Step::Merge { keep, absorb } => (
                keep.key,
                absorb.iter().map(|absorbed| absorbed.key).collect(),
            ),
            Step::Fade { memory } => (memory.key, Vec::new()),
            Step::Conflict { a, b } => (a.key, vec![b.key]),
            Step::Relink { memory, to, .. } => (memory.key, vec![*to]),
        };
        v1::DoneStep {
            kind: step.name().to_owned(),
            key: key.to_string(),
            others: others.iter().map(ToString::to_string).collect(),
        }
    };
    v1::EpochSummary {
        id,
        at: Some(write::time(epoch.at)),
        steps: epoch.done.iter().map(|done| step(&done.step)).collect(),
    }
}

pub(super) async fn undo(
    backend: &Backend,
    request: Request<v1::UndoEpochRequest>,
) -> Result<v1::UndoEpochResponse, Error> {
    let deadline = deadline(&request);
    let (request, namespace, id) = read::consolidation::undo(request.get_ref())?;
    let _write = backend.drain.admit()?;
    let command = Command::UndoConsolidation(UndoConsolidation { namespace, id });
    let (done, position) = backend.propose(command, request, deadline).await?;
    let Done::Undone { steps } = done else {
        return Err(Error::other_call());
    };
    Ok(v1::UndoEpochResponse {
        steps,
        position: Some(write::position(position)),
    })
}
