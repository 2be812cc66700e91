//! Tags of repositories.

use std::sync::Arc;

use state::ecr::Repository;
use state::{Arn, Scope};
use wire::Fault;
use wire::shapes::ecr as shapes;

use super::faults::{check_tags, invalid, repository};
use super::repositories::tag_from;
use crate::Call;

/// TagResource: adds tags, replacing those of the same key.
pub(super) fn tag(
    call: &mut Call<'_>,
    input: shapes::TagResourceRequest,
) -> Result<shapes::TagResourceResponse, Fault> {
    let repository = by_arn(call, input.resource_arn.as_deref(), "TagResource")?;
    let mut tags = repository.tags.clone();
    for new in input.tags.unwrap_or_default().into_iter().map(tag_from) {
        match tags.iter_mut().find(|old| old.key == new.key) {
            Some(old) => old.value = new.value,
            None => tags.push(new),
        }
    }
    check_tags(&tags)?;
    call.tx.put(Repository { tags, ..Repository::clone(&repository) });
    Ok(shapes::TagResourceResponse {})
}

/// UntagResource.
pub(super) fn untag(
    call: &mut Call<'_>,
    input: shapes::UntagResourceRequest,
) -> Result<shapes::UntagResourceResponse, Fault> {
    let repository = by_arn(call, input.resource_arn.as_deref(), "UntagResource")?;
    let keys = input.tag_keys.unwrap_or_default();
    let mut tags = repository.tags.clone();
    tags.retain(|tag| !keys.contains(&tag.key));
    call.tx.put(Repository { tags, ..Repository::clone(&repository) });
    Ok(shapes::UntagResourceResponse {})
}

/// ListTagsForResource.
pub(super) fn list(
    call: &mut Call<'_>,
    input: shapes::ListTagsForResourceRequest,
) -> Result<shapes::ListTagsForResourceResponse, Fault> {
    let repository = by_arn(call, input.resource_arn.as_deref(), "ListTagsForResource")?;
    let view = |tag: &state::Tag| shapes::Tag { key: Some(tag.key.clone()), value: Some(tag.value.clone()) };
    Ok(shapes::ListTagsForResourceResponse { tags: Some(repository.tags.iter().map(view).collect()) })
}

fn by_arn(call: &Call<'_>, text: Option<&str>, operation: &str) -> Result<Arc<Repository>, Fault> {
    let wrong = || invalid("resourceArn", "Invalid ARN");
    let arn = Arn::parse(text.unwrap_or_default()).filter(|arn| arn.service == "ecr").ok_or_else(wrong)?;
    let name = arn.resource.strip_prefix("repository/").ok_or_else(wrong)?;
    let scope = Scope::new(arn.account, arn.region);
    if scope.region != call.scope().region {
        return Err(super::faults::no_repository(&scope, name));
    }
    repository(call, Some(arn.account), name, operation)
}
