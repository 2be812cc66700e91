//! Bugs to plant: each makes the controllers' pass, or what nodes are told, wrong in one way, so that it can be seen that
//! the checker finds it.

use std::sync::Arc;

use state::assignment::Assignment;
use state::ecs::{Service, ServiceStatus};
use state::elb::Target;
use state::group::{Desired, Placement, Source, SpecRecord};
use state::node::{Ledger, Node};
use state::{ContainerGroup, Ids, Record, TimeMs, Tx};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A task that is to stop is told so before the balancer has drained it.
    SkipDrain,
    /// What is launched is put on the first node, whatever it holds.
    OverPlace,
    /// A task that is started for a service is started twice.
    RepeatTask,
    /// What is launched is put on the last node that has room, whatever it was to be placed by.
    Misplace,
    /// Who is launched by a capacity provider strategy gets the last of its providers.
    OneProvider,
    /// A task is started for a service that is being deleted.
    StartDeleted,
    /// Agents are told that no exit code is ignored by a restart policy.
    RestartAlways,
}

/// Does the wrong, after a pass has done its own.
pub(crate) fn act(planted: Option<Bug>, tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs) {
    match planted {
        None => {}
        Some(Bug::SkipDrain) => skip_drain(tx, now_ms),
        Some(Bug::OverPlace) => over_place(tx, now_ms),
        Some(Bug::RepeatTask) => repeat_task(tx, ids, now_ms),
        Some(Bug::Misplace) => misplace(tx, now_ms),
        Some(Bug::OneProvider) => one_provider(tx, now_ms),
        Some(Bug::StartDeleted) => start_deleted(tx, ids, now_ms),
        Some(Bug::RestartAlways) => {}
    }
}

fn skip_drain(tx: &mut Tx, now_ms: TimeMs) {
    let waits = |g: &ContainerGroup| g.desired != Desired::Run && g.traffic.deactivated_at_ms.is_none();
    let waiting: Vec<String> = tx
        .table::<ContainerGroup>()
        .iter()
        .filter(|(_, g)| waits(g))
        .map(|(key, _)| key.to_owned())
        .collect();
    for key in waiting {
        let targets: Vec<String> = tx.table::<Target>().by_index("owner", &key).map(|t| t.key()).collect();
        for target in targets {
            tx.delete::<Target>(&target);
        }
        tx.update::<ContainerGroup>(&key, |group| group.traffic.deactivated_at_ms = Some(now_ms));
    }
}

/// The groups that a pass has just launched.
fn launched(tx: &Tx, now_ms: TimeMs) -> Vec<Arc<ContainerGroup>> {
    let new = |g: &ContainerGroup| g.created_at_ms == now_ms && g.observed.phase == Default::default();
    tx.table::<ContainerGroup>().iter().filter(|(_, g)| new(g)).map(|(_, g)| g.clone()).collect()
}

fn over_place(tx: &mut Tx, now_ms: TimeMs) {
    let first = tx.table::<Node>().iter().next().map(|(id, _)| id.to_owned());
    let Some(first) = first else { return };
    for group in launched(tx, now_ms) {
        move_to(tx, &group, &first);
    }
}

fn misplace(tx: &mut Tx, now_ms: TimeMs) {
    for group in launched(tx, now_ms) {
        let Some(spec) = tx.get::<SpecRecord>(&group.spec).map(|s| s.spec.demand.clone()) else { continue };
        let has_room = |node: &Node| {
            let used = tx.get::<Ledger>(&node.id).map(|ledger| ledger.used).unwrap_or_default();
            used.cpu_units + spec.cpu_units <= node.capacity.cpu_units
                && used.memory_mib + spec.memory_mib <= node.capacity.memory_mib
                && spec.host_ports.is_empty()
        };
        let last = tx.table::<Node>().iter().filter(|(_, node)| has_room(node)).last();
        if let Some(last) = last.map(|(id, _)| id.to_owned()) {
            move_to(tx, &group, &last);
        }
    }
}

/// Puts a group that was just launched on another node.
fn move_to(tx: &mut Tx, group: &ContainerGroup, node: &str) {
    let (Some(old), Some(spec)) = (group.node(), tx.get::<SpecRecord>(&group.spec)) else { return };
    if old == node {
        return;
    }
    let key = group.key();
    tx.update::<Ledger>(old, |ledger| ledger.give_back(&key, &spec.spec.demand));
    let mut ledger = tx.get::<Ledger>(node).map(|l| Ledger::clone(&l)).unwrap_or_default();
    node.clone_into(&mut ledger.node);
    ledger.take(&key, &spec.spec.demand);
    tx.put(ledger);
    tx.update::<ContainerGroup>(&key, |group| {
        if let Placement::Placed { node: placed, .. } = &mut group.placement {
            node.clone_into(placed);
        }
    });
}

fn one_provider(tx: &mut Tx, now_ms: TimeMs) {
    for group in launched(tx, now_ms) {
        if group.task().capacity_provider.is_some() {
            tx.update::<ContainerGroup>(&group.key(), |group| {
                let Source::Task(task) = &mut group.source;
                Arc::make_mut(task).capacity_provider = Some("FARGATE_SPOT".into());
            });
        }
    }
}

fn start_deleted(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs) {
    let draining = tx.table::<Service>().iter().filter(|(_, s)| s.status == ServiceStatus::Draining);
    for (key, service) in draining.map(|(key, s)| (key.to_owned(), s.clone())).collect::<Vec<_>>() {
        if let Some(primary) = service.primary() {
            // Where there is no room the bug does not show.
            let _ = plan::service_task::launch(tx, ids, now_ms, &key, &service, primary);
        }
    }
}

/// Does the wrong in what a node is told.
pub(crate) fn tell(planted: Option<Bug>, assignments: &mut [Arc<Assignment>]) {
    if planted != Some(Bug::RestartAlways) {
        return;
    }
    for assignment in assignments {
        let spec = Arc::make_mut(&mut Arc::make_mut(assignment).spec);
        for policy in spec.containers.iter_mut().filter_map(|c| c.restart_policy.as_mut()) {
            policy.ignored_exit_codes.clear();
        }
    }
}

fn repeat_task(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs) {
    let owners: std::collections::BTreeSet<String> =
        launched(tx, now_ms).iter().filter_map(|g| g.task().service.clone()).map(|owner| owner.key).collect();
    for key in owners {
        let Some(service) = tx.get::<Service>(&key) else { continue };
        if let Some(primary) = service.primary() {
            // Where there is no room the bug does not show.
            let _ = plan::service_task::launch(tx, ids, now_ms, &key, &service, primary);
        }
    }
}
