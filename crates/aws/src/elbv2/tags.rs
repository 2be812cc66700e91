//! Tags of load balancers, target groups, listeners and rules; account limits.

use state::elb::{Listener, LoadBalancer, Rule, TargetGroup};
use state::{Tag, Tags};
use wire::Fault;
use wire::shapes::elbv2 as shape;

use super::{LIMITS, invalid, listeners, load_balancers, page_by, rules, target_groups};
use crate::Call;

/// Reads tags; a key may stand once.
pub(super) fn from_wire(tags: Option<Vec<shape::Tag>>) -> Result<Tags, Fault> {
    let mut read = Tags::new();
    for tag in tags.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        if read.iter().any(|other| other.key == key) {
            return Err(Fault::new(
                "DuplicateTagKeys",
                format!("Tag key '{key}' was specified more than once"),
            ));
        }
        if key.to_lowercase().starts_with("aws:") {
            return Err(invalid(format!("Tag key '{key}' must not start with 'aws:'")));
        }
        read.push(Tag { key, value: tag.value.unwrap_or_default() });
    }
    if read.len() > 50 {
        return Err(Fault::new("TooManyTags", "A resource can have at most 50 tags"));
    }
    Ok(read)
}

/// Runs a change on the tags of the resource that an ARN names.
fn change(call: &mut Call<'_>, arn: &str, change: impl FnOnce(&mut Tags)) -> Result<(), Fault> {
    match kind(arn) {
        "loadbalancer" => {
            load_balancers::find(call, arn)?;
            call.tx.update::<LoadBalancer>(arn, |record| change(&mut record.tags));
        }
        "targetgroup" => {
            target_groups::find(call, arn)?;
            call.tx.update::<TargetGroup>(arn, |record| change(&mut record.tags));
        }
        "listener" => {
            listeners::find(call, arn)?;
            call.tx.update::<Listener>(arn, |record| change(&mut record.tags));
        }
        "listener-rule" => {
            rules::find(call, arn)?;
            call.tx.update::<Rule>(arn, |record| change(&mut record.tags));
        }
        _ => {
            return Err(invalid(format!(
                "'{arn}' is not a valid load balancer, target group, listener or rule ARN"
            )));
        }
    }
    Ok(())
}

fn kind(arn: &str) -> &str {
    let resource = state::Arn::parse(arn).map_or("", |arn| arn.resource);
    resource.split('/').next().unwrap_or_default()
}

fn of(call: &Call<'_>, arn: &str) -> Result<Tags, Fault> {
    match kind(arn) {
        "loadbalancer" => Ok(load_balancers::find(call, arn)?.tags.clone()),
        "targetgroup" => Ok(target_groups::find(call, arn)?.tags.clone()),
        "listener" => Ok(listeners::find(call, arn)?.tags.clone()),
        "listener-rule" => Ok(rules::find(call, arn)?.tags.clone()),
        _ => {
            Err(invalid(format!("'{arn}' is not a valid load balancer, target group, listener or rule ARN")))
        }
    }
}

pub(super) fn add(call: &mut Call<'_>, input: shape::AddTagsInput) -> Result<shape::AddTagsOutput, Fault> {
    let given = from_wire(input.tags)?;
    for arn in input.resource_arns.unwrap_or_default() {
        let total = of(call, &arn)?.iter().filter(|old| given.iter().all(|new| new.key != old.key)).count();
        if total + given.len() > 50 {
            return Err(Fault::new("TooManyTags", "A resource can have at most 50 tags"));
        }
        change(call, &arn, |tags| {
            for new in &given {
                match tags.iter_mut().find(|old| old.key == new.key) {
                    Some(old) => old.value.clone_from(&new.value),
                    None => tags.push(new.clone()),
                }
            }
        })?;
    }
    Ok(shape::AddTagsOutput {})
}

pub(super) fn remove(
    call: &mut Call<'_>,
    input: shape::RemoveTagsInput,
) -> Result<shape::RemoveTagsOutput, Fault> {
    let keys = input.tag_keys.unwrap_or_default();
    for arn in input.resource_arns.unwrap_or_default() {
        change(call, &arn, |tags| tags.retain(|tag| !keys.contains(&tag.key)))?;
    }
    Ok(shape::RemoveTagsOutput {})
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeTagsInput,
) -> Result<shape::DescribeTagsOutput, Fault> {
    let mut shown = Vec::new();
    for arn in input.resource_arns.unwrap_or_default() {
        let tags = of(call, &arn)?;
        let tags = tags.into_iter().map(|t| shape::Tag { key: Some(t.key), value: Some(t.value) }).collect();
        shown.push(shape::TagDescription { resource_arn: Some(arn), tags: Some(tags) });
    }
    Ok(shape::DescribeTagsOutput { tag_descriptions: Some(shown) })
}

pub(super) fn account_limits(
    _call: &mut Call<'_>,
    input: shape::DescribeAccountLimitsInput,
) -> Result<shape::DescribeAccountLimitsOutput, Fault> {
    let mut limits: Vec<_> = LIMITS.to_vec();
    limits.sort_unstable();
    let (items, next_marker) =
        page_by(limits, input.marker, input.page_size, |(name, _)| (*name).to_owned())?;
    let limit =
        |(name, max): (&str, usize)| shape::Limit { name: Some(name.into()), max: Some(max.to_string()) };
    Ok(shape::DescribeAccountLimitsOutput {
        limits: Some(items.into_iter().map(limit).collect()),
        next_marker,
    })
}
