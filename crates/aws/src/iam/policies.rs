//! Managed policies: the account's own, and those of AWS that are known here.

use std::sync::Arc;

use state::iam::{Policy, Role};
use wire::Fault;
use wire::shapes::iam as shape;

use super::managed::{self, MANAGED, Managed};
use super::{account, check_permissions, encoded, no_such_entity, page, tags_from_wire, tags_to_wire};
use crate::Call;

/// A policy that can be attached.
pub(super) enum Found {
    /// The account's own.
    Own(Arc<Policy>),
    /// AWS's.
    Aws(&'static Managed),
}

impl Found {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        match self {
            Found::Own(policy) => &policy.name,
            Found::Aws(policy) => policy.name,
        }
    }

    fn document(&self) -> &str {
        match self {
            Found::Own(policy) => &policy.document,
            Found::Aws(policy) => policy.document,
        }
    }
}

/// The policy of an ARN.
pub(super) fn find(call: &Call<'_>, arn: &str) -> Result<Found, Fault> {
    if let Some(policy) = managed::find(arn) {
        return Ok(Found::Aws(policy));
    }
    let own = format!("{}/{}", account(call), arn.rsplit('/').next().unwrap_or_default());
    let found = call.tx.get::<Policy>(&own).filter(|policy| policy.arn() == arn);
    found.map(Found::Own).ok_or_else(|| no_such_entity(format!("Policy {arn} was not found.")))
}

fn own(call: &Call<'_>, arn: &str) -> Result<Arc<Policy>, Fault> {
    match find(call, arn)? {
        Found::Own(policy) => Ok(policy),
        Found::Aws(_) => Err(Fault::new("AccessDenied", format!("Policy {arn} is managed by AWS"))),
    }
}

fn attachments(call: &Call<'_>, arn: &str) -> i64 {
    let own = Role::key_of(account(call), "");
    let roles = call.tx.table::<Role>().scan(&own);
    roles.filter(|(_, role)| role.attached.iter().any(|attached| attached == arn)).count() as i64
}

/// The roles whose permissions boundary a policy is.
fn boundaries(call: &Call<'_>, arn: &str) -> i64 {
    let own = Role::key_of(account(call), "");
    let roles = call.tx.table::<Role>().scan(&own);
    roles.filter(|(_, role)| role.boundary.as_deref() == Some(arn)).count() as i64
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreatePolicyRequest,
) -> Result<shape::CreatePolicyResponse, Fault> {
    let name = input.policy_name.unwrap_or_default();
    if call.tx.get::<Policy>(&format!("{}/{name}", account(call))).is_some() {
        let message = format!("A policy called {name} already exists. Duplicate names are not allowed.");
        return Err(Fault::new("EntityAlreadyExists", message));
    }
    let document = input.policy_document.unwrap_or_default();
    check_permissions(&document)?;
    let policy = Policy {
        account: account(call).to_owned(),
        id: super::roles::id_of("ANPA", &name),
        name,
        path: input.path.unwrap_or_else(|| "/".into()),
        document,
        description: input.description,
        tags: tags_from_wire(input.tags)?,
        created_at_ms: call.now_ms,
    };
    let found = Found::Own(Arc::new(policy.clone()));
    call.tx.put(policy);
    Ok(shape::CreatePolicyResponse { policy: Some(view(call, &found)) })
}

pub(super) fn get(
    call: &mut Call<'_>,
    input: shape::GetPolicyRequest,
) -> Result<shape::GetPolicyResponse, Fault> {
    let found = find(call, &input.policy_arn.unwrap_or_default())?;
    Ok(shape::GetPolicyResponse { policy: Some(view(call, &found)) })
}

fn version(found: &Found, with_document: bool) -> shape::PolicyVersion {
    shape::PolicyVersion {
        document: with_document.then(|| encoded(found.document())),
        version_id: Some("v1".into()),
        is_default_version: Some(true),
        create_date: match found {
            Found::Own(policy) => Some(policy.created_at_ms),
            Found::Aws(_) => None,
        },
    }
}

pub(super) fn get_version(
    call: &mut Call<'_>,
    input: shape::GetPolicyVersionRequest,
) -> Result<shape::GetPolicyVersionResponse, Fault> {
    let arn = input.policy_arn.unwrap_or_default();
    let found = find(call, &arn)?;
    let id = input.version_id.unwrap_or_default();
    if id != "v1" {
        return Err(no_such_entity(format!(
            "Policy {arn} version {id} does not exist or is not attachable."
        )));
    }
    Ok(shape::GetPolicyVersionResponse { policy_version: Some(version(&found, true)) })
}

pub(super) fn list_versions(
    call: &mut Call<'_>,
    input: shape::ListPolicyVersionsRequest,
) -> Result<shape::ListPolicyVersionsResponse, Fault> {
    let found = find(call, &input.policy_arn.unwrap_or_default())?;
    let key = |version: &shape::PolicyVersion| version.version_id.clone().unwrap_or_default();
    let (versions, is_truncated, marker) =
        page(vec![version(&found, false)], input.marker, input.max_items, key)?;
    Ok(shape::ListPolicyVersionsResponse { versions: Some(versions), is_truncated, marker })
}

pub(super) fn list(
    call: &mut Call<'_>,
    input: shape::ListPoliciesRequest,
) -> Result<shape::ListPoliciesResponse, Fault> {
    let as_boundary = input.policy_usage_filter.as_deref() == Some("PermissionsBoundary");
    let scope = input.scope.as_deref().unwrap_or("All");
    let prefix = input.path_prefix.unwrap_or_else(|| "/".into());
    let mut all: Vec<Found> = Vec::new();
    if scope != "Local" {
        all.extend(MANAGED.iter().map(Found::Aws));
    }
    if scope != "AWS" {
        let own = format!("{}/", account(call));
        all.extend(call.tx.table::<Policy>().scan(&own).map(|(_, policy)| Found::Own(policy.clone())));
    }
    let mut shown: Vec<shape::Policy> = all.iter().map(|found| view(call, found)).collect();
    shown.retain(|policy| {
        policy.path.as_ref().is_some_and(|path| path.starts_with(&prefix))
            && (input.only_attached != Some(true) || policy.attachment_count > Some(0))
            && (!as_boundary || policy.permissions_boundary_usage_count > Some(0))
    });
    let key = |policy: &shape::Policy| policy.arn.clone().unwrap_or_default();
    shown.sort_by_key(key);
    let (mut policies, is_truncated, marker) = page(shown, input.marker, input.max_items, key)?;
    // "ListPolicies does not return tags".
    policies.iter_mut().for_each(|policy| policy.tags = None);
    Ok(shape::ListPoliciesResponse { policies: Some(policies), is_truncated, marker })
}

pub(super) fn delete(call: &mut Call<'_>, input: shape::DeletePolicyRequest) -> Result<(), Fault> {
    let arn = input.policy_arn.unwrap_or_default();
    let policy = own(call, &arn)?;
    if attachments(call, &arn) + boundaries(call, &arn) > 0 {
        return Err(Fault::new("DeleteConflict", "Cannot delete a policy attached to entities."));
    }
    call.tx.delete::<Policy>(&format!("{}/{}", policy.account, policy.name));
    Ok(())
}

fn view(call: &Call<'_>, found: &Found) -> shape::Policy {
    let mut shown = shape::Policy {
        policy_name: Some(found.name().to_owned()),
        default_version_id: Some("v1".into()),
        is_attachable: Some(true),
        ..Default::default()
    };
    match found {
        Found::Own(policy) => {
            shown.policy_id = Some(policy.id.clone());
            shown.arn = Some(policy.arn());
            shown.path = Some(policy.path.clone());
            shown.description.clone_from(&policy.description);
            shown.create_date = Some(policy.created_at_ms);
            shown.update_date = Some(policy.created_at_ms);
            shown.tags = tags_to_wire(&policy.tags);
        }
        Found::Aws(policy) => {
            shown.policy_id = Some(policy.id());
            shown.arn = Some(policy.arn());
            shown.path = Some(policy.path.into());
        }
    }
    let arn = shown.arn.clone().unwrap_or_default();
    shown.attachment_count = Some(attachments(call, &arn));
    shown.permissions_boundary_usage_count = Some(boundaries(call, &arn));
    shown
}
