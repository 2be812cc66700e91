//! Applies decisions in order, makes them durable, and publishes snapshots.
//!
//! Decisions run one after another on the *tip*: the state with all earlier decisions applied, durable or not. What
//! others read, and what is acknowledged, is the *published* state: everything in it is durable. Between the two lies
//! one group commit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, TryLockError};

use event_listener::Event;
use store::{Backend, Batch, StoreError};

use crate::record::RecordError;
use crate::snapshot::Snapshot;
use crate::tx::Tx;

/// A record that a commit wrote or deleted: table number and key.
pub type Changed = (u8, String);

/// Why a decision could not be made durable. Nothing of it is kept.
#[derive(Debug)]
pub enum DbError {
    /// The store failed; the text says what to do.
    Store(StoreError),
    /// What is stored cannot be read.
    Record(RecordError),
}

impl std::fmt::Display for DbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DbError::Store(e) => e.fmt(f),
            DbError::Record(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for DbError {}

type Listener = Box<dyn Fn(&Snapshot, &[Changed]) + Send + Sync>;

#[cfg_attr(test, derive(Clone))]
struct Pending {
    /// Never used again, unlike the revision of a batch that failed.
    sequence: u64,
    snapshot: Snapshot,
    changed: Vec<Changed>,
}

/// The state that decisions are made on: the last pending one, or the published one when nothing is pending.
#[cfg_attr(test, derive(Clone))]
struct Tip {
    snapshot: Snapshot,
    sequence: u64,
}

impl Tip {
    /// Puts a decision's writes on the tip; what must become durable, and what is published then.
    fn push(&mut self, tx: Tx) -> (Batch, Pending) {
        let revision = self.snapshot.revision + 1;
        self.sequence += 1;
        let (mut snapshot, writes, guards) = tx.finish();
        snapshot.revision = revision;
        let changed = writes.iter().map(|w| (w.table, w.key.clone())).collect();
        self.snapshot = snapshot.clone();
        (Batch { revision, guards, writes }, Pending { sequence: self.sequence, snapshot, changed })
    }
}

/// What is submitted and its outcome not yet heard, in order.
///
/// Outcomes are heard in any order: a batch may be refused at once while those before it are still written, and a
/// thread may be slow to say what it was told. Two things hold in any order. What is pending was decided on all that
/// is pending before it, for each was decided on the tip. And what was decided on a failed batch fails in the store,
/// for the store takes revisions one after another, each batch's is higher than that of what it was decided on, and
/// a lower one is only handed in after the failure was heard, behind it.
#[cfg_attr(test, derive(Clone))]
#[derive(Default)]
struct Submitted(VecDeque<Pending>);

impl Submitted {
    /// A batch is durable, and so is all that it was decided on; what is to be published now, in order.
    fn durable(&mut self, sequence: u64) -> Vec<Pending> {
        let count = self.0.partition_point(|pending| pending.sequence <= sequence);
        self.0.drain(..count).collect()
    }

    /// A batch failed: it and all decided on it are forgotten, those before it go on. One that is not pending was
    /// forgotten already, with what it was decided on.
    fn failed(&mut self, sequence: u64, tip: &mut Tip, published: impl FnOnce() -> Snapshot) {
        let Ok(at) = self.0.binary_search_by_key(&sequence, |pending| pending.sequence) else { return };
        self.0.truncate(at);
        tip.snapshot = self.0.back().map_or_else(published, |pending| pending.snapshot.clone());
    }
}

/// The control state: a store and its mirror in memory.
///
/// Locks are taken in the order of the members, and only decisions take that of the tip for long: who hears outcomes and
/// who reads wait for no decision.
pub struct Db {
    backend: Arc<dyn Backend>,
    tip: Mutex<Tip>,
    /// Told whenever the tip was let go of.
    next: Event,
    submitted: Mutex<Submitted>,
    published: RwLock<Snapshot>,
    listeners: RwLock<Vec<Listener>>,
}

/// The tip, held for one decision. Members are dropped in their order: it is let go of before who awaits it is told.
struct Turn<'a> {
    tip: MutexGuard<'a, Tip>,
    _next: Tell<'a>,
}

/// Tells one that waits, when it is dropped.
struct Tell<'a>(&'a Event);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        self.0.notify(1);
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Db at revision {}", self.snapshot().revision)
    }
}

impl Db {
    /// Loads everything stored.
    pub fn open(backend: Arc<dyn Backend>) -> Result<Arc<Db>, DbError> {
        let loaded = backend.load().map_err(DbError::Store)?;
        let mut snapshot = Snapshot { revision: loaded.revision, ..Snapshot::default() };
        // One by one, so that what was read does not stay beside what it became.
        for entry in loaded.entries {
            snapshot
                .apply(entry.table, &entry.key, entry.revision, Some(&entry.value))
                .map_err(DbError::Record)?;
        }
        Ok(Arc::new(Db {
            backend,
            tip: Mutex::new(Tip { snapshot: snapshot.clone(), sequence: 0 }),
            next: Event::new(),
            submitted: Mutex::default(),
            published: RwLock::new(snapshot),
            listeners: RwLock::new(Vec::new()),
        }))
    }

    /// The last durable state.
    pub fn snapshot(&self) -> Snapshot {
        self.published.read().unwrap_or_else(|p| p.into_inner()).clone()
    }

    /// Calls `listener` after each durable commit with the new state and what changed. It runs on the store's writer
    /// thread and must only wake someone.
    pub fn on_commit(&self, listener: impl Fn(&Snapshot, &[Changed]) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(|p| p.into_inner()).push(Box::new(listener));
    }

    /// Runs a decision on the tip and waits until all it saw and wrote is durable. A decision that answers `Err`
    /// writes nothing. The decision may be run once only here; with a shared store it is run again on conflict.
    pub async fn decide<A, E>(
        self: &Arc<Self>,
        decision: impl FnOnce(&mut Tx) -> Result<A, E>,
    ) -> Result<Result<A, E>, DbError> {
        let (answer, durable) = {
            let turn = self.turn().await;
            self.submit(turn, decision)
        };
        durable.await.map_err(DbError::Store)?;
        Ok(answer)
    }

    /// As [`Db::decide`], blocking the thread.
    pub fn decide_blocking<A, E>(
        self: &Arc<Self>,
        decision: impl FnOnce(&mut Tx) -> Result<A, E>,
    ) -> Result<Result<A, E>, DbError> {
        let (answer, durable) = self.submit(self.turn_blocking(), decision);
        durable.wait().map_err(DbError::Store)?;
        Ok(answer)
    }

    /// Waits for the tip without keeping the thread from its other connections.
    async fn turn(&self) -> Turn<'_> {
        loop {
            if let Some(turn) = self.turn_now() {
                return turn;
            }
            let next = self.next.listen();
            // It may have been let go of before this listened.
            if let Some(turn) = self.turn_now() {
                return turn;
            }
            next.await;
        }
    }

    fn turn_now(&self) -> Option<Turn<'_>> {
        match self.tip.try_lock() {
            Ok(tip) => Some(self.turn_of(tip)),
            Err(TryLockError::Poisoned(tip)) => Some(self.turn_of(tip.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn turn_blocking(&self) -> Turn<'_> {
        // A panicking decision leaves the tip as it was: nothing is written before it returns.
        self.turn_of(self.tip.lock().unwrap_or_else(|p| p.into_inner()))
    }

    fn turn_of<'a>(&'a self, tip: MutexGuard<'a, Tip>) -> Turn<'a> {
        Turn { tip, _next: Tell(&self.next) }
    }

    fn submitted(&self) -> MutexGuard<'_, Submitted> {
        self.submitted.lock().unwrap_or_else(|p| p.into_inner())
    }

    fn submit<A, E>(
        self: &Arc<Self>,
        mut turn: Turn<'_>,
        decision: impl FnOnce(&mut Tx) -> Result<A, E>,
    ) -> (Result<A, E>, Durable) {
        let tip = &mut *turn.tip;
        let mut tx = Tx::new(tip.snapshot.clone());
        let answer = decision(&mut tx);
        let (batch, pending) = if answer.is_ok() && !tx.is_empty() {
            tip.push(tx)
        } else if self.submitted().0.is_empty() {
            return (answer, Durable(None));
        } else {
            // What it read may not be durable yet: an empty batch waits for those before it.
            let nothing = Tx::new(tip.snapshot.clone());
            tip.push(nothing)
        };
        let sequence = tip.sequence;
        // Before the store has it: the outcome may come at once.
        self.submitted().0.push_back(pending);
        // Submitted under the lock: the order of revisions is the order of submission.
        let ticket = self.backend.commit(batch);
        // Without it: the ticket may be resolved already, and the callback takes the lock.
        drop(turn);
        let slot = Arc::new(Slot::default());
        let (db, done) = (self.clone(), slot.clone());
        ticket.on_done(move |result| {
            db.finished(sequence, result.is_ok());
            done.complete(result.map(|_| ()));
        });
        (answer, Durable(Some(slot)))
    }

    /// The store has told a batch's outcome: publishes what became durable, forgets what failed.
    fn finished(&self, sequence: u64, durable: bool) {
        if !durable {
            let mut turn = self.turn_blocking();
            self.submitted().failed(sequence, &mut turn.tip, || self.snapshot());
            return;
        }
        let mut submitted = self.submitted();
        let done = submitted.durable(sequence);
        let Some(last) = done.last() else { return };
        *self.published.write().unwrap_or_else(|p| p.into_inner()) = last.snapshot.clone();
        drop(submitted);
        let listeners = self.listeners.read().unwrap_or_else(|p| p.into_inner());
        for pending in done.iter().filter(|p| !p.changed.is_empty()) {
            for listener in listeners.iter() {
                listener(&pending.snapshot, &pending.changed);
            }
        }
    }
}

type Outcome = Result<(), StoreError>;

#[derive(Default)]
struct Slot {
    state: Mutex<(Option<Outcome>, Option<std::task::Waker>)>,
    done: std::sync::Condvar,
}

impl Slot {
    fn complete(&self, outcome: Outcome) {
        let mut state = self.state.lock().unwrap_or_else(|p| p.into_inner());
        state.0 = Some(outcome);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
        self.done.notify_all();
    }
}

/// Resolves once a decision's batch is durable *and published*: who is answered reads what he wrote.
struct Durable(Option<Arc<Slot>>);

impl Durable {
    fn wait(self) -> Outcome {
        let Some(slot) = self.0 else { return Ok(()) };
        let mut state = slot.state.lock().unwrap_or_else(|p| p.into_inner());
        loop {
            if let Some(outcome) = state.0.take() {
                return outcome;
            }
            state = slot.done.wait(state).unwrap_or_else(|p| p.into_inner());
        }
    }
}

impl Future for Durable {
    type Output = Outcome;

    fn poll(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Outcome> {
        let Some(slot) = &self.0 else { return std::task::Poll::Ready(Ok(())) };
        let mut state = slot.state.lock().unwrap_or_else(|p| p.into_inner());
        match state.0.take() {
            Some(outcome) => std::task::Poll::Ready(outcome),
            None => {
                state.1 = Some(context.waker().clone());
                std::task::Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests;
