//! What an agent tells is written down: forward only, and of its own groups only.

use state::assignment::Report;
use state::group::{ContainerObserved, ContainerState, Observed, Phase, SpecRecord};
use state::node::Ledger;
use state::{ContainerGroup, TimeMs, Tx};

/// Why a report was not taken. The agent drops it; the next assignments tell it what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no such group.
    Unknown,
    /// The group is placed on another node.
    NotYours,
    /// The group was further already: a late or repeated report.
    Stale,
}

/// Takes a node's report of one group. At [`Phase::Gone`] everything that the group held is given back in the same
/// commit: resources, host ports, address, targets and names.
pub fn apply(tx: &mut Tx, node: &str, report: &Report, now_ms: TimeMs) -> Result<(), Refused> {
    let group = tx.get::<ContainerGroup>(&report.key).ok_or(Refused::Unknown)?;
    if group.node() != Some(node) {
        return Err(Refused::NotYours);
    }
    if group.is_stopped() || report.observed.phase < group.observed.phase {
        return Err(Refused::Stale);
    }
    let observed = merge(&group.observed, &report.observed, now_ms);
    let gone = observed.phase == Phase::Gone;
    tx.update::<ContainerGroup>(&report.key, |group| group.observed = observed);
    if gone {
        let demand = tx.get::<SpecRecord>(&group.spec).map(|spec| spec.spec.demand.clone());
        if let Some(demand) = demand {
            tx.update::<Ledger>(node, |ledger| ledger.give_back(&report.key, &demand));
        }
        // The address may belong to another from now on: no packet for this group may go there any more.
        crate::traffic::remove_all(tx, &report.key, now_ms);
    }
    Ok(())
}

/// The report, with names, ids and times that an agent which lost its disk may not take back.
fn merge(known: &Observed, told: &Observed, now_ms: TimeMs) -> Observed {
    let mut merged = Observed { containers: Vec::with_capacity(known.containers.len()), ..told.clone() };
    for container in &known.containers {
        let told = told.containers.iter().find(|c| c.name == container.name).unwrap_or(container);
        merged.containers.push(ContainerObserved {
            name: container.name.clone(),
            id: container.id.clone(),
            runtime_id: told.runtime_id.clone().or_else(|| container.runtime_id.clone()),
            image_digest: told.image_digest.clone().or_else(|| container.image_digest.clone()),
            ..told.clone()
        });
    }
    merged.stop = known.stop.clone().or_else(|| told.stop.clone());
    merged.connectivity_at_ms = known.connectivity_at_ms.or(told.connectivity_at_ms);
    merged.pull_started_at_ms = known.pull_started_at_ms.or(told.pull_started_at_ms);
    merged.pull_stopped_at_ms = told.pull_stopped_at_ms.or(known.pull_stopped_at_ms);
    merged.started_at_ms = known.started_at_ms.or(told.started_at_ms);
    merged.stopping_at_ms = known.stopping_at_ms.or(told.stopping_at_ms);
    merged.execution_stopped_at_ms = known.execution_stopped_at_ms.or(told.execution_stopped_at_ms);
    if merged.phase == Phase::Gone {
        merged.stopped_at_ms = merged.stopped_at_ms.or(Some(now_ms));
        // Nothing is left on the node, so nothing runs there either.
        for container in &mut merged.containers {
            if !matches!(container.state, ContainerState::Exited { .. }) {
                container.state = ContainerState::Exited { code: None, reason: None, at_ms: now_ms };
            }
        }
    }
    merged
}
