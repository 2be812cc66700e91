//! A backend made of an engine and one writer thread: everything queued is written in one group with one sync.
//!
//! Order, guards, watches and tickets live here, so that every engine has them alike.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

use crate::backend::{Backend, Batch, Committed, DurableListener, Loaded, Table};
use crate::engine::{Engine, Job};
use crate::error::{Result, StoreError};
use crate::history::{History, Watch};
use crate::ticket::{Promise, Ticket, promise};

/// The bounds of one backend.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A watch can fall behind by this many commits.
    pub history_commits: usize,
    /// A watch can fall behind by this many bytes of commits.
    pub history_bytes: usize,
    /// One group is closed at this size, so that no caller waits for an unbounded write.
    pub group_bytes: usize,
    /// A larger batch is refused with `TooLarge`.
    pub batch_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            history_commits: 16_384,
            history_bytes: 32 << 20,
            group_bytes: 4 << 20,
            batch_bytes: 64 << 20,
        }
    }
}

enum Command {
    Commit(Batch, Promise),
    Load(Reply<Loaded>),
    Snapshot(PathBuf, Reply<()>),
    Compact(Reply<()>),
}

type Reply<T> = mpsc::Sender<Result<T>>;

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    closing: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    history: Arc<History>,
    durable: AtomicU64,
    listeners: Mutex<Vec<DurableListener>>,
    limits: Limits,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A [`Backend`] over an [`Engine`].
pub struct Grouped {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Grouped {
    /// Starts the writer thread of `engine`.
    pub fn start(engine: impl Engine, limits: Limits) -> Result<Grouped> {
        let revision = engine.revision();
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            history: Arc::new(History::new(revision, limits.history_commits, limits.history_bytes)),
            durable: AtomicU64::new(revision),
            listeners: Mutex::default(),
            limits,
        });
        let thread_shared = shared.clone();
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(engine, &thread_shared))
            .map_err(|e| StoreError::io("starting the writer thread", e))?;
        Ok(Grouped { shared, writer: Mutex::new(Some(writer)) })
    }

    fn submit(&self, command: Command) {
        let mut queue = locked(&self.shared.queue);
        if queue.closing {
            // Dropping the command answers it: its promise or channel resolves to `Closed`.
            return;
        }
        queue.commands.push_back(command);
        drop(queue);
        self.shared.filled.notify_one();
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (sender, receiver) = mpsc::channel();
        self.submit(command(sender));
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Backend for Grouped {
    fn load(&self) -> Result<Loaded> {
        self.ask(Command::Load)
    }

    fn commit(&self, batch: Batch) -> Ticket {
        let (bytes, max_bytes) = (size(&batch), self.shared.limits.batch_bytes);
        if bytes > max_bytes {
            return Ticket::resolved(Err(StoreError::TooLarge { bytes, max_bytes }));
        }
        let (promise, ticket) = promise();
        self.submit(Command::Commit(batch, promise));
        ticket
    }

    fn durable_revision(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    fn on_durable(&self, listener: DurableListener) {
        locked(&self.shared.listeners).push(listener);
    }

    fn watch(&self, after: u64) -> Result<Watch> {
        self.shared.history.watch(after)
    }

    fn snapshot(&self, path: &Path) -> Result<()> {
        self.ask(|sender| Command::Snapshot(path.to_path_buf(), sender))
    }

    fn compact(&self) -> Result<()> {
        self.ask(Command::Compact)
    }

    fn close(&self) -> Result<()> {
        locked(&self.shared.queue).closing = true;
        self.shared.filled.notify_all();
        let writer = locked(&self.writer).take();
        // In a callback the writer closes itself: it cannot wait for its own end, and ends after the callback.
        let other = writer.filter(|writer| writer.thread().id() != std::thread::current().id());
        match other.map(JoinHandle::join) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(_)) => Err(StoreError::Corrupt { what: "the writer thread panicked".into() }),
        }
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

/// The bytes a batch takes in a file, roughly.
fn size(batch: &Batch) -> usize {
    batch.writes.iter().map(|w| 16 + w.key.len() + w.value.as_ref().map_or(0, Vec::len)).sum()
}

/// The writer thread: takes what is queued until told to close and the queue is empty.
fn run(mut engine: impl Engine, shared: &Shared) {
    /// Fails everything queued when the writer ends, also when it ends by a panic: nobody waits for ever.
    struct End<'a>(&'a Shared);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            let mut queue = locked(&self.0.queue);
            queue.closing = true;
            let unheard = std::mem::take(&mut queue.commands);
            drop(queue);
            // Only now: a callback may let go of the backend, which locks the queue.
            drop(unheard);
            self.0.history.close();
        }
    }
    let _end = End(shared);
    let mut jobs = Vec::new();
    while let Some(next) = take(shared) {
        match next {
            Next::Group(group) => {
                commit_group(&mut engine, shared, group);
                if let Some(job) = engine.upkeep() {
                    start_job(&mut jobs, Ok(job), None);
                }
            }
            Next::Load(reply) => drop(reply.send(engine.load())),
            Next::Snapshot(path, reply) => start_job(&mut jobs, engine.snapshot(&path), Some(reply)),
            Next::Compact(reply) => start_job(&mut jobs, engine.compact(), Some(reply)),
        }
    }
    // A panic in a job has already been printed, and its caller told `Closed`.
    jobs.into_iter().for_each(|job| drop(job.join()));
}

/// Runs a job on its own thread. Upkeep has no reply: when it fails, the engine asks for it again.
fn start_job(jobs: &mut Vec<JoinHandle<()>>, job: Result<Job>, reply: Option<Reply<()>>) {
    jobs.retain(|job| !job.is_finished());
    let answer = move |result| {
        if let Some(reply) = reply {
            // The caller may have stopped waiting.
            let _ = reply.send(result);
        }
    };
    match job {
        Err(error) => answer(Err(error)),
        Ok(job) => {
            let thread = std::thread::Builder::new().name("store-job".into());
            // Without a thread the reply is dropped with the closure, and the caller is told `Closed`.
            jobs.extend(thread.spawn(move || answer(job())).ok());
        }
    }
}

/// What the writer does next.
enum Next {
    Group(Vec<(Batch, Promise)>),
    Load(Reply<Loaded>),
    Snapshot(PathBuf, Reply<()>),
    Compact(Reply<()>),
}

/// Waits for work; takes all commits at the head of the queue (up to the group's size), or one other command.
fn take(shared: &Shared) -> Option<Next> {
    let mut queue = locked(&shared.queue);
    while queue.commands.is_empty() {
        if queue.closing {
            return None;
        }
        queue = shared.filled.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
    }
    let mut group = Vec::new();
    let mut bytes = 0;
    while bytes < shared.limits.group_bytes {
        match queue.commands.pop_front() {
            Some(Command::Commit(batch, promise)) => {
                bytes += size(&batch);
                group.push((batch, promise));
            }
            Some(other) if !group.is_empty() => {
                queue.commands.push_front(other);
                break;
            }
            Some(Command::Load(reply)) => return Some(Next::Load(reply)),
            Some(Command::Snapshot(path, reply)) => return Some(Next::Snapshot(path, reply)),
            Some(Command::Compact(reply)) => return Some(Next::Compact(reply)),
            None => break,
        }
    }
    Some(Next::Group(group))
}

/// Checks order and guards, writes what passes, resolves every ticket.
fn commit_group(engine: &mut impl Engine, shared: &Shared, group: Vec<(Batch, Promise)>) {
    let mut pending: HashMap<(Table, String), Option<u64>> = HashMap::new();
    let mut revision = engine.revision();
    let mut commits = Vec::with_capacity(group.len());
    let mut promises = Vec::with_capacity(group.len());
    for (batch, promise) in group {
        match check(engine, &pending, revision, &batch) {
            Ok(()) => {
                revision = batch.revision;
                for write in &batch.writes {
                    let now = write.value.is_some().then_some(revision);
                    pending.insert((write.table, write.key.clone()), now);
                }
                commits.push(Committed { revision, writes: batch.writes.into() });
                promises.push(promise);
            }
            Err(error) => promise.complete(Err(error)),
        }
    }
    if commits.is_empty() {
        return;
    }
    if let Err(error) = engine.write(&commits) {
        promises.into_iter().for_each(|promise| promise.complete(Err(error.clone())));
        return;
    }
    let revisions: Vec<u64> = commits.iter().map(|commit| commit.revision).collect();
    shared.history.push(commits);
    shared.durable.store(revision, Ordering::Release);
    locked(&shared.listeners).iter().for_each(|listener| listener(revision));
    for (promise, revision) in promises.into_iter().zip(revisions) {
        promise.complete(Ok(revision));
    }
}

/// Whether `batch` may follow `revision`, given what this group has `pending`.
fn check(
    engine: &impl Engine,
    pending: &HashMap<(Table, String), Option<u64>>,
    revision: u64,
    batch: &Batch,
) -> Result<()> {
    if batch.revision != revision + 1 {
        return Err(StoreError::OutOfOrder { expected: revision + 1, got: batch.revision });
    }
    for guard in &batch.guards {
        let found = match pending.get(&(guard.table, guard.key.clone())) {
            Some(found) => *found,
            None => engine.revision_of(guard.table, &guard.key)?,
        };
        if found != guard.expected {
            let (table, key, expected) = (guard.table, guard.key.clone(), guard.expected);
            return Err(StoreError::Conflict { table, key, expected, found });
        }
    }
    Ok(())
}
