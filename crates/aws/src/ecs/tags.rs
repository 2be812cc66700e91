//! Tags of ECS resources.

use std::sync::Arc;

use state::ecs::{Cluster, Service, TaskDefinition};
use state::{Arn, ContainerGroup, Tag, Tags};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{cluster_not_found, invalid, service_not_found, unsupported};
use super::{instances, refs};
use crate::Call;

/// The most tags that a resource may have.
const MAX: usize = 50;

/// Reads and checks tags.
pub fn read(given: Option<Vec<w::Tag>>) -> Result<Tags, Fault> {
    let mut tags = Tags::new();
    for w::Tag { key, value } in given.unwrap_or_default() {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return Err(invalid("Tag keys have 1 to 128 and tag values at most 256 characters."));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(invalid("Tag keys cannot begin with the reserved prefix aws:."));
        }
        if tags.iter().any(|tag| tag.key == key) {
            return Err(invalid(format!("Duplicate tag key {key}")));
        }
        tags.push(Tag { key, value });
    }
    if tags.len() > MAX { Err(invalid("Tags can have a maximum of 50 items.")) } else { Ok(tags) }
}

/// Tags as the API shows them.
pub fn view(tags: &Tags) -> Vec<w::Tag> {
    tags.iter().map(|tag| w::Tag { key: Some(tag.key.clone()), value: Some(tag.value.clone()) }).collect()
}

/// Adds tags; those of the same key are replaced.
pub fn merge(tags: &mut Tags, more: Tags) {
    for tag in more {
        match tags.iter_mut().find(|old| old.key == tag.key) {
            Some(old) => old.value = tag.value,
            None => tags.push(tag),
        }
    }
}

/// A resource that has tags.
enum Tagged {
    Cluster(Arc<Cluster>),
    TaskDefinition(Arc<TaskDefinition>),
    Service(Arc<Service>),
    Task(Arc<ContainerGroup>),
}

impl Tagged {
    fn find(call: &Call<'_>, arn: Option<String>) -> Result<Tagged, Fault> {
        let text = arn.unwrap_or_default();
        let scope = call.scope();
        let parsed = Arn::parse(&text).filter(|arn| arn.service == "ecs");
        let Some(arn) = parsed else { return Err(invalid("Invalid resource ARN.")) };
        let missing = || Fault::new("ResourceNotFoundException", "The specified resource was not found.");
        let kind = arn.resource.split('/').next().unwrap_or_default();
        match kind {
            "cluster" => Ok(Tagged::Cluster(refs::cluster(call.tx, scope, Some(&text))?)),
            "task-definition" => {
                let found = refs::task_definition(call.tx, scope, &text)?;
                Ok(Tagged::TaskDefinition(found.ok_or_else(missing)?))
            }
            "service" => {
                let parts: Vec<&str> = arn.resource.split('/').collect();
                let [_, cluster, _] = parts[..] else { return Err(invalid("Invalid resource ARN.")) };
                Ok(Tagged::Service(refs::service(call.tx, scope, cluster, &text)?))
            }
            "task" => {
                let (cluster, id) = refs::task_id(scope, &text)?;
                let key = ContainerGroup::key_of(scope, &cluster.unwrap_or_default(), &id);
                Ok(Tagged::Task(call.tx.get::<ContainerGroup>(&key).ok_or_else(missing)?))
            }
            "container-instance" | "capacity-provider" => Err(unsupported(&format!("Tagging a {kind}"))),
            _ => Err(invalid("Unsupported resource type.")),
        }
    }

    /// Tags can be changed only while the resource is in use.
    fn check_active(&self) -> Result<(), Fault> {
        match self {
            Tagged::Cluster(cluster) if !cluster.active => Err(cluster_not_found()),
            Tagged::Service(service) if service.status == state::ecs::ServiceStatus::Inactive => {
                Err(service_not_found())
            }
            _ => Ok(()),
        }
    }

    fn tags(&self) -> &Tags {
        match self {
            Tagged::Cluster(record) => &record.tags,
            Tagged::TaskDefinition(record) => &record.tags,
            Tagged::Service(record) => &record.tags,
            Tagged::Task(record) => &record.task().tags,
        }
    }

    fn put(self, call: &mut Call<'_>, tags: Tags) {
        match self {
            Tagged::Cluster(record) => call.tx.put(Cluster { tags, ..Cluster::clone(&record) }),
            Tagged::TaskDefinition(record) => {
                call.tx.put(TaskDefinition { tags, ..TaskDefinition::clone(&record) })
            }
            Tagged::Service(record) => call.tx.put(Service { tags, ..Service::clone(&record) }),
            Tagged::Task(record) => {
                let mut group = ContainerGroup::clone(&record);
                let state::group::Source::Task(task) = &mut group.source;
                Arc::make_mut(task).tags = tags;
                call.tx.put(group);
            }
        }
    }
}

/// TagResource.
pub fn tag(call: &mut Call<'_>, request: w::TagResourceRequest) -> Result<w::TagResourceResponse, Fault> {
    let w::TagResourceRequest { resource_arn, tags } = request;
    let more = read(tags)?;
    let found = Tagged::find(call, resource_arn)?;
    found.check_active()?;
    let mut tags = found.tags().clone();
    merge(&mut tags, more);
    if tags.len() > MAX {
        return Err(invalid("Tags can have a maximum of 50 items."));
    }
    found.put(call, tags);
    Ok(w::TagResourceResponse {})
}

/// UntagResource.
pub fn untag(
    call: &mut Call<'_>,
    request: w::UntagResourceRequest,
) -> Result<w::UntagResourceResponse, Fault> {
    let w::UntagResourceRequest { resource_arn, tag_keys } = request;
    let keys = tag_keys.unwrap_or_default();
    let found = Tagged::find(call, resource_arn)?;
    found.check_active()?;
    let mut tags = found.tags().clone();
    tags.retain(|tag| !keys.contains(&tag.key));
    found.put(call, tags);
    Ok(w::UntagResourceResponse {})
}

/// ListTagsForResource.
pub fn list(
    call: &mut Call<'_>,
    request: w::ListTagsForResourceRequest,
) -> Result<w::ListTagsForResourceResponse, Fault> {
    let w::ListTagsForResourceRequest { resource_arn } = request;
    // A node as a container instance has no tags of its own.
    if let Some(arn) = &resource_arn
        && instances::is_instance(call, arn)
    {
        return Ok(w::ListTagsForResourceResponse { tags: Some(Vec::new()) });
    }
    let found = Tagged::find(call, resource_arn)?;
    Ok(w::ListTagsForResourceResponse { tags: Some(view(found.tags())) })
}
