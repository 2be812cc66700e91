//! Account settings. Each has a default, and only values that are true of Roadstead are taken.

use state::ecs::AccountSetting;
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{invalid, unsupported};
use super::refs;
use crate::Call;

/// Every setting there is, its default, and the other values that are had.
const SETTINGS: [(&str, &str, &[&str]); 11] = [
    ("awsvpcTrunking", "disabled", &[]),
    ("containerInsights", "disabled", &[]),
    ("containerInstanceLongArnFormat", "enabled", &["on"]),
    ("defaultLogDriverMode", "non-blocking", &[]),
    ("fargateEventWindows", "disabled", &[]),
    ("fargateFIPSMode", "disabled", &["off"]),
    ("fargateTaskRetirementWaitPeriod", "7", &[]),
    ("guardDutyActivate", "off", &[]),
    ("serviceLongArnFormat", "enabled", &["on"]),
    ("tagResourceAuthorization", "off", &["disabled"]),
    ("taskLongArnFormat", "enabled", &["on"]),
];

/// A setting's default.
pub fn default_of(name: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|(n, _, _)| *n == name).map(|(_, default, _)| *default)
}

/// Whether a value is had.
pub fn check(name: &str, value: &str) -> Result<(), Fault> {
    let Some((_, default, others)) = SETTINGS.iter().find(|(n, _, _)| *n == name) else {
        return Err(invalid(format!("Invalid setting name: {name}")));
    };
    if value == *default || others.contains(&value) {
        Ok(())
    } else {
        Err(unsupported(&format!("{name}={value}")))
    }
}

fn setting(name: &str, value: &str, principal: &str) -> w::Setting {
    // GuardDuty's is the one that AWS itself manages.
    let kind = if name == "guardDutyActivate" { "aws_managed" } else { "user" };
    w::Setting {
        name: Some(name.into()),
        value: Some(value.into()),
        principal_arn: Some(principal.into()),
        r#type: Some(kind.into()),
    }
}

/// The principal whose settings are the account's default.
fn root(call: &Call<'_>) -> String {
    call.scope().iam_arn("root")
}

fn put_one(call: &mut Call<'_>, name: String, value: String, principal: String) -> Result<w::Setting, Fault> {
    check(&name, &value)?;
    let shown = setting(&name, &value, &principal);
    let scope = call.scope().clone();
    call.tx.put(AccountSetting { scope, principal, name, value });
    Ok(shown)
}

/// PutAccountSetting.
pub fn put(
    call: &mut Call<'_>,
    request: w::PutAccountSettingRequest,
) -> Result<w::PutAccountSettingResponse, Fault> {
    let w::PutAccountSettingRequest { name, value, principal_arn } = request;
    let principal = principal_arn.unwrap_or_else(|| call.caller.arn.clone());
    let setting = put_one(call, name.unwrap_or_default(), value.unwrap_or_default(), principal)?;
    Ok(w::PutAccountSettingResponse { setting: Some(setting) })
}

/// PutAccountSettingDefault.
pub fn put_default(
    call: &mut Call<'_>,
    request: w::PutAccountSettingDefaultRequest,
) -> Result<w::PutAccountSettingDefaultResponse, Fault> {
    let w::PutAccountSettingDefaultRequest { name, value } = request;
    let principal = root(call);
    let setting = put_one(call, name.unwrap_or_default(), value.unwrap_or_default(), principal)?;
    Ok(w::PutAccountSettingDefaultResponse { setting: Some(setting) })
}

/// The value in force for a principal: its own, the account's, or the built-in default.
fn effective(call: &Call<'_>, name: &str, default: &str, principal: &str) -> String {
    let stored = |who: &str| call.tx.get::<AccountSetting>(&call.scope().key(&format!("{who}/{name}")));
    let found = stored(principal).or_else(|| stored(&root(call)));
    found.map_or_else(|| default.to_owned(), |setting| setting.value.clone())
}

/// DeleteAccountSetting: the default is in force again.
pub fn delete(
    call: &mut Call<'_>,
    request: w::DeleteAccountSettingRequest,
) -> Result<w::DeleteAccountSettingResponse, Fault> {
    let w::DeleteAccountSettingRequest { name, principal_arn } = request;
    let name = name.unwrap_or_default();
    let default = default_of(&name).ok_or_else(|| invalid(format!("Invalid setting name: {name}")))?;
    let principal = principal_arn.unwrap_or_else(|| call.caller.arn.clone());
    let key = call.scope().key(&format!("{principal}/{name}"));
    call.tx.delete::<AccountSetting>(&key);
    let value = effective(call, &name, default, &principal);
    Ok(w::DeleteAccountSettingResponse { setting: Some(setting(&name, &value, &principal)) })
}

/// ListAccountSettings.
pub fn list(
    call: &mut Call<'_>,
    request: w::ListAccountSettingsRequest,
) -> Result<w::ListAccountSettingsResponse, Fault> {
    let w::ListAccountSettingsRequest {
        name,
        value,
        principal_arn,
        effective_settings,
        next_token,
        max_results,
    } = request;
    let principal = principal_arn.unwrap_or_else(|| call.caller.arn.clone());
    let mut shown = Vec::new();
    for (known, default, _) in SETTINGS {
        if effective_settings == Some(true) {
            shown.push(setting(known, &effective(call, known, default, &principal), &principal));
        } else if let Some(own) =
            call.tx.get::<AccountSetting>(&call.scope().key(&format!("{principal}/{known}")))
        {
            shown.push(setting(known, &own.value, &principal));
        }
    }
    shown.retain(|s| name.is_none() || s.name == name);
    shown.retain(|s| value.is_none() || s.value == value);
    let limit = refs::limit(max_results, 10, 100)?;
    let page = refs::page(next_token.as_deref(), limit)?;
    let (settings, next_token) = page.take(shown, |s| s.name.clone().unwrap_or_default());
    Ok(w::ListAccountSettingsResponse { settings: Some(settings), next_token })
}
