//! Threads of their own for an [`Embedder`], which turn concurrent requests into batches.
//!
//! ```text
//! callers (async) ── Handle ──┬─ memories: bounded queue ── one thread ── batches ──┐
//!                             └─ queries:  bounded queue ── one thread ── batches ──┴─ Embedder
//! ```
//!
//! A batch takes what is waiting when the thread is free, up to a bound; nothing waits for a batch
//! to fill. A request larger than the bound is cut into several batches, and others get their turn
//! between them. Queries never wait for memories: they have a thread (and in the model, a set of
//! threads) of their own, and share the cores with a batch of memories that is running.
//!
//! A full queue refuses at once. A caller that gives up is skipped.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use memorygate_core::embedding::{self, Embedder, Embedding, ModelId, Passage, QueryEmbedding};
use tokio::sync::oneshot;

/// The bounds of a [`Pool`], each for memories and for queries on their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Texts that may wait. Default 4,096.
    pub queue_texts_max: usize,
    /// Bytes of text that may wait, context included. Default 32 MiB.
    pub queue_bytes_max: usize,
    /// Texts of one batch. Default 32: more make the model hardly faster.
    pub batch_texts_max: usize,
    /// Bytes of text in one batch of more than one text. Default 16 KiB, some 4,000 word pieces,
    /// a fifth of a second on two cores.
    pub batch_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_texts_max: 4096,
            queue_bytes_max: 32 * 1024 * 1024,
            batch_texts_max: 32,
            batch_bytes_max: 16 * 1024,
        }
    }
}

/// What a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Memory,
    Query,
}

/// A batch that was computed.
#[derive(Clone, Debug)]
pub struct Batch {
    pub kind: Kind,
    pub texts: usize,
    /// Word pieces whose states were kept.
    pub pieces: usize,
    /// How long the oldest request in it waited to be computed further.
    pub waited: Duration,
    pub took: Duration,
    /// Texts that wait behind it.
    pub queued_texts: usize,
    pub failed: bool,
}

/// Is told what a pool does, for metrics. Called on the pool's and the callers' threads; must be
/// quick.
pub trait Observer: Send + Sync + 'static {
    fn batch(&self, batch: &Batch);

    /// So many texts were refused since the queue was full.
    fn refused(&self, kind: Kind, texts: usize);
}

/// Observes nothing.
impl Observer for () {
    fn batch(&self, _: &Batch) {}

    fn refused(&self, _: Kind, _: usize) {}
}

/// Owns the threads; its [`Handle`]s do the asking.
pub struct Pool {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts two threads.
    pub fn start(
        embedder: Arc<dyn Embedder>,
        settings: Settings,
        observer: Arc<dyn Observer>,
    ) -> std::io::Result<Self> {
        let memories = Arc::new(Lane::new(Kind::Memory, &settings, Arc::clone(&observer)));
        let queries = Arc::new(Lane::new(Kind::Query, &settings, observer));
        let handle = Handle {
            model: embedder.model(),
            memories,
            queries,
        };
        let mut pool = Self {
            handle,
            threads: Vec::new(),
        };
        let (lane, by) = (Arc::clone(&pool.handle.memories), Arc::clone(&embedder));
        pool.spawn("embed-memories", move || {
            lane.serve(|passages| by.embed(passages))
        })?;
        let (lane, by) = (Arc::clone(&pool.handle.queries), embedder);
        pool.spawn("embed-queries", move || {
            lane.serve(|texts| by.embed_queries(texts))
        })?;
        Ok(pool)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)?,
        );
        Ok(())
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

/// Refuses what is waiting and what comes later with [`Error::Closed`], and blocks until the
/// batches that are running are done.
impl Drop for Pool {
    fn drop(&mut self) {
        self.handle.memories.close();
        self.handle.queries.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an embedding thread panicked outside of the model");
            }
        }
    }
}

/// Asks a [`Pool`]. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    model: ModelId,
    memories: Arc<Lane<Passage, Embedding>>,
    queries: Arc<Lane<String, QueryEmbedding>>,
}

impl Handle {
    /// As [`Embedder::model`].
    pub fn model(&self) -> ModelId {
        self.model
    }

    /// As [`Embedder::embed`].
    pub async fn embed(&self, passages: Vec<Passage>) -> Result<Vec<Embedding>, Error> {
        self.memories.ask(passages).await
    }

    /// As [`Embedder::embed_queries`].
    pub async fn embed_queries(&self, texts: Vec<String>) -> Result<Vec<QueryEmbedding>, Error> {
        self.queries.ask(texts).await
    }

    /// Texts that wait now.
    pub fn queued_texts(&self, kind: Kind) -> usize {
        match kind {
            Kind::Memory => self.memories.state().queued_texts,
            Kind::Query => self.queries.state().queued_texts,
        }
    }
}

/// Why texts were not embedded. Nothing was stored in any case.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// To be retried later.
    #[error("embedding queue is full: {queued} texts wait, at most {limit}")]
    Overloaded { queued: usize, limit: usize },
    #[error("embedding was shut down")]
    Closed,
    #[error(transparent)]
    Embed(#[from] embedding::Error),
}

/// What one kind of requests needs.
struct Lane<I, O> {
    kind: Kind,
    settings: Settings,
    observer: Arc<dyn Observer>,
    state: Mutex<State<I, O>>,
    changed: Condvar,
}

struct State<I, O> {
    queue: VecDeque<Request<I, O>>,
    queued_texts: usize,
    queued_bytes: usize,
    closed: bool,
}

/// A caller's texts, those that are still to do, and the results of the others.
struct Request<I, O> {
    texts: VecDeque<I>,
    results: Vec<O>,
    reply: oneshot::Sender<Result<Vec<O>, Error>>,
    /// When it was queued, for the first time or again.
    queued_at: Instant,
}

/// A request and those of its texts that are in the batch.
type Part<I, O> = (Request<I, O>, Vec<I>);

/// A text as the queue's bounds see it.
trait Text: Send + 'static {
    /// Bytes that wait.
    fn bytes(&self) -> usize;

    /// Bytes that are read at most, which is what the work depends on.
    fn bytes_read(&self) -> usize;
}

impl Text for String {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn bytes_read(&self) -> usize {
        self.len()
    }
}

impl Text for Passage {
    fn bytes(&self) -> usize {
        self.text.len() + self.before.iter().map(String::len).sum::<usize>()
    }

    fn bytes_read(&self) -> usize {
        /// A window of 250 pieces of four to five bytes.
        const WINDOW_BYTES: usize = 1024;
        self.text.len()
            + self
                .before
                .iter()
                .map(String::len)
                .sum::<usize>()
                .min(WINDOW_BYTES)
    }
}

/// What a result counts for in the metrics.
trait Outcome: Send + 'static {
    fn pieces(&self) -> usize;
}

impl Outcome for Embedding {
    fn pieces(&self) -> usize {
        self.state_count()
    }
}

impl Outcome for QueryEmbedding {
    fn pieces(&self) -> usize {
        self.pieces.len()
    }
}

impl<I: Text, O: Outcome> Lane<I, O> {
    fn new(kind: Kind, settings: &Settings, observer: Arc<dyn Observer>) -> Self {
        let state = State {
            queue: VecDeque::new(),
            queued_texts: 0,
            queued_bytes: 0,
            closed: false,
        };
        Self {
            kind,
            settings: settings.clone(),
            observer,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Nothing between two changes of the state can panic, so it is sound if a lock is poisoned.
    fn state(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, texts: Vec<I>) -> Result<Vec<O>, Error> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        self.enqueue(texts, reply)?;
        // The sender is only dropped unused when the lane closes.
        answer.await.unwrap_or(Err(Error::Closed))
    }

    fn enqueue(
        &self,
        texts: Vec<I>,
        reply: oneshot::Sender<Result<Vec<O>, Error>>,
    ) -> Result<(), Error> {
        let bytes: usize = texts.iter().map(Text::bytes).sum();
        let mut state = self.state();
        if state.closed {
            return Err(Error::Closed);
        }
        // A request beyond the bounds is taken when nothing else waits, or it never would be.
        let queued = state.queued_texts;
        let full = queued + texts.len() > self.settings.queue_texts_max
            || state.queued_bytes + bytes > self.settings.queue_bytes_max;
        if full && queued > 0 {
            drop(state);
            self.observer.refused(self.kind, texts.len());
            return Err(Error::Overloaded {
                queued,
                limit: self.settings.queue_texts_max,
            });
        }
        state.queued_texts += texts.len();
        state.queued_bytes += bytes;
        let results = Vec::with_capacity(texts.len());
        let queued_at = Instant::now();
        state.queue.push_back(Request {
            texts: texts.into(),
            results,
            reply,
            queued_at,
        });
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        // Their callers see that the senders are gone.
        state.queue.clear();
        (state.queued_texts, state.queued_bytes) = (0, 0);
        drop(state);
        self.changed.notify_all();
    }

    /// Computes batches until the lane is closed.
    fn serve(&self, compute: impl Fn(&[I]) -> Result<Vec<O>, embedding::Error>) {
        while let Some(parts) = self.next_batch() {
            self.compute(parts, &compute);
        }
    }

    /// Waits for requests and takes what fits into a batch. None when the lane is closed.
    fn next_batch(&self) -> Option<Vec<Part<I, O>>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let parts = self.take(&mut state);
            if !parts.is_empty() {
                return Some(parts);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take(&self, state: &mut State<I, O>) -> Vec<Part<I, O>> {
        let mut parts = Vec::new();
        let (mut texts_left, mut bytes_left) =
            (self.settings.batch_texts_max, self.settings.batch_bytes_max);
        while let Some(mut request) = state.queue.pop_front() {
            if request.reply.is_closed() {
                state.queued_texts -= request.texts.len();
                state.queued_bytes -= request.texts.iter().map(Text::bytes).sum::<usize>();
                continue;
            }
            let mut part = Vec::new();
            while let Some(text) = request.texts.front() {
                let first = parts.is_empty() && part.is_empty();
                if !first && (texts_left == 0 || text.bytes_read() > bytes_left) {
                    break;
                }
                texts_left = texts_left.saturating_sub(1);
                bytes_left = bytes_left.saturating_sub(text.bytes_read());
                state.queued_texts -= 1;
                state.queued_bytes -= text.bytes();
                part.extend(request.texts.pop_front());
            }
            if part.is_empty() {
                state.queue.push_front(request);
                break;
            }
            parts.push((request, part));
        }
        parts
    }

    fn compute(
        &self,
        parts: Vec<Part<I, O>>,
        compute: &impl Fn(&[I]) -> Result<Vec<O>, embedding::Error>,
    ) {
        let started = Instant::now();
        let oldest = parts
            .iter()
            .map(|(request, _)| request.queued_at)
            .min()
            .unwrap_or(started);
        let mut requests = Vec::with_capacity(parts.len());
        let mut texts = Vec::new();
        for (request, mut part) in parts {
            requests.push((request, part.len()));
            texts.append(&mut part);
        }
        let (mut pieces, mut failed) = (0, false);
        let mut deliver =
            |mut request: Request<I, O>, results: Result<Vec<O>, embedding::Error>| match results {
                Ok(mut results) => {
                    pieces += results.iter().map(Outcome::pieces).sum::<usize>();
                    request.results.append(&mut results);
                    self.put_back_or_answer(request);
                }
                Err(error) => {
                    failed = true;
                    self.give_up(request, error.into());
                }
            };
        match guarded(compute, &texts) {
            Ok(results) => {
                let mut results = results.into_iter();
                for (request, count) in requests {
                    deliver(request, Ok(results.by_ref().take(count).collect()));
                }
            }
            // One text must not fail those of others: each request is tried by itself.
            Err(_) if requests.len() > 1 => {
                let mut first = 0;
                for (request, count) in requests {
                    deliver(request, guarded(compute, &texts[first..first + count]));
                    first += count;
                }
            }
            Err(error) => {
                for (request, _) in requests {
                    deliver(request, Err(error.clone()));
                }
            }
        }
        self.observer.batch(&Batch {
            kind: self.kind,
            texts: texts.len(),
            pieces,
            waited: started.duration_since(oldest),
            took: started.elapsed(),
            queued_texts: self.state().queued_texts,
            failed,
        });
    }

    /// Answers a request that is done; one that is not goes behind the others.
    fn put_back_or_answer(&self, mut request: Request<I, O>) {
        if request.texts.is_empty() {
            // Only fails if the caller has given up.
            let _ = request.reply.send(Ok(request.results));
            return;
        }
        request.queued_at = Instant::now();
        let mut state = self.state();
        if !state.closed {
            state.queue.push_back(request);
        }
    }

    /// Answers a request with an error, without its texts that are still to do.
    fn give_up(&self, request: Request<I, O>, error: Error) {
        let mut state = self.state();
        // A lane that was closed meanwhile counts nothing any more.
        if !state.closed {
            state.queued_texts -= request.texts.len();
            state.queued_bytes -= request.texts.iter().map(Text::bytes).sum::<usize>();
        }
        drop(state);
        let _ = request.reply.send(Err(error));
    }
}

/// Computes a batch; a panic in the model fails the batch, not the thread.
fn guarded<I, O>(
    compute: &impl Fn(&[I]) -> Result<Vec<O>, embedding::Error>,
    texts: &[I],
) -> Result<Vec<O>, embedding::Error> {
    let results = catch_unwind(AssertUnwindSafe(|| compute(texts)))
        .map_err(|_| embedding::Error::Model("the model panicked".to_owned()))??;
    if results.len() != texts.len() {
        let (expected, actual) = (texts.len(), results.len());
        return Err(embedding::Error::Model(format!(
            "{actual} results, expected {expected}"
        )));
    }
    Ok(results)
}
