//! The writer over engines that fail: what failed leaves no trace, and nobody waits for ever.

use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use store::{
    Backend, Batch, Committed, Engine, Grouped, Job, Limits, Loaded, MemoryEngine, Result, StoreError, Table,
};

use crate::suite::{batch, put};

/// Fails or panics at chosen writes, by their number; else keeps everything in memory.
struct Failing {
    inner: MemoryEngine,
    writes: u64,
    fails: fn(u64) -> bool,
    panics: fn(u64) -> bool,
}

impl Failing {
    fn start(fails: fn(u64) -> bool, panics: fn(u64) -> bool) -> Grouped {
        let engine = Failing { inner: MemoryEngine::default(), writes: 0, fails, panics };
        Grouped::start(engine, Limits::default()).expect("start")
    }
}

impl Engine for Failing {
    fn revision(&self) -> u64 {
        self.inner.revision()
    }

    fn load(&mut self) -> Result<Loaded> {
        self.inner.load()
    }

    fn revision_of(&self, table: Table, key: &str) -> Result<Option<u64>> {
        self.inner.revision_of(table, key)
    }

    fn write(&mut self, group: &[Committed]) -> Result<()> {
        self.writes += 1;
        assert!(!(self.panics)(self.writes), "as the test wants it");
        if (self.fails)(self.writes) {
            return Err(StoreError::Full { doing: "appending".into() });
        }
        self.inner.write(group)
    }

    fn snapshot(&mut self, path: &Path) -> Result<Job> {
        self.inner.snapshot(path)
    }

    fn compact(&mut self) -> Result<Job> {
        Ok(Box::new(|| panic!("as the test wants it")))
    }
}

/// Batches in flight, and after each failure a new start from the durable revision: the rule for submitters.
#[test]
fn failed_groups_leave_no_trace() {
    let backend = Failing::start(|write| write.is_multiple_of(3), |_| false);
    let mut watch = backend.watch(0).expect("watch");
    let mut acknowledged = Vec::new();
    let mut failures = 0;
    for round in 0..200u64 {
        let next = backend.durable_revision() + 1;
        let tickets: Vec<_> = (next..next + 5)
            .map(|revision| {
                backend.commit(batch(revision, vec![put(1, &format!("{revision}"), &round.to_le_bytes())]))
            })
            .collect();
        let results: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait()).collect();
        assert!(
            results.iter().map(|result| result.is_err()).is_sorted(),
            "after a failure all fail: {results:?}"
        );
        failures += usize::from(results[4].is_err());
        acknowledged
            .extend(results.into_iter().flatten().map(|revision| (revision, round.to_le_bytes().to_vec())));
    }
    assert!(failures > 20, "{failures}");
    let revisions: Vec<u64> = acknowledged.iter().map(|(revision, _)| *revision).collect();
    assert_eq!(revisions, (1..=backend.durable_revision()).collect::<Vec<_>>());
    for (revision, value) in &acknowledged {
        let commit = watch.try_next().expect("kept").expect("there");
        assert_eq!((commit.revision, commit.writes[0].value.as_ref()), (*revision, Some(value)));
    }
    assert_eq!(watch.try_next(), Ok(None));
    assert_eq!(backend.load().map(|loaded| loaded.entries.len()), Ok(acknowledged.len()));
}

#[test]
fn when_the_writer_panics_nobody_waits_for_ever() {
    let backend = Failing::start(|_| false, |write| write == 2);
    assert_eq!(backend.commit(Batch { revision: 1, ..Batch::default() }).wait(), Ok(1));
    let mut watch = backend.watch(1).expect("watch");
    let tickets: Vec<_> = (2..100).map(|n| backend.commit(batch(n, vec![]))).collect();
    assert!(tickets.into_iter().all(|ticket| ticket.wait() == Err(StoreError::Closed)));
    assert_eq!(watch.next_timeout(Duration::from_secs(20)), Err(StoreError::Closed));
    assert_eq!(backend.load(), Err(StoreError::Closed));
    assert!(backend.close().is_err(), "it says that the writer is gone");
}

#[test]
fn a_panicking_job_is_told_to_its_caller_and_harms_nobody() {
    let backend = Failing::start(|_| false, |_| false);
    assert_eq!(backend.compact(), Err(StoreError::Closed));
    assert_eq!(backend.commit(batch(1, vec![])).wait(), Ok(1));
    assert_eq!(backend.close(), Ok(()));
}

/// A backend whose writer waits before it tells of a commit, until the sender is dropped.
fn held(panics: fn(u64) -> bool) -> (Grouped, mpsc::Sender<()>) {
    let backend = Failing::start(|_| false, panics);
    let (go_on, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    backend.on_durable(Box::new(move |_| drop(wait.lock().map(|wait| wait.recv()))));
    (backend, go_on)
}

/// A callback may own the last of what owns the backend, and lets go of it on the writer's own thread.
#[test]
fn the_last_owner_may_let_go_in_a_callback() {
    let (backend, go_on) = held(|_| false);
    let mut watch = backend.watch(1).expect("watch");
    let (first, second) = (backend.commit(batch(1, vec![])), backend.commit(batch(2, vec![])));
    let (sender, receiver) = mpsc::channel();
    first.on_done(move |result| {
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(backend)));
        sender.send((result, dropped.is_ok())).expect("the test waits");
    });
    drop(go_on);
    assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok((Ok(1), true)));
    assert_eq!(second.wait(), Ok(2), "what was queued is written");
    assert!(matches!(watch.next_timeout(Duration::from_secs(20)), Ok(Some(commit)) if commit.revision == 2));
    assert_eq!(watch.next_timeout(Duration::from_secs(20)), Err(StoreError::Closed), "the writer has ended");
}

/// The same where the writer ends by a panic, which fails what is queued behind.
#[test]
fn the_last_owner_may_let_go_when_the_writer_panics() {
    let (backend, go_on) = held(|write| write == 2);
    let first = backend.commit(batch(1, vec![]));
    // The writer has taken it, alone.
    while backend.durable_revision() < 1 {
        std::thread::yield_now();
    }
    let fills_a_group = backend.commit(batch(2, vec![put(1, "a", &vec![0; Limits::default().group_bytes])]));
    let behind = backend.commit(batch(3, vec![]));
    let (sender, receiver) = mpsc::channel();
    behind.on_done(move |result| {
        drop(backend);
        sender.send(result).expect("the test waits");
    });
    drop(go_on);
    assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok(Err(StoreError::Closed)));
    assert_eq!((first.wait(), fills_a_group.wait()), (Ok(1), Err(StoreError::Closed)));
}
