//! One call: its attempts, until it is answered, refused for good, or out of time.
//!
//! ```text
//! attempt ──▶ answered ─────────────────────────────────────────▶ reply
//!    ▲    └─▶ failed for good, or out of time ─────────────────▶ error
//!    │    └─▶ failed, another server may do ─▶ next server ─┐
//!    │                                   └─▶ none ─▶ wait ──┤
//!    └─────────────────── same request id ◀─────────────────┘
//! ```
//!
//! A server that fails is left for another at once; after a round of all, the next begins when a
//! back-off is over, or as soon as the cluster is heard to have a leader. Reads are repeated because they change nothing, writes because they carry a request id. Once an
//! attempt of a write has an unknown outcome, no later attempt that merely failed makes it known:
//! only an answer to the request itself does.

use std::{sync::Arc, time::Duration};

use memorygate_core::request::RequestId;
use prost::Message;
use rand::Rng as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;
use tracing::debug;

use super::{
    servers::{Choice, Purpose, Servers},
    settings::Settings,
};
use crate::error::{Error, Failure, Kind, Outcome, Trouble};

/// Bytes of one reply: 1,000 memories of 64 KiB content and 16 KiB metadata are 80 MB.
pub(super) const REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A call of the API.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(super) path: &'static str,
    pub(crate) mutating: bool,
    /// Whether it can be repeated after its outcome was unknown.
    pub(super) is_repeatable: bool,
    pub(super) purpose: Purpose,
}

macro_rules! methods {
    ($($constant:ident = $name:literal, $rpc:literal, $mutating:literal, $repeatable:literal,
       $purpose:ident;)*) => {
        $(pub(crate) const $constant: Method = Method {
            name: $name,
            path: concat!("/memorygate.v1.", $rpc),
            mutating: $mutating,
            is_repeatable: $repeatable,
            purpose: Purpose::$purpose,
        };)*
    };
}

// Reads change nothing; writes carry a request id; a change of the cluster that is made already is
// no error. A transfer to nobody in particular and a new snapshot would be done twice. To compare the
// members takes an entry in the log and long, so it goes where writes go; and so does all that
// concerns a backup store, since every node may have one of its own, and all of consolidation: a plan may
// take long, and what is asked of it names no position, but should be as new as the last change.
methods! {
    LEARN = "learn", "MemoryGate/Learn", true, true, Write;
    LEARN_STREAM = "learn stream", "MemoryGate/LearnStream", true, false, Write;
    RECALL = "recall", "MemoryGate/Recall", false, true, Read;
    GET = "get", "MemoryGate/Get", false, true, Read;
    LIST = "list", "MemoryGate/List", false, true, Read;
    HISTORY = "history", "MemoryGate/History", false, true, Read;
    UPDATE = "update", "MemoryGate/Update", true, true, Write;
    FEEDBACK = "feedback", "MemoryGate/Feedback", true, true, Write;
    FORGET = "forget", "MemoryGate/Forget", true, true, Write;
    LINK = "link", "MemoryGate/Link", true, true, Write;
    SHARE = "share", "MemoryGate/Share", true, true, Write;
    RESTORE = "restore", "MemoryGate/Restore", true, true, Write;
    STATS = "stats", "MemoryGate/Stats", false, true, Read;
    MEMBERS = "members", "Cluster/Members", false, true, Read;
    STATUS = "cluster status", "Cluster/Status", false, true, Read;
    CHANGE_MEMBER = "change of members", "Cluster/ChangeMember", true, true, Write;
    TRANSFER_LEADER = "transfer of leadership", "Cluster/TransferLeader", true, false, Write;
    DRAIN = "drain", "Cluster/Drain", true, true, Write;
    VERIFY = "cluster verify", "Cluster/Verify", false, true, Write;
    LIST_ALARMS = "list of alarms", "Cluster/ListAlarms", false, true, Read;
    CLEAR_ALARMS = "clearing of alarms", "Cluster/ClearAlarms", true, true, Write;
    CREATE_SNAPSHOT = "snapshot", "Cluster/CreateSnapshot", true, false, Write;
    LIST_SNAPSHOTS = "list of snapshots", "Cluster/ListSnapshots", false, true, Write;
    SAVE_SNAPSHOT = "snapshot", "Cluster/SaveSnapshot", false, false, Write;
    VERIFY_SNAPSHOT = "check of the snapshot", "Cluster/VerifySnapshot", false, true, Write;
    PLAN = "plan of consolidation", "Consolidation/PlanConsolidation", false, true, Write;
    RUN = "consolidation", "Consolidation/RunConsolidation", true, false, Write;
    LIST_EPOCHS = "list of epochs", "Consolidation/ListEpochs", false, true, Write;
    UNDO = "undo", "Consolidation/UndoEpoch", true, true, Write;
    GET_POLICY = "policy", "Consolidation/GetPolicy", false, true, Write;
    SET_POLICY = "change of policy", "Consolidation/SetPolicy", true, true, Write;
    LIST_CONFLICTS = "list of conflicts", "Consolidation/ListConflicts", false, true, Write;
    RESOLVE = "resolve", "Consolidation/ResolveConflict", true, true, Write;
    LIST_TRUST = "list of trust", "Consolidation/ListTrust", false, true, Write;
    SET_TRUST = "change of trust", "Consolidation/SetTrust", true, true, Write;
}

/// Of the time that a call has, the part that the first server may take to answer a read while there
/// are others: one that hangs, or waits for entries that it does not get, is left for another. A
/// third such server has all the rest.
const SERVERS_IN_TURN: u32 = 3;

/// Between two rounds of attempts, at least, whatever the settings say: the rounds at a cluster
/// without a leader are bounded by the deadline alone.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// Runs one call. `id` is the request id that is in `request`, for the error.
pub(super) async fn call<Q, R>(
    servers: &Arc<Servers>,
    settings: &Settings,
    method: &Method,
    request: Q,
    id: Option<RequestId>,
) -> Result<R, Error>
where
    Q: Message + Clone + 'static,
    R: Message + Default + 'static,
{
    let start = Instant::now();
    let deadline = start + settings.timeout;
    let purpose = method.purpose;
    let mut outcome = Outcome::Failed;
    let (mut attempt, mut late, mut rounds, mut rounds_counted) = (0, 0, 0, 0);
    // Those that failed in this round.
    let mut tried: Vec<u64> = Vec::new();
    let mut is_counted = false;
    let mut last = None;
    let mut better = None;
    loop {
        let asked = match (servers.choose(purpose, &tried), last.take()) {
            (Choice::Ask(asked), _) => asked,
            (Choice::AllForeign, None) | (Choice::AllTried, None) => {
                return Err(foreign(method));
            }
            (Choice::AllForeign, Some(error)) => return Err(error),
            (Choice::AllTried, Some(error)) => {
                rounds += 1;
                rounds_counted += u32::from(is_counted);
                if rounds_counted >= settings.attempts_max {
                    return Err(error);
                }
                wait(settings, rounds, deadline, error, better.as_mut()).await?;
                tried.clear();
                is_counted = false;
                continue;
            }
        };
        attempt += 1;
        let server = &asked.server;
        let until = match purpose {
            Purpose::Read if servers.are_several() && late + 1 < SERVERS_IN_TURN => {
                let left = deadline.saturating_duration_since(Instant::now());
                Instant::now() + left / (SERVERS_IN_TURN - late)
            }
            Purpose::Read | Purpose::Write => deadline,
        };
        let tried_once = attempt_once(server.channel(), method, request.clone(), until);
        let failure = match timeout_at(until, tried_once).await {
            Ok(Ok(reply)) => {
                servers.answered(server);
                return Ok(reply);
            }
            Ok(Err(status)) => Failure::of(method.name, method.mutating, &status),
            Err(_elapsed) => Failure::deadline(method.name, method.mutating, start.elapsed()),
        };
        let Failure {
            mut error,
            retryable,
            trouble,
            final_answer,
        } = failure;
        if error.outcome() == Outcome::Unknown {
            outcome = Outcome::Unknown;
        }
        if !final_answer {
            error.set_outcome(outcome);
        }
        error.set_trail(&server.address, attempt, id);
        better
            .get_or_insert_with(|| servers.better())
            .mark_unchanged();
        if let Some(trouble) = trouble {
            servers.failed(server, purpose, trouble);
        }
        late += u32::from(trouble == Some(Trouble::Late));
        let is_repeatable = method.is_repeatable || error.outcome() == Outcome::Failed;
        if !retryable || !is_repeatable || Instant::now() >= deadline {
            return Err(error);
        }
        debug!(%error, attempt, "call is repeated");
        match trouble {
            Some(trouble) => {
                tried.push(server.id);
                // A cluster that is there is waited for: it elects a leader, a node comes back.
                // Where nobody answered yet there may be nothing to wait for.
                is_counted |= !servers.are_several()
                    || trouble == Trouble::Unreachable && !servers.are_followed();
                last = Some(error);
            }
            // Too much at once: the others would have to hand it on to the same one.
            None => {
                rounds += 1;
                rounds_counted += 1;
                if rounds_counted >= settings.attempts_max {
                    return Err(error);
                }
                wait(settings, rounds, deadline, error, None).await?;
            }
        }
    }
}

/// Waits before the next round, at most until something is heard for which it is worth trying again.
/// Gives the error back if there is no time left for another round.
async fn wait(
    settings: &Settings,
    rounds: u32,
    deadline: Instant,
    error: Error,
    better: Option<&mut watch::Receiver<u64>>,
) -> Result<(), Error> {
    let wait = backoff(settings, rounds)
        .max(error.retry_after().unwrap_or_default())
        .max(WAIT_MIN);
    let until = Instant::now() + wait;
    if until >= deadline {
        return Err(error);
    }
    match better {
        // It ends with the servers alone, and those outlive this call.
        Some(better) => drop(timeout_at(until, better.changed()).await),
        None => sleep_until(until).await,
    }
    Ok(())
}

/// Nothing was sent, because there is nobody to send it to.
pub(super) fn foreign(method: &Method) -> Error {
    let message = "every endpoint is of another cluster than this client has seen: check the \
                   endpoints, or forget what was seen (`Client::reset_position`) if the cluster was \
                   restored from a backup";
    Error::new(Kind::Restore, Outcome::Failed, method.name, message)
}

async fn attempt_once<Q, R>(
    channel: Channel,
    method: &Method,
    request: Q,
    deadline: Instant,
) -> Result<R, Status>
where
    Q: Message + 'static,
    R: Message + Default + 'static,
{
    let mut grpc = grpc(channel).await?;
    let mut request = Request::new(request);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    // Not the generated client: it refuses replies with fields that it does not know, and then
    // every old client would fail with a newer server. Only requests have to be strict.
    let codec = ProstCodec::<Q, R>::default();
    let path = PathAndQuery::from_static(method.path);
    Ok(grpc.unary(request, path, codec).await?.into_inner())
}

/// A channel that is ready for one call.
pub(super) async fn grpc(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::from_error(Box::new(error)))?;
    Ok(grpc)
}

/// Half to all of `initial × 2^(attempt - 1)`, at most the longest: doubling gives a loaded server
/// room, jitter keeps callers that failed together from coming back together.
fn backoff(settings: &Settings, attempt: u32) -> Duration {
    let doublings = (attempt - 1).min(31);
    let longest = settings
        .backoff_initial
        .saturating_mul(1 << doublings)
        .min(settings.backoff_max);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let settings = Settings::default();
        let ms = |attempt| backoff(&settings, attempt).as_millis();
        for _ in 0..100 {
            assert!((50..=100).contains(&ms(1)));
            assert!((100..=200).contains(&ms(2)));
            assert!((1000..=2000).contains(&ms(10)));
            assert!((1000..=2000).contains(&ms(u32::MAX)));
        }
    }
}
