//! The service `Consolidation` of a fake server: what its store consolidates, over the wire.

use std::pin::Pin;

use memorygate_client::{
    Link,
    consolidation::{
        Conflict, DoneStep, Epoch, ListConflicts, ListTrust, PlannedStep, Policy, Progress, Reach,
        Resolve, SetPolicy, SetTrust, StepMemory, Undo,
    },
};
use memorygate_proto::v1::{self, consolidation_server::Consolidation, planned_step};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::{Fake, name, timestamp, wire_memory, wire_mutation, wire_position};

type Messages = Pin<Box<dyn Stream<Item = Result<v1::RunConsolidationResponse, Status>> + Send>>;

/// Neither asks for a position.
const ANY: (Option<v1::Position>, bool) = (None, false);

#[tonic::async_trait]
impl Consolidation for Fake {
    async fn plan_consolidation(
        &self,
        request: Request<v1::PlanConsolidationRequest>,
    ) -> Result<Response<v1::PlanConsolidationResponse>, Status> {
        let r = request.into_inner();
        self.answer("plan", "", ANY, |store, _| {
            let namespace = name(r.namespace);
            let plan = store.plan(namespace.as_deref(), reach(r.everything), r.limit as usize)?;
            Ok(v1::PlanConsolidationResponse {
                steps: plan.steps.into_iter().map(wire_step).collect(),
                merges: plan.merges,
                fades: plan.fades,
                conflicts: plan.conflicts,
                relinks: plan.relinks,
                compared: plan.compared,
                looked_at: plan.looked_at,
                position: Some(wire_position(plan.position)),
            })
        })
        .await
    }

    type RunConsolidationStream = Messages;

    /// As a server does, it tells what goes wrong after it has begun.
    async fn run_consolidation(
        &self,
        request: Request<v1::RunConsolidationRequest>,
    ) -> Result<Response<Messages>, Status> {
        let r = request.into_inner();
        let ended = self.answer("run", "", ANY, |store, _| {
            let namespace = name(r.namespace);
            let ran = store.consolidate(namespace.as_deref(), reach(r.everything))?;
            Ok(wire_progress(ran))
        });
        let ended = ended.await.map(Response::into_inner);
        let begun = v1::RunConsolidationResponse {
            of: ended.as_ref().map_or(0, |ended| ended.of),
            ..v1::RunConsolidationResponse::default()
        };
        let messages = tokio_stream::iter([Ok(begun), ended]);
        Ok(Response::new(Box::pin(messages)))
    }

    async fn list_epochs(
        &self,
        request: Request<v1::ListEpochsRequest>,
    ) -> Result<Response<v1::ListEpochsResponse>, Status> {
        let r = request.into_inner();
        self.answer("list_epochs", "", ANY, |store, _| {
            let namespace = name(r.namespace);
            let before = Some(r.before).filter(|before| *before > 0);
            let epochs = store.epochs(namespace.as_deref(), before, r.limit as usize)?;
            Ok(v1::ListEpochsResponse {
                epochs: epochs.epochs.into_iter().map(wire_epoch).collect(),
                position: Some(wire_position(epochs.position)),
            })
        })
        .await
    }

    async fn undo_epoch(
        &self,
        request: Request<v1::UndoEpochRequest>,
    ) -> Result<Response<v1::UndoEpochResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("undo", &id, ANY, |store, _| {
            let namespace = name(r.namespace);
            let undo = Undo::new(r.id).request_id(r.request_id.parse().unwrap());
            let undone = store.undo(namespace.as_deref(), undo)?;
            Ok(v1::UndoEpochResponse {
                steps: undone.steps,
                position: Some(wire_position(undone.position)),
            })
        })
        .await
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        let r = request.into_inner();
        self.answer("get_policy", "", ANY, |store, _| {
            let namespace = name(r.namespace);
            let status = store.consolidation_status(namespace.as_deref())?;
            Ok(v1::GetPolicyResponse {
                policy: Some(wire_policy(status.policy)),
                effective: Some(wire_policy(status.effective)),
                through: status.through,
                last_pass_at: status.last_pass_at.map(timestamp),
                behind: status.behind,
                position: Some(wire_position(status.position)),
            })
        })
        .await
    }

    async fn set_policy(
        &self,
        request: Request<v1::SetPolicyRequest>,
    ) -> Result<Response<v1::SetPolicyResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("set_policy", &id, ANY, |store, _| {
            let namespace = name(r.namespace);
            let set = SetPolicy::new(policy(r.policy.unwrap()));
            let set = set.request_id(r.request_id.parse().unwrap());
            let position = store.set_policy(namespace.as_deref(), set)?;
            Ok(v1::SetPolicyResponse {
                position: Some(wire_position(position)),
            })
        })
        .await
    }

    async fn list_conflicts(
        &self,
        request: Request<v1::ListConflictsRequest>,
    ) -> Result<Response<v1::ListConflictsResponse>, Status> {
        let r = request.into_inner();
        self.answer("list_conflicts", "", ANY, |store, _| {
            let namespace = name(r.namespace);
            let list = ListConflicts {
                resolved: r.resolved,
                page_size: r.page_size as usize,
                page_token: r.page_token,
            };
            let page = store.conflicts_page(namespace.as_deref(), &list)?;
            Ok(v1::ListConflictsResponse {
                conflicts: page.conflicts.into_iter().map(wire_conflict).collect(),
                next_page_token: page.next.unwrap_or_default(),
                position: Some(wire_position(page.position)),
            })
        })
        .await
    }

    async fn list_trust(
        &self,
        request: Request<v1::ListTrustRequest>,
    ) -> Result<Response<v1::ListTrustResponse>, Status> {
        let r = request.into_inner();
        self.answer("list_trust", "", ANY, |store, _| {
            let namespace = name(r.namespace);
            let list = ListTrust::new()
                .page_size(r.page_size as usize)
                .page_token(r.page_token);
            let page = store.trust_page(namespace.as_deref(), &list)?;
            let agents = page.agents.into_iter().map(|agent| v1::AgentTrust {
                agent: agent.agent,
                trust: agent.trust,
                ratings: agent.ratings,
                positive: agent.positive,
                negative: agent.negative,
                set: agent.set,
            });
            Ok(v1::ListTrustResponse {
                agents: agents.collect(),
                next_page_token: page.next.unwrap_or_default(),
                position: Some(wire_position(page.position)),
            })
        })
        .await
    }

    async fn set_trust(
        &self,
        request: Request<v1::SetTrustRequest>,
    ) -> Result<Response<v1::SetTrustResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("set_trust", &id, ANY, |store, _| {
            let namespace = name(r.namespace);
            let set = SetTrust {
                agent: r.agent,
                trust: r.trust,
                request_id: Some(r.request_id.parse().unwrap()),
            };
            let position = store.set_trust(namespace.as_deref(), &set)?;
            Ok(v1::SetTrustResponse {
                position: Some(wire_position(position)),
            })
        })
        .await
    }

    async fn resolve_conflict(
        &self,
        request: Request<v1::ResolveConflictRequest>,
    ) -> Result<Response<v1::MutationResponse>, Status> {
        let r = request.into_inner();
        let id = r.request_id.clone();
        self.answer("resolve", &id, ANY, |store, _| {
            let namespace = name(r.namespace);
            let mut resolve = Resolve::new(r.key.parse().unwrap(), r.other.parse().unwrap())
                .request_id(r.request_id.parse().unwrap());
            resolve.both_hold = r.both_hold;
            store
                .resolve(namespace.as_deref(), &resolve)
                .map(wire_mutation)
        })
        .await
    }
}

fn reach(everything: bool) -> Reach {
    if everything {
        Reach::Everything
    } else {
        Reach::New
    }
}

fn wire_progress(ran: Progress) -> v1::RunConsolidationResponse {
    v1::RunConsolidationResponse {
        looked_at: ran.looked_at,
        of: ran.of,
        done: ran.done,
        refused: ran.refused,
        epochs: ran.epochs,
        finished: ran.finished,
        position: ran.position.map(wire_position),
    }
}

fn wire_step(step: PlannedStep) -> v1::PlannedStep {
    let memory = |m: StepMemory| v1::StepMemory {
        key: m.key.to_string(),
        version: m.version,
        content: m.content,
    };
    let step = match step {
        PlannedStep::Merge {
            keep,
            absorb,
            cosine,
        } => planned_step::Step::Merge(planned_step::Merge {
            keep: Some(memory(keep)),
            absorb: absorb.into_iter().map(memory).collect(),
            cosine,
        }),
        PlannedStep::Fade {
            memory: of,
            worth,
            unused_days,
        } => planned_step::Step::Fade(planned_step::Fade {
            memory: Some(memory(of)),
            worth,
            unused_days,
        }),
        PlannedStep::Conflict { a, b, cosine } => {
            planned_step::Step::Contradiction(planned_step::Contradiction {
                a: Some(memory(a)),
                b: Some(memory(b)),
                cosine,
            })
        }
        PlannedStep::Relink {
            memory: of,
            link: Link { relation, target },
            to,
        } => planned_step::Step::Relink(planned_step::Relink {
            memory: Some(memory(of)),
            relation: relation.as_str().to_owned(),
            from: target.to_string(),
            to: to.to_string(),
        }),
    };
    v1::PlannedStep { step: Some(step) }
}

fn wire_epoch(epoch: Epoch) -> v1::EpochSummary {
    let step = |step: DoneStep| v1::DoneStep {
        kind: step.kind.unwrap().as_str().to_owned(),
        key: step.key.to_string(),
        others: step.others.iter().map(ToString::to_string).collect(),
    };
    v1::EpochSummary {
        id: epoch.id,
        at: Some(timestamp(epoch.at)),
        steps: epoch.steps.into_iter().map(step).collect(),
    }
}

fn policy(wire: v1::ConsolidationPolicy) -> Policy {
    Policy {
        paused: wire.paused,
        merge_from: wire.merge_from,
        fade_below: wire.fade_below,
        keep_days: wire.keep_days,
    }
}

fn wire_policy(policy: Policy) -> v1::ConsolidationPolicy {
    v1::ConsolidationPolicy {
        paused: policy.paused,
        merge_from: policy.merge_from,
        fade_below: policy.fade_below,
        keep_days: policy.keep_days,
    }
}

fn wire_conflict(conflict: Conflict) -> v1::ConflictingPair {
    v1::ConflictingPair {
        a: Some(wire_memory(conflict.a)),
        b: Some(wire_memory(conflict.b)),
        found_at: Some(timestamp(conflict.found_at)),
        resolved_at: conflict.resolved_at.map(timestamp),
    }
}
