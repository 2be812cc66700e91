//! Lifecycle policies: checked, kept and shown. They are not evaluated yet: no image expires, and the time of a last
//! evaluation is never shown.

use serde_json::{Map, Value};
use state::ecr::Repository;
use wire::Fault;
use wire::shapes::ecr as shapes;

use super::faults::{invalid, place, repository};
use crate::Call;

/// PutLifecyclePolicy.
pub(super) fn put(
    call: &mut Call<'_>,
    input: shapes::PutLifecyclePolicyRequest,
) -> Result<shapes::PutLifecyclePolicyResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    let repository = repository(call, input.registry_id.as_deref(), &name, "PutLifecyclePolicy")?;
    let text = input.lifecycle_policy_text.unwrap_or_default();
    check(&text).map_err(|why| {
        invalid("LifecyclePolicyText", &format!("Lifecycle policy validation failure: {why}"))
    })?;
    call.tx.put(Repository { lifecycle_policy: Some(text.clone()), ..Repository::clone(&repository) });
    Ok(shapes::PutLifecyclePolicyResponse {
        registry_id: Some(repository.scope.account.clone()),
        repository_name: Some(name),
        lifecycle_policy_text: Some(text),
    })
}

/// GetLifecyclePolicy.
pub(super) fn get(
    call: &mut Call<'_>,
    input: shapes::GetLifecyclePolicyRequest,
) -> Result<shapes::GetLifecyclePolicyResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    let repository = repository(call, input.registry_id.as_deref(), &name, "GetLifecyclePolicy")?;
    let text = repository.lifecycle_policy.clone().ok_or_else(|| none(&repository))?;
    Ok(shapes::GetLifecyclePolicyResponse {
        registry_id: Some(repository.scope.account.clone()),
        repository_name: Some(name),
        lifecycle_policy_text: Some(text),
        last_evaluated_at: None,
    })
}

/// DeleteLifecyclePolicy.
pub(super) fn delete(
    call: &mut Call<'_>,
    input: shapes::DeleteLifecyclePolicyRequest,
) -> Result<shapes::DeleteLifecyclePolicyResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    let repository = repository(call, input.registry_id.as_deref(), &name, "DeleteLifecyclePolicy")?;
    let text = repository.lifecycle_policy.clone().ok_or_else(|| none(&repository))?;
    call.tx.put(Repository { lifecycle_policy: None, ..Repository::clone(&repository) });
    Ok(shapes::DeleteLifecyclePolicyResponse {
        registry_id: Some(repository.scope.account.clone()),
        repository_name: Some(name),
        lifecycle_policy_text: Some(text),
        last_evaluated_at: None,
    })
}

fn none(repository: &Repository) -> Fault {
    let message =
        format!("Lifecycle policy does not exist for {}", place(&repository.scope, &repository.name));
    Fault::new("LifecyclePolicyNotFoundException", message)
}

/// Checks a policy ("Lifecycle policy properties in Amazon ECR").
fn check(text: &str) -> Result<(), String> {
    let document: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| "Could not map policyString into LifecyclePolicy.")?;
    let rules = match document.get("rules") {
        Some(Value::Array(rules)) => rules,
        _ => return Err(missing(&["rules"])),
    };
    only(&document, &["rules"])?;
    let mut priorities = std::collections::BTreeSet::new();
    for rule in rules {
        let rule = object(rule)?;
        require(rule, &["action", "rulePriority", "selection"])?;
        only(rule, &["rulePriority", "description", "selection", "action"])?;
        let priority = rule["rulePriority"].as_u64().filter(|p| *p >= 1);
        let priority = priority.ok_or("'rulePriority' must be an integer of at least 1")?;
        if !priorities.insert(priority) {
            return Err(format!("rule priority {priority} is used more than once"));
        }
        let action = object(&rule["action"])?;
        require(action, &["type"])?;
        only(action, &["type"])?;
        one_of(action, "type", &["expire"])?;
        selection(object(&rule["selection"])?)?;
    }
    Ok(())
}

fn selection(selection: &Map<String, Value>) -> Result<(), String> {
    require(selection, &["countNumber", "countType", "tagStatus"])?;
    only(
        selection,
        &["tagStatus", "tagPrefixList", "tagPatternList", "countType", "countUnit", "countNumber"],
    )?;
    one_of(selection, "tagStatus", &["tagged", "untagged", "any"])?;
    one_of(selection, "countType", &["imageCountMoreThan", "sinceImagePushed"])?;
    if selection["countNumber"].as_u64().is_none_or(|n| n == 0) {
        return Err("'countNumber' must be an integer of at least 1".into());
    }
    let since = selection["countType"] == "sinceImagePushed";
    match selection.get("countUnit") {
        Some(_) if since => one_of(selection, "countUnit", &["days"])?,
        Some(_) => return Err("'countUnit' goes with countType 'sinceImagePushed' only".into()),
        None if since => return Err(missing(&["countUnit"])),
        None => {}
    }
    let lists = ["tagPrefixList", "tagPatternList"].map(|name| selection.get(name).is_some());
    match (selection["tagStatus"] == "tagged", lists) {
        (true, [false, false]) => Err("tagged rules need 'tagPrefixList' or 'tagPatternList'".into()),
        (true, [true, true]) => Err("'tagPrefixList' and 'tagPatternList' exclude each other".into()),
        (false, [true, _] | [_, true]) => {
            Err("'tagPrefixList' and 'tagPatternList' go with tagStatus 'tagged' only".into())
        }
        _ => Ok(()),
    }
}

fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    let kind = match value {
        Value::Object(object) => return Ok(object),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "integer",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
    };
    Err(format!("instance type ({kind}) does not match any allowed primitive type (allowed: [\"object\"])"))
}

fn missing(names: &[&str]) -> String {
    format!("object has missing required properties ({})", quoted(names))
}

fn require(object: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    let absent: Vec<&str> = names.iter().copied().filter(|name| !object.contains_key(*name)).collect();
    if absent.is_empty() { Ok(()) } else { Err(missing(&absent)) }
}

fn only(object: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    let foreign: Vec<&str> = object.keys().map(String::as_str).filter(|name| !names.contains(name)).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let names = quoted(&foreign);
    Err(format!("object instance has properties which are not allowed by the schema: ({names})"))
}

fn one_of(object: &Map<String, Value>, name: &str, allowed: &[&str]) -> Result<(), String> {
    let value = &object[name];
    if value.as_str().is_some_and(|text| allowed.contains(&text)) {
        return Ok(());
    }
    let allowed = quoted(allowed);
    Err(format!("instance value ({value}) not found in enum (possible values: {allowed})"))
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("[{}]", names.join(","))
}
