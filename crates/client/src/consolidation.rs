//! What an operator asks of consolidation: the work in the background that merges near-duplicates,
//! lets what is of little worth fade into the archive, finds contradictions and mends links.
//!
//! It decides nothing: what a pass does is planned by the server. These calls see every scope.

mod conflicts;
mod epochs;
mod plan;
mod policy;
mod run;
mod trust;

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use memorygate_core::{limits::PAGE_MAX, name::Namespace};
use memorygate_proto::v1;

pub use self::{
    conflicts::{Conflict, ConflictPage, ListConflicts, Resolve},
    epochs::{DoneStep, Epoch, Epochs, StepKind, Undo, Undone},
    plan::{Plan, PlannedStep, StepMemory},
    policy::{Policy, SetPolicy, Status},
    run::Progress,
    trust::{AgentTrust, ListTrust, SetTrust, TrustPage},
};
use crate::{
    client::{Client, call, read},
    error::{Error, Kind, Outcome, Violations},
    mutation::Mutation,
    page,
    position::Position,
};

/// A handle to the consolidation of one namespace: see [`Client::consolidation`].
///
/// ```no_run
/// # async fn run(client: memorygate_client::Client) -> Result<(), memorygate_client::Error> {
/// use futures::TryStreamExt as _;
/// use memorygate_client::consolidation::Reach;
///
/// let consolidation = client.consolidation();
/// let plan = consolidation.plan(Reach::New, 100).await?;
/// println!("{} merges, {} fades", plan.merges, plan.fades);
/// let mut pass = std::pin::pin!(consolidation.run(Reach::New).await?);
/// while let Some(progress) = pass.try_next().await? {
///     println!("{} of {}", progress.looked_at, progress.of);
/// }
/// for epoch in consolidation.epochs(None, 20).await?.epochs {
///     println!("epoch {} took {} steps", epoch.id, epoch.steps.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Consolidation {
    client: Client,
}

/// What a pass looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reach {
    /// What was learned since the last pass, and of the rest those whose turn it is.
    #[default]
    New,
    /// All memories of the namespace.
    Everything,
}

impl Consolidation {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// What a pass would do now, and why, with up to `limit` steps in full: 1 to 1000. Changes
    /// nothing.
    pub async fn plan(&self, reach: Reach, limit: usize) -> Result<Plan, Error> {
        let method = &call::PLAN;
        let namespace = self.check(method.name, Violations::of_limit("limit", limit))?;
        let request = v1::PlanConsolidationRequest {
            namespace,
            everything: reach == Reach::Everything,
            limit: wire_limit(limit),
        };
        let reply = self.client.call(method, request, None).await?;
        let plan = read(method, Plan::from_wire(reply))?;
        self.client.note(method, plan.position)?;
        Ok(plan)
    }

    /// Runs a pass, beside those in the background, and tells how far it is; the last item has
    /// [`Progress::finished`], or is an error. One server runs it, and it takes as long as it takes:
    /// there is no deadline, and no repeat. A pass that breaks off leaves what it did, each epoch whole, and
    /// one whose stream is dropped ends.
    pub async fn run(
        &self,
        reach: Reach,
    ) -> Result<impl Stream<Item = Result<Progress, Error>> + Send + use<>, Error> {
        let method = &call::RUN;
        let request = v1::RunConsolidationRequest {
            namespace: self.check(method.name, Violations::default())?,
            everything: reach == Reach::Everything,
        };
        let replies = self
            .client
            .stream::<_, v1::RunConsolidationResponse>(method, request)
            .await?
            .boxed();
        let client = self.client.clone();
        Ok(stream::try_unfold(Some(replies), move |replies| {
            let client = client.clone();
            async move {
                let Some(mut replies) = replies else {
                    return Ok(None);
                };
                let reply = replies.try_next().await?.ok_or_else(|| {
                    let message = "the answer ended before the pass did";
                    Error::new(Kind::Retry, Outcome::Unknown, method.name, message)
                })?;
                let progress = read(method, Progress::from_wire(reply))?;
                if let Some(position) = progress.position {
                    client.note(method, position)?;
                }
                let rest = (!progress.finished).then_some(replies);
                Ok(Some((progress, rest)))
            }
        }))
    }

    /// What was done, newest first: up to `limit` epochs, 1 to 1000, of those before `before`. What is
    /// over 90 days old, or was undone, is not there any more.
    pub async fn epochs(&self, before: Option<u64>, limit: usize) -> Result<Epochs, Error> {
        let method = &call::LIST_EPOCHS;
        let namespace = self.check(method.name, Epochs::check(before, limit))?;
        let request = v1::ListEpochsRequest {
            namespace,
            before: before.unwrap_or_default(),
            limit: wire_limit(limit),
        };
        let reply = self.client.call(method, request, None).await?;
        let epochs = read(method, Epochs::from_wire(reply))?;
        self.client.note(method, epochs.position)?;
        Ok(epochs)
    }

    /// Brings back exactly what one epoch consumed. [`Kind::NotFound`] if there is none of this id;
    /// [`Kind::Conflict`] if something that it left was changed since: [`Error::changed`] says what.
    pub async fn undo(&self, undo: impl Into<Undo>) -> Result<Undone, Error> {
        let (method, undo) = (&call::UNDO, undo.into());
        let namespace = self.check(method.name, undo.check())?;
        let id = self.client.id_or(undo.request_id).await?;
        let request = undo.to_wire(namespace, id);
        let reply = self.client.call(method, request, Some(id)).await?;
        let undone = read(method, Undone::from_wire(reply))?;
        self.client.note(method, undone.position)?;
        Ok(undone)
    }

    /// How the namespace is consolidated, and how far.
    pub async fn status(&self) -> Result<Status, Error> {
        let method = &call::GET_POLICY;
        let request = v1::GetPolicyRequest {
            namespace: self.check(method.name, Violations::default())?,
        };
        let reply = self.client.call(method, request, None).await?;
        let status = read(method, Status::from_wire(reply))?;
        self.client.note(method, status.position)?;
        Ok(status)
    }

    /// Sets all of the namespace's policy: what is unset in it is the server's default.
    pub async fn set_policy(&self, set: impl Into<SetPolicy>) -> Result<Position, Error> {
        let (method, set) = (&call::SET_POLICY, set.into());
        let namespace = self.check(method.name, set.check())?;
        let id = self.client.id_or(set.request_id).await?;
        let request = set.to_wire(namespace, id);
        let reply: v1::SetPolicyResponse = self.client.call(method, request, Some(id)).await?;
        let position = read(method, Position::from_wire(reply.position))?;
        self.client.note(method, position)?;
        Ok(position)
    }

    /// One page of the pairs that contradict each other.
    pub async fn conflicts_page(&self, list: &ListConflicts) -> Result<ConflictPage, Error> {
        let method = &call::LIST_CONFLICTS;
        let request = list.to_wire(self.check(method.name, list.check())?);
        let reply = self.client.call(method, request, None).await?;
        let page = read(method, ConflictPage::from_wire(reply))?;
        self.client.note(method, page.position)?;
        Ok(page)
    }

    /// All pairs, in key order, page by page as they are asked for.
    pub fn conflicts(
        &self,
        list: ListConflicts,
    ) -> impl Stream<Item = Result<Conflict, Error>> + Send + use<> {
        let consolidation = self.clone();
        page::entries(list, move |list: ListConflicts| {
            let consolidation = consolidation.clone();
            async move {
                let page = consolidation.conflicts_page(&list).await?;
                let next = page.next.map(|token| list.page_token(token));
                Ok((page.conflicts, next))
            }
        })
    }

    /// Says which of two memories is right, or that both are. [`Kind::NotFound`] if they are not known
    /// to contradict each other. The answer is about the one that is right.
    pub async fn resolve(&self, resolve: &Resolve) -> Result<Mutation, Error> {
        let method = &call::RESOLVE;
        let namespace = self.check(method.name, Violations::default())?;
        let id = self.client.id_or(resolve.request_id).await?;
        let request = resolve.to_wire(namespace, id);
        self.client.mutate(method, request, id).await
    }

    /// One page of the agents of whom something is known: what others found of their memories, and an
    /// operator's word.
    pub async fn trust_page(&self, list: &ListTrust) -> Result<TrustPage, Error> {
        let method = &call::LIST_TRUST;
        let request = list.to_wire(self.check(method.name, list.check().0)?);
        let reply = self.client.call(method, request, None).await?;
        let page = read(method, TrustPage::from_wire(reply))?;
        self.client.note(method, page.position)?;
        Ok(page)
    }

    /// Says how far an agent is trusted, or takes that back. It weighs in every recall of the namespace.
    pub async fn set_trust(&self, set: &SetTrust) -> Result<Position, Error> {
        let method = &call::SET_TRUST;
        let namespace = self.check(method.name, set.check().0)?;
        let id = self.client.id_or(set.request_id).await?;
        let request = set.to_wire(namespace, id);
        let reply: v1::SetTrustResponse = self.client.call(method, request, Some(id)).await?;
        let position = read(method, Position::from_wire(reply.position))?;
        self.client.note(method, position)?;
        Ok(position)
    }

    /// The namespace, checked together with what was found wrong already.
    fn check(&self, operation: &'static str, mut wrong: Violations) -> Result<String, Error> {
        let namespace = self.client.namespace();
        wrong.check("namespace", Namespace::parse(namespace));
        wrong.into_result(operation)?;
        Ok(namespace.to_owned())
    }
}

impl Violations {
    /// What is wrong with how many are asked for at once.
    pub(crate) fn of_limit(field: &str, actual: usize) -> Self {
        let mut violations = Self::default();
        if !(1..=PAGE_MAX).contains(&actual) {
            violations.add(
                field,
                format!("{field} is {actual}, expected 1 to {PAGE_MAX}"),
            );
        }
        violations
    }
}

fn wire_limit(checked: usize) -> u32 {
    u32::try_from(checked).expect("the limit was checked")
}
