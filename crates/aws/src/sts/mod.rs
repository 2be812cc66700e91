//! STS (API reference, version 2011-06-15): who one is, and temporary credentials.

use state::iam::Role;
use wire::Fault;
use wire::shapes::sts as shape;

use crate::Call;

#[cfg(test)]
mod tests;

crate::table::operations!(sts: {
    GetCallerIdentity => get_caller_identity,
    AssumeRole => assume_role,
    GetSessionToken => get_session_token,
});

/// The longest session of a role that another role's session assumes ("Role chaining", IAM user guide).
const CHAINED_SESSION_S: i64 = 3600;

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("ValidationError", message)
}

fn get_caller_identity(
    call: &mut Call<'_>,
    _input: shape::GetCallerIdentityRequest,
) -> Result<shape::GetCallerIdentityResponse, Fault> {
    Ok(shape::GetCallerIdentityResponse {
        user_id: Some(call.caller.user_id.clone()),
        account: Some(call.scope().account.clone()),
        arn: Some(call.caller.arn.clone()),
    })
}

fn refuse<T>(member: &Option<T>, name: &str) -> Result<(), Fault> {
    match member {
        None => Ok(()),
        Some(_) => Err(invalid(format!("{name} is not supported"))),
    }
}

/// New credentials of a principal.
fn credentials(call: &Call<'_>, arn: &str, account: &str, seconds: i64) -> shape::Credentials {
    let expires_ms = call.now_ms + seconds * 1000;
    let scope = state::Scope::new(account, call.scope().region.clone());
    let (access_key, secret, token) = call.secrets.issue(arn, &scope, expires_ms);
    shape::Credentials {
        access_key_id: Some(access_key),
        secret_access_key: Some(secret),
        session_token: Some(token),
        expiration: Some(expires_ms),
    }
}

fn assume_role(
    call: &mut Call<'_>,
    input: shape::AssumeRoleRequest,
) -> Result<shape::AssumeRoleResponse, Fault> {
    // A session policy narrows what the session may do; until policies are evaluated, taking one would be a lie.
    refuse(&input.policy, "Policy")?;
    refuse(&input.policy_arns, "PolicyArns")?;
    refuse(&input.tags, "Tags")?;
    refuse(&input.transitive_tag_keys, "TransitiveTagKeys")?;
    refuse(&input.external_id, "ExternalId")?;
    refuse(&input.serial_number, "SerialNumber")?;
    refuse(&input.token_code, "TokenCode")?;
    refuse(&input.source_identity, "SourceIdentity")?;
    refuse(&input.provided_contexts, "ProvidedContexts")?;
    let role_arn = input.role_arn.unwrap_or_default();
    let session = input.role_session_name.unwrap_or_default();
    let role = state::Arn::parse(&role_arn)
        .filter(|arn| arn.service == "iam" && arn.resource.starts_with("role/"))
        .and_then(|arn| {
            let name = arn.resource.rsplit('/').next().unwrap_or_default();
            call.tx.get::<Role>(&Role::key_of(arn.account, name)).filter(|role| role.arn() == role_arn)
        })
        .ok_or_else(|| {
            let message = format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {role_arn}",
                call.caller.arn
            );
            Fault::new("AccessDenied", message).status(403)
        })?;
    let seconds = input.duration_seconds.unwrap_or(3600);
    if seconds > i64::from(role.max_session_s) {
        return Err(invalid(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    if seconds > CHAINED_SESSION_S && call.caller.arn.contains(":assumed-role/") {
        return Err(invalid(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        ));
    }
    let arn = format!("arn:aws:sts::{}:assumed-role/{}/{session}", role.account, role.name);
    Ok(shape::AssumeRoleResponse {
        credentials: Some(credentials(call, &arn, &role.account, seconds)),
        assumed_role_user: Some(shape::AssumedRoleUser {
            assumed_role_id: Some(format!("{}:{session}", role.id)),
            arn: Some(arn),
        }),
        packed_policy_size: None,
        source_identity: None,
    })
}

fn get_session_token(
    call: &mut Call<'_>,
    input: shape::GetSessionTokenRequest,
) -> Result<shape::GetSessionTokenResponse, Fault> {
    refuse(&input.serial_number, "SerialNumber")?;
    refuse(&input.token_code, "TokenCode")?;
    if call.caller.arn.contains(":assumed-role/") {
        let message = "Cannot call GetSessionToken with session credentials";
        return Err(Fault::new("AccessDenied", message).status(403));
    }
    let seconds = input.duration_seconds.unwrap_or(3600);
    let (arn, account) = (call.caller.arn.clone(), call.scope().account.clone());
    Ok(shape::GetSessionTokenResponse { credentials: Some(credentials(call, &arn, &account, seconds)) })
}
