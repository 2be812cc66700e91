//! Nodes that are lost: whose agent is silent takes no new groups, and after [`LOST_MS`] what ran there has stopped.
//!
//! In AWS's terms the container instance shows `agentConnected: false` at once, and its tasks go on meanwhile. A node
//! that stays silent is a terminated instance ("Host EC2 (instance …) terminated.", "Amazon ECS stopped tasks error
//! messages", ECS developer guide) and a failed Fargate host ("AWS Fargate task retirement": the host is replaced and the
//! task told of with the reason below); services replace their tasks. Containers that live on behind a broken
//! connection are stopped by their agent once it is heard again: their groups are assigned to it no more.

use state::assignment::Report;
use state::group::{Observed, Phase, StopCause, StopCode};
use state::node::Node;
use state::{ContainerGroup, TimeMs, Tx};

use crate::{Next, reports};

/// A node silent for so long is lost.
pub const LOST_MS: i64 = 60_000;

/// A node's agent is connected, for the first time or again with what its machine is now.
pub fn register(tx: &mut Tx, node: Node) {
    let known = tx.get::<Node>(&node.id).map(|old| old.registered_at_ms);
    tx.put(Node { registered_at_ms: known.unwrap_or(node.registered_at_ms), silent_since_ms: None, ..node });
}

/// A node's agent is heard no more. Said again, it counts from the first time.
pub fn silent(tx: &mut Tx, node: &str, now_ms: TimeMs) {
    tx.update::<Node>(node, |node| {
        node.silent_since_ms.get_or_insert(now_ms);
    });
}

/// A node's agent is heard again.
pub fn heard(tx: &mut Tx, node: &str) {
    tx.update::<Node>(node, |node| node.silent_since_ms = None);
}

/// Gives up what ran on nodes that are lost.
pub fn reconcile(tx: &mut Tx, now_ms: TimeMs) -> Next {
    let mut next = Next::IDLE;
    let silent: Vec<_> =
        tx.table::<Node>().iter().filter(|(_, n)| !n.is_connected()).map(|(_, n)| n.clone()).collect();
    for node in silent {
        let lost_at_ms = node.silent_since_ms.unwrap_or(now_ms) + LOST_MS;
        let groups: Vec<_> = tx.table::<ContainerGroup>().by_index("node", &node.id).cloned().collect();
        if now_ms < lost_at_ms {
            next = next.or(Next::at(lost_at_ms));
            continue;
        }
        for group in groups {
            give_up(tx, &node, &group, now_ms);
        }
    }
    next
}

/// Reports in the agent's stead that nothing of a group is left. It is no failure of what the group ran.
fn give_up(tx: &mut Tx, node: &Node, group: &ContainerGroup, now_ms: TimeMs) {
    let reason = if group.task().is_fargate() {
        "ECS is performing maintenance on the underlying infrastructure hosting the task.".to_owned()
    } else {
        format!("Host EC2 (instance {}) terminated.", node.instance_id())
    };
    let key = ContainerGroup::key_of(&group.scope, &group.cluster, &group.id);
    crate::stop(tx, &key, StopCause { code: StopCode::TerminationNotice, reason, at_ms: now_ms });
    let observed = Observed {
        phase: Phase::Gone,
        stopping_at_ms: Some(now_ms),
        execution_stopped_at_ms: group.observed.started_at_ms.map(|_| now_ms),
        ..group.observed.clone()
    };
    let told = reports::apply(tx, &node.id, &Report { key, observed }, now_ms);
    debug_assert_eq!(told, Ok(()), "a group of the node that is not over");
}

#[cfg(test)]
mod tests {
    use state::Ids;
    use state::group::{ContainerState, Desired, NetworkMode, Source, TaskStatus};
    use state::node::Ledger;

    use super::*;
    use crate::fixture::{self, NOW_MS};
    use crate::placement::Reason;

    fn launch(tx: &mut Tx, ids: &mut Ids, launch_type: &str) -> Result<String, crate::Unplaced> {
        let wish = fixture::Wish::of(fixture::spec(NetworkMode::Bridge, 256, 512, &[]));
        let key = fixture::key(&*fixture::launch(tx, ids, &wish)?);
        tx.update::<ContainerGroup>(&key, |group| {
            let Source::Task(task) = &mut group.source;
            std::sync::Arc::make_mut(task).launch_type = launch_type.into();
        });
        Ok(key)
    }

    #[test]
    fn a_silent_node_takes_nothing_new_and_is_lost_after_a_while() {
        let (mut tx, mut ids) = fixture::world([fixture::node("a", "us-east-1a")]);
        let ec2 = launch(&mut tx, &mut ids, "EC2").unwrap();
        let fargate = launch(&mut tx, &mut ids, "FARGATE").unwrap();
        silent(&mut tx, "a", NOW_MS);
        silent(&mut tx, "a", NOW_MS + 7);
        assert_eq!(launch(&mut tx, &mut ids, "EC2").unwrap_err().reason, Reason::Agent);
        // Not a moment too early, and nothing happens to what runs there.
        let before = tx.snapshot().clone();
        assert_eq!(reconcile(&mut tx, NOW_MS + LOST_MS - 1), Next::at(NOW_MS + LOST_MS));
        assert_eq!(tx.get::<ContainerGroup>(&ec2), before.groups.get(&ec2).cloned());
        assert_eq!(reconcile(&mut tx, NOW_MS + LOST_MS), Next::IDLE);
        let reasons = [
            (&ec2, "Host EC2 (instance i-a) terminated."),
            (&fargate, "ECS is performing maintenance on the underlying infrastructure hosting the task."),
        ];
        for (key, reason) in reasons {
            let group = tx.get::<ContainerGroup>(key).unwrap();
            assert_eq!(group.status(), TaskStatus::Stopped);
            let Desired::Stop(cause) = &group.desired else { panic!("{group:#?}") };
            assert_eq!((cause.code.as_str(), cause.reason.as_str()), ("TerminationNotice", reason));
            assert!(
                matches!(group.observed.containers[0].state, ContainerState::Exited { code: None, .. }),
                "nobody saw an exit code"
            );
        }
        assert_eq!(tx.get::<Ledger>("a").unwrap().groups, 0);
        assert_eq!(state::check::check(tx.snapshot()), Vec::<String>::new());
        // Again changes nothing, and what the agent says when it is heard again comes too late.
        let after = tx.snapshot().clone();
        reconcile(&mut tx, NOW_MS + 2 * LOST_MS);
        assert_eq!(tx.get::<ContainerGroup>(&ec2), after.groups.get(&ec2).cloned());
        heard(&mut tx, "a");
        let report = Report { key: ec2, observed: Observed::default() };
        assert_eq!(reports::apply(&mut tx, "a", &report, NOW_MS), Err(reports::Refused::Stale));
        launch(&mut tx, &mut ids, "EC2").unwrap();
    }

    #[test]
    fn a_node_that_is_heard_in_time_loses_nothing() {
        let (mut tx, mut ids) = fixture::world([fixture::node("a", "us-east-1a")]);
        let key = launch(&mut tx, &mut ids, "EC2").unwrap();
        silent(&mut tx, "a", NOW_MS);
        heard(&mut tx, "a");
        assert_eq!(reconcile(&mut tx, NOW_MS + 2 * LOST_MS), Next::IDLE);
        assert_eq!(tx.get::<ContainerGroup>(&key).unwrap().desired, Desired::Run);
        // Registered again: it is the same node, known since its first time.
        silent(&mut tx, "a", NOW_MS);
        register(&mut tx, Node { registered_at_ms: NOW_MS + 5, ..fixture::node("a", "us-east-1a") });
        let node = tx.get::<Node>("a").unwrap();
        assert!(node.is_connected() && node.registered_at_ms == NOW_MS);
    }
}
