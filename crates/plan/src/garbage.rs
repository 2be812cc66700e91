//! What is forgotten, and when: stopped tasks, specifications nobody runs, deleted services and task
//! definitions. Deleted clusters stay, as INACTIVE.

use state::ecs::{Service, ServiceRevision, ServiceStatus, TaskDefinition, TaskDefinitionStatus};
use state::group::SpecRecord;
use state::{ContainerGroup, Record, Snapshot, Table, TimeMs, Tx};

use crate::Next;

/// How long a stopped task is shown, as in ECS.
pub const STOPPED_TASK_MS: i64 = 60 * 60 * 1000;
/// How long a deleted service is shown.
pub const INACTIVE_MS: i64 = 24 * 60 * 60 * 1000;

/// How long a deployment that is over is told of, as in ECS.
pub const PAST_DEPLOYMENT_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// What is due within this time is forgotten at once.
const TOGETHER_MS: i64 = 60 * 1000;

/// Deletes all that is due.
pub fn collect(tx: &mut Tx, now_ms: TimeMs) {
    stopped_groups(tx, now_ms);
    past_deployments(tx, now_ms);
    unused_specs(tx);
    deleted_definitions(tx);
}

/// When there is a task to forget: at the next full minute, so that many are forgotten at once. What else is due is found
/// then too, or at the next look at everything.
pub fn next(tx: &Tx) -> Next {
    let first = stopped(tx.table::<ContainerGroup>()).next();
    Next { again_at_ms: first.map(|(at_ms, _)| at_ms.div_euclid(TOGETHER_MS) * TOGETHER_MS + TOGETHER_MS) }
}

/// When stopped tasks are to be forgotten, and the index's value of each time, in order.
fn stopped(groups: &Table<ContainerGroup>) -> impl Iterator<Item = (TimeMs, &str)> {
    let times = groups.index_values("stopped", "").map(|(stopped_at_ms, _)| stopped_at_ms);
    times.map(|text| (text.parse::<TimeMs>().unwrap_or(0) + STOPPED_TASK_MS, text))
}

fn stopped_groups(tx: &mut Tx, now_ms: TimeMs) {
    let groups = tx.table::<ContainerGroup>();
    let due = stopped(groups).take_while(|(at_ms, _)| *at_ms <= now_ms);
    let due: Vec<String> =
        due.flat_map(|(_, text)| groups.by_index("stopped", text)).map(|group| group.key()).collect();
    for key in due {
        tx.delete::<ContainerGroup>(&key);
    }
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

/// Forgets a deleted service, if it is due.
pub fn inactive_service(tx: &mut Tx, now_ms: TimeMs, key: &str, service: &Service) -> Next {
    let at_ms = service.deleted_at_ms.unwrap_or(service.created_at_ms) + INACTIVE_MS;
    if now_ms < at_ms {
        return Next::at(at_ms);
    }
    let prefix = format!("{key}/");
    let revisions: Vec<String> =
        tx.table::<ServiceRevision>().scan(&prefix).map(|(key, _)| key.to_owned()).collect();
    for revision in revisions {
        tx.delete::<ServiceRevision>(&revision);
    }
    tx.delete::<Service>(key);
    Next::IDLE
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
