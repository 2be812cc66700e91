//! Policies of roles: attached ones and inline ones.

use wire::Fault;
use wire::shapes::iam as shape;

use super::roles::{find, update};
use super::{check_permissions, encoded, no_such_entity, page, policies};
use crate::Call;

/// "IAM and AWS STS quotas", IAM user guide.
const POLICIES_PER_ROLE: usize = 10;

pub(super) fn attach(call: &mut Call<'_>, input: shape::AttachRolePolicyRequest) -> Result<(), Fault> {
    let arn = input.policy_arn.unwrap_or_default();
    find(call, input.role_name.as_deref().unwrap_or_default())?;
    let missing = |_| no_such_entity(format!("Policy {arn} does not exist or is not attachable."));
    policies::find(call, &arn).map_err(missing)?;
    update(call, &input.role_name, |role| {
        if role.attached.contains(&arn) {
            return Ok(());
        }
        if role.attached.len() >= POLICIES_PER_ROLE {
            let message = format!("Cannot exceed quota for PoliciesPerRole: {POLICIES_PER_ROLE}");
            return Err(Fault::new("LimitExceeded", message));
        }
        role.attached.push(arn.clone());
        Ok(())
    })
}

pub(super) fn detach(call: &mut Call<'_>, input: shape::DetachRolePolicyRequest) -> Result<(), Fault> {
    let arn = input.policy_arn.unwrap_or_default();
    update(call, &input.role_name, |role| {
        let before = role.attached.len();
        role.attached.retain(|attached| *attached != arn);
        match role.attached.len() == before {
            true => Err(no_such_entity(format!("Policy {arn} was not found."))),
            false => Ok(()),
        }
    })
}

pub(super) fn list_attached(
    call: &mut Call<'_>,
    input: shape::ListAttachedRolePoliciesRequest,
) -> Result<shape::ListAttachedRolePoliciesResponse, Fault> {
    let role = find(call, &input.role_name.unwrap_or_default())?;
    let prefix = input.path_prefix.unwrap_or_else(|| "/".into());
    let mut all = Vec::new();
    for arn in &role.attached {
        let path = arn.split_once(":policy").map_or("", |(_, path)| path);
        if path.starts_with(&prefix) {
            let name = policies::find(call, arn)?.name().to_owned();
            all.push(shape::AttachedPolicy { policy_name: Some(name), policy_arn: Some(arn.clone()) });
        }
    }
    all.sort_by(|a, b| a.policy_arn.cmp(&b.policy_arn));
    let key = |policy: &shape::AttachedPolicy| policy.policy_arn.clone().unwrap_or_default();
    let (items, is_truncated, marker) = page(all, input.marker, input.max_items, key)?;
    Ok(shape::ListAttachedRolePoliciesResponse { attached_policies: Some(items), is_truncated, marker })
}

pub(super) fn put(call: &mut Call<'_>, input: shape::PutRolePolicyRequest) -> Result<(), Fault> {
    let (name, document) = (input.policy_name.unwrap_or_default(), input.policy_document.unwrap_or_default());
    check_permissions(&document)?;
    update(call, &input.role_name, |role| {
        role.inline.insert(name, document);
        Ok(())
    })
}

fn missing(role: &str, policy: &str) -> Fault {
    no_such_entity(format!("The role policy with name {policy} cannot be found for role {role}."))
}

pub(super) fn get(
    call: &mut Call<'_>,
    input: shape::GetRolePolicyRequest,
) -> Result<shape::GetRolePolicyResponse, Fault> {
    let role = find(call, &input.role_name.unwrap_or_default())?;
    let name = input.policy_name.unwrap_or_default();
    let document = role.inline.get(&name).ok_or_else(|| missing(&role.name, &name))?;
    Ok(shape::GetRolePolicyResponse {
        role_name: Some(role.name.clone()),
        policy_document: Some(encoded(document)),
        policy_name: Some(name),
    })
}

pub(super) fn list(
    call: &mut Call<'_>,
    input: shape::ListRolePoliciesRequest,
) -> Result<shape::ListRolePoliciesResponse, Fault> {
    let role = find(call, &input.role_name.unwrap_or_default())?;
    let all = role.inline.keys().cloned().collect();
    let (items, is_truncated, marker) = page(all, input.marker, input.max_items, String::clone)?;
    Ok(shape::ListRolePoliciesResponse { policy_names: Some(items), is_truncated, marker })
}

pub(super) fn delete(call: &mut Call<'_>, input: shape::DeleteRolePolicyRequest) -> Result<(), Fault> {
    let name = input.policy_name.unwrap_or_default();
    update(call, &input.role_name, |role| match role.inline.remove(&name) {
        Some(_) => Ok(()),
        None => Err(missing(&role.name, &name)),
    })
}
