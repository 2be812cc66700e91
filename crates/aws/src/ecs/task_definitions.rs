//! Task definitions: registered, numbered, shown, deregistered, deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use state::ecs::{Family, TaskDefinition, TaskDefinitionStatus};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{client, invalid};
use super::{definition, document, refs, tags};
use crate::Call;

/// RegisterTaskDefinition.
pub fn register(
    call: &mut Call<'_>,
    mut request: w::RegisterTaskDefinitionRequest,
) -> Result<w::RegisterTaskDefinitionResponse, Fault> {
    let tags = tags::read(request.tags.take())?;
    let scope = call.scope().clone();
    let mut built = definition::build(&scope, request)?;
    let family = built.spec.family.clone();
    let key = scope.key(&family);
    let revision = call.tx.get::<Family>(&key).map_or(0, |f| f.last_revision) + 1;
    call.tx.put(Family { scope: scope.clone(), name: family.clone(), last_revision: revision });
    built.spec.revision = revision;
    let record = TaskDefinition {
        scope,
        family,
        revision,
        status: TaskDefinitionStatus::Active,
        document: Arc::new(document::to_json("TaskDefinition", built.document)),
        spec: Arc::new(built.spec),
        requires: built.requires,
        compatibilities: built.compatibilities,
        tags,
        registered_at_ms: call.now_ms,
        registered_by: call.caller.arn.clone(),
        deregistered_at_ms: None,
        delete_requested_at_ms: None,
    };
    let tags = (!record.tags.is_empty()).then(|| tags::view(&record.tags));
    let task_definition = Some(view(&record));
    call.tx.put(record);
    Ok(w::RegisterTaskDefinitionResponse { task_definition, tags })
}

/// A task definition as the API shows it.
pub fn view(record: &TaskDefinition) -> w::TaskDefinition {
    let kept: w::TaskDefinition = document::from_json("TaskDefinition", &record.document);
    w::TaskDefinition {
        task_definition_arn: Some(record.arn()),
        revision: Some(i64::from(record.revision)),
        status: Some(record.status.as_str().into()),
        registered_at: Some(record.registered_at_ms),
        registered_by: Some(record.registered_by.clone()),
        deregistered_at: record.deregistered_at_ms,
        delete_requested_at: record.delete_requested_at_ms,
        ..kept
    }
}

/// DescribeTaskDefinition.
pub fn describe(
    call: &mut Call<'_>,
    request: w::DescribeTaskDefinitionRequest,
) -> Result<w::DescribeTaskDefinitionResponse, Fault> {
    let w::DescribeTaskDefinitionRequest { task_definition, include } = request;
    let given = task_definition.unwrap_or_default();
    let found = refs::task_definition(call.tx, call.scope(), &given)?;
    let record = found.ok_or_else(|| client("Unable to describe task definition."))?;
    let with_tags = include.iter().flatten().any(|i| i == "TAGS");
    Ok(w::DescribeTaskDefinitionResponse {
        task_definition: Some(view(&record)),
        tags: with_tags.then(|| tags::view(&record.tags)),
    })
}

/// DeregisterTaskDefinition.
pub fn deregister(
    call: &mut Call<'_>,
    request: w::DeregisterTaskDefinitionRequest,
) -> Result<w::DeregisterTaskDefinitionResponse, Fault> {
    let w::DeregisterTaskDefinitionRequest { task_definition } = request;
    let scope = call.scope().clone();
    let (family, revision) = refs::family_and_revision(&scope, &task_definition.unwrap_or_default())?;
    let revision = revision.ok_or_else(|| invalid("Revision is missing."))?;
    let key = TaskDefinition::key_of(&scope, &family, revision);
    let found = call.tx.get::<TaskDefinition>(&key);
    let found = found.ok_or_else(|| client("The specified task definition does not exist."))?;
    let mut record = TaskDefinition::clone(&found);
    match record.status {
        TaskDefinitionStatus::Active => {
            record.status = TaskDefinitionStatus::Inactive;
            record.deregistered_at_ms = Some(call.now_ms);
        }
        TaskDefinitionStatus::Inactive => {}
        TaskDefinitionStatus::DeleteInProgress => {
            return Err(client("The specified task definition is in the process of being deleted."));
        }
    }
    let task_definition = Some(view(&record));
    call.tx.put(record);
    Ok(w::DeregisterTaskDefinitionResponse { task_definition })
}

/// DeleteTaskDefinitions.
pub fn delete(
    call: &mut Call<'_>,
    request: w::DeleteTaskDefinitionsRequest,
) -> Result<w::DeleteTaskDefinitionsResponse, Fault> {
    let w::DeleteTaskDefinitionsRequest { task_definitions } = request;
    let given = task_definitions.unwrap_or_default();
    if given.is_empty() {
        return Err(invalid("Task definitions cannot be empty."));
    }
    if given.len() > 10 {
        return Err(invalid("Task definitions can have at most 10 items."));
    }
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for name in given {
        match delete_one(call, &name)? {
            Ok(view) => deleted.push(view),
            Err(reason) => failures.push(w::Failure { arn: Some(name), reason: Some(reason), detail: None }),
        }
    }
    Ok(w::DeleteTaskDefinitionsResponse { task_definitions: Some(deleted), failures: Some(failures) })
}

/// The view of what is being deleted, or the reason why it is not.
fn delete_one(call: &mut Call<'_>, name: &str) -> Result<Result<w::TaskDefinition, String>, Fault> {
    let scope = call.scope().clone();
    let (family, revision) = refs::family_and_revision(&scope, name)?;
    let revision = revision.ok_or_else(|| invalid("Revision is missing."))?;
    let key = TaskDefinition::key_of(&scope, &family, revision);
    let Some(found) = call.tx.get::<TaskDefinition>(&key) else {
        return Ok(Err(
            "The specified task definition does not exist. Specify a valid account, family, revision and \
                       try again."
                .into(),
        ));
    };
    if found.status == TaskDefinitionStatus::Active {
        return Ok(Err(
            "The specified task definition is still in ACTIVE status. Please deregister the target and try \
                       again."
                .into(),
        ));
    }
    let mut record = TaskDefinition::clone(&found);
    record.status = TaskDefinitionStatus::DeleteInProgress;
    record.delete_requested_at_ms.get_or_insert(call.now_ms);
    let view = view(&record);
    call.tx.put(record);
    Ok(Ok(view))
}

/// ListTaskDefinitions.
pub fn list(
    call: &mut Call<'_>,
    request: w::ListTaskDefinitionsRequest,
) -> Result<w::ListTaskDefinitionsResponse, Fault> {
    let w::ListTaskDefinitionsRequest { family_prefix, status, sort, next_token, max_results } = request;
    let limit = refs::limit(max_results, 100, 100)?;
    let status = status.as_deref().unwrap_or("ACTIVE");
    let prefix = match family_prefix.filter(|family| !family.is_empty()) {
        // Despite its name, the whole family's name.
        Some(family) => call.scope().key(&format!("{family}/")),
        None => call.scope().prefix(),
    };
    let table = call.tx.table::<TaskDefinition>();
    let mut found: Vec<_> =
        table.scan(&prefix).filter(|(_, record)| record.status.as_str() == status).collect();
    let page = refs::page(next_token.as_deref(), limit)?;
    let (records, next_token) = if sort.as_deref() == Some("DESC") {
        found.reverse();
        // The page's keys must rise: count down from the front of the list.
        let ranked: Vec<_> = found.iter().enumerate().collect();
        let (taken, next) = page.take(ranked, |(rank, _)| format!("{rank:010}"));
        (taken.into_iter().map(|(_, (_, record))| record.arn()).collect(), next)
    } else {
        let (taken, next) = page.take(found, |(key, _)| (*key).to_owned());
        (taken.into_iter().map(|(_, record)| record.arn()).collect(), next)
    };
    Ok(w::ListTaskDefinitionsResponse { task_definition_arns: Some(records), next_token })
}

/// ListTaskDefinitionFamilies.
pub fn list_families(
    call: &mut Call<'_>,
    request: w::ListTaskDefinitionFamiliesRequest,
) -> Result<w::ListTaskDefinitionFamiliesResponse, Fault> {
    let w::ListTaskDefinitionFamiliesRequest { family_prefix, status, next_token, max_results } = request;
    let limit = refs::limit(max_results, 100, 100)?;
    let status = status.as_deref().unwrap_or("ALL");
    let prefix = call.scope().key(&family_prefix.unwrap_or_default());
    // A family is active while one of its revisions is.
    let mut families: BTreeMap<String, bool> = BTreeMap::new();
    for (_, record) in call.tx.table::<TaskDefinition>().scan(&prefix) {
        if record.status != TaskDefinitionStatus::DeleteInProgress {
            *families.entry(record.family.clone()).or_default() |=
                record.status == TaskDefinitionStatus::Active;
        }
    }
    let wanted = families.into_iter().filter(|(_, active)| match status {
        "ACTIVE" => *active,
        "INACTIVE" => !active,
        _ => true,
    });
    let names = wanted.map(|(name, _)| name);
    let (families, next_token) = refs::page(next_token.as_deref(), limit)?.take(names, Clone::clone);
    Ok(w::ListTaskDefinitionFamiliesResponse { families: Some(families), next_token })
}
