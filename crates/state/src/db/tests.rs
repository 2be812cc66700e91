//! The tip under every order of outcomes, and the whole over a slow store.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use store::{Committed, Engine, Grouped, Job, Limits, Loaded, MemoryEngine};

use super::*;
use crate::Scope;
use crate::ecs::Cluster;

fn put(tx: &mut Tx, name: &str, padding_bytes: usize) {
    tx.put(Cluster {
        scope: Scope::new("000000000000", "us-east-1"),
        name: name.into(),
        active: true,
        settings: vec![("padding".into(), "x".repeat(padding_bytes))],
        configuration: None,
        capacity_providers: Vec::new(),
        default_strategy: Vec::new(),
        service_connect_namespace: None,
        tags: Vec::new(),
        created_at_ms: 0,
    });
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    let mut names: Vec<String> = snapshot.clusters.iter().map(|(_, cluster)| cluster.name.clone()).collect();
    names.sort_by_key(|name| name.parse::<u64>().unwrap_or_default());
    names
}

// === every order of outcomes

/// A small world: a tip, what is published, and a store that takes batches one after another.
#[derive(Clone)]
struct World {
    tip: Tip,
    submitted: Submitted,
    published: Snapshot,
    /// Handed in, not yet decided by the store: sequence and revision.
    queue: VecDeque<(u64, u64)>,
    /// What the store has made durable, by the name of the cluster, which is the sequence.
    durable: Vec<String>,
    /// Decided by the store, not yet heard.
    outcomes: Vec<(u64, bool)>,
    decisions_left: usize,
}

impl World {
    fn new(decisions: usize) -> World {
        World {
            tip: Tip { snapshot: Snapshot::default(), sequence: 0 },
            submitted: Submitted::default(),
            published: Snapshot::default(),
            queue: VecDeque::new(),
            durable: Vec::new(),
            outcomes: Vec::new(),
            decisions_left: decisions,
        }
    }

    /// Decides; `refused`: the store refuses the batch at once, before those it still holds.
    fn decide(&mut self, refused: bool) {
        self.decisions_left -= 1;
        let mut tx = Tx::new(self.tip.snapshot.clone());
        put(&mut tx, &(self.tip.sequence + 1).to_string(), 0);
        let (batch, pending) = self.tip.push(tx);
        self.submitted.0.push_back(pending);
        match refused {
            true => self.outcomes.push((self.tip.sequence, false)),
            false => self.queue.push_back((self.tip.sequence, batch.revision)),
        }
    }

    /// The store takes the next batch, which fails if it is out of order, or because the disk is `full`.
    fn store_next(&mut self, full: bool) {
        let Some((sequence, revision)) = self.queue.pop_front() else { return };
        let kept = !full && revision == self.durable.len() as u64 + 1;
        if kept {
            self.durable.push(sequence.to_string());
        }
        self.outcomes.push((sequence, kept));
    }

    fn hear(&mut self, at: usize) {
        let (sequence, kept) = self.outcomes.remove(at);
        if !kept {
            let published = self.published.clone();
            return self.submitted.failed(sequence, &mut self.tip, || published);
        }
        if let Some(last) = self.submitted.durable(sequence).pop() {
            self.published = last.snapshot;
        }
        assert!(names(&self.published).contains(&sequence.to_string()), "acknowledged and not shown");
    }

    /// What tells worlds apart.
    fn state(&self) -> String {
        let pending: Vec<u64> = self.submitted.0.iter().map(|pending| pending.sequence).collect();
        let tip = (names(&self.tip.snapshot), self.tip.sequence);
        let store = (&self.queue, &self.durable, &self.outcomes);
        format!("{pending:?} {tip:?} {:?} {store:?}", names(&self.published))
    }

    /// Tries everything that may happen next, once in each world.
    fn explore(&self, seen: &mut HashSet<String>) {
        if !seen.insert(self.state()) {
            return;
        }
        let shown = names(&self.published);
        assert_eq!(
            shown[..],
            self.durable[..shown.len()],
            "what is shown is durable, all of it and in order"
        );
        assert_eq!(self.published.revision, shown.len() as u64);
        let mut then = |next: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            next(&mut world);
            world.explore(seen);
        };
        if self.decisions_left > 0 {
            then(&|world| world.decide(false));
            then(&|world| world.decide(true));
        }
        if !self.queue.is_empty() {
            then(&|world| world.store_next(false));
            then(&|world| world.store_next(true));
        }
        for at in 0..self.outcomes.len() {
            then(&|world| world.hear(at));
        }
        if self.queue.is_empty() && self.outcomes.is_empty() {
            assert_eq!(shown, self.durable, "everything durable is shown");
            assert!(self.submitted.0.is_empty());
            assert_eq!(self.tip.snapshot.revision, self.durable.len() as u64, "the next change is in order");
            assert_eq!(names(&self.tip.snapshot), shown);
        }
    }
}

#[test]
fn in_every_order_of_outcomes_what_failed_goes_and_nothing_else() {
    let mut seen = HashSet::new();
    World::new(5).explore(&mut seen);
    assert!(seen.len() > 1_000, "{}", seen.len());
}

// === over a store that takes its time

/// A memory engine that takes 100 ms for a group.
struct Slow(MemoryEngine);

impl Engine for Slow {
    fn revision(&self) -> u64 {
        self.0.revision()
    }

    fn load(&mut self) -> store::Result<Loaded> {
        self.0.load()
    }

    fn revision_of(&self, table: store::Table, key: &str) -> store::Result<Option<u64>> {
        self.0.revision_of(table, key)
    }

    fn write(&mut self, group: &[Committed]) -> store::Result<()> {
        std::thread::sleep(Duration::from_millis(100));
        self.0.write(group)
    }

    fn snapshot(&mut self, path: &Path) -> store::Result<Job> {
        self.0.snapshot(path)
    }

    fn compact(&mut self) -> store::Result<Job> {
        self.0.compact()
    }
}

fn decide(db: &Arc<Db>, name: &str, padding_bytes: usize) -> Durable {
    let (answer, durable) = db.submit(db.turn_blocking(), |tx| {
        put(tx, name, padding_bytes);
        Ok::<_, Infallible>(())
    });
    answer.unwrap();
    durable
}

#[test]
fn a_change_that_is_too_large_fails_alone() {
    let limits = Limits { batch_bytes: 10_000, ..Limits::default() };
    let store = Grouped::start(Slow(MemoryEngine::default()), limits).unwrap();
    let db = Db::open(Arc::new(store)).unwrap();
    let before = decide(&db, "1", 1);
    let large = decide(&db, "2", 20_000);
    let after = decide(&db, "3", 1);
    assert!(matches!(large.wait(), Err(StoreError::TooLarge { .. })));
    before.wait().unwrap();
    after.wait().unwrap();
    decide(&db, "4", 1).wait().unwrap();
    assert_eq!(names(&db.snapshot()), ["1", "3", "4"]);
}

/// Two threads, each with an event loop and fifty decisions that wait for their turn; every third goes away before it
/// comes, as clients do.
#[test]
fn who_waits_for_a_turn_gets_it_though_others_go_away() {
    let db = Db::open(Arc::new(Grouped::start(MemoryEngine::default(), Limits::default()).unwrap())).unwrap();
    let decisions = |thread: u64| {
        let db = db.clone();
        async move {
            let mut running = tokio::task::JoinSet::new();
            for n in (1..=50).map(|n| thread * 1000 + n) {
                let db = db.clone();
                let task = running.spawn(async move {
                    let decided = db.decide(|tx| {
                        put(tx, &n.to_string(), 1);
                        // Long enough for the other thread to come upon it.
                        std::thread::sleep(Duration::from_millis(1));
                        Ok::<_, Infallible>(())
                    });
                    decided.await.unwrap().unwrap();
                    n.to_string()
                });
                if n % 3 == 0 {
                    tokio::task::yield_now().await;
                    task.abort();
                }
            }
            let mut acknowledged = Vec::new();
            while let Some(ended) = running.join_next().await {
                acknowledged.extend(ended.ok());
            }
            acknowledged
        }
    };
    let run = |thread: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(decisions(thread))
    };
    let acknowledged: Vec<String> = std::thread::scope(|scope| {
        let threads = [1, 2].map(|thread| scope.spawn(move || run(thread)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let shown = names(&db.snapshot());
    assert!(acknowledged.iter().all(|name| shown.contains(name)));
    let kept = (1..=2).flat_map(|thread| (1..=50).map(move |n| thread * 1000 + n)).filter(|n| n % 3 != 0);
    assert!(kept.map(|n: u64| n.to_string()).all(|name| acknowledged.contains(&name)));
    decide(&db, "5000", 1).wait().unwrap();
}

#[test]
fn changes_by_many_threads_are_shown_if_and_only_if_they_are_acknowledged() {
    let limits = Limits { batch_bytes: 10_000, ..Limits::default() };
    let db = Db::open(Arc::new(Grouped::start(MemoryEngine::default(), limits).unwrap())).unwrap();
    let write = |thread: u64| {
        let db = &db;
        move || {
            let tried = (1..200).map(|n| thread * 1000 + n);
            let kept = tried.filter(|n| {
                let padding_bytes = if n % 5 == 0 { 20_000 } else { 1 };
                decide(db, &n.to_string(), padding_bytes).wait().is_ok()
            });
            kept.map(|n| n.to_string()).collect::<Vec<_>>()
        }
    };
    let acknowledged: Vec<String> = std::thread::scope(|scope| {
        let threads = [1, 2, 3, 4].map(|thread| scope.spawn(write(thread)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(names(&db.snapshot()), acknowledged);
    assert!(acknowledged.len() > 300, "{}", acknowledged.len());
    decide(&db, "5000", 1).wait().unwrap();
}
