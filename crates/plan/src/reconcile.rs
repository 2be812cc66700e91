//! All controllers in one list, and one pass over them: the same for the server's loop and the simulator.

use std::collections::BTreeSet;

use state::ecs::Service;
use state::elb::Target;
use state::node::Node;
use state::{ContainerGroup, Ids, Record, Snapshot, TimeMs, Tx};

use crate::{Next, ecs_service, garbage, node_loss, traffic};

/// What a pass looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Everything, garbage too.
    everything: bool,
    services: BTreeSet<String>,
    groups: BTreeSet<String>,
    targets: BTreeSet<String>,
}

impl Dirty {
    /// Everything: after a start, and periodically.
    pub fn everything() -> Dirty {
        Dirty { everything: true, ..Dirty::default() }
    }

    /// Notes what a commit changed, as `Db::on_commit` tells it.
    pub fn note(&mut self, snapshot: &Snapshot, changed: &[(u8, String)]) {
        for (table, key) in changed {
            match *table {
                ContainerGroup::TABLE => self.group(snapshot, key),
                Service::TABLE => {
                    self.services.insert(key.clone());
                }
                Target::TABLE => {
                    self.targets.insert(key.clone());
                    if let Some(owner) = snapshot.targets.get(key).and_then(|t| t.owner.clone()) {
                        self.group(snapshot, &owner);
                    }
                }
                Node::TABLE => self.everything = true,
                _ => {}
            }
        }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        *self == Dirty::default()
    }

    fn group(&mut self, snapshot: &Snapshot, key: &str) {
        let Some(group) = snapshot.groups.get(key) else { return };
        // Cloud Map is told of a task's health for as long as it runs.
        if group.traffic_moves() || !group.task().registries.is_empty() {
            self.groups.insert(key.to_owned());
        }
        if let Some(owner) = &group.task().service {
            self.services.insert(owner.key.clone());
        }
    }
}

/// The groups that the targets' controller may have to do something with: those whose targets come or go, and those
/// whose health is told to Cloud Map. Not all others, of which there may be a million.
fn groups_with_traffic(snapshot: &Snapshot) -> BTreeSet<String> {
    let moving = snapshot.groups.by_index("traffic", "1").map(|group| group.key());
    moving.chain(snapshot.discovery_instances.iter().filter_map(|(_, i)| i.owner.clone())).collect()
}

/// Runs the controllers over what is dirty, in one transaction. What they change makes dirty again what it touches;
/// a pass that writes nothing has nothing left to do before the time answered, which wants [`Dirty::everything`].
pub fn pass(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, dirty: &Dirty) -> Next {
    // First, so that what is lost with a node is replaced in the same pass.
    let mut next = if dirty.everything { node_loss::reconcile(tx, now_ms) } else { Next::IDLE };
    let (services, groups, targets) = if dirty.everything {
        let snapshot = tx.snapshot();
        (
            snapshot.services.iter().map(|(key, _)| key.to_owned()).collect(),
            groups_with_traffic(snapshot),
            snapshot.targets.iter().map(|(key, _)| key.to_owned()).collect(),
        )
    } else {
        (dirty.services.clone(), dirty.groups.clone(), dirty.targets.clone())
    };
    for key in &services {
        next = next.or(ecs_service::reconcile(tx, ids, now_ms, key));
    }
    next = next.or(traffic::reconcile(tx, ids, now_ms, groups.iter().map(String::as_str)));
    next = next.or(traffic::sweep_targets(tx, now_ms, targets.iter().map(String::as_str)));
    if dirty.everything {
        next = next.or(garbage::collect(tx, now_ms));
    }
    next
}
