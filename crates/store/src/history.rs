//! The recent commits, kept in memory and bounded, and the watches that read them.
//!
//! A watch is a cursor, not a queue: a slow watcher costs no memory, it is told `Compacted` in the end.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::backend::Committed;
use crate::error::{Result, StoreError};

struct Inner {
    /// Revisions are consecutive; the first is `start + 1`.
    commits: VecDeque<Committed>,
    /// A watch can begin after this revision at the earliest.
    start: u64,
    bytes: usize,
    closed: bool,
}

/// The bounded history of one backend.
pub(crate) struct History {
    inner: Mutex<Inner>,
    grown: Condvar,
    max_commits: usize,
    max_bytes: usize,
}

fn weight(commit: &Committed) -> usize {
    commit.writes.iter().map(|w| 64 + w.key.len() + w.value.as_ref().map_or(0, Vec::len)).sum()
}

impl History {
    /// An empty history that begins after `revision`.
    pub(crate) fn new(revision: u64, max_commits: usize, max_bytes: usize) -> History {
        let inner = Inner { commits: VecDeque::new(), start: revision, bytes: 0, closed: false };
        History { inner: Mutex::new(inner), grown: Condvar::new(), max_commits, max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds durable commits and drops the oldest beyond the bound. The newest commit is always kept.
    pub(crate) fn push(&self, group: Vec<Committed>) {
        let mut inner = self.lock();
        for commit in group {
            inner.bytes += weight(&commit);
            inner.commits.push_back(commit);
        }
        while inner.commits.len() > self.max_commits
            || (inner.bytes > self.max_bytes && inner.commits.len() > 1)
        {
            let Some(dropped) = inner.commits.pop_front() else { break };
            inner.bytes -= weight(&dropped);
            inner.start = dropped.revision;
        }
        drop(inner);
        self.grown.notify_all();
    }

    /// Wakes every watch with `Closed`, once it has read what there is.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.grown.notify_all();
    }

    /// A watch of what follows revision `after`.
    pub(crate) fn watch(self: &Arc<Self>, after: u64) -> Result<Watch> {
        let start = self.lock().start;
        if after < start {
            return Err(StoreError::Compacted { oldest: start });
        }
        Ok(Watch { history: self.clone(), after })
    }
}

/// A cursor over the commits of a backend, in order, each exactly once.
pub struct Watch {
    history: Arc<History>,
    after: u64,
}

impl Watch {
    /// The next commit if it is there already. `Compacted` when this watch has fallen behind the history,
    /// `Closed` when the backend is closed and everything was delivered.
    pub fn try_next(&mut self) -> Result<Option<Committed>> {
        let inner = self.history.lock();
        let next = next_of(&inner, self.after)?;
        drop(inner);
        Ok(self.deliver(next))
    }

    /// The next commit, waiting for it up to `timeout`; `None` when none came.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Committed>> {
        let deadline = Instant::now() + timeout;
        let history = self.history.clone();
        let mut inner = history.lock();
        loop {
            if let Some(commit) = next_of(&inner, self.after)? {
                return Ok(self.deliver(Some(commit)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            inner = match history.grown.wait_timeout(inner, left) {
                Ok((inner, _)) => inner,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// The revision of the last commit delivered.
    pub fn position(&self) -> u64 {
        self.after
    }

    fn deliver(&mut self, next: Option<Committed>) -> Option<Committed> {
        if let Some(commit) = &next {
            self.after = commit.revision;
        }
        next
    }
}

fn next_of(inner: &Inner, after: u64) -> Result<Option<Committed>> {
    if after < inner.start {
        return Err(StoreError::Compacted { oldest: inner.start });
    }
    let index = usize::try_from(after - inner.start).unwrap_or(usize::MAX);
    match inner.commits.get(index) {
        Some(commit) => Ok(Some(commit.clone())),
        None if inner.closed => Err(StoreError::Closed),
        None => Ok(None),
    }
}
