//! IAM (API reference, version 2010-05-08): roles and policies are kept and shown. Policies are not evaluated yet:
//! COVERAGE.md says so.

mod managed;
mod policies;
mod role_policies;
mod roles;
#[cfg(test)]
mod tests;

pub use roles::role_id;

use state::{Tag, Tags};
use wire::Fault;
use wire::shapes::iam as shape;

crate::table::operations!(iam: {
    CreateRole => roles::create,
    GetRole => roles::get,
    ListRoles => roles::list,
    DeleteRole => roles::delete,
    UpdateAssumeRolePolicy => roles::update_trust,
    TagRole => roles::tag,
    UntagRole => roles::untag,
    ListRoleTags => roles::list_tags,
    CreateServiceLinkedRole => roles::create_service_linked,
    ListInstanceProfilesForRole => roles::list_instance_profiles,
    GetUser => roles::get_user,
    CreatePolicy => policies::create,
    GetPolicy => policies::get,
    GetPolicyVersion => policies::get_version,
    ListPolicyVersions => policies::list_versions,
    ListPolicies => policies::list,
    DeletePolicy => policies::delete,
    AttachRolePolicy => role_policies::attach,
    DetachRolePolicy => role_policies::detach,
    ListAttachedRolePolicies => role_policies::list_attached,
    PutRolePolicy => role_policies::put,
    GetRolePolicy => role_policies::get,
    ListRolePolicies => role_policies::list,
    DeleteRolePolicy => role_policies::delete,
});

fn no_such_entity(message: String) -> Fault {
    Fault::new("NoSuchEntity", message)
}

/// Documents are answered percent-encoded as RFC 3986 says ("PolicyDocument", IAM API reference).
fn encoded(document: &str) -> String {
    let mut text = String::with_capacity(document.len() * 2);
    for byte in document.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// A document must be a JSON object with statements.
fn check_document(document: &str) -> Result<(), Fault> {
    let bad = |message: &str| Fault::new("MalformedPolicyDocument", message);
    let parsed: serde_json::Value =
        serde_json::from_str(document).map_err(|_| bad("This policy contains invalid Json"))?;
    let statements = parsed.get("Statement").ok_or_else(|| bad("Syntax errors in policy."))?;
    let one = |statement: &serde_json::Value| {
        let effect = statement.get("Effect").and_then(serde_json::Value::as_str);
        matches!(effect, Some("Allow" | "Deny"))
            && (statement.get("Action").is_some() || statement.get("NotAction").is_some())
    };
    let good = match statements {
        serde_json::Value::Array(all) => !all.is_empty() && all.iter().all(one),
        other => one(other),
    };
    if good { Ok(()) } else { Err(bad("Syntax errors in policy.")) }
}

fn statements(document: &str) -> Vec<serde_json::Value> {
    let parsed: serde_json::Value = serde_json::from_str(document).unwrap_or_default();
    match &parsed["Statement"] {
        serde_json::Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    }
}

/// A trust policy also says whom it trusts, and is about its role alone.
fn check_trust(document: &str) -> Result<(), Fault> {
    check_document(document)?;
    let statements = statements(document);
    let bad = |message: &str| Err(Fault::new("MalformedPolicyDocument", message));
    if statements.iter().any(|one| one.get("Resource").or(one.get("NotResource")).is_some()) {
        return bad("Has prohibited field Resource");
    }
    if statements.iter().any(|one| one.get("Principal").or(one.get("NotPrincipal")).is_none()) {
        return bad("Missing required field Principal");
    }
    Ok(())
}

/// A policy of permissions says on what.
fn check_permissions(document: &str) -> Result<(), Fault> {
    check_document(document)?;
    let statements = statements(document);
    let bad = |message: &str| Err(Fault::new("MalformedPolicyDocument", message));
    if statements.iter().any(|one| one.get("Principal").or(one.get("NotPrincipal")).is_some()) {
        return bad("Policy document should not specify a principal.");
    }
    if statements.iter().any(|one| one.get("Resource").or(one.get("NotResource")).is_none()) {
        return bad("Policy statement must contain resources.");
    }
    Ok(())
}

fn tags_from_wire(tags: Option<Vec<shape::Tag>>) -> Result<Tags, Fault> {
    let mut read = Tags::new();
    for tag in tags.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        if read.iter().any(|other| other.key.eq_ignore_ascii_case(&key)) {
            return Err(Fault::new(
                "InvalidInput",
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            ));
        }
        read.push(Tag { key, value: tag.value.unwrap_or_default() });
    }
    if read.len() > 50 {
        return Err(Fault::new("LimitExceeded", "The number of tags has reached the maximum limit."));
    }
    Ok(read)
}

fn tags_to_wire(tags: &Tags) -> Option<Vec<shape::Tag>> {
    let tag = |tag: &Tag| shape::Tag { key: Some(tag.key.clone()), value: Some(tag.value.clone()) };
    (!tags.is_empty()).then(|| tags.iter().map(tag).collect())
}

/// A page of an IAM list: items, `IsTruncated`, `Marker`.
type Paged<T> = (Vec<T>, Option<bool>, Option<String>);

/// Cuts a page of an IAM list.
fn page<T>(
    items: Vec<T>,
    marker: Option<String>,
    max_items: Option<i64>,
    key: impl Fn(&T) -> String,
) -> Result<Paged<T>, Fault> {
    let page = crate::Page { token: marker.as_deref(), limit: max_items.unwrap_or(100) as usize };
    if !page.is_valid() {
        return Err(Fault::new("ValidationError", "Invalid value for parameter 'Marker'"));
    }
    let (items, next) = page.take(items, key);
    Ok((items, Some(next.is_some()), next))
}

fn account<'a>(call: &'a crate::Call<'_>) -> &'a str {
    &call.scope().account
}
