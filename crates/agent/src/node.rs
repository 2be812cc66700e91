//! What all groups of a node share: its folders, sources, sinks, network and cgroups.

use std::path::PathBuf;
use std::sync::Arc;

use state::assignment::{Assignment, Names, Report};
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::act::image::{LayerStore, Puller};
use crate::act::logs::{LogShipper, LogSink};
use crate::act::metadata::{CredentialSource, Endpoints};
use crate::act::network::{GroupNetwork, Network, NetworkError};
use crate::act::runtime::DriverKind;
use crate::act::runtime::cgroup::Cgroups;
use crate::act::supervisor::nursery::Nursery;

/// How an agent is set up.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The node's id.
    pub node_id: String,
    /// Where groups, layers and volumes are kept.
    pub data_dir: PathBuf,
    /// The cgroup below which all groups are: `/roadstead`. Two agents on one machine need two.
    pub cgroup_parent: String,
    /// The program that is re-executed as a supervisor: it must call [`crate::reexec`] first thing.
    pub program: PathBuf,
    /// Host names, with port, by which our own registry is reached.
    pub registry_hosts: Vec<String>,
    /// Which runtime makes the containers.
    pub driver: DriverKind,
    /// The soft limit of open files of supervisors and runtimes; none = the agent's own.
    pub files_soft: Option<u64>,
}

/// The node's network, as groups need it. Methods block for some milliseconds.
pub trait Networks: Send + Sync {
    /// Makes a group's network, or what is missing of it.
    ///
    /// # Errors
    /// Why it cannot be made.
    fn prepare(&self, assignment: &Assignment) -> Result<GroupNetwork, NetworkError>;

    /// Brings a group's security groups up to date.
    ///
    /// # Errors
    /// What the kernel refuses.
    fn update(&self, assignment: &Assignment) -> Result<(), NetworkError>;

    /// Removes a group's network.
    ///
    /// # Errors
    /// What the kernel refuses.
    fn release(&self, key: &str) -> Result<(), NetworkError>;

    /// Takes in the networks of groups that live and removes all others.
    ///
    /// # Errors
    /// What the kernel refuses.
    fn recover(&self, live: &[String]) -> Result<(), NetworkError>;

    /// Where a group's containers reach the metadata endpoint. In `host` mode the host's own.
    ///
    /// # Errors
    /// What the kernel refuses.
    fn metadata_listeners(&self, key: &str) -> Result<Vec<std::net::TcpListener>, NetworkError>;

    /// Sets the names that are answered with authority.
    fn names(&self, names: Names);
}

impl Networks for Network {
    fn prepare(&self, assignment: &Assignment) -> Result<GroupNetwork, NetworkError> {
        Network::prepare(self, assignment)
    }

    fn update(&self, assignment: &Assignment) -> Result<(), NetworkError> {
        Network::update(self, assignment)
    }

    fn release(&self, key: &str) -> Result<(), NetworkError> {
        Network::release(self, key)
    }

    fn recover(&self, live: &[String]) -> Result<(), NetworkError> {
        // A living group whose network was lost gets it anew when it is prepared again.
        Network::recover(self, live).map(drop)
    }

    fn metadata_listeners(&self, key: &str) -> Result<Vec<std::net::TcpListener>, NetworkError> {
        let own = Network::metadata_listeners(self, key)?;
        if own.is_empty() {
            return Ok(self.host_metadata_listener()?.into_iter().collect());
        }
        Ok(own)
    }

    fn names(&self, names: Names) {
        Network::names(self, names);
    }
}

/// The agent's connections to the rest.
#[derive(Clone)]
pub struct Connections {
    /// Where images come from.
    pub images: crate::act::image::Sources,
    /// Where logs go.
    pub logs: Arc<dyn LogSink>,
    /// The node's network.
    pub networks: Arc<dyn Networks>,
    /// Where tasks' credentials come from; none = tasks get none.
    pub credentials: Option<Arc<dyn CredentialSource>>,
    /// What is seen of groups.
    pub reports: mpsc::UnboundedSender<Report>,
}

/// What all groups of a node share.
pub struct Node {
    /// How the agent is set up.
    pub config: AgentConfig,
    /// The connections.
    pub connections: Connections,
    /// The host's cgroups.
    pub cgroups: Cgroups,
    /// Forks supervisors.
    pub nursery: Arc<Nursery>,
    /// Pulls images.
    pub puller: Puller,
    /// Unpacked layers.
    pub layers: LayerStore,
    /// Delivers containers' output.
    pub shipper: LogShipper,
    /// The metadata endpoint.
    pub endpoints: Arc<Endpoints>,
    /// Bits of the capabilities that root has here.
    pub capabilities: u64,
    /// The largest hard limit of open files that may be given.
    pub nofile_max: Option<u64>,
    /// Held while a group's network is brought up to date: the network does one at a time anyway.
    pub network_turn: Mutex<()>,
    /// So many grounds are made or removed at once. A thread that only waits keeps half a megabyte of the allocator's.
    pub ground_turns: Semaphore,
}

/// See [`Node::ground_turns`].
pub const GROUNDS_AT_ONCE: usize = 32;

impl Node {
    /// A group's folder.
    pub fn group_dir(&self, id: &str) -> PathBuf {
        self.groups_dir().join(id)
    }

    /// The folder of all groups.
    pub fn groups_dir(&self) -> PathBuf {
        self.config.data_dir.join("groups")
    }

    /// An empty folder that containers have mounted, read-only, over what they are not to see.
    pub fn empty_dir(&self) -> PathBuf {
        self.config.data_dir.join("empty")
    }

    /// The cgroup of all supervisors. No group's id begins like that.
    pub fn supervisors_cgroup(config: &AgentConfig) -> String {
        format!("{}/{SUPERVISORS}", config.cgroup_parent)
    }

    /// A group's cgroup.
    pub fn cgroup(&self, id: &str) -> String {
        format!("{}/{id}", self.config.cgroup_parent)
    }
}

/// See [`Node::supervisors_cgroup`].
pub const SUPERVISORS: &str = "_supervisors";

/// The largest hard limit of open files that may be given: what root without CAP_SYS_RESOURCE has itself.
pub fn nofile_max(capabilities: u64) -> Option<u64> {
    const SYS_RESOURCE: u64 = 1 << 24;
    if capabilities & SYS_RESOURCE != 0 {
        return None;
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through the call.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    (got == 0).then_some(limit.rlim_max)
}
