//! One pass over a namespace.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use memorygate_core::{
    apply::Outcome as Done,
    command::{Command, Consolidate, consolidate::Step},
    consolidation::{self, Looked, Material, Nearby, Policy},
    key::Key,
    limits,
    memory::Memory,
    name::Namespace,
    state::{self, Progress},
};

use super::{look, source::Source};
use crate::{backend::Backend, deadline::Deadline, error::Error, position::Position};

pub use memorygate_core::consolidation::Planned;

/// Memories that are compared with their neighbours before it is looked whether to pause. At 100,000
/// memories comparing one takes about a millisecond.
const COMPARED_AT_ONCE: usize = 16;

/// Memories that are looked at for fading at once.
const LOOKED_AT_ONCE: usize = 256;

/// Memories that a pass looks at for fading, of however many there are: the next pass goes on.
const STRETCH: usize = 2_048;

/// Positions without anything to consolidate after which it is written down how far a pass came, so
/// that the change journal need not be kept for it.
const THROUGH_EVERY: u64 = 100_000;

/// The longest pause between two parts of a pass.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is to be consolidated, and how fast.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub namespace: Namespace,
    /// All memories, and not only those learned since the last pass.
    pub everything: bool,
    /// Of one thread's time, what the pass may take: above 0, up to 1.
    pub share: f64,
    /// Ends early when this node does not lead any more.
    pub only_while_leading: bool,
}

/// How far a pass is, or came.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Ran {
    /// Memories compared or looked at.
    pub looked_at: u64,
    /// How many are to be, as far as is known.
    pub of: u64,
    pub done: u64,
    /// Steps that met something that had changed meanwhile.
    pub refused: u64,
    pub epochs: u64,
    /// Of the last write.
    pub position: Option<Position>,
}

/// What a pass would do, without doing it.
#[derive(Debug, Default)]
pub struct Looks {
    pub steps: Vec<Planned>,
    /// Of each memory that the steps name, the first of its text.
    pub compared: u64,
    pub looked_at: u64,
    /// Where the state stood.
    pub position: u64,
}

/// A part of a pass's material, and where the pass stands after it.
struct Part {
    changed: Vec<Nearby>,
    looked: Vec<Looked>,
    compared: u64,
    /// Set when everything was looked at.
    is_last: bool,
}

/// Goes through what a pass looks at.
struct Walk {
    backend: Arc<Backend>,
    namespace: Namespace,
    policy: Policy,
    source: Source,
    /// Keys from the source that wait.
    waiting: Vec<Key>,
    source_ended: bool,
    /// All that was created up to here is compared.
    until: u64,
    looked_at: Option<Key>,
    left_to_look_at: usize,
}

impl Walk {
    fn new(backend: &Arc<Backend>, wanted: &Wanted) -> Result<(Self, u64), Error> {
        let view = backend.index.view()?;
        let (snapshot, until) = (view.records().state.clone(), view.position());
        drop(view);
        let namespace = wanted.namespace.clone();
        let progress = state::progress(&*snapshot, &namespace)?;
        let info = state::namespace_info(&*snapshot, &namespace)?.unwrap_or_default();
        let (source, left, looked_at) = if wanted.everything {
            let source = Source::everything(namespace.clone());
            (source, usize::MAX, None)
        } else {
            let source = Source::since(namespace.clone(), progress.through);
            (source, STRETCH, progress.looked_at)
        };
        let walk = Self {
            backend: backend.clone(),
            policy: state::policy(&*snapshot, &namespace)?,
            namespace,
            source,
            waiting: Vec::new(),
            source_ended: false,
            until,
            looked_at,
            left_to_look_at: left,
        };
        let stored = info.stored();
        let of = match wanted.everything {
            true => stored * 2,
            false => stored.min(STRETCH as u64),
        };
        Ok((walk, of))
    }

    /// Reads the next part; blocks.
    fn next(&mut self) -> Result<Part, Error> {
        let mut part = Part {
            changed: Vec::new(),
            looked: Vec::new(),
            compared: 0,
            is_last: false,
        };
        if self.waiting.is_empty() && !self.source_ended {
            let snapshot = self.backend.raft.state().snapshot();
            match self.source.next(&snapshot, self.until)? {
                Some(keys) => self.waiting = keys,
                None => self.source_ended = true,
            }
        }
        if !self.source_ended {
            let count = COMPARED_AT_ONCE.min(self.waiting.len());
            for key in self.waiting.drain(..count) {
                let index = &self.backend.index;
                let nearby = look::nearby(index, &self.namespace, key, &self.policy)?;
                part.changed.extend(nearby);
            }
            part.compared = count as u64;
            return Ok(part);
        }
        let snapshot = self.backend.raft.state().snapshot();
        let limit = LOOKED_AT_ONCE.min(self.left_to_look_at);
        part.looked = look::stretch(&snapshot, &self.namespace, self.looked_at, limit)?;
        self.left_to_look_at = self.left_to_look_at.saturating_sub(part.looked.len());
        let is_round_over = part.looked.len() < limit;
        self.looked_at = match part.looked.last() {
            Some(last) if !is_round_over => Some(last.key),
            Some(_) | None => None,
        };
        part.is_last = is_round_over || self.left_to_look_at == 0;
        Ok(part)
    }
}

/// Plans a whole pass and does nothing. Stops early at `deadline` with an error.
pub async fn plan(
    backend: &Arc<Backend>,
    wanted: &Wanted,
    deadline: Deadline,
) -> Result<Looks, Error> {
    let (mut walk, _) = begin(backend, wanted, deadline).await?;
    let settings = backend.ranking.clone();
    let mut taken = BTreeSet::new();
    let mut looks = Looks {
        position: walk.until,
        ..Looks::default()
    };
    loop {
        let now = backend.raft.state().snapshot().clock();
        let (back, part) = part(backend, walk, deadline).await?;
        walk = back;
        let material = Material {
            changed: &part.changed,
            looked: &part.looked,
            now,
        };
        let steps = consolidation::plan(material, &mut taken, &walk.policy, &settings);
        looks.steps.extend(steps);
        looks.compared += part.compared;
        looks.looked_at += part.looked.len() as u64;
        if part.is_last {
            return Ok(looks);
        }
        if deadline.left().is_zero() {
            return Err(Error::Deadline {
                waiting: "looking at all memories",
                outcome: crate::error::Outcome::Failed,
            });
        }
    }
}

/// Runs a pass. `progress` is told how far it is, and ends it by saying `false`.
pub async fn run_pass(
    backend: &Arc<Backend>,
    wanted: &Wanted,
    mut progress: impl FnMut(Ran) -> bool,
) -> Result<Ran, Error> {
    let (mut walk, of) = begin(backend, wanted, Deadline::after(None)).await?;
    if walk.policy.paused {
        return Err(Error::Paused {
            namespace: wanted.namespace.clone(),
        });
    }
    backend.metrics.consolidation_passes.inc();
    let before = state::progress(&*backend.raft.state().snapshot(), &wanted.namespace)?;
    let settings = backend.ranking.clone();
    let mut ran = Ran {
        of,
        ..Ran::default()
    };
    let (mut steps, mut taken): (Vec<Step>, _) = (Vec::new(), BTreeSet::new());
    loop {
        let start = Instant::now();
        let now = backend.raft.state().snapshot().clock();
        let (back, part) = part(backend, walk, Deadline::after(None)).await?;
        walk = back;
        let material = Material {
            changed: &part.changed,
            looked: &part.looked,
            now,
        };
        let planned = consolidation::plan(material, &mut taken, &walk.policy, &settings);
        steps.extend(planned.into_iter().map(|planned| planned.step));
        ran.looked_at += part.compared + part.looked.len() as u64;
        ran.of = ran.of.max(ran.looked_at);
        if wanted.only_while_leading && !backend.raft.is_leader() {
            return Ok(ran);
        }
        while steps.len() >= limits::STEPS_MAX || (part.is_last && !steps.is_empty()) {
            let now: Vec<Step> = steps.drain(..limits::STEPS_MAX.min(steps.len())).collect();
            propose(backend, &wanted.namespace, now, None, &mut ran).await?;
        }
        if steps.is_empty() && ran.epochs > 0 {
            // What was proposed is seen by what is read next.
            taken.clear();
            backend
                .index_at_least(ran.position, Deadline::after(None))
                .await?;
        }
        if !progress(ran) {
            return Ok(ran);
        }
        if part.is_last {
            break;
        }
        pause(start.elapsed(), wanted.share).await;
    }
    let after = Progress {
        through: walk.until,
        looked_at: walk.looked_at,
        at: backend.clock.now(),
    };
    let is_far = after.through > before.through.saturating_add(THROUGH_EVERY);
    let has_looked = after.looked_at != before.looked_at;
    if ran.looked_at > 0
        && (ran.epochs > 0 || is_far || has_looked || before == Progress::default())
    {
        propose(
            backend,
            &wanted.namespace,
            Vec::new(),
            Some(after),
            &mut ran,
        )
        .await?;
    }
    Ok(ran)
}

/// Starts a walk once the index stands where the state does now, so that a pass knows what its caller
/// knows.
async fn begin(
    backend: &Arc<Backend>,
    wanted: &Wanted,
    deadline: Deadline,
) -> Result<(Walk, u64), Error> {
    let now = backend.position(backend.raft.state().snapshot().position());
    backend.index_at_least(Some(now), deadline).await?;
    Walk::new(backend, wanted)
}

/// The next part of a walk, read on a thread that may block.
async fn part(
    backend: &Backend,
    mut walk: Walk,
    deadline: Deadline,
) -> Result<(Walk, Part), Error> {
    let read = move || walk.next().map(|part| (walk, part));
    backend.reads.run(deadline, read).await?
}

async fn propose(
    backend: &Backend,
    namespace: &Namespace,
    steps: Vec<Step>,
    progress: Option<Progress>,
    ran: &mut Ran,
) -> Result<(), Error> {
    let _write = backend.drain.admit()?;
    let kinds: Vec<&'static str> = steps.iter().map(Step::name).collect();
    let has_steps = !steps.is_empty();
    let command = Command::Consolidate(Consolidate {
        namespace: namespace.clone(),
        steps,
        progress,
    });
    let (done, position) = backend
        .propose(command, None, Deadline::after(None))
        .await?;
    ran.position = Some(position);
    let Done::Consolidated { done, refused } = done else {
        return Err(Error::other_call());
    };
    ran.done += u64::from(done);
    ran.refused += u64::from(refused);
    ran.epochs += u64::from(has_steps && done > 0);
    for kind in kinds {
        let steps = backend
            .metrics
            .consolidation_steps
            .with_label_values(&[kind]);
        steps.inc();
    }
    backend
        .metrics
        .consolidation_refused
        .inc_by(u64::from(refused));
    Ok(())
}

/// Work of `worked` in a `share` of the time leaves this long to others.
async fn pause(worked: Duration, share: f64) {
    let rest = worked.mul_f64((1.0 / share.clamp(0.01, 1.0) - 1.0).max(0.0));
    tokio::time::sleep(rest.min(PAUSE_MAX)).await;
}

/// The first of a memory's text, for those who read a plan.
pub(crate) fn beginning(memory: &Memory) -> String {
    const CHARS: usize = 200;
    memory.content.chars().take(CHARS).collect()
}
