//! The contract of `store::Backend`, as functions over "open a fresh one". Each must hold for every backend.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use store::{Backend, Batch, Committed, Entry, Guard, Limits, Loaded, StoreError, Write};

/// Opens a fresh backend with the given bounds; the folder is its own.
pub type Factory<'a> = &'a dyn Fn(Limits) -> Box<dyn Backend>;

/// Runs everything.
pub fn run(fresh: Factory<'_>) {
    let default = || fresh(Limits::default());
    starts_empty(&*default());
    writes_overwrites_and_deletes(&*default());
    a_batch_is_all_or_nothing(&*default());
    guards_compare_and_set(&*default());
    a_failed_batch_fails_those_decided_on_top_of_it(&*default());
    order_is_the_order_of_submission(&*default());
    many_writers_share_one_counter(default());
    tickets_wait_call_back_and_resolve_as_futures(&*default());
    durable_revision_is_told(&*default());
    the_writer_may_be_the_last_to_have_it(default());
    watches_see_every_commit_once(&*default());
    watch_waits_and_ends(&*default());
    history_is_bounded(&*fresh(Limits { history_commits: 4, ..Limits::default() }));
    history_is_bounded_in_bytes(&*fresh(Limits { history_bytes: 1_000, ..Limits::default() }));
    oversized_batches_are_refused(&*fresh(Limits { batch_bytes: 1_000, ..Limits::default() }));
    snapshot_is_a_consistent_copy(&*default());
    compaction_changes_nothing_to_see(&*default());
    keys_and_values_are_any_bytes(&*default());
    closing_writes_what_is_queued(&*default());
}

pub fn put(table: u8, key: &str, value: &[u8]) -> Write {
    Write { table, key: key.into(), value: Some(value.to_vec()) }
}

pub fn delete(table: u8, key: &str) -> Write {
    Write { table, key: key.into(), value: None }
}

pub fn batch(revision: u64, writes: Vec<Write>) -> Batch {
    Batch { revision, guards: vec![], writes }
}

fn guarded(revision: u64, key: &str, expected: Option<u64>, write: Write) -> Batch {
    Batch { revision, guards: vec![Guard { table: 1, key: key.into(), expected }], writes: vec![write] }
}

fn entry(table: u8, key: &str, value: &[u8], revision: u64) -> Entry {
    Entry { table, key: key.into(), value: value.to_vec(), revision }
}

fn starts_empty(b: &dyn Backend) {
    assert_eq!(b.load(), Ok(Loaded { revision: 0, entries: vec![] }));
    assert_eq!(b.durable_revision(), 0);
}

fn writes_overwrites_and_deletes(b: &dyn Backend) {
    assert_eq!(
        b.commit(batch(1, vec![put(1, "b", b"1"), put(1, "a", b"1"), put(0, "z", b"1")])).wait(),
        Ok(1)
    );
    assert_eq!(
        b.commit(batch(2, vec![put(1, "a", b"2"), delete(0, "z"), delete(0, "never there")])).wait(),
        Ok(2)
    );
    // Of two writes to one key the last wins, either way round.
    assert_eq!(
        b.commit(batch(3, vec![put(2, "c", b"x"), delete(2, "c"), delete(2, "d"), put(2, "d", b"")])).wait(),
        Ok(3)
    );
    let entries = vec![entry(1, "a", b"2", 2), entry(1, "b", b"1", 1), entry(2, "d", b"", 3)];
    assert_eq!(b.load(), Ok(Loaded { revision: 3, entries }));
    assert_eq!(b.load().map(|loaded| loaded.revision), Ok(3), "load can be repeated");
}

fn a_batch_is_all_or_nothing(b: &dyn Backend) {
    b.commit(batch(1, vec![put(1, "a", b"1")])).wait().expect("first");
    let mut failing = guarded(2, "a", Some(7), put(1, "a", b"2"));
    failing.writes.push(put(1, "b", b"2"));
    let conflict = StoreError::Conflict { table: 1, key: "a".into(), expected: Some(7), found: Some(1) };
    assert_eq!(b.commit(failing).wait(), Err(conflict));
    assert_eq!(b.load(), Ok(Loaded { revision: 1, entries: vec![entry(1, "a", b"1", 1)] }));
    // A failed batch uses up no revision; a batch without writes does.
    assert_eq!(b.commit(batch(2, vec![])).wait(), Ok(2));
    assert_eq!(b.load(), Ok(Loaded { revision: 2, entries: vec![entry(1, "a", b"1", 1)] }));
}

fn guards_compare_and_set(b: &dyn Backend) {
    assert_eq!(b.commit(guarded(1, "a", None, put(1, "a", b"1"))).wait(), Ok(1));
    let error = b.commit(guarded(2, "a", None, put(1, "a", b"2"))).wait();
    assert_eq!(
        error,
        Err(StoreError::Conflict { table: 1, key: "a".into(), expected: None, found: Some(1) }),
        "absent was expected"
    );
    assert_eq!(b.commit(guarded(2, "a", Some(1), delete(1, "a"))).wait(), Ok(2));
    let error = b.commit(guarded(3, "a", Some(1), put(1, "a", b"3"))).wait();
    assert_eq!(
        error,
        Err(StoreError::Conflict { table: 1, key: "a".into(), expected: Some(1), found: None })
    );
    // Submitted together, so that they can share a group: the second sees the first.
    let (third, fourth) = (
        b.commit(guarded(3, "a", None, put(1, "a", b"3"))),
        b.commit(guarded(4, "a", Some(3), put(1, "a", b"4"))),
    );
    assert_eq!((third.wait(), fourth.wait()), (Ok(3), Ok(4)));
    // A guard may be on a record that is not written, in another table of the same key.
    let guard = Guard { table: 9, key: "a".into(), expected: None };
    assert_eq!(
        b.commit(Batch { revision: 5, guards: vec![guard], writes: vec![put(9, "a", b"")] }).wait(),
        Ok(5)
    );
}

fn a_failed_batch_fails_those_decided_on_top_of_it(b: &dyn Backend) {
    let tickets = [
        b.commit(batch(1, vec![put(1, "a", b"1")])),
        b.commit(guarded(2, "a", Some(9), put(1, "a", b"2"))),
        b.commit(batch(3, vec![put(1, "a", b"3")])),
        b.commit(batch(4, vec![put(1, "a", b"4")])),
    ];
    let results: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait()).collect();
    assert_eq!(results[0], Ok(1));
    assert!(matches!(results[1], Err(StoreError::Conflict { .. })), "{results:?}");
    assert_eq!(results[2], Err(StoreError::OutOfOrder { expected: 2, got: 3 }));
    assert_eq!(results[3], Err(StoreError::OutOfOrder { expected: 2, got: 4 }));
    assert_eq!(b.commit(batch(1, vec![])).wait(), Err(StoreError::OutOfOrder { expected: 2, got: 1 }));
    assert_eq!(b.commit(batch(2, vec![])).wait(), Ok(2));
}

fn order_is_the_order_of_submission(b: &dyn Backend) {
    let tickets: Vec<_> =
        (1..=2_000).map(|n| b.commit(batch(n, vec![put(1, "k", n.to_string().as_bytes())]))).collect();
    for (n, ticket) in (1..).zip(tickets) {
        assert_eq!(ticket.wait(), Ok(n));
    }
    assert_eq!(b.load(), Ok(Loaded { revision: 2_000, entries: vec![entry(1, "k", b"2000", 2_000)] }));
}

fn many_writers_share_one_counter(b: Box<dyn Backend>) {
    let backend: Arc<dyn Backend> = b.into();
    let next = Arc::new(Mutex::new(0));
    let writers: Vec<_> = (0..16u8)
        .map(|writer| {
            let (backend, next) = (backend.clone(), next.clone());
            std::thread::spawn(move || {
                for n in 0..50 {
                    let ticket = {
                        // Numbering and submitting are one step, as they are in the caller's commit.
                        let mut revision = next.lock().expect("unpoisoned");
                        *revision += 1;
                        backend.commit(batch(*revision, vec![put(writer, &n.to_string(), b"x")]))
                    };
                    ticket.wait().expect("durable");
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    let loaded = backend.load().expect("load");
    assert_eq!((loaded.revision, loaded.entries.len()), (800, 800));
}

fn tickets_wait_call_back_and_resolve_as_futures(b: &dyn Backend) {
    let (sender, receiver) = mpsc::channel();
    b.commit(batch(1, vec![])).on_done(move |result| sender.send(result).expect("receiver lives"));
    assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(Ok(1)));

    let ticket = b.commit(batch(9, vec![]));
    b.load().expect("a barrier: the batch is decided");
    assert_eq!(ticket.try_result(), Some(Err(StoreError::OutOfOrder { expected: 2, got: 9 })));
    let (sender, receiver) = mpsc::channel();
    ticket.on_done(move |result| sender.send(result).expect("receiver lives"));
    assert!(receiver.try_recv().expect("called at once").is_err());

    assert_eq!(block_on(b.commit(batch(2, vec![]))), Ok(2));
    drop(b.commit(batch(3, vec![put(1, "unwatched", b"")])));
    assert_eq!(b.load().map(|loaded| loaded.revision), Ok(3), "a dropped ticket's batch is written");
}

/// The smallest executor: parks this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

fn durable_revision_is_told(b: &dyn Backend) {
    let told = Arc::new(AtomicU64::new(0));
    let listener = told.clone();
    b.on_durable(Box::new(move |revision| listener.store(revision, Ordering::SeqCst)));
    for n in 1..=5 {
        b.commit(batch(n, vec![])).wait().expect("durable");
        // Both are true before the ticket resolves: whoever waited for it may rely on them.
        assert_eq!((b.durable_revision(), told.load(Ordering::SeqCst)), (n, n));
    }
}

/// A listener may hold what holds the store: then its writer drops it, and cannot wait for itself.
fn the_writer_may_be_the_last_to_have_it(b: Box<dyn Backend>) {
    let store: Arc<dyn Backend> = b.into();
    let (release, released) = mpsc::channel();
    let (told, heard) = mpsc::channel();
    let held = Mutex::new(Some((store.clone(), released)));
    store.on_durable(Box::new(move |_| {
        let held = held.lock().expect("the listener alone locks it").take();
        let Some((store, released)) = held else { return };
        released.recv().expect("the other has let go");
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(store)));
        told.send(dropped.is_ok()).expect("the test waits");
    }));
    let ticket = store.commit(batch(1, vec![]));
    drop(store);
    release.send(()).expect("the listener waits");
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)), Ok(true), "the writer panicked");
    ticket.wait().expect("durable");
}

fn watches_see_every_commit_once(b: &dyn Backend) {
    let mut early = b.watch(0).expect("from the start");
    for n in 1..=3 {
        b.commit(batch(n, vec![put(1, "k", &[n as u8]), delete(1, "gone")])).wait().expect("durable");
    }
    let mut late = b.watch(2).expect("from the middle");
    for n in 1..=3 {
        let writes = vec![put(1, "k", &[n as u8]), delete(1, "gone")].into();
        assert_eq!(early.try_next(), Ok(Some(Committed { revision: n, writes })));
    }
    assert_eq!(late.try_next().map(|commit| commit.map(|c| c.revision)), Ok(Some(3)));
    assert_eq!((early.try_next(), late.try_next()), (Ok(None), Ok(None)));
    assert_eq!(early.position(), 3);
    b.commit(guarded(4, "k", Some(99), delete(1, "k"))).wait().expect_err("conflict");
    assert_eq!(early.try_next(), Ok(None), "a failed batch is not seen");
}

fn watch_waits_and_ends(b: &dyn Backend) {
    let mut watch = b.watch(0).expect("watch");
    assert_eq!(watch.next_timeout(Duration::from_millis(20)), Ok(None));
    let waiter = std::thread::spawn(move || (watch.next_timeout(Duration::from_secs(20)), watch));
    drop(b.commit(batch(1, vec![])));
    let (first, mut watch) = waiter.join().expect("no panic");
    assert_eq!(first.map(|commit| commit.map(|c| c.revision)), Ok(Some(1)));
    drop(b.commit(batch(2, vec![])));
    b.close().expect("close");
    assert_eq!(watch.try_next().map(|commit| commit.map(|c| c.revision)), Ok(Some(2)));
    assert_eq!(watch.next_timeout(Duration::from_secs(20)), Err(StoreError::Closed));
}

fn history_is_bounded(b: &dyn Backend) {
    let mut slow = b.watch(0).expect("watch");
    for n in 1..=10 {
        b.commit(batch(n, vec![])).wait().expect("durable");
    }
    assert_eq!(slow.try_next(), Err(StoreError::Compacted { oldest: 6 }));
    assert_eq!(b.watch(5).err(), Some(StoreError::Compacted { oldest: 6 }));
    let mut watch = b.watch(6).expect("still kept");
    assert_eq!(watch.try_next().map(|commit| commit.map(|c| c.revision)), Ok(Some(7)));
}

fn history_is_bounded_in_bytes(b: &dyn Backend) {
    for n in 1..=3 {
        b.commit(batch(n, vec![put(1, "k", &[0; 600])])).wait().expect("durable");
    }
    assert_eq!(b.watch(1).err(), Some(StoreError::Compacted { oldest: 2 }));
    // The newest is kept even when it alone is larger than the bound.
    b.commit(batch(4, vec![put(1, "k", &[0; 2_000])])).wait().expect("durable");
    let mut watch = b.watch(3).expect("the newest");
    assert_eq!(watch.try_next().map(|commit| commit.map(|c| c.revision)), Ok(Some(4)));
}

fn oversized_batches_are_refused(b: &dyn Backend) {
    let error = b.commit(batch(1, vec![put(1, "k", &[0; 1_001])])).wait();
    assert!(matches!(error, Err(StoreError::TooLarge { max_bytes: 1_000, .. })), "{error:?}");
    assert_eq!(b.commit(batch(1, vec![put(1, "k", &[0; 900])])).wait(), Ok(1));
}

fn snapshot_is_a_consistent_copy(b: &dyn Backend) {
    let folder = tempfile::tempdir().expect("tempdir");
    let target = folder.path().join("copy");
    let tickets: Vec<_> =
        (1..=300).map(|n| b.commit(batch(n, vec![put(1, &(n % 7).to_string(), &n.to_le_bytes())]))).collect();
    b.snapshot(&target).expect("snapshot");
    assert!(tickets.into_iter().all(|ticket| ticket.wait().is_ok()));
    let copy = store::embedded(&target).expect("the copy opens");
    assert_eq!(copy.load(), b.load());
    // The copy is a store of its own and goes on by itself.
    assert_eq!(copy.commit(batch(301, vec![delete(1, "3")])).wait(), Ok(301));
    assert_eq!(b.load().map(|loaded| loaded.entries.len()), Ok(7));
    drop(copy);
    assert_eq!(store::embedded(&target).expect("again").load().map(|loaded| loaded.entries.len()), Ok(6));
    assert!(b.snapshot(&target).is_err(), "never over something that is there");
    assert!(b.snapshot(Path::new("/proc/no/such")).is_err());
    assert_eq!(b.commit(batch(301, vec![])).wait(), Ok(301), "a failed snapshot harms nothing");
}

fn compaction_changes_nothing_to_see(b: &dyn Backend) {
    let mut revision = 0;
    for round in 0..4u8 {
        for key in 0..20 {
            revision += 1;
            let write = if key % 5 == round {
                delete(1, &key.to_string())
            } else {
                put(1, &key.to_string(), &[round])
            };
            b.commit(batch(revision, vec![write])).wait().expect("durable");
        }
        let before = b.load().expect("load");
        b.compact().expect("compact");
        assert_eq!(b.load(), Ok(before));
    }
    let guard = Guard { table: 1, key: "0".into(), expected: Some(61) };
    assert_eq!(b.commit(Batch { revision: 81, guards: vec![guard], writes: vec![] }).wait(), Ok(81));
}

fn keys_and_values_are_any_bytes(b: &dyn Backend) {
    let key = "arn:aws:ecs:eu-west-1:000000000000:service/ü\0\n\u{10ffff}";
    let value: Vec<u8> = (0..=255u8).cycle().take(3 << 20).collect();
    b.commit(batch(1, vec![put(255, key, &value), put(0, "", b"")])).wait().expect("durable");
    let loaded = b.load().expect("load");
    assert!(loaded.entries == [entry(0, "", b"", 1), entry(255, key, &value, 1)]);
}

fn closing_writes_what_is_queued(b: &dyn Backend) {
    let tickets: Vec<_> = (1..=100).map(|n| b.commit(batch(n, vec![]))).collect();
    b.close().expect("close");
    assert!(tickets.into_iter().all(|ticket| ticket.wait().is_ok()));
    assert_eq!(b.commit(batch(101, vec![])).wait(), Err(StoreError::Closed));
    assert_eq!(b.load(), Err(StoreError::Closed));
    assert_eq!(b.compact(), Err(StoreError::Closed));
    assert_eq!(b.close(), Ok(()));
}
