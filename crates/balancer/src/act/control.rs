//! The control thread: opens and closes listening sockets, hands connections to workers, runs the health checks.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::balancer::{ListenerStatus, Settings};
use super::table::Table;
use super::target::{Changes, bump_changes};
use super::worker::{Accepted, WorkerHandle};
use super::{lock, probe};
use crate::config::HealthCheck;

/// How often sockets that could not be opened are tried again, and idle connections looked over.
const UPKEEP_EVERY: Duration = Duration::from_secs(2);
const BACKLOG: i32 = 1024;
/// How long a socket rests when a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// A new table to act on.
pub(crate) struct Apply {
    pub table: Arc<Table>,
    /// Answered once sockets are open and closed as the table wants.
    pub done: oneshot::Sender<()>,
}

/// The control thread's state.
pub(crate) struct Control {
    table: Arc<Table>,
    workers: Arc<[WorkerHandle]>,
    sockets: HashMap<SocketAddr, OpenSocket>,
    /// By the address of the live target.
    probes: HashMap<usize, (HealthCheck, AbortHandle)>,
    /// Addresses whose failure has been told.
    warned: HashSet<SocketAddr>,
    statuses: Arc<Mutex<Vec<ListenerStatus>>>,
    changes: Changes,
    seed: u64,
    connections_max: usize,
}

struct OpenSocket {
    closing: Arc<AtomicBool>,
    accepting: AbortHandle,
}

impl Control {
    pub fn new(
        workers: Vec<WorkerHandle>,
        statuses: Arc<Mutex<Vec<ListenerStatus>>>,
        changes: Changes,
        settings: &Settings,
    ) -> Self {
        Self {
            table: Arc::default(),
            workers: workers.into(),
            sockets: HashMap::new(),
            probes: HashMap::new(),
            warned: HashSet::new(),
            statuses,
            changes,
            seed: settings.seed,
            connections_max: settings.connections_max,
        }
    }

    /// Runs until the other end of `commands` is dropped.
    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Apply>) {
        let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
        loop {
            tokio::select! {
                command = commands.recv() => {
                    let Some(Apply { table, done }) = command else { return };
                    self.table = table;
                    self.close_sockets();
                    self.open_sockets();
                    self.arrange_probes();
                    // The caller may have stopped waiting.
                    let _ = done.send(());
                }
                _ = upkeep.tick() => {
                    self.open_sockets();
                    let now = Instant::now();
                    self.table.targets().for_each(|(_, target)| target.pools.iter().for_each(|pool| pool.reap(now)));
                }
            }
        }
    }

    /// Closes sockets no longer wanted. Connections already accepted end after their current response.
    fn close_sockets(&mut self) {
        let table = &self.table;
        self.sockets.retain(|address, socket| {
            let wanted = table.sites.contains_key(address);
            if !wanted {
                socket.closing.store(true, Relaxed);
                socket.accepting.abort();
            }
            wanted
        });
        self.warned.retain(|address| table.sites.contains_key(address));
    }

    fn open_sockets(&mut self) {
        let table = self.table.clone();
        let mut statuses = Vec::new();
        for (address, sites) in &table.sites {
            let own = table.own.contains(address);
            let error =
                if self.sockets.contains_key(address) { None } else { self.open(*address, own).err() };
            let listeners = sites.iter().map(|site| site.arn.to_string()).collect();
            let error = error.map(|error| format!("cannot listen on {address}: {error}"));
            statuses.push(ListenerStatus { address: *address, own, listeners, error });
        }
        statuses.sort_by_key(|status| status.address);
        let changed = std::mem::replace(&mut *lock(&self.statuses), statuses.clone()) != statuses;
        if changed {
            bump_changes(&self.changes);
        }
    }

    fn open(&mut self, address: SocketAddr, own: bool) -> io::Result<()> {
        let listener = bind(address).inspect_err(|error| {
            if self.warned.insert(address) {
                let kind = if own { "load balancer" } else { "shared" };
                tracing::warn!(%address, %error, "cannot listen on this {kind} address; trying again");
            }
        })?;
        self.warned.remove(&address);
        let closing = Arc::new(AtomicBool::new(false));
        let accepting =
            Accepting { workers: self.workers.clone(), connections_max: self.connections_max, told: None };
        let task = tokio::spawn(accepting.run(listener, address, closing.clone()));
        self.sockets.insert(address, OpenSocket { closing, accepting: task.abort_handle() });
        Ok(())
    }

    /// Starts and stops health checks: every registered target of a group in use is checked.
    fn arrange_probes(&mut self) {
        let mut old = std::mem::take(&mut self.probes);
        let table = self.table.clone();
        for (group, target) in table.targets().filter(|(group, target)| group.in_use && !target.is_draining())
        {
            let (key, check) = (Arc::as_ptr(target) as usize, &group.config.health_check);
            let kept = old.remove(&key).filter(|(running, handle)| {
                let same = running == check;
                if !same {
                    handle.abort();
                }
                same
            });
            let running = kept.unwrap_or_else(|| {
                self.seed =
                    self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let task = tokio::spawn(probe::run(target.clone(), check.clone(), self.seed >> 33));
                (check.clone(), task.abort_handle())
            });
            self.probes.insert(key, running);
        }
        old.values().for_each(|(_, handle)| handle.abort());
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts the connections of one socket and gives each to the worker that has the fewest.
struct Accepting {
    workers: Arc<[WorkerHandle]>,
    connections_max: usize,
    /// When it was last said that something is in the way.
    told: Option<Instant>,
}

impl Accepting {
    async fn run(mut self, listener: TcpListener, local: SocketAddr, closing: Arc<AtomicBool>) {
        loop {
            while self.workers.iter().map(|worker| worker.open.load(Relaxed)).sum::<usize>()
                >= self.connections_max
            {
                self.tell(local, &"there are as many connections as may be");
                tokio::time::sleep(PAUSE).await;
            }
            // Back to a plain socket: the worker registers it with its own event queue.
            let accepted = listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(worker) = self.workers.iter().min_by_key(|worker| worker.open.load(Relaxed)) {
                        worker.open.fetch_add(1, Relaxed);
                        let closing = closing.clone();
                        // A worker ends only with the whole balancer.
                        let _ = worker.connections.send(Accepted { stream, peer, local, closing });
                    }
                }
                Err(error) => {
                    // Out of descriptors or memory, or the client is already gone: pause, so as not to spin.
                    self.tell(local, &error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Says why connections wait, once a second at most.
    fn tell(&mut self, local: SocketAddr, why: &dyn std::fmt::Display) {
        if self.told.is_none_or(|told| told.elapsed() > Duration::from_secs(1)) {
            self.told = Some(Instant::now());
            tracing::warn!(%local, %why, "connections are not accepted");
        }
    }
}
