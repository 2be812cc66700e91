//! The birth of a group: place it, give it an address, write it down; and the wish that it ends.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use state::group::{
    Attachment, ContainerObserved, Desired, NetworkMode, Observed, Placement, Source, SpecRecord, StopCause,
    TaskSource, Traffic,
};
use state::node::Ledger;
use state::{ContainerGroup, GroupSpec, Ids, Scope, TimeMs, Tx};

use crate::network;
use crate::placement::{self, Reason, Request, Unplaced};

/// A task to launch.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// Account and region.
    pub scope: &'a Scope,
    /// The cluster's name.
    pub cluster: &'a str,
    /// What the API shows of it. Without security groups, an `awsvpc` task gets its VPC's `default` one.
    pub source: Arc<TaskSource>,
    /// The key of its [`SpecRecord`]: the task definition's key, plus a digest of the overrides if there are any.
    pub spec_id: String,
    /// What it runs.
    pub spec: Arc<GroupSpec>,
    /// Subnets of an `awsvpc` task: the one with the fewest tasks of its service is taken, any if it is of none.
    pub subnets: &'a [String],
    /// Placement constraints: type, expression.
    pub constraints: &'a [(String, Option<String>)],
    /// Placement strategies: type, field.
    pub strategy: &'a [(String, Option<String>)],
    /// This node and no other (StartTask).
    pub node: Option<&'a str>,
}

/// Places and writes a group; its key. On an error nothing is written.
pub fn launch(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, launch: Launch) -> Result<String, Unplaced> {
    let of_spec =
        launch.spec.placement_constraints.iter().map(|text| ("memberOf".to_owned(), Some(text.clone())));
    let constraints: Vec<_> = launch.constraints.iter().cloned().chain(of_spec).collect();
    let request = Request {
        demand: &launch.spec.demand,
        cpu_architecture: launch.spec.cpu_architecture.as_deref(),
        group: &launch.source.group,
        constraints: &constraints,
        strategy: launch.strategy,
        only_node: launch.node,
    };
    let node = placement::choose(tx.snapshot(), ids, &request)?;
    let attachment = match launch.spec.network_mode {
        NetworkMode::Awsvpc => {
            Some(attach(tx, ids, &launch).map_err(|reason| Unplaced { reason, node: Some(node.clone()) })?)
        }
        NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None => None,
    };
    let mut source = launch.source;
    if let Some(attachment) = &attachment
        && source.security_groups.is_empty()
    {
        let subnet = network::subnet(tx.snapshot(), &attachment.subnet_id);
        Arc::make_mut(&mut source).security_groups = subnet
            .and_then(|s| network::default_security_group(tx.snapshot(), &s.vpc_id))
            .into_iter()
            .collect();
    }
    let group = ContainerGroup {
        scope: launch.scope.clone(),
        cluster: launch.cluster.to_owned(),
        id: ids.task(),
        source: Source::Task(source),
        spec: launch.spec_id.clone(),
        desired: Desired::Run,
        placement: Placement::Placed { node: node.clone(), attachment: attachment.map(Box::new) },
        traffic: Traffic::default(),
        observed: Observed {
            containers: (launch.spec.containers.iter())
                .map(|c| ContainerObserved { name: c.name.clone(), id: ids.uuid(), ..Default::default() })
                .collect(),
            ..Observed::default()
        },
        created_at_ms: now_ms,
    };
    let key = ContainerGroup::key_of(&group.scope, &group.cluster, &group.id);
    // Guarded even where it is there already: garbage collection may be about to delete it.
    tx.guard::<SpecRecord>(&launch.spec_id);
    if tx.get::<SpecRecord>(&launch.spec_id).is_none() {
        tx.put(SpecRecord { id: launch.spec_id, spec: launch.spec.clone() });
    }
    let mut ledger = tx.get::<Ledger>(&node).map(|l| Ledger::clone(&l)).unwrap_or_default();
    ledger.node = node;
    ledger.take(&key, &launch.spec.demand);
    tx.put(ledger);
    tx.put(group);
    Ok(key)
}

/// Wishes that a group ends. The first cause stays. False if there is no such group or it was wished already.
pub fn stop(tx: &mut Tx, key: &str, cause: StopCause) -> bool {
    let Some(group) = tx.get::<ContainerGroup>(key) else { return false };
    if matches!(group.desired, Desired::Stop(_)) {
        return false;
    }
    tx.update::<ContainerGroup>(key, |group| group.desired = Desired::Stop(cause))
}

/// A network interface in the subnet with the fewest tasks of the same service; of no service: in any.
fn attach(tx: &mut Tx, ids: &mut Ids, launch: &Launch) -> Result<Attachment, Reason> {
    let mut load: BTreeMap<String, u64> = BTreeMap::new();
    if let Some(owner) = &launch.source.service {
        let groups = tx.table::<ContainerGroup>().by_index("service", &owner.key);
        for attachment in groups.filter(|g| !g.is_stopping()).filter_map(|g| g.attachment()) {
            *load.entry(attachment.subnet_id.clone()).or_default() += 1;
        }
    }
    let mut subnets = Vec::new();
    for id in launch.subnets {
        let subnet = network::subnet(tx.snapshot(), id).ok_or_else(|| Reason::NoSubnet(id.clone()))?;
        let load = match &launch.source.service {
            Some(_) => load.get(id).copied().unwrap_or(0),
            None => ids.next_u64(),
        };
        subnets.push((load, subnet));
    }
    subnets.sort_by_key(|(load, _)| *load);
    for (_, subnet) in &subnets {
        let Some(private_ip) = network::allocate_address(tx, &subnet.id) else { continue };
        return Ok(Attachment {
            id: ids.uuid(),
            eni_id: format!("eni-{}", ids.hex(17)),
            subnet_id: subnet.id.clone(),
            availability_zone: subnet.availability_zone.clone(),
            private_ip,
            mac: mac_of(private_ip),
        });
    }
    Err(Reason::NoAddress(launch.subnets.first().cloned().unwrap_or_default()))
}

/// A locally administered hardware address, unique as the IPv4 address is.
fn mac_of(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}
