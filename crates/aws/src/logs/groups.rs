//! Log groups, their retention and tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use state::logs::{LogGroup, LogStream};
use state::{Arn, Tag};
use wire::Fault;
use wire::shapes::logs as shape;

use super::{group_missing, invalid, refuse};
use crate::{Call, Page};

/// Retention periods that the API accepts, days.
const RETENTION_DAYS: &[i64] = &[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
];

/// The group of a name.
pub(super) fn find(call: &Call<'_>, name: &str) -> Result<Arc<LogGroup>, Fault> {
    call.tx.get::<LogGroup>(&call.scope().key(name)).ok_or_else(group_missing)
}

/// The name that `logGroupName` or `logGroupIdentifier` (a name or an ARN) gives; exactly one is needed.
pub(super) fn named(
    call: &Call<'_>,
    name: Option<String>,
    identifier: Option<String>,
) -> Result<String, Fault> {
    match (name, identifier) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) => identified(call, &identifier),
        (Some(_), Some(_)) => {
            Err(invalid("LogGroup name and LogGroup identifier are mutually exclusive parameters."))
        }
        (None, None) => Err(invalid("Either LogGroup name or LogGroup identifier must be specified.")),
    }
}

/// The name that an identifier, a name or an ARN, gives.
fn identified(call: &Call<'_>, identifier: &str) -> Result<String, Fault> {
    match Arn::parse(identifier) {
        Some(arn) if arn.account != call.scope().account || arn.region != call.scope().region => {
            Err(group_missing())
        }
        Some(_) => Ok(of_arn(identifier).ok_or_else(group_missing)?.to_owned()),
        None => Ok(identifier.to_owned()),
    }
}

/// The group that `arn:aws:logs:region:account:log-group:name[:*]` names.
fn of_arn(text: &str) -> Option<&str> {
    let resource = Arn::parse(text).filter(|arn| arn.service == "logs")?.resource;
    let name = resource.strip_prefix("log-group:")?;
    Some(name.strip_suffix(":*").unwrap_or(name))
}

/// Tags of a log group.
const TAGS_MAX: usize = 50;

fn too_many_tags() -> Fault {
    Fault::new("TooManyTagsException", "A resource can have no more than 50 tags.")
}

fn to_tags(tags: Option<BTreeMap<String, String>>) -> Result<Vec<Tag>, Fault> {
    let tags = tags.unwrap_or_default();
    if tags.len() > TAGS_MAX {
        return Err(too_many_tags());
    }
    Ok(tags.into_iter().map(|(key, value)| Tag { key, value }).collect())
}

/// A group of this name, as CreateLogGroup and the `awslogs-create-group` option make it.
pub(super) fn new_group(scope: &state::Scope, name: &str, now_ms: state::TimeMs) -> LogGroup {
    LogGroup {
        scope: scope.clone(),
        name: name.to_owned(),
        class: "STANDARD".into(),
        retention_days: None,
        deletion_protection: false,
        tags: Vec::new(),
        created_at_ms: now_ms,
    }
}

pub(super) fn create(call: &mut Call<'_>, input: shape::CreateLogGroupRequest) -> Result<(), Fault> {
    refuse(&input.kms_key_id, "kmsKeyId")?;
    let name = input.log_group_name.unwrap_or_default();
    if name.to_lowercase().starts_with("aws/") {
        return Err(invalid("Log groups starting with AWS/ are reserved for AWS."));
    }
    // Events of this class are delivered elsewhere and forgotten after a day.
    if input.log_group_class.as_deref() == Some("DELIVERY") {
        return Err(invalid("logGroupClass DELIVERY is not supported"));
    }
    if find(call, &name).is_ok() {
        return Err(Fault::new("ResourceAlreadyExistsException", "The specified log group already exists"));
    }
    let mut group = new_group(call.scope(), &name, call.now_ms);
    group.class = input.log_group_class.unwrap_or_else(|| "STANDARD".into());
    group.deletion_protection = input.deletion_protection_enabled.unwrap_or(false);
    group.tags = to_tags(input.tags)?;
    call.tx.put(group);
    Ok(())
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeLogGroupsRequest,
) -> Result<shape::DescribeLogGroupsResponse, Fault> {
    refuse(&input.account_identifiers, "accountIdentifiers")?;
    if input.include_linked_accounts == Some(true) {
        return Err(invalid("includeLinkedAccounts is not supported"));
    }
    if input.log_group_name_prefix.is_some() && input.log_group_name_pattern.is_some() {
        return Err(invalid(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
        ));
    }
    let wanted: Option<Vec<String>> = input.log_group_identifiers.map(|all| {
        // An identifier of nothing here is not an error: it lists nothing.
        all.iter().filter_map(|identifier| identified(call, identifier).ok()).collect()
    });
    let prefix = call.scope().key(input.log_group_name_prefix.as_deref().unwrap_or(""));
    let by_pattern = input.log_group_name_pattern.is_some();
    let pattern = input.log_group_name_pattern.unwrap_or_default();
    let matching =
        call.tx.table::<LogGroup>().scan(&prefix).map(|(_, group)| group.clone()).filter(|group| {
            group.name.contains(&pattern)
                && input.log_group_class.as_ref().is_none_or(|class| *class == group.class)
                && wanted.as_ref().is_none_or(|wanted| wanted.contains(&group.name))
        });
    let page = Page { token: input.next_token.as_deref(), limit: input.limit.unwrap_or(50) as usize };
    if !page.is_valid() {
        return Err(invalid("The specified nextToken is invalid."));
    }
    let (items, next_token) = page.take(matching, |group| group.name.clone());
    // "If you specify logGroupNamePattern […], only arn, creationTime, and logGroupName are included".
    let brief = |group: &LogGroup| shape::LogGroup {
        log_group_name: Some(group.name.clone()),
        creation_time: Some(group.created_at_ms),
        arn: Some(format!("{}:*", group.arn())),
        ..Default::default()
    };
    let shown = |group: &Arc<LogGroup>| if by_pattern { brief(group) } else { view(call, group) };
    let log_groups = items.iter().map(shown).collect();
    Ok(shape::DescribeLogGroupsResponse { log_groups: Some(log_groups), next_token })
}

fn view(call: &Call<'_>, group: &LogGroup) -> shape::LogGroup {
    let streams = streams_of(call, &group.name);
    let key = group.scope.key(&group.name);
    let stored: u64 = streams.iter().map(|stream| call.logs.stats(&key, &stream.name).3).sum();
    shape::LogGroup {
        log_group_name: Some(group.name.clone()),
        creation_time: Some(group.created_at_ms),
        retention_in_days: group.retention_days.map(i64::from),
        metric_filter_count: Some(0),
        arn: Some(format!("{}:*", group.arn())),
        stored_bytes: Some(stored as i64),
        log_group_class: Some(group.class.clone()),
        log_group_arn: Some(group.arn()),
        deletion_protection_enabled: Some(group.deletion_protection),
        ..Default::default()
    }
}

/// The streams of a group, by name.
pub(super) fn streams_of(call: &Call<'_>, group: &str) -> Vec<Arc<LogStream>> {
    let prefix = LogStream::key_of(call.scope(), group, "");
    call.tx.table::<LogStream>().scan(&prefix).map(|(_, stream)| stream.clone()).collect()
}

pub(super) fn delete(call: &mut Call<'_>, input: shape::DeleteLogGroupRequest) -> Result<(), Fault> {
    let group = find(call, &input.log_group_name.unwrap_or_default())?;
    if group.deletion_protection {
        return Err(Fault::new(
            "OperationAbortedException",
            "The log group has deletion protection enabled and cannot be deleted.",
        ));
    }
    let key = call.scope().key(&group.name);
    for stream in streams_of(call, &group.name) {
        call.logs.delete(&key, &stream.name)?;
        call.tx.delete::<LogStream>(&LogStream::key_of(&stream.scope, &stream.group, &stream.name));
    }
    call.tx.delete::<LogGroup>(&key);
    Ok(())
}

fn update(call: &mut Call<'_>, name: &str, change: impl FnOnce(&mut LogGroup)) -> Result<(), Fault> {
    let group = find(call, name)?;
    call.tx.update::<LogGroup>(&group.scope.key(&group.name), change);
    Ok(())
}

pub(super) fn put_retention(
    call: &mut Call<'_>,
    input: shape::PutRetentionPolicyRequest,
) -> Result<(), Fault> {
    let days = input.retention_in_days.unwrap_or(0);
    if !RETENTION_DAYS.contains(&days) {
        return Err(invalid(format!(
            "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: {RETENTION_DAYS:?}"
        )));
    }
    update(call, &input.log_group_name.unwrap_or_default(), |group| group.retention_days = Some(days as u32))
}

pub(super) fn delete_retention(
    call: &mut Call<'_>,
    input: shape::DeleteRetentionPolicyRequest,
) -> Result<(), Fault> {
    update(call, &input.log_group_name.unwrap_or_default(), |group| group.retention_days = None)
}

fn group_of_arn(call: &Call<'_>, arn: Option<String>) -> Result<String, Fault> {
    let arn = arn.unwrap_or_default();
    if of_arn(&arn).is_none() {
        return Err(invalid(format!("'{arn}' is not the ARN of a log group.")));
    }
    identified(call, &arn)
}

fn add_tags(call: &mut Call<'_>, name: &str, tags: Option<BTreeMap<String, String>>) -> Result<(), Fault> {
    let given = to_tags(tags)?;
    let mut tags = find(call, name)?.tags.clone();
    tags.retain(|old| given.iter().all(|new| new.key != old.key));
    tags.extend(given);
    if tags.len() > TAGS_MAX {
        return Err(too_many_tags());
    }
    update(call, name, |group| group.tags = tags)
}

pub(super) fn tag(call: &mut Call<'_>, input: shape::TagResourceRequest) -> Result<(), Fault> {
    let name = group_of_arn(call, input.resource_arn)?;
    add_tags(call, &name, input.tags)
}

pub(super) fn tag_by_name(call: &mut Call<'_>, input: shape::TagLogGroupRequest) -> Result<(), Fault> {
    add_tags(call, &input.log_group_name.unwrap_or_default(), input.tags)
}

pub(super) fn untag(call: &mut Call<'_>, input: shape::UntagResourceRequest) -> Result<(), Fault> {
    let keys = input.tag_keys.unwrap_or_default();
    let name = group_of_arn(call, input.resource_arn)?;
    update(call, &name, |group| group.tags.retain(|tag| !keys.contains(&tag.key)))
}

fn tags_of(call: &Call<'_>, name: &str) -> Result<Option<BTreeMap<String, String>>, Fault> {
    let group = find(call, name)?;
    Ok(Some(group.tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()))
}

pub(super) fn list_tags(
    call: &mut Call<'_>,
    input: shape::ListTagsForResourceRequest,
) -> Result<shape::ListTagsForResourceResponse, Fault> {
    let tags = tags_of(call, &group_of_arn(call, input.resource_arn)?)?;
    Ok(shape::ListTagsForResourceResponse { tags })
}

pub(super) fn list_tags_by_name(
    call: &mut Call<'_>,
    input: shape::ListTagsLogGroupRequest,
) -> Result<shape::ListTagsLogGroupResponse, Fault> {
    let tags = tags_of(call, &input.log_group_name.unwrap_or_default())?;
    Ok(shape::ListTagsLogGroupResponse { tags })
}
