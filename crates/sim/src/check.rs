//! What must hold after every commit: looked at in what the commit changed, and from time to time in everything.
//!
//! It counts for itself: nothing here asks the planner.

use std::collections::BTreeSet;
use std::sync::Arc;

use plan::deployment::{lower_bound, upper_bound};
use state::ecs::{Service, ServiceStatus};
use state::elb::Target;
use state::group::{Desired, Health, TaskStatus};
use state::node::{Capacity, Ledger};
use state::{ContainerGroup, Record, Snapshot, check};

use crate::placed;

/// Looks at every commit.
#[derive(Debug)]
pub struct Checker {
    /// Everything is looked at with each so-manieth commit.
    full_every: u64,
    commits: u64,
}

impl Checker {
    /// A checker that looks at everything with each so-manieth commit.
    pub fn new(full_every: u64) -> Checker {
        Checker { full_every, commits: 0 }
    }

    /// Looks at a commit.
    pub fn commit(
        &mut self,
        before: &Snapshot,
        after: &Snapshot,
        changed: &[(u8, String)],
        wrong: &mut Vec<String>,
    ) {
        let mut new = Vec::new();
        for (table, key) in changed {
            if *table == ContainerGroup::TABLE && before.groups.get(key).is_none() {
                new.extend(after.groups.get(key).cloned());
            }
            match *table {
                ContainerGroup::TABLE => group(before, after, key, wrong),
                Ledger::TABLE => ledger(after, key, wrong),
                Target::TABLE => target(before, after, key, wrong),
                Service::TABLE => service(after, key, wrong),
                _ => {}
            }
        }
        placed::check(before, after, &new, wrong);
        self.commits += 1;
        if self.commits.is_multiple_of(self.full_every) {
            wrong.extend(check::check(after));
        }
    }

    /// Looks at a pass of the controllers: it starts no tasks above the maximum, and takes no task that serves where less
    /// than the minimum is left, unless checks speak against the service's tasks.
    pub fn pass(&mut self, before: &Snapshot, after: &Snapshot, wrong: &mut Vec<String>) {
        for (key, service) in after.services.iter() {
            if before.services.get(key).is_some_and(|old| Arc::ptr_eq(old, service)) {
                continue;
            }
            bounds(before, after, key, service, wrong);
        }
    }
}

/// A group only goes forward, stays where it is, and is owned.
fn group(before: &Snapshot, after: &Snapshot, key: &str, wrong: &mut Vec<String>) {
    let Some(new) = after.groups.get(key) else { return };
    if let Some(old) = before.groups.get(key) {
        if old.observed.phase > new.observed.phase {
            wrong.push(format!("{key} goes back from {:?} to {:?}", old.observed.phase, new.observed.phase));
        }
        if old.placement != new.placement {
            wrong.push(format!("{key} is placed a second time"));
        }
        if old.desired != Desired::Run && old.desired != new.desired {
            wrong.push(format!("{key} is to stop for another cause than before"));
        }
        if old.is_stopping() && !new.is_stopping() {
            wrong.push(format!("{key} is to run again"));
        }
    }
    if new.is_stopped() {
        return;
    }
    if let Some(a) = new.attachment() {
        let at = format!("{}|{}", a.subnet_id, a.private_ip);
        if after.groups.by_index("ip", &at).count() != 1 {
            wrong.push(format!("{key} has an address that another has too"));
        }
    }
    let Some(owner) = &new.task().service else { return };
    let Some(service) = after.services.get(&owner.key) else {
        wrong.push(format!("{key} is of service {}, which does not exist", owner.key));
        return;
    };
    if before.groups.get(key).is_none() && service.status != ServiceStatus::Active {
        wrong.push(format!("{key} is started for {}, which is deleted", owner.key));
    }
    let owned = service.deployments.iter().any(|d| d.id == owner.deployment_id);
    if !owned || service.status == ServiceStatus::Inactive {
        wrong
            .push(format!("{key} is of deployment {}, which its service does not have", owner.deployment_id));
    }
}

/// What a node's groups hold is what its ledger says, and no more than there is.
fn ledger(after: &Snapshot, key: &str, wrong: &mut Vec<String>) {
    let (mut used, mut groups) = (Capacity::default(), 0);
    let mut ports = BTreeSet::new();
    for group in after.groups.by_index("node", key) {
        let Some(spec) = after.specs.get(&group.spec) else { continue };
        used.cpu_units += spec.spec.demand.cpu_units;
        used.memory_mib += spec.spec.demand.memory_mib;
        groups += 1;
        for port in &spec.spec.demand.host_ports {
            if !ports.insert(port) {
                wrong.push(format!("two groups on node {key} have its port {port:?}"));
            }
        }
    }
    let Some((ledger, node)) = after.ledgers.get(key).zip(after.nodes.get(key)) else { return };
    if used != ledger.used || groups != ledger.groups {
        wrong
            .push(format!("node {key} holds {used:?} in {groups} groups, its ledger says {:?}", ledger.used));
    }
    if used.cpu_units > node.capacity.cpu_units || used.memory_mib > node.capacity.memory_mib {
        wrong.push(format!("node {key} holds {used:?}, more than its {:?}", node.capacity));
    }
}

/// A target is of a group that is there, at that group's address; one that is nobody's stays until it is deregistered.
fn target(before: &Snapshot, after: &Snapshot, key: &str, wrong: &mut Vec<String>) {
    let Some(target) = after.targets.get(key) else {
        let stays = |t: &Target| t.owner.is_none() && t.draining_since_ms.is_none();
        let of_group = |t: &Target| after.target_groups.get(&t.target_group_arn).is_some();
        if before.targets.get(key).is_some_and(|t| stays(t) && of_group(t)) {
            wrong.push(format!("target {key} is gone, and nobody has deregistered it"));
        }
        return;
    };
    let Some(owner) = &target.owner else { return };
    let Some(group) = after.groups.get(owner) else {
        wrong.push(format!("target {key} is of group {owner}, which does not exist"));
        return;
    };
    if group.traffic.deactivated_at_ms.is_some() || group.is_stopped() {
        wrong.push(format!("target {key} is registered though its group {owner} is out of service"));
    }
    if group.attachment().is_some_and(|a| target.address != std::net::IpAddr::V4(a.private_ip)) {
        wrong.push(format!("target {key} is not at the address of its group {owner}"));
    }
}

fn service(after: &Snapshot, key: &str, wrong: &mut Vec<String>) {
    let Some(service) = after.services.get(key) else { return };
    if service.deployments.iter().filter(|d| d.primary).count() > 1 {
        wrong.push(format!("service {key} has two primary deployments"));
    }
    if service.status != ServiceStatus::Active && service.desired_count > 0 {
        wrong.push(format!("service {key} is deleted and wants {} tasks", service.desired_count));
    }
    if service.events.len() > 100 {
        wrong.push(format!("service {key} keeps {} events", service.events.len()));
    }
}

fn bounds(before: &Snapshot, after: &Snapshot, key: &str, service: &Service, wrong: &mut Vec<String>) {
    let live = |snapshot: &Snapshot| {
        snapshot.groups.by_index("service", key).filter(|g| !g.is_stopping()).count() as u32
    };
    let upper = upper_bound(service.desired_count, service.deployment.maximum_percent);
    let (old, new) = (live(before), live(after));
    if new > upper.max(old) {
        wrong.push(format!("{key} had {old} tasks and has {new}, its maximum is {upper}"));
    }
    let serves = |g: &ContainerGroup| g.status() == TaskStatus::Running && !g.is_stopping();
    let taken = before.groups.by_index("service", key).filter(|g| serves(g)).any(|g| {
        let now = after.groups.get(&g.key()).and_then(|g| g.stop_cause());
        now.is_some_and(|cause| cause.reason.starts_with("Scaling activity"))
    });
    let left = after.groups.by_index("service", key).filter(|g| serves(g)).count() as u32;
    let lower = lower_bound(service.desired_count, service.deployment.minimum_healthy_percent);
    if taken && service.status == ServiceStatus::Active && left < lower && !is_sick(after, key) {
        wrong.push(format!("{key} has {left} serving tasks left, its minimum is {lower}"));
    }
}

/// Whether checks speak against a task of a service: then its tasks may go.
fn is_sick(snapshot: &Snapshot, service: &str) -> bool {
    let target = |t: &Arc<Target>| t.health.state == "unhealthy" || t.draining_since_ms.is_some();
    snapshot.groups.by_index("service", service).any(|g| {
        g.observed.containers.iter().any(|c| c.health == Health::Unhealthy)
            || snapshot.targets.by_index("owner", &g.key()).any(target)
    })
}
