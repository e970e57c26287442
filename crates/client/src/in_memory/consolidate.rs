//! The in-memory store's passes: the server's planner over every pair of memories, the server's `apply`
//! for what it plans.
//!
//! What a server finds with its index is found here by looking at all, which suits what a process
//! keeps in memory.

use std::{collections::BTreeSet, ops::Bound};

use memorygate_core::{
    apply::{Outcome as Applied, Target},
    command::{
        Command, Consolidate, ResolveConflict, SetPolicy as SetPolicyCommand,
        SetTrust as SetTrustCommand, UndoConsolidation,
        consolidate::{Step, Versioned},
    },
    consolidation::{self, Looked, Material, Nearby, Policy, Reason, Seen},
    key::Key,
    limits,
    name::Namespace,
    rank,
    scope::Reader,
    state::{self, RowKey},
};

use super::{InMemoryStore, Place, Rows, State, Stored, broken, memories, reused_id};
use crate::{
    consolidation::{
        AgentTrust, Conflict, ConflictPage, DoneStep, Epoch, Epochs, ListConflicts, ListTrust,
        Plan, PlannedStep, Progress, Reach, Resolve, SetPolicy, SetTrust, Status, StepKind,
        StepMemory, TrustPage, Undo, Undone,
    },
    error::{Error, Kind, Outcome, Violations},
    memory::{Link, Memory},
    mutation::Mutation,
    position::Position,
};

/// Characters of a memory that a plan shows, as a server's does.
const CONTENT_CHARS: usize = 200;

impl InMemoryStore {
    /// What [`InMemoryStore::consolidate`] would do now, with up to `limit` steps in full: 1 to 1000.
    pub fn plan(&self, namespace: Option<&str>, reach: Reach, limit: usize) -> Result<Plan, Error> {
        Violations::of_limit("limit", limit).into_result("plan of consolidation")?;
        let namespace = Place::of("plan of consolidation", namespace, None)?.namespace;
        let state = self.lock();
        let planned = planned(&state, &namespace, reach)?;
        let count = |kind| {
            let steps = planned.steps.iter();
            steps.filter(|p| kind_of(&p.step) == kind).count() as u64
        };
        let shown = planned.steps.iter().take(limit);
        Ok(Plan {
            steps: shown
                .map(|step| shown_step(&state.rows, &namespace, step))
                .collect::<Result<_, _>>()?,
            merges: count(StepKind::Merge),
            fades: count(StepKind::Fade),
            conflicts: count(StepKind::Conflict),
            relinks: count(StepKind::Relink),
            compared: planned.compared,
            looked_at: planned.looked_at,
            position: state.position,
        })
    }

    /// Runs a pass, to its end.
    pub fn consolidate(&self, namespace: Option<&str>, reach: Reach) -> Result<Progress, Error> {
        const OPERATION: &str = "consolidation";
        let namespace = Place::of(OPERATION, namespace, None)?.namespace;
        let (planned, through, now) = {
            let state = self.lock();
            if policy(&state.rows, &namespace)?.paused {
                let message = format!("consolidation of namespace {namespace} is paused");
                return Err(Error::new(Kind::Fix, Outcome::Failed, OPERATION, message));
            }
            let planned = planned(&state, &namespace, reach)?;
            let now = state::clock(&state.rows).map_err(broken)?;
            (planned, state.position.index, now)
        };
        let looked_at = planned.compared + planned.looked_at;
        let mut progress = Progress {
            looked_at,
            of: looked_at,
            done: 0,
            refused: 0,
            epochs: 0,
            finished: true,
            position: None,
        };
        let steps: Vec<Step> = planned.steps.into_iter().map(|p| p.step).collect();
        let mut entries: Vec<&[Step]> = steps.chunks(limits::STEPS_MAX).collect();
        // How far it came is noted even if there was nothing to do.
        if entries.is_empty() {
            entries.push(&[]);
        }
        let last = entries.len() - 1;
        for (at, steps) in entries.into_iter().enumerate() {
            let command = Command::Consolidate(Consolidate {
                namespace: namespace.clone(),
                steps: steps.to_vec(),
                progress: (at == last).then_some(state::Progress {
                    through,
                    looked_at: None,
                    at: now,
                }),
            });
            let (outcome, position) = self.write(OPERATION, None, command)?;
            let Applied::Consolidated { done, refused } = outcome else {
                return Err(reused_id(OPERATION));
            };
            progress.done += u64::from(done);
            progress.refused += u64::from(refused);
            progress.epochs += u64::from(done > 0);
            progress.position = Some(position);
        }
        Ok(progress)
    }

    /// What was done, newest first: up to `limit` epochs, 1 to 1000, of those before `before`.
    pub fn epochs(
        &self,
        namespace: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Epochs, Error> {
        Epochs::check(before, limit).into_result("list of epochs")?;
        let namespace = Place::of("list of epochs", namespace, None)?.namespace;
        let state = self.lock();
        let all = state::epochs(&state.rows, &namespace, 0, usize::MAX).map_err(broken)?;
        let newest = all.into_iter().rev();
        let newest = newest.filter(|(id, _)| before.is_none_or(|before| *id < before));
        Ok(Epochs {
            epochs: newest.take(limit).map(epoch).collect(),
            position: state.position,
        })
    }

    /// Brings back exactly what one epoch consumed.
    pub fn undo(&self, namespace: Option<&str>, undo: impl Into<Undo>) -> Result<Undone, Error> {
        let undo = undo.into();
        undo.check().into_result("undo")?;
        let command = Command::UndoConsolidation(UndoConsolidation {
            namespace: Place::of("undo", namespace, None)?.namespace,
            id: undo.id,
        });
        let (outcome, position) = self.write("undo", undo.request_id, command)?;
        let Applied::Undone { steps } = outcome else {
            return Err(reused_id("undo"));
        };
        Ok(Undone { steps, position })
    }

    /// How a namespace is consolidated, and how far.
    pub fn consolidation_status(&self, namespace: Option<&str>) -> Result<Status, Error> {
        let namespace = Place::of("policy", namespace, None)?.namespace;
        let state = self.lock();
        let policy = policy(&state.rows, &namespace)?;
        let progress = state::progress(&state.rows, &namespace).map_err(broken)?;
        Ok(Status {
            effective: Policy {
                paused: policy.paused,
                merge_from: Some(policy.merge_from()),
                fade_below: Some(policy.fade_below()),
                keep_days: Some(policy.keep_days()),
            },
            policy,
            through: progress.through,
            last_pass_at: (progress != state::Progress::default()).then_some(progress.at),
            behind: state.position.index - progress.through,
            position: state.position,
        })
    }

    /// Sets all of a namespace's policy.
    pub fn set_policy(
        &self,
        namespace: Option<&str>,
        set: impl Into<SetPolicy>,
    ) -> Result<Position, Error> {
        const OPERATION: &str = "change of policy";
        let set = set.into();
        set.check().into_result(OPERATION)?;
        let command = Command::SetPolicy(SetPolicyCommand {
            namespace: Place::of(OPERATION, namespace, None)?.namespace,
            policy: set.policy,
        });
        let (outcome, position) = self.write(OPERATION, set.request_id, command)?;
        if outcome != Applied::PolicySet {
            return Err(reused_id(OPERATION));
        }
        Ok(position)
    }

    /// One page of the pairs that contradict each other, in key order.
    pub fn conflicts_page(
        &self,
        namespace: Option<&str>,
        list: &ListConflicts,
    ) -> Result<ConflictPage, Error> {
        const OPERATION: &str = "list of conflicts";
        let mut violations = list.check();
        let after = match list.page_token.as_str() {
            "" => None,
            token => violations.check("page_token", pair(token)),
        };
        violations.into_result(OPERATION)?;
        let namespace = Place::of(OPERATION, namespace, None)?.namespace;
        let state = self.lock();
        let all = state::conflicts(&state.rows, &namespace, after, usize::MAX).map_err(broken)?;
        let mut listed = all
            .into_iter()
            .filter(|((a, b), found)| a < b && (list.resolved || found.resolved_at.is_none()));
        let mut conflicts = Vec::new();
        let mut last = None;
        for ((a, b), found) in listed.by_ref().take(list.page_size) {
            last = Some((a, b));
            conflicts.push(Conflict {
                a: whole(&state.rows, &namespace, a)?,
                b: whole(&state.rows, &namespace, b)?,
                found_at: found.found_at,
                resolved_at: found.resolved_at,
            });
        }
        let next = listed.next().and(last).map(|(a, b)| format!("{a}-{b}"));
        Ok(ConflictPage {
            conflicts,
            next,
            position: state.position,
        })
    }

    /// One page of the agents of whom something is known, in the order of their names.
    pub fn trust_page(
        &self,
        namespace: Option<&str>,
        list: &ListTrust,
    ) -> Result<TrustPage, Error> {
        const OPERATION: &str = "list of trust";
        let (violations, after) = list.check();
        violations.into_result(OPERATION)?;
        let namespace = Place::of(OPERATION, namespace, None)?.namespace;
        let state = self.lock();
        let limit = list.page_size + 1;
        let mut known =
            state::trusts(&state.rows, &namespace, after.as_ref(), limit).map_err(broken)?;
        let is_last = known.len() <= list.page_size;
        known.truncate(list.page_size);
        let next = known.last().filter(|_| !is_last);
        Ok(TrustPage {
            next: next.map(|(agent, _)| agent.to_string()),
            agents: known
                .into_iter()
                .map(|(agent, trust)| AgentTrust {
                    agent: agent.to_string(),
                    trust: trust.value(),
                    ratings: trust.count,
                    positive: trust.positive,
                    negative: trust.negative,
                    set: trust.set,
                })
                .collect(),
            position: state.position,
        })
    }

    /// Says how far an agent is trusted, or takes that back.
    pub fn set_trust(&self, namespace: Option<&str>, set: &SetTrust) -> Result<Position, Error> {
        const OPERATION: &str = "change of trust";
        let (violations, agent) = set.check();
        violations.into_result(OPERATION)?;
        let command = Command::SetTrust(SetTrustCommand {
            namespace: Place::of(OPERATION, namespace, None)?.namespace,
            agent: agent.expect("an agent without a violation was parsed"),
            trust: set.trust,
        });
        let (outcome, position) = self.write(OPERATION, set.request_id, command)?;
        if outcome != Applied::TrustSet {
            return Err(reused_id(OPERATION));
        }
        Ok(position)
    }

    /// Says which of two memories is right, or that both are.
    pub fn resolve(&self, namespace: Option<&str>, resolve: &Resolve) -> Result<Mutation, Error> {
        let command = Command::ResolveConflict(ResolveConflict {
            target: Target {
                namespace: Place::of("resolve", namespace, None)?.namespace,
                key: resolve.key,
                reader: Reader::operator(),
            },
            other: resolve.other,
            both_hold: resolve.both_hold,
        });
        self.mutate("resolve", resolve.request_id, command)
    }
}

/// A plan over a whole namespace.
struct Planned {
    steps: Vec<consolidation::Planned>,
    compared: u64,
    looked_at: u64,
}

fn planned(state: &State, namespace: &Namespace, reach: Reach) -> Result<Planned, Error> {
    let rows = &state.rows;
    let policy = policy(rows, namespace)?;
    let now = state::clock(rows).map_err(broken)?;
    let through = match reach {
        Reach::Everything => 0,
        Reach::New => state::progress(rows, namespace).map_err(broken)?.through,
    };
    let live: Vec<Seen> = memories(rows, namespace, &Reader::operator())?
        .into_iter()
        .filter(|stored| !stored.record.is_archived())
        .map(seen)
        .collect();
    let mut changed = Vec::new();
    for centre in live.iter().filter(|s| s.memory.created.index > through) {
        changed.push(Nearby {
            near: near(centre, &live, policy.merge_from()),
            in_conflict: in_conflict(rows, namespace, centre.key),
            centre: centre.clone(),
        });
    }
    let mut looked = Vec::new();
    for seen in &live {
        looked.push(Looked {
            key: seen.key,
            moved: moved(rows, namespace, seen)?,
            memory: seen.memory.clone(),
        });
    }
    let material = Material {
        changed: &changed,
        looked: &looked,
        now,
    };
    let settings = rank::Settings::default();
    Ok(Planned {
        steps: consolidation::plan(material, &mut BTreeSet::new(), &policy, &settings),
        compared: changed.len() as u64,
        looked_at: looked.len() as u64,
    })
}

fn seen(stored: Stored) -> Seen {
    Seen {
        key: stored.memory.key,
        memory: stored.record,
        dense: stored.vector,
    }
}

/// All but `centre` that are at least as close to it as `from`, nearest first.
fn near(centre: &Seen, live: &[Seen], from: f32) -> Vec<Seen> {
    let cosine = |other: &Seen| -> f32 {
        let pairs = centre.dense.iter().zip(&other.dense);
        pairs.map(|(a, b)| a * b).sum()
    };
    let others = live.iter().filter(|other| other.key != centre.key);
    let mut near: Vec<(f32, &Seen)> = others
        .map(|other| (cosine(other), other))
        .filter(|(cosine, _)| *cosine >= from)
        .collect();
    near.sort_by(|(a, first), (b, second)| b.total_cmp(a).then(first.key.cmp(&second.key)));
    near.truncate(limits::MERGE_MAX);
    near.into_iter().map(|(_, seen)| seen.clone()).collect()
}

/// Those that contradict a memory, whether someone decided or not.
fn in_conflict(rows: &Rows, namespace: &Namespace, key: Key) -> BTreeSet<Key> {
    let row = |other| Bound::Included(RowKey::Conflict(namespace.clone(), key, Key([other; 16])));
    let mut others = BTreeSet::new();
    for (row, _) in rows.0.range((row(0), row(u8::MAX))) {
        if let RowKey::Conflict(_, _, other) = row {
            others.insert(*other);
        }
    }
    others
}

/// Links to archived memories, and what took the place of each.
fn moved(rows: &Rows, namespace: &Namespace, seen: &Seen) -> Result<Vec<(Link, Key)>, Error> {
    let mut moved = Vec::new();
    for link in &seen.memory.links {
        let to = state::replacement(rows, namespace, link.target).map_err(broken)?;
        // That a memory superseded another stays said of that very one.
        if let Some(to) = to.filter(|to| *to != link.target && *to != seen.key) {
            moved.push((*link, to));
        }
    }
    Ok(moved)
}

fn policy(rows: &Rows, namespace: &Namespace) -> Result<Policy, Error> {
    state::policy(rows, namespace).map_err(broken)
}

fn kind_of(step: &Step) -> StepKind {
    match step {
        Step::Merge { .. } => StepKind::Merge,
        Step::Fade { .. } => StepKind::Fade,
        Step::Conflict { .. } => StepKind::Conflict,
        Step::Relink { .. } => StepKind::Relink,
    }
}

fn shown_step(
    rows: &Rows,
    namespace: &Namespace,
    planned: &consolidation::Planned,
) -> Result<PlannedStep, Error> {
    let memory = |of: &Versioned| -> Result<StepMemory, Error> {
        let memory = whole(rows, namespace, of.key)?;
        Ok(StepMemory {
            key: of.key,
            version: of.version,
            content: memory.content.chars().take(CONTENT_CHARS).collect(),
        })
    };
    let cosine = match planned.reason {
        Reason::SaysTheSame { cosine } | Reason::Contradicts { cosine } => cosine,
        Reason::WorthLittle { .. } | Reason::TargetMoved => 0.0,
    };
    let (worth, unused_days) = match planned.reason {
        Reason::WorthLittle { worth, unused_days } => (worth, unused_days),
        Reason::SaysTheSame { .. } | Reason::Contradicts { .. } | Reason::TargetMoved => (0.0, 0.0),
    };
    Ok(match &planned.step {
        Step::Merge { keep, absorb } => PlannedStep::Merge {
            keep: memory(keep)?,
            absorb: absorb.iter().map(memory).collect::<Result<_, _>>()?,
            cosine,
        },
        Step::Fade { memory: of } => PlannedStep::Fade {
            memory: memory(of)?,
            worth,
            unused_days,
        },
        Step::Conflict { a, b } => PlannedStep::Conflict {
            a: memory(a)?,
            b: memory(b)?,
            cosine,
        },
        Step::Relink {
            memory: of,
            relation,
            from,
            to,
        } => PlannedStep::Relink {
            memory: memory(of)?,
            link: Link {
                relation: *relation,
                target: *from,
            },
            to: *to,
        },
    })
}

fn whole(rows: &Rows, namespace: &Namespace, key: Key) -> Result<Memory, Error> {
    let memory = state::memory(rows, namespace, key)
        .map_err(broken)?
        .expect("what is planned or in conflict is stored");
    let place = Place {
        namespace: namespace.clone(),
        reader: Reader::operator(),
    };
    Ok(super::stored(rows, &place, key, memory)?.memory)
}

fn epoch((id, epoch): (u64, state::Epoch)) -> Epoch {
    let step = |done: &state::Done| {
        let (key, others) = match &done.step {
            Step::Merge { keep, absorb } => (keep.key, absorb.iter().map(|a| a.key).collect()),
            Step::Fade { memory } => (memory.key, Vec::new()),
            Step::Conflict { a, b } => (a.key, vec![b.key]),
            Step::Relink { memory, to, .. } => (memory.key, vec![*to]),
        };
        DoneStep {
            kind: Some(kind_of(&done.step)),
            key,
            others,
        }
    };
    Epoch {
        id,
        at: epoch.at,
        steps: epoch.done.iter().map(step).collect(),
    }
}

/// A page token.
fn pair(token: &str) -> Result<(Key, Key), String> {
    let (a, b) = token
        .split_once('-')
        .ok_or_else(|| "page_token is not from the answer before".to_owned())?;
    let key = |text: &str| text.parse().map_err(|e| format!("page_token: {e}"));
    Ok((key(a)?, key(b)?))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicI64, atomic::Ordering};

    use memorygate_core::time::{DAY_MS, TimeMs};

    use super::*;
    use crate::{Archive, Experience, Filter, List, Restore, memory::Reason as Why};

    /// A store, and its clock, which goes on at each look.
    fn store() -> (InMemoryStore, Arc<AtomicI64>) {
        let clock = Arc::new(AtomicI64::new(1_000 * DAY_MS));
        let read = Arc::clone(&clock);
        let tick = move || TimeMs(read.fetch_add(1, Ordering::Relaxed));
        let store = InMemoryStore::with_clock(Arc::new(tick));
        (store, clock)
    }

    fn learn(store: &InMemoryStore, text: &str) -> Key {
        let lesson = Experience::new(text, "infrastructure");
        store.learn(lesson).unwrap().learned[0].key
    }

    fn contents(store: &InMemoryStore, archive: Archive) -> Vec<String> {
        let list = List::new().filter(Filter::new().archive(archive));
        let page = store.list_page(&list).unwrap();
        page.memories.into_iter().map(|m| m.content).collect()
    }

    #[test]
    fn near_duplicates_become_one_and_come_back() {
        let (store, _) = store();
        let kept = learn(&store, "raise the memory limit of the pod to 512Mi");
        let other = learn(&store, "raise the memory limit of the pods to 512Mi");
        learn(&store, "the certificate on the ingress expired");
        let plan = store.plan(None, Reach::New, 10).unwrap();
        assert_eq!((plan.merges, plan.steps_in_all(), plan.compared), (1, 1, 3));
        let before = store.stats(None).unwrap().state_hash;

        let ran = store.consolidate(None, Reach::New).unwrap();
        assert_eq!((ran.done, ran.refused, ran.epochs), (1, 0, 1));
        assert_eq!(contents(&store, Archive::Without).len(), 2);
        assert_eq!(contents(&store, Archive::Only).len(), 1);
        assert_eq!(contents(&store, Archive::With).len(), 3);
        let stats = &store.stats(None).unwrap().namespaces[0];
        assert_eq!((stats.memories, stats.archived), (2, 1));
        let memory = store.get(kept).unwrap().unwrap();
        assert_eq!(memory.merged, [other].into());
        let memory = store.get(other).unwrap().unwrap();
        assert_eq!(memory.replaced_by(), Some(kept));
        let refused = store.restore(other).unwrap_err();
        assert!(refused.message().contains("was merged into"), "{refused}");
        let again = store.consolidate(None, Reach::Everything).unwrap();
        assert_eq!((again.done, again.epochs), (0, 0));

        let epoch = store.epochs(None, None, 10).unwrap().epochs.remove(0);
        assert_eq!(epoch.steps[0].others, [other]);
        assert_eq!(store.undo(None, epoch.id).unwrap().steps, 1);
        assert_eq!(contents(&store, Archive::Only).len(), 0);
        assert_ne!(
            store.stats(None).unwrap().state_hash,
            before,
            "how far consolidation came is part of the state"
        );
        let gone = store.undo(None, epoch.id).unwrap_err();
        assert_eq!(gone.kind(), Kind::NotFound);
    }

    #[test]
    fn what_changed_since_forbids_an_undo_and_is_named() {
        let (store, _) = store();
        let kept = learn(&store, "raise the memory limit of the pod to 512Mi");
        learn(&store, "raise the memory limit of the pods to 512Mi");
        let id = store.consolidate(None, Reach::New).unwrap().position;
        let good = crate::GiveFeedback::new(kept, 1.0);
        store.feedback(&good).unwrap();
        let refused = store.undo(None, id.unwrap().index).unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict);
        assert_eq!(refused.changed(), [kept]);
    }

    #[test]
    fn what_nobody_needs_fades_and_is_restored() {
        let (store, clock) = store();
        let key = learn(&store, "the printer on floor 3 was out of paper");
        clock.fetch_add(400 * DAY_MS, Ordering::Relaxed);
        learn(&store, "the certificate on the ingress expired");
        let plan = store.plan(None, Reach::New, 10).unwrap();
        let [PlannedStep::Fade { unused_days, .. }] = plan.steps.as_slice() else {
            panic!("one fade is planned, not {:?}", plan.steps);
        };
        assert!((*unused_days - 400.0).abs() < 1e-3);
        store.consolidate(None, Reach::New).unwrap();
        let archived = store.get(key).unwrap().unwrap().archived;
        assert_eq!(archived.unwrap().reason, Why::Faded);
        assert!(store.restore(Restore::new(key)).unwrap().changed);
        assert!(!store.restore(key).unwrap().changed);
        assert_eq!(store.plan(None, Reach::Everything, 10).unwrap().fades, 0);
    }

    #[test]
    fn a_contradiction_is_listed_until_someone_decides() {
        let (store, _) = store();
        let texts = ["raise the limit", "do not raise the limit"];
        let keys = texts.map(|text| learn(&store, &format!("{text} of the memory of the pod")));
        let lower = Policy {
            merge_from: Some(0.5),
            ..Policy::default()
        };
        store.set_policy(None, lower).unwrap();
        store.consolidate(None, Reach::New).unwrap();
        let list = ListConflicts::new();
        let listed = || store.conflicts_page(None, &list).unwrap().conflicts;
        assert_eq!(listed().len(), 1);
        let wrong = store.conflicts_page(None, &list.clone().page_token("x"));
        assert_eq!(wrong.unwrap_err().violations()[0].field, "page_token");
        store
            .resolve(None, &Resolve::new(keys[1], keys[0]))
            .unwrap();
        assert_eq!(listed().len(), 0);
        let decided = store.conflicts_page(None, &list.clone().resolved());
        assert!(decided.unwrap().conflicts[0].resolved_at.is_some());
        let unknown = Resolve::new(keys[1], keys[1]).both_hold();
        let unknown = store.resolve(None, &unknown).unwrap_err();
        assert_eq!(unknown.kind(), Kind::NotFound);
    }

    #[test]
    fn a_paused_namespace_is_left_alone() {
        let (store, _) = store();
        learn(&store, "anything");
        let paused = Policy {
            paused: true,
            ..Policy::default()
        };
        store.set_policy(None, paused.clone()).unwrap();
        let refused = store.consolidate(None, Reach::New).unwrap_err();
        assert_eq!(refused.kind(), Kind::Fix);
        assert!(store.consolidate(Some("other"), Reach::New).is_ok());
        let status = store.consolidation_status(None).unwrap();
        assert_eq!(status.policy, paused);
        assert_eq!(status.effective.keep_days, Some(Policy::KEEP_DAYS));
        assert_eq!((status.behind, status.last_pass_at), (3, None));
        let wrong = Policy {
            merge_from: Some(0.1),
            ..Policy::default()
        };
        let refused = store.set_policy(None, wrong).unwrap_err();
        assert_eq!(refused.violations()[0].field, "policy");
        store.set_policy(None, Policy::default()).unwrap();
        store.consolidate(None, Reach::New).unwrap();
        let status = store.consolidation_status(None).unwrap();
        assert!(status.last_pass_at.is_some());
    }
}
