//! The node's network: namespaces, bridges, addresses, host ports, security groups and names, made with nothing but
//! the kernel (rtnetlink, nf_tables, namespaces).
//!
//! Everything here blocks, mostly for some milliseconds: call it from a thread that may. Every step may be repeated,
//! and whatever a crash leaves is noted in the run folder before it is made, so [`Network::recover`] and
//! [`Network::teardown_all`] find it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cut::cut;
use state::assignment::{Assignment, Names, NetworkAssignment};
use state::ec2::Cidr;
use state::group::{NetworkBinding, NetworkMode};

use super::dns::{self, DnsServer, View};

mod bridge;
mod files;
mod firewall;
mod group;
mod host_rules;
mod netns;
mod nft;
mod ports;
mod records;
mod recovery;
mod route;
mod services;
mod sysctl;

use records::BridgeRecord;
use route::{Link, Route};

pub use files::{host_name, internal_domain};
pub use firewall::{DNS_ADDRESS, METADATA_ADDRESS};
pub use netns::current_namespace;

/// An interface that passes nothing on after this long is left to come up by itself.
const LINK_PATIENCE: Duration = Duration::from_secs(2);

/// How a node's network is made.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Where namespaces are kept and notes are written: `/run/roadstead`. Two Roadsteads on one machine need two.
    pub run_dir: PathBuf,
    /// The network of `bridge` mode.
    pub bridge_cidr: Cidr,
    /// The host's `resolv.conf`: whom queries for names that are not ours are passed to.
    pub resolv_conf: PathBuf,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig {
            run_dir: "/run/roadstead".into(),
            bridge_cidr: Cidr { base: Ipv4Addr::new(172, 29, 0, 0), prefix: 16 },
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

impl NetworkConfig {
    /// Names of the bridges that this Roadstead has on the machine.
    ///
    /// # Errors
    /// Those of reading its notes.
    pub fn bridges(&self) -> io::Result<Vec<String>> {
        let notes = match self.run_dir.join("network/bridges").read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            notes => notes?,
        };
        let name = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(notes.collect::<io::Result<Vec<_>>>()?.into_iter().filter_map(|note| name(note.path())).collect())
    }
}

/// Why a network could not be made.
#[derive(Debug)]
pub enum NetworkError {
    /// Another container of this node has the host port.
    PortAllocated {
        /// The container that asked for it.
        container: String,
        /// The port.
        port: u16,
    },
    /// A program outside has the host port, or (port 0) none of the dynamic range is free.
    PortInUse {
        /// The container that asked for it.
        container: String,
        /// `tcp` or `udp`.
        protocol: String,
        /// The port.
        port: u16,
    },
    /// What was asked for cannot be had.
    Refused(String),
    /// The kernel refused.
    Kernel(io::Error),
}

impl NetworkError {
    /// The reason in ECS's words: that of the container for a port, that of the task for the rest.
    pub fn reason(&self) -> String {
        let port = |container: &str, why: String| {
            format!(
                "CannotStartContainerError: Error response from daemon: driver failed programming external \
                 connectivity on endpoint {container}: {why}"
            )
        };
        match self {
            NetworkError::PortAllocated { container, port: number, .. } => {
                port(container, format!("Bind for 0.0.0.0:{number} failed: port is already allocated"))
            }
            NetworkError::PortInUse { container, protocol, port: number } => {
                port(container, format!("listen {protocol}4 0.0.0.0:{number}: bind: address already in use"))
            }
            NetworkError::Refused(why) => format!("ResourceInitializationError: {why}"),
            NetworkError::Kernel(e) => {
                format!("ResourceInitializationError: failed to set up the network: {e}")
            }
        }
    }

    /// The container that cannot be started, if the failure is one container's.
    pub fn container(&self) -> Option<&str> {
        match self {
            NetworkError::PortAllocated { container, .. } | NetworkError::PortInUse { container, .. } => {
                Some(container)
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for NetworkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason())
    }
}

impl std::error::Error for NetworkError {}

impl From<io::Error> for NetworkError {
    fn from(e: io::Error) -> Self {
        NetworkError::Kernel(e)
    }
}

/// A group's network, ready for its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupNetwork {
    /// One per container of the spec, in its order.
    pub containers: Vec<ContainerNetwork>,
}

/// One container's part of a group's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerNetwork {
    /// The namespace to join; `None` = the host's.
    pub netns_path: Option<PathBuf>,
    /// Its IPv4 address, if it has an interface.
    pub address: Option<Ipv4Addr>,
    /// The host name unless the definition names one; `None` = the host's.
    pub hostname: Option<String>,
    /// Content of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Content of `/etc/hosts`.
    pub hosts: String,
    /// Host ports that lead to it.
    pub bindings: Vec<NetworkBinding>,
}

/// A load balancer's own address in a subnet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostAddress {
    /// The subnet.
    pub subnet_id: String,
    /// Its network.
    pub subnet_cidr: Cidr,
    /// The network of its VPC.
    pub vpc_cidr: Cidr,
    /// The router's address in the subnet.
    pub gateway: Ipv4Addr,
    /// The address.
    pub address: Ipv4Addr,
}

/// The network of one node.
pub struct Network {
    config: NetworkConfig,
    /// Name of our packet filter table, and what names of interfaces are derived from.
    instance: String,
    dns: DnsServer,
    inner: Mutex<Inner>,
}

/// What has been made, by key or name.
struct Inner {
    route: Route,
    groups: BTreeMap<String, group::Group>,
    /// Groups being released: their addresses are not free yet.
    leaving: Vec<records::GroupRecord>,
    bridges: BTreeMap<String, BridgeRecord>,
    balancers: Vec<HostAddress>,
    /// The services for tasks in `host` mode, once there was one.
    host_services: Option<services::Services>,
    /// What the names were that are noted.
    owned_names: Vec<String>,
    next_port: u16,
    next_address: u32,
}

impl Network {
    /// Opens the network of this node; nothing is made yet. Call [`Network::recover`] before the first group.
    pub fn new(config: NetworkConfig, runtime: tokio::runtime::Handle) -> Result<Network, NetworkError> {
        for folder in ["netns", "network", "network/groups", "network/bridges"] {
            std::fs::create_dir_all(config.run_dir.join(folder))?;
        }
        let owned_names: Vec<String> = records::read(&names_note(&config))?.unwrap_or_default();
        let inner = Inner {
            route: Route::open()?,
            groups: BTreeMap::new(),
            leaving: Vec::new(),
            bridges: BTreeMap::new(),
            balancers: Vec::new(),
            host_services: None,
            owned_names: owned_names.clone(),
            next_port: 0,
            next_address: 0,
        };
        let dns = DnsServer::new(runtime, config.resolv_conf.clone(), owned_names);
        Ok(Network { instance: instance(&config), config, dns, inner: Mutex::new(inner) })
    }

    /// Makes a group's network, or what is missing of it. On failure nothing of it is left.
    pub fn prepare(&self, assignment: &Assignment) -> Result<GroupNetwork, NetworkError> {
        // The lock is let go of before anything is released.
        let made = self.prepare_group(&mut self.lock(), assignment);
        let key = &assignment.key;
        if made.is_err() {
            if let Err(error) = self.release(key) {
                tracing::warn!(key, %error, "left over until the group is released");
            }
        } else if let Err(error) = self.wait_until_reached(key) {
            tracing::warn!(key, %error, "whether the interface passes packets on is not known");
        }
        made
    }

    /// Waits, without the lock, until a group's interfaces and their bridge pass packets on. That takes a moment, on a
    /// machine that makes many at once up to some hundred milliseconds.
    fn wait_until_reached(&self, key: &str) -> io::Result<()> {
        let Some(record) = self.lock().groups.get(key).map(|group| group.record.clone()) else {
            return Ok(());
        };
        let Some(bridge) = self.bridge_of(&record) else { return Ok(()) };
        let (mut route, until) = (Route::open()?, Instant::now() + LINK_PATIENCE);
        let names = record.namespaces();
        for name in names.iter().map(|name| self.veth_name(name)).chain([bridge.name]) {
            if !route.operates_by(&name, until)? {
                tracing::warn!(key, interface = name, "the interface does not pass packets on yet");
            }
        }
        Ok(())
    }

    /// Brings the rules of a group's interface in line with its assignment.
    pub fn update(&self, assignment: &Assignment) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let balancers = inner.balancer_addresses();
        let (Some(group), Some(interface)) = (inner.groups.get_mut(&assignment.key), &assignment.network)
        else {
            return Ok(());
        };
        if group.record.interface.as_ref() == Some(interface) {
            return Ok(());
        }
        group.record.interface = Some(interface.clone());
        records::write(&self.group_note(&group.record.id), &group.record)?;
        self.filter_group(group, &balancers)
    }

    /// Removes all that a group has. One that has nothing is no error; one that failed can be released again.
    pub fn release(&self, key: &str) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let Some(record) = self.take_out(&mut inner, key)? else { return Ok(()) };
        inner.leaving.push(record.clone());
        drop(inner);
        // The kernel takes its time over an interface (some 25 ms): many groups may leave at once.
        let removed = self.remove_record(&record);
        let mut inner = self.lock();
        inner.leaving.retain(|r| r.key != key);
        if removed.is_err() {
            inner.groups.insert(key.into(), group::Group::planned(record, Vec::new()));
        }
        removed
    }

    /// Sets the names that are answered with authority.
    pub fn names(&self, names: Names) {
        let owned = dns::owned(&names);
        self.dns.set_names(names);
        let mut inner = self.lock();
        if inner.owned_names != owned {
            // Worth no failure: without the note, a restarted agent passes these names on until it knows them again.
            if let Err(error) = records::write(&names_note(&self.config), &owned) {
                tracing::warn!(%error, "the names answered with authority could not be noted");
            }
            inner.owned_names = owned;
        }
    }

    /// The listeners of the metadata endpoint in a group's namespaces: one per namespace, in the containers' order.
    /// Containers reach them at 169.254.170.2 port 80. None in `host` mode (see [`Network::host_metadata_listener`])
    /// and in mode `none`.
    pub fn metadata_listeners(&self, key: &str) -> Result<Vec<TcpListener>, NetworkError> {
        let inner = self.lock();
        let services = inner.groups.get(key).map(|g| g.services.as_slice()).unwrap_or_default();
        Ok(services.iter().map(services::Services::metadata_listener).collect::<io::Result<_>>()?)
    }

    /// The one listener for all tasks in `host` mode, at 169.254.170.2 port 80 of the host; `None` until there was one.
    pub fn host_metadata_listener(&self) -> Result<Option<TcpListener>, NetworkError> {
        let inner = self.lock();
        Ok(inner.host_services.as_ref().map(services::Services::metadata_listener).transpose()?)
    }

    /// Puts exactly these load balancers' addresses on their subnets' bridges.
    pub fn host_addresses(&self, wanted: &[HostAddress]) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        if inner.balancers != wanted {
            records::write(&self.balancers_note(), &wanted)?;
            cut!("agent.network.balancers-noted");
            inner.balancers = wanted.to_vec();
        }
        self.place_balancers(&mut inner)?;
        cut!("agent.network.balancers-placed");
        let balancers = inner.balancer_addresses();
        for group in inner.groups.values_mut() {
            self.filter_group(group, &balancers)?;
        }
        self.apply_host_rules(&inner)
    }

    /// Makes good what others may have undone on the host (a firewall reloaded, Docker started).
    pub fn refresh(&self) -> Result<(), NetworkError> {
        let inner = self.lock();
        if inner.bridges.is_empty() && inner.host_services.is_none() {
            return Ok(());
        }
        self.apply_host_rules(&inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn netns_path(&self, name: &str) -> PathBuf {
        self.config.run_dir.join("netns").join(name)
    }

    fn group_note(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("network/groups").join(format!("{id}.json"))
    }

    fn balancers_note(&self) -> PathBuf {
        self.config.run_dir.join("network/balancers.json")
    }

    fn place_balancers(&self, inner: &mut Inner) -> Result<(), NetworkError> {
        for balancer in inner.balancers.clone() {
            let record = self.subnet_bridge(
                &balancer.subnet_id,
                balancer.subnet_cidr,
                balancer.vpc_cidr,
                balancer.gateway,
            );
            self.bridge(inner, record)?;
        }
        for record in inner.bridges.values() {
            let Some(link) = inner.route.link(&record.name)? else { continue };
            let here = inner.balancers.iter().filter(|b| Some(&b.subnet_id) == record.subnet_id.as_ref());
            let addresses: Vec<_> = here.map(|b| b.address).collect();
            bridge::set_addresses(&mut inner.route, record, link.index, &addresses)?;
        }
        Ok(())
    }

    fn subnet_bridge(&self, subnet_id: &str, cidr: Cidr, vpc_cidr: Cidr, gateway: Ipv4Addr) -> BridgeRecord {
        let name = bridge::name(&self.instance, subnet_id);
        BridgeRecord { name, subnet_id: Some(subnet_id.into()), cidr, vpc_cidr, gateway }
    }

    fn interface_bridge(&self, interface: &NetworkAssignment) -> BridgeRecord {
        let subnet = &interface.attachment.subnet_id;
        self.subnet_bridge(subnet, interface.subnet_cidr, interface.vpc_cidr, interface.gateway)
    }

    fn container_bridge(&self) -> BridgeRecord {
        let name = match self.instance.as_str() {
            DEFAULT_INSTANCE => "rs-bridge".into(),
            other => bridge::name(other, "bridge"),
        };
        let cidr = self.config.bridge_cidr;
        BridgeRecord { name, subnet_id: None, cidr, vpc_cidr: cidr, gateway: cidr.nth(1) }
    }

    /// What a group's interfaces are on.
    fn bridge_of(&self, record: &records::GroupRecord) -> Option<BridgeRecord> {
        match record.mode {
            NetworkMode::Awsvpc => record.interface.as_ref().map(|i| self.interface_bridge(i)),
            NetworkMode::Bridge => Some(self.container_bridge()),
            NetworkMode::Host | NetworkMode::None => None,
        }
    }

    /// Makes a bridge unless it is there, and lets the host pass packets on.
    fn bridge(&self, inner: &mut Inner, record: BridgeRecord) -> Result<Link, NetworkError> {
        if inner.bridges.get(&record.name) == Some(&record)
            && let Some(link) = inner.route.link(&record.name)?
        {
            return Ok(link);
        }
        self.make_room(inner, &record)?;
        records::write(&self.bridge_note(&record.name), &record)?;
        cut!("agent.network.bridge-noted");
        let mtu = bridge::mtu(&mut inner.route)?;
        let link = bridge::make(&mut inner.route, &record, mtu)?;
        cut!("agent.network.bridge-made");
        inner.bridges.insert(record.name.clone(), record);
        self.apply_host_rules(inner)?;
        Ok(link)
    }

    /// Removes bridges that nothing is on any more and whose addresses are another's now: a subnet that was deleted, a
    /// VPC that was made anew. Others stay for the next task.
    fn make_room(&self, inner: &mut Inner, wanted: &BridgeRecord) -> io::Result<()> {
        let used = self.used_bridges(inner);
        let in_the_way = |bridge: &&BridgeRecord| {
            bridge.name != wanted.name && bridge.cidr.overlaps(wanted.cidr) && !used.contains(&bridge.name)
        };
        let names: Vec<String> = inner.bridges.values().filter(in_the_way).map(|b| b.name.clone()).collect();
        for name in names {
            inner.route.delete_link(&name)?;
            records::remove(&self.bridge_note(&name))?;
            inner.bridges.remove(&name);
        }
        Ok(())
    }

    /// Bridges that a group or a load balancer is on.
    fn used_bridges(&self, inner: &Inner) -> BTreeSet<String> {
        let groups = inner.groups.values().map(|g| &g.record).chain(&inner.leaving);
        let balancers = inner.balancers.iter();
        let of_balancers =
            balancers.map(|b| self.subnet_bridge(&b.subnet_id, b.subnet_cidr, b.vpc_cidr, b.gateway).name);
        groups.filter_map(|record| Some(self.bridge_of(record)?.name)).chain(of_balancers).collect()
    }

    fn bridge_note(&self, name: &str) -> PathBuf {
        self.config.run_dir.join(format!("network/bridges/{name}.json"))
    }

    fn sysctl_note(&self) -> PathBuf {
        self.config.run_dir.join("network/sysctls.json")
    }

    fn apply_host_rules(&self, inner: &Inner) -> Result<(), NetworkError> {
        let containers = inner.groups.values().flat_map(|g| &g.record.containers);
        let port = |c: &records::ContainerRecord, b: &NetworkBinding| {
            Some(host_rules::HostPort {
                protocol: ports::protocol_number(b),
                host_port: b.host_port,
                address: c.address?,
                container_port: b.container_port,
            })
        };
        let rules = host_rules::HostRules {
            bridges: inner.bridges.values().cloned().collect(),
            ports: containers.flat_map(|c| c.bindings.iter().filter_map(|b| port(c, b))).collect(),
            balancers: inner.balancer_addresses(),
            services: inner.host_services.as_ref().map(|s| s.ports),
        };
        if !rules.bridges.is_empty() {
            sysctl::change(&self.sysctl_note(), "net/ipv4/ip_forward", "1")?;
        }
        rules.apply(&self.instance)?;
        cut!("agent.network.rules-set");
        host_rules::open_foreign_chains(&self.instance)?;
        Ok(())
    }

    fn view(&self, record: &records::GroupRecord) -> View {
        View {
            vpc_id: record.interface.as_ref().map(|i| i.vpc_id.clone()),
            vpc_cidr: record.interface.as_ref().map(|i| i.vpc_cidr),
            region: record.region.clone(),
        }
    }
}

impl Inner {
    fn balancer_addresses(&self) -> Vec<Ipv4Addr> {
        self.balancers.iter().map(|b| b.address).collect()
    }
}

const DEFAULT_INSTANCE: &str = "roadstead";

fn names_note(config: &NetworkConfig) -> PathBuf {
    config.run_dir.join("network/names.json")
}

/// Two Roadsteads on one machine are told apart by their run folders.
fn instance(config: &NetworkConfig) -> String {
    if config.run_dir == NetworkConfig::default().run_dir {
        return DEFAULT_INSTANCE.into();
    }
    let digest = bridge::digest::<4>(&[&config.run_dir.to_string_lossy()]);
    format!("{DEFAULT_INSTANCE}-{:08x}", u32::from_be_bytes(digest))
}

/// Whether a group's containers reach the node's services in their namespaces.
fn has_services(mode: NetworkMode) -> bool {
    matches!(mode, NetworkMode::Awsvpc | NetworkMode::Bridge)
}
