//! Machines that run groups, and what is taken of each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest;
use crate::group::Demand;
use crate::record::Record;
use crate::{Scope, TimeMs};

/// A host with an agent. Written when its agent registers; the field that changes afterwards names its writer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its id: 32 hexadecimal digits, kept in the data directory.
    pub id: String,
    /// The host's name.
    pub hostname: String,
    /// What placement may give away. CPU may exceed the cores (overcommitment); memory may not.
    pub capacity: Capacity,
    /// CPU units of the real cores: no single group may ask for more.
    pub cpu_physical_units: u32,
    /// The availability zone it stands in for.
    pub availability_zone: String,
    /// `X86_64` or `ARM64`.
    pub cpu_architecture: String,
    /// Its address towards others, for instance targets.
    pub address: std::net::IpAddr,
    /// Since when its agent is not heard; `None` while it is. Writer: who holds the connection to the agent, by
    /// `plan::node_loss`.
    #[serde(default)]
    pub silent_since_ms: Option<TimeMs>,
    /// When it registered first.
    pub registered_at_ms: TimeMs,
}

impl Node {
    /// Whether its agent is connected: only then it takes new groups.
    pub fn is_connected(&self) -> bool {
        self.silent_since_ms.is_none()
    }

    /// The EC2 instance that it stands in for: `i-` and 17 hexadecimal digits.
    pub fn instance_id(&self) -> String {
        instance_id(&self.id)
    }
}

/// The EC2 instance that a node of this id stands in for.
pub fn instance_id(node_id: &str) -> String {
    format!("i-{}", &node_id[..node_id.len().min(17)])
}

/// The id of the container instance that a node is in a cluster: 32 hexadecimal digits.
pub fn container_instance_id(scope: &Scope, cluster: &str, node_id: &str) -> String {
    digest::hex32(&scope.key(&format!("{cluster}/{node_id}")))
}

/// Resources of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// CPU units (1024 = one core).
    pub cpu_units: u32,
    /// Memory.
    pub memory_mib: u32,
}

impl Record for Node {
    const TABLE: u8 = 9;
    fn key(&self) -> String {
        self.id.clone()
    }
}

/// What the groups placed on a node hold of it, until nothing is left of them. Writer: placement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// The node's id.
    pub node: String,
    /// Resources held.
    pub used: Capacity,
    /// Groups placed.
    pub groups: u32,
    /// Static host ports held: `port/protocol` → group key.
    pub host_ports: BTreeMap<String, String>,
}

impl Ledger {
    /// Takes what a group demands.
    pub fn take(&mut self, group_key: &str, demand: &Demand) {
        self.used.cpu_units += demand.cpu_units;
        self.used.memory_mib += demand.memory_mib;
        self.groups += 1;
        for (port, protocol) in &demand.host_ports {
            self.host_ports.insert(format!("{port}/{protocol}"), group_key.to_owned());
        }
    }

    /// Gives back what a group held.
    pub fn give_back(&mut self, group_key: &str, demand: &Demand) {
        self.used.cpu_units -= demand.cpu_units;
        self.used.memory_mib -= demand.memory_mib;
        self.groups -= 1;
        self.host_ports.retain(|_, holder| holder != group_key);
    }
}

impl Record for Ledger {
    const TABLE: u8 = 10;
    fn key(&self) -> String {
        self.node.clone()
    }
}
