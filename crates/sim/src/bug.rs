//! Bugs to plant: each makes the controllers' pass wrong in one way, so that it can be seen that the checker finds it.

use state::elb::Target;
use state::group::{Desired, Placement, SpecRecord};
use state::node::Ledger;
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
}

/// Does the wrong, after a pass has done its own.
pub(crate) fn act(planted: Option<Bug>, tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs) {
    match planted {
        None => {}
        Some(Bug::SkipDrain) => skip_drain(tx, now_ms),
        Some(Bug::OverPlace) => over_place(tx, now_ms),
        Some(Bug::RepeatTask) => repeat_task(tx, ids, now_ms),
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
fn launched(tx: &Tx, now_ms: TimeMs) -> Vec<std::sync::Arc<ContainerGroup>> {
    let new = |g: &ContainerGroup| g.created_at_ms == now_ms && g.observed.phase == Default::default();
    tx.table::<ContainerGroup>().iter().filter(|(_, g)| new(g)).map(|(_, g)| g.clone()).collect()
}

fn over_place(tx: &mut Tx, now_ms: TimeMs) {
    let first = tx.table::<state::node::Node>().iter().next().map(|(id, _)| id.to_owned());
    let Some(first) = first else { return };
    for group in launched(tx, now_ms) {
        let (Some(old), Some(spec)) = (group.node(), tx.get::<SpecRecord>(&group.spec)) else { continue };
        if old == first {
            continue;
        }
        let key = group.key();
        tx.update::<Ledger>(old, |ledger| ledger.give_back(&key, &spec.spec.demand));
        let mut ledger = tx.get::<Ledger>(&first).map(|l| Ledger::clone(&l)).unwrap_or_default();
        ledger.node.clone_from(&first);
        ledger.take(&key, &spec.spec.demand);
        tx.put(ledger);
        tx.update::<ContainerGroup>(&key, |group| {
            if let Placement::Placed { node, .. } = &mut group.placement {
                node.clone_from(&first);
            }
        });
    }
}

fn repeat_task(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs) {
    let owners: std::collections::BTreeSet<String> =
        launched(tx, now_ms).iter().filter_map(|g| g.task().service.clone()).map(|owner| owner.key).collect();
    for key in owners {
        let Some(service) = tx.get::<state::ecs::Service>(&key) else { continue };
        if let Some(primary) = service.primary() {
            // Where there is no room the bug does not show.
            let _ = plan::service_task::launch(tx, ids, now_ms, &key, &service, primary);
        }
    }
}
