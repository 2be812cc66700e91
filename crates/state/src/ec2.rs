//! EC2 networking records: VPCs, subnets, security groups.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::{Scope, Tags, TimeMs};

/// An IPv4 network, `a.b.c.d/len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The network's first address.
    pub base: Ipv4Addr,
    /// Length of the prefix, 0–32.
    pub prefix: u8,
}

impl Cidr {
    /// Parses `a.b.c.d/len`; `None` if it is not one or has host bits set.
    pub fn parse(text: &str) -> Option<Cidr> {
        let (base, prefix) = text.split_once('/')?;
        let cidr = Cidr { base: base.parse().ok()?, prefix: prefix.parse().ok().filter(|p| *p <= 32)? };
        (u32::from(cidr.base) & !cidr.mask() == 0).then_some(cidr)
    }

    /// The network mask's bits.
    pub fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Addresses in the network.
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    /// The `n`th address.
    pub fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + n)
    }

    /// Whether the address is in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.base)
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Cidr) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Cidr, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        Cidr::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("not a network: {text}")))
    }
}

/// A VPC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vpc {
    /// Account and region.
    pub scope: Scope,
    /// `vpc-…`.
    pub id: String,
    /// Its network.
    pub cidr: Cidr,
    /// The region's default VPC.
    pub is_default: bool,
    /// `enableDnsHostnames`.
    pub dns_hostnames: bool,
    /// `enableDnsSupport`.
    pub dns_support: bool,
    /// Tags.
    pub tags: Tags,
}

impl Record for Vpc {
    const TABLE: u8 = 11;
    fn key(&self) -> String {
        self.scope.key(&self.id)
    }
}

/// A subnet: a bridge on the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    /// Account and region.
    pub scope: Scope,
    /// `subnet-…`.
    pub id: String,
    /// Its VPC.
    pub vpc_id: String,
    /// Its network. The first four addresses and the last are reserved, as in EC2; the first host is the gateway.
    pub cidr: Cidr,
    /// The availability zone's name.
    pub availability_zone: String,
    /// Its zone's default subnet.
    pub default_for_az: bool,
    /// `MapPublicIpOnLaunch`.
    pub map_public_ip: bool,
    /// Where the search for a free address goes on. Writer: placement.
    pub next_host: u32,
    /// Tags.
    pub tags: Tags,
}

impl Subnet {
    /// The router's address: the first host.
    pub fn gateway(&self) -> Ipv4Addr {
        self.cidr.nth(1)
    }

    /// `arn:aws:ec2:…:subnet/subnet-…`.
    pub fn arn(&self) -> String {
        self.scope.arn("ec2", &format!("subnet/{}", self.id))
    }
}

impl Record for Subnet {
    const TABLE: u8 = 12;
    fn key(&self) -> String {
        self.scope.key(&self.id)
    }
    /// `vpc`: the VPC's id. `id`: the subnet's id.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("vpc", self.vpc_id.clone()), ("id", self.id.clone())]
    }
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Account and region.
    pub scope: Scope,
    /// `sg-…`.
    pub id: String,
    /// Its name, unique in the VPC.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its VPC.
    pub vpc_id: String,
    /// What may come in and go out.
    pub rules: Vec<SecurityRule>,
    /// Tags.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

impl Record for SecurityGroup {
    const TABLE: u8 = 13;
    fn key(&self) -> String {
        self.scope.key(&self.id)
    }
    /// `vpc`: the VPC's id. `id`: the group's id.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("vpc", self.vpc_id.clone()), ("id", self.id.clone())]
    }
}

/// One rule of a security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityRule {
    /// `sgr-…`.
    pub id: String,
    /// Outbound rather than inbound.
    pub egress: bool,
    /// `tcp`, `udp`, `icmp`, a protocol number, or `-1` for all.
    pub protocol: String,
    /// First port (or ICMP type); -1 = all.
    pub from_port: i32,
    /// Last port (or ICMP code); -1 = all.
    pub to_port: i32,
    /// Who.
    pub peer: Peer,
    /// Its description.
    pub description: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: Tags,
}

/// The other side of a security group's rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// IPv4 addresses.
    Ipv4(Cidr),
    /// IPv6 addresses, kept and shown; the data plane is IPv4.
    Ipv6(String),
    /// Members of a security group.
    Group(String),
}
