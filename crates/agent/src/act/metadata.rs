//! What containers are told about themselves over HTTP: the task metadata endpoint version 4 and the credentials of the
//! task's role, at 169.254.170.2 in the task's own network namespace.
//!
//! [`Endpoints`] is told what is known of each group, and serves it on the listeners of the group's namespaces. A
//! listener answers for its own group only; that of the host's namespace, which all `host` tasks share, answers for
//! those, each of which knows only its own ids.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use state::TimeMs;
use state::assignment::Assignment;
use state::group::{NetworkMode, Observed};
use tokio::task::JoinHandle;

use super::runtime::cgroup::Cgroups;

mod credentials;
mod documents;
mod ids;
mod serve;
mod stats;
mod time;

pub use credentials::{CredentialSource, Credentials};
pub use ids::EndpointIds;
pub use stats::Sample;

/// What is known of a group.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What it is to be.
    pub assignment: Arc<Assignment>,
    /// What was seen of it.
    pub observed: Observed,
    /// By what its containers are asked for.
    pub ids: EndpointIds,
    /// One per container of the spec, in its order.
    pub containers: Vec<LocalContainer>,
}

/// What only this node knows of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalContainer {
    /// Its cgroup, for what it uses; none = it has none.
    pub cgroup: Option<String>,
    /// Its first process, for what its network carries; none = it does not run.
    pub pid: Option<i32>,
    /// Its own address, in `bridge` mode.
    pub address: Option<Ipv4Addr>,
    /// When it was created.
    pub created_at_ms: Option<TimeMs>,
    /// When it was last started, to be shown after it has exited.
    pub started_at_ms: Option<TimeMs>,
}

#[derive(Default)]
struct Group {
    /// None until it is published.
    facts: Option<Facts>,
    /// Listeners that are not served yet.
    waiting: Vec<TcpListener>,
    /// Servers of its own namespaces.
    servers: Vec<JoinHandle<()>>,
    /// Its role's credentials, as long as they are good.
    credentials: Option<Credentials>,
    /// For each container, what it had used when it was last asked for.
    samples: HashMap<usize, Sample>,
}

/// The metadata endpoints of a node.
pub struct Endpoints {
    cgroups: Cgroups,
    source: Option<Arc<dyn CredentialSource>>,
    groups: Mutex<HashMap<String, Group>>,
    /// The server of the host's namespace.
    host: Mutex<Option<JoinHandle<()>>>,
}

/// Whose questions a listener answers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Audience {
    /// Those of one group's containers.
    Group(String),
    /// Those of all groups in the host's namespace.
    Host,
}

impl Endpoints {
    /// No groups yet. Without a source no task has credentials.
    pub fn new(cgroups: Cgroups, source: Option<Arc<dyn CredentialSource>>) -> Endpoints {
        Endpoints { cgroups, source, groups: Mutex::default(), host: Mutex::default() }
    }

    /// Whether tasks with a role get credentials.
    pub fn gives_credentials(&self) -> bool {
        self.source.is_some()
    }

    /// Takes in what is known of a group now, replacing what was known. Must be called within the async runtime.
    pub fn publish(self: &Arc<Self>, facts: Facts) {
        let mut groups = self.lock();
        let group = groups.entry(facts.assignment.key.clone()).or_default();
        let facts = group.facts.insert(facts);
        let (key, on_host) = (facts.assignment.key.clone(), is_on_host(facts));
        if let Err(error) = self.begin(&key, on_host, group) {
            tracing::warn!(key, %error, "a group's metadata endpoint is not served");
        }
    }

    /// Answers on a group's listeners from when it is published until it is forgotten. In `host` mode the listener is
    /// the host's; the first group to bring it has it served for all. Must be called within the async runtime. May be
    /// repeated.
    ///
    /// # Errors
    /// When a listener is of no use.
    pub fn serve(self: &Arc<Self>, key: &str, listeners: Vec<TcpListener>) -> std::io::Result<()> {
        let mut groups = self.lock();
        let group = groups.entry(key.to_owned()).or_default();
        if group.servers.is_empty() {
            group.waiting = listeners;
        }
        match &group.facts {
            Some(facts) => self.begin(key, is_on_host(facts), group),
            None => Ok(()),
        }
    }

    /// Serves what waits for it.
    fn begin(self: &Arc<Self>, key: &str, on_host: bool, group: &mut Group) -> std::io::Result<()> {
        for listener in std::mem::take(&mut group.waiting) {
            if !on_host {
                group.servers.push(serve::spawn(self.clone(), listener, Audience::Group(key.to_owned()))?);
                continue;
            }
            let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
            if host.is_none() {
                *host = Some(serve::spawn(self.clone(), listener, Audience::Host)?);
            }
        }
        Ok(())
    }

    /// Stops answering for a group.
    pub fn forget(&self, key: &str) {
        let Some(group) = self.lock().remove(key) else { return };
        group.servers.iter().for_each(JoinHandle::abort);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Audience {
    fn may_ask(&self, assignment: &Assignment) -> bool {
        match self {
            Audience::Group(key) => *key == assignment.key,
            Audience::Host => assignment.spec.network_mode == NetworkMode::Host,
        }
    }
}

fn is_on_host(facts: &Facts) -> bool {
    Audience::Host.may_ask(&facts.assignment)
}

#[cfg(test)]
mod tests;
