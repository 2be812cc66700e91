//! All background work, in one list: controllers, what is published to the node and the balancer, what they tell back,
//! and house-keeping.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use balancer::config::BalancerConfig;
use plan::reconcile::{Agenda, Dirty, pass};
use state::logs::{LogGroup, LogStream};
use state::{Ids, Snapshot, TimeMs};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::balance;
use crate::clock::now_ms;
use crate::secrets::random_seed;
use crate::server::Server;

/// Controllers look at everything this often, whatever they were told.
const PERIOD: Duration = Duration::from_secs(10);
/// Old images and log events are removed this often.
const HOUSE_KEEPING_PERIOD: Duration = Duration::from_secs(300);

/// Starts all background work; it ends with `stop`. When this returns, what the last server had running is reached
/// again: addresses, listeners, assignments.
pub async fn start(server: &Arc<Server>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let mut publisher = Publisher::default();
    publisher.publish(server).await;
    cut::cut!("server.published");
    let mut spawn = |work: futures_util::future::BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(work).await.unwrap_or(()) });
    };
    spawn(Box::pin(controllers(server.clone())));
    spawn(Box::pin(publish(server.clone(), publisher)));
    spawn(Box::pin(node_reports(server.clone())));
    spawn(Box::pin(balancer_observations(server.clone())));
    spawn(Box::pin(house_keeping(server.clone())));
    tasks
}

/// Runs the controllers: over what changed, over what one of them asked to be run again for, and over all on a period.
async fn controllers(server: Arc<Server>) {
    let dirty = Arc::new(Mutex::new(Dirty::everything()));
    let wake = Arc::new(Notify::new());
    let (note, waker) = (dirty.clone(), wake.clone());
    server.dispatch.db.on_commit(move |snapshot, changed| {
        note.lock().unwrap_or_else(|p| p.into_inner()).note(snapshot, changed);
        waker.notify_one();
    });
    let mut ids = Ids::new(random_seed());
    let mut agenda = Agenda::default();
    loop {
        let mut taken = std::mem::take(&mut *dirty.lock().unwrap_or_else(|p| p.into_inner()));
        agenda.take_due(now_ms(), &mut taken);
        if !taken.is_empty() && !server.stopping.load(Ordering::Relaxed) {
            // A stream for each pass: only tasks started together have ids that begin alike.
            let mut ids = Ids::new(ids.next_u64());
            let decided = server.dispatch.db.decide(|tx| {
                pass(tx, &mut ids, now_ms(), &taken, &mut agenda);
                Ok::<_, std::convert::Infallible>(())
            });
            if let Err(error) = decided.await {
                tracing::error!(%error, "the controllers could not write; they try again");
                // Which also sets the agenda anew: what it says was not written.
                *dirty.lock().unwrap_or_else(|p| p.into_inner()) = Dirty::everything();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        let until = agenda
            .next_at_ms()
            .map_or(PERIOD, |at| Duration::from_millis((at - now_ms()).max(1) as u64).min(PERIOD));
        if tokio::time::timeout(until, wake.notified()).await.is_err() && until == PERIOD {
            *dirty.lock().unwrap_or_else(|p| p.into_inner()) = Dirty::everything();
        }
    }
}

/// Tells the node and the balancer what the state asks of them, after every commit.
async fn publish(server: Arc<Server>, mut publisher: Publisher) {
    let wake = Arc::new(Notify::new());
    let waker = wake.clone();
    server.dispatch.db.on_commit(move |_, _| waker.notify_one());
    loop {
        publisher.publish(&server).await;
        tokio::select! {
            () = wake.notified() => {}
            () = server.node.resumed() => {}
        }
    }
}

/// What was last told to the balancer and written to the hosts file.
#[derive(Default)]
struct Publisher {
    told: Option<Snapshot>,
    config: Option<BalancerConfig>,
    names: Option<Vec<(String, Ipv4Addr)>>,
}

impl Publisher {
    async fn publish(&mut self, server: &Server) {
        let snapshot = server.dispatch.db.snapshot();
        // Addresses first: the balancer binds them.
        server.node.publish(&snapshot).await;
        let told = self.told.replace(snapshot.clone());
        if !told.is_some_and(|told| balance::same(&told, &snapshot)) {
            self.balance(server, &snapshot).await;
        }
        self.write_names(server, &snapshot);
    }

    async fn balance(&mut self, server: &Server, snapshot: &Snapshot) {
        let config = balance::config(snapshot);
        if self.config.as_ref() != Some(&config) {
            for failed in server.balancer.apply(config.clone()).await.iter().filter(|l| l.error.is_some()) {
                let error = failed.error.as_deref().unwrap_or_default();
                tracing::warn!(address = %failed.address, error, "a listener does not listen; it is tried again");
            }
        }
        self.config = Some(config);
    }

    fn write_names(&mut self, server: &Server, snapshot: &Snapshot) {
        let names: Vec<_> =
            snapshot.load_balancers.iter().map(|(_, lb)| (lb.dns_name.clone(), lb.address)).collect();
        if let Some(hosts) = server.hosts_file.as_ref().filter(|_| self.names.as_ref() != Some(&names)) {
            if let Err(error) = hosts.publish(&names) {
                tracing::warn!(%error, "load balancer names could not be written to the hosts file");
            }
            self.names = Some(names);
        }
    }
}

/// Writes down what the node's agent tells.
async fn node_reports(server: Arc<Server>) {
    while let Some(reports) = server.node.reports().await {
        loop {
            let node = server.node.record().id;
            let decided = server.dispatch.db.decide(|tx| {
                for report in &reports {
                    if let Err(refused) = plan::reports::apply(tx, &node, report, now_ms()) {
                        tracing::debug!(key = report.key, ?refused, "a report was refused");
                    }
                }
                Ok::<_, std::convert::Infallible>(())
            });
            match decided.await {
                Ok(_) => break,
                // A report must not be lost: the agent tells it once.
                Err(error) => tracing::error!(%error, "reports could not be written; trying again"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Writes down what the balancer sees of targets and listeners.
async fn balancer_observations(server: Arc<Server>) {
    let mut changes = server.balancer.changes();
    loop {
        let seen = server.balancer.targets();
        let listeners = server.balancer.listeners();
        let failed: Vec<String> = listeners
            .iter()
            .filter(|socket| socket.own && socket.error.is_some())
            .flat_map(|socket| socket.listeners.clone())
            .collect();
        let decided = server.dispatch.db.decide(|tx| {
            balance::observe(tx, &seen, &failed);
            Ok::<_, std::convert::Infallible>(())
        });
        if let Err(error) = decided.await {
            tracing::error!(%error, "target health could not be written; trying again");
        }
        // Also on a period: a load balancer without targets becomes active with no change of theirs.
        let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
    }
}

/// Removes log events past their group's retention, and image bytes that nothing names.
async fn house_keeping(server: Arc<Server>) {
    loop {
        let server = server.clone();
        let work = tokio::task::spawn_blocking(move || {
            trim_logs(&server);
            let grace_ms = registry::garbage::GRACE_MS;
            match registry::garbage::collect(&server.dispatch.db, &server.blobs, now_ms(), grace_ms) {
                Ok(collected) => tracing::debug!(?collected, "image garbage"),
                Err(error) => tracing::warn!(%error, "image garbage could not be collected"),
            }
        });
        if let Err(error) = work.await {
            tracing::error!(%error, "house-keeping failed");
        }
        tokio::time::sleep(HOUSE_KEEPING_PERIOD).await;
    }
}

fn trim_logs(server: &Server) {
    let snapshot = server.dispatch.db.snapshot();
    for (key, group) in snapshot.log_groups.iter() {
        let LogGroup { retention_days: Some(days), .. } = &**group else { continue };
        let before_ms = now_ms() - TimeMs::from(*days) * 86_400_000;
        let prefix = LogStream::key_of(&group.scope, &group.name, "");
        for (_, stream) in snapshot.log_streams.scan(&prefix) {
            if let Err(error) = server.dispatch.logs.trim(key, &stream.name, before_ms) {
                tracing::warn!(%error, group = group.name, "old log events could not be removed");
            }
        }
    }
}
