//! Roles.

use std::sync::Arc;

use state::iam::Role;
use wire::Fault;
use wire::shapes::iam as shape;

use super::{account, check_trust, encoded, no_such_entity, page, policies, tags_from_wire, tags_to_wire};
use crate::Call;

/// A unique id of IAM's form: four letters and 17 letters and digits, made of a name (FNV-1a, 64 bits, twice).
pub(super) fn id_of(prefix: &str, name: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut id = prefix.to_owned();
    for round in 0..17u8 {
        for byte in name.bytes().chain([round]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        id.push(ALPHABET[(hash >> 32) as usize % ALPHABET.len()].into());
    }
    id
}

/// The unique id of a role: made of its name, so that a session shows it without a look-up.
pub fn role_id(name: &str) -> String {
    id_of("AROA", name)
}

/// The role of a name.
pub(super) fn find(call: &Call<'_>, name: &str) -> Result<Arc<Role>, Fault> {
    let found = call.tx.get::<Role>(&Role::key_of(account(call), name));
    found.ok_or_else(|| no_such_entity(format!("The role with name {name} cannot be found.")))
}

/// Changes the role of a name.
pub(super) fn update(
    call: &mut Call<'_>,
    name: &Option<String>,
    change: impl FnOnce(&mut Role) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut role = Role::clone(&*find(call, name.as_deref().unwrap_or_default())?);
    change(&mut role)?;
    call.tx.put(role);
    Ok(())
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreateRoleRequest,
) -> Result<shape::CreateRoleResponse, Fault> {
    let name = input.role_name.unwrap_or_default();
    let own = Role::key_of(account(call), "");
    // "Names are not distinguished by case."
    if call.tx.table::<Role>().scan(&own).any(|(_, role)| role.name.eq_ignore_ascii_case(&name)) {
        let message = format!("Role with name {name} already exists.");
        return Err(Fault::new("EntityAlreadyExists", message));
    }
    if let Some(arn) = &input.permissions_boundary {
        let missing = |_| no_such_entity(format!("Scope ARN: {arn} does not exist or is not attachable."));
        policies::find(call, arn).map_err(missing)?;
    }
    let trust = input.assume_role_policy_document.unwrap_or_default();
    check_trust(&trust)?;
    let role = Role {
        account: account(call).to_owned(),
        id: role_id(&name),
        name,
        path: input.path.unwrap_or_else(|| "/".into()),
        trust,
        description: input.description,
        max_session_s: input.max_session_duration.map_or(3600, |s| s as u32),
        boundary: input.permissions_boundary,
        inline: Default::default(),
        attached: Vec::new(),
        tags: tags_from_wire(input.tags)?,
        created_at_ms: call.now_ms,
    };
    let shown = view(&role);
    call.tx.put(role);
    Ok(shape::CreateRoleResponse { role: Some(shown) })
}

pub(super) fn create_service_linked(
    call: &mut Call<'_>,
    input: shape::CreateServiceLinkedRoleRequest,
) -> Result<shape::CreateServiceLinkedRoleResponse, Fault> {
    let service = input.aws_service_name.unwrap_or_default();
    let known = match service.as_str() {
        "ecs.amazonaws.com" => "AWSServiceRoleForECS",
        "elasticloadbalancing.amazonaws.com" => "AWSServiceRoleForElasticLoadBalancing",
        "ecs.application-autoscaling.amazonaws.com" => "AWSServiceRoleForApplicationAutoScaling_ECSService",
        "replication.ecr.amazonaws.com" => "AWSServiceRoleForECRReplication",
        other => {
            return Err(Fault::new(
                "InvalidInput",
                format!("Service {other} has no service-linked role here"),
            ));
        }
    };
    if let Some(suffix) = input.custom_suffix {
        return Err(Fault::new(
            "InvalidInput",
            format!("Custom suffix is not allowed for {service}: {suffix}"),
        ));
    }
    if find(call, known).is_ok() {
        let message = format!(
            "Service role name {known} has been taken in this account, please try a different suffix."
        );
        return Err(Fault::new("InvalidInput", message));
    }
    let role = Role {
        account: account(call).to_owned(),
        id: role_id(known),
        name: known.to_owned(),
        path: format!("/aws-service-role/{service}/"),
        trust: format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":"{service}"}},"Action":"sts:AssumeRole"}}]}}"#
        ),
        description: input.description,
        max_session_s: 3600,
        boundary: None,
        inline: Default::default(),
        attached: Vec::new(),
        tags: Vec::new(),
        created_at_ms: call.now_ms,
    };
    let shown = view(&role);
    call.tx.put(role);
    Ok(shape::CreateServiceLinkedRoleResponse { role: Some(shown) })
}

pub(super) fn get(
    call: &mut Call<'_>,
    input: shape::GetRoleRequest,
) -> Result<shape::GetRoleResponse, Fault> {
    let role = find(call, &input.role_name.unwrap_or_default())?;
    Ok(shape::GetRoleResponse { role: Some(view(&role)) })
}

pub(super) fn list(
    call: &mut Call<'_>,
    input: shape::ListRolesRequest,
) -> Result<shape::ListRolesResponse, Fault> {
    let prefix = input.path_prefix.unwrap_or_else(|| "/".into());
    let own = Role::key_of(account(call), "");
    let all = call.tx.table::<Role>().scan(&own).map(|(_, role)| role.clone());
    let all = all.filter(|role| role.path.starts_with(&prefix)).collect();
    let (items, is_truncated, marker) = page(all, input.marker, input.max_items, |role| role.name.clone())?;
    // "ListRoles does not return the following attributes: PermissionsBoundary, RoleLastUsed, Tags".
    let one = |role: &Arc<Role>| shape::Role { permissions_boundary: None, tags: None, ..view(role) };
    Ok(shape::ListRolesResponse { roles: Some(items.iter().map(one).collect()), is_truncated, marker })
}

pub(super) fn delete(call: &mut Call<'_>, input: shape::DeleteRoleRequest) -> Result<(), Fault> {
    let role = find(call, &input.role_name.unwrap_or_default())?;
    if !role.attached.is_empty() {
        return Err(Fault::new("DeleteConflict", "Cannot delete entity, must detach all policies first."));
    }
    if !role.inline.is_empty() {
        return Err(Fault::new("DeleteConflict", "Cannot delete entity, must delete policies first."));
    }
    call.tx.delete::<Role>(&Role::key_of(&role.account, &role.name));
    Ok(())
}

pub(super) fn update_trust(
    call: &mut Call<'_>,
    input: shape::UpdateAssumeRolePolicyRequest,
) -> Result<(), Fault> {
    let document = input.policy_document.unwrap_or_default();
    check_trust(&document)?;
    update(call, &input.role_name, |role| {
        role.trust = document;
        Ok(())
    })
}

pub(super) fn tag(call: &mut Call<'_>, input: shape::TagRoleRequest) -> Result<(), Fault> {
    let given = tags_from_wire(input.tags)?;
    update(call, &input.role_name, |role| {
        role.tags.retain(|old| given.iter().all(|new| new.key != old.key));
        role.tags.extend(given);
        match role.tags.len() > 50 {
            true => Err(Fault::new("LimitExceeded", "The number of tags has reached the maximum limit.")),
            false => Ok(()),
        }
    })
}

pub(super) fn untag(call: &mut Call<'_>, input: shape::UntagRoleRequest) -> Result<(), Fault> {
    let keys = input.tag_keys.unwrap_or_default();
    update(call, &input.role_name, |role| {
        role.tags.retain(|tag| !keys.contains(&tag.key));
        Ok(())
    })
}

pub(super) fn list_tags(
    call: &mut Call<'_>,
    input: shape::ListRoleTagsRequest,
) -> Result<shape::ListRoleTagsResponse, Fault> {
    let role = find(call, &input.role_name.unwrap_or_default())?;
    let all = tags_to_wire(&role.tags).unwrap_or_default();
    let key = |tag: &shape::Tag| tag.key.clone().unwrap_or_default();
    let (tags, is_truncated, marker) = page(all, input.marker, input.max_items, key)?;
    Ok(shape::ListRoleTagsResponse { tags: Some(tags), is_truncated, marker })
}

/// No instance profile can be made here, so no role is in one.
pub(super) fn list_instance_profiles(
    call: &mut Call<'_>,
    input: shape::ListInstanceProfilesForRoleRequest,
) -> Result<shape::ListInstanceProfilesForRoleResponse, Fault> {
    find(call, &input.role_name.unwrap_or_default())?;
    Ok(shape::ListInstanceProfilesForRoleResponse {
        instance_profiles: Some(Vec::new()),
        is_truncated: Some(false),
        marker: None,
    })
}

/// The only user is the account's root, whose name is absent.
pub(super) fn get_user(
    call: &mut Call<'_>,
    input: shape::GetUserRequest,
) -> Result<shape::GetUserResponse, Fault> {
    if let Some(name) = input.user_name {
        return Err(no_such_entity(format!("The user with name {name} cannot be found.")));
    }
    if !call.caller.arn.ends_with(":root") {
        return Err(Fault::new(
            "ValidationError",
            "Must specify userName when calling with non-User credentials",
        ));
    }
    Ok(shape::GetUserResponse {
        user: Some(shape::User {
            user_id: Some(account(call).to_owned()),
            arn: Some(call.caller.arn.clone()),
            ..Default::default()
        }),
    })
}

fn view(role: &Role) -> shape::Role {
    shape::Role {
        path: Some(role.path.clone()),
        role_name: Some(role.name.clone()),
        role_id: Some(role.id.clone()),
        arn: Some(role.arn()),
        create_date: Some(role.created_at_ms),
        assume_role_policy_document: Some(encoded(&role.trust)),
        description: role.description.clone(),
        max_session_duration: Some(i64::from(role.max_session_s)),
        permissions_boundary: role.boundary.as_ref().map(|arn| shape::AttachedPermissionsBoundary {
            permissions_boundary_type: Some("Policy".into()),
            permissions_boundary_arn: Some(arn.clone()),
        }),
        tags: tags_to_wire(&role.tags),
        role_last_used: None,
    }
}
