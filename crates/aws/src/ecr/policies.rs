//! Repository policies: kept and shown. They are not evaluated yet, and no account can reach another's registry.

use state::ecr::Repository;
use wire::Fault;
use wire::shapes::ecr as shapes;

use super::faults::{invalid, place, repository};
use crate::Call;

/// SetRepositoryPolicy.
pub(super) fn set(
    call: &mut Call<'_>,
    input: shapes::SetRepositoryPolicyRequest,
) -> Result<shapes::SetRepositoryPolicyResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    let repository = repository(call, input.registry_id.as_deref(), &name, "SetRepositoryPolicy")?;
    let text = input.policy_text.unwrap_or_default();
    if !is_policy(&text) {
        return Err(invalid("PolicyText", "Invalid repository policy provided"));
    }
    // `force` allows a policy that locks its setter out; as policies are not evaluated, none does.
    call.tx.put(Repository { policy: Some(text.clone()), ..Repository::clone(&repository) });
    Ok(shapes::SetRepositoryPolicyResponse {
        registry_id: Some(repository.scope.account.clone()),
        repository_name: Some(name),
        policy_text: Some(text),
    })
}

/// GetRepositoryPolicy.
pub(super) fn get(
    call: &mut Call<'_>,
    input: shapes::GetRepositoryPolicyRequest,
) -> Result<shapes::GetRepositoryPolicyResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    let repository = repository(call, input.registry_id.as_deref(), &name, "GetRepositoryPolicy")?;
    let text = repository.policy.clone().ok_or_else(|| none(&repository))?;
    Ok(shapes::GetRepositoryPolicyResponse {
        registry_id: Some(repository.scope.account.clone()),
        repository_name: Some(name),
        policy_text: Some(text),
    })
}

/// DeleteRepositoryPolicy.
pub(super) fn delete(
    call: &mut Call<'_>,
    input: shapes::DeleteRepositoryPolicyRequest,
) -> Result<shapes::DeleteRepositoryPolicyResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    let repository = repository(call, input.registry_id.as_deref(), &name, "DeleteRepositoryPolicy")?;
    let text = repository.policy.clone().ok_or_else(|| none(&repository))?;
    call.tx.put(Repository { policy: None, ..Repository::clone(&repository) });
    Ok(shapes::DeleteRepositoryPolicyResponse {
        registry_id: Some(repository.scope.account.clone()),
        repository_name: Some(name),
        policy_text: Some(text),
    })
}

fn none(repository: &Repository) -> Fault {
    let message =
        format!("Repository policy does not exist for {}", place(&repository.scope, &repository.name));
    Fault::new("RepositoryPolicyNotFoundException", message)
}

/// A policy document: an object with one statement or several, each an effect, a principal and actions.
fn is_policy(text: &str) -> bool {
    let Ok(document) = serde_json::from_str::<serde_json::Value>(text) else { return false };
    let statements = match document.get("Statement") {
        Some(serde_json::Value::Array(many)) => many.iter().collect(),
        Some(one @ serde_json::Value::Object(_)) => vec![one],
        _ => return false,
    };
    let has = |statement: &serde_json::Value, name: &str| statement.get(name).is_some();
    !statements.is_empty()
        && statements.iter().all(|statement| {
            matches!(statement.get("Effect").and_then(|e| e.as_str()), Some("Allow" | "Deny"))
                && (has(statement, "Principal") || has(statement, "NotPrincipal"))
                && (has(statement, "Action") || has(statement, "NotAction"))
        })
}
