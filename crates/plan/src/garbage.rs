//! What is forgotten, and when: stopped tasks, specifications nobody runs, deleted services and task
//! definitions. Deleted clusters stay, as INACTIVE.

use state::ecs::{Service, ServiceRevision, ServiceStatus, TaskDefinition, TaskDefinitionStatus};
use state::group::SpecRecord;
use state::{ContainerGroup, Record, Snapshot, TimeMs, Tx};

use crate::Next;

/// How long a stopped task is shown, as in ECS.
pub const STOPPED_TASK_MS: i64 = 60 * 60 * 1000;
/// How long a deleted service is shown.
pub const INACTIVE_MS: i64 = 24 * 60 * 60 * 1000;

/// How long a deployment that is over is told of, as in ECS.
pub const PAST_DEPLOYMENT_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Deletes all that is due.
pub fn collect(tx: &mut Tx, now_ms: TimeMs) -> Next {
    let next = stopped_groups(tx, now_ms).or(inactive_services(tx, now_ms));
    past_deployments(tx, now_ms);
    unused_specs(tx);
    deleted_definitions(tx);
    next
}

fn stopped_groups(tx: &mut Tx, now_ms: TimeMs) -> Next {
    let groups = tx.table::<ContainerGroup>();
    let (mut due, mut next) = (Vec::new(), Next::IDLE);
    // In the order in which they stopped.
    for (stopped_at_ms, _) in groups.index_values("stopped", "") {
        let at = stopped_at_ms.parse::<TimeMs>().unwrap_or(0) + STOPPED_TASK_MS;
        if at > now_ms {
            next = Next::at(at);
            break;
        }
        due.extend(groups.by_index("stopped", stopped_at_ms).map(|group| group.key()));
    }
    for key in due {
        tx.delete::<ContainerGroup>(&key);
    }
    next
}

fn unused_specs(tx: &mut Tx) {
    let unused = |id: &&str| tx.table::<ContainerGroup>().count_by_index("spec", id) == 0;
    let unused: Vec<String> =
        tx.table::<SpecRecord>().iter().map(|(id, _)| id).filter(unused).map(str::to_owned).collect();
    for id in unused {
        tx.delete::<SpecRecord>(&id);
    }
}

fn past_deployments(tx: &mut Tx, now_ms: TimeMs) {
    let is_due = |r: &ServiceRevision| {
        r.past.as_ref().is_some_and(|past| past.updated_at_ms + PAST_DEPLOYMENT_MS <= now_ms)
    };
    let due = tx.table::<ServiceRevision>().iter().filter(|(_, r)| is_due(r));
    let due: Vec<String> = due.map(|(key, _)| key.to_owned()).collect();
    for key in due {
        tx.delete::<ServiceRevision>(&key);
    }
}

fn inactive_services(tx: &mut Tx, now_ms: TimeMs) -> Next {
    let mut next = Next::IDLE;
    let mut due = Vec::new();
    for (key, service) in tx.table::<Service>().iter().filter(|(_, s)| s.status == ServiceStatus::Inactive) {
        let at = service.deleted_at_ms.unwrap_or(service.created_at_ms) + INACTIVE_MS;
        if at <= now_ms {
            due.push(key.to_owned());
        } else {
            next = next.or(Next::at(at));
        }
    }
    for key in due {
        let prefix = format!("{key}/");
        let revisions: Vec<String> =
            tx.table::<ServiceRevision>().scan(&prefix).map(|(key, _)| key.to_owned()).collect();
        for revision in revisions {
            tx.delete::<ServiceRevision>(&revision);
        }
        tx.delete::<Service>(&key);
    }
    next
}

/// A deleted task definition goes when no task and no service uses it.
fn deleted_definitions(tx: &mut Tx) {
    let deleted: Vec<(String, String)> = (tx.table::<TaskDefinition>().iter())
        .filter(|(_, d)| d.status == TaskDefinitionStatus::DeleteInProgress)
        .map(|(key, d)| (key.to_owned(), d.arn()))
        .collect();
    for (key, arn) in deleted {
        if !is_used(tx.snapshot(), &key, &arn) {
            tx.delete::<TaskDefinition>(&key);
        }
    }
}

fn is_used(snapshot: &Snapshot, key: &str, arn: &str) -> bool {
    let by_service = |service: &Service| {
        service.status != ServiceStatus::Inactive
            && (service.template.task_definition_arn == arn
                || service.deployments.iter().any(|d| d.template.task_definition_arn == arn))
    };
    // Its spec, as it is and with overrides.
    let overridden = format!("{key}+");
    let with_overrides = snapshot.groups.index_values("spec", &overridden).map(|(spec, _)| spec);
    let mut specs = std::iter::once(key).chain(with_overrides);
    snapshot.services.iter().any(|(_, service)| by_service(service))
        || specs.any(|spec| snapshot.groups.by_index("spec", spec).any(|group| !group.is_stopped()))
}
