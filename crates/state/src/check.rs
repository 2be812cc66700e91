//! The checker: what must hold of every snapshot. Not the planner's own arithmetic but a second count of the world,
//! run after every commit of the simulator and of tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::ecr::Image;
use crate::node::Capacity;
use crate::snapshot::Snapshot;

/// Everything that is wrong with a snapshot; empty if nothing is.
pub fn check(snapshot: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    ledgers_are_true(snapshot, &mut wrong);
    addresses_are_unique(snapshot, &mut wrong);
    groups_are_owned(snapshot, &mut wrong);
    targets_are_of_live_groups(snapshot, &mut wrong);
    services_are_consistent(snapshot, &mut wrong);
    images_are_whole(snapshot, &mut wrong);
    wrong
}

fn ledgers_are_true(snapshot: &Snapshot, wrong: &mut Vec<String>) {
    let mut held: BTreeMap<&str, (Capacity, u32)> = BTreeMap::new();
    for (key, group) in snapshot.groups.iter().filter(|(_, g)| !g.is_stopped()) {
        let Some(node) = group.node() else { continue };
        let Some(spec) = snapshot.specs.get(&group.spec) else {
            wrong.push(format!("group {key} has no spec {}", group.spec));
            continue;
        };
        let (used, groups) = held.entry(node).or_default();
        used.cpu_units += spec.spec.demand.cpu_units;
        used.memory_mib += spec.spec.demand.memory_mib;
        *groups += 1;
        if snapshot.nodes.get(node).is_none() {
            wrong.push(format!("group {key} is placed on node {node}, which does not exist"));
        }
    }
    for (key, ledger) in snapshot.ledgers.iter() {
        let (used, groups) = held.remove(key).unwrap_or_default();
        if used != ledger.used || groups != ledger.groups {
            wrong.push(format!(
                "ledger {key} says {:?} in {} groups, its groups hold {used:?} in {groups}",
                ledger.used, ledger.groups
            ));
        }
        let Some(node) = snapshot.nodes.get(key) else { continue };
        if used.cpu_units > node.capacity.cpu_units || used.memory_mib > node.capacity.memory_mib {
            wrong.push(format!("node {key} holds {used:?}, more than its {:?}", node.capacity));
        }
    }
    for (node, (used, _)) in held {
        wrong.push(format!("node {node} holds {used:?} and has no ledger"));
    }
}

fn addresses_are_unique(snapshot: &Snapshot, wrong: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    let mut claim = |subnet: &str, address: std::net::Ipv4Addr, who: &str| {
        if !seen.insert((subnet.to_owned(), address)) {
            wrong.push(format!("{who} has address {address} of {subnet}, which another has too"));
        }
    };
    for (key, group) in snapshot.groups.iter().filter(|(_, g)| !g.is_stopped()) {
        if let Some(attachment) = group.attachment() {
            claim(&attachment.subnet_id, attachment.private_ip, key);
        }
    }
    for (key, balancer) in snapshot.load_balancers.iter() {
        if let Some(subnet) = balancer.subnets.first() {
            claim(subnet, balancer.address, key);
        }
    }
}

fn groups_are_owned(snapshot: &Snapshot, wrong: &mut Vec<String>) {
    for (key, group) in snapshot.groups.iter().filter(|(_, g)| !g.is_stopped()) {
        if let Some(owner) = &group.task().service
            && snapshot.services.get(&owner.key).is_none()
        {
            wrong.push(format!("group {key} is of service {}, which does not exist", owner.key));
        }
    }
}

fn targets_are_of_live_groups(snapshot: &Snapshot, wrong: &mut Vec<String>) {
    for (key, target) in snapshot.targets.iter() {
        if snapshot.target_groups.get(&target.target_group_arn).is_none() {
            wrong.push(format!("target {key} is of a target group that does not exist"));
        }
        let Some(owner) = &target.owner else { continue };
        let Some(group) = snapshot.groups.get(owner) else {
            wrong.push(format!("target {key} is of group {owner}, which does not exist"));
            continue;
        };
        if group.traffic.deactivated_at_ms.is_some() {
            wrong.push(format!("target {key} is registered though its group {owner} was deactivated"));
        }
    }
}

fn services_are_consistent(snapshot: &Snapshot, wrong: &mut Vec<String>) {
    for (key, service) in snapshot.services.iter() {
        if service.deployments.iter().filter(|d| d.primary).count() > 1 {
            wrong.push(format!("service {key} has two primary deployments"));
        }
        if service.events.len() > 100 {
            wrong.push(format!("service {key} keeps {} events", service.events.len()));
        }
    }
}

fn images_are_whole(snapshot: &Snapshot, wrong: &mut Vec<String>) {
    for (key, image) in snapshot.images.iter() {
        let in_repository = |digest: &str| Image::key_of(&image.scope, &image.repository, digest);
        if snapshot.repositories.get(&image.scope.key(&image.repository)).is_none() {
            wrong.push(format!("image {key} is of a repository that does not exist"));
        }
        for blob in image.blobs() {
            if snapshot.layer_links.get(&in_repository(&blob.digest)).is_none() {
                wrong.push(format!("image {key} names blob {}, which its repository has not", blob.digest));
            }
        }
    }
    for (key, tag) in snapshot.image_tags.iter() {
        if snapshot.images.get(&Image::key_of(&tag.scope, &tag.repository, &tag.digest)).is_none() {
            wrong.push(format!("tag {key} names image {}, which does not exist", tag.digest));
        }
    }
}
