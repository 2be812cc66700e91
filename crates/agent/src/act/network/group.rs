//! One group's network: what it needs by its mode, made and removed.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use cut::cut;
use state::assignment::Assignment;
use state::group::{ContainerSpec, NetworkBinding, NetworkMode, PortMapping};

use super::firewall::{self, DNS_ADDRESS, Filter, METADATA_ADDRESS};
use super::ports::Reservation;
use super::records::{self, ContainerRecord, GroupRecord};
use super::route::{Link, Mac, Route, Veth};
use super::services::{self, Services, Sockets};
use super::{ContainerNetwork, GroupNetwork, Inner, Network, NetworkError};
use super::{bridge, files, has_services, host_name, internal_domain, netns, nft, ports, sysctl};

const INTERFACE: &str = "eth0";

/// A group that has, or is being given, a network.
pub struct Group {
    /// What it has.
    pub record: GroupRecord,
    /// The node's services in its namespaces.
    pub services: Vec<Services>,
    /// The filter that is applied.
    pub filter: Option<Filter>,
    /// Its host ports, kept from others.
    _ports: Vec<Reservation>,
}

impl Group {
    /// A group of which nothing is made yet but the reservations of its ports.
    pub fn planned(record: GroupRecord, ports: Vec<Reservation>) -> Group {
        Group { record, services: Vec::new(), filter: None, _ports: ports }
    }
}

/// An interface to be made in a namespace.
struct Interface {
    address: Ipv4Addr,
    prefix: u8,
    gateway: Ipv4Addr,
}

impl Network {
    pub(super) fn prepare_group(
        &self,
        inner: &mut Inner,
        a: &Assignment,
    ) -> Result<GroupNetwork, NetworkError> {
        if !inner.groups.contains_key(&a.key) {
            let group = self.plan(inner, a)?;
            let note = (self.group_note(&group.record.id), group.record.clone());
            inner.groups.insert(a.key.clone(), group);
            records::write(&note.0, &note.1)?;
            cut!("agent.network.group-noted");
            self.make(inner, &a.key)?;
        }
        let group = inner.groups.get(&a.key).ok_or_else(|| io::Error::other("the group vanished"))?;
        self.describe(&group.record, a)
    }

    /// Chooses what a group is to have; nothing is made but the reservations of its ports.
    fn plan(&self, inner: &mut Inner, a: &Assignment) -> Result<Group, NetworkError> {
        let mode = a.spec.network_mode;
        if mode == NetworkMode::Awsvpc && a.network.is_none() {
            return Err(NetworkError::Refused("awsvpc: the assignment has no network interface".into()));
        }
        let mut reserved = Vec::new();
        let mut containers = Vec::new();
        for spec in &a.spec.containers {
            let (mut address, mut bindings) = (None, Vec::new());
            match mode {
                NetworkMode::Bridge => {
                    address = Some(self.free_address(inner, &containers)?);
                    for mapping in &spec.port_mappings {
                        let (binding, reservation) = reserve(inner, &containers, spec, mapping)?;
                        bindings.push(binding);
                        reserved.push(reservation);
                    }
                }
                NetworkMode::Host => {
                    let binding = |m: &PortMapping| binding(m, m.container_port);
                    bindings = spec.port_mappings.iter().map(binding).collect();
                }
                NetworkMode::Awsvpc | NetworkMode::None => {}
            }
            containers.push(ContainerRecord { name: spec.name.clone(), address, bindings });
        }
        let (key, id, region) = (a.key.clone(), a.id.clone(), a.region.clone());
        let record = GroupRecord { key, id, mode, region, interface: a.network.clone(), containers };
        Ok(Group::planned(record, reserved))
    }

    /// The next address of the `bridge` mode network that nobody has; addresses come back as late as can be.
    fn free_address(&self, inner: &mut Inner, planned: &[ContainerRecord]) -> Result<Ipv4Addr, NetworkError> {
        let cidr = self.config.bridge_cidr;
        // The network's own address, the gateway and the broadcast address are not for containers.
        let usable = u32::try_from(cidr.size()).unwrap_or(u32::MAX).saturating_sub(3);
        for _ in 0..usable {
            let address = cidr.nth(2 + inner.next_address % usable);
            inner.next_address = (inner.next_address + 1) % usable;
            let records = inner.groups.values().map(|g| &g.record).chain(&inner.leaving);
            let others = records.flat_map(|r| &r.containers);
            if others.chain(planned).all(|c| c.address != Some(address)) {
                return Ok(address);
            }
        }
        Err(NetworkError::Refused(format!("no free address in the bridge network {cidr}")))
    }

    /// Makes what the record of a group taken in names, or what is missing of it.
    pub(super) fn make(&self, inner: &mut Inner, key: &str) -> Result<(), NetworkError> {
        let balancers = inner.balancer_addresses();
        let Some(group) = inner.groups.get_mut(key) else { return Ok(()) };
        let record = group.record.clone();
        if let Some(interface) = &record.interface {
            group.filter = Some(firewall::compile(interface, &balancers).map_err(NetworkError::Refused)?);
        }
        let filter = group.filter.clone();
        if record.mode == NetworkMode::Host {
            return self.host_services(inner, &record);
        }
        let bridge = match self.bridge_of(&record) {
            Some(bridge) => Some((self.bridge(inner, bridge.clone())?, bridge)),
            None => None,
        };
        let mut services = Vec::new();
        for (n, name) in record.namespaces().iter().enumerate() {
            let interface = bridge.as_ref().map(|(link, bridge)| {
                let own = record.interface.as_ref().map(|i| i.attachment.private_ip);
                let address = own.or(record.containers[n].address).unwrap_or(Ipv4Addr::UNSPECIFIED);
                (link, Interface { address, prefix: bridge.cidr.prefix, gateway: bridge.gateway })
            });
            let sockets = self.make_namespace(inner, &record, name, interface, filter.as_ref())?;
            if let Some(sockets) = sockets {
                services.push(sockets.serve(&self.dns, self.view(&record))?);
            }
        }
        if let Some(group) = inner.groups.get_mut(key) {
            group.services = services;
        }
        if record.mode == NetworkMode::Bridge {
            self.apply_host_rules(inner)?;
            cut!("agent.network.ports-opened");
            self.forget_datagrams(&record)?;
        }
        Ok(())
    }

    /// Datagrams that came before follow the rules that are.
    fn forget_datagrams(&self, record: &GroupRecord) -> Result<(), NetworkError> {
        let bindings = record.containers.iter().flat_map(|c| &c.bindings);
        let ports: Vec<u16> = bindings.filter(|b| b.protocol == "udp").map(|b| b.host_port).collect();
        Ok(nft::forget_datagrams(&ports, self.config.bridge_cidr)?)
    }

    /// Makes one namespace with its interface on a bridge.
    fn make_namespace(
        &self,
        inner: &mut Inner,
        record: &GroupRecord,
        name: &str,
        interface: Option<(&Link, Interface)>,
        filter: Option<&Filter>,
    ) -> Result<Option<Sockets>, NetworkError> {
        let path = self.netns_path(name);
        netns::create(&path, || {
            sysctl::set_for_containers()?;
            Route::open()?.set_up(1)
        })?;
        cut!("agent.network.namespace-made");
        if let Some((bridge, _)) = &interface {
            let namespace = File::open(&path)?;
            let mac = match &record.interface {
                Some(i) => parse_mac(&i.attachment.mac)?,
                None => bridge::mac(&[&self.instance, name]),
            };
            let veth = self.veth_name(name);
            inner.route.add_veth(&Veth {
                name: &veth,
                bridge: bridge.index,
                peer: INTERFACE,
                peer_netns: namespace.as_raw_fd(),
                peer_mac: mac,
                mtu: bridge.mtu,
            })?;
            cut!("agent.network.link-made");
            if record.mode == NetworkMode::Bridge {
                inner.route.set_hairpin(&veth)?;
            }
            sysctl::set_if_present(&format!("net/ipv6/conf/{veth}/disable_ipv6"), "1")?;
        }
        let has_services = has_services(record.mode);
        let made = netns::within(&path, || set_up(has_services, interface.map(|(_, i)| i), filter))?;
        Ok(made)
    }

    /// The name of a namespace's interface on the host.
    pub(super) fn veth_name(&self, namespace: &str) -> String {
        let digest: [u8; 4] = bridge::digest(&[namespace]);
        format!("{}{:08x}", self.veth_prefix(), u32::from_be_bytes(digest))
    }

    /// What the names of all our interfaces in namespaces begin with on the host.
    pub(super) fn veth_prefix(&self) -> String {
        let digest: [u8; 2] = bridge::digest(&[&self.instance]);
        format!("rv{:04x}", u16::from_be_bytes(digest))
    }

    /// The services for tasks that share the host's namespace.
    pub(super) fn host_services(&self, inner: &mut Inner, record: &GroupRecord) -> Result<(), NetworkError> {
        if inner.host_services.is_some() {
            return Ok(());
        }
        let lo = inner.route.link("lo")?.ok_or_else(|| io::Error::other("the host has no lo"))?;
        records::write(&self.config.run_dir.join("network/loopback.json"), &METADATA_ADDRESS)?;
        inner.route.add_address(lo.index, METADATA_ADDRESS, 32)?;
        let sockets = services::bind(METADATA_ADDRESS, METADATA_ADDRESS)?;
        inner.host_services = Some(sockets.serve(&self.dns, self.view(record))?);
        self.apply_host_rules(inner)
    }

    /// Applies a group's filter if it changed.
    pub(super) fn filter_group(&self, group: &mut Group, balancers: &[Ipv4Addr]) -> Result<(), NetworkError> {
        let Some(interface) = &group.record.interface else { return Ok(()) };
        let filter = firewall::compile(interface, balancers).map_err(NetworkError::Refused)?;
        if group.filter.as_ref() == Some(&filter) {
            return Ok(());
        }
        let ports = group.services.first().map(|s| s.ports);
        for name in group.record.namespaces() {
            netns::within(&self.netns_path(&name), || firewall::apply(ports, Some(&filter)))?;
        }
        group.filter = Some(filter);
        Ok(())
    }

    /// Takes a group out and stops what serves it; its interfaces and namespaces are still there.
    pub(super) fn take_out(&self, inner: &mut Inner, key: &str) -> Result<Option<GroupRecord>, NetworkError> {
        let Some(group) = inner.groups.remove(key) else { return Ok(None) };
        if group.record.mode == NetworkMode::Bridge {
            let closed = self.apply_host_rules(inner).and_then(|()| self.forget_datagrams(&group.record));
            if let Err(error) = closed {
                inner.groups.insert(key.into(), group);
                return Err(error);
            }
            cut!("agent.network.ports-closed");
        }
        Ok(Some(group.record))
    }

    /// Removes what a record names, and at last the record.
    pub(super) fn remove_record(&self, record: &GroupRecord) -> Result<(), NetworkError> {
        let mut route = Route::open()?;
        for name in record.namespaces() {
            route.delete_link(&self.veth_name(&name))?;
            cut!("agent.network.link-removed");
            netns::remove(&self.netns_path(&name))?;
            cut!("agent.network.namespace-removed");
        }
        records::remove(&self.group_note(&record.id))?;
        cut!("agent.network.released");
        Ok(())
    }

    /// What the containers are to be given.
    fn describe(&self, record: &GroupRecord, a: &Assignment) -> Result<GroupNetwork, NetworkError> {
        let namespaces = record.namespaces();
        let own = record.interface.as_ref().map(|i| i.attachment.private_ip);
        let host = (record.mode == NetworkMode::Host).then(|| self.host_files()).transpose()?;
        let describe = |(n, (spec, container)): (usize, (&ContainerSpec, &ContainerRecord))| {
            let address = own.or(container.address);
            let hostname = address.map(|address| host_name(address, &record.region));
            let namespace = namespaces.get(n).or(namespaces.first());
            let (resolv_conf, hosts) = match &host {
                Some((search, options, hosts)) => {
                    (files::resolv_conf(spec, METADATA_ADDRESS, search) + options, hosts.clone())
                }
                None => {
                    let named = address.zip(spec.hostname.as_deref().or(hostname.as_deref()));
                    let resolv_conf = match has_services(record.mode) {
                        true => files::resolv_conf(spec, DNS_ADDRESS, &internal_domain(&record.region)),
                        false => String::new(),
                    };
                    (resolv_conf, files::hosts(spec, named))
                }
            };
            let netns_path = namespace.map(|name| self.netns_path(name));
            ContainerNetwork {
                netns_path,
                address,
                hostname,
                resolv_conf,
                hosts,
                bindings: container.bindings.clone(),
            }
        };
        let containers = a.spec.containers.iter().zip(&record.containers).enumerate().map(describe).collect();
        Ok(GroupNetwork { containers })
    }

    /// Search domains, options and `hosts` of the host.
    fn host_files(&self) -> io::Result<(String, String, String)> {
        let resolv_conf = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        let (search, options) = files::host_search_and_options(&resolv_conf);
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_else(|_| "127.0.0.1 localhost\n".into());
        Ok((search, options, hosts))
    }
}

/// Sets up a namespace from within. The filter stands before the interface is up.
fn set_up(
    has_services: bool,
    interface: Option<Interface>,
    filter: Option<&Filter>,
) -> io::Result<Option<Sockets>> {
    let mut route = Route::open()?;
    let mut sockets = None;
    if has_services {
        for address in [METADATA_ADDRESS, DNS_ADDRESS] {
            route.add_address(1, address, 32)?;
        }
        sockets = Some(services::bind(METADATA_ADDRESS, DNS_ADDRESS)?);
    }
    let ports = sockets.as_ref().map(Sockets::ports).transpose()?;
    if ports.is_some() || filter.is_some() {
        firewall::apply(ports, filter)?;
        cut!("agent.network.filter-set");
    }
    if let Some(interface) = interface {
        let vanished = || io::Error::other("the interface is not in its namespace");
        let index = route.link(INTERFACE)?.ok_or_else(vanished)?.index;
        route.add_address(index, interface.address, interface.prefix)?;
        route.set_up(index)?;
        route.add_default_route(index, interface.gateway)?;
        cut!("agent.network.interface-up");
    }
    Ok(sockets)
}

fn parse_mac(text: &str) -> Result<Mac, NetworkError> {
    let bad = || NetworkError::Refused(format!("bad hardware address {text}"));
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|b| u8::from_str_radix(b, 16)).collect();
    bytes.map_err(|_| bad())?.try_into().map_err(|_| bad())
}

fn binding(mapping: &PortMapping, host_port: u16) -> NetworkBinding {
    let protocol = if mapping.protocol == "udp" { "udp" } else { "tcp" };
    NetworkBinding {
        bind_ip: "0.0.0.0".into(),
        container_port: mapping.container_port,
        host_port,
        protocol: protocol.into(),
    }
}

fn reserve(
    inner: &mut Inner,
    planned: &[ContainerRecord],
    spec: &ContainerSpec,
    mapping: &PortMapping,
) -> Result<(NetworkBinding, Reservation), NetworkError> {
    let (container, protocol) = (spec.name.clone(), binding(mapping, 0).protocol);
    let Some(port) = mapping.host_port.filter(|p| *p != 0) else {
        return match ports::reserve_dynamic(&protocol, &mut inner.next_port) {
            Ok((port, reservation)) => Ok((binding(mapping, port), reservation)),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                Err(NetworkError::PortInUse { container, protocol, port: 0 })
            }
            Err(e) => Err(e.into()),
        };
    };
    match ports::reserve(&protocol, port) {
        Ok(reservation) => Ok((binding(mapping, port), reservation)),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            let others = inner.groups.values().flat_map(|g| &g.record.containers).chain(planned);
            let is_ours = |b: &NetworkBinding| b.host_port == port && b.protocol == protocol;
            Err(match others.flat_map(|c| &c.bindings).any(is_ours) {
                true => NetworkError::PortAllocated { container, port },
                false => NetworkError::PortInUse { container, protocol, port },
            })
        }
        Err(e) => Err(e.into()),
    }
}
