//! The index thread: what was applied goes in, a view of index and records at one moment comes out.
//!
//! ```text
//! apply ──publish──▶ bounded queue ───▶ worker ──▶ (index, records) behind one lock ──▶ readers
//!          │ never waits; if full,        ▲   └──▶ checkpoint file, written by a second thread
//!          └──▶ only the newest records ──┘ journal
//! ```
//!
//! Index and records must show one moment, or no two replicas agree while writes go on: each batch
//! comes with the records right after it, and both are shown by one assignment.
//!
//! The worker starts from its checkpoint and the change journal, or from all records where those do
//! not reach, and says which. Until it has caught up once, readers are refused. It is in nobody's
//! way: it has a thread of its own, and whoever publishes to it never waits.

mod handle;
mod shown;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use memorygate_core::state::{Change, ReadError};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder, prelude::*};
use tracing::{info, warn};

pub use self::{
    handle::{CheckpointError, Handle, Stopped, WaitError},
    shown::{NotReady, Progress, Status, View},
};
use self::{
    handle::{Message, Reply},
    shown::Shown,
};
use crate::{
    checkpoint::{self, Checkpoint, ClusterId},
    index::{self, Index, Record, Step},
    records::{Journal, Records, Stored},
};

/// Memories that are read and prepared at once while catching up or rebuilding.
const CHUNK: usize = 1024;

/// A shorter interval between checkpoints is taken for this one.
const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How the worker runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The checkpoint file. Its folder must exist.
    pub checkpoint: PathBuf,
    /// Whose state is indexed: the checkpoint of another cluster is refused.
    pub cluster: ClusterId,
    /// Applied batches that wait for the worker, at most. Beyond, it catches up from the journal.
    pub queue_max: usize,
    /// A checkpoint is written after so many changes, or as many as the last one held memories if those
    /// are more: it is written whole, so a large one must be worth it.
    pub checkpoint_changes: u64,
    /// One is written too when the last is so old and something has changed.
    pub checkpoint_interval: Duration,
    pub bulk: Bulk,
}

/// The threads that read and prepare many memories, while the index is built or catches up.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// At least one.
    pub threads: usize,
    /// What each of them does first: whoever runs the worker knows whom it must not be in the way of.
    pub started: fn(),
}

/// Why the worker gave up. The index shows nothing any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("index does not follow: {0}")]
    Index(#[from] index::Error),
}

/// What one applied batch changed, with the records right after it.
#[derive(Clone, Debug)]
pub struct Effects<R> {
    /// In the order of the log; a memory may occur several times, and there may be none.
    pub changes: Vec<Change>,
    /// Their position is that of the batch's last log entry.
    pub records: Arc<R>,
}

/// Makes a worker and the handle to it. Nothing happens before [`Worker::run`]. The error is that of a
/// system that gives no thread.
pub fn new<R: Records>(settings: Settings) -> Result<(Handle<R>, Worker<R>), ThreadPoolBuildError> {
    let started = settings.bulk.started;
    let bulk = ThreadPoolBuilder::new()
        .thread_name(|i| format!("index-bulk-{i}"))
        .num_threads(settings.bulk.threads.max(1))
        .start_handler(move |_| started())
        .build()?;
    let (sender, receiver) = sync_channel(settings.queue_max.max(1));
    let shown = Arc::new(Shown::default());
    let handle = Handle::new(sender, Arc::clone(&shown));
    let worker = Worker {
        settings,
        bulk: Arc::new(bulk),
        shown,
        receiver,
        writer: None,
        dirty: 0,
        held: 0,
        written: Instant::now(),
    };
    Ok((handle, worker))
}

/// The one that changes the index. It runs on a thread of its own.
pub struct Worker<R> {
    settings: Settings,
    /// Those of [`Settings::bulk`].
    bulk: Arc<ThreadPool>,
    shown: Arc<Shown<R>>,
    receiver: Receiver<Message<R>>,
    /// The thread that writes a checkpoint, if one was started. It says whether it could.
    writer: Option<JoinHandle<bool>>,
    /// Changes since the last checkpoint.
    dirty: u64,
    /// Memories that the last checkpoint held.
    held: u64,
    /// When the last checkpoint was started.
    written: Instant,
}

/// Why a checkpoint and the journal do not make an index.
#[derive(Debug, thiserror::Error)]
enum NotCaughtUp {
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::LoadError),
    #[error("checkpoint stands at {checkpoint}, beyond the state at {state}")]
    Ahead { checkpoint: u64, state: u64 },
    #[error("change journal begins at {floor}, after the index at {index}")]
    Gap { floor: u64, index: u64 },
    #[error("index holds {index} memories, the state {state}")]
    Count { index: u64, state: u64 },
    #[error(transparent)]
    Index(#[from] index::Error),
}

/// A failed read is nothing that a rebuild could mend; all else is.
type CaughtUp<T> = Result<Result<T, NotCaughtUp>, ReadError>;

impl<R: Records> Worker<R> {
    /// Indexes `records`, then whatever is published, until [`Handle::stop`] or until no handle is
    /// left; then writes a last checkpoint if anything changed.
    pub fn run(mut self, records: Arc<R>) -> Result<(), Error> {
        let result = self.start(records).and_then(|()| self.follow());
        if result.is_ok() && self.dirty > 0 {
            self.start_checkpoint(None);
        }
        self.join_writer();
        result
    }

    fn start(&mut self, records: Arc<R>) -> Result<(), Error> {
        let bulk = Arc::clone(&self.bulk);
        let index = bulk.install(|| self.load_or_rebuild(&*records))?;
        if let Some(index) = index {
            let (position, memories) = (records.position(), index.sizes().memories);
            self.shown.replace(index, records);
            info!(position, memories, "index is ready");
        }
        Ok(())
    }

    fn load_or_rebuild(&mut self, records: &R) -> Result<Option<Index>, Error> {
        match self.load(records)? {
            Ok(index) => Ok(Some(index)),
            Err(NotCaughtUp::Checkpoint(checkpoint::LoadError::Missing)) => {
                info!("no index checkpoint; building the index from all records");
                self.rebuild(records)
            }
            Err(error) => {
                warn!(%error, "index checkpoint is of no use; building the index from all records");
                self.rebuild(records)
            }
        }
    }

    fn follow(&mut self) -> Result<(), Error> {
        while !self.shown.is_stopping() {
            let message = match self.receiver.recv_timeout(self.until_checkpoint()) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => Message::Wake,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            // What did not fit into the queue was there before this message, or reaches beyond it.
            if let Some(records) = self.shown.take_overflow() {
                self.move_to(records)?;
            }
            match message {
                Message::Effects(effects) => self.take(effects)?,
                Message::Checkpoint(reply) => {
                    self.join_writer();
                    self.start_checkpoint(Some(reply));
                }
                Message::Wake => {}
            }
            self.checkpoint_if_due();
        }
        Ok(())
    }

    /// Shows a batch, unless it was seen by way of the journal.
    fn take(&mut self, effects: Effects<R>) -> Result<(), Error> {
        let Effects { changes, records } = effects;
        if records.position() <= self.shown.position() {
            return Ok(());
        }
        self.dirty += changes.len() as u64;
        let steps = Index::prepare(&changes);
        self.step(&steps, records)
    }

    /// Brings the index to where the records stand: by the journal, or by building it anew.
    fn move_to(&mut self, records: Arc<R>) -> Result<(), Error> {
        let position = self.shown.position();
        if records.position() <= position {
            return Ok(());
        }
        let shown = Arc::clone(&self.shown);
        let steps = self
            .bulk
            .install(|| journal_steps(&shown, position, &*records))?;
        match steps {
            Ok(steps) => {
                info!(
                    changes = steps.len(),
                    position = records.position(),
                    "index catches up"
                );
                self.dirty += steps.len() as u64;
                self.step(&steps, records)
            }
            Err(error) => {
                warn!(%error, "building the index from all records");
                self.show_rebuilt(records)
            }
        }
    }

    fn step(&mut self, steps: &[Step], records: Arc<R>) -> Result<(), Error> {
        match self.shown.step(steps, Arc::clone(&records)) {
            Ok(()) => Ok(()),
            Err(error @ index::Error::Missing { .. }) => {
                warn!(%error, "index is damaged; building it from all records");
                self.show_rebuilt(records)
            }
            Err(error @ index::Error::Faiss(_)) => Err(error.into()),
        }
    }

    fn show_rebuilt(&mut self, records: Arc<R>) -> Result<(), Error> {
        let bulk = Arc::clone(&self.bulk);
        if let Some(index) = bulk.install(|| self.rebuild(&*records))? {
            self.shown.replace(index, records);
        }
        Ok(())
    }

    /// The checkpoint's index, brought to where the records stand.
    fn load(&mut self, records: &R) -> CaughtUp<Index> {
        self.shown.set_progress(Progress::Loading);
        let loaded = match checkpoint::load(&self.settings.checkpoint, self.settings.cluster) {
            Ok(loaded) => loaded,
            Err(error) => return Ok(Err(error.into())),
        };
        let (mut index, mut after, state) = (loaded.index, loaded.position, records.position());
        self.held = index.sizes().memories as u64;
        if after > state {
            return Ok(Err(NotCaughtUp::Ahead {
                checkpoint: after,
                state,
            }));
        }
        info!(
            position = after,
            memories = index.sizes().memories,
            "index checkpoint is loaded"
        );
        while after < state {
            let changed = match changed_records(records, &mut after)? {
                Ok(changed) => changed,
                Err(error) => return Ok(Err(error)),
            };
            self.dirty += changed.len() as u64;
            let steps = index.prepare_records(changed);
            if let Err(error) = index.apply(&steps) {
                return Ok(Err(error.into()));
            }
        }
        let (indexed, stored) = (index.sizes().memories as u64, records.count()?);
        if indexed != stored {
            return Ok(Err(NotCaughtUp::Count {
                index: indexed,
                state: stored,
            }));
        }
        self.shown.set_checkpoint(loaded.position);
        Ok(Ok(index))
    }

    /// An index of all records; `None` if the worker was told to stop meanwhile.
    fn rebuild(&mut self, records: &R) -> Result<Option<Index>, Error> {
        let of = records.count()?;
        let mut index = Index::default();
        let mut last: Option<Stored> = None;
        let mut done = 0;
        loop {
            self.shown.set_progress(Progress::Rebuilding { done, of });
            if self.shown.is_stopping() {
                return Ok(None);
            }
            let after = last.as_ref().map(|last| (&last.namespace, last.key));
            let stored = records.memories(after, CHUNK)?;
            let Some(end) = stored.last() else {
                break;
            };
            done += stored.len() as u64;
            last = Some(end.clone());
            let steps = index.prepare_records(stored.into_iter().map(Record::from).collect());
            index.apply(&steps)?;
        }
        self.dirty += done;
        Ok(Some(index))
    }

    fn checkpoint_interval(&self) -> Duration {
        self.settings
            .checkpoint_interval
            .max(CHECKPOINT_INTERVAL_MIN)
    }

    fn until_checkpoint(&self) -> Duration {
        let since = if self.dirty == 0 {
            Duration::ZERO
        } else {
            self.written.elapsed()
        };
        self.checkpoint_interval().saturating_sub(since)
    }

    fn checkpoint_if_due(&mut self) {
        let many = self.dirty >= self.settings.checkpoint_changes.max(self.held);
        let old = self.dirty > 0 && self.written.elapsed() >= self.checkpoint_interval();
        if !(many || old) {
            return;
        }
        if self
            .writer
            .as_ref()
            .is_some_and(|writer| !writer.is_finished())
        {
            // That one comes first. Without this the time would have passed at every look.
            self.written = Instant::now();
            return;
        }
        self.join_writer();
        self.start_checkpoint(None);
    }

    /// Takes an image of what is shown and has it written. Vectors are shared with the image, the
    /// rest is copied: the worker is held up for that, and not for the disk.
    fn start_checkpoint(&mut self, reply: Option<Reply>) {
        self.written = Instant::now();
        let Some(checkpoint) = self.shown.checkpoint(self.settings.cluster) else {
            // Whoever asked may be gone.
            let _ = reply.map(|reply| reply.send(Err(CheckpointError::NotReady)));
            return;
        };
        self.dirty = 0;
        self.held = checkpoint.memories();
        let (path, shown) = (self.settings.checkpoint.clone(), Arc::clone(&self.shown));
        let write = move || write_checkpoint(&checkpoint, &path, &shown, reply);
        match thread::Builder::new()
            .name("index-checkpoint".to_owned())
            .spawn(write)
        {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => {
                warn!(%error, "start index checkpoint failed");
                self.dirty = 1;
            }
        }
    }

    fn join_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            let wrote = writer
                .join()
                .expect("a checkpoint is written without a panic");
            // One that could not be written is due again when the interval has passed.
            self.dirty += u64::from(!wrote);
        }
    }
}

impl<R> Drop for Worker<R> {
    /// However the worker ends, by a panic too: nobody waits for it any more.
    fn drop(&mut self) {
        self.shown.close();
    }
}

fn write_checkpoint<R>(
    checkpoint: &Checkpoint,
    path: &std::path::Path,
    shown: &Shown<R>,
    reply: Option<Reply>,
) -> bool {
    let started = Instant::now();
    let (position, result) = (checkpoint.position(), checkpoint.write(path));
    match &result {
        Ok(bytes) => {
            shown.set_checkpoint(position);
            let ms = started.elapsed().as_millis() as u64;
            info!(position, bytes, ms, "index checkpoint is written");
        }
        Err(error) => warn!(%error, path = %path.display(), "write index checkpoint failed"),
    }
    let wrote = result.is_ok();
    if let Some(reply) = reply {
        // Whoever asked may be gone.
        let _ = reply.send(result.map(|_| position).map_err(CheckpointError::Write));
    }
    wrote
}

/// All that changed after `position`, made ready while readers go on reading.
fn journal_steps<R: Records>(shown: &Shown<R>, position: u64, records: &R) -> CaughtUp<Vec<Step>> {
    let (mut after, mut steps) = (position, Vec::new());
    loop {
        let changed = match changed_records(records, &mut after)? {
            Ok(changed) => changed,
            Err(error) => return Ok(Err(error)),
        };
        steps.extend(shown.with_index(|index| index.prepare_records(changed)));
        if after >= records.position() {
            return Ok(Ok(steps));
        }
    }
}

/// The next part of the journal after `after`, looked up in the same records; moves `after`.
fn changed_records<R: Records>(records: &R, after: &mut u64) -> CaughtUp<Vec<Record>> {
    let (keys, through) = match records.journal(*after, CHUNK)? {
        Journal::Changed { keys, through } => (keys, through),
        Journal::Gap { floor } => {
            return Ok(Err(NotCaughtUp::Gap {
                floor,
                index: *after,
            }));
        }
    };
    assert!(
        through > *after,
        "the journal goes on to {through}, expected beyond {after}"
    );
    *after = through;
    let look_up = |(namespace, key)| {
        let stored = records.memory(&namespace, key)?;
        Ok(Record {
            namespace,
            key,
            stored,
        })
    };
    keys.into_par_iter()
        .map(look_up)
        .collect::<Result<_, ReadError>>()
        .map(Ok)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tempfile::TempDir;
    use tokio::runtime;

    use super::*;
    use crate::samples::{self, State};

    /// A worker that runs, and the state that it follows.
    struct Running {
        dir: TempDir,
        state: State,
        handle: Handle<State>,
        worker: JoinHandle<Result<(), Error>>,
    }

    fn settings(dir: &Path) -> Settings {
        Settings {
            checkpoint: dir.join("checkpoint"),
            cluster: ClusterId(1),
            queue_max: 4,
            checkpoint_changes: u64::MAX,
            checkpoint_interval: Duration::from_secs(3600),
            bulk: Bulk {
                threads: 2,
                started: || {},
            },
        }
    }

    fn start(dir: TempDir, state: State, settings: Settings) -> Running {
        let (handle, worker) = new(settings).unwrap();
        let records = Arc::new(state.clone());
        let worker = thread::spawn(move || worker.run(records));
        Running {
            dir,
            state,
            handle,
            worker,
        }
    }

    fn fresh(state: State) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        start(dir, state, settings)
    }

    fn state(entries: u64) -> State {
        let mut state = State::default();
        (0..entries).for_each(|i| drop(state.apply(i * 7 % 23, i * 31)));
        state
    }

    fn wait(handle: &Handle<State>, position: u64) -> Result<(), WaitError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        runtime.block_on(handle.wait_for(position, deadline))
    }

    impl Running {
        fn publish(&mut self, number: u64, seed: u64) {
            let effects = self.state.effects(number, seed);
            self.handle.publish(effects);
        }

        /// Waits for the worker and compares what it shows with an index of the same state.
        fn check(&self) {
            wait(&self.handle, self.state.position).unwrap();
            let view = self.handle.view().unwrap();
            assert_eq!(view.position(), self.state.position);
            assert_eq!(view.clock().0, self.state.position as i64);
            assert_eq!(**view.records(), self.state);
            let expected = samples::answers(&samples::index_of(&self.state));
            assert_eq!(samples::answers(view.index()), expected);
        }

        /// Stops the worker in good order.
        fn stop(self) -> (TempDir, State) {
            self.handle.stop();
            self.worker.join().unwrap().unwrap();
            assert_eq!(self.handle.view().err(), Some(NotReady::Stopped));
            assert_eq!(wait(&self.handle, 1), Err(Stopped.into()));
            assert!(matches!(
                self.handle.checkpoint().wait(),
                Err(CheckpointError::Stopped(_))
            ));
            (self.dir, self.state)
        }
    }

    #[test]
    fn it_shows_what_was_published_with_its_records() {
        let mut running = fresh(state(40));
        running.check();
        for i in 0..100 {
            running.publish(i % 30, i * 17);
            if i % 10 == 0 {
                running.check();
            }
        }
        running.check();
        // An entry that changes no memory moves the position all the same.
        running.state.position += 1;
        let records = Arc::new(running.state.clone());
        running.handle.publish(Effects {
            changes: Vec::new(),
            records,
        });
        running.check();
        // What was seen already changes nothing.
        let records = Arc::new(state(3));
        running.handle.publish(Effects {
            changes: Vec::new(),
            records: Arc::clone(&records),
        });
        running.handle.replaced(records);
        running.publish(1, 1);
        running.check();
        running.stop();
    }

    #[test]
    fn an_empty_state_is_ready_at_once() {
        let mut running = fresh(State::default());
        running.check();
        assert_eq!(running.handle.status().progress, Progress::Ready);
        running.publish(1, 3);
        running.check();
        running.stop();
    }

    #[test]
    fn a_full_queue_loses_nothing() {
        let mut running = fresh(state(10));
        running.check();
        // While a view is held the worker cannot go on, so the queue of four fills up.
        let handle = running.handle.clone();
        let view = handle.view().unwrap();
        for i in 0..60 {
            running.publish(i % 30, i * 13);
        }
        drop(view);
        running.check();
        running.stop();
    }

    #[test]
    fn a_replaced_state_is_followed_by_journal_or_anew() {
        let mut running = fresh(state(10));
        running.check();
        for floor in [0, 60] {
            for i in 0..50 {
                drop(running.state.apply(i % 30, i * 13 + floor));
            }
            running.state.floor = floor;
            running.handle.replaced(Arc::new(running.state.clone()));
            running.check();
        }
        running.stop();
    }

    #[test]
    fn an_index_that_misses_a_change_is_built_anew() {
        let mut running = fresh(state(30));
        running.check();
        // An entry whose effects never come, then a change of the memory that it made.
        let mut create = || {
            let changes = running.state.apply(99, 9);
            matches!(
                changes[0].kind,
                memorygate_core::state::ChangeKind::Created { .. }
            )
        };
        assert!(create());
        running.publish(99, 3);
        running.check();
        running.stop();
    }

    #[test]
    fn a_restart_goes_on_from_the_checkpoint() {
        let mut running = fresh(state(50));
        running.publish(1, 5);
        running.check();
        let position = running.state.position;
        assert_eq!(*running.handle.watch_checkpoint().borrow(), 0);
        assert_eq!(running.handle.checkpoint().wait().unwrap(), position);
        assert_eq!(*running.handle.watch_checkpoint().borrow(), position);
        running.publish(2, 7);
        running.check();
        let (dir, mut state) = running.stop();
        let path = dir.path().join("checkpoint");
        let last = checkpoint::load(&path, ClusterId(1)).unwrap();
        assert_eq!(
            last.position,
            position + 1,
            "the last one is written at the end"
        );
        for i in 0..20 {
            drop(state.apply(i, i * 19));
        }
        // A journal that begins right after the checkpoint is enough; nothing is read anew.
        state.floor = position + 1;
        let settings = settings(dir.path());
        let running = start(dir, state, settings);
        running.check();
        assert_eq!(*running.handle.watch_checkpoint().borrow(), position + 1);
        running.stop();
    }

    #[test]
    fn a_checkpoint_of_no_use_is_replaced() {
        let running = fresh(state(50));
        running.check();
        running.handle.checkpoint().wait().unwrap();
        let (mut dir, mut state) = running.stop();
        let path = dir.path().join("checkpoint");
        let mut again = |name: &str, state: &State| {
            let settings = settings(dir.path());
            let old = std::mem::replace(&mut dir, tempfile::tempdir().unwrap());
            let running = start(old, state.clone(), settings);
            running.check();
            dir = running.stop().0;
            let loaded = checkpoint::load(&path, ClusterId(1)).expect(name);
            assert_eq!(loaded.position, state.position, "{name}");
        };
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        again("damaged", &state);
        fs::write(&path, b"something else").unwrap();
        again("foreign", &state);
        (0..30).for_each(|i| drop(state.apply(i, i * 19)));
        state.floor = state.position;
        again("journal too short", &state);
        let mut shorter = state.clone();
        shorter.position -= 1;
        shorter.floor = 0;
        again("ahead of the state", &shorter);
        // The journal did not say that a memory went.
        let first = state.memories.keys().next().unwrap().clone();
        state.memories.remove(&first);
        (state.position, state.floor) = (state.position + 1, 0);
        again("another count", &state);
    }

    #[test]
    fn checkpoints_are_written_after_many_changes_and_after_a_time() {
        for (changes, interval) in [(5, Duration::from_secs(3600)), (u64::MAX, Duration::ZERO)] {
            let dir = tempfile::tempdir().unwrap();
            let settings = Settings {
                checkpoint_changes: changes,
                checkpoint_interval: interval,
                ..settings(dir.path())
            };
            let mut running = start(dir, State::default(), settings);
            running.check();
            let mut watch = running.handle.watch_checkpoint();
            for i in 0..20 {
                running.publish(i, 3 * i + 2);
            }
            let runtime = runtime::Builder::new_current_thread().build().unwrap();
            runtime
                .block_on(watch.wait_for(|position| *position > 0))
                .unwrap();
            running.check();
            running.stop();
        }
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_stops_nothing() {
        let mut running = fresh(state(5));
        running.check();
        fs::create_dir(running.dir.path().join("checkpoint.new")).unwrap();
        let error = running.handle.checkpoint().wait().unwrap_err();
        assert!(
            error.to_string().starts_with("write index checkpoint: "),
            "{error}"
        );
        running.publish(1, 5);
        running.check();
        running.stop();
    }

    #[test]
    fn a_failed_read_ends_the_worker_and_readers_are_refused() {
        let broken = State {
            broken: true,
            ..state(5)
        };
        let running = fresh(broken.clone());
        assert_eq!(wait(&running.handle, 1), Err(Stopped.into()));
        let error = running.worker.join().unwrap().unwrap_err().to_string();
        assert_eq!(error, "read row Clock: broken");
        let running = fresh(state(5));
        running.check();
        running.handle.replaced(Arc::new(State {
            position: 9,
            ..broken
        }));
        assert!(running.worker.join().unwrap().is_err());
        assert_eq!(running.handle.view().err(), Some(NotReady::Stopped));
        assert_eq!(running.handle.position(), 0);
    }

    #[test]
    fn before_the_start_readers_are_told_why_they_must_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (handle, worker) = new::<State>(settings(dir.path())).unwrap();
        assert_eq!(handle.view().err(), Some(NotReady::Starting));
        handle.shown().set_progress(Progress::Loading);
        assert_eq!(handle.view().err(), Some(NotReady::Loading));
        handle
            .shown()
            .set_progress(Progress::Rebuilding { done: 1, of: 2 });
        let error = handle.view().err().unwrap();
        assert_eq!(error.to_string(), "index is being built: 1 of 2 memories");
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let late = runtime.block_on(handle.wait_for(3, tokio::time::Instant::now()));
        assert_eq!(
            late.unwrap_err().to_string(),
            "index stands at 0, expected at least 3 before the deadline"
        );
        assert!(!handle.watch_status().borrow().is_stopped());
        // Told to stop before it has begun, it builds nothing.
        let asked = handle.clone();
        let asked = thread::spawn(move || asked.checkpoint().wait());
        handle.stop();
        worker.run(Arc::new(state(30))).unwrap();
        assert!(asked.join().unwrap().is_err());
        assert!(!dir.path().join("checkpoint").exists());
    }

    #[test]
    fn whoever_waits_is_told_of_a_panic() {
        let running = fresh(state(5));
        running.check();
        // The journal must go on; that this one does not is a bug that the worker dies of.
        let stuck = State {
            journal_stuck: true,
            position: 9,
            ..state(5)
        };
        running.handle.replaced(Arc::new(stuck));
        assert_eq!(wait(&running.handle, 9), Err(Stopped.into()));
        assert!(running.worker.join().is_err());
        assert_eq!(running.handle.view().err(), Some(NotReady::Stopped));
    }

    #[test]
    fn without_a_handle_the_worker_ends() {
        let Running {
            dir,
            handle,
            worker,
            ..
        } = fresh(state(5));
        drop(handle);
        worker.join().unwrap().unwrap();
        assert!(checkpoint::load(&dir.path().join("checkpoint"), ClusterId(1)).is_ok());
    }
}
