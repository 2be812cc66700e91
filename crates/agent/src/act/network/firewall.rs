//! A task's security groups as packet filter rules in its own namespace, and what leads to the node's services there.
//!
//! What comes in is dropped unless a rule permits it; what goes out likewise; answers to permitted connections pass.
//! Load balancers stand on the host, which may reach a task from its subnet's gateway address as well as from a
//! balancer's own: where a rule permits a balancer of this node, it permits the gateway.

use std::io;
use std::net::Ipv4Addr;

use state::assignment::{FirewallRule, NetworkAssignment};
use state::ec2::{Cidr, Peer};

use super::nft::{Batch, ChainKind, FAMILY_IPV4, Hook, Rule, Verdict};

/// The table in each task's namespace.
const TABLE: &str = "roadstead";

/// The address of the metadata endpoint.
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
/// The address of the name server.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

/// Ports on which the node's services listen in a namespace. They are not those that clients use (80 and 53): a
/// listener there would keep the containers from binding the same ports on all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServicePorts {
    /// The metadata endpoint's, if it is served here.
    pub metadata: Option<u16>,
    /// The name server's, for datagrams.
    pub dns_udp: u16,
    /// The name server's, for streams.
    pub dns_tcp: u16,
}

/// The filter of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The only source that packets may leave with.
    pub address: Ipv4Addr,
    /// What may pass.
    pub permits: Vec<Permit>,
}

/// Packets that may open a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Outbound rather than inbound.
    pub egress: bool,
    /// What protocol, and which ports or types.
    pub traffic: Traffic,
    /// Whom with.
    pub peers: Peers,
}

/// A protocol's part of a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// All.
    All,
    /// All of an IP protocol.
    Protocol(u8),
    /// Destination ports of TCP or UDP.
    Ports(u8, u16, u16),
    /// An ICMP type and, if given, a code.
    Icmp(u8, Option<u8>),
}

/// The other side of a permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// A network.
    Network(Cidr),
    /// Single addresses, sorted.
    Addresses(Vec<Ipv4Addr>),
}

/// The filter that an interface's security groups ask for. `balancers`: addresses of this node's load balancers.
pub fn compile(interface: &NetworkAssignment, balancers: &[Ipv4Addr]) -> Result<Filter, String> {
    let mut permits = Vec::new();
    for rule in &interface.firewall {
        let Some(traffic) = traffic(rule)? else { continue };
        let peers = peers(rule, interface.gateway, balancers);
        permits.extend(peers.into_iter().map(|peers| Permit { egress: rule.egress, traffic, peers }));
    }
    Ok(Filter { address: interface.attachment.private_ip, permits })
}

/// None: a rule that no IPv4 packet can match.
fn peers(rule: &FirewallRule, gateway: Ipv4Addr, balancers: &[Ipv4Addr]) -> Vec<Peers> {
    match &rule.peer {
        Peer::Ipv4(cidr) => {
            let mut peers = vec![Peers::Network(*cidr)];
            if balancers.iter().any(|b| cidr.contains(*b)) && !cidr.contains(gateway) {
                peers.push(Peers::Addresses(vec![gateway]));
            }
            peers
        }
        Peer::Ipv6(_) => Vec::new(),
        Peer::Group(_) => {
            let mut members = rule.members.clone();
            if members.iter().any(|m| balancers.contains(m)) {
                members.push(gateway);
            }
            if members.is_empty() { Vec::new() } else { vec![Peers::Addresses(sorted(members))] }
        }
    }
}

fn sorted(mut addresses: Vec<Ipv4Addr>) -> Vec<Ipv4Addr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// `None`: a protocol that IPv4 does not have.
fn traffic(rule: &FirewallRule) -> Result<Option<Traffic>, String> {
    const ICMP: u8 = libc::IPPROTO_ICMP as u8;
    const TCP: u8 = libc::IPPROTO_TCP as u8;
    const UDP: u8 = libc::IPPROTO_UDP as u8;
    let number = match rule.protocol.as_str() {
        "-1" | "all" => return Ok(Some(Traffic::All)),
        "tcp" => TCP,
        "udp" => UDP,
        "icmp" => ICMP,
        "icmpv6" | "58" => return Ok(None),
        other => other.parse().map_err(|_| format!("security group rule: unknown protocol {other}"))?,
    };
    let unknown = || format!("security group rule: bad range {}-{}", rule.from_port, rule.to_port);
    let byte = |n: i32| u8::try_from(n).map_err(|_| unknown());
    let port = |n: i32| u16::try_from(n).map_err(|_| unknown());
    Ok(Some(match number {
        ICMP if rule.from_port >= 0 => Traffic::Icmp(
            byte(rule.from_port)?,
            if rule.to_port < 0 { None } else { Some(byte(rule.to_port)?) },
        ),
        TCP | UDP if rule.from_port >= 0 => {
            // `to_port` -1 with a first port stands for the highest.
            let last = if rule.to_port < 0 { u16::MAX } else { port(rule.to_port)? };
            Traffic::Ports(number, port(rule.from_port)?, last)
        }
        _ => Traffic::Protocol(number),
    }))
}

/// Replaces all our rules in the calling thread's namespace, at once. No filter: everything passes.
pub fn apply(services: Option<ServicePorts>, filter: Option<&Filter>) -> io::Result<()> {
    let mut batch = Batch::new(FAMILY_IPV4, TABLE);
    batch.table();
    if services.is_some() {
        batch.base_chain("services", ChainKind::Nat, Hook::Output, -100, false);
    }
    if filter.is_some() {
        batch.base_chain("ingress", ChainKind::Filter, Hook::Input, 0, true);
        batch.base_chain("egress", ChainKind::Filter, Hook::Output, 0, true);
    }
    batch.flush();
    if let Some(ports) = services {
        lead_to_services(&mut batch, "services", METADATA_ADDRESS, DNS_ADDRESS, ports);
    }
    if let Some(filter) = filter {
        fill_filter(&mut batch, filter);
    }
    batch.commit()
}

/// Rules that lead the well-known ports to those that the node's services listen on.
pub fn lead_to_services(
    batch: &mut Batch,
    chain: &str,
    metadata: Ipv4Addr,
    dns: Ipv4Addr,
    ports: ServicePorts,
) {
    const TCP: u8 = libc::IPPROTO_TCP as u8;
    const UDP: u8 = libc::IPPROTO_UDP as u8;
    let mut lead = |to, protocol, port, listens| {
        let rule = Rule::new().destination_address(to).protocol(protocol).port(port, port);
        batch.rule(chain, &rule.translate_to(to, listens));
    };
    if let Some(port) = ports.metadata {
        lead(metadata, TCP, 80, port);
    }
    lead(dns, UDP, 53, ports.dns_udp);
    lead(dns, TCP, 53, ports.dns_tcp);
}

fn fill_filter(batch: &mut Batch, filter: &Filter) {
    batch.rule("ingress", &Rule::new().incoming("lo").verdict(Verdict::Accept));
    batch.rule("egress", &Rule::new().outgoing("lo").verdict(Verdict::Accept));
    // EC2 checks the source of what an interface sends.
    let own = Cidr { base: filter.address, prefix: 32 };
    batch.rule("egress", &Rule::new().not_source(own).verdict(Verdict::Drop));
    for chain in ["ingress", "egress"] {
        batch.rule(chain, &Rule::new().known_connection().verdict(Verdict::Accept));
    }
    for permit in &filter.permits {
        let rule = match &permit.peers {
            Peers::Network(cidr) if permit.egress => Rule::new().destination(*cidr),
            Peers::Network(cidr) => Rule::new().source(*cidr),
            Peers::Addresses(addresses) => {
                let set = batch.address_set(addresses);
                if permit.egress { Rule::new().destination_in(set) } else { Rule::new().source_in(set) }
            }
        };
        let rule = match permit.traffic {
            Traffic::All => rule,
            Traffic::Protocol(number) => rule.protocol(number),
            Traffic::Ports(number, first, last) => rule.protocol(number).port(first, last),
            Traffic::Icmp(kind, code) => {
                let rule = rule.protocol(libc::IPPROTO_ICMP as u8).icmp_type(kind);
                code.into_iter().fold(rule, Rule::icmp_code)
            }
        };
        batch.rule(if permit.egress { "egress" } else { "ingress" }, &rule.verdict(Verdict::Accept));
    }
}

#[cfg(test)]
mod tests {
    use state::group::Attachment;

    use super::*;

    fn rule(protocol: &str, from_port: i32, to_port: i32, peer: Peer, members: &[&str]) -> FirewallRule {
        let members = addresses(members);
        FirewallRule { egress: false, protocol: protocol.into(), from_port, to_port, peer, members }
    }

    fn compiled(rule: FirewallRule, balancers: &[&str]) -> Result<Vec<Permit>, String> {
        let interface = NetworkAssignment {
            attachment: Attachment {
                id: "a".into(),
                eni_id: "eni-1".into(),
                subnet_id: "subnet-1".into(),
                availability_zone: "us-east-1a".into(),
                private_ip: Ipv4Addr::new(172, 31, 0, 10),
                mac: "02:00:00:00:00:01".into(),
            },
            subnet_cidr: network("172.31.0.0/20"),
            vpc_id: "vpc-1".into(),
            vpc_cidr: network("172.31.0.0/16"),
            gateway: Ipv4Addr::new(172, 31, 0, 1),
            firewall: vec![rule],
        };
        compile(&interface, &addresses(balancers)).map(|filter| filter.permits)
    }

    fn addresses(texts: &[&str]) -> Vec<Ipv4Addr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn network(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    fn group() -> Peer {
        Peer::Group("sg-1".into())
    }

    #[test]
    fn protocols_and_ranges_are_read_as_ec2_writes_them() {
        let everyone = Peer::Ipv4(network("0.0.0.0/0"));
        let traffic = |protocol, from, to| {
            compiled(rule(protocol, from, to, everyone.clone(), &[]), &[])
                .map(|permits| permits.first().map(|p| p.traffic))
        };
        assert_eq!(traffic("-1", -1, -1), Ok(Some(Traffic::All)));
        assert_eq!(traffic("-1", 0, 0), Ok(Some(Traffic::All)), "ports of all protocols mean nothing");
        assert_eq!(traffic("tcp", 80, 90), Ok(Some(Traffic::Ports(6, 80, 90))));
        assert_eq!(traffic("17", 53, 53), Ok(Some(Traffic::Ports(17, 53, 53))));
        assert_eq!(traffic("tcp", -1, -1), Ok(Some(Traffic::Protocol(6))));
        assert_eq!(traffic("icmp", 8, -1), Ok(Some(Traffic::Icmp(8, None))));
        assert_eq!(traffic("icmp", 3, 4), Ok(Some(Traffic::Icmp(3, Some(4)))));
        assert_eq!(traffic("icmp", -1, -1), Ok(Some(Traffic::Protocol(1))));
        assert_eq!(traffic("50", -1, -1), Ok(Some(Traffic::Protocol(50))));
        assert_eq!(traffic("icmpv6", -1, -1), Ok(None), "no IPv4 packet is that");
        assert_eq!(traffic("tpc", 1, 1), Err("security group rule: unknown protocol tpc".into()));
        assert_eq!(traffic("tcp", 1, 70000), Err("security group rule: bad range 1-70000".into()));
    }

    #[test]
    fn a_balancer_among_the_peers_stands_for_the_gateway() {
        let peers = |peer: Peer, members: &[&str]| -> Vec<Peers> {
            let permits = compiled(rule("-1", -1, -1, peer, members), &["172.31.0.5"]).unwrap();
            permits.into_iter().map(|p| p.peers).collect()
        };
        let with_gateway = Peers::Addresses(addresses(&["172.31.0.1", "172.31.0.5", "172.31.0.9"]));
        assert_eq!(peers(group(), &["172.31.0.9", "172.31.0.5", "172.31.0.9"]), [with_gateway]);
        assert_eq!(peers(group(), &["172.31.0.9"]), [Peers::Addresses(addresses(&["172.31.0.9"]))]);
        assert_eq!(peers(group(), &[]), [], "nobody");
        let balancer_only = Peer::Ipv4(network("172.31.0.5/32"));
        let gateway = Peers::Addresses(addresses(&["172.31.0.1"]));
        assert_eq!(peers(balancer_only, &[]), [Peers::Network(network("172.31.0.5/32")), gateway]);
        let subnet = network("172.31.0.0/20");
        assert_eq!(peers(Peer::Ipv4(subnet), &[]), [Peers::Network(subnet)], "the gateway is in it anyway");
        assert_eq!(peers(Peer::Ipv6("::/0".into()), &[]), []);
    }
}
