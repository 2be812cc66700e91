//! The promise of a submitted batch: wait for it on a thread, await it in a future, or be called back.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::error::{Result, StoreError};

type Callback = Box<dyn FnOnce(Result<u64>) + Send>;

#[derive(Default)]
struct Outcome {
    result: Option<Result<u64>>,
    waker: Option<Waker>,
    callback: Option<Callback>,
}

#[derive(Default)]
struct Slot {
    outcome: Mutex<Outcome>,
    done: Condvar,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Outcome> {
        // No code that can panic runs under this lock, so a poisoned one is still whole.
        self.outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Resolves to the revision of a batch once it is durable, or to why it failed.
/// Dropping it changes nothing: the batch is written all the same.
#[must_use = "a commit is not durable before its ticket says so"]
pub struct Ticket(Arc<Slot>);

impl Ticket {
    /// Blocks until the batch is durable or has failed.
    pub fn wait(self) -> Result<u64> {
        let mut outcome = self.0.lock();
        loop {
            if let Some(result) = &outcome.result {
                return result.clone();
            }
            outcome = self.0.done.wait(outcome).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// The outcome, if there is one yet.
    pub fn try_result(&self) -> Option<Result<u64>> {
        self.0.lock().result.clone()
    }

    /// Calls `callback` with the outcome: at once if it is known, otherwise on the writer's thread, where it
    /// must be short (send to a channel, wake a task).
    pub fn on_done(self, callback: impl FnOnce(Result<u64>) + Send + 'static) {
        let mut outcome = self.0.lock();
        match outcome.result.clone() {
            Some(result) => {
                drop(outcome);
                callback(result);
            }
            None => outcome.callback = Some(Box::new(callback)),
        }
    }

    /// A ticket that is already resolved.
    pub(crate) fn resolved(result: Result<u64>) -> Ticket {
        let (promise, ticket) = promise();
        promise.complete(result);
        ticket
    }
}

impl Future for Ticket {
    type Output = Result<u64>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<u64>> {
        let mut outcome = self.0.lock();
        match &outcome.result {
            Some(result) => Poll::Ready(result.clone()),
            None => {
                outcome.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The writer's end. Dropped without an outcome, it resolves to `Closed`: no ticket waits for ever.
pub(crate) struct Promise(Arc<Slot>);

/// A promise and its ticket.
pub(crate) fn promise() -> (Promise, Ticket) {
    let slot = Arc::new(Slot::default());
    (Promise(slot.clone()), Ticket(slot))
}

impl Promise {
    /// Resolves the ticket.
    pub(crate) fn complete(self, result: Result<u64>) {
        self.resolve(result);
    }

    fn resolve(&self, result: Result<u64>) {
        let mut outcome = self.0.lock();
        if outcome.result.is_some() {
            return;
        }
        outcome.result = Some(result.clone());
        let (waker, callback) = (outcome.waker.take(), outcome.callback.take());
        drop(outcome);
        self.0.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(callback) = callback {
            callback(result);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.resolve(Err(StoreError::Closed));
    }
}
