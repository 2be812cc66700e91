//! A target at work: its health, its requests in flight, and whether it may get another.

use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::watch;

use super::io::Stream;
use super::pool::Pool;
use super::{lock, now_ms};
use crate::config::{HealthCheck, Target};
use crate::decide::health::{HealthMachine, Probe};
use crate::decide::sticky;

/// Bumped whenever something that the control plane reads has changed.
pub(crate) type Changes = Arc<watch::Sender<u64>>;

pub(crate) fn bump_changes(changes: &Changes) {
    changes.send_modify(|revision| *revision += 1);
}

/// One target of one group. Lives as long as it is configured, across configurations.
pub(crate) struct LiveTarget {
    pub id: String,
    pub addr: SocketAddr,
    /// What a stickiness cookie calls it.
    pub token: String,
    pub machine: Mutex<HealthMachine>,
    healthy: AtomicBool,
    healthy_since_ms: AtomicI64,
    draining: AtomicBool,
    in_flight: AtomicUsize,
    /// Idle connections, one pool per worker.
    pub pools: Box<[Pool]>,
    /// Its connections, ended ones among them.
    connections: Mutex<Vec<Weak<Stream>>>,
    /// The target is gone: every connection and tunnel to it ends.
    cut: AtomicBool,
    changes: Changes,
}

impl LiveTarget {
    pub fn new(group: &str, target: &Target, workers: usize, changes: Changes) -> Self {
        Self {
            token: sticky::token(&[group, &target.id, &target.port.to_string()]),
            id: target.id.clone(),
            addr: target.socket_addr(),
            machine: Mutex::default(),
            healthy: AtomicBool::new(false),
            healthy_since_ms: AtomicI64::new(0),
            draining: AtomicBool::new(target.draining),
            in_flight: AtomicUsize::new(0),
            pools: (0..workers).map(|_| Pool::default()).collect(),
            connections: Mutex::default(),
            cut: AtomicBool::new(false),
            changes,
        }
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy.load(SeqCst)
    }

    /// Whether its health is still to be found out.
    pub fn is_undecided(&self) -> bool {
        lock(&self.machine).is_undecided()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    pub fn healthy_for_ms(&self, now_ms: i64) -> u64 {
        now_ms.saturating_sub(self.healthy_since_ms.load(SeqCst)).max(0) as u64
    }

    /// Takes a probe's outcome.
    pub fn observe(&self, probe: Probe, check: &HealthCheck) {
        let (changed, healthy) = {
            let mut machine = lock(&self.machine);
            (machine.observe(probe, check), machine.is_healthy())
        };
        if healthy && !self.is_healthy() {
            self.healthy_since_ms.store(now_ms(), SeqCst);
        }
        self.healthy.store(healthy, SeqCst);
        if changed {
            bump_changes(&self.changes);
        }
    }

    /// Back to the state of a target just registered.
    pub fn forget_health(&self) {
        *lock(&self.machine) = HealthMachine::default();
        self.healthy.store(false, SeqCst);
    }

    /// Turns draining on or off. Once it is on and this has returned, no request starts.
    pub fn set_draining(&self, draining: bool) {
        let was = self.draining.swap(draining, SeqCst);
        if draining {
            self.pools.iter().for_each(Pool::clear);
        } else if was {
            self.forget_health();
        }
    }

    /// Ends it: no new request, and every connection to it is closed now.
    pub fn end(&self) {
        self.set_draining(true);
        let mut connections = lock(&self.connections);
        self.cut.store(true, SeqCst);
        connections.drain(..).filter_map(|weak| weak.upgrade()).for_each(|c| c.shutdown(Shutdown::Both));
    }

    /// Whether it has been ended.
    pub fn is_cut(&self) -> bool {
        self.cut.load(SeqCst)
    }

    /// Takes charge of a connection: it is closed when the target ends.
    pub fn adopt(&self, connection: &Arc<Stream>) {
        let mut connections = lock(&self.connections);
        if self.is_cut() {
            return connection.shutdown(Shutdown::Both);
        }
        // Forgets the ended ones whenever the list would have to grow: constant work per connection.
        if connections.len() == connections.capacity() {
            connections.retain(|connection| connection.strong_count() > 0);
            let open = connections.len();
            connections.shrink_to(open * 2);
        }
        connections.push(Arc::downgrade(connection));
    }

    /// Counts a request in, unless the target is draining.
    ///
    /// The count is raised before the flag is read, and `set_draining` raises the flag before anyone reads the count
    /// (all sequentially consistent): so whoever sees draining with nothing in flight can be sure that it stays so.
    pub fn begin(self: &Arc<Self>) -> Option<InFlight> {
        self.in_flight.fetch_add(1, SeqCst);
        let guard = InFlight(self.clone());
        if self.is_draining() { None } else { Some(guard) }
    }
}

/// A request in flight, counted until dropped.
pub(crate) struct InFlight(Arc<LiveTarget>);

impl InFlight {
    pub fn target(&self) -> &Arc<LiveTarget> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let left = self.0.in_flight.fetch_sub(1, SeqCst) - 1;
        if left == 0 && self.0.is_draining() {
            bump_changes(&self.0.changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The promise that lets a target be stopped: draining and nothing in flight means that nothing starts any more.
    #[test]
    fn once_drained_nothing_begins() {
        let config = Target { id: "t".into(), address: [127, 0, 0, 1].into(), port: 1, draining: false };
        for _ in 0..300 {
            let target = Arc::new(LiveTarget::new("g", &config, 1, Arc::new(watch::Sender::new(0))));
            let stopped = Arc::new(AtomicBool::new(false));
            let clients: Vec<_> = (0..3)
                .map(|_| {
                    let (target, stopped) = (target.clone(), stopped.clone());
                    std::thread::spawn(move || {
                        while let Some(request) = target.begin() {
                            assert!(!stopped.load(SeqCst), "a request began on a stopped target");
                            drop(request);
                        }
                    })
                })
                .collect();
            target.set_draining(true);
            while target.in_flight() > 0 {
                std::thread::yield_now();
            }
            stopped.store(true, SeqCst);
            clients.into_iter().for_each(|client| client.join().unwrap());
        }
    }

    #[test]
    fn the_last_request_of_a_draining_target_is_announced() {
        let config = Target { id: "t".into(), address: [127, 0, 0, 1].into(), port: 1, draining: false };
        let changes = Arc::new(watch::Sender::new(0));
        let target = Arc::new(LiveTarget::new("g", &config, 1, changes.clone()));
        let (one, two) = (target.begin().unwrap(), target.begin().unwrap());
        target.set_draining(true);
        assert!(target.begin().is_none());
        let before = *changes.borrow();
        drop(one);
        assert_eq!(*changes.borrow(), before);
        drop(two);
        assert_eq!(*changes.borrow(), before + 1);
        target.set_draining(false);
        assert!(target.begin().is_some(), "registered again");
    }
}
