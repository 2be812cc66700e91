//! Finds what a request names: clusters, task definitions, tasks and services, by name, id or ARN.

use std::sync::Arc;

use state::ecs::{Cluster, Service, TaskDefinition, TaskDefinitionStatus};
use state::{Arn, Scope, Tx};
use wire::Fault;

use super::faults::{client, cluster_not_found, invalid, service_not_found};

/// Whether a text is a name as clusters, families, containers and volumes have them.
pub fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The resource part of an ECS ARN after `kind/`; the text itself if it is no ARN.
fn resource<'a>(scope: &Scope, kind: &str, given: &'a str) -> Result<&'a str, Fault> {
    if !given.starts_with("arn:") {
        return Ok(given);
    }
    let wrong = || invalid(format!("Invalid identifier: {given} is not the ARN of a {kind}."));
    let arn = Arn::parse(given).filter(|arn| arn.service == "ecs").ok_or_else(wrong)?;
    if arn.account != scope.account {
        let message = format!("Identifier is for {}. Your accountId is {}", arn.account, scope.account);
        return Err(invalid(message));
    }
    if arn.region != scope.region {
        let message = format!("Identifier is for region {}. Your region is {}", arn.region, scope.region);
        return Err(invalid(message));
    }
    arn.resource.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/')).ok_or_else(wrong)
}

/// The name of a cluster given by name or ARN; `default` if none was given.
pub fn cluster_name(scope: &Scope, given: Option<&str>) -> Result<String, Fault> {
    let Some(given) = given.filter(|g| !g.is_empty()) else { return Ok("default".into()) };
    let name = resource(scope, "cluster", given)?;
    if !is_name(name) {
        return Err(invalid(format!("Cluster must match ^[a-zA-Z0-9\\-_]{{1,255}}$, but was {name}")));
    }
    Ok(name.to_owned())
}

/// A cluster, active or not.
pub fn cluster(tx: &Tx, scope: &Scope, given: Option<&str>) -> Result<Arc<Cluster>, Fault> {
    let name = cluster_name(scope, given)?;
    tx.get::<Cluster>(&scope.key(&name)).ok_or_else(cluster_not_found)
}

/// A cluster in which something can be started.
pub fn active_cluster(tx: &Tx, scope: &Scope, given: Option<&str>) -> Result<Arc<Cluster>, Fault> {
    let cluster = cluster(tx, scope, given)?;
    if !cluster.active {
        return Err(Fault::new("ClusterNotFoundException", "The referenced cluster was inactive."));
    }
    Ok(cluster)
}

/// `family`, `family:revision` or an ARN: the family and the revision.
pub fn family_and_revision(scope: &Scope, given: &str) -> Result<(String, Option<u32>), Fault> {
    let text = resource(scope, "task-definition", given)?;
    let (family, revision) = match text.split_once(':') {
        Some((family, revision)) => (family, Some(revision)),
        None => (text, None),
    };
    if !is_name(family) {
        return Err(client("Family contains invalid characters."));
    }
    let bad = |text: &str| invalid(format!("Invalid revision number. Number: {text}"));
    let revision = revision.map(|text| text.parse().map_err(|_| bad(text))).transpose()?;
    Ok((family.to_owned(), revision))
}

/// A revision of a task definition; without a revision the latest active one.
pub fn task_definition(tx: &Tx, scope: &Scope, given: &str) -> Result<Option<Arc<TaskDefinition>>, Fault> {
    let (family, revision) = family_and_revision(scope, given)?;
    if let Some(revision) = revision {
        return Ok(tx.get::<TaskDefinition>(&TaskDefinition::key_of(scope, &family, revision)));
    }
    let prefix = scope.key(&format!("{family}/"));
    let revisions = tx.table::<TaskDefinition>().scan(&prefix).map(|(_, record)| record);
    Ok(revisions.filter(|r| r.status == TaskDefinitionStatus::Active).last().cloned())
}

/// A task definition that can be run.
pub fn runnable_definition(
    tx: &Tx,
    scope: &Scope,
    given: Option<&str>,
) -> Result<Arc<TaskDefinition>, Fault> {
    let given = given.filter(|g| !g.is_empty()).ok_or_else(|| invalid("TaskDefinition can not be blank."))?;
    let found = task_definition(tx, scope, given)?.ok_or_else(|| client("TaskDefinition not found."))?;
    if found.status != TaskDefinitionStatus::Active {
        return Err(client("TaskDefinition is inactive"));
    }
    Ok(found)
}

/// A task given by id or ARN: the cluster its ARN names, and its id.
pub fn task_id(scope: &Scope, given: &str) -> Result<(Option<String>, String), Fault> {
    let text = resource(scope, "task", given)?;
    let (cluster, id) = match text.split_once('/') {
        Some((cluster, id)) => (Some(cluster.to_owned()), id),
        None => (None, text),
    };
    if id.len() > 36 {
        return Err(invalid("taskId longer than 36."));
    }
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(invalid(format!("Invalid identifier: {given} is not a task's id or ARN.")));
    }
    Ok((cluster, id.to_owned()))
}

/// The name of a service given by name or ARN.
pub fn service_name(scope: &Scope, given: &str) -> Result<String, Fault> {
    let text = resource(scope, "service", given)?;
    let name = text.rsplit('/').next().unwrap_or_default();
    if !is_name(name) {
        return Err(invalid("Invalid service name."));
    }
    Ok(name.to_owned())
}

/// A service of a cluster, in any state.
pub fn service(tx: &Tx, scope: &Scope, cluster: &str, given: &str) -> Result<Arc<Service>, Fault> {
    let name = service_name(scope, given)?;
    tx.get::<Service>(&Service::key_of(scope, cluster, &name)).ok_or_else(service_not_found)
}

/// `maxResults` of a list, within what the API allows.
pub fn limit(given: Option<i64>, default: usize, max: usize) -> Result<usize, Fault> {
    match given {
        None => Ok(default),
        Some(n) if (1..=max as i64).contains(&n) => Ok(n as usize),
        Some(n) => Err(invalid(format!("maxResults must be between 1 and {max}, but was {n}"))),
    }
}

/// Checks a `nextToken`.
pub fn page(token: Option<&str>, limit: usize) -> Result<crate::Page<'_>, Fault> {
    let page = crate::Page { token: token.filter(|t| !t.is_empty()), limit };
    if page.is_valid() { Ok(page) } else { Err(invalid("Invalid token")) }
}
