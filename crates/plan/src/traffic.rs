//! Targets and names follow the tasks: registered when a task runs, drained and gone before it is told to stop.
//!
//! A task is RUNNING only when its targets are registered (`activated`), and its containers get SIGTERM only when its
//! targets are drained (`deactivated`): no request is sent to a container that is going away.

use std::collections::BTreeMap;

use state::cloudmap::Instance;
use state::ecs::Service;
use state::elb::{Target, TargetGroup};
use state::group::{NetworkMode, Phase, SpecRecord};
use state::node::Node;
use state::{ContainerGroup, Ids, TimeMs, Tx};

use crate::registration::{self, Missing};
use crate::{Next, events};

/// How long until a registration that could not be made is tried again.
const RETRY_MS: i64 = 1_000;

/// So long the balancer has at least to hear that a target drains.
const HEARD_MS: i64 = 1_000;

/// What was done, for the events of services: (service key, what) → how many.
type Told = BTreeMap<(String, Deed), usize>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Registered(String),
    Draining,
    Deregistered(String),
}

/// Takes one step with each of these groups. Answers when each is to be looked at again.
pub fn reconcile<'a>(
    tx: &mut Tx,
    ids: &mut Ids,
    now_ms: TimeMs,
    keys: impl IntoIterator<Item = &'a str>,
) -> Vec<Next> {
    let mut told = Told::new();
    let again = keys.into_iter().map(|key| one(tx, ids, now_ms, key, &mut told)).collect();
    tell(tx, ids, now_ms, told);
    again
}

fn one(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, key: &str, told: &mut Told) -> Next {
    let Some(group) = tx.get::<ContainerGroup>(key) else { return Next::IDLE };
    if group.traffic.deactivated_at_ms.is_some() {
        return Next::IDLE;
    }
    if group.is_stopping() {
        return deactivate(tx, now_ms, key, &group, told);
    }
    if group.traffic.activated_at_ms.is_some() {
        sync_health(tx, key, &group);
        return Next::IDLE;
    }
    if group.observed.phase == Phase::Running {
        activate(tx, ids, now_ms, key, &group, told)
    } else {
        Next::IDLE
    }
}

// === coming ===

fn activate(
    tx: &mut Tx,
    ids: &mut Ids,
    now_ms: TimeMs,
    key: &str,
    group: &ContainerGroup,
    told: &mut Told,
) -> Next {
    // All or nothing: a task that could be registered in part only is not RUNNING.
    let targets = match registration::targets(tx.snapshot(), group, now_ms) {
        Ok(targets) => targets,
        Err(missing) => return wait(tx, ids, now_ms, group, &missing),
    };
    let instances = match registration::instances(tx.snapshot(), group, now_ms) {
        Ok(instances) => instances,
        Err(missing) => return wait(tx, ids, now_ms, group, &missing),
    };
    for target in targets {
        count(told, group, Deed::Registered(target.target_group_arn.clone()));
        tx.put(target);
    }
    for instance in instances {
        registration::put_instance(tx, instance);
    }
    tx.update::<ContainerGroup>(key, |group| group.traffic.activated_at_ms = Some(now_ms));
    Next::IDLE
}

fn wait(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, group: &ContainerGroup, missing: &Missing) -> Next {
    if let (Some(text), Some(owner)) = (missing.as_event(), &group.task().service) {
        tx.update::<Service>(&owner.key, |service| events::add_unless_repeated(service, ids, now_ms, &text));
    }
    Next::at(now_ms + RETRY_MS)
}

/// Cloud Map gives out what its containers' health says.
fn sync_health(tx: &mut Tx, key: &str, group: &ContainerGroup) {
    let stale: Vec<Instance> = (tx.table::<Instance>().by_index("owner", key))
        .filter(|i| i.healthy != registration::is_instance_healthy(tx.snapshot(), group, &i.service_id))
        .map(|i| Instance { healthy: !i.healthy, ..Instance::clone(i) })
        .collect();
    for instance in stale {
        registration::put_instance(tx, instance);
    }
}

// === going ===

fn deactivate(tx: &mut Tx, now_ms: TimeMs, key: &str, group: &ContainerGroup, told: &mut Told) -> Next {
    for instance in owned::<Instance>(tx, key) {
        registration::delete_instance(tx, &instance);
    }
    // Once the receiving containers are gone there is nothing to wait for.
    let over = group.is_stopped() || group.containers_over();
    let mut next = Next::IDLE;
    let mut left = false;
    let mut draining = false;
    for target in owned::<Target>(tx, key) {
        let target_key = Target::key_of(&target.target_group_arn, &target.id, target.port);
        if target.draining_since_ms.is_none() {
            draining = true;
            count(told, group, Deed::Deregistered(target.target_group_arn.clone()));
        }
        let since = target.draining_since_ms.unwrap_or(now_ms);
        let ends = drain_ends(tx, &target, since);
        if over || target.drained || ends <= now_ms {
            tx.delete::<Target>(&target_key);
            continue;
        }
        left = true;
        next = next.or(Next::at(ends));
        tx.update::<Target>(&target_key, |target| target.draining_since_ms = Some(since));
    }
    if draining {
        count(told, group, Deed::Draining);
    }
    if !left {
        tx.update::<ContainerGroup>(key, |group| group.traffic.deactivated_at_ms = Some(now_ms));
    }
    next
}

/// When the balancer is waited for no longer. Not at once, even where the delay is 0: it has to hear that the target drains
/// before the task is told to stop, or it would send new requests to it.
fn drain_ends(tx: &Tx, target: &Target, since_ms: TimeMs) -> TimeMs {
    let group = tx.get::<TargetGroup>(&target.target_group_arn);
    let delay_ms = group.map_or(0, |group| i64::from(group.deregistration_delay_s()) * 1000);
    since_ms + delay_ms.max(HEARD_MS)
}

/// Removes a group's targets and names at once: nothing of it is left.
pub fn remove_all(tx: &mut Tx, key: &str, now_ms: TimeMs) {
    for instance in owned::<Instance>(tx, key) {
        registration::delete_instance(tx, &instance);
    }
    for target in owned::<Target>(tx, key) {
        tx.delete::<Target>(&Target::key_of(&target.target_group_arn, &target.id, target.port));
    }
    tx.update::<ContainerGroup>(key, |group| {
        group.traffic.deactivated_at_ms.get_or_insert(now_ms);
    });
}

/// Deletes a target that a caller deregistered (rather than a stopping task) once it is drained.
pub fn sweep_target(tx: &mut Tx, now_ms: TimeMs, key: &str) -> Next {
    let Some(target) = tx.get::<Target>(key) else { return Next::IDLE };
    let Some(since) = target.draining_since_ms else { return Next::IDLE };
    let ends = drain_ends(tx, &target, since);
    if target.drained || ends <= now_ms {
        tx.delete::<Target>(key);
        return Next::IDLE;
    }
    Next::at(ends)
}

fn owned<T: state::Record>(tx: &Tx, key: &str) -> Vec<std::sync::Arc<T>>
where
    state::Snapshot: state::HasTable<T>,
{
    tx.table::<T>().by_index("owner", key).cloned().collect()
}

// === events ===

fn count(told: &mut Told, group: &ContainerGroup, deed: Deed) {
    if let Some(owner) = &group.task().service {
        *told.entry((owner.key.clone(), deed)).or_default() += 1;
    }
}

fn tell(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, told: Told) {
    for ((service, deed), n) in told {
        let text = match deed {
            Deed::Registered(arn) => format!("registered {n} targets in (target-group {arn})"),
            Deed::Draining => format!("has begun draining connections on {n} tasks."),
            Deed::Deregistered(arn) => format!("deregistered {n} targets in (target-group {arn})"),
        };
        tx.update::<Service>(&service, |service| events::add(service, ids, now_ms, &text));
    }
}

/// The address and host port by which the host or the balancer reaches a container's port of a group.
pub(crate) fn host_endpoint(
    snapshot: &state::Snapshot,
    group: &ContainerGroup,
    container: &str,
    port: u16,
) -> Option<(std::net::IpAddr, u16)> {
    let node: &Node = snapshot.nodes.get(group.node()?)?;
    let spec: &SpecRecord = snapshot.specs.get(&group.spec)?;
    let seen = group.observed.containers.iter().find(|c| c.name == container)?;
    let bound = seen.bindings.iter().find(|b| b.container_port == port).map(|b| b.host_port);
    let host_port = match spec.spec.network_mode {
        NetworkMode::Host => bound.or(Some(port)),
        _ => bound,
    };
    Some((node.address, host_port?))
}
