//! What an agent is told: all groups placed on its node, each with its network and firewall.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use state::assignment::{AgentDesired, Assignment, FirewallRule, NetworkAssignment};
use state::ec2::{Peer, SecurityGroup, Vpc};
use state::group::{Attachment, Desired};
use state::node::Node;
use state::{ContainerGroup, Snapshot};

use crate::network;

/// The full set of a node's assignments, ordered by group key.
pub fn assignments(snapshot: &Snapshot, node_id: &str) -> Vec<Assignment> {
    let Some(node) = snapshot.nodes.get(node_id) else { return Vec::new() };
    let mut members = Members { snapshot, of: BTreeMap::new() };
    let groups = snapshot.groups.by_index("node", node_id);
    groups.filter_map(|group| assignment(snapshot, node, group, &mut members)).collect()
}

/// The assignments of a node as they were last told, to tell again only what a new snapshot says otherwise.
#[derive(Default)]
pub struct Assigned {
    told: Option<Snapshot>,
    /// By the address of the group's record, which is another one once it is written again.
    of: HashMap<usize, (Arc<ContainerGroup>, Arc<Assignment>)>,
}

impl Assigned {
    /// The full set as [`assignments`] has it, those that are as before not made again; `None` if nothing is new.
    pub fn follow(&mut self, snapshot: &Snapshot, node_id: &str) -> Option<Vec<Arc<Assignment>>> {
        let is_same = |told: &Snapshot| {
            // What an assignment says besides its group.
            let around = told.nodes.same(&snapshot.nodes)
                && told.vpcs.same(&snapshot.vpcs)
                && told.subnets.same(&snapshot.subnets)
                && told.security_groups.same(&snapshot.security_groups)
                && told.load_balancers.same(&snapshot.load_balancers)
                && told.groups.same_index("security-group", &snapshot.groups);
            (around, around && told.groups.same(&snapshot.groups))
        };
        let told = self.told.replace(snapshot.clone());
        let (around_is_same, all_is_same) = told.as_ref().map_or((false, false), is_same);
        if all_is_same {
            return None;
        }
        let mut before = std::mem::take(&mut self.of);
        if !around_is_same {
            before.clear();
        }
        let node = snapshot.nodes.get(node_id);
        let mut members = Members { snapshot, of: BTreeMap::new() };
        let mut all = Vec::new();
        for group in snapshot.groups.by_index("node", node_id) {
            let at = Arc::as_ptr(group) as usize;
            let of = before.remove(&at).or_else(|| {
                let assignment = assignment(snapshot, node?, group, &mut members)?;
                Some((group.clone(), Arc::new(assignment)))
            });
            if let Some(of) = of {
                all.push(of.1.clone());
                self.of.insert(at, of);
            }
        }
        Some(all)
    }

    /// The keys of the groups last told.
    pub fn keys(&self) -> Vec<String> {
        self.of.values().map(|(_, assignment)| assignment.key.clone()).collect()
    }
}

fn assignment(
    snapshot: &Snapshot,
    node: &Node,
    group: &ContainerGroup,
    members: &mut Members,
) -> Option<Assignment> {
    let spec = snapshot.specs.get(&group.spec)?.spec.clone();
    let task = group.task();
    // Not a moment before its targets are drained: Stop means SIGTERM.
    let desired = match (&group.desired, group.traffic.deactivated_at_ms) {
        (Desired::Stop(cause), Some(_)) => AgentDesired::Stop(cause.clone()),
        _ => AgentDesired::Run,
    };
    let network = match group.attachment() {
        Some(attachment) => Some(network_of(snapshot, attachment, &task.security_groups, members)?),
        None => None,
    };
    let zone = group.attachment().map_or(&node.availability_zone, |a| &a.availability_zone);
    let launch_type = match task.launch_type.as_str() {
        "" => "FARGATE",
        given => given,
    };
    Some(Assignment {
        key: ContainerGroup::key_of(&group.scope, &group.cluster, &group.id),
        id: group.id.clone(),
        task_arn: group.task_arn(),
        account: group.scope.account.clone(),
        region: group.scope.region.clone(),
        cluster: group.cluster.clone(),
        service: task.service.as_ref().map(|s| s.name.clone()),
        tags: task.tags.clone(),
        launch_type: launch_type.to_owned(),
        availability_zone: zone.clone(),
        spec,
        desired,
        network,
        observed: group.observed.clone(),
        created_at_ms: group.created_at_ms,
    })
}

fn network_of(
    snapshot: &Snapshot,
    attachment: &Attachment,
    security_groups: &[String],
    members: &mut Members,
) -> Option<NetworkAssignment> {
    let subnet = network::subnet(snapshot, &attachment.subnet_id)?;
    let vpc: &Vpc = snapshot.vpcs.get(&subnet.scope.key(&subnet.vpc_id))?;
    let mut firewall = Vec::new();
    for id in security_groups {
        let Some(group) = security_group(snapshot, id) else { continue };
        for rule in &group.rules {
            firewall.push(FirewallRule {
                egress: rule.egress,
                protocol: rule.protocol.clone(),
                from_port: rule.from_port,
                to_port: rule.to_port,
                peer: rule.peer.clone(),
                members: match &rule.peer {
                    Peer::Group(peer) => members.of(peer),
                    Peer::Ipv4(_) | Peer::Ipv6(_) => Vec::new(),
                },
            });
        }
    }
    Some(NetworkAssignment {
        attachment: attachment.clone(),
        subnet_cidr: subnet.cidr,
        vpc_id: vpc.id.clone(),
        vpc_cidr: vpc.cidr,
        gateway: subnet.gateway(),
        firewall,
    })
}

fn security_group<'a>(snapshot: &'a Snapshot, id: &str) -> Option<&'a SecurityGroup> {
    // The iterator borrows the text looked up, so the key is taken out first.
    let key = snapshot.security_groups.by_index("id", id).next().map(|g| g.scope.key(&g.id))?;
    snapshot.security_groups.get(&key).map(|g| &**g)
}

/// Addresses of security groups' members, looked up once per group.
struct Members<'a> {
    snapshot: &'a Snapshot,
    of: BTreeMap<String, Vec<Ipv4Addr>>,
}

impl Members<'_> {
    fn of(&mut self, security_group: &str) -> Vec<Ipv4Addr> {
        if let Some(known) = self.of.get(security_group) {
            return known.clone();
        }
        let tasks = self.snapshot.groups.by_index("security-group", security_group);
        let mut all: Vec<Ipv4Addr> = tasks.filter_map(|g| g.attachment().map(|a| a.private_ip)).collect();
        let balancers = self.snapshot.load_balancers.iter();
        let balancers = balancers.filter(|(_, b)| b.security_groups.iter().any(|id| id == security_group));
        all.extend(balancers.map(|(_, b)| b.address));
        all.sort_unstable();
        all.dedup();
        self.of.insert(security_group.to_owned(), all.clone());
        all
    }
}
