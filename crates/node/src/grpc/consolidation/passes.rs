//! `PlanConsolidation` and `RunConsolidation`.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, stream, stream::BoxStream};
use memorygate_core::{
    command::consolidate::{Step, Versioned},
    consolidation::Reason,
    key::Key,
    name::Namespace,
    state,
};
use memorygate_proto::v1::{self, planned_step};
use memorygate_raft::StateSnapshot;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Request, Status};

use crate::{
    backend::Backend,
    consolidation::{self, Planned, Ran, Wanted},
    error::Error,
    grpc::{Api, deadline, status::Call},
    wire::{read, write},
};

/// Of one thread's time, what a pass may take that someone waits for.
const SHARE: f64 = 0.5;

/// Messages on their way to a caller, at most.
const AHEAD: usize = 4;

pub(super) async fn plan(
    backend: &Arc<Backend>,
    request: Request<v1::PlanConsolidationRequest>,
) -> Result<v1::PlanConsolidationResponse, Error> {
    let deadline = deadline(&request);
    let read::consolidation::Plan {
        namespace,
        everything,
        limit,
    } = read::consolidation::plan(request.get_ref())?;
    let wanted = Wanted {
        namespace: namespace.clone(),
        everything,
        share: 1.0,
        only_while_leading: false,
    };
    let looks = consolidation::plan(backend, &wanted, deadline).await?;
    let count = |is: fn(&Step) -> bool| looks.steps.iter().filter(|p| is(&p.step)).count() as u64;
    let mut response = v1::PlanConsolidationResponse {
        steps: Vec::new(),
        merges: count(|step| matches!(step, Step::Merge { .. })),
        fades: count(|step| matches!(step, Step::Fade { .. })),
        conflicts: count(|step| matches!(step, Step::Conflict { .. })),
        relinks: count(|step| matches!(step, Step::Relink { .. })),
        compared: looks.compared,
        looked_at: looks.looked_at,
        position: Some(write::position(backend.position(looks.position))),
    };
    let snapshot = backend.raft.state().snapshot();
    let shown = looks.steps;
    let written = move || -> Result<Vec<v1::PlannedStep>, Error> {
        let shown = shown.iter().take(limit);
        shown
            .map(|step| planned(&snapshot, &namespace, step))
            .collect()
    };
    response.steps = backend.reads.run(deadline, written).await??;
    let (actual, max) = (response.encoded_len(), backend.message_bytes_max);
    if actual > max {
        return Err(Error::AnswerTooLarge { actual, max });
    }
    Ok(response)
}

fn planned(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    planned: &Planned,
) -> Result<v1::PlannedStep, Error> {
    let consumed = planned.step.consumes();
    let mut texts: BTreeMap<Key, String> = BTreeMap::new();
    for Versioned { key, .. } in consumed {
        let memory = state::memory(snapshot, namespace, key)?;
        let text = memory.map(|memory| consolidation::beginning(&memory));
        texts.insert(key, text.unwrap_or_default());
    }
    let memory = |of: &Versioned| v1::StepMemory {
        key: of.key.to_string(),
        version: of.version,
        content: texts.get(&of.key).cloned().unwrap_or_default(),
    };
    let cosine = match &planned.reason {
        Reason::SaysTheSame { cosine } | Reason::Contradicts { cosine } => *cosine,
        Reason::WorthLittle { .. } | Reason::TargetMoved => 0.0,
    };
    let step = match &planned.step {
        Step::Merge { keep, absorb } => planned_step::Step::Merge(planned_step::Merge {
            keep: Some(memory(keep)),
            absorb: absorb.iter().map(memory).collect(),
            cosine,
        }),
        Step::Fade { memory: of } => {
            let (worth, unused_days) = match planned.reason {
                Reason::WorthLittle { worth, unused_days } => (worth, unused_days),
                Reason::SaysTheSame { .. } | Reason::Contradicts { .. } | Reason::TargetMoved => {
                    (0.0, 0.0)
                }
            };
            planned_step::Step::Fade(planned_step::Fade {
                memory: Some(memory(of)),
                worth,
                unused_days,
            })
        }
        Step::Conflict { a, b } => planned_step::Step::Contradiction(planned_step::Contradiction {
            a: Some(memory(a)),
            b: Some(memory(b)),
            cosine,
        }),
        Step::Relink {
            memory: of,
            relation,
            from,
            to,
        } => planned_step::Step::Relink(planned_step::Relink {
            memory: Some(memory(of)),
            relation: relation.as_str().to_owned(),
            from: from.to_string(),
            to: to.to_string(),
        }),
    };
    Ok(v1::PlannedStep { step: Some(step) })
}

type Progress = BoxStream<'static, Result<v1::RunConsolidationResponse, Status>>;

/// The pass ends when its caller is gone.
pub(super) fn run(
    api: &Api,
    request: Request<v1::RunConsolidationRequest>,
) -> Result<Progress, Error> {
    let read::consolidation::Run {
        namespace,
        everything,
    } = read::consolidation::run(request.get_ref())?;
    let wanted = Wanted {
        namespace,
        everything,
        share: SHARE,
        only_while_leading: false,
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let api = api.clone();
    tokio::spawn(async move {
        let backend = &api.backend;
        let progress = |ran: Ran| match sender.try_send(Ok(response(ran, false))) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        };
        let ended = match consolidation::run_pass(backend, &wanted, progress).await {
            Ok(ran) => Ok(response(ran, true)),
            Err(error) => Err(api.status(Call::Mutating, &error)),
        };
        // Nobody is there any more: nobody is told.
        let _ = sender.send(ended).await;
    });
    let messages = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|message| (message, receiver))
    });
    Ok(messages.boxed())
}

fn response(ran: Ran, finished: bool) -> v1::RunConsolidationResponse {
    v1::RunConsolidationResponse {
        looked_at: ran.looked_at,
        of: ran.of,
        done: ran.done,
        refused: ran.refused,
        epochs: ran.epochs,
        finished,
        position: ran.position.map(write::position),
    }
}
