//! One image for all tasks of a deployment: what its first task found behind a tag is what the later ones are given, until
//! the next deployment ("Container image resolution", ECS developer guide).
//!
//! An image that is deleted meanwhile is missed: none that the tag has moved to takes its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use state::ecs::{Deployment, ServiceRevision, TaskDefinition};
use state::{ContainerGroup, GroupSpec, Scope, Tx};

use crate::service_task::definition_key;

fn revision_key(service_key: &str, deployment: &Deployment) -> String {
    format!("{service_key}/{}", deployment.revision_id)
}

/// Notes what the tasks of a deployment have found.
pub fn resolve(tx: &mut Tx, scope: &Scope, service_key: &str, deployment: &Deployment) {
    let key = revision_key(service_key, deployment);
    let Some(revision) = tx.get::<ServiceRevision>(&key) else { return };
    let definition = definition_key(scope, &deployment.template.task_definition_arn)
        .and_then(|key| tx.get::<TaskDefinition>(&key));
    let Some(definition) = definition else { return };
    let unknown = definition.spec.containers.iter().filter(|c| c.is_resolved_once());
    let unknown: Vec<&str> =
        unknown.map(|c| c.name.as_str()).filter(|name| !revision.images.contains_key(*name)).collect();
    if unknown.is_empty() {
        return;
    }
    let mut tasks: Vec<_> = tx.table::<ContainerGroup>().by_index("deployment", &deployment.id).collect();
    tasks.sort_by_key(|task| task.created_at_ms);
    let digest = |task: &&Arc<ContainerGroup>, name: &str| {
        task.observed.containers.iter().find(|c| c.name == name)?.image_digest.clone()
    };
    let found = unknown
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), tasks.iter().find_map(|task| digest(task, name))?)));
    let found: BTreeMap<String, String> = found.collect();
    if !found.is_empty() {
        tx.update::<ServiceRevision>(&key, |revision| revision.images.extend(found));
    }
}

/// What the next task of a deployment runs: the definition's specification, with the images that are known by now.
pub fn given(
    tx: &Tx,
    service_key: &str,
    deployment: &Deployment,
    definition: &TaskDefinition,
) -> (String, Arc<GroupSpec>) {
    let mut spec = GroupSpec::clone(&definition.spec);
    if let Some(revision) = tx.get::<ServiceRevision>(&revision_key(service_key, deployment)) {
        for container in &mut spec.containers {
            container.image_digest = revision.images.get(&container.name).cloned();
        }
    }
    state::group::changed(tx, definition, spec)
}
