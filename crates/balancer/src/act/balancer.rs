//! The balancer's handle: configure it, and read back what it has learnt.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use super::control::{Apply, Control};
use super::counters::CountersSnapshot;
use super::lock;
use super::table::Table;
use super::worker::{self, Shared};
use crate::config::BalancerConfig;
use crate::decide::health::TargetHealth;

/// How a balancer runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seed of trace ids and random choices.
    pub seed: u64,
    /// Worker threads; 0: one per core, at most 8.
    pub workers: usize,
    /// Shared addresses on which every listener's port is reachable, told apart by `Host`.
    pub fronts: Vec<IpAddr>,
    /// The most client connections at a time, by all listeners together; further ones wait until others end. Each may
    /// need a second descriptor, for the connection to its target.
    pub connections_max: usize,
}

impl Settings {
    /// One worker per core, fronts on the loopback addresses, any number of connections.
    pub fn new(seed: u64) -> Self {
        let fronts = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        Self { seed, workers: 0, fronts, connections_max: usize::MAX }
    }
}

/// One socket that should listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Where.
    pub address: SocketAddr,
    /// Whether it is a load balancer's own address (not a shared front).
    pub own: bool,
    /// ARNs of the listeners reachable there.
    pub listeners: Vec<String>,
    /// Why it does not listen; it is tried again every two seconds.
    pub error: Option<String>,
}

/// One target, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// Target group ARN.
    pub target_group: String,
    /// Target id.
    pub id: String,
    /// Target port.
    pub port: u16,
    /// What `DescribeTargetHealth` says of it.
    pub health: TargetHealth,
    /// Requests and tunnels in flight. A draining target that has none stays at none: it may be removed at once.
    pub in_flight: usize,
}

/// A running balancer. Dropping it closes all its connections and ends its threads.
pub struct Balancer {
    shared: Arc<Shared>,
    settings: Settings,
    workers: usize,
    statuses: Arc<Mutex<Vec<ListenerStatus>>>,
    /// Held while a configuration is taken over, so that they take effect one after the other.
    commands: Mutex<Option<mpsc::UnboundedSender<Apply>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Balancer {
    /// Starts the threads, with nothing configured. Errors: threads or event queues cannot be made.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if settings.workers == 0 { cores.min(8) } else { settings.workers };
        let changes = Arc::new(watch::Sender::new(0));
        let shared = Arc::new(Shared::new(changes.clone()));
        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for index in 0..workers {
            let (handle, thread) = worker::start(index, settings.seed, shared.clone())?;
            handles.push(handle);
            threads.push(thread);
        }
        let statuses = Arc::new(Mutex::new(Vec::new()));
        let control = Control::new(handles, statuses.clone(), changes, &settings);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let run = move || runtime.block_on(control.run(inbox));
        threads.push(std::thread::Builder::new().name("balancer-control".into()).spawn(run)?);
        let (commands, threads) = (Mutex::new(Some(commands)), Mutex::new(threads));
        Ok(Self { shared, settings, workers, statuses, commands, threads })
    }

    /// Takes over a configuration. Requests that arrive after this was called see it; requests in flight finish on the
    /// targets they have, unless those are no longer configured at all. Returns when the sockets are open, with the
    /// state of each: one that cannot be bound is reported, and tried again in the background.
    pub async fn apply(&self, config: BalancerConfig) -> Vec<ListenerStatus> {
        let opened = {
            let commands = lock(&self.commands);
            let previous = self.shared.table();
            let changes = &self.shared.changes;
            let table =
                Arc::new(Table::build(config, &previous, self.workers, &self.settings.fronts, changes));
            self.shared.publish(table.clone());
            table.settle(&previous);
            let (done, opened) = oneshot::channel();
            if let Some(commands) = &*commands {
                // Fails only if the control thread has panicked; then `opened` says so.
                let _ = commands.send(Apply { table, done });
            }
            opened
        };
        if opened.await.is_err() {
            tracing::error!("the balancer's control thread is gone");
        }
        self.listeners()
    }

    /// A number that goes up with every change of a target's health, of a listener's state, and whenever a draining
    /// target has no request in flight any more. Wait for it, then read everything again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// All sockets that should listen.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        lock(&self.statuses).clone()
    }

    /// All configured targets.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let table = self.shared.table();
        let status = |(group, target): (&Arc<super::table::LiveGroup>, &Arc<super::target::LiveTarget>)| {
            TargetStatus {
                target_group: group.arn.to_string(),
                id: target.id.clone(),
                port: target.addr.port(),
                health: lock(&target.machine).report(group.in_use, target.is_draining()),
                in_flight: target.in_flight(),
            }
        };
        table.targets().map(status).collect()
    }

    /// Requests in flight to one target; 0 for one that is not configured.
    pub fn in_flight(&self, target_group: &str, id: &str, port: u16) -> usize {
        let table = self.shared.table();
        let targets = table.groups.get(target_group).map(|group| &group.targets[..]).unwrap_or_default();
        targets.iter().filter(|t| t.id == id && t.addr.port() == port).map(|t| t.in_flight()).sum()
    }

    /// All counts, since each load balancer and target group was first configured.
    pub fn counters(&self) -> CountersSnapshot {
        let table = self.shared.table();
        CountersSnapshot {
            load_balancers: table.load_balancers.iter().map(|lb| lb.counters.snapshot(&lb.arn)).collect(),
            target_groups: table.groups.values().map(|group| group.counters.snapshot(&group.arn)).collect(),
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // The control thread ends with its commands, the workers with the control thread.
        lock(&self.commands).take();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}
