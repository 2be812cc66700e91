//! Tags of namespaces and services.

use state::cloudmap::{DiscoveryService, Namespace};
use state::{Arn, Tag, Tags};
use wire::Fault;
use wire::shapes::servicediscovery as shape;

use super::{namespaces, services};
use crate::Call;

/// Reads tags; of a key given twice the last stands.
pub(super) fn from_wire(tags: Option<Vec<shape::Tag>>) -> Result<Tags, Fault> {
    let mut read = Tags::new();
    merge(&mut read, tags.unwrap_or_default())?;
    Ok(read)
}

fn merge(tags: &mut Tags, given: Vec<shape::Tag>) -> Result<(), Fault> {
    for tag in given {
        let key = tag.key.unwrap_or_default();
        tags.retain(|old| old.key != key);
        tags.push(Tag { key, value: tag.value.unwrap_or_default() });
    }
    match tags.len() > 50 {
        true => Err(Fault::new("TooManyTagsException", "The resource can have at most 50 tags.")),
        false => Ok(()),
    }
}

/// Changes the tags of what an ARN names; the tags as they are then.
fn with_tags(
    call: &mut Call<'_>,
    arn: &Option<String>,
    change: impl FnOnce(&mut Tags) -> Result<(), Fault>,
) -> Result<Tags, Fault> {
    let arn = arn.as_deref().unwrap_or_default();
    let missing = |_| {
        let message = format!("The resource {arn} was not found.");
        Fault::new("ResourceNotFoundException", message).with("ResourceName", arn.to_owned())
    };
    let resource =
        Arn::parse(arn).filter(|arn| arn.service == "servicediscovery").map_or("", |arn| arn.resource);
    if resource.starts_with("namespace/") {
        let mut namespace = Namespace::clone(&*namespaces::find(call, arn).map_err(missing)?);
        change(&mut namespace.tags)?;
        let tags = namespace.tags.clone();
        call.tx.put(namespace);
        return Ok(tags);
    }
    let mut service = DiscoveryService::clone(&*services::find(call, arn).map_err(missing)?);
    change(&mut service.tags)?;
    let tags = service.tags.clone();
    call.tx.put(service);
    Ok(tags)
}

pub(super) fn tag(
    call: &mut Call<'_>,
    input: shape::TagResourceRequest,
) -> Result<shape::TagResourceResponse, Fault> {
    with_tags(call, &input.resource_arn, |tags| merge(tags, input.tags.unwrap_or_default()))?;
    Ok(shape::TagResourceResponse {})
}

pub(super) fn untag(
    call: &mut Call<'_>,
    input: shape::UntagResourceRequest,
) -> Result<shape::UntagResourceResponse, Fault> {
    let keys = input.tag_keys.unwrap_or_default();
    with_tags(call, &input.resource_arn, |tags| {
        tags.retain(|tag| !keys.contains(&tag.key));
        Ok(())
    })?;
    Ok(shape::UntagResourceResponse {})
}

pub(super) fn list(
    call: &mut Call<'_>,
    input: shape::ListTagsForResourceRequest,
) -> Result<shape::ListTagsForResourceResponse, Fault> {
    let tags = with_tags(call, &input.resource_arn, |_| Ok(()))?;
    let tags = tags.into_iter().map(|t| shape::Tag { key: Some(t.key), value: Some(t.value) }).collect();
    Ok(shape::ListTagsForResourceResponse { tags: Some(tags) })
}
