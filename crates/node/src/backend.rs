//! What every call works with: the replicated log, the index, the model, threads and clocks.
//!
//! The modules that do the work ([`crate::learn`], [`crate::recall`] …) are functions over it; the
//! gRPC handlers only convert. Whatever waits does so here, under the call's deadline.

use std::{sync::Arc, time::Instant};

use memorygate_core::{
    apply::{Outcome as Done, Reply},
    command::Command,
    embedding::{Embedding, ModelId, Passage, QueryEmbedding},
    rank,
    request::RequestId,
    state::ReadError,
};
use memorygate_index::embed::pool;
use memorygate_raft::{
    BarrierError, Clock, Handle, ProposeError, StateSnapshot, Stopped, StorageFull,
};

use tokio::sync::watch;

use crate::{
    backup::Backups,
    catch_up::CatchUp,
    cluster::drain::Drain,
    compute::Compute,
    consolidation::{self, Uses},
    deadline::Deadline,
    error::{Error, Outcome},
    position::{GROUP, Position},
    projection::Projection,
    telemetry::metrics::{Metrics, label},
};

/// Shared by all calls of a node.
pub struct Backend {
    pub raft: Handle,
    pub index: Arc<Projection>,
    pub embedder: pool::Handle,
    /// Reads of the state.
    pub reads: Compute,
    /// Recalls: searching and ranking.
    pub recalls: Compute,
    pub clock: Arc<dyn Clock>,
    pub ranking: rank::Settings,
    /// How memories are consolidated in the background.
    pub consolidation: consolidation::Settings,
    /// Which memories recalls returned, to be written down soon.
    pub uses: Uses,
    pub model: ModelId,
    pub message_bytes_max: usize,
    pub metrics: Arc<Metrics>,
    pub backups: Backups,
    /// What was found to be unreadable, once something was.
    pub storage_failure: watch::Sender<Option<String>>,
    /// Whether writes of callers are taken.
    pub drain: Drain,
    /// What this node lacks of what was committed when it was started.
    pub catch_up: CatchUp,
}

impl Backend {
    /// Stored data could not be read: this node must not serve any more.
    pub fn storage_failed(&self, reason: &ReadError) {
        let advice = "check the disk, then restore this node's data directory from a snapshot, or \
                      empty it and let the node join as a new member";
        self.storage_failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure
                .get_or_insert_with(|| format!("stored data cannot be read: {reason}: {advice}"));
            is_first
        });
    }

    /// The token of `index` in this node's log.
    pub fn position(&self, index: u64) -> Position {
        Position {
            cluster_id: self.raft.identity().cluster_id,
            group: GROUP,
            index,
        }
    }

    /// The index of a token, if it is of this node's log.
    pub fn index_of(&self, position: Position) -> Result<u64, Error> {
        let here = self.raft.identity().cluster_id;
        if position.cluster_id == here && position.group == GROUP {
            return Ok(position.index);
        }
        Err(Error::OtherCluster {
            expected: here.to_string(),
            actual: position.cluster_id.to_string(),
            actual_group: position.group,
        })
    }

    /// What a read has to wait for: `at_least`, and if it is to be linearizable also all that was
    /// committed when it began.
    pub async fn read_from(
        &self,
        at_least: Option<Position>,
        linearizable: bool,
        deadline: Deadline,
    ) -> Result<Option<Position>, Error> {
        if !linearizable {
            return Ok(at_least);
        }
        let asked = at_least
            .map(|position| self.index_of(position))
            .transpose()?;
        let waiting = "waiting for a majority to confirm the leader";
        let confirmed = deadline
            .limit(waiting, Outcome::Failed, self.raft.linearizable())
            .await??;
        Ok(Some(self.position(confirmed.max(asked.unwrap_or(0)))))
    }

    /// The latest state, once it stands at `at_least`.
    pub async fn snapshot_at_least(
        &self,
        at_least: Option<Position>,
        deadline: Deadline,
    ) -> Result<Arc<StateSnapshot>, Error> {
        if let Some(position) = at_least {
            let index = self.index_of(position)?;
            let waiting = "waiting for the state to reach the position asked for";
            let applied = self.raft.wait_applied(index);
            deadline
                .limit(waiting, Outcome::Failed, applied)
                .await?
                .map_err(|Stopped { reason }| Error::Stopped { reason })?;
        }
        Ok(self.raft.state().snapshot())
    }

    /// Waits until the index can answer, at `at_least` if that is asked for.
    pub async fn index_at_least(
        &self,
        at_least: Option<Position>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let index = match at_least {
            None => 0,
            Some(position) => self.index_of(position)?,
        };
        if let Some(reason) = self.index.not_ready() {
            return Err(Error::NotReady { reason });
        }
        let waiting = "waiting for the index to reach the position asked for";
        deadline
            .limit(waiting, Outcome::Failed, self.index.wait_for(index))
            .await?
    }

    /// Commits a command. From the moment that it is handed over, a deadline that passes leaves its
    /// outcome unknown.
    pub async fn propose(
        &self,
        command: Command,
        request: Option<RequestId>,
        deadline: Deadline,
    ) -> Result<(Done, Position), Error> {
        let start = Instant::now();
        let name = command.name();
        // An id lets the outcome of a proposal be asked for again, whoever made it.
        let request = request.unwrap_or_else(|| RequestId {
            after: self.raft.position(),
            nonce: rand::random(),
        });
        let waiting = "waiting for the write to be committed";
        let proposed = self.raft.propose(command, Some(request));
        let applied = deadline
            .limit(waiting, Outcome::Unknown, proposed)
            .await??;
        let seconds = self.metrics.propose_seconds.with_label_values(&[name]);
        seconds.observe(start.elapsed().as_secs_f64());
        let Reply { index, result } = applied.reply;
        Ok((result?, self.position(index)))
    }

    /// One embedding a passage, in order.
    pub async fn embed_passages(
        &self,
        passages: Vec<Passage>,
        deadline: Deadline,
    ) -> Result<Vec<Embedding>, Error> {
        let (start, count) = (Instant::now(), passages.len());
        let waiting = "waiting for texts to be embedded";
        let made = deadline
            .limit(waiting, Outcome::Failed, self.embedder.embed(passages))
            .await??;
        self.observe_embedding(pool::Kind::Memory, count, start);
        Ok(made)
    }

    pub async fn embed_query(
        &self,
        text: String,
        deadline: Deadline,
    ) -> Result<QueryEmbedding, Error> {
        let start = Instant::now();
        let waiting = "waiting for the query to be embedded";
        let asked = self.embedder.embed_queries(vec![text]);
        let mut made = deadline.limit(waiting, Outcome::Failed, asked).await??;
        self.observe_embedding(pool::Kind::Query, 1, start);
        Ok(made
            .pop()
            .expect("the embedder makes one embedding a query"))
    }

    fn observe_embedding(&self, kind: pool::Kind, texts: usize, start: Instant) {
        let kind = label(kind);
        let seconds = self.metrics.embed_seconds.with_label_values(&[kind]);
        seconds.observe(start.elapsed().as_secs_f64());
        self.metrics
            .embedded_texts
            .with_label_values(&[kind])
            .inc_by(texts as u64);
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader {
                leader: leader.map(|peer| peer.address),
            },
            ProposeError::NoQuorum { waited_ms } => Self::NoQuorum {
                reason: format!("none was in {waited_ms} ms"),
            },
            ProposeError::Overloaded {
                in_flight,
                in_flight_bytes,
            } => Self::Overloaded {
                what: format!("{in_flight} writes of {in_flight_bytes} bytes are in flight"),
            },
            ProposeError::TooLarge { actual, max } => Self::CommandTooLarge { actual, max },
            ProposeError::StorageFull(StorageFull {
                free_bytes,
                reserve_bytes,
            }) => Self::StorageFull {
                free_bytes,
                reserve_bytes,
            },
            ProposeError::MemberFull(full) => Self::MemberFull(full),
            ProposeError::Stopped { reason } => Self::Stopped { reason },
            ProposeError::Unknown { reason } => Self::Unknown { reason },
        }
    }
}

impl From<BarrierError> for Error {
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::NotLeader { .. } => Self::NoQuorum {
                reason: error.to_string(),
            },
            BarrierError::NoQuorum { reason } => Self::NoQuorum { reason },
            BarrierError::Stopped(Stopped { reason }) => Self::Stopped { reason },
        }
    }
}

impl From<pool::Error> for Error {
    fn from(error: pool::Error) -> Self {
        match error {
            pool::Error::Overloaded { queued, limit } => Self::Overloaded {
                what: format!("{queued} texts wait to be embedded, expected at most {limit}"),
            },
            pool::Error::Closed => Self::Stopped {
                reason: "node is stopping".to_owned(),
            },
            pool::Error::Embed(error) => Self::Embedding {
                reason: error.to_string(),
            },
        }
    }
}
