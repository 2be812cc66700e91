//! The narrow protocol between server and agent: assignments and names down, observations up.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::ec2::{Cidr, Peer};
use crate::group::{Attachment, GroupSpec, Observed, StopCause};

/// One group placed on the agent's node: all that the agent may know of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The group's record key: reports name it.
    pub key: String,
    /// The task's id (32 hexadecimal digits).
    pub id: String,
    /// The task's ARN.
    pub task_arn: String,
    /// The account that owns it.
    pub account: String,
    /// Its region.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
    /// The service's name, if one owns it.
    pub service: Option<String>,
    /// The tags of the task, for the metadata endpoint.
    #[serde(default)]
    pub tags: crate::Tags,
    /// `FARGATE` or `EC2`.
    pub launch_type: String,
    /// The availability zone shown to it.
    pub availability_zone: String,
    /// What to run.
    pub spec: Arc<GroupSpec>,
    /// What is wanted.
    pub desired: AgentDesired,
    /// Its own network interface, if it has one.
    pub network: Option<NetworkAssignment>,
    /// What the server last knew of it: names and API ids of its containers, and what was reported.
    pub observed: Observed,
    /// When the group was created.
    pub created_at_ms: TimeMs,
}

/// What is wanted of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentDesired {
    /// Run it.
    Run,
    /// Stop it. Sent only when its targets are drained: SIGTERM may go out at once.
    Stop(StopCause),
}

/// A group's network interface and what guards it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAssignment {
    /// The interface.
    pub attachment: Attachment,
    /// The subnet's network.
    pub subnet_cidr: Cidr,
    /// `vpc-…`: whose private names it resolves.
    pub vpc_id: String,
    /// The VPC's network.
    pub vpc_cidr: Cidr,
    /// The router's address in the subnet.
    pub gateway: Ipv4Addr,
    /// What may come in and go out, with groups resolved to their members' addresses.
    pub firewall: Vec<FirewallRule>,
}

/// A security group's rule for one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallRule {
    /// Outbound rather than inbound.
    pub egress: bool,
    /// `tcp`, `udp`, `icmp`, a number, or `-1`.
    pub protocol: String,
    /// First port; -1 = all.
    pub from_port: i32,
    /// Last port; -1 = all.
    pub to_port: i32,
    /// Who: an address range, or the group whose members are in `members`.
    pub peer: Peer,
    /// Addresses of the peer group's members.
    pub members: Vec<Ipv4Addr>,
}

/// What an agent tells of one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The group's record key.
    pub key: String,
    /// All that it saw, replacing what it told before.
    pub observed: Observed,
}

/// All names that the agent's DNS server answers with authority.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Zones: a name below one of these that has no record does not exist.
    pub zones: Vec<String>,
    /// Records, sorted by name.
    pub records: Vec<NameRecord>,
}

/// One DNS record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameRecord {
    /// Lower case, no trailing dot.
    pub name: String,
    /// Time to live, seconds.
    pub ttl_s: u32,
    /// The VPC that sees it; `None` = all.
    pub vpc_id: Option<String>,
    /// What it says.
    pub data: NameData,
}

/// What a DNS record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameData {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// Priority, weight, port, target.
    Srv(u16, u16, u16, String),
    /// Another name.
    Cname(String),
}
